"""The sound of an answer: bytes of a file, or events, as the model speaks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import numpy as np

from ..audio.encoding import StreamEncoder, encode_whole
from ..long_form.cues import Cue, cues_of
from ..long_form.subtitles import subtitles
from ..speech.results import FinishReason
from .records import RequestRecord
from .request import SpeechRequest
from .streams import SpeechError, SpeechStream
from .tasks import SpeechAudio

_CHEAP = ("wav", "pcm")
"""Formats that are encoded faster than another thread is asked to."""


class Speaker:
    """Reads a stream of speech and encodes it; knows what is to be said of it at its end."""

    def __init__(self, request: SpeechRequest, stream: SpeechStream, rate: int):
        self.request, self.rate = request, rate
        self.encoder = StreamEncoder(request.format_name, rate)
        self.finish_reason: FinishReason | None = None
        self.guards: list[str] = []
        self.warnings: list[str] = []
        """Messages of what the voice leaves out of the text."""
        self.patches = 0
        self.cues: list[Cue] = []
        self.on_part: Callable[[str], Awaitable[None]] | None = None
        """Called with the text of each segment that has been spoken."""
        self._stream = stream
        self._first: SpeechAudio | None = None
        self._segment: list[np.ndarray] = []
        self._start = 0.0

    async def begin(self) -> None:
        """Wait for the first sound, or all of it. Raises what went wrong in the model's thread."""
        if self.request.is_stream:
            self._first = await anext(self._stream, None)
            if self._first is None:
                raise SpeechError("the speech was stopped")
        else:
            whole = [each async for each in self._read()]
            audio = np.concatenate([each.audio for each in whole])
            self._first = SpeechAudio(audio, None, self.finish_reason)

    async def files(self, record: RequestRecord) -> AsyncIterator[bytes]:
        """Bytes of the file, after `begin`."""
        if not self.request.is_stream:
            record.count(len(self._first.audio) / self.rate)
            yield await asyncio.to_thread(
                encode_whole, self._first.audio, self.rate, self.request.format_name
            )
            return
        async for each in self._read():
            is_last = each.finish_reason is not None
            if self.request.format_name in _CHEAP:
                data = self.encoder.write(each.audio, is_last)
            else:
                data = await asyncio.to_thread(self.encoder.write, each.audio, is_last)
            record.count(len(each.audio) / self.rate)
            if data:
                yield data

    async def _read(self) -> AsyncIterator[SpeechAudio]:
        if self._first is not None:
            await self._take(self._first)
            yield self._first
        async for each in self._stream:
            await self._take(each)
            yield each
        if self.finish_reason is None:
            raise SpeechError("the speech was stopped")

    async def _take(self, each: SpeechAudio) -> None:
        """Note what is said of the sound."""
        self.finish_reason = each.finish_reason or self.finish_reason
        if self.request.subtitles:
            self._segment.append(each.audio)
        if each.part is not None:
            self.patches += each.part.patches
            self.guards += each.part.guards
            if self.on_part is not None:
                await self.on_part(each.part.text)
        if self.request.subtitles and (each.part is not None or each.is_pause):
            await self._add_cues(each)

    async def _add_cues(self, each: SpeechAudio) -> None:
        """Cues of a segment that has ended, or the time of a silence."""
        audio, self._segment = np.concatenate(self._segment), []
        if each.part is not None:
            speech = audio[: round(each.part.seconds * self.rate)]
            self.cues += await asyncio.to_thread(
                cues_of,
                each.part.text,
                speech,
                self.rate,
                self._start,
                language=self.request.long_form.language,
                speaker=each.part.speaker if self.request.shows_speakers else "",
            )
        self._start += len(audio) / self.rate

    def subtitles(self) -> str | None:
        """The subtitles asked for, at the end."""
        name = self.request.subtitles
        return subtitles(self.cues, f".{name}") if name else None

    def headers(self, record: RequestRecord) -> dict[str, str]:
        """What is known before the first byte is sent."""
        request = self.request
        found = {"X-Request-Id": record.id, "X-Seed": str(request.options.seed)}
        if request.ignored:
            found["X-Ignored-Fields"] = in_header(", ".join(request.ignored))
        if self.warnings:
            found["X-Warnings"] = in_header(" | ".join(self.warnings))
        if request.is_stream:
            found["X-Retries"] = "none, since the sound is sent as it is made"
        if request.subtitles:
            found["X-Subtitles"] = f"/v1/audio/speech/{record.id}/subtitles"
        if self.finish_reason not in (None, "stop"):
            found["X-Finish-Reason"] = self.finish_reason
        if self.guards:
            found["X-Guards"] = in_header("; ".join(self.guards))
        return found


def in_header(text: str) -> str:
    """Text that a header can hold: other than printable ASCII is percent-encoded."""
    return quote(text, safe=" !#$&'()*+,/:;=?@[]<>{}|^`\"")[:1000]


async def events(
    files: AsyncIterator[bytes], speaker: Speaker, text_tokens: int
) -> AsyncIterator[bytes]:
    """Server-sent events as OpenAI's service sends them, with "stream_format": "sse"."""
    async for data in files:
        yield event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
    if (content := speaker.subtitles()) is not None:
        yield event(
            {"type": "speech.subtitles", "format": speaker.request.subtitles, "text": content}
        )
    usage = {
        "input_tokens": text_tokens,
        "output_tokens": speaker.patches,
        "total_tokens": text_tokens + speaker.patches,
    }
    yield event(
        {"type": "speech.audio.done", "usage": usage, "finish_reason": speaker.finish_reason}
    )


def event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
