"""Speech of any length: segment by segment, all in one voice.

Each segment is a request of its own, with the same reference, so neither the caches nor the
voice know how long the text is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .clips import read_clip
from .generation import ATTEMPTS
from .joins import Joiner
from .normalization import normalized
from .options import GenerationOptions, check_integer, check_number
from .parts import Part, Parts
from .segments import Segment, split_text, spoken_length
from .voices import spoken_clips

if TYPE_CHECKING:
    from pathlib import Path

    import mlx.core as mx

    from .audio import AudioSource
    from .batch import Request
    from .model import VoxCPM2
    from .voices import Voice

logger = logging.getLogger("mlx_voxcpm2")

# Of the segment whose sound becomes the voice of all others: about five seconds of speech, and no
# more of it than a clip should have.
LONG_ENOUGH = 80
LONGEST_REFERENCE = 30.0

# In the settings of every part: another way of speaking needs another number.
_SPEAKING = "long 1"


@dataclass(frozen=True, eq=False)
class SpokenSegment:
    """One segment of a long text."""

    index: int
    text: str
    audio: np.ndarray
    """float32 (samples,), what comes next in the whole, pauses included: those of all segments,
    joined, are it. With a crossfade, the last of it waits for the next segment."""
    sample_rate: int
    start: float
    """When it is heard, in seconds of the whole."""
    end: float
    """Without the pause behind it."""
    sentences: int = 0
    """How many end in it."""
    seed: int | None = None
    """None for silence."""
    finish_reason: str | None = None
    was_kept: bool = False
    """Whether it had been spoken before."""


def anchor_of(segments: Sequence[Segment]) -> int:
    """Which segment gives the voice where none is given: the first that is long enough, since a
    title is too short to be cloned, else the longest."""
    lengths = [spoken_length(segment.text) for segment in segments]
    goal = min(LONG_ENOUGH, max(lengths))
    return next(index for index, length in enumerate(lengths) if length >= goal)


def speak_long(
    model: VoxCPM2,
    text: str | Sequence[Segment],
    *,
    instruct: str | None = None,
    ref_audio: AudioSource | mx.array | None = None,
    prompt_audio: AudioSource | mx.array | None = None,
    prompt_text: str | None = None,
    voice: str | Path | Voice | None = None,
    options: GenerationOptions | None = None,
    parallel: int = 1,
    crossfade: float = 0.0,
    match_level: bool = False,
    parts: Parts | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[SpokenSegment]:
    """Speaks a text of any length; yields its segments in order, each when it has been spoken.

    text: or what `split_text` made of it, by settings of your own. The voice is that of the clips
    or the `voice`, as in `VoxCPM2.generate`; without any, of the text's first long segment, which
    is spoken first and cloned in all others. Segment i is drawn with the options' seed plus 3 i.
    parallel: so many are spoken at once. crossfade (seconds, 0 to 1) and match_level: see `Joiner`.
    parts: keeps each segment as it is finished, and has those of the last time. progress: called
    with the seconds of speech that were spoken.

    Raises ValueError or FileNotFoundError at once, in one line.
    """
    check_integer("parallel", parallel, 1, None)
    check_number("crossfade", crossfade, 0, 1)
    options = options or GenerationOptions()
    if isinstance(text, str) and options.normalize:  # before it is split: words are longer
        text = normalized(text, None if options.normalize is True else options.normalize)
        options = replace(options, normalize=False)
    segments = split_text(text) if isinstance(text, str) else list(text)
    if not any(segment.text for segment in segments):
        raise ValueError("text is empty; give the words to speak")
    clips = _clips(model, instruct, ref_audio, prompt_audio, prompt_text, voice)
    if options.retry_badcase is None:
        options = replace(options, retry_badcase=True)
    if options.seed is None:
        seed = secrets.randbits(32) if parts is None else parts.seed()
        options = replace(options, seed=seed)
    reader = _Reader(model, segments, instruct, clips, options, parallel, parts, progress)
    return _joined(segments, reader, Joiner(model.sample_rate, crossfade, match_level))


def _joined(segments: list[Segment], reader: _Reader, joiner: Joiner) -> Iterator[SpokenSegment]:
    rate, spoken = joiner.sample_rate, reader.in_order()
    try:
        for index, segment in enumerate(segments):
            audio, seed, reason, was_kept = np.zeros(0, np.float32), None, None, False
            if segment.text:
                part, was_kept = next(spoken)
                audio, seed, reason = part.audio, part.seed, part.finish_reason
            is_last = index == len(segments) - 1
            sound, (start, end) = joiner.add(audio, segment.pause, is_last)
            yield SpokenSegment(
                index, segment.text, sound, rate, start, end, segment.sentences, seed, reason,
                was_kept,
            )  # fmt: skip
    finally:
        spoken.close()


def _clips(
    model: VoxCPM2,
    instruct: str | None,
    ref_audio: AudioSource | mx.array | None,
    prompt_audio: AudioSource | mx.array | None,
    prompt_text: str | None,
    voice: str | Path | Voice | None,
) -> dict[str, object]:
    """The voice as `VoxCPM2.request` takes it, encoded once for all segments; {} for none."""
    import mlx.core as mx

    ref_audio, prompt_audio, prompt_text = spoken_clips(
        model, instruct, ref_audio, prompt_audio, prompt_text, voice
    )
    clips: dict[str, object] = {}
    for name, clip, pad in (
        ("ref_audio", ref_audio, "right"), ("prompt_audio", prompt_audio, "left"),
    ):  # fmt: skip
        if clip is not None and not isinstance(clip, mx.array):
            rate = model.config.audio_vae_config.sample_rate
            heard = read_clip(clip, rate, name)
            for problem in heard.problems():
                logger.warning("%s %s", name, problem)
            clip = model.encode_audio((heard.samples, rate), pad)
        if clip is not None:
            clips[name] = clip
    return {**clips, "prompt_text": prompt_text} if prompt_text is not None else clips


class _Reader:
    """Speaks the segments that have words, or takes them from the parts."""

    def __init__(
        self,
        model: VoxCPM2,
        segments: list[Segment],
        instruct: str | None,
        clips: dict[str, object],
        options: GenerationOptions,
        parallel: int,
        parts: Parts | None,
        progress: Callable[[float], None] | None,
    ):
        self.model, self.instruct, self.clips, self.options = model, instruct, clips, options
        self.parallel, self.parts, self.progress = parallel, parts, progress
        self.texts = {i: segment.text for i, segment in enumerate(segments) if segment.text}
        self.anchor = None if clips else anchor_of(segments)
        self.settings = self._fingerprint(
            _SPEAKING, None if parts is None else parts.settings, instruct,
            {name: _content(clip) for name, clip in clips.items()},
            asdict(replace(options, seed=0)),
        )  # fmt: skip

    def in_order(self) -> Iterator[tuple[Part, bool]]:
        """Each segment with words, and whether it was there already."""
        waiting: dict[int, Part | None] = {}
        """Those that ended before their turn; None is read when it has come."""
        if self.anchor is not None:
            waiting.update(self._spoken([self.anchor]))
            anchor = waiting[self.anchor] or self.parts.read(self.anchor)
            self._take_voice(anchor)
        others = self._spoken([index for index in self.texts if index != self.anchor])
        try:
            for index in self.texts:
                while index not in waiting:
                    waiting.update([next(others)])
                part = waiting.pop(index)
                yield part or self.parts.read(index), part is None
        finally:
            others.close()

    def _take_voice(self, part: Part) -> None:
        rate = self.model.sample_rate
        sound = part.audio[: round(LONGEST_REFERENCE * rate)]
        self.clips = {"ref_audio": self.model.encode_audio((sound, rate))}
        self.settings = self._fingerprint(self.settings, _content(sound))

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
            requests(), batch_size=self.parallel, progress=self.progress
        ) as results:
            for result in results:
                index = taken[result.sequence_idx]
                part = Part(np.array(result.audio), result.seed, result.finish_reason)
                if self.parts is not None:
                    self.parts.write(index, self._settings_of(index), part)
                yield from ((number, None) for number in kept)
                kept.clear()
                yield index, part
        yield from ((number, None) for number in kept)

    def _request(self, index: int) -> Request:
        seed = self._seed(index)
        return self.model.request(
            self.texts[index], instruct=self.instruct, options=replace(self.options, seed=seed),
            **self.clips,
        )  # fmt: skip

    def _seed(self, index: int) -> int:
        """Apart from those of the attempts at the others."""
        return (int(self.options.seed) + ATTEMPTS * index) % 2**64

    def _is_kept(self, index: int) -> bool:
        return self.parts is not None and self.parts.has(index, self._settings_of(index))

    def _settings_of(self, index: int) -> str:
        return self._fingerprint(self.settings, self.texts[index], self._seed(index))

    @staticmethod
    def _fingerprint(*values: object) -> str:
        data = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(data.encode()).hexdigest()[:16]


def _content(clip: object) -> object:
    return clip if isinstance(clip, str) else hashlib.sha256(np.array(clip).tobytes()).hexdigest()
