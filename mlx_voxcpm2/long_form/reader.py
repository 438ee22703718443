"""Generation of the segments of a long text, in order or several at once, or from the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..speech.generation import ATTEMPTS
from ..speech.options import GenerationOptions
from ..text.segments import Segment, spoken_length
from ..text.spoken import texts_to_speak
from ..voices.inputs import VoiceInputs
from .cache import CachedSegment, SegmentCache
from .options import LongFormOptions
from .speakers import LONGEST_CLIP, anchor_index, cloned_voice, styled_voice

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..recognition.best_of import BestOf
    from ..recognition.verification import Verification
    from ..speech.batch import Request
    from ..speech.results import GenerationResult

Generated = Generator[tuple[int, CachedSegment | None], None, None]
"""Indices of segments as they end, with None for those in the cache."""

# Cache version. Increase it when generated audio changes.
_VERSION = "long 2"


class SegmentReader:
    """Generates the segments that have words, or reads them from the cache."""

    def __init__(
        self,
        model: VoxCPM2,
        segments: list[Segment],
        voices: Mapping[str, VoiceInputs],
        options: GenerationOptions,
        long_form: LongFormOptions,
        cache: SegmentCache | None = None,
        progress: Callable[[float], None] | None = None,
        verify: Verification | None = None,
        best_of: BestOf | None = None,
    ):
        """voices: of all speakers, with encoded clips. options: with a seed, at speed 1."""
        self.model, self.segments, self.options = model, segments, options
        self.voices = dict(voices)
        self.long_form, self.cache, self.progress = long_form, cache, progress
        self.seconds = 0.0
        """Seconds of speech of the earlier batches."""
        self.verify, self.best_of = verify, best_of
        self.previous: tuple[int, CachedSegment] | None = None
        """Index and audio of the last segment in order."""
        self._found: dict[int, str] = {}
        """Settings of the segments that are in the cache, by index."""
        self.texts = texts_to_speak(segments)
        self.anchors = {
            speaker: anchor_index(segments, speaker)
            for speaker, voice in voices.items()
            if not voice.has_clip
        }
        """Index of the segment that gives the voice, of speakers without a clip."""
        self.settings = {
            speaker: _fingerprint(
                _VERSION,
                None if cache is None else cache.settings,
                {name: _content(value) for name, value in voice.given().items()},
                replace(options, seed=0).fingerprint_values,
                verify and (verify.limit, verify.retries),
                *([] if best_of is None else [best_of.count]),
            )
            for speaker, voice in voices.items()
        }

    def in_order(self) -> Generator[tuple[CachedSegment, bool], None, None]:
        """Segments with words in order, each with whether it was in the cache."""
        ready: dict[int, CachedSegment | None] = {}
        """Segments that ended before their turn; None is read from the cache in its turn."""
        anchors = sorted(self.anchors.values())
        ready.update(self._generated(anchors) if anchors else ())
        for speaker, index in self.anchors.items():
            self._clone(speaker, ready[index] or self._cached(index))
        left = [index for index in self.texts if index not in anchors]
        others = self._one_by_one(left) if self.long_form.continue_segments else None
        others = others or self._generated(left)
        try:
            for index in self.texts:
                while index not in ready:
                    ready.update([next(others)])
                fresh = ready.pop(index)
                segment = fresh or self._cached(index)
                self.previous = index, segment
                yield segment, fresh is None
        finally:
            others.close()

    def _cached(self, index: int) -> CachedSegment:
        assert self.cache is not None
        return self.cache.read(index, self._found[index])

    def _clone(self, speaker: str, segment: CachedSegment) -> None:
        """Speak all other segments of a speaker in the voice of this one."""
        audio = segment.audio[: round(LONGEST_CLIP * self.model.sample_rate)]
        self.voices[speaker] = cloned_voice(self.model, self.voices[speaker], audio)
        self.settings[speaker] = _fingerprint(self.settings[speaker], _content(audio))

    def _one_by_one(self, indices: list[int]) -> Generated:
        """Generate each segment when the one that it continues is there."""
        for index in indices:
            yield from self._generated([index])

    def _generated(self, indices: list[int]) -> Generated:
        """Segments as they end; None for those in the cache."""
        requested: list[int] = []
        cached: list[int] = []

        def requests() -> Iterator[Request]:
            for index in indices:
                if self._is_cached(index):
                    cached.append(index)
                    continue
                requested.append(index)
                yield self._request(index)

        with self.model.generate_batch(
            requests(),
            batch_size=self.long_form.parallel,
            verify=self.verify,
            best_of=self.best_of,
            progress=self._report,
        ) as results:
            spoken = 0.0
            for result in results:
                spoken += result.duration
                index = requested[result.sequence_idx]
                segment = self._store(index, result)
                yield from ((number, None) for number in cached)
                cached.clear()
                yield index, segment
        self.seconds += spoken
        yield from ((number, None) for number in cached)

    def _report(self, seconds: float) -> None:
        if self.progress is not None:
            self.progress(self.seconds + seconds)

    def _store(self, index: int, result: GenerationResult) -> CachedSegment:
        segment = CachedSegment(
            np.array(result.audio),
            result.seed or 0,
            result.finish_reason or "stop",
            result.guards,
            result.error_rate,
            result.score,
        )
        if self.cache is not None:
            self.cache.write(index, self._settings_of(index), segment)
        return segment

    def _request(self, index: int) -> Request:
        options = replace(self.options, seed=self._seed(index))
        previous = self._continued(index)
        voice = self.voices[self.segments[index].speaker]
        if previous is None:
            voice = styled_voice(voice, self.segments[index].style)
            return self.model.request(self.texts[index], options=options, **voice.given())
        words = self.texts[index - 1]
        # Chinese has no spaces between sentences.
        gap = " " if spoken_length(words[-1]) == 1 else ""
        prompt = self.model.encode_audio((previous.audio, self.model.sample_rate), "left")
        # The first patch does not click where audio precedes it.
        return self.model.request(
            self.texts[index],
            prompt_audio=prompt,
            prompt_text=words + gap,
            ref_audio=voice.prompt_audio if voice.ref_audio is None else voice.ref_audio,
            options=replace(options, fade_in=0.0),
        )

    def _continued(self, index: int) -> CachedSegment | None:
        """The segment before, if this one continues it."""
        number, segment = self.previous or (None, None)
        is_next = self.long_form.continue_segments and number == index - 1
        if not is_next or segment is None or self.segments[index - 1].pause:
            return None
        own, before = self.segments[index], self.segments[index - 1]
        if (own.speaker, own.style) != (before.speaker, before.style):
            return None
        longest = round(LONGEST_CLIP * self.model.sample_rate)
        is_whole = segment.finish_reason == "stop"  # else it lacks an unknown part of the words
        return segment if is_whole and len(segment.audio) <= longest else None

    def _seed(self, index: int) -> int:
        """Seed of a segment, unlike those of the attempts at the others, and of their takes."""
        takes = 1 if self.best_of is None else self.best_of.count
        return (int(self.options.seed or 0) + ATTEMPTS * takes * index) % 2**64

    def _is_cached(self, index: int) -> bool:
        if self.cache is None or not self.cache.has(index, settings := self._settings_of(index)):
            return False
        self._found[index] = settings
        return True

    def _settings_of(self, index: int) -> str:
        previous = self._continued(index)
        context = [] if previous is None else [self.texts[index - 1], _content(previous.audio)]
        segment = self.segments[index]
        context += [segment.style] if segment.style else []
        settings = self.settings[segment.speaker]
        return _fingerprint(settings, self.texts[index], self._seed(index), *context)


def _fingerprint(*values: object) -> str:
    data = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def _content(value: object) -> str:
    """Text itself, or a hash of an array."""
    return (
        value if isinstance(value, str) else hashlib.sha256(np.array(value).tobytes()).hexdigest()
    )
