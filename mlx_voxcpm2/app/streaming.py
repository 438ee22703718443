"""Speech sent to the browser while it is generated: lines of JSON in one response.

The response to the request for speech is the stream, so it ends when its reader leaves, and the
work with it. Nothing here waits in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from .progress import fraction_done, remaining_seconds

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from .worker import SpeechJob

REFRESH = 0.25  # seconds between two lines of progress
STALL_SECONDS = 20.0
"""A reader that takes nothing for so long is cut off."""
MOST_UNSENT = 8 * 2**20
"""Bytes of audio that wait for a slow reader; what comes then is only in the finished take."""


class AudioQueue:
    """Audio from the model's thread to the event loop. Made in the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: list[bytes] = []
        self._unsent = 0
        self._news = asyncio.Event()

    def write(self, samples: np.ndarray) -> None:
        """Add float32 samples (L,), nominally -1..1. For any thread."""
        data = (samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes()
        self._call(lambda: self._add(data))

    def wake(self) -> None:
        """End the wait of `take`. For any thread."""
        self._call(self._news.set)

    async def take(self, seconds: float) -> list[bytes]:
        """Chunks so far; waits for one, but no longer than this."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except asyncio.TimeoutError:
            pass
        self._news.clear()
        chunks, self._chunks, self._unsent = self._chunks, [], 0
        return chunks

    def _add(self, data: bytes) -> None:
        if self._unsent + len(data) <= MOST_UNSENT:
            self._chunks.append(data)
            self._unsent += len(data)
            self._news.set()

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the server has ended
            pass


async def speech_lines(
    job: SpeechJob, queue: AudioQueue, finish: Callable[[], dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    """Yields progress, audio as base64 of 16-bit samples, and at the end what `finish` returns."""
    assert job.future is not None
    job.future.add_done_callback(lambda _: queue.wake())
    yield {"type": "job", "id": job.id}
    shown = 0.0
    while True:
        is_last = job.future.done()
        for chunk in await queue.take(0 if is_last else REFRESH):
            yield {"type": "audio", "pcm": base64.b64encode(chunk).decode()}
        if is_last:
            break
        if time.monotonic() - shown >= REFRESH:
            shown = time.monotonic()
            yield progress_line(job, shown)
    yield finish()


def progress_line(job: SpeechJob, now: float) -> dict[str, Any]:
    if job.began is None:
        return {"type": "progress", "state": "waiting"}
    elapsed = now - job.began
    remaining = remaining_seconds(job.seconds, job.expected_seconds, elapsed)
    return {
        "type": "progress",
        "state": "speaking",
        "seconds": round(job.seconds, 2),
        "elapsed": round(elapsed, 1),
        "remaining": None if remaining is None else round(remaining, 1),
        "done": round(fraction_done(job.seconds, job.expected_seconds), 3),
    }


class LineStream(Response):
    """Response of JSON lines. It ends with its lines, or when its reader leaves or stalls."""

    def __init__(self, lines: AsyncIterator[dict[str, Any]], on_end: Callable[[], None]):
        super().__init__(media_type="application/x-ndjson")
        self.lines, self.on_end = lines, on_end
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.ensure_future(self._send(send)), asyncio.ensure_future(left(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failed = tasks[0].done() and tasks[0].exception()
            if failed and not isinstance(failed, OSError | asyncio.TimeoutError):
                raise failed
        finally:
            self.on_end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        head = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await asyncio.wait_for(send(head), STALL_SECONDS)
        async for line in self.lines:
            body = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            part = {"type": "http.response.body", "body": body, "more_body": True}
            await asyncio.wait_for(send(part), STALL_SECONDS)
        end = {"type": "http.response.body", "body": b"", "more_body": False}
        await asyncio.wait_for(send(end), STALL_SECONDS)


async def left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
