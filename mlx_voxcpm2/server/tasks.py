"""What the model's thread is asked to speak, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..speech.generation import ATTEMPTS
from ..speech.options import GenerationOptions
from ..speech.results import Chunk, FinishReason
from ..text.normalization import INSTRUCTION
from ..text.segments import Segment
from ..text.spoken import text_to_speak
from ..voices.inputs import VoiceInputs
from .task_voices import OneVoice, SpeakerVoices, TaskVoices

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..speech.batch import Request


@dataclass(frozen=True, eq=False)
class SpeechTask:
    """Segments to speak one after the other, in one voice or in those of their speakers.

    Without a clip or a saved voice, the first segments are the reference of the later ones; and of
    each speaker of a dialogue one segment is that of the others. Options that may not retry
    (`GenerationOptions.may_retry`) give audio patch by patch, others segment by segment.
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
    """Whether more segments will be fed, see `SpeechStream.feed`; not of a dialogue."""
    speakers: Mapping[str, VoiceInputs] | None = None
    """Voices by the segments' speakers, instead of `voice`; one that is missing is made up."""

    @property
    def descriptions(self) -> list[str]:
        """Descriptions of voices, each once: those given, the one before the text, styles."""
        voices = [self.voice] if self.speakers is None else self.speakers.values()
        before = (INSTRUCTION.match(each.text) for each in self.segments[:1])
        found = [
            *(voice.instruct for voice in voices),
            *(match and match.group() for match in before),
            *(segment.style for segment in self.segments),
        ]
        return list(dict.fromkeys(filter(None, found)))


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
    speaker: str = ""
    """Who speaks it, in a dialogue."""


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
    is_pause: bool = False
    """Whether it is silence between two segments, or before the first one."""


class SegmentQueue:
    """Segments of a task that are still to be spoken. For the model's thread.

    They are spoken in order, but for one that gives the voice of an earlier one: it is spoken
    before that, and given in its turn.
    """

    def __init__(self, task: SpeechTask, model: VoxCPM2):
        self.task, self.model, self.is_open = task, model, task.is_open
        self._segments = dict(enumerate(task.segments))
        """Those that have not been given completely, by index."""
        self._fed = len(task.segments)
        self._index, self._segment = -1, Segment("")
        """The one that is spoken now."""
        self._voices: TaskVoices = OneVoice(task.voice, model)
        if task.speakers is not None:
            self._voices = SpeakerVoices(task.segments, task.speakers, model)
        self._early: dict[int, list[SpeechAudio]] = {}
        """Speech of segments that were spoken before their turn, by index."""
        self._is_early = False
        """Whether the current segment is spoken before its turn."""
        self._first = self._first_with_words()
        """Index of the first segment with words, None before it is fed."""
        self._samples = 0
        self._given = 0
        """Samples of the segments that have ended, and of their pauses so far."""
        self._pause = 0
        """Samples of the current segment's pause that have not been given."""
        self._silence = np.zeros(model.sample_rate, np.float32)
        """A second, which all pieces of pauses share: long ones need no more memory."""
        self._silence.flags.writeable = False
        self._fault: FinishReason | None = None

    @property
    def is_empty(self) -> bool:
        return not (self._segments or self._pause)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the whole ends, if nothing is left to be spoken."""
        return self._fault or "stop" if self.is_empty and not self.is_open else None

    @property
    def seconds(self) -> float:
        """Seconds of speech and silence of the segments that have ended."""
        return self._given / self.model.sample_rate

    def feed(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            self._segments[self._fed] = segment
            self._fed += 1
        if self._first is None:
            self._first = self._first_with_words()

    def _first_with_words(self) -> int | None:
        return next((index for index, each in self._segments.items() if each.text), None)

    def next_request(self) -> Request | None:
        """Request for the next segment; None if audio is `ready`. Raises ValueError."""
        if self._pause:
            return None
        first = next(iter(self._segments))
        self._index = index = self._needed_first(first)
        self._segment, self._samples = self._segments[index], 0
        self._is_early = index != first
        if self._is_early:
            self._early[index] = []
        else:
            del self._segments[index]
            if index in self._early:
                return None
            if not self._segment.text:
                self._begin_pause()
                return None
        options = self.task.options
        seed = (int(options.seed or 0) + ATTEMPTS * index) % 2**64
        options = replace(options, seed=seed)
        voice = self._voices.inputs(self._segment)
        text = text_to_speak(self._segment, index == self._first)
        return self.model.request(text, options=options, **voice.given())

    def ready(self) -> SpeechAudio:
        """Audio of the current segment that needs no request: silence, or spoken before."""
        if (early := self._early.pop(self._index, None)) is not None:
            return self._with_pause(_joined(early))
        silence = self._next_silence()
        return SpeechAudio(silence, None, self.finish_reason, is_pause=True)

    def ended(self) -> SpeechAudio:
        """The end of a task that was closed after its last segment had been spoken."""
        return SpeechAudio(np.zeros(0, np.float32), None, self.finish_reason)

    def add(self, chunk: Chunk) -> SpeechAudio | None:
        """Audio of the current segment; None before its turn.

        At its end with the first second of its pause, whose rest is `ready` then.
        """
        audio, reason = np.asarray(chunk.audio), chunk.finish_reason
        self._samples += len(audio)
        if reason not in (None, "stop"):
            self._fault = self._fault or reason
        speech, has_more = np.asarray(chunk.audio_as_generated), not self.is_empty or self.is_open
        self._voices.learn(self._index, speech, reason is not None, has_more)
        found = SpeechAudio(audio, unstretched=chunk.unstretched)
        if reason is not None:
            self._given += self._samples
            found = replace(found, part=self._part(chunk, reason))
        if self._is_early:
            self._early[self._index].append(found)
            return None
        return found if reason is None else self._with_pause(found)

    def _needed_first(self, index: int) -> int:
        """Index of the segment to speak before that of this index, or itself."""
        segment = self._segments[index]
        if not segment.text or index in self._early:
            return index
        anchor = self._voices.anchor(segment)
        return index if anchor is None else anchor

    def _part(self, chunk: Chunk, reason: FinishReason) -> SpokenPart:
        return SpokenPart(
            self._index,
            self._segment.text,
            self._samples / self.model.sample_rate,
            self._segment.pause,
            chunk.patches,
            chunk.seed,
            reason,
            chunk.guards,
            self._segment.speaker,
        )

    def _with_pause(self, spoken: SpeechAudio) -> SpeechAudio:
        """The end of the current segment, with the first piece of its pause."""
        self._begin_pause()
        audio = np.concatenate([spoken.audio, self._next_silence()])
        return replace(spoken, audio=audio, finish_reason=self.finish_reason)

    def _begin_pause(self) -> None:
        self._pause = round(self._segment.pause * self.model.sample_rate)

    def _next_silence(self) -> np.ndarray:
        """The next piece of the pause, of a second at most."""
        piece = self._silence[: self._pause]
        self._pause -= len(piece)
        self._given += len(piece)
        return piece


def _joined(parts: Sequence[SpeechAudio]) -> SpeechAudio:
    """Audio of all of a segment."""
    audio = np.concatenate([each.audio for each in parts])
    speech = [each.unstretched for each in parts if each.unstretched is not None]
    return replace(parts[-1], audio=audio, unstretched=np.concatenate(speech) if speech else None)
