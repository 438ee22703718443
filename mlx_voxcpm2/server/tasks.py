"""What the model's thread is asked to speak, and what it gives back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..speech.generation import ATTEMPTS
from ..speech.options import GenerationOptions
from ..speech.results import Chunk, FinishReason
from ..text.segments import Segment
from ..voices.inputs import VoiceInputs

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..speech.batch import Request

ENOUGH_REFERENCE = 5.0
"""Seconds of generated speech that suffice as the reference of the later segments."""


@dataclass(frozen=True, eq=False)
class SpeechTask:
    """Segments to speak one after the other in one voice.

    Without a clip or a saved voice, the first segments are the reference of the later ones.
    Options that may not retry (`GenerationOptions.may_retry`) give audio patch by patch, others
    segment by segment.
    """

    segments: tuple[Segment, ...]
    """As `split_text` makes them."""
    options: GenerationOptions
    """With a seed; segment i has this seed plus 3 i. The text is normalized already."""
    voice: VoiceInputs = field(default_factory=VoiceInputs)
    """Its clips are patches, or (samples, rate): files are not read in the model's thread."""
    adapter: str | None = None
    """Name of one of the thread's adapters; None for the default one."""
    is_open: bool = False
    """Whether more segments will be fed, see `SpeechStream.feed`."""


@dataclass(frozen=True, eq=False)
class SpokenPart:
    """A segment that has been spoken."""

    index: int
    text: str
    seconds: float
    """Length of the speech, without the pause after it."""
    pause: float
    patches: int
    seed: int | None
    finish_reason: FinishReason
    guards: tuple[str, ...] = ()
    """Actions against the model's faults, see `GenerationResult`."""


@dataclass(frozen=True, eq=False)
class SpeechAudio:
    """Next audio of a task: float32 (samples,), pauses included."""

    audio: np.ndarray
    part: SpokenPart | None = None
    """The segment that ends with this audio."""
    finish_reason: FinishReason | None = None
    """Why the whole ends, with its last audio: the first fault of any segment, else "stop"."""
    unstretched: np.ndarray | None = None
    """The speech before `speed` was applied, without pauses; None at speed 1."""


class SegmentQueue:
    """Segments of a task that are still to be spoken. For the model's thread."""

    def __init__(self, task: SpeechTask, model: VoxCPM2):
        self.task, self.model, self.is_open = task, model, task.is_open
        self._segments = deque(task.segments)
        self._index, self._segment = -1, Segment("")
        self._voice, self._has_voice = task.voice, task.voice.has_clip
        self._reference: list[np.ndarray] = []
        self._samples = 0
        self._given = 0
        """Samples of the segments that have ended."""
        self._fault: FinishReason | None = None

    @property
    def is_empty(self) -> bool:
        return not self._segments

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the whole ends, if nothing is left to be spoken."""
        return None if self._segments or self.is_open else self._fault or "stop"

    @property
    def seconds(self) -> float:
        """Seconds of speech and silence of the segments that have ended."""
        return self._given / self.model.sample_rate

    def feed(self, segments: Iterable[Segment]) -> None:
        self._segments.extend(segments)

    def next_request(self) -> Request | None:
        """Request for the next segment; None if it is only silence. Raises ValueError."""
        self._segment = self._segments.popleft()
        self._index += 1
        self._samples = 0
        if not self._segment.text:
            return None
        options = self.task.options
        seed = (int(options.seed or 0) + ATTEMPTS * self._index) % 2**64
        options = replace(options, seed=seed)
        return self.model.request(self._segment.text, options=options, **self._voice.given())

    def silence(self) -> SpeechAudio:
        """Pause after the current segment, which has no words."""
        pause = self._pause()
        self._given += len(pause)
        return SpeechAudio(pause, None, self.finish_reason)

    def ended(self) -> SpeechAudio:
        """The end of a task that was closed after its last segment had been spoken."""
        return SpeechAudio(np.zeros(0, np.float32), None, self.finish_reason)

    def add(self, chunk: Chunk) -> SpeechAudio:
        """Audio of the current segment, with the pause after its end."""
        audio, reason = np.asarray(chunk.audio), chunk.finish_reason
        self._samples += len(audio)
        if reason not in (None, "stop"):
            self._fault = self._fault or reason
        self._use_as_reference(np.asarray(chunk.audio_as_generated), reason is not None)
        if reason is None:
            return SpeechAudio(audio, unstretched=chunk.unstretched)
        part = SpokenPart(
            self._index,
            self._segment.text,
            self._samples / self.model.sample_rate,
            self._segment.pause,
            chunk.patches,
            chunk.seed,
            reason,
            chunk.guards,
        )
        pause = self._pause()
        self._given += self._samples + len(pause)
        whole = np.concatenate([audio, pause])
        return SpeechAudio(whole, part, self.finish_reason, chunk.unstretched)

    def _pause(self) -> np.ndarray:
        return np.zeros(round(self._segment.pause * self.model.sample_rate), np.float32)

    def _use_as_reference(self, audio: np.ndarray, is_end: bool) -> None:
        """Speak the later segments in the voice of this one, if there is no other."""
        if self._has_voice or (self.is_empty and not self.is_open):
            return
        self._reference.append(audio)
        if is_end:
            rate, reference = self.model.sample_rate, np.concatenate(self._reference)
            patches = self.model.encode_audio((reference, rate))
            self._voice = VoiceInputs(self.task.voice.instruct, patches)
            self._has_voice = len(reference) >= ENOUGH_REFERENCE * rate
