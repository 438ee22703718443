"""Generation of speech: requests -> patches -> chunks of audio -> results.

Upstream: core.py (`_generate`), model/voxcpm2.py (`_generate_with_prompt_cache`).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from .batch import Request
from .guards import SilenceDetector
from .output_stage import OutputStage
from .results import Chunk, FinishReason, GenerationResult, Stopwatch
from .scheduler import Scheduler

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model

logger = logging.getLogger("mlx_voxcpm2")

ATTEMPTS = 3
"""Upstream's number of attempts at a text whose speech is faulty."""

Progress = Callable[[float], None] | None
"""Called with the seconds of speech so far."""


def stream_audio(
    model: VoxCPM2Model,
    requests: Iterable[Request],
    closed: threading.Event | None = None,
    batch_size: int = sys.maxsize,
) -> Iterator[list[Chunk]]:
    """Chunks of all requests, patch by patch; the first `batch_size` requests are generated at
    once, and as they end, others start.

    The audio is submitted to the device, but not waited for. After `closed` is set nothing more is
    generated.
    """
    requests = iter(requests)
    return Scheduler(model, lambda: next(requests, None), batch_size).chunks(closed)


def stream_results(
    model: VoxCPM2Model,
    requests: Iterable[Request],
    closed: threading.Event,
    progress: Progress = None,
    spent: float = 0,
) -> Generator[GenerationResult, None, None]:
    """A result per patch of a single request, as soon as its audio is final.

    Where silence is trimmed, it comes with the patch that ends it, or not at all. Where it is
    stretched, it comes up to 0.3 s of speech late.
    """
    watch, samples, patches = Stopwatch(model.sample_rate, spent), 0, 0
    (request,) = requests
    stage = OutputStage(request.options, model.sample_rate)
    for (chunk,) in stream_audio(model, [request], closed):
        audio, reason = chunk.audio, chunk.finish_reason
        mx.eval(audio)
        samples, patches = samples + audio.shape[0], patches + 1
        if progress is not None:
            progress(samples / model.sample_rate / request.options.speed)
        final = stage.apply(audio, reason is not None)
        if not final.audio.shape[0]:
            continue
        yield watch.result(
            _array(final.audio),
            patches,
            is_streaming_chunk=True,
            is_final_chunk=reason is not None,
            seed=request.options.seed,
            finish_reason=reason,
            guards=stage.guard_notes(reason) if reason is not None else (),
            unstretched=_array(final.unstretched),
        )
        patches = 0
        watch.resume()


@dataclass
class Attempt:
    """One attempt at a request."""

    index: int
    """Index of the request."""
    request: Request
    watch: Stopwatch
    number: int = 1
    """Number of this attempt, from 1."""
    chunks: list[np.ndarray] = field(default_factory=list)
    """Copies (samples,), since an array of MLX would keep the audio of the other rows too."""
    guards: tuple[str, ...] = ()
    """Notes on the attempts before."""
    generated: int = 0
    """Number of patches so far in a `LiveBatch`, which may hand over chunks as they come."""

    @cached_property
    def stage(self) -> OutputStage:
        return OutputStage(self.request.options, self.watch.sample_rate)

    @property
    def patches(self) -> float:
        """Patches so far, in the time that they last at the speed of the output."""
        return len(self.chunks) / self.request.options.speed

    def fault(self, finish_reason: FinishReason) -> str | None:
        """Description of a fault that another attempt may not have, or None."""
        request = self.request
        if request.noise is not None:
            return None  # every attempt would be the same
        if request.options.retry_badcase is not False and request.is_too_long(len(self.chunks)):
            samples = sum(map(len, self.chunks))
            seconds = samples / self.watch.sample_rate
            tokens = "1 token" if request.text_tokens == 1 else f"{request.text_tokens} tokens"
            return f"{seconds:.1f} s of speech for {tokens} of text"
        if request.options.retry_by_ear is False:
            return None
        detector = SilenceDetector(self.watch.sample_rate)
        detector.update(np.concatenate(self.chunks))
        return detector.fault(request.letters, finish_reason)

    def retry(self, fault: str) -> Attempt | None:
        """The next attempt, with the next seed; None after the last."""
        if self.number >= ATTEMPTS:
            return None
        seed = self.request.options.seed
        logger.warning("seed %d gave %s; generating again with the next seed", seed, fault)
        request = replace(self.request, options=self.request.options.next_seed())
        notes = (*self.guards, f"retry: seed {seed} gave {fault}")
        return Attempt(self.index, request, self.watch, self.number + 1, guards=notes)

    def result(self, finish_reason: FinishReason, fault: str | None) -> GenerationResult:
        options, last = self.request.options, len(self.chunks) - 1
        final = [self.stage.apply(each, index == last) for index, each in enumerate(self.chunks)]
        unstretched = [each.unstretched for each in final if each.unstretched is not None]
        gave_up = [] if fault is None else [f"gave up: seed {options.seed} gave {fault}"]
        return self.watch.result(
            mx.array(np.concatenate([each.audio for each in final])),
            len(final),
            is_final_chunk=True,
            sequence_idx=self.index,
            seed=options.seed,
            finish_reason=finish_reason,
            guards=(*self.guards, *gave_up, *self.stage.guard_notes(finish_reason)),
            unstretched=_array(np.concatenate(unstretched) if unstretched else None),
        )


def _array(audio: Any) -> Any:
    """The audio as MLX's; a copy of what is MLX's already would be evaluated once more."""
    return audio if audio is None or isinstance(audio, mx.array) else mx.array(audio)


class AttemptQueue:
    """Attempts under way, by the scheduler's number, and the next one: retries come first."""

    def __init__(self, requests: Iterable[Request], sample_rate: int, spent: float):
        self.requests, self.sample_rate, self.spent = enumerate(requests), sample_rate, spent
        self.active: dict[int, Attempt] = {}
        self.retries: list[Attempt] = []
        self.count = 0
        self.error: Exception | None = None
        """Error of taking the next request; raised after the others have ended."""

    def next(self) -> Request | None:
        attempt = self.retries.pop(0) if self.retries else self._first_attempt()
        if attempt is None:
            return None
        self.active[self.count] = attempt
        self.count += 1
        return attempt.request

    def _first_attempt(self) -> Attempt | None:
        if self.error is not None:
            return None
        watch = Stopwatch(self.sample_rate, self.spent)
        try:
            entry = next(self.requests, None)
        except Exception as error:
            self.error = error
            return None
        return None if entry is None else Attempt(*entry, watch)


def whole_results(
    model: VoxCPM2Model,
    requests: Iterable[Request],
    closed: threading.Event,
    progress: Progress = None,
    spent: float = 0,
    batch_size: int = 1,
) -> Generator[GenerationResult, None, None]:
    """One result per request, a joined stream, in the order in which they end.

    Faulty speech is generated again with the next seed. `progress` is told the seconds of all
    speech so far; `spent` seconds are added to the time of each request.
    """
    queue, finished = AttemptQueue(requests, model.sample_rate, spent), 0.0
    seconds = model.patch_samples / model.sample_rate
    for chunks in Scheduler(model, queue.next, batch_size).chunks(closed):
        for chunk in chunks:
            queue.active[chunk.number].chunks.append(np.array(chunk.audio))
        if progress is not None:
            patches = finished + sum(attempt.patches for attempt in queue.active.values())
            progress(patches * seconds)
        if closed.is_set():
            return
        for chunk in chunks:
            if chunk.finish_reason is None:
                continue
            attempt = queue.active.pop(chunk.number)
            fault = attempt.fault(chunk.finish_reason)
            if fault is not None and (retry := attempt.retry(fault)):
                queue.retries.append(retry)
                continue
            finished += attempt.patches
            yield attempt.result(chunk.finish_reason, fault)
    if queue.error is not None:
        raise queue.error
