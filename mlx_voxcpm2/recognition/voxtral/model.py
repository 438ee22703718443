"""Voxtral: audio in, text out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import mlx.core as mx
import numpy as np

from ...audio.decoding import RECORDING
from ...audio.reading import AudioSource, read_audio
from ...models.voxtral.config import SAMPLE_RATE
from ...models.voxtral.encoder import Encoder
from ...models.voxtral.mel import log_mel
from ...models.voxtral.network import VoxtralModel
from ...schema import check_number
from ...text.tekken import Tekken
from ..transcript import FinishReason, Score, Transcript, stripped
from .decoding import Decoded, Sampler, decode, text_log_probs
from .long_audio import Segment, transcribe_segments
from .prompt import PromptBuilder, check_language
from .requests import DecodingOptions

LONGEST_MINUTES = 30
"""Longest sound that the model was trained to transcribe at once."""
_ENCODED = 4
"""Chunks that are encoded at once: as many as keep a GPU busy; each needs 0.2 GB meanwhile."""
# Fast speech has five words a second, of two tokens in the languages that need most.
_TOKENS_PER_SECOND, _TOKENS_BESIDE = 12, 64


class Voxtral:
    """Transcribes speech, scores texts against it, and answers questions about it.

    A sound is what `read_audio` reads: a path, bytes, a binary file or (samples, sample rate).
    network: with its weights. eos: ids of the tokens that end a text.
    """

    def __init__(self, network: VoxtralModel, tokenizer: Tekken, eos: Iterable[int]):
        self.network, self.tokenizer = network, tokenizer
        config = network.config
        self.prompts = PromptBuilder(tokenizer, config.audio_config.chunk_embeddings)
        control = self.prompts.control
        if control.audio != config.audio_token_id or len(tokenizer) > config.text_config.vocab_size:
            raise ValueError(
                f"tekken.json has {len(tokenizer)} tokens and [AUDIO] at {control.audio}, "
                f"config.json {config.text_config.vocab_size} and {config.audio_token_id}; take "
                "both from one release"
            )
        # The two of mistral's format never belong to a text.
        self._stops = frozenset([*eos, control.end_inst, control.pad])

    @property
    def audio_tower(self) -> Encoder:
        """The network's encoder."""
        return self.network.audio_tower

    def transcribe(
        self,
        audio: AudioSource,
        language: str | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Transcript:
        """Transcript of a sound of up to half an hour; `transcribe_long` takes any length.

        language: two letters of ISO 639-1, or None to have it recognised. Other arguments: see
        `DecodingOptions`; `finish_reason` tells whether a limit cut the text.

        Raises what `read_audio` raises, and ValueError for a sound that is too long.
        """
        options = DecodingOptions(language, max_tokens, temperature, seed=seed)
        return self._finished(*self._transcription(audio, options), language)

    def stream(
        self,
        audio: AudioSource,
        language: str | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Pieces of the text of `transcribe`, each as soon as it is decoded.

        Arguments and errors: see `transcribe`; errors are raised at once.
        """
        options = DecodingOptions(language, max_tokens, temperature, seed=seed)
        return self._transcription(audio, options)[0]

    def transcribe_long(
        self,
        audio: AudioSource,
        language: str | None = None,
        segment_seconds: float = 60.0 * LONGEST_MINUTES,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Iterator[Segment]:
        """Transcript of a recording of up to three hours, segment by segment, cut at silences.

        segment_seconds: longest segment, from 1 to half an hour. Long segments have more context,
        short ones more exact times; the encoder pads each to a multiple of 30 s. max_tokens: of
        each segment. Other arguments and errors: see `transcribe`; errors are raised at once.

            for segment in stt.transcribe_long("meeting.mp3"):
                print(f"{segment.end / segment.duration:.0%}", segment.text)
        """
        options = DecodingOptions(language, max_tokens, temperature, seed=seed)
        check_number("segment_seconds", segment_seconds, 1.0, 60.0 * LONGEST_MINUTES)
        samples = _read(audio)

        def transcribe(part: AudioSource) -> Transcript:
            return self._finished(*self._transcription(part, options), language)

        return transcribe_segments(samples, segment_seconds, transcribe)

    def ask(
        self,
        question: str,
        *audios: AudioSource,
        max_tokens: int = 512,
        temperature: float = 0.2,
        top_p: float = 0.95,
        seed: int | None = None,
    ) -> Transcript:
        """Answer to a question about one sound, several or none.

        Arguments: see `DecodingOptions`; errors: see `transcribe`.
        """
        _check_text("question", question)
        options = DecodingOptions(None, max_tokens, temperature, top_p, seed)
        mels = [self.log_mel(audio) for audio in audios]
        prompt = self.ask_prompt([*map(len, mels), question])
        mel = np.concatenate(mels) if mels else None
        limit = self._limit(options, prompt, 0)
        return self._finished(*self._decoded(prompt, mel, limit, options))

    def score(self, audio: AudioSource, text: str, language: str | None = None) -> Score:
        """Probability of a text as the transcript of a sound, to compare sounds or texts by.

        Arguments and errors: see `transcribe`.
        """
        _check_text("text", text)
        check_language(language)
        mel = self.log_mel(audio)
        prompt = self.prompt(len(mel), language)
        tokens = [*self.tokenizer.encode(text.strip()), self.prompts.control.eos]
        self._room(len(prompt) + len(tokens) - 1)
        return Score(text_log_probs(self.network, self._embedded(prompt, mel), tokens))

    def __call__(self, samples: np.ndarray, sample_rate: int) -> str:
        """Transcript of samples (L,) at a rate in Hz: this object is a `Recogniser`."""
        return self.transcribe((samples, sample_rate)).text

    def log_mel(self, audio: AudioSource) -> np.ndarray:
        """Log-mel spectrogram of a sound, (chunks, frames, bins)."""
        return self._log_mel(_read(audio))

    def embed_audio(self, mel: np.ndarray | mx.array) -> mx.array:
        """mel (chunks, frames, bins) -> embeddings (chunks * frames / 8, H)."""
        parts = []
        for start in range(0, len(mel), _ENCODED):
            parts.append(self.network.embed_audio(mx.array(mel[start : start + _ENCODED])))
            mx.eval(parts[-1])  # so that its activations are freed before the next
        return mx.concatenate(parts)

    def logits(self, tokens: Sequence[int], mel: np.ndarray | mx.array | None = None) -> mx.array:
        """Logits of what follows each token of a prompt, (L, vocabulary).

        mel: of the sound in the prompt. Raises ValueError if its length is not the prompt's.
        """
        return self.network(self._embedded(tokens, mel))[0]

    def prompt(self, chunks: int, language: str | None = None) -> list[int]:
        """Tokens before the transcript of so many chunks; see `PromptBuilder.transcribe`."""
        return self.prompts.transcribe(chunks, language)

    def ask_prompt(self, parts: Iterable[str | int]) -> list[int]:
        """Tokens before an answer; see `PromptBuilder.ask`."""
        return self.prompts.ask(parts)

    def _log_mel(self, samples: np.ndarray) -> np.ndarray:
        sizes = self.network.config.audio_config
        return log_mel(samples, sizes.num_mel_bins, sizes.chunk_samples)

    def _transcription(
        self, audio: AudioSource, options: DecodingOptions
    ) -> tuple[Iterator[str], Decoded]:
        samples = _read(audio)
        seconds = len(samples) / SAMPLE_RATE
        if seconds > 60 * LONGEST_MINUTES:
            raise ValueError(
                f"the sound has more than {LONGEST_MINUTES} minutes; cut it, or use "
                "transcribe_long, which cuts it at silences"
            )
        mel = self._log_mel(samples)
        prompt = self.prompt(len(mel), options.language)
        likely = _TOKENS_BESIDE + math.ceil(_TOKENS_PER_SECOND * seconds)
        return self._decoded(prompt, mel, self._limit(options, prompt, likely), options)

    def _decoded(
        self, prompt: list[int], mel: np.ndarray | None, limit: int, options: DecodingOptions
    ) -> tuple[Iterator[str], Decoded]:
        """Pieces of text, and the tokens that are filled in while these are taken."""
        result = Decoded()
        sampler = Sampler(options.temperature, options.top_p, options.seed)
        embedded = self._embedded(prompt, mel)
        tokens = decode(self.network, embedded, limit, self._stops, sampler, result)
        return stripped(self.tokenizer.decode_stream(tokens)), result

    def _finished(
        self, pieces: Iterator[str], decoded: Decoded, language: str | None = None
    ) -> Transcript:
        text = "".join(pieces)
        reason: FinishReason = "stop" if decoded.is_stopped else "length"
        return Transcript(text, tuple(decoded.tokens), decoded.log_probs(), reason, language)

    def _embedded(self, tokens: Sequence[int], mel: np.ndarray | mx.array | None) -> mx.array:
        audio = None if mel is None else self.embed_audio(mel)
        return self.network.embed(np.asarray(tokens, np.int32), audio)

    def _limit(self, options: DecodingOptions, prompt: list[int], likely: int) -> int:
        """Number of tokens to decode at most. likely: of a transcript, if none was given."""
        return min(options.max_tokens or likely, self._room(len(prompt)))

    def _room(self, length: int) -> int:
        """Positions of the context that so many leave. Raises ValueError if there are none."""
        context = self.network.config.context_length
        if length >= context:
            raise ValueError(
                f"sound and text have {length} tokens, and the model's context has {context}; cut "
                "the sound"
            )
        return context - length


def _read(audio: AudioSource) -> np.ndarray:
    return read_audio(audio, SAMPLE_RATE, limit=RECORDING)


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is empty; give words")
