"""A dialogue by VibeVoice, which speaks all of it as one: its files and its report."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from .. import vibevoice
from ..dialogue.conversation import conversation, cues_of_turns
from ..long_form.subtitles import write_subtitles
from .progress import SpeechBar
from .report import print_report

if TYPE_CHECKING:
    from ..speech.results import GenerationResult
    from ..voices.inputs import VoiceInputs
    from .dialogue_arguments import DialogueArguments

logger = logging.getLogger("mlx_voxcpm2")


class ConversationSpeech:
    """Generation of a conversation: started when it is made, written by `write`."""

    def __init__(self, arguments: DialogueArguments, voices: dict[str, VoiceInputs]):
        """Raises ValueError or OSError for what the model can't speak."""
        self.arguments, self.script = arguments, arguments.script
        self.options = vibevoice.DialogueOptions(**arguments.conversation).with_seed()
        normalize = arguments.options.normalize and (arguments.how.language or True)
        talk = conversation(self.script, voices, normalize)
        self.turns, choice = talk.turns, arguments.model
        self._word_timer = arguments.recogniser.load_word_timer()
        model = vibevoice.load(
            choice.model,
            choice.dtype,
            choice.revision,
            choice.quantize,
            **choice.adapter_settings,
        )
        self.sample_rate = model.sample_rate
        self._bar = SpeechBar(" ".join(turn.text for turn in self.turns))
        self._results = model.generate(
            talk.script,
            talk.voices,
            names=talk.names,
            options=self.options,
            stream=True,
            progress=self._bar,
        )

    def write(self) -> None:
        """Generate and write the audio and the subtitles, and report on them."""
        begin = time.perf_counter()
        chunks: list[np.ndarray] = []
        last: GenerationResult | None = None
        with self._results, self._bar, self.arguments.targets.open(self.sample_rate) as write:
            for last in self._results:
                audio = np.array(last.audio)
                if len(audio):
                    write(audio)
                    chunks.append(audio)
            if last is None or not chunks:
                raise ValueError("the model said nothing; try another --seed")
        audio = np.concatenate(chunks)
        self._write_subtitles(audio)
        self._report(last, len(audio) / self.sample_rate, time.perf_counter() - begin)

    def _write_subtitles(self, audio: np.ndarray) -> None:
        target = self.arguments.targets.subtitles
        if target is None:
            return
        words = self._word_timer(audio, self.sample_rate) if self._word_timer else ()
        language = self.arguments.how.language
        cues = cues_of_turns(
            self.turns,
            audio,
            self.sample_rate,
            language=language,
            words=words,
            shows_speakers=self.script.is_labelled,
        )
        write_subtitles(target, cues)

    def _report(self, last: GenerationResult, speech: float, seconds: float) -> None:
        counted = f"{len(self.turns)} turns"
        memory = f"peak memory {last.peak_memory_usage:.2f} GB"
        seed = f"seed {self.options.seed}"
        print_report(self.arguments.targets.name, speech, seconds, [counted, memory, seed])
        if last.finish_reason == "length":
            logger.warning(
                "the speech was cut after %.2f s, its limit, and may be incomplete; give a larger "
                "--max_tokens, or a shorter script",
                speech,
            )
