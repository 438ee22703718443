"""Saved voices on the page: listed, heard, kept, renamed, deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..audio.encoding import encode_whole
from ..voices.folder import (
    check_new_voice,
    list_voices,
    read_voice_file,
    remove_voice,
    rename_voice,
    voice_file,
    voice_files,
)
from .answers import answering, sound
from .inputs import FieldError, VoiceChoice, in_plain_words, new_voice_name

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from .bodies import PageBodies
    from .speaker import Speaker
    from .visitors import Visitor


class VoiceRoutes:
    """Routes of saved voices. visitor: the visitor of a request."""

    def __init__(self, speaker: Speaker, bodies: PageBodies, visitor: Callable[[Request], Visitor]):
        self.speaker, self.bodies, self.visitor = speaker, bodies, visitor

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
        samples, rate = await self.speaker.sound_of_voice(name), self.speaker.thread.sample_rate
        return sound(await run_in_threadpool(encode_whole, samples, rate, "wav"))

    @answering
    async def keep(self, request: Request) -> Response:
        """Save the voice of a take, or of the clips of a voice choice, by a name."""
        visitor = self.visitor(request)
        body = await self._object(request)
        name = free_name(body.get("name"))
        if "take" in body:
            take = visitor.takes[str(body["take"])]
            if take.request.mode == "dialogue":
                raise FieldError("", "a dialogue has several voices; keep that of a single one")
            voice = await self.speaker.voice_of_take(take)
            notes: tuple[str, ...] = ()
        else:
            choice = VoiceChoice.parse(body.get("voice"))
            if choice.kind != "clip":
                raise FieldError("", "only the voice of a clip or of a take can be kept")
            voice, notes = await self.speaker.voice_of_clip(choice.inputs(visitor.clip))
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


_TEXTS = {"description": "description", "words": "prompt_text"}


def described_voices() -> list[dict[str, Any]]:
    """Saved voices for the page, sorted by name; one that can't be read has an error."""
    found: list[dict[str, Any]] = []
    for file in voice_files():
        try:
            tensors, data = read_voice_file(file)
            patches = len(tensors.get("reference", tensors.get("prompt", ())))
            seconds = round(patches * float(data.get("patch_seconds", "nan")) * 10) / 10
        except (ValueError, OSError):
            found.append({"name": file.stem, "error": "This voice can't be read."})
            continue
        described = {
            "description": data.get("description", ""),
            "words": data.get("prompt_text", ""),
        }
        found.append({"name": file.stem, "seconds": round(seconds, 1), **described})
    return found
