"""Requests made from texts: everything is checked, clips are encoded, the length is limited."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import starmap
from typing import TYPE_CHECKING

import mlx.core as mx

from ..errors import option
from ..models.voxcpm2.config import VoxCPM2Config
from ..text.normalization import normalized
from ..text.segments import Segment
from ..text.spoken import spoken_letters, spoken_text, texts_to_speak, with_instruction
from ..voices.clip_encoder import ClipEncoder
from ..voices.inputs import VoiceInputs
from .batch import Request, length_limit, limit_by_noise
from .noise import checked_noise
from .options import GenerationOptions
from .prompt import Prompt

if TYPE_CHECKING:
    from ..text.tokenizer import Tokenizer
    from ..text.vocabulary import Vocabulary

logger = logging.getLogger("mlx_voxcpm2")


class RequestBuilder:
    """Makes requests for one model."""

    def __init__(self, config: VoxCPM2Config, tokenizer: Tokenizer, clip_encoder: ClipEncoder):
        self.config, self.tokenizer, self.clip_encoder = config, tokenizer, clip_encoder
        self.vocabulary: Vocabulary | None = None

    def build(
        self,
        text: str,
        voice: VoiceInputs,
        options: GenerationOptions,
        noise: mx.array | None = None,
    ) -> Request:
        """Request that any thread can generate. Errors: see `prepare`."""
        request = self.prepare(text, voice, options, noise)()
        if request.prompt.patches is not None:
            mx.async_eval(request.prompt.patches)  # else only this thread could use them
        return request

    def prepare(
        self,
        text: str,
        voice: VoiceInputs,
        options: GenerationOptions,
        noise: mx.array | None = None,
    ) -> Callable[[], Request]:
        """Check everything now; the result builds the Request in the thread that generates.

        An array that MLX has not computed yet belongs to the thread that made it. Raises
        ValueError or FileNotFoundError.
        """
        words_only = self._words(text, options)
        text = self._readable(with_instruction(words_only, voice.instruct))
        voice = voice.resolved(self.clip_encoder)
        tokens = self._tokens(self._continued(voice.prompt_text or "", text))
        reference = self.clip_encoder.prepare(voice.ref_audio, option("ref_audio"), "right")
        prompt = self.clip_encoder.prepare(voice.prompt_audio, option("prompt_audio"), "left")
        positions = Prompt.positions(len(tokens), reference.length, prompt.length)
        limit = self.config.context_length
        if positions > limit:
            raise ValueError(
                f"text and audio take {positions} positions, {positions - limit} more than the "
                f"model's {limit}; shorten the text or the audio"
            )
        target, letters = len(self.tokenizer(text)), spoken_letters(words_only)
        patches = length_limit(target, positions, limit, options.max_tokens)
        if noise is None:
            options = options.with_seed()
        else:
            noise = checked_noise(noise, (self.config.patch_size, self.config.feat_dim))
            patches = limit_by_noise(patches, len(noise), options.min_tokens)

        def request() -> Request:
            sequence = Prompt.build(tokens, reference.encode(), prompt.encode())
            return Request(sequence, options, target, patches, noise, letters, words_only)

        return request

    def build_all(
        self, items: Iterable[str | Request], voice: VoiceInputs, options: GenerationOptions
    ) -> Iterable[Request]:
        """Requests of texts: those of a list now, those of a generator when they are asked for.

        Raises ValueError for a single text.
        """
        if isinstance(items, str | Request) or not isinstance(items, Iterable):
            raise ValueError(f"requests is a single {type(items).__name__}; give a list of texts")

        def request(index: int, item: str | Request) -> Request:
            try:
                return item if isinstance(item, Request) else self.build(item, voice, options)
            except ValueError as error:
                raise ValueError(f"request {index}: {error}") from None

        requests = starmap(request, enumerate(items))
        return list(requests) if isinstance(items, Sequence) else requests

    def readable(self, segments: Sequence[Segment], is_all: bool = True) -> list[Segment]:
        """Segments, without the text of those that the voice can't read, which a warning names.

        is_all: whether no more will come; then raises ValueError if nothing can be read.
        """
        if self.vocabulary is None:
            return list(segments)
        faults = {
            index: fault
            for index, text in texts_to_speak(segments).items()
            if (fault := self.vocabulary.unreadable(text))
        }
        found = [
            replace(segment, text="") if index in faults else segment
            for index, segment in enumerate(segments)
        ]
        if is_all and faults and not any(segment.text for segment in found):
            raise ValueError(next(iter(faults.values())))
        for fault in faults.values():
            logger.warning("left out: %s", fault)
        return found

    def faults(self, segments: Sequence[Segment], descriptions: Iterable[str]) -> list[str]:
        """Messages of what the voice leaves out of a text, and of descriptions it does not know.

        Raises ValueError for a segment that has nothing to say.
        """
        known = self.vocabulary
        if known is None:
            return []
        spoken = texts_to_speak(segments).values()
        texts = [self._words(each, GenerationOptions()) for each in spoken]
        found = [known.text_fault(" ".join(texts)), *map(known.description_fault, descriptions)]
        return list(filter(None, found))

    def _words(self, text: str, options: GenerationOptions) -> str:
        """Text to be spoken, without an instruction, as the voice has learnt it."""
        normalize = options.normalize
        if not normalize and self.vocabulary is not None and isinstance(text, str):
            normalize = self.vocabulary.language_to_normalize(text) or False
        words = spoken_text(text, None, normalize)
        return words if self.vocabulary is None else self.vocabulary.folded(words)

    def _readable(self, text: str) -> str:
        """Text with its instruction, without what the voice can't read, which a warning names."""
        if self.vocabulary is None:
            return text
        text = self.vocabulary.folded(text)
        readable = self.vocabulary.readable(text)
        self.vocabulary.warn(text)
        return readable

    def _continued(self, prompt_text: str, text: str) -> str:
        """Transcript of a clip with the text that continues it."""
        if self.vocabulary is None or not prompt_text:
            return prompt_text + text
        prompt_text = self._transcript(prompt_text, self.vocabulary)
        return self.vocabulary.readable(self.vocabulary.continued(prompt_text, text))

    def _transcript(self, prompt_text: str, known: Vocabulary) -> str:
        """Transcript in words that the voice can read; a warning names what it can't, once."""
        if language := known.language_to_normalize(prompt_text):
            prompt_text = normalized(prompt_text, language)
        known.warn_of_transcript(prompt_text)
        return prompt_text

    def _tokens(self, text: str) -> list[int]:
        if self.vocabulary is not None:
            text = text.strip()
        tokens, vocabulary = self.tokenizer(text), self.config.lm_config.vocab_size
        if max(tokens, default=0) >= vocabulary:
            raise ValueError(
                f"the tokenizer gives id {max(tokens)}, and the model has {vocabulary}; take the "
                "tokenizer.json of this checkpoint"
            )
        return tokens
