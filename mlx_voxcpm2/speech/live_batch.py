"""Continuous batching of requests that come and go at any time: for servers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from .batch import Request
from .generation import Attempt
from .results import Chunk, Stopwatch
from .scheduler import Scheduler

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model


class LiveBatch:
    """Generates up to `size` requests at once; others wait. For one thread, the model's.

    Requests that may not be retried (see `GenerationOptions.may_retry`) give audio patch by patch,
    others when they have ended. All audio is float32 (samples,) of numpy.
    """

    def __init__(self, model: VoxCPM2Model, size: int):
        self.model = model
        self.waiting: deque[Attempt] = deque()
        self.active: dict[int, Attempt] = {}
        """Attempts by the scheduler's numbers."""
        self.scheduler = Scheduler(model, self._next, size)
        self.count = 0

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.active and self.scheduler.batch is None

    def add(self, number: int, request: Request) -> None:
        """number: of the caller's choice; the chunks carry it."""
        self.waiting.append(Attempt(number, request, Stopwatch(self.model.sample_rate)))

    def cancel(self, number: int) -> None:
        """Drop a request: it gives no more chunks, and its place is free at the next patch."""
        self.waiting = deque(attempt for attempt in self.waiting if attempt.index != number)
        for key in [key for key, attempt in self.active.items() if attempt.index == number]:
            self.scheduler.cancel(key)
            del self.active[key]

    def step(self) -> list[Chunk]:
        """Generate the next patch of every request."""
        chunks = (self._update(chunk) for chunk in self.scheduler.step())
        return [chunk for chunk in chunks if chunk is not None]

    def _update(self, chunk: Chunk) -> Chunk | None:
        """The audio that is final now."""
        key, reason = chunk.number, chunk.finish_reason
        attempt = self.active.get(key)
        if attempt is None:
            return None  # it was cancelled
        attempt.chunks.append(np.array(chunk.audio))
        if reason is not None:
            del self.active[key]
        if not attempt.request.options.may_retry:
            final = attempt.stage.apply(attempt.chunks.pop(), reason is not None)
            if not len(final.audio):
                return None
            return Chunk(attempt.index, final.audio, reason, final.unstretched)
        if reason is None:
            return None
        fault = attempt.fault(reason)
        if fault is not None and (retry := attempt.retry(fault)):
            self.waiting.appendleft(retry)
            return None
        result = attempt.result(reason, fault)
        unstretched = None if result.unstretched is None else np.array(result.unstretched)
        return Chunk(attempt.index, np.array(result.audio), reason, unstretched)

    def _next(self) -> Request | None:
        if not self.waiting:
            return None
        attempt = self.active[self.count] = self.waiting.popleft()
        self.count += 1
        return attempt.request
