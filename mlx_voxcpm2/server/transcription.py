"""POST /v1/audio/transcriptions: the words of a clip, by a recogniser in a thread of its own.

A form, as OpenAI's service takes it; the answer is whole, or events with the parts of the text.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import Any

import numpy as np
from starlette.datastructures import Headers
from starlette.responses import Response

from ..layers.device import free_streams_at_thread_end
from ..long_form.transcription import RATE, Transcription, transcribe
from ..recognition.protocols import Recogniser
from .answer import event, in_header
from .connection import Connection
from .exchange import Exchange, Service, refused
from .streams import SpeechError
from .transcription_request import TranscriptionRequest, read_form


class RecogniserThread:
    """Recogniser that is loaded and run in one thread, so that speech goes on meanwhile."""

    def __init__(self, load: Callable[[], Recogniser]):
        """Raises what `load` raises."""
        self._thread = ThreadPoolExecutor(1, "recogniser", free_streams_at_thread_end)
        self._is_closed = threading.Event()
        self._recogniser = self._thread.submit(load).result()

    async def transcribe(self, audio: bytes | np.ndarray, **options: Any) -> Transcription:
        """Transcript of a file's content, or of audio (samples,) at RATE.

        options and errors: see `transcribe`. A file is decoded in the thread, since the sound of
        all that wait could fill the memory. When this is cancelled or the thread is closed, the
        work ends before the recording's next piece.
        """
        source = audio if isinstance(audio, bytes) else (audio, RATE)
        is_cancelled = threading.Event()

        def check(*_: float) -> None:
            if is_cancelled.is_set() or self._is_closed.is_set():
                raise SpeechError("the transcription was stopped")

        work = partial(transcribe, source, self._recogniser, name="file", progress=check, **options)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            is_cancelled.set()

    def close(self) -> None:
        """End the thread, after the piece that it transcribes; forget those that wait."""
        self._is_closed.set()
        self._thread.shutdown(cancel_futures=True)


class TranscriptionExchange(Exchange):
    """The answer to a request for a transcript."""

    def __init__(self, service: Service, recogniser: RecogniserThread):
        super().__init__(service, "transcription")
        self.recogniser = recogniser

    async def answer(self, headers: Headers, connection: Connection) -> None:
        async with self.service.bodies.read(connection.receive, headers) as body:
            request, clip = await read_form(headers, body)
            del body
        async with connection.watched():
            answer = {"X-Request-Id": self.record.id}
            if request.ignored:
                answer["X-Ignored-Fields"] = in_header(", ".join(request.ignored))
            if request.is_stream:
                async with aclosing(self._events(clip, request)) as parts:
                    async for data in parts:
                        if not connection.has_begun:
                            await connection.start({**answer, "Content-Type": "text/event-stream"})
                        await connection.send(data)
                await connection.send(b"", is_last=True)
                return
            found = await self._transcribed(clip, request)
            response = Response(request.content(found), media_type=request.media_type)
            await connection.start({**answer, **response.headers})
            await connection.send(bytes(response.body), is_last=True)

    async def _transcribed(
        self,
        clip: bytes,
        request: TranscriptionRequest,
        heard: Callable[[str], None] | None = None,
    ) -> Transcription:
        found = await self.recogniser.transcribe(
            clip,
            language=request.language,
            has_times=request.has_segments,
            has_words=request.has_words,
            heard=heard,
        )
        self.record.audio_seconds = found.duration
        self.record.characters = len(found.text)
        return found

    async def _events(self, clip: bytes, request: TranscriptionRequest) -> AsyncIterator[bytes]:
        """Server-sent events as OpenAI's service sends them: parts of the text, and the whole.

        An error is the last event; before the first one it is raised.
        """
        loop, parts = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def put(part: str | None) -> None:
            loop.call_soon_threadsafe(parts.put_nowait, part)

        task = asyncio.create_task(self._transcribed(clip, request, put))
        task.add_done_callback(lambda _: put(None))
        has_begun = False
        try:
            while (part := await parts.get()) is not None:
                has_begun = True
                yield event({"type": "transcript.text.delta", "delta": part})
            found = await task
        except Exception as error:
            if not has_begun:
                raise
            refusal = refused(error)
            self.record.status = refusal.status
            yield event({"type": "error", "error": refusal.body})
            return
        finally:
            task.cancel()
        yield event({"type": "transcript.text.done", "text": found.text})
