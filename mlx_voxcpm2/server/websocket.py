"""A conversation by WebSocket: text comes piece by piece, and each sentence is spoken at its end.

The client sends JSON: {"type": "start"} with the fields of a request, then {"type": "text", "text":
…} as a language model gives it, {"type": "flush"} to have spoken what there is, {"type": "end"}.
It gets the sound as binary messages, and JSON about it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..errors import shown
from ..schema import parse_json
from ..text.normalization import INSTRUCTION
from ..text.segments import SEGMENT_LENGTH, Segment
from ..text.spoken import has_words, without_instruction
from .access import KEY_PROTOCOL
from .answer import Speaker
from .connection import STALL_SECONDS, Deadline
from .errors import ClientGone, RequestError
from .exchange import Service, refused
from .pieces import Sentences
from .records import RequestRecord
from .request import SpeechRequest

if TYPE_CHECKING:
    from .streams import SpeechStream

logger = logging.getLogger("mlx_voxcpm2")

IDLE_SECONDS = 120.0
"""Time after which a client that sends nothing, and for which nothing is spoken, is given up."""
MAX_MESSAGE_BYTES = 256 * 2**10
MESSAGES = ("start", "text", "flush", "end")


class Conversation:
    """One client's WebSocket."""

    def __init__(self, service: Service, websocket: WebSocket):
        self.service, self.websocket = service, websocket
        self.record = RequestRecord("websocket", format_name="pcm")
        self.unspoken = 0
        """Characters that have come and not been spoken yet."""
        self._fed: deque[int] = deque()
        """For each segment that is not spoken yet, the characters that are spoken with it."""
        self._instruction: str | None = ""
        """A description in parentheses that waits for its text; None once there has been text."""

    async def run(self) -> None:
        """Speak until the client ends the conversation."""
        try:
            with self.service.places:
                await self.websocket.accept(_subprotocol(self.websocket))
                await self._converse()
        except (WebSocketDisconnect, ClientGone):
            self.record.status = 499
        except asyncio.CancelledError:
            self.record.status = 499
            raise
        except Exception as error:
            await self._refuse(error)
        finally:
            self.service.metrics.finish(self.record)

    async def _refuse(self, error: Exception) -> None:
        refusal = refused(error)
        self.record.status = refusal.status
        with suppress(RuntimeError, WebSocketDisconnect, ClientGone):
            if self.websocket.application_state is WebSocketState.CONNECTING:
                await self.websocket.accept()
            await self._send({"type": "error", "error": refusal.body})
            await self.websocket.close(1011 if refusal.status >= 500 else 1008)

    async def _converse(self) -> None:
        first = await self._message()
        begin = {name: each for name, each in first.items() if name != "type"}
        is_start = first["type"] == "start"
        request = self._parsed(begin if is_start else {})
        if request.has_clips:
            rate = self.service.thread.model.clip_encoder.sample_rate
            request = await asyncio.to_thread(request.with_clips_read, rate)
        task = await self.service.task(request, is_open=True)
        async with self.service.thread.speak(task) as stream:
            await self._started(request, self.service.thread.faults(task))
            given = {"type": "text", "text": request.text} if is_start else first
            reader = asyncio.create_task(self._read(request, stream, given))
            writer = asyncio.create_task(self._write(request, stream))
            try:
                await asyncio.wait([reader, writer], return_when=asyncio.FIRST_COMPLETED)
                # A client that leaves when it has all of it has not cancelled anything.
                (writer if writer.done() else reader).result()
            finally:
                reader.cancel()
                writer.cancel()
                await asyncio.gather(reader, writer, return_exceptions=True)
        await self.websocket.close()

    def _parsed(self, fields: dict[str, Any]) -> SpeechRequest:
        given = {"response_format": "pcm", **fields}
        request = SpeechRequest.parse(given, self.service.limits, needs_text=False)
        request = replace(request, is_stream=True, options=request.options.without_retries())
        name = request.voice.voice
        self.record.voice = "clip" if request.has_clips else str(name or "default")
        self.record.format_name = request.format_name
        if not request.has_clips:
            self.service.voices.check_name(name if isinstance(name, str) else None)
        return request

    async def _started(self, request: SpeechRequest, warnings: list[str]) -> None:
        rate = self.service.thread.sample_rate
        begun = {"id": self.record.id, "seed": request.options.seed, "sample_rate": rate}
        ignored = list(request.ignored)
        await self._send({"type": "started", **begun, "ignored_fields": ignored})
        await self._warn(warnings)

    async def _warn(self, warnings: list[str]) -> None:
        for warning in warnings:
            await self._send({"type": "warning", "message": warning})

    async def _read(
        self, request: SpeechRequest, stream: SpeechStream, message: dict[str, Any]
    ) -> None:
        """Feed the stream with the client's text until it ends; then wait for it to leave."""
        longest = min(2 * SEGMENT_LENGTH, self.service.limits.text_length // 2)
        text = Sentences(request.long_form.language, longest)
        while message["type"] != "end":
            complete = ""
            if message["type"] == "text":
                complete = text.add(self._piece(message))
            elif message["type"] == "flush":
                complete = text.flush()
            else:
                raise ValueError("the conversation has been started; send text, flush or end")
            await self._feed(request, stream, complete)
            message = await self._message()
        await self._feed(request, stream, text.flush())
        stream.end()
        while True:  # a disconnect raises; what else comes after the end has no meaning
            with suppress(KeyError):  # a binary message
                await self.websocket.receive_text()

    def _piece(self, message: dict[str, Any]) -> str:
        piece = message.get("text")
        if not isinstance(piece, str):
            what = "missing" if piece is None else shown(piece)
            raise ValueError(f"text is {what}; send the next piece of the text")
        self.unspoken += len(piece)
        self.record.characters += len(piece)
        if self.unspoken > self.service.limits.text_length:
            raise ValueError(
                f"{self.unspoken} characters wait to be spoken, {self.service.limits.text_length} "
                "is the limit here; send the text more slowly"
            )
        return piece

    async def _feed(self, request: SpeechRequest, stream: SpeechStream, text: str) -> None:
        length = len(text)
        text = self._text_of(text)
        segments: Sequence[Segment] = ()
        if has_words(text):
            builder = self.service.thread.model.request_builder
            segments = await asyncio.to_thread(request.segments, text.strip())
            await self._warn(builder.faults(segments, []))
            segments = builder.readable(segments, is_all=False)
        if with_words := sum(bool(segment.text) for segment in segments):
            self._fed += [*[0] * (with_words - 1), length]
        else:
            self.unspoken -= length
        stream.feed(segments)

    def _text_of(self, text: str) -> str:
        """The next text to speak. Only the first of a conversation may begin with an instruction.

        An instruction that comes alone stays in front of the text after it.
        """
        if self._instruction is None:
            return without_instruction(text)
        text = self._instruction + text
        if has_words(text):
            self._instruction = None
        elif found := INSTRUCTION.match(text):
            self._instruction = found.group()
        return text

    async def _write(self, request: SpeechRequest, stream: SpeechStream) -> None:
        """Send the sound, and what has been spoken."""
        speaker = Speaker(request, stream, self.service.thread.sample_rate)
        speaker.on_part = self._spoken
        await speaker.begin()
        async for data in speaker.files(self.record):
            with Deadline(STALL_SECONDS):
                await self.websocket.send_bytes(data)
        if (content := speaker.subtitles()) is not None:
            await self._send({"type": "subtitles", "format": request.subtitles, "text": content})
        self.record.finish_reason = speaker.finish_reason or ""
        await self._send({"type": "done", "finish_reason": speaker.finish_reason})

    async def _spoken(self, text: str) -> None:
        self.unspoken -= self._fed.popleft()
        await self._send({"type": "spoken", "text": text})

    async def _message(self) -> dict[str, Any]:
        """The client's next message. Raises ValueError for another, RequestError for silence."""
        try:
            received = await self._received()
        except KeyError:
            raise ValueError("a message is binary; send JSON") from None
        try:
            message = parse_json(received)
        except ValueError as error:
            raise ValueError(f"a message is not JSON ({error}); send objects") from None
        if not isinstance(message, dict) or message.get("type") is None:
            raise ValueError(f"a message has no type; it must be one of {', '.join(MESSAGES)}")
        if message["type"] not in MESSAGES:
            raise ValueError(
                f"type is {shown(message['type'])}; it must be one of {', '.join(MESSAGES)}"
            )
        return message

    async def _received(self) -> str:
        receiving = asyncio.ensure_future(self.websocket.receive_text())
        try:
            while not (await asyncio.wait({receiving}, timeout=IDLE_SECONDS))[0]:
                if not self._fed:
                    seconds = f"{IDLE_SECONDS:g} seconds"
                    raise RequestError(408, f"nothing came for {seconds}; send text, or end")
            return receiving.result()
        finally:
            receiving.cancel()

    async def _send(self, message: dict[str, Any]) -> None:
        with Deadline(STALL_SECONDS):
            await self.websocket.send_json(message)


def _subprotocol(websocket: WebSocket) -> str | None:
    """The protocol that is accepted: the first that the client offers, but for its key."""
    offered = websocket.scope.get("subprotocols") or []
    return next((each for each in offered if not each.startswith(KEY_PROTOCOL)), None)
