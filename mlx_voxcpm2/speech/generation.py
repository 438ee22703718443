"""From requests to speech: patches -> streams of sound -> results.

Upstream: core.py (`_generate`), model/voxcpm2.py (`_generate_with_prompt_cache`).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from .batch import Request
from .guards import Ear, Trimmer, deeds
from .results import GenerationResult, Stopwatch
from .scheduler import Piece, Streams

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model

logger = logging.getLogger("mlx_voxcpm2")

# Upstream's rule for speech that is absurdly long for its text, and ours for what it sounds like.
ATTEMPTS = 3

Progress = Callable[[float], None] | None


def stream_audio(
    model: VoxCPM2Model,
    requests: Iterable[Request],
    closed: threading.Event | None = None,
    batch_size: int = sys.maxsize,
) -> Iterator[list[Piece]]:
    """Yields, patch by patch, of each request that speaks: its number, the sound (samples,) and
    beside the last one why it ends ("stop", "length", "silence"), else None.

    The first `batch_size` of them speak at once; as they end, others are taken. What is yielded is
    submitted to the device, but not waited for. After `closed` is set nothing more is drawn.
    """
    requests = iter(requests)
    return Streams(model, lambda: next(requests, None), batch_size).pieces(closed)


def stream_results(
    model: VoxCPM2Model,
    requests: Iterable[Request],
    closed: threading.Event,
    progress: Progress = None,
    spent: float = 0,
) -> Generator[GenerationResult, None, None]:
    """Of one request: a result per patch, as soon as it can be heard.

    Where silence is trimmed, it comes with the patch that ends it, or not at all.
    """
    watch, samples, patches = Stopwatch(model.sample_rate, spent), 0, 0
    (request,) = requests
    trimmer = Trimmer(model.sample_rate) if request.options.trim_silence else None
    for ((_, audio, reason),) in stream_audio(model, [request], closed):
        mx.eval(audio)
        samples, patches = samples + audio.shape[0], patches + 1
        if progress is not None:
            progress(samples / model.sample_rate)
        if trimmer is not None:
            audio = mx.array(trimmer.take(np.array(audio), reason is not None))
            if not audio.shape[0]:
                continue
        yield watch.result(
            audio, patches, is_streaming_chunk=True, is_final_chunk=reason is not None,
            seed=request.options.seed, finish_reason=reason,
            guards=deeds(request.options, reason, trimmer) if reason is not None else (),
        )  # fmt: skip
        patches = 0
        watch.go_on()


@dataclass
class Take:
    """One attempt at a request."""

    index: int
    """Of the request among all."""
    request: Request
    watch: Stopwatch
    attempt: int = 1
    pieces: list[np.ndarray] = field(default_factory=list)
    """Copies (samples,), since an array of MLX would keep the sound of the other rows too."""
    guards: tuple[str, ...] = ()
    """What came of the attempts before."""

    def fault(self, reason: str) -> str | None:
        """What is wrong with it and might be better in another attempt: what its seed gave."""
        request = self.request
        if request.noise is not None:
            return None  # every attempt would be the same
        if request.options.retry_badcase is not False and request.is_too_long(len(self.pieces)):
            return f"{len(self.pieces)} patches for {request.text_tokens} tokens of text"
        if request.options.retry_by_ear is False:
            return None
        ear = Ear(self.watch.sample_rate)
        ear.hear(np.concatenate(self.pieces))
        return ear.fault(request.letters, reason)

    def next(self, fault: str) -> Take:
        seed = self.request.options.seed
        logger.warning("seed %d gave %s; speaking again with the next seed", seed, fault)
        request = replace(self.request, options=self.request.options.next_seed())
        done = (*self.guards, f"retry: seed {seed} gave {fault}")
        return Take(self.index, request, self.watch, self.attempt + 1, guards=done)

    def result(self, reason: str, fault: str | None) -> GenerationResult:
        options, pieces, trimmer = self.request.options, self.pieces, None
        if options.trim_silence:
            trimmer = Trimmer(self.watch.sample_rate)
            last = len(pieces) - 1
            pieces = [trimmer.take(piece, index == last) for index, piece in enumerate(pieces)]
        gave_up = [] if fault is None else [f"gave up: seed {options.seed} gave {fault}"]
        return self.watch.result(
            mx.array(np.concatenate(pieces)), len(pieces), is_final_chunk=True,
            sequence_idx=self.index, seed=options.seed, finish_reason=reason,
            guards=(*self.guards, *gave_up, *deeds(options, reason, trimmer)),
        )  # fmt: skip


class Takes:
    """Those who speak, by number, and who comes next: first whoever has to speak again."""

    def __init__(self, requests: Iterable[Request], sample_rate: int, spent: float):
        self.requests, self.sample_rate, self.spent = enumerate(requests), sample_rate, spent
        self.speaking: dict[int, Take] = {}
        self.again: list[Take] = []
        self.count = 0
        self.error: Exception | None = None
        """What taking the next request raised; it waits until the others have spoken."""

    def next(self) -> Request | None:
        take = self.again.pop(0) if self.again else self._fresh()
        if take is None:
            return None
        self.speaking[self.count] = take
        self.count += 1
        return take.request

    def _fresh(self) -> Take | None:
        if self.error is not None:
            return None
        watch = Stopwatch(self.sample_rate, self.spent)
        try:
            entry = next(self.requests, None)
        except Exception as error:
            self.error = error
            return None
        return None if entry is None else Take(*entry, watch)


def whole_results(
    model: VoxCPM2Model,
    requests: Iterable[Request],
    closed: threading.Event,
    progress: Progress = None,
    spent: float = 0,
    batch_size: int = 1,
) -> Generator[GenerationResult, None, None]:
    """One result per request, a joined stream, in the order in which they end.

    It is drawn again with the next seed while something is wrong with it. `progress` is told the
    seconds of speech of all that is or was spoken; `spent` are those that the request took before.
    """
    takes, finished = Takes(requests, model.sample_rate, spent), 0
    seconds = model.patch_samples / model.sample_rate
    for pieces in Streams(model, takes.next, batch_size).pieces(closed):
        for number, sound, _ in pieces:
            takes.speaking[number].pieces.append(np.array(sound))
        if progress is not None:
            patches = finished + sum(len(take.pieces) for take in takes.speaking.values())
            progress(patches * seconds)
        if closed.is_set():
            return
        for number, reason in [(number, reason) for number, _, reason in pieces if reason]:
            take = takes.speaking.pop(number)
            fault = take.fault(reason)
            if fault is not None and take.attempt < ATTEMPTS:
                takes.again.append(take.next(fault))
                continue
            finished += len(take.pieces)
            yield take.result(reason, fault)
    if takes.error is not None:
        raise takes.error
