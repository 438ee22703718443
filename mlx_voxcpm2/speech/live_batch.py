"""Texts that come and go at any time, spoken together: for servers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .batch import Request
from .generation import ATTEMPTS, Take
from .guards import Trimmer
from .results import Stopwatch
from .scheduler import Streams

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model


@dataclass(frozen=True, eq=False)
class Spoken:
    """What one request has said since the last time."""

    number: int
    """That it was added under."""
    audio: np.ndarray
    """float32 (samples,)."""
    reason: str | None
    """Why it ends, as `finish_reason`; None while it goes on."""


class LiveBatch:
    """Speaks up to `size` requests at once; others wait their turn. For one thread, the model's.

    Whoever may not speak again (see `GenerationOptions.may_repeat`) is heard patch by patch, others
    when they have ended.
    """

    def __init__(self, model: VoxCPM2Model, size: int):
        self.model = model
        self.waiting: deque[Take] = deque()
        self.speaking: dict[int, Take] = {}
        """By the numbers of `streams`."""
        self.trimmers: dict[int, Trimmer] = {}
        """Of those who are heard while they speak, where silence is cut off."""
        self.streams = Streams(model, self._next, size)
        self.count = 0

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.speaking and self.streams.batch is None

    def add(self, number: int, request: Request) -> None:
        """number: of the caller's choice; what is said comes back with it."""
        self.waiting.append(Take(number, request, Stopwatch(self.model.sample_rate)))

    def cancel(self, number: int) -> None:
        """Nothing more is heard of it, and at the next patch its place is free."""
        self.waiting = deque(take for take in self.waiting if take.index != number)
        for key in [key for key, take in self.speaking.items() if take.index == number]:
            self.streams.cancel(key)
            del self.speaking[key]
            self.trimmers.pop(key, None)

    def step(self) -> list[Spoken]:
        """The next patch of everyone who speaks."""
        spoken = []
        for key, sound, reason in self.streams.step():
            take = self.speaking.get(key)
            if take is None:
                continue  # it was cancelled
            take.pieces.append(np.array(sound))
            if reason is not None:
                del self.speaking[key]
            if not take.request.options.may_repeat:
                audio = self._streamed(key, take, reason is not None)
                if len(audio) or reason is not None:
                    spoken.append(Spoken(take.index, audio, reason))
            elif reason is not None:
                fault = take.fault(reason)
                if fault is not None and take.attempt < ATTEMPTS:
                    self.waiting.appendleft(take.next(fault))
                    continue
                audio = np.array(take.result(reason, fault).audio)
                spoken.append(Spoken(take.index, audio, reason))
        return spoken

    def _streamed(self, key: int, take: Take, is_last: bool) -> np.ndarray:
        audio = take.pieces.pop()
        if not take.request.options.trim_silence:
            return audio
        trimmer = self.trimmers.setdefault(key, Trimmer(self.model.sample_rate))
        if is_last:
            del self.trimmers[key]
        return trimmer.take(audio, is_last)

    def _next(self) -> Request | None:
        if not self.waiting:
            return None
        take = self.speaking[self.count] = self.waiting.popleft()
        self.count += 1
        return take.request
