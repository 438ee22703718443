"""Results of generation: chunks, whole utterances, and iterators over them."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mlx.core as mx
import numpy as np

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

FinishReason = Literal["stop", "length", "silence"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Next audio of one of several requests that are generated together."""

    number: int
    """Number of the request."""
    audio: Any
    """float32 (samples,), of MLX or numpy."""
    finish_reason: FinishReason | None = None
    """Why the speech ends, in its last chunk."""
    patches: int = 0
    """Number of patches generated, in the last chunk of a `LiveBatch`."""
    seed: int | None = None
    """Seed of the attempt, in the last chunk of a `LiveBatch`."""
    guards: tuple[str, ...] = ()
    """See `GenerationResult`; in the last chunk of a `LiveBatch`."""
    unstretched: np.ndarray | None = None
    """The speech of the audio before `speed` was applied; None at speed 1."""

    @property
    def audio_as_generated(self) -> Any:
        """Audio at the model's speed, for what learns from it."""
        return self.audio if self.unstretched is None else self.unstretched


@dataclass(frozen=True)
class Take:
    """One of several takes of a text, see `BestOf`."""

    seed: int
    score: float
    """Mean log probability of the text given the sound, or minus the share of wrong characters."""


@dataclass(eq=False)  # arrays have no single truth value
class GenerationResult:
    """A piece of speech: mlx-audio's fields, and what is needed to make it again.

    audio: float32 (samples,), -1..1, on MLX's device; numpy functions take it as it is.
    token_count: patches. real_time_factor: seconds of speech per second of computing; above 1 is
    faster than real time. sequence_idx: index of the request of `generate_batch`, from 0.
    peak_memory_usage: GB. finish_reason: "stop" when the model ended, "length" when a limit did,
    "silence" after too long a silence, None while a stream continues.
    guards: actions against the model's known faults, in order, each as "action: reason", such as
    "retry: seed 7 gave 7.4 s of speech for 5 tokens of text"; of a stream, with its last chunk.
    heard, error_rate: with `verify`, the recogniser's transcript and its word error rate, 0 and
    up, see `verification.error_rate`. score, takes: with `best_of`, the score of this take, and
    seeds and scores of all, see `BestOf`. unstretched: the audio before `speed` was applied; None
    at speed 1.
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
    finish_reason: FinishReason | None = None
    sequence_idx: int = 0
    guards: tuple[str, ...] = ()
    heard: str | None = None
    error_rate: float | None = None
    score: float | None = None
    takes: tuple[Take, ...] = ()
    unstretched: mx.array | None = None

    @property
    def audio_as_generated(self) -> mx.array:
        """Audio at the model's speed: for recognisers, and for voices that are made of it."""
        return self.audio if self.unstretched is None else self.unstretched

    @property
    def duration(self) -> float:
        """Duration of the audio in seconds."""
        return self.samples / self.sample_rate

    def save(self, path: str | Path) -> Path:
        """Write the audio to a file: wav, flac, ogg, opus, mp3 or aiff by its suffix.

        Returns the path. Raises ValueError, FileNotFoundError or OSError, in one line.
        """
        from ..audio.writing import write_audio

        write_audio(path, np.array(self.audio), self.sample_rate)
        return Path(path).expanduser()

    def __repr__(self) -> str:
        end = f", {self.finish_reason}" if self.finish_reason else ""
        return (
            f"GenerationResult({self.duration:.2f} s at {self.sample_rate} Hz, seed {self.seed}"
            f"{end})"
        )


class ResultIterator(Iterator[GenerationResult], AsyncIterator[GenerationResult]):
    """Results of one call, for `for` or `async for`.

    `close()`, from any thread, stops the work within one patch. In `async for` each result is
    computed in a thread of the iterator's own, so that the event loop is not blocked.
    """

    def __init__(self, start: Callable[[threading.Event], Generator[GenerationResult, None, None]]):
        self._closed = threading.Event()
        self._results = start(self._closed)
        self._thread: ThreadPoolExecutor | None = None

    def __next__(self) -> GenerationResult:
        if self._closed.is_set():
            raise StopIteration
        return next(self._results)

    async def __anext__(self) -> GenerationResult:
        if self._closed.is_set():
            raise StopAsyncIteration
        result = await self._in_thread(lambda: next(self, None))
        if result is None:
            self._stop_thread()
            raise StopAsyncIteration
        return result

    async def _in_thread(self, function: Callable):
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "speech")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except BaseException:  # an error, or the task was cancelled
            self.close()
            raise

    def _stop_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False)

    def close(self) -> None:
        self._closed.set()
        self._stop_thread()
        try:
            self._results.close()
        except ValueError:
            pass  # It runs in another thread, which looks at the event after each patch.

    def __enter__(self) -> ResultIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SpeechIterator(ResultIterator):
    """Results of one text. `whole()`, or `await`, gives all of it as one result."""

    def whole(self) -> GenerationResult:
        """Join all results that are left. Raises ValueError if there are none."""
        return joined_results(list(self))

    def __await__(self) -> Generator[object, None, GenerationResult]:
        return self._whole().__await__()

    async def _whole(self) -> GenerationResult:
        try:
            return await self._in_thread(self.whole)
        finally:
            self._stop_thread()


def joined_results(results: Sequence[GenerationResult]) -> GenerationResult:
    """One result for the chunks of a stream."""
    if not results:
        raise ValueError("no audio: the speech was stopped before it began, or was taken before")
    last = results[-1]
    if len(results) == 1:
        return last
    measures = _measures(
        _joined([each.audio for each in results]),
        last.sample_rate,
        sum(each.token_count for each in results),
        sum(each.processing_time_seconds for each in results),
    )
    if last.unstretched is not None:
        measures["unstretched"] = _joined([each.audio_as_generated for each in results])
    return replace(last, **measures, is_streaming_chunk=False)


def _joined(chunks: Sequence[mx.array]) -> mx.array:
    return mx.array(np.concatenate([np.array(chunk) for chunk in chunks]))


def _measures(audio: mx.array, sample_rate: int, tokens: int, elapsed: float) -> dict[str, Any]:
    """Fields of a result that follow from its audio and its computing time in seconds."""
    samples = audio.shape[0]
    seconds = samples / sample_rate
    minutes, rest = divmod(seconds, 60)
    return {
        "audio": audio,
        "samples": samples,
        "token_count": tokens,
        "audio_duration": f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{rest:06.3f}",
        "real_time_factor": seconds / elapsed,
        "prompt": {"tokens": tokens, "tokens-per-sec": round(tokens / elapsed, 2)},
        "audio_samples": {"samples": samples, "samples-per-sec": round(samples / elapsed, 2)},
        "processing_time_seconds": elapsed,
    }


class Stopwatch:
    """Timer of chunks as mlx-audio reports them; runs from the start."""

    def __init__(self, sample_rate: int, spent: float = 0):
        """spent: seconds that the first chunk has taken before."""
        self.sample_rate = sample_rate
        self.start = time.perf_counter() - spent

    def resume(self) -> None:
        """Leave out the time since the last chunk, which its consumer took."""
        self.start = time.perf_counter()

    def result(self, audio: mx.array, tokens: int, **fields: Any) -> GenerationResult:
        """Result of `tokens` patches, (samples,), that took the time since the last one."""
        mx.eval(audio)
        now = time.perf_counter()
        elapsed, self.start = max(now - self.start, 1e-9), now  # a clock may stand still
        return GenerationResult(
            **_measures(audio, self.sample_rate, tokens, elapsed),
            sample_rate=self.sample_rate,
            segment_idx=0,
            peak_memory_usage=mx.get_peak_memory() / 1e9,
            **fields,
        )
