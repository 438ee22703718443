"""Speech of any length: segment by segment, all in one voice.

Each segment is a request of its own, with the same reference, so neither the caches nor the
voice know how long the text is.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..audio.clips import read_clip
from ..schema import check_integer, check_number
from ..speech.options import GenerationOptions
from ..text.normalization import normalized
from ..text.segments import Segment, split_text
from ..voices.saved import spoken_clips
from .cache import Parts
from .joiner import Joiner
from .reader import SegmentReader

if TYPE_CHECKING:
    from pathlib import Path

    import mlx.core as mx

    from ..audio.reading import AudioSource
    from ..model import VoxCPM2
    from ..recognition.verification import Verification
    from ..voices.saved import Voice

logger = logging.getLogger("mlx_voxcpm2")


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
    guards: tuple[str, ...] = ()
    error_rate: float | None = None
    """These two as in `GenerationResult`."""


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
    continue_segments: bool = False,
    crossfade: float = 0.0,
    match_level: bool = False,
    parts: Parts | None = None,
    verify: Verification | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[SpokenSegment]:
    """Speaks a text of any length; yields its segments in order, each when it has been spoken.

    text: or what `split_text` made of it, by settings of your own. The voice is that of the clips
    or the `voice`, as in `VoxCPM2.generate`; without any, of the text's first long segment, which
    is spoken first and cloned in all others. Segment i is drawn with the options' seed plus 3 i.
    parallel: so many are spoken at once. crossfade (seconds, 0 to 1) and match_level: see `Joiner`.
    parts: keeps each segment as it is finished, and has those of the last time. verify: how it is
    checked that each segment is heard. progress: called with the seconds of speech that were
    spoken.

    continue_segments: each goes on from the one before, its sound and its words, so that the melody
    flows over the join; not shown to sound better yet. It takes its manner from there, too, and not
    from `instruct`. One that gives the voice begins anew, and one after a pause, after a segment
    that was cut, or after one of more than 30 s.

    Raises ValueError or FileNotFoundError at once, in one line.
    """
    check_integer("parallel", parallel, 1, None)
    check_number("crossfade", crossfade, 0, 1)
    check_parallel(parallel, continue_segments)
    options = options or GenerationOptions()
    if isinstance(text, str) and options.normalize:  # before it is split: words are longer
        text = normalized(text, None if options.normalize is True else options.normalize)
        options = replace(options, normalize=False)
    segments = split_text(text) if isinstance(text, str) else list(text)
    if not any(segment.text for segment in segments):
        raise ValueError("text is empty; give the words to speak")
    clips = _clips(model, instruct, ref_audio, prompt_audio, prompt_text, voice)
    if options.seed is None:
        seed = secrets.randbits(32) if parts is None else parts.seed()
        options = replace(options, seed=seed)
    reader = SegmentReader(
        model, segments, instruct, clips, options, parallel, continue_segments, parts, progress,
        verify,
    )  # fmt: skip
    return _joined(segments, reader, Joiner(model.sample_rate, crossfade, match_level))


def check_parallel(parallel: int, continue_segments: bool) -> None:
    """Raises ValueError where segments that wait for each other shall be spoken at once."""
    if continue_segments and parallel > 1:
        raise ValueError(
            f"parallel is {parallel} with continue_segments, where each segment waits for the one "
            "before; leave one of them out"
        )


def _joined(
    segments: list[Segment], reader: SegmentReader, joiner: Joiner
) -> Iterator[SpokenSegment]:
    rate, spoken = joiner.sample_rate, reader.in_order()
    try:
        for index, segment in enumerate(segments):
            audio, seed, reason, was_kept = np.zeros(0, np.float32), None, None, False
            guards: tuple[str, ...] = ()
            error_rate: float | None = None
            if segment.text:
                part, was_kept = next(spoken)
                audio, seed, reason = part.audio, part.seed, part.finish_reason
                guards, error_rate = part.guards, part.error_rate
            is_last = index == len(segments) - 1
            sound, (start, end) = joiner.add(audio, segment.pause, is_last)
            yield SpokenSegment(
                index, segment.text, sound, rate, start, end, segment.sentences, seed, reason,
                was_kept, guards, error_rate,
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
        model.clip_encoder, instruct, ref_audio, prompt_audio, prompt_text, voice
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
