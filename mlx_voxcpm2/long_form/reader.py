"""The segments of a long text, spoken one by one or some at once, or taken from what was kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from ..speech.generation import ATTEMPTS
from ..speech.options import GenerationOptions
from ..text.segments import Segment, anchor_of, spoken_length
from .cache import Part, Parts

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..recognition.verification import Verification
    from ..speech.batch import Request

# Of a segment that becomes the voice of all others, or that the next one goes on from: no more
# than a clip should have.
LONGEST_CLIP = 30.0

# In the settings of every part: another way of speaking needs another number.
_SPEAKING = "long 1"


class SegmentReader:
    """Speaks the segments that have words, or takes them from the parts."""

    def __init__(
        self,
        model: VoxCPM2,
        segments: list[Segment],
        instruct: str | None,
        clips: dict[str, object],
        options: GenerationOptions,
        parallel: int,
        continues: bool,
        parts: Parts | None,
        progress: Callable[[float], None] | None,
        verify: Verification | None = None,
    ):
        self.model, self.instruct, self.clips, self.options = model, instruct, clips, options
        self.parallel, self.parts, self.progress = parallel, parts, progress
        self.verify = verify
        self.segments, self.continues = segments, continues
        self.before: tuple[int, Part] | None = None
        """What was spoken last, by number, of those in order."""
        self.texts = {i: segment.text for i, segment in enumerate(segments) if segment.text}
        self.anchor = None if clips else anchor_of(segments)
        self.settings = self._fingerprint(
            _SPEAKING, None if parts is None else parts.settings, instruct,
            {name: _content(clip) for name, clip in clips.items()},
            asdict(replace(options, seed=0)), verify and (verify.limit, verify.retries),
        )  # fmt: skip

    def in_order(self) -> Iterator[tuple[Part, bool]]:
        """Each segment with words, and whether it was there already."""
        waiting: dict[int, Part | None] = {}
        """Those that ended before their turn; None is read when it has come."""
        if self.anchor is not None:
            waiting.update(self._spoken([self.anchor]))
            anchor = waiting[self.anchor] or self.parts.read(self.anchor)
            self._take_voice(anchor)
        left = [index for index in self.texts if index != self.anchor]
        others = self._one_by_one(left) if self.continues else self._spoken(left)
        try:
            for index in self.texts:
                while index not in waiting:
                    waiting.update([next(others)])
                fresh = waiting.pop(index)
                part = fresh or self.parts.read(index)
                self.before = index, part
                yield part, fresh is None
        finally:
            others.close()

    def _take_voice(self, part: Part) -> None:
        rate = self.model.sample_rate
        sound = part.audio[: round(LONGEST_CLIP * rate)]
        self.clips = {"ref_audio": self.model.encode_audio((sound, rate))}
        self.settings = self._fingerprint(self.settings, _content(sound))

    def _one_by_one(self, indices: list[int]) -> Iterator[tuple[int, Part | None]]:
        """Each request is made when what it goes on from is there."""
        for index in indices:
            yield from self._spoken([index])

    def _spoken(self, indices: list[int]) -> Iterator[tuple[int, Part | None]]:
        """As they end; None for those that were kept."""
        taken: list[int] = []
        kept: list[int] = []

        def requests() -> Iterator[Request]:
            for index in indices:
                if self._is_kept(index):
                    kept.append(index)
                    continue
                taken.append(index)
                yield self._request(index)

        with self.model.generate_batch(
            requests(), batch_size=self.parallel, verify=self.verify, progress=self.progress
        ) as results:
            for result in results:
                index = taken[result.sequence_idx]
                part = Part(
                    np.array(result.audio),
                    result.seed,
                    result.finish_reason,
                    result.guards,
                    result.error_rate,
                )
                if self.parts is not None:
                    self.parts.write(index, self._settings_of(index), part)
                yield from ((number, None) for number in kept)
                kept.clear()
                yield index, part
        yield from ((number, None) for number in kept)

    def _request(self, index: int) -> Request:
        options = replace(self.options, seed=self._seed(index))
        before = self._continued(index)
        if before is None:
            return self.model.request(
                self.texts[index], instruct=self.instruct, options=options, **self.clips
            )
        words = self.texts[index - 1]
        # Chinese has no spaces between sentences.
        gap = " " if spoken_length(words[-1]) == 1 else ""
        prompt = self.model.encode_audio((before.audio, self.model.sample_rate), "left")
        # The first patch does not click where something was heard before it.
        return self.model.request(
            self.texts[index], prompt_audio=prompt, prompt_text=words + gap,
            ref_audio=self.clips.get("ref_audio", self.clips.get("prompt_audio")),
            options=replace(options, fade_in=0.0),
        )  # fmt: skip

    def _continued(self, index: int) -> Part | None:
        """What the segment goes on from; None where it begins anew."""
        number, part = self.before or (None, None)
        if not self.continues or number != index - 1 or self.segments[number].pause:
            return None
        longest = round(LONGEST_CLIP * self.model.sample_rate)
        is_whole = part.finish_reason == "stop"  # else who knows which words are in it?
        return part if is_whole and len(part.audio) <= longest else None

    def _seed(self, index: int) -> int:
        """Apart from those of the attempts at the others."""
        return (int(self.options.seed) + ATTEMPTS * index) % 2**64

    def _is_kept(self, index: int) -> bool:
        return self.parts is not None and self.parts.has(index, self._settings_of(index))

    def _settings_of(self, index: int) -> str:
        before = self._continued(index)
        heard = [] if before is None else [self.texts[index - 1], _content(before.audio)]
        return self._fingerprint(self.settings, self.texts[index], self._seed(index), *heard)

    @staticmethod
    def _fingerprint(*values: object) -> str:
        data = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(data.encode()).hexdigest()[:16]


def _content(clip: object) -> object:
    return clip if isinstance(clip, str) else hashlib.sha256(np.array(clip).tobytes()).hexdigest()
