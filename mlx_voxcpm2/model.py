"""VoxCPM2: the network with its tokenizer; text and audio in, speech out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from .models.voxcpm2.config import VoxCPM2Config
from .models.voxcpm2.network import VoxCPM2Model
from .schema import check_integer
from .speech.batch import Request, generate_patches
from .speech.generation import stream_results, whole_results
from .speech.keywords import SpeechKeywords, parse_keywords, with_speech_keywords
from .speech.options import RETRIES, GenerationOptions
from .speech.requests import RequestBuilder
from .speech.results import GenerationResult, ResultIterator, SpeechIterator
from .text.tokenizer import Tokenizer
from .voices.clip_encoder import PATCHES_AT_ONCE, ClipEncoder, Padding
from .voices.making import make_voice
from .voices.saved import Voice
from .weights.adapter_methods import AdapterMethods

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .audio.reading import AudioSource
    from .recognition.best_of import BestOf
    from .recognition.verification import Verification

logger = logging.getLogger("mlx_voxcpm2")


def _producer(verify: Verification | None, best_of: BestOf | None) -> Callable[..., Any]:
    """The function that generates whole results, checked and chosen."""
    if verify is None and best_of is None:
        return whole_results
    from .recognition.best_of import checked_results

    return checked_results(verify, best_of)


class VoxCPM2(VoxCPM2Model, AdapterMethods):
    """Text-to-speech model, as `load_model` returns it. Modules have upstream's names."""

    def __init__(self, config: VoxCPM2Config, tokenizer: Tokenizer):
        super().__init__(config)
        self.tokenizer = tokenizer
        self.clip_encoder = ClipEncoder(config, self.audio_vae)
        self.request_builder = RequestBuilder(config, tokenizer, self.clip_encoder)

    def __repr__(self) -> str:
        layers = self.config.lm_config.num_hidden_layers
        adapter = "" if self.adapter is None else ", with an adapter"
        dtype = str(self.dtype).split(".")[-1]
        return f"VoxCPM2({layers} layers, {dtype}, {self.sample_rate} Hz{adapter})"

    def tokenize(self, text: str) -> list[int]:
        """Token ids by upstream's rule: no beginning-of-sequence token, Chinese by characters."""
        return self.tokenizer(text)

    def encode_audio(self, audio: AudioSource, pad: Padding = "right") -> mx.array:
        """audio -> patches (N, P, D), float32; the last or first one is padded with silence.

        audio: a path, bytes, a binary file, or (array, sample rate). pad: "right" as for a
        reference, "left" as for a prompt, whose end the speech continues.
        """
        return self.clip_encoder.encode(audio, pad)

    def decode_latents(
        self, latents: mx.array, condition_sample_rate: int | None = None
    ) -> mx.array:
        """latents (N, P, D) -> audio (samples,), -1..1, at `sample_rate`.

        condition_sample_rate: rate in Hz whose timbre the audio gets; by default the best.
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
        cache, chunks = self.audio_vae.make_cache(), []
        for start in range(0, len(latents), PATCHES_AT_ONCE):
            flat = latents[start : start + PATCHES_AT_ONCE].reshape(1, -1, size)
            chunks.append(self.audio_vae.decode(flat, condition_sample_rate, cache)[0])
            mx.eval(chunks[-1], self.audio_vae.cache_arrays(cache))
        return mx.concatenate(chunks) if chunks else mx.zeros(0)

    @with_speech_keywords
    def generate(
        self,
        text: str,
        *,
        options: GenerationOptions | None = None,
        noise: mx.array | None = None,
        stream: bool = False,
        verify: Verification | None = None,
        best_of: BestOf | None = None,
        progress: Callable[[float], None] | None = None,
        **settings: Unpack[SpeechKeywords],
    ) -> SpeechIterator:
        """Speak a text: an iterator of one GenerationResult, or with `stream` of one per patch.

        text: the words. instruct, ref_audio, prompt_audio, prompt_text, voice: see `VoiceInputs`.
        seed, cfg_value and the other settings: see `GenerationOptions`; those that are not given
        come from `options`. noise (N, P, D): used instead of random noise, a row per patch.
        verify: check by a recogniser that the text is spoken; best_of: generate several takes and
        choose the one that a recogniser understands best; neither while streaming.
        progress: called with the seconds of speech so far.

            for result in model.generate("Hello.", seed=1):
                result.save("hello.wav")

        Raises ValueError, TypeError or FileNotFoundError at once, with one line that says what to
        do. `close()` of the iterator, from any thread, stops within one patch.
        """
        for name, check in (("verify", verify), ("best_of", best_of)):
            if stream and check is not None:
                raise ValueError(f"{name} needs the whole speech; leave out stream, or {name}")
        voice, chosen = parse_keywords(self.generate, settings, options)
        for name in RETRIES:
            if stream and getattr(chosen, name):
                logger.warning("%s has no effect while streaming: played audio stays", name)
        begin = time.perf_counter()
        chosen = chosen.with_retries_unless(stream)
        request = self.request_builder.prepare(text, voice, chosen, noise)
        spent = time.perf_counter() - begin
        produce = stream_results if stream else _producer(verify, best_of)

        def results(closed: threading.Event) -> Generator[GenerationResult, None, None]:
            return produce(self, (make() for make in [request]), closed, progress, spent)

        return SpeechIterator(results)

    @with_speech_keywords
    def speak(
        self,
        text: str,
        *,
        options: GenerationOptions | None = None,
        noise: mx.array | None = None,
        verify: Verification | None = None,
        best_of: BestOf | None = None,
        progress: Callable[[float], None] | None = None,
        **settings: Unpack[SpeechKeywords],
    ) -> GenerationResult:
        """Speak a text and return the whole: `generate` in one call.

            model.speak("Hello.", seed=1).save("hello.wav")

        Arguments and errors: see `generate`.
        """
        voice, chosen = parse_keywords(self.speak, settings, options)
        results = self.generate(
            text,
            options=chosen,
            noise=noise,
            verify=verify,
            best_of=best_of,
            progress=progress,
            **voice.given(),
        )
        return results.whole()

    @with_speech_keywords
    def generate_batch(
        self,
        requests: Iterable[str | Request],
        *,
        options: GenerationOptions | None = None,
        batch_size: int = 8,
        verify: Verification | None = None,
        best_of: BestOf | None = None,
        progress: Callable[[float], None] | None = None,
        **settings: Unpack[SpeechKeywords],
    ) -> ResultIterator:
        """Speak many texts at once; an iterator of one GenerationResult each, in the order in
        which they end: `sequence_idx` is the index of the request.

        requests: texts, spoken with the given voice and options, or what `request` returned, each
        with its own. Each has the result that it has alone. `batch_size` of them are generated at
        once, and as one ends the next is taken; so it may be an endless generator. Requests with
        another solver or number of steps wait for all before them. verify: check by a recogniser
        that each text is spoken; retries are generated alone. best_of: choose among several takes
        of each; `batch_size` then counts takes. progress: called with the seconds of speech so
        far. The voice and the options: see `generate`.

        Raises ValueError for a wrong setting, and at once for a bad text of a list. Errors with
        items of a generator are raised after the results that are under way.
        """
        check_integer("batch_size", batch_size, 1, None)
        voice, chosen = parse_keywords(self.generate_batch, settings, options)
        if voice.has_clip:
            voice = voice.encoded(self.clip_encoder)
        made = self.request_builder.build_all(requests, voice, chosen)

        def results(closed: threading.Event) -> Generator[GenerationResult, None, None]:
            produce = _producer(verify, best_of)
            return produce(self, made, closed, progress, batch_size=batch_size)

        return ResultIterator(results)

    @with_speech_keywords
    def generate_patches(
        self,
        text: str,
        *,
        options: GenerationOptions | None = None,
        noise: mx.array | None = None,
        **settings: Unpack[SpeechKeywords],
    ) -> Iterator[mx.array]:
        """Latents of `generate`, (P, D) per patch, for callers with a loop of their own.

        A patch is submitted to the device, not waited for; the next one is begun on request.
        """
        voice, chosen = parse_keywords(self.generate_patches, settings, options)
        request = self.request_builder.prepare(text, voice, chosen, noise)

        def patches() -> Iterator[mx.array]:
            yield from generate_patches(self, request())

        return patches()

    @with_speech_keywords
    def request(
        self,
        text: str,
        *,
        options: GenerationOptions | None = None,
        noise: mx.array | None = None,
        **settings: Unpack[SpeechKeywords],
    ) -> Request:
        """Checked and encoded request for `generate_batch` or `generation.stream_audio`.

        Arguments and errors: see `generate`.
        """
        voice, chosen = parse_keywords(self.request, settings, options)
        return self.request_builder.build(text, voice, chosen, noise)

    def make_voice(
        self,
        ref_audio: AudioSource | None = None,
        prompt_audio: AudioSource | None = None,
        prompt_text: str | None = None,
        description: str = "",
        as_is: bool = False,
    ) -> Voice:
        """Voice to speak in again, by `generate(voice=...)`, and to save, by `Voice.save`.

        ref_audio: the voice to clone. prompt_audio with prompt_text, its transcript: speech to
        continue. prompt_text alone is the transcript of ref_audio, which is then used as both and
        cloned more closely. as_is: keep a quiet clip's level and the silence at its ends.

        Logs what was cleaned, and problems with the clips. Raises ValueError or FileNotFoundError.
        """
        return make_voice(
            self.clip_encoder, ref_audio, prompt_audio, prompt_text, description, as_is
        )
