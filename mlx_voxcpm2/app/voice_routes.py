"""Saved voices on the page: listed, heard, kept, renamed, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..audio.encoding import encode_whole
from ..voices.folder import (
    check_new_voice,
    list_voices,
    remove_voice,
    rename_voice,
    voice_file,
    voice_files,
)
from ..voices.saved import Voice
from .answers import answering, sound
from .inputs import FieldError, VoiceChoice, in_plain_words, new_voice_name

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from .bodies import Bodies
    from .visitors import Visitor
    from .worker import SpeechWorker


class VoiceRoutes:
    """Routes of saved voices. visitor: the visitor of a request."""

    def __init__(self, worker: SpeechWorker, bodies: Bodies, visitor: Callable[[Request], Visitor]):
        self.worker, self.bodies, self.visitor = worker, bodies, visitor

    def routes(self) -> list[Route]:
        return [
            Route("/page/voices", self.list, methods=["GET"]),
            Route("/page/voices", self.keep, methods=["POST"]),
            Route("/page/voices/{name}", self.rename, methods=["PATCH"]),
            Route("/page/voices/{name}", self.delete, methods=["DELETE"]),
            Route("/page/voices/{name}/sound", self.hear),
        ]

    @answering
    async def list(self, request: Request) -> Response:
        self.visitor(request)
        return JSONResponse(await run_in_threadpool(described_voices))

    @answering
    async def hear(self, request: Request) -> Response:
        """The clip of a voice, as the model hears it."""
        self.visitor(request)
        name = saved_name(request.path_params["name"])
        worker = self.worker
        samples = await asyncio.wrap_future(worker.run(lambda: worker.sound_of_voice(name)))
        return sound(await run_in_threadpool(encode_whole, samples, worker.sample_rate, "wav"))

    @answering
    async def keep(self, request: Request) -> Response:
        """Save the voice of a take, or of the clips of a voice choice, by a name."""
        visitor = self.visitor(request)
        body = await self._object(request)
        name = free_name(body.get("name"))
        worker = self.worker
        if "take" in body:
            take = visitor.takes[str(body["take"])]
            voice = await asyncio.wrap_future(worker.run(lambda: worker.voice_of_take(take)))
            notes: tuple[str, ...] = ()
        else:
            choice = VoiceChoice.parse(body.get("voice"))
            if choice.kind != "clip":
                raise FieldError("", "only the voice of a clip or of a take can be kept")
            inputs = choice.inputs(visitor.clip)
            made = worker.run(lambda: worker.voice_of_clip(inputs))
            voice, notes = await asyncio.wrap_future(made)
        await run_in_threadpool(named_errors, lambda: voice.save(name))
        return JSONResponse({"name": name, "notes": [in_plain_words(note) for note in notes]})

    @answering
    async def rename(self, request: Request) -> Response:
        self.visitor(request)
        name = saved_name(request.path_params["name"])
        new_name = new_voice_name((await self._object(request)).get("name"))
        if new_name != name:
            await run_in_threadpool(named_errors, lambda: rename_voice(name, new_name))
        return JSONResponse({"name": new_name})

    @answering
    async def delete(self, request: Request) -> Response:
        self.visitor(request)
        name = saved_name(request.path_params["name"])
        await run_in_threadpool(named_errors, lambda: remove_voice(voice_file(name)))
        return JSONResponse({})

    async def _object(self, request: Request) -> Mapping[str, Any]:
        body = await self.bodies.json(request)
        if not isinstance(body, Mapping):
            raise FieldError("", "the body is not a JSON object; reload the page")
        return body


def saved_name(name: str) -> str:
    """Name of a saved voice, never a path. Raises FieldError."""
    if name not in list_voices():
        raise FieldError("voice", f"There is no voice {name[:60]!r} any more.")
    return name


def free_name(given: object) -> str:
    """Name for a voice, checked before the voice is made. Raises FieldError."""
    name = new_voice_name(given)
    named_errors(lambda: check_new_voice(name))
    return name


def named_errors(function: Callable[[], Path | None]) -> None:
    """Call a function that writes a voice. Raises FieldError without paths of this machine."""
    try:
        function()
    except FileExistsError:
        raise FieldError("name", "There is a voice of that name already; choose another.") from None
    except FileNotFoundError:
        raise FieldError("voice", "That voice is not here any more.") from None
    except OSError as error:
        reason = getattr(error, "strerror", None) or "see the terminal"
        raise FieldError("name", f"The folder of voices can't be changed ({reason}).") from error


def described_voices() -> list[dict[str, Any]]:
    """Saved voices for the page, sorted by name; one that can't be read has an error."""
    found: list[dict[str, Any]] = []
    for file in voice_files():
        try:
            voice = Voice.load(file)
        except (ValueError, OSError):
            found.append({"name": file.stem, "error": "This voice can't be read."})
            continue
        found.append(
            {
                "name": voice.name,
                "description": voice.description,
                "words": voice.prompt_text or "",
                "seconds": round(voice.reference_seconds or voice.prompt_seconds, 1),
            }
        )
    return found
