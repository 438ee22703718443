"""Continuous batching: as one request ends, the next takes its place in the batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

from ..activity import activity
from ..layers.device import free_streams_at_thread_end
from .batch import Batch, Request
from .guards import StreamGuard
from .kernel_build import KERNELS
from .results import Chunk

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model


class Scheduler:
    """Generates up to `size` requests at once, each with the result that it has alone.

    A prompt's last patches are decoded first and dropped, so that the audio continues from them.
    """

    def __init__(self, model: VoxCPM2Model, take: Callable[[], Request | None], size: int):
        """take: gives the next request, or None if none waits now; they are numbered from 0.

        It is called whenever there is room. A request with another solver or number of steps waits
        until the batch is empty, and all requests behind it wait too.
        """
        self.model, self.take, self.size = model, take, size
        self.batch: Batch | None = None
        self.numbers: list[int] = []
        """Request numbers of the batch's rows."""
        self.guards: dict[int, StreamGuard] = {}
        """Guards by request number."""
        self.count = 0
        """Number of requests that have begun."""
        self.waiting: Request | None = None
        self.cache: list = []
        self.audio: mx.array | None = None
        """Audio of the patches generated last, (B, samples)."""

    def chunks(self, closed: threading.Event | None = None) -> Iterator[list[Chunk]]:
        """Chunks of all rows, patch by patch, until the batch is empty and no request waits."""
        with ExitStack() as first:
            first.enter_context(activity("computing the first sound"))
            while (chunks := self.step()) or self.batch is not None:
                if chunks:
                    yield chunks
                first.close()  # the caller has waited for it
                if closed is not None and closed.is_set():
                    return

    def step(self) -> list[Chunk]:
        """Queue the next patch of every row; give the audio of the patches before.

        So the device never waits for Python. But the first audio is given at once, since whether it
        is the last needs no reading.
        """
        free_streams_at_thread_end()
        chunks = self._end()
        is_first = self.batch is None
        self._admit()
        if self.batch is None:
            return chunks
        self.audio = self.model.audio_vae.decode(self.batch.draw(), cache=self.cache)
        mx.async_eval(self.audio, self.model.audio_vae.cache_arrays(self.cache))
        KERNELS.count_patch(self.model)
        return self._end() if is_first and not chunks else chunks

    def cancel(self, number: int) -> None:
        """End a request that has begun, after one more patch at most."""
        if self.batch is not None and number in self.numbers:
            row = self.batch.rows[self.numbers.index(number)]
            row.request = replace(row.request, limit=row.patches)
        elif self.waiting is not None and number == self.count:
            self.waiting = replace(self.waiting, limit=1)

    def _end(self) -> list[Chunk]:
        """Audio of the patches generated last; rows that end with it leave."""
        if self.audio is None or self.batch is None:
            return []
        reasons = self.batch.end([self.guards[number].reason_to_end() for number in self.numbers])
        chunks = [
            Chunk(number, self.guards[number].apply(audio), reason)
            for number, audio, reason in zip(self.numbers, self.audio, reasons, strict=True)
        ]
        self.audio = None
        active = [index for index, reason in enumerate(reasons) if reason is None]
        if not active:
            self.batch, self.cache = None, []
        elif len(active) < len(reasons):
            self.model.audio_vae.select(self.cache, active)
            mx.async_eval(self.model.audio_vae.cache_arrays(self.cache))
        self.numbers = [self.numbers[index] for index in active]
        self.guards = {number: self.guards[number] for number in self.numbers}
        return chunks

    def _admit(self) -> None:
        requests = self._new_requests()
        if not requests:
            return
        if self.count:
            mx.clear_cache()  # free buffers have the sizes of other batches, and would pile up
        batch, caches = Batch(self.model, requests), [self._decoded(each) for each in requests]
        if self.batch is None:
            self.batch = batch
        else:
            self.batch.join(batch)
            caches.insert(0, self.cache)
        self.cache = self.model.audio_vae.join_caches(caches)
        for number, request in enumerate(requests, start=self.count):
            self.numbers.append(number)
            self.guards[number] = StreamGuard(request.options, self.model.sample_rate)
        self.count += len(requests)

    def _new_requests(self) -> list[Request]:
        """Requests to admit now; all share the batch's solver and step count."""
        found: list[Request] = []
        key = self.batch.rows[0].request.options.batch_key if self.batch is not None else None
        while len(self.numbers) + len(found) < self.size:
            request, self.waiting = self.waiting or self.take(), None
            if request is None:
                break
            key = key or request.options.batch_key
            if request.options.batch_key != key:
                self.waiting = request
                break
            found.append(request)
        return found

    def _decoded(self, request: Request) -> list:
        """State of the AudioVAE's stream after the audio that the speech continues."""
        vae, context = self.model.audio_vae, request.prompt.context
        cache = vae.make_cache()
        if context is not None:
            vae.decode(context.reshape(1, -1, context.shape[-1]), cache=cache)
        return cache
