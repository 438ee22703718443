"""VoxCPM2: the network with its tokenizer; text and audio in, speech out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import starmap
from typing import TYPE_CHECKING

import mlx.core as mx

from .models.voxcpm2.config import VoxCPM2Config
from .models.voxcpm2.network import VoxCPM2Model
from .schema import check_integer
from .speech.batch import Request, generate_patches, length_limit
from .speech.clip_encoder import PATCHES_AT_ONCE, ClipEncoder, Padding
from .speech.generation import stream_results, whole_results
from .speech.noise import checked_noise
from .speech.options import GenerationOptions
from .speech.prompt import Prompt, spoken_letters, spoken_text
from .speech.results import GenerationResult, ResultIterator
from .text.known_words import KnownWords
from .text.tokenizer import Tokenizer
from .voices.saved import Voice, make_voice, spoken_clips
from .weights import adapters

if TYPE_CHECKING:
    from pathlib import Path

    from .audio.reading import AudioSource
    from .recognition.verification import Verification

logger = logging.getLogger("mlx_voxcpm2")


class VoxCPM2(VoxCPM2Model):
    """What `load_model` returns. All modules are attributes under upstream's names."""

    def __init__(self, config: VoxCPM2Config, tokenizer: Tokenizer):
        super().__init__(config)
        self.tokenizer = tokenizer
        self.clip_encoder = ClipEncoder(config, self.audio_vae)
        self.known_words: KnownWords | None = None

    def tokenize(self, text: str) -> list[int]:
        """Ids by upstream's rule: no beginning-of-sequence token, Chinese by characters."""
        return self.tokenizer(text)

    def encode_audio(self, audio: AudioSource, pad: Padding = "right") -> mx.array:
        """audio -> patches (N, P, D), float32; the last or first one is filled up with silence.

        audio: a path, bytes, a binary file, or (array, sample rate). pad: "right" as for a
        reference, "left" as for a prompt, whose end the speech goes on from.
        """
        return self.clip_encoder.encode(audio, pad)

    def decode_latents(
        self, latents: mx.array, condition_sample_rate: int | None = None
    ) -> mx.array:
        """latents (N, P, D) -> sound (samples,), -1..1, at `sample_rate`.

        condition_sample_rate, in Hz: the timbre of sound made at that rate; by default the best.
        """
        latents, size = mx.array(latents), self.config.feat_dim
        if latents.ndim != 3 or latents.shape[-1] != size:
            raise ValueError(
                f"latents have shape {latents.shape}; they must be (N, "
                f"{self.config.patch_size}, {size})"
            )
        if condition_sample_rate is not None and not self.audio_vae.decoder.is_conditioned:
            raise ValueError(
                "condition_sample_rate is given, but this checkpoint's AudioVAE has no such "
                "condition; leave it out"
            )
        cache, sounds = self.audio_vae.make_cache(), []
        for start in range(0, len(latents), PATCHES_AT_ONCE):
            flat = latents[start : start + PATCHES_AT_ONCE].reshape(1, -1, size)
            sounds.append(self.audio_vae.decode(flat, condition_sample_rate, cache)[0])
            mx.eval(sounds[-1], self.audio_vae.held(cache))
        return mx.concatenate(sounds) if sounds else mx.zeros(0)

    def generate(
        self,
        text: str,
        *,
        instruct: str | None = None,
        ref_audio: AudioSource | mx.array | None = None,
        prompt_audio: AudioSource | mx.array | None = None,
        prompt_text: str | None = None,
        voice: str | Path | Voice | None = None,
        cfg_value: float = 2.0,
        inference_timesteps: int = 10,
        min_tokens: int = 2,
        max_tokens: int = 4096,
        seed: int | None = None,
        noise: mx.array | None = None,
        temperature: float = 1.0,
        stream: bool = False,
        retry_badcase: bool | None = None,
        solver: str = "euler",
        retry_by_ear: bool | None = None,
        silence_limit: float = 10.0,
        fade_in: float = 0.0,
        trim_silence: bool = False,
        normalize: bool | str = False,
        verify: Verification | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> ResultIterator:
        """Speaks; an iterator of one GenerationResult, or with `stream` of one per patch.

        text: the words. instruct: how to say them, or whose voice to make up; not with a prompt.
        ref_audio: a voice to clone. prompt_audio with prompt_text, its words: speech to go on
        from. Either may be the patches that `encode_audio` returned, for a voice that is used
        often: padded on the right for ref_audio, on the left for prompt_audio.
        voice: instead of those, what `make_voice` made: itself, or the name or file of a saved one.
        noise (N, P, D): used instead of random draws, a row per patch. verify: how it is checked
        that the text is heard; not while streaming. progress: called with the seconds of speech so
        far. The rest: see `GenerationOptions`.

        Raises ValueError or FileNotFoundError at once, with one line that says what to do.
        `close()` of the iterator, from any thread, stops within one patch.
        """
        if stream and verify is not None:
            raise ValueError("verify hears the whole; leave out stream, or verify")
        for name, wanted in (("retry_badcase", retry_badcase), ("retry_by_ear", retry_by_ear)):
            if stream and wanted:
                logger.warning("%s has no effect while streaming: what was heard stays", name)
        options = GenerationOptions(
            cfg_value, inference_timesteps, min_tokens, max_tokens, temperature, seed,
            not stream if retry_badcase is None else retry_badcase, solver,
            not stream if retry_by_ear is None else retry_by_ear, silence_limit, fade_in,
            trim_silence, normalize,
        )  # fmt: skip
        begin = time.perf_counter()
        prepare = self._prepare(
            text, instruct, ref_audio, prompt_audio, prompt_text, voice, options, noise
        )
        spent = time.perf_counter() - begin
        whole = whole_results if verify is None else verify.results
        speak = stream_results if stream else whole

        def results(closed: threading.Event) -> Generator[GenerationResult, None, None]:
            return speak(self, (make() for make in [prepare]), closed, progress, spent)

        return ResultIterator(results)

    def generate_batch(
        self,
        requests: Iterable[str | Request],
        *,
        options: GenerationOptions | None = None,
        batch_size: int = 8,
        verify: Verification | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> ResultIterator:
        """Speaks many at once; an iterator of one GenerationResult each, in the order in which
        they end: `sequence_idx` says which it is.

        requests: texts, drawn with `options`, or what `request` returned, each with a voice and
        options of its own. Each sounds as it does alone. `batch_size` of them speak at once, and as
        one ends the next is taken; so it may be a generator, without end. Those with another solver
        or other steps wait for all before them. verify: how it is checked that each text is heard;
        what is spoken again is spoken alone. progress: called with the seconds of speech so far.

        Raises ValueError for a wrong setting, and at once for a bad text of a list. What goes wrong
        with an item of a generator is raised after those that speak by then have been yielded.
        """
        check_integer("batch_size", batch_size, 1, None)
        made = make_requests(self, requests, options)

        def results(closed: threading.Event) -> Generator[GenerationResult, None, None]:
            speak = whole_results if verify is None else verify.results
            return speak(self, made, closed, progress, batch_size=batch_size)

        return ResultIterator(results)

    def generate_patches(
        self,
        text: str,
        *,
        instruct: str | None = None,
        ref_audio: AudioSource | mx.array | None = None,
        prompt_audio: AudioSource | mx.array | None = None,
        prompt_text: str | None = None,
        voice: str | Path | Voice | None = None,
        options: GenerationOptions | None = None,
        noise: mx.array | None = None,
    ) -> Iterator[mx.array]:
        """The latents of `generate`, (P, D) per patch, for those who drive the loop themselves.

        A patch is submitted to the device, not waited for; the next one is begun on request.
        """
        prepare = self._prepare(
            text, instruct, ref_audio, prompt_audio, prompt_text, voice,
            options or GenerationOptions(), noise,
        )  # fmt: skip

        def patches() -> Iterator[mx.array]:
            yield from generate_patches(self, prepare())

        return patches()

    def request(
        self,
        text: str,
        *,
        instruct: str | None = None,
        ref_audio: AudioSource | mx.array | None = None,
        prompt_audio: AudioSource | mx.array | None = None,
        prompt_text: str | None = None,
        voice: str | Path | Voice | None = None,
        options: GenerationOptions | None = None,
        noise: mx.array | None = None,
    ) -> Request:
        """What `generate` would speak, checked and encoded, for `generate_batch` or
        `generation.stream_audio`, which speak many at once. Arguments and errors are those of
        `generate`."""
        options = options or GenerationOptions()
        prepare = self._prepare(
            text, instruct, ref_audio, prompt_audio, prompt_text, voice, options, noise
        )
        request = prepare()
        if request.prompt.patches is not None:
            mx.async_eval(request.prompt.patches)  # else only this thread could speak it
        return request

    def make_voice(
        self,
        ref_audio: AudioSource | None = None,
        prompt_audio: AudioSource | None = None,
        prompt_text: str | None = None,
        description: str = "",
        as_is: bool = False,
    ) -> Voice:
        """A voice to speak in again, `generate(voice=...)`, and to keep, `Voice.save`.

        ref_audio: the voice to clone. prompt_audio with prompt_text, its words: speech to go on
        from; prompt_text alone says what ref_audio speaks, which is then both, and is cloned the
        more closely. as_is: don't raise a quiet clip's level, don't cut silence off its ends.

        Says by the log what was mended, and what is wrong with a clip. Raises ValueError or
        FileNotFoundError.
        """
        return make_voice(
            self.clip_encoder, ref_audio, prompt_audio, prompt_text, description, as_is
        )

    def load_adapter(
        self, path_or_repo: str | Path, strength: float | None = None
    ) -> adapters.Adapter:
        """Puts on a LoRA adapter from upstream's files, in place of the one before, if any.

        Until it is fused, it costs some time at each patch. What it returns says how many tensors
        were used and which were not. path_or_repo, strength and errors: see `read_adapter`.
        """
        return adapters.load_adapter(self, path_or_repo, strength)

    def set_adapter_strength(self, strength: float) -> None:
        """0: the model without its adapter, to the last bit; 1: as trained; any finite number.

        Not while it speaks. Raises ValueError if there is no adapter.
        """
        adapters.set_strength(self, strength)

    def remove_adapter(self) -> None:
        """The model is what it was before; nothing happens if there is no adapter."""
        adapters.remove_adapter(self)

    def fuse_adapter(self) -> None:
        """Adds it, as strong as it is, to the weights for good, in float32; they keep their type.

        Then it costs no time. Raises ValueError for quantised layers, which would round it away.
        """
        adapters.fuse_adapter(self)

    def _prepare(
        self,
        text: str,
        instruct: str | None,
        ref_audio: AudioSource | mx.array | None,
        prompt_audio: AudioSource | mx.array | None,
        prompt_text: str | None,
        voice: str | Path | Voice | None,
        options: GenerationOptions,
        noise: mx.array | None,
    ) -> Callable[[], Request]:
        """Checks everything now, and returns what builds the Request in the thread that speaks.

        An array that MLX has not computed yet belongs to the thread that made it.
        """
        words_only = spoken_text(text, None, options.normalize)
        if self.known_words is not None:
            self.known_words.warn_of_others(words_only)
        text = spoken_text(words_only, instruct)
        ref_audio, prompt_audio, prompt_text = spoken_clips(
            self.clip_encoder, instruct, ref_audio, prompt_audio, prompt_text, voice
        )
        words = self.tokenize((prompt_text or "") + text)
        prepare = self.clip_encoder.prepare
        reference = None if ref_audio is None else prepare(ref_audio, "ref_audio", "right")
        prompt = None if prompt_audio is None else prepare(prompt_audio, "prompt_audio", "left")
        vocabulary = self.config.lm_config.vocab_size
        if max(words, default=0) >= vocabulary:
            raise ValueError(
                f"the tokenizer gives id {max(words)}, and the model has {vocabulary}; take the "
                "tokenizer.json of this checkpoint"
            )
        positions = Prompt.positions(
            len(words), reference and reference.length, prompt and prompt.length
        )
        limit = self.config.context_length
        if positions > limit:
            raise ValueError(
                f"text and audio take {positions} positions, {positions - limit} more than the "
                f"model's {limit}; shorten the text or the audio"
            )
        target, letters = len(self.tokenize(text)), spoken_letters(words_only)
        if noise is None:
            options = options.with_seed()
        else:
            noise = checked_noise(noise, (self.config.patch_size, self.config.feat_dim))
        patches = length_limit(target, positions, limit, options.max_tokens)

        def request() -> Request:
            sequence = Prompt.build(
                words, reference and reference.encode(), prompt and prompt.encode()
            )
            return Request(sequence, options, target, patches, noise, letters, words_only)

        return request


def make_requests(
    model: VoxCPM2, items: Iterable[str | Request], options: GenerationOptions | None
) -> Iterable[Request]:
    """Texts become requests: those of a list now, those of a generator when they are asked for."""
    if isinstance(items, str | Request) or not isinstance(items, Iterable):
        raise ValueError(f"requests is a single {type(items).__name__}; give a list of texts")

    def make(index: int, item: str | Request) -> Request:
        try:
            return item if isinstance(item, Request) else model.request(item, options=options)
        except ValueError as error:
            raise ValueError(f"request {index}: {error}") from None

    made = starmap(make, enumerate(items))
    return list(made) if isinstance(items, Sequence) else made
