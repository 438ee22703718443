"""Between a server's event loop and the thread that owns the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..errors import one_line
from ..speech.generation import ATTEMPTS
from ..speech.live_batch import LiveBatch
from ..speech.results import Chunk
from ..text.segments import Segment, is_one_segment, split_text
from ..voices.inputs import VoiceInputs

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..speech.batch import Request
    from ..voices.registry import VoiceRegistry
    from .request import SpeechOrder

# Seconds of the speech so far that the rest of a long text is cloned from, without another voice.
ENOUGH_VOICE = 5.0


@dataclass(frozen=True, eq=False)
class Piece:
    audio: np.ndarray
    """float32 (samples,)."""
    seed: int
    fault: str | None = None
    """Why it ended before its text did: "length" or "silence"."""
    is_last: bool = False


class Job:
    """One request; what is said of it comes through `pieces`, an Exception being the last."""

    def __init__(self, order: SpeechOrder):
        """In the event loop that waits for it."""
        self.order = order
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def tell(self, what: Piece | Exception) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self.pieces.put_nowait, what)
        except RuntimeError:
            pass  # the loop has ended, and nobody listens


class Script:
    """What is still to be said for an order: one segment after the other, all in one voice."""

    def __init__(self, order: SpeechOrder, model: VoxCPM2, voices: VoiceRegistry):
        """Raises ValueError or OSError."""
        self.order, self.model = order, model
        self.options = order.options.with_seed()
        text = order.text
        self._segments = iter([Segment(text)] if is_one_segment(text) else split_text(text))
        self._upcoming: Segment | None = next(self._segments)
        self.index, self.segment = -1, Segment("")
        self.voice = self._voice(voices)
        self.has_voice = self.voice.has_clip
        self.heard: list[np.ndarray] = []

    def _voice(self, voices: VoiceRegistry) -> VoiceInputs:
        order = self.order
        if order.clip is None:
            return voices.inputs(order.voice, order.instruct, self.model.clip_encoder)
        voice = self.model.make_voice(order.clip, prompt_text=order.clip_text)
        return VoiceInputs.of(voice, order.instruct)

    @property
    def is_over(self) -> bool:
        return self._upcoming is None

    def next(self) -> Request | None:
        """The next segment; None if it is only silence."""
        self.segment, self._upcoming = self._upcoming, next(self._segments, None)
        self.index += 1
        if not self.segment.text:
            return None
        seed = (self.options.seed + ATTEMPTS * self.index) % 2**64
        return self.model.request(
            self.segment.text, options=replace(self.options, seed=seed), **self.voice.given()
        )

    def pause(self) -> np.ndarray:
        """The silence after this segment (samples,)."""
        return np.zeros(round(self.segment.pause * self.model.sample_rate), np.float32)

    def hear(self, audio: np.ndarray, ends: bool) -> None:
        """Where there is no other, takes the voice of what was said. ends: whether the segment."""
        if self.has_voice or self.is_over:
            return
        self.heard.append(audio)
        if ends:
            rate, heard = self.model.sample_rate, np.concatenate(self.heard)
            reference = self.model.encode_audio((heard, rate))
            self.voice = VoiceInputs(self.order.instruct, ref_audio=reference)
            self.has_voice = len(heard) >= ENOUGH_VOICE * rate


class SpeechSession:
    """Speaks the jobs that mlx-audio's broker hands it, in the broker's thread."""

    def __init__(self, model: VoxCPM2, voices: VoiceRegistry, size: int):
        self.model, self.voices = model, voices
        self.batch = LiveBatch(model, size)
        self.requests: dict[int, object] = {}
        """Of mlx-audio, whose payload is a Job; by our numbers."""
        self.scripts: dict[int, Script] = {}
        self.count = 0

    @property
    def idle(self) -> bool:
        return not self.requests and self.batch.is_idle

    def submit(self, request: object) -> None:
        """request: mlx-audio's InferenceRequest."""
        number, self.count = self.count, self.count + 1
        self.requests[number] = request
        with self._answered(number):
            self.scripts[number] = Script(request.payload.order, self.model, self.voices)
            self._go_on(number)

    def step(self) -> None:
        """The next patch of everyone; those whose clients have gone are left."""
        for number, request in list(self.requests.items()):
            if request.cancel_event.is_set():
                self._forget(number)
        for spoken in self.batch.step():
            with self._answered(spoken.number):
                self._tell(spoken)
        if self.idle:
            mx.clear_cache()

    def fail(self, error: BaseException) -> None:
        """As the broker says when all is lost."""
        for number in list(self.requests):
            self._refuse(number, RuntimeError(one_line(error)))

    def _go_on(self, number: int) -> None:
        """The next segment with words waits for its turn; silence is said at once."""
        job, script = self.requests[number].payload, self.scripts[number]
        while not script.is_over:
            request = script.next()
            if request is not None:
                self.batch.add(number, request)
                return
            job.tell(Piece(script.pause(), script.options.seed, is_last=script.is_over))
        self._forget(number)

    def _tell(self, spoken: Chunk) -> None:
        job, script = self.requests[spoken.number].payload, self.scripts[spoken.number]
        ends, audio = spoken.finish_reason is not None, spoken.audio
        script.hear(audio, ends)
        if ends:
            audio = np.concatenate([audio, script.pause()])
        is_last, fault = (
            ends and script.is_over,
            None if spoken.finish_reason == "stop" else spoken.finish_reason,
        )
        job.tell(Piece(audio, script.options.seed, fault, is_last))
        if ends:
            self._go_on(spoken.number)

    def _forget(self, number: int) -> None:
        self.batch.cancel(number)
        self.requests.pop(number, None)
        self.scripts.pop(number, None)

    @contextmanager
    def _answered(self, number: int) -> Iterator[None]:
        """What goes wrong with one request is its client's, and nobody else's."""
        try:
            yield
        except Exception as error:
            self._refuse(number, error)

    def _refuse(self, number: int, error: Exception) -> None:
        self.requests[number].payload.tell(error)
        self._forget(number)
