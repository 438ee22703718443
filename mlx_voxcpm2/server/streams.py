"""Speech on its way from the model's thread to an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from ..text.segments import Segment
from .tasks import SpeechAudio, SpeechTask

UNREAD_SECONDS = 30.0
"""Audio that may wait for a slow reader; the next segment is begun when less of it waits."""


class SpeechError(RuntimeError):
    """The model has failed while it spoke; it goes on with other requests."""


class End:
    """Ends a stream."""


Item = SpeechAudio | Exception | End


class _Owner(Protocol):
    """What a stream needs of the thread."""

    sample_rate: int

    def cancel(self, stream: SpeechStream) -> None: ...
    def feed(self, stream: SpeechStream, segments: Sequence[Segment], is_end: bool) -> None: ...
    def resume(self, stream: SpeechStream) -> None: ...


class SpeechStream(AsyncIterator[SpeechAudio]):
    """Audio of one task, for `async for`; `async with` cancels what is left of it at its end.

    Belongs to the event loop in which it was made. Raises the error of the task: ValueError for
    what can't be spoken, SpeechError if the model failed.
    """

    def __init__(self, owner: _Owner, task: SpeechTask):
        self.task = task
        self.seconds = 0.0
        """Seconds of speech generated so far, attempts under way included."""
        self.has_begun = False
        """Whether the task is being spoken, and no longer waits."""
        self._owner, self._loop = owner, asyncio.get_running_loop()
        self._queue: asyncio.Queue[Item] = asyncio.Queue()
        self._lock, self._unread = threading.Lock(), 0
        self._has_ended = False

    async def __anext__(self) -> SpeechAudio:
        item = await self._queue.get()
        if isinstance(item, SpeechAudio):
            self._count_read(len(item.audio))
            return item
        self._queue.put_nowait(End())  # for another call
        if isinstance(item, End):
            raise StopAsyncIteration
        raise item

    async def __aenter__(self) -> SpeechStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Stop speaking, from any thread, within a patch; a reader's loop ends."""
        if not self._has_ended:
            self._owner.cancel(self)
            self.put_all([End()])

    def feed(self, segments: Iterable[Segment]) -> None:
        """Add segments to an open task."""
        self._owner.feed(self, tuple(segments), False)

    def end(self) -> None:
        """Close an open task: no more segments will come."""
        self._owner.feed(self, (), True)

    @property
    def is_full(self) -> bool:
        """Whether so much audio waits for the reader that no other segment should be begun."""
        with self._lock:
            return self._unread > self._most_unread

    @property
    def _most_unread(self) -> float:
        return UNREAD_SECONDS * self._owner.sample_rate

    def _count_read(self, samples: int) -> None:
        """Note samples that have been read, and wake the task if it waited for that."""
        # One lock: what the thread adds between two of them would hide that it waits.
        with self._lock:
            was_full = self._unread > self._most_unread
            self._unread -= samples
            is_full = self._unread > self._most_unread
        if was_full and not is_full:
            self._owner.resume(self)

    def put_all(self, items: Sequence[Item]) -> None:
        """Add to the queue, from any thread."""
        with self._lock:
            self._unread += sum(len(i.audio) for i in items if isinstance(i, SpeechAudio))
        try:
            self._loop.call_soon_threadsafe(self._put, items)
        except RuntimeError:
            pass  # the event loop has ended, and nobody reads

    def _put(self, items: Sequence[Item]) -> None:
        for item in items:
            if not self._has_ended:
                self._has_ended = not isinstance(item, SpeechAudio)
                self._queue.put_nowait(item)
