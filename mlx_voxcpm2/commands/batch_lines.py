"""What `batch` is asked to speak: a file of JSON lines or of texts, read and checked.

Each object has a `text` and may have what `FIELDS` lists: a name for its sound (`output`, a path
below the folder of the outputs, or `id`), a voice, and options of its own.
"""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import dataclass, fields
from pathlib import Path, PurePath

from ..audio.writing import output_format
from ..errors import one_line
from ..files import numbered_lines
from ..speech.options import GenerationOptions
from ..text.spoken import spoken_text
from ..voices.folder import SUFFIX, existing_voice
from ..voices.inputs import VoiceInputs

CLIPS = {"ref_audio": "right", "prompt_audio": "left"}
"""With the side on which each is filled up."""
VOICE = ("instruct", "voice", *CLIPS, "prompt_text")
OPTIONS = tuple(field.name for field in fields(GenerationOptions))
FIELDS = ("text", "id", "output", *VOICE, *OPTIONS)
# Of 255 that file systems allow; an unfinished file's name is longer than that of the whole.
NAME_BYTES = 200


@dataclass(frozen=True)
class Line:
    """What one line asks for. Its clips are there, or so its author says; its voice is."""

    number: int
    """In the file, from 1."""
    output: PurePath
    """Below the folder of the outputs."""
    text: str
    options: GenerationOptions
    instruct: str | None = None
    voice: Path | None = None
    """The file of a kept one."""
    ref_audio: Path | None = None
    prompt_audio: Path | None = None
    prompt_text: str | None = None
    id: str | None = None

    @property
    def sources(self) -> dict[str, Path]:
        """The files that its voice comes from."""
        names = "voice", *CLIPS
        return {name: path for name in names if (path := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Problem:
    number: int
    message: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.message}"


def read_lines(
    path: str | os.PathLike, defaults: dict[str, object], suffix: str
) -> tuple[list[Line], list[Problem], set[str]]:
    """The good lines, what is wrong with the others, and the fields that have no use.

    A `.txt` file holds a text per line, any other a JSON object. defaults: for the fields of VOICE
    and OPTIONS that a line does not have. suffix: of outputs that are given without. A relative
    clip starts from the file's folder or, where nothing is there, from the working directory.

    Raises FileNotFoundError, ValueError or another OSError for what is no file of lines.
    """
    path = Path(os.path.expanduser(path))
    lines, problems, unused = [], [], set()
    taken: dict[str, int] = {}
    for number, data in numbered_lines(path):
        try:
            entry = {"text": _decoded(data)} if path.suffix.lower() == ".txt" else _entry(data)
            unused |= entry.keys() - set(FIELDS)
            line = _line(number, entry, defaults, suffix, path.parent)
            _claim(line, taken)
        except ValueError as error:
            problems.append(Problem(number, str(error)))
        else:
            lines.append(line)
    if not lines and not problems:
        raise ValueError(f"{path}: there is nothing in it; write one JSON object per text")
    return lines, problems, unused


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text; save the file as UTF-8") from None


def _entry(data: bytes) -> dict:
    try:
        entry = json.loads(_decoded(data))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({one_line(error)}); write one object per line") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deeply; write one object per line") from None
    if not isinstance(entry, dict):
        raise ValueError(f"JSON of type {type(entry).__name__}; write one object per line")
    return {field: value for field, value in entry.items() if value is not None}


def _line(number: int, entry: dict, defaults: dict, suffix: str, folder: Path) -> Line:
    if "text" not in entry:
        raise ValueError("text is missing; every line needs one")
    own = {name: entry[name] for name in (*VOICE, *OPTIONS) if name in entry}
    given = _defaults_beside(own, defaults) | own
    for name in ("text", *VOICE):
        if name in entry:
            _check_text(name, entry[name])
    voice = {name: given[name] for name in VOICE if name in given}
    spoken_text(entry["text"], voice.get("instruct"))
    VoiceInputs(**voice)  # raises what can't be combined
    if "voice" in voice:
        voice["voice"] = _kept_voice(voice["voice"], folder if "voice" in entry else Path())
    for name in CLIPS:
        if name in entry:
            voice[name] = _clip(entry[name], folder)
        elif name in voice:
            voice[name] = Path(os.path.expanduser(voice[name]))
    options = GenerationOptions(**{name: given[name] for name in OPTIONS if name in given})
    output = _output(number, entry, suffix)
    name = str(entry["id"]) if "id" in entry else None
    return Line(number, output, entry["text"], options, **voice, id=name)


def _defaults_beside(own: dict, defaults: dict) -> dict:
    """Those that apply: a voice of the line's own replaces clips, its own clips a voice."""
    clips = {*CLIPS, "prompt_text"}
    replaced = clips if "voice" in own else {"voice"} if clips & own.keys() else set()
    return {
        name: value
        for name, value in defaults.items()
        if value is not None and name not in replaced
    }


def _kept_voice(value: str, folder: Path) -> Path:
    is_path = value.lower().endswith(SUFFIX)
    try:
        return existing_voice(_clip(value, folder) if is_path else value)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} is of type {type(value).__name__}; it must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half of a surrogate pair; write it as UTF-8") from None


def _clip(value: str, folder: Path) -> Path:
    path = folder / os.path.expanduser(value)
    return Path(value) if not os.path.exists(path) and os.path.exists(value) else path


def _output(number: int, entry: dict, suffix: str) -> PurePath:
    """`output`, or `id` and the suffix, or the number and the suffix, if that is a safe path."""
    field = "output" if "output" in entry else "id"
    value = entry.get(field, f"{number:05d}")
    if field == "id" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    _check_text(field, value)
    output = PurePath(value)
    # A drive or a backslash would mean something else on another system.
    if not value.isprintable() or "\\" in value or ":" in value:
        raise ValueError(f"{field} {value!r} holds characters that no file name should; leave out")
    if output.is_absolute() or ".." in output.parts:
        raise ValueError(f"{field} {value!r} leads out of the output folder; give a name in it")
    if not output.name or value.endswith("/"):
        raise ValueError(f"{field} {value!r} is no name of a file; give one")
    if field == "output" and output.suffix:
        output_format(output)
    else:
        output = output.with_name(output.name + suffix)
    if max(len(part.encode()) for part in output.parts) > NAME_BYTES:
        raise ValueError(f"{field} is longer than {NAME_BYTES} bytes; shorten it")
    return output


def _claim(line: Line, taken: dict[str, int]) -> None:
    """Raises ValueError if another line writes there, also where a disk knows no capitals."""
    name = unicodedata.normalize("NFC", line.output.as_posix()).casefold()
    folders = [f"{folder}/" for folder in PurePath(name).parents][:-1]
    # A folder may be shared, but not with a file; a file with nothing.
    for other in (name, f"{name}/", *(folder[:-1] for folder in folders)):
        if other in taken:
            raise ValueError(
                f"output {str(line.output)!r} and that of line {taken[other]} can't both be there; "
                "rename one"
            )
    for own in (name, *folders):
        taken.setdefault(own, line.number)
