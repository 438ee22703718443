"""Speech sent to the browser while it is generated: lines of JSON in one response.

The response to the request for speech is the stream, so it ends when its reader leaves, and the
work with it. Nothing here waits in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ..audio.formats import pcm16
from ..server.connection import Connection
from ..server.errors import ClientGone
from .answers import described
from .progress import fraction_done, remaining_seconds

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from .speaker import SpeechJob
    from .takes import Take

Lines = AsyncGenerator[dict[str, Any], None]

REFRESH = 0.25  # seconds between two lines of progress
HEADERS = {
    "content-type": "application/x-ndjson",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # proxies shall send each line at once
}


async def speech_lines(
    job: SpeechJob, add_take: Callable[[Take], None], has_audio: bool = True
) -> Lines:
    """Yields progress, audio as base64 of 16-bit samples if `has_audio`, and at the end the take,
    an error, or that there is no speech."""
    yield {"type": "job", "id": job.id}
    audio, shown = job.audio(), 0.0
    upcoming = asyncio.ensure_future(anext(audio, None))
    try:
        while True:
            await asyncio.wait([upcoming], timeout=REFRESH)
            if upcoming.done():
                try:
                    samples = upcoming.result()
                except Exception as error:
                    _, message, field = described(error)
                    yield {"type": "error", "message": message, "field": field}
                    return
                if samples is None:
                    break
                upcoming = asyncio.ensure_future(anext(audio, None))
                if has_audio and len(samples):
                    yield {"type": "audio", "pcm": base64.b64encode(pcm16(samples)).decode()}
            if time.monotonic() - shown >= REFRESH:
                shown = time.monotonic()
                yield progress_line(job)
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await audio.aclose()
    if job.take is None:
        yield {"type": "stopped"}
        return
    add_take(job.take)
    yield {"type": "take", "take": job.take.as_json()}


def progress_line(job: SpeechJob) -> dict[str, Any]:
    if not job.has_begun:
        return {"type": "progress", "state": "waiting"}
    elapsed = job.elapsed
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

    def __init__(self, lines: Lines, on_end: Callable[[], None]):
        super().__init__()
        self.lines, self.on_end = lines, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(receive, send)
        try:
            async with connection.watched(), aclosing(self.lines) as lines:
                await connection.start(HEADERS)
                async for line in lines:
                    await connection.send(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                await connection.send(b"", is_last=True)
        except ClientGone:
            pass
        finally:
            self.on_end()
