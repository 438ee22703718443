"""Continuous batching of requests that come and go at any time: for servers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from .batch import Request
from .generation import Attempt
from .results import Chunk, FinishReason, Stopwatch
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

    def seconds(self) -> dict[int, float]:
        """Seconds of speech of each attempt under way, by the caller's numbers."""
        patch = self.model.patch_samples / self.model.sample_rate
        return {
            each.index: each.generated * patch / each.request.options.speed
            for each in self.active.values()
        }

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
        attempt.generated += 1
        if reason is not None:
            del self.active[key]
        if not attempt.request.options.may_retry:
            return self._streamed(attempt, reason)
        if reason is None:
            return None
        fault = attempt.fault(reason)
        if fault is not None and (retry := attempt.retry(fault)):
            self.waiting.appendleft(retry)
            return None
        result = attempt.result(reason, fault)
        unstretched = None if result.unstretched is None else np.array(result.unstretched)
        audio, patches = np.array(result.audio), len(attempt.chunks)
        return Chunk(
            attempt.index,
            audio,
            reason,
            patches=patches,
            seed=result.seed,
            guards=result.guards,
            unstretched=unstretched,
        )

    def _streamed(self, attempt: Attempt, reason: FinishReason | None) -> Chunk | None:
        """The audio of a stream that is final now; None if there is none."""
        final = attempt.stage.apply(attempt.chunks.pop(), reason is not None)
        if reason is None:
            chunk = Chunk(attempt.index, final.audio, unstretched=final.unstretched)
            return chunk if len(final.audio) else None
        return Chunk(
            attempt.index,
            final.audio,
            reason,
            patches=attempt.generated,
            seed=attempt.request.options.seed,
            guards=attempt.stage.guard_notes(reason),
            unstretched=final.unstretched,
        )

    def _next(self) -> Request | None:
        if not self.waiting:
            return None
        attempt = self.active[self.count] = self.waiting.popleft()
        self.count += 1
        return attempt.request
