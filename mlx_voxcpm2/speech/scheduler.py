"""Streams of sound that are drawn together: as one ends, the next request takes its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

from .batch import Batch, Request
from .guards import Guard

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model

Piece = tuple[int, mx.array, str | None]
"""Of one request: its number, the sound (samples,), and beside the last one why it ends."""


class Streams:
    """Speaks up to `size` requests at once, each as it would be spoken alone.

    A prompt's last patches are decoded first and not heard, so that the sound goes on from them.
    """

    def __init__(self, model: VoxCPM2Model, take: Callable[[], Request | None], size: int):
        """take: gives the next request, or None if none waits now; they are numbered from 0.

        It is asked whenever there is room. A request with other steps or another solver than those
        who speak waits until they have ended, and whoever comes after it waits too.
        """
        self.model, self.take, self.size = model, take, size
        self.batch: Batch | None = None
        self.numbers: list[int] = []
        """Of the rows."""
        self.guards: dict[int, Guard] = {}
        """By number."""
        self.count = 0
        """How many requests have begun."""
        self.waiting: Request | None = None
        self.cache: list = []
        self.sound: mx.array | None = None
        """Of the patches drawn last, (B, samples)."""

    def pieces(self, closed: threading.Event | None = None) -> Iterator[list[Piece]]:
        """All that is said, patch by patch, until nobody speaks or waits any more."""
        while (pieces := self.step()) or self.batch is not None:
            if pieces:
                yield pieces
            if closed is not None and closed.is_set():
                return

    def step(self) -> list[Piece]:
        """Queues the next patch of every row; gives the sound of the patches before.

        So the device never waits for us. But the first sound is given at once, since whether it is
        the last one needs no reading.
        """
        pieces = self._end()
        begins = self.batch is None
        self._admit()
        if self.batch is None:
            return pieces
        self.sound = self.model.audio_vae.decode(self.batch.draw(), cache=self.cache)
        mx.async_eval(self.sound, self.model.audio_vae.held(self.cache))
        return self._end() if begins and not pieces else pieces

    def cancel(self, number: int) -> None:
        """The request of this number, which has been taken, ends after one patch more at most."""
        if number in self.numbers:
            row = self.batch.rows[self.numbers.index(number)]
            row.request = replace(row.request, limit=row.patches)
        elif self.waiting is not None and number == self.count:
            self.waiting = replace(self.waiting, limit=1)

    def _end(self) -> list[Piece]:
        """The sound of the patches drawn last; the rows that end with it leave."""
        if self.sound is None:
            return []
        reasons = self.batch.end([self.guards[number].reason_to_end() for number in self.numbers])
        pieces = [
            (number, self.guards[number].let_through(sound), reason)
            for number, sound, reason in zip(self.numbers, self.sound, reasons, strict=True)
        ]
        self.sound = None
        going = [index for index, reason in enumerate(reasons) if reason is None]
        if not going:
            self.batch, self.cache = None, []
        elif len(going) < len(reasons):
            self.model.audio_vae.keep(self.cache, going)
            mx.async_eval(self.model.audio_vae.held(self.cache))
        self.numbers = [self.numbers[index] for index in going]
        self.guards = {number: self.guards[number] for number in self.numbers}
        return pieces

    def _admit(self) -> None:
        requests = self._newcomers()
        if not requests:
            return
        if self.count:
            mx.clear_cache()  # what is free has the sizes of other batches, and would pile up
        batch, streams = Batch(self.model, requests), [self._heard(each) for each in requests]
        if self.batch is None:
            self.batch = batch
        else:
            self.batch.join(batch)
            streams.insert(0, self.cache)
        self.cache = self.model.audio_vae.join_caches(streams)
        for number, request in enumerate(requests, start=self.count):
            self.numbers.append(number)
            self.guards[number] = Guard(request.options, self.model.sample_rate)
        self.count += len(requests)

    def _newcomers(self) -> list[Request]:
        """Who joins now, all of the kind of those who speak."""
        found: list[Request] = []
        kind = self.batch.rows[0].request.options.kind if self.batch is not None else None
        while len(self.numbers) + len(found) < self.size:
            request, self.waiting = self.waiting or self.take(), None
            if request is None:
                break
            kind = kind or request.options.kind
            if request.options.kind != kind:
                self.waiting = request
                break
            found.append(request)
        return found

    def _heard(self, request: Request) -> list:
        """The AudioVAE's stream after what the speech goes on from."""
        vae, context = self.model.audio_vae, request.prompt.context
        cache = vae.make_cache()
        if context is not None:
            vae.decode(context.reshape(1, -1, context.shape[-1]), cache=cache)
        return cache
