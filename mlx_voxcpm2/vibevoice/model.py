"""VibeVoice: the network with its tokenizer; a script and voices in, a dialogue out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from ..models.vibevoice.config import VibeVoiceConfig
from ..models.vibevoice.loss import MUL, Losses, compute_losses
from ..models.vibevoice.network import VibeVoiceNetwork
from ..models.vibevoice.solver import Solver
from ..schema import check_integer, check_number
from ..settings import unknown_name
from ..speech.results import GenerationResult, ResultIterator, SpeechIterator
from ..weights.adapter_methods import AdapterMethods
from .examples import check_draws, drawn_spread, make_batch, make_example
from .generation import Sampling, embed_prompt, speak, stream_steps
from .options import CFG_VALUE, STEPS, DialogueOptions
from .requests import RequestBuilder
from .script import Tokenizer, read_turns
from .steps import Row, Step
from .voices import Voice, VoiceEncoder

if TYPE_CHECKING:
    from ..audio.reading import AudioSource
    from .requests import VoiceInput

_OPTIONS = [each.name for each in fields(DialogueOptions)]


class VibeVoice(VibeVoiceNetwork, AdapterMethods):
    """Dialogue model, as `vibevoice.load` returns it."""

    def __init__(
        self, config: VibeVoiceConfig, tokenizer: Tokenizer, sampling: Sampling | None = None
    ):
        super().__init__(config)
        highest = max(tokenizer.legal.ids)
        if highest >= config.decoder.vocab_size:
            raise ValueError(
                f"{tokenizer.path} has a token {highest}, the model "
                f"{config.decoder.vocab_size} tokens; take the tokenizer of its language model"
            )
        self.tokenizer = tokenizer
        self.legal = tokenizer.legal
        self.sampling = sampling or Sampling(STEPS, CFG_VALUE)
        self.voice_encoder = VoiceEncoder(self)
        self.request_builder = RequestBuilder(config, tokenizer, self.voice_encoder)

    def __repr__(self) -> str:
        layers = self.config.decoder.num_hidden_layers
        dtype = str(self.dtype).split(".")[-1]
        return f"VibeVoice({layers} layers, {dtype}, {self.sample_rate} Hz)"

    def prompt(self, script: str, frames_per_voice: Sequence[int] = ()) -> list[int]:
        """Token ids of a script's prompt, with a placeholder per frame of each voice.

        script: lines "Speaker 1: text", see `script.read_turns`. Raises ValueError.
        """
        return self.tokenizer.prompt(read_turns(script), frames_per_voice)

    def encode_voice(
        self,
        audio: AudioSource,
        level: bool = True,
        sample: bool = True,
        seed: int | None = None,
    ) -> mx.array:
        """audio -> features (frames, D), scaled as the model knows them.

        audio: a path, bytes, a binary file, or (array, sample rate). level, sample, seed: see
        `DialogueOptions`. Raises ValueError or FileNotFoundError.
        """
        options = DialogueOptions(level=level, sample=sample, seed=seed).with_seed()
        used = options.seed if sample else None
        features = self.voice_encoder.prepare(audio, 0, used, level, "the voice").features()
        mx.eval(features)  # else only this thread could use them
        return features

    def make_voice(self, audio: AudioSource, description: str = "", level: bool = True) -> Voice:
        """Voice to speak in again, and to save, by `Voice.save`. Raises as `encode_voice`."""
        encoder = self.voice_encoder
        mean = encoder.mean(encoder.read(audio, "the voice", level))
        return Voice(mean, encoder.fingerprint, description)

    def logits(self, ids: Sequence[int], voice_latents: Sequence[mx.array] = ()) -> mx.array:
        """Logits of the token after each of ids (L,) -> (L, V), float32.

        voice_latents: features of the prompt's voices, as `encode_voice` returns them.
        """
        x = embed_prompt(self, self.legal, self.request_builder.checked_ids(ids), voice_latents)
        return self.token_logits(self.language_model(x[None])[0])

    def steps(
        self,
        ids: Sequence[int],
        voice_latents: Sequence[mx.array] = (),
        *,
        noise: mx.array,
        inference_timesteps: int = STEPS,
        cfg_value: float = CFG_VALUE,
        choose: Callable[[mx.array], int] | None = None,
        max_steps: int | None = None,
    ) -> Iterator[Step]:
        """Steps of a dialogue one by one, for callers with a loop of their own.

        ids: of `prompt`. noise (N, D): row i is for the i-th frame. choose: logits (4,) of start,
        end, frame and stop -> token id, instead of the largest one.
        """
        check_number("cfg_value", cfg_value, 0, 100)
        builder, solver = self.request_builder, Solver(inference_timesteps)
        ids, rows = builder.checked_ids(ids), builder.noise_rows(noise)
        limit = builder.limit(ids, max_steps)
        row = Row(0, ids, embed_prompt(self, self.legal, ids, voice_latents), rows, limit)
        for ((_, step),) in stream_steps(self, self.legal, [row], solver, cfg_value, choose):
            yield step

    def generate(
        self,
        script: str,
        voices: Sequence[VoiceInput] = (),
        *,
        options: DialogueOptions | None = None,
        noise: mx.array | None = None,
        stream: bool = False,
        names: Sequence[str] = (),
        progress: Callable[[float], None] | None = None,
        **settings: Any,
    ) -> SpeechIterator:
        """Speak a script: an iterator of one GenerationResult, or with `stream` of one per frame.

        script: lines "Speaker 1: text"; see `script.read_turns`. voices: of the speakers, the
        lowest number first: clips, `Voice`s or files of saved ones, or what `encode_voice`
        returned; speakers without one get a voice that the model makes up. settings: see
        `DialogueOptions`; those that are not given come from `options`. noise (N, D): used instead
        of random noise, row i for the i-th frame. names: of the speakers with a voice, for
        messages. progress: called with the seconds of speech.

            for result in tts.generate("Speaker 1: Hello.\\nSpeaker 2: Hi!", ["a.wav", "b.wav"]):
                result.save("dialogue.wav")

        Raises ValueError, TypeError or FileNotFoundError at once, with one line that says what to
        do. `close()` of the iterator, from any thread, stops within one frame.
        """
        chosen = self._options(options, settings)
        request = self.request_builder.build(script, voices, chosen, noise, names)
        sampling = self._sampling(chosen)

        def results(closed: threading.Event) -> Generator[GenerationResult, None, None]:
            return speak(self, self.legal, [request], sampling, closed, stream, progress)

        return SpeechIterator(results)

    def speak(
        self, script: str, voices: Sequence[VoiceInput] = (), **settings: Any
    ) -> GenerationResult:
        """Speak a script and return the whole: `generate` in one call."""
        return self.generate(script, voices, **settings).whole()

    def generate_batch(
        self,
        requests: Iterable[tuple[str, Sequence[VoiceInput]]],
        *,
        options: DialogueOptions | None = None,
        noise: mx.array | None = None,
        batch_size: int = 4,
        progress: Callable[[float], None] | None = None,
        **settings: Any,
    ) -> ResultIterator:
        """Speak many scripts, `batch_size` at once; an iterator of one GenerationResult each.

        requests: pairs of script and voices. Each has the result that it has alone with its
        reported seed; `sequence_idx` is its index, and they come as they end. Arguments and errors:
        see `generate`.
        """
        check_integer("batch_size", batch_size, 1, None)
        chosen = self._options(options, settings)
        build = self.request_builder.build
        made = [build(script, voices, chosen, noise) for script, voices in requests]
        sampling = self._sampling(chosen)

        def results(closed: threading.Event) -> Generator[GenerationResult, None, None]:
            for start in range(0, len(made), batch_size):
                part = made[start : start + batch_size]
                yield from speak(
                    self, self.legal, part, sampling, closed, progress=progress, first=start
                )

        return ResultIterator(results)

    def loss(
        self,
        prompt_ids: Sequence[int],
        voices: Sequence[np.ndarray],
        target: np.ndarray,
        *,
        noise: mx.array,
        timesteps: mx.array,
        sample: tuple[mx.array, mx.array] | None = None,
        mul: int = MUL,
    ) -> Losses:
        """Losses of one dialogue, to be minimised together.

        prompt_ids: of `prompt`; voices and target: samples (L,) at 24 kHz. noise (frames * mul, D)
        and timesteps (frames * mul,) of 0..999: each of the target's frames is noised `mul` times.
        sample: std (C,) and noise (C, frames, D) to draw the latents of all C clips, the target
        last; None for their means. Raises ValueError for what does not fit.
        """
        example = make_example(self.voice_encoder, self.legal, prompt_ids, [*voices, target])
        check_draws(noise, timesteps, mul, example.targets, self.config.acoustic.latent_dim)
        spreads = None
        if sample is not None:
            spreads = [drawn_spread(example, *map(np.array, sample))]
        return compute_losses(self, make_batch([example], spreads), noise, timesteps, mul)

    def _options(self, given: DialogueOptions | None, settings: dict[str, Any]) -> DialogueOptions:
        if unknown := [name for name in settings if name not in _OPTIONS]:
            raise TypeError(f"generate(): {unknown_name(unknown[0], _OPTIONS)}")
        values = {} if given is None else vars(given)
        return DialogueOptions(**{**values, **settings})

    def _sampling(self, options: DialogueOptions) -> Sampling:
        steps, cfg_value = options.inference_timesteps, options.cfg_value
        return Sampling(
            self.sampling.steps if steps is None else steps,
            self.sampling.cfg_value if cfg_value is None else cfg_value,
        )
