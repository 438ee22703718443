"""A dialogue by VibeVoice, which speaks all of it as one: its files and its report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from ..dialogue.conversation import conversation, cues_of_turns
from .progress import SpeechBar
from .report import print_report

if TYPE_CHECKING:
    import numpy as np

    from ..dialogue.conversation import VibeVoice
    from ..speech.results import GenerationResult
    from ..voices.inputs import VoiceInputs
    from .dialogue_arguments import DialogueArguments
    from .model_flags import ModelChoice

logger = logging.getLogger("mlx_voxcpm2")


def load_vibevoice(choice: ModelChoice) -> VibeVoice:
    """Load the model. Raises what `vibevoice.load` raises."""
    from .. import vibevoice

    return vibevoice.load(
        choice.model, dtype=choice.dtype, revision=choice.revision, quantize=choice.quantize
    )


class ConversationSpeech:
    """Generation of a conversation: started when it is made, written by `write`."""

    def __init__(self, arguments: DialogueArguments, voices: dict[str, VoiceInputs]):
        """Raises ValueError or OSError for what the model can't speak."""
        self.arguments, self.script = arguments, arguments.script
        self.options = arguments.conversation.with_seed()
        talk = conversation(self.script, voices, arguments.options.normalize)
        self.turns = talk.turns
        self._word_timer = arguments.recogniser.load_word_timer()
        model = load_vibevoice(arguments.model)
        self._bar = SpeechBar(" ".join(turn.text for turn in self.turns))
        self._results = model.generate(
            talk.script, talk.voices, stream=True, **self.options.given()
        )

    def write(self) -> None:
        """Generate and write the audio and the subtitles, and report on them."""
        import numpy as np

        begin, chunks = time.perf_counter(), []
        last: GenerationResult | None = None
        with contextlib.ExitStack() as stack:
            if hasattr(self._results, "close"):
                stack.enter_context(contextlib.closing(self._results))
            stack.enter_context(self._bar)
            first, results = self._begun()
            rate = first.sample_rate
            write = stack.enter_context(self.arguments.targets.open(rate))
            samples = 0
            for last in results:
                audio = np.array(last.audio)
                if not len(audio):
                    continue
                write(audio)
                chunks.append(audio)
                samples += len(audio)
                self._bar(samples / rate)
        assert last is not None
        self._write_subtitles(np.concatenate(chunks), rate)
        self._report(last, samples / rate, time.perf_counter() - begin)

    def _begun(self) -> tuple[GenerationResult, Iterator[GenerationResult]]:
        """The first result with audio, which tells the sample rate, and all of them."""
        for first in self._results:
            if first.samples:
                return first, chain([first], self._results)
        raise ValueError("the model said nothing; try another --seed")

    def _write_subtitles(self, audio: np.ndarray, sample_rate: int) -> None:
        from ..long_form.subtitles import write_subtitles

        target = self.arguments.targets.subtitles
        if target is None:
            return
        words = self._word_timer(audio, sample_rate) if self._word_timer else ()
        language = self.arguments.how.language
        cues = cues_of_turns(
            self.turns,
            audio,
            sample_rate,
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
