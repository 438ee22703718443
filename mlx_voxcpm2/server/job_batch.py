"""Tasks under way in the model's thread: which is spoken, which waits, what each has to send."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mlx.core as mx

from ..errors import one_line
from ..speech.live_batch import LiveBatch
from ..text.segments import Segment
from ..weights import adapters as lora
from ..weights.adapter_files import StoredAdapter
from .streams import End, Item, SpeechError, SpeechStream
from .tasks import SegmentQueue

if TYPE_CHECKING:
    from ..model import VoxCPM2

logger = logging.getLogger("mlx_voxcpm2")

ReadAdapters = Callable[[], dict[str | None, StoredAdapter]]
"""Reads the adapters, in the model's thread, by the names that tasks give; None is the default."""


@dataclass(eq=False)
class _Job:
    """A task under way."""

    number: int
    stream: SpeechStream
    segments: SegmentQueue
    is_ready: bool = False
    """Whether it waits for a place in the batch."""
    sent: list[Item] = field(default_factory=list)
    """Items of this step."""


class JobBatch:
    """Tasks that one model speaks, at most `size` of them at once. For the model's thread."""

    def __init__(self, model: VoxCPM2, size: int, adapters: Mapping[str | None, StoredAdapter]):
        """Raises ValueError for an adapter that does not fit."""
        self.model, self.size, self.adapters = model, size, adapters
        self.failures = 0
        """Number of exceptions of the model."""
        self.jobs: dict[SpeechStream, _Job] = {}
        self.speaking: dict[int, _Job] = {}
        """Jobs in the batch, by their numbers."""
        self._ready: deque[_Job] = deque()
        self._count, self._adapter = 0, None
        self._batch = LiveBatch(model, size)
        if names := [name for name in adapters if name is not None]:
            for name in [*names, None]:
                self._attach(name)

    @property
    def is_idle(self) -> bool:
        return self._batch.is_idle and not self._ready

    def step(self) -> None:
        """Give free places to those that wait, generate a patch of each, send what there is."""
        self._start_jobs()
        if not self._batch.is_idle:
            self._generate()
        for job in self.jobs.values():
            if job.sent:
                job.stream.put_all(job.sent)
                job.sent = []

    def end_all(self, error: Exception) -> None:
        for job in list(self.jobs.values()):
            self._fail(job, error)

    def add(self, stream: SpeechStream) -> None:
        self.jobs[stream] = _Job(self._count, stream, SegmentQueue(stream.task, self.model))
        self._count += 1
        self.queue(stream)

    def feed(self, stream: SpeechStream, segments: Sequence[Segment], is_end: bool) -> None:
        if (job := self.jobs.get(stream)) is None:
            return
        job.segments.feed(segments)
        job.segments.is_open = job.segments.is_open and not is_end
        self.queue(stream)

    def queue(self, stream: SpeechStream, first: bool = False) -> None:
        """Let a job wait for a place, unless it has nothing to say now. first: before others."""
        job = self.jobs.get(stream)
        if job is None or job.number in self.speaking or job.is_ready:
            return
        if not job.segments.is_empty:
            job.is_ready = True
            self._ready.insert(0 if first else len(self._ready), job)
        elif not job.segments.is_open:
            job.sent.append(job.segments.ended())
            self._forget(job)

    def cancel(self, stream: SpeechStream) -> None:
        if (job := self.jobs.get(stream)) is not None:
            self._batch.cancel(job.number)
            self._forget(job)

    def _start_jobs(self) -> None:
        while self._ready and len(self.speaking) < self.size:
            job = self._ready[0]
            if job.stream.task.adapter != self._adapter:
                if not self._batch.is_idle:
                    return  # all after it wait too, or it might wait for ever
                try:
                    self._attach(job.stream.task.adapter)
                except Exception as error:
                    self._fail(job, error)
                    continue
            self._ready.popleft()
            job.is_ready, job.stream.has_begun = False, True
            self._continue(job)

    def _attach(self, name: str | None) -> None:
        stored = self.adapters.get(name)
        if stored is not None:
            lora.attach(self.model, stored)
        else:
            lora.remove_adapter(self.model)
        self._adapter = name

    def _continue(self, job: _Job) -> None:
        """Put the next segment that has words into the batch; send what is ready before it."""
        try:
            while not job.segments.is_empty:
                if job.stream.is_full:
                    break
                request = job.segments.next_request()
                if request is not None:
                    self.speaking[job.number] = job
                    self._batch.add(job.number, request)
                    return
                job.sent.append(job.segments.ready())
        except Exception as error:
            self._fail(job, error)
            return
        if job.segments.is_empty and not job.segments.is_open:
            self._forget(job)

    def _generate(self) -> None:
        try:
            chunks = self._batch.step()
        except Exception as error:
            logger.exception("the model failed; its requests end, it goes on with others")
            self.failures += 1
            self._batch = LiveBatch(self.model, self.size)
            for job in list(self.speaking.values()):
                self._fail(job, SpeechError(one_line(error)))
            mx.clear_cache()
            return
        for chunk in chunks:
            if (job := self.speaking.get(chunk.number)) is None:
                continue
            try:
                audio = job.segments.add(chunk)
            except Exception as error:
                self._fail(job, error)
                continue
            if audio is not None:
                job.sent.append(audio)
            if chunk.finish_reason is not None:
                del self.speaking[job.number]
                self._continue(job)
        seconds = self._batch.seconds()
        for job in self.jobs.values():
            job.stream.seconds = job.segments.seconds + seconds.get(job.number, 0.0)

    def _fail(self, job: _Job, error: Exception) -> None:
        self._batch.cancel(job.number)
        job.sent.append(error)
        self._forget(job)

    def _forget(self, job: _Job) -> None:
        """End a job, after what it has still to send."""
        self.speaking.pop(job.number, None)
        if job in self._ready:
            self._ready.remove(job)
        if self.jobs.pop(job.stream, None) is not None:
            job.stream.seconds = job.segments.seconds
            job.stream.put_all([*job.sent, End()])
            job.sent = []
