"""Requests in progress, between a server's event loop and the thread that runs the model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..errors import one_line
from ..speech.generation import ATTEMPTS
from ..speech.live_batch import LiveBatch
from ..speech.results import Chunk, FinishReason
from ..text.segments import Segment, is_one_segment, split_text
from ..voices.inputs import VoiceInputs

if TYPE_CHECKING:
    from mlx_audio.server_inference import InferenceRequest

    from ..model import VoxCPM2
    from ..speech.batch import Request
    from ..voices.registry import VoiceRegistry
    from .request import SpeechRequest

# Seconds of generated speech that suffice as the reference of the later segments.
ENOUGH_REFERENCE = 5.0


class PendingRequest:
    """Request whose audio arrives in a queue: chunks, or an Exception that ends it.

    Made in the event loop that reads the queue.
    """

    def __init__(self, request: SpeechRequest):
        self.request = request
        self.chunks: asyncio.Queue[Chunk | Exception] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def put(self, item: Chunk | Exception) -> None:
        """Add to the queue, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.chunks.put_nowait, item)
        except RuntimeError:
            pass  # the event loop has ended, and nobody reads


class SegmentQueue:
    """Segments of a request's text that are still to be spoken, all in one voice.

    Without a voice, the first segments are the reference of the later ones.
    """

    def __init__(self, request: SpeechRequest, model: VoxCPM2, voices: VoiceRegistry):
        """Raises ValueError or OSError for a voice that can't be used."""
        self.request, self.model = request, model
        text = request.text
        self._segments = deque([Segment(text)] if is_one_segment(text) else split_text(text))
        self._index, self._segment = -1, Segment("")
        self._voice = self._resolved_voice(voices)
        self._has_voice = self._voice.has_clip
        self._reference: list[np.ndarray] = []
        self._fault: FinishReason | None = None

    def _resolved_voice(self, voices: VoiceRegistry) -> VoiceInputs:
        voice = self.request.voice
        if voice.ref_audio is None:
            return voices.inputs(voice.voice, voice.instruct, self.model.clip_encoder)
        made = self.model.make_voice(voice.ref_audio, prompt_text=voice.prompt_text)
        return VoiceInputs.of(made, voice.instruct)

    @property
    def is_empty(self) -> bool:
        return not self._segments

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the whole speech ends, at the end of its last segment: the first fault, or "stop"."""
        return (self._fault or "stop") if self.is_empty else None

    def next_request(self) -> Request | None:
        """Request for the next segment; None if it is only silence."""
        self._segment = self._segments.popleft()
        self._index += 1
        if not self._segment.text:
            return None
        options = self.request.options
        seed = (options.seed + ATTEMPTS * self._index) % 2**64
        options = replace(options, seed=seed)
        return self.model.request(self._segment.text, options=options, **self._voice.given())

    def pause(self) -> np.ndarray:
        """Silence after the current segment, (samples,)."""
        return np.zeros(round(self._segment.pause * self.model.sample_rate), np.float32)

    def add_speech(self, chunk: Chunk) -> None:
        """Use generated speech as the reference of the later segments, if there is no other."""
        is_end = chunk.finish_reason is not None
        if is_end and chunk.finish_reason != "stop":
            self._fault = self._fault or chunk.finish_reason
        if self._has_voice or self.is_empty:
            return
        self._reference.append(chunk.audio_as_generated)
        if is_end:
            rate, reference = self.model.sample_rate, np.concatenate(self._reference)
            patches = self.model.encode_audio((reference, rate))
            self._voice = VoiceInputs(self.request.voice.instruct, patches)
            self._has_voice = len(reference) >= ENOUGH_REFERENCE * rate


class SpeechSession:
    """mlx-audio's continuous batch session, called in the broker's thread.

    Speaks the requests whose payload is a PendingRequest.
    """

    def __init__(self, model: VoxCPM2, voices: VoiceRegistry, size: int):
        self.model, self.voices = model, voices
        self.batch = LiveBatch(model, size)
        self.requests: dict[int, InferenceRequest] = {}
        """Requests by the batch's numbers."""
        self.segments: dict[int, SegmentQueue] = {}
        self.count = 0

    @property
    def idle(self) -> bool:
        return not self.requests and self.batch.is_idle

    def submit(self, request: InferenceRequest) -> None:
        number, self.count = self.count, self.count + 1
        self.requests[number] = request
        with self._errors_sent(number):
            pending: PendingRequest = request.payload
            self.segments[number] = SegmentQueue(pending.request, self.model, self.voices)
            self._continue(number)

    def step(self) -> None:
        """Generate the next patch of every request; drop those that were cancelled."""
        for number, request in list(self.requests.items()):
            if request.cancel_event.is_set():
                self._drop(number)
        for chunk in self.batch.step():
            with self._errors_sent(chunk.number):
                self._send(chunk)
        if self.idle:
            mx.clear_cache()

    def fail(self, error: BaseException) -> None:
        """Fail all requests. Called by the broker when its worker has failed."""
        for number in list(self.requests):
            self._fail_one(number, RuntimeError(one_line(error)))

    def _continue(self, number: int) -> None:
        """Queue the next segment that has words; silence before it is sent at once."""
        pending, segments = self.requests[number].payload, self.segments[number]
        while not segments.is_empty:
            request = segments.next_request()
            if request is not None:
                self.batch.add(number, request)
                return
            pending.put(Chunk(number, segments.pause(), segments.finish_reason))
        self._drop(number)

    def _send(self, chunk: Chunk) -> None:
        pending, segments = self.requests[chunk.number].payload, self.segments[chunk.number]
        segments.add_speech(chunk)
        if chunk.finish_reason is None:
            pending.put(chunk)
            return
        audio = np.concatenate([chunk.audio, segments.pause()])
        pending.put(Chunk(chunk.number, audio, segments.finish_reason))
        self._continue(chunk.number)

    def _drop(self, number: int) -> None:
        self.batch.cancel(number)
        self.requests.pop(number, None)
        self.segments.pop(number, None)

    @contextmanager
    def _errors_sent(self, number: int) -> Iterator[None]:
        """Send errors to the request's client; other requests continue."""
        try:
            yield
        except Exception as error:
            self._fail_one(number, error)

    def _fail_one(self, number: int, error: Exception) -> None:
        self.requests[number].payload.put(error)
        self._drop(number)
