"""What a caller gets: pieces of speech, the iterator over them, and their timing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import mlx.core as mx


@dataclass
class GenerationResult:
    """One piece of speech: mlx-audio's fields, and what it takes to make it again.

    audio: float32 (samples,), -1..1, on MLX's device. token_count: patches.
    real_time_factor: seconds of speech per second of computing; above 1 is faster than real time.
    sequence_idx: which of the requests of `generate_batch` it is, from 0.
    peak_memory_usage: GB. finish_reason: "stop" when the model ended, "length" when a limit did,
    "silence" when nothing was heard for too long, None while a stream goes on.
    guards: what was done against the model's known faults, in order, each as "what: why" in words,
    such as "retry: seed 7 gave 46 patches for 5 tokens of text"; of a stream, with its last piece.
    heard, error_rate: with `verify`, what a recogniser understood, and how much of it is wrong,
    0 and up, see `verification.error_rate`.
    """

    audio: mx.array
    samples: int
    sample_rate: int
    segment_idx: int
    token_count: int
    audio_duration: str
    real_time_factor: float
    prompt: dict
    audio_samples: dict
    processing_time_seconds: float
    peak_memory_usage: float
    is_streaming_chunk: bool = False
    is_final_chunk: bool = False
    seed: int | None = None
    finish_reason: str | None = None
    sequence_idx: int = 0
    guards: tuple[str, ...] = ()
    heard: str | None = None
    error_rate: float | None = None


class ResultIterator(Iterator[GenerationResult]):
    """The results of one call. `close()`, from any thread, stops the work within one patch."""

    def __init__(self, start: Callable[[threading.Event], Generator[GenerationResult, None, None]]):
        self._closed = threading.Event()
        self._results = start(self._closed)

    def __next__(self) -> GenerationResult:
        if self._closed.is_set():
            raise StopIteration
        return next(self._results)

    def close(self) -> None:
        self._closed.set()
        try:
            self._results.close()
        except ValueError:
            pass  # It runs in another thread, which looks at the event after each patch.

    def __enter__(self) -> ResultIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stopwatch:
    """Times pieces of speech as mlx-audio reports them; runs from the start."""

    def __init__(self, sample_rate: int, spent: float = 0):
        """`spent`: seconds that went into the first piece before."""
        self.sample_rate = sample_rate
        self.start = time.perf_counter() - spent

    def go_on(self) -> None:
        """Leaves out what passed since the last piece: its listener took that time."""
        self.start = time.perf_counter()

    def result(self, audio: mx.array, tokens: int, **fields: object) -> GenerationResult:
        """The piece (samples,) of `tokens` patches that took the time since the last one."""
        mx.eval(audio)
        now = time.perf_counter()
        elapsed, self.start = max(now - self.start, 1e-9), now  # a clock may stand still
        samples = audio.shape[0]
        seconds = samples / self.sample_rate
        minutes, rest = divmod(seconds, 60)
        return GenerationResult(
            audio=audio,
            samples=samples,
            sample_rate=self.sample_rate,
            segment_idx=0,
            token_count=tokens,
            audio_duration=f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{rest:06.3f}",
            real_time_factor=seconds / elapsed,
            prompt={"tokens": tokens, "tokens-per-sec": round(tokens / elapsed, 2)},
            audio_samples={"samples": samples, "samples-per-sec": round(samples / elapsed, 2)},
            processing_time_seconds=elapsed,
            peak_memory_usage=mx.get_peak_memory() / 1e9,
            **fields,
        )
