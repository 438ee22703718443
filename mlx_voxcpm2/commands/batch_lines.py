"""Lines of a `batch` file, of JSON objects or of texts, read and checked.

Each object has a `text`, or the `script` of a dialogue with its `voices`, and may have the other
`FIELDS`: a name for its audio file (`output`, a path below the folder of the outputs, or `id`), a
voice, and options of its own.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from ..audio.writing import output_format
from ..dialogue.script import Script
from ..documents import numbered_lines
from ..errors import options_spelled
from ..schema import check_integer, parse_json
from ..settings import settings_of
from ..speech.options import GenerationOptions
from ..text.spoken import check_text
from ..voices.folder import SUFFIX, existing_voice
from ..voices.inputs import VOICE_FIELDS, VoiceInputs
from .asr_flags import MOST_TAKES
from .batch_dialogues import DIALOGUE_FIELDS, read_dialogue

CLIPS = tuple(name for name, each in settings_of(VoiceInputs).items() if each.kind == "audio")
SOURCES = (*CLIPS, "voice")
"""Fields that name a file of the voice."""
OPTIONS = tuple(settings_of(GenerationOptions))
FIELDS = ("text", "id", "output", *VOICE_FIELDS, *DIALOGUE_FIELDS, *OPTIONS, "best_of")

# File systems allow 255; the name of an unfinished file is longer than that of the whole.
NAME_BYTES = 200


@dataclass(frozen=True)
class Line:
    """Request of one line. Its saved voice exists; its clips are not checked yet."""

    number: int
    """Line number in the file, from 1."""
    output: PurePath
    """Path below the folder of the outputs."""
    text: str
    voice: VoiceInputs
    """Voice with the paths of its clips, or of its saved voice."""
    options: GenerationOptions
    id: str | None = None
    script: Script | None = None
    """The dialogue of which `text` is the words."""
    voices: Mapping[str, VoiceInputs] = field(default_factory=dict)
    """Voices of its speakers, those that are given."""
    best_of: int = 1
    """Number of takes to choose from."""

    @property
    def sources(self) -> list[tuple[str, Path]]:
        """Files of all voices, each with its field."""
        given = [voice.given() for voice in (self.voice, *self.voices.values())]
        return [(name, each[name]) for each in given for name in SOURCES if name in each]


@dataclass(frozen=True)
class Defaults:
    """Voice and options of lines that have none of their own."""

    voice: Mapping[str, str]
    """Fields of `VoiceInputs`, which each line completes."""
    options: GenerationOptions
    best_of: int = 1


@dataclass(frozen=True)
class Problem:
    """Reason why a line can't be used."""

    number: int
    message: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.message}"


def read_lines(
    path: str | os.PathLike, defaults: Defaults, suffix: str
) -> tuple[list[Line], list[Problem], set[str]]:
    """The usable lines, the problems of the others, and fields that are unknown.

    A `.txt` file holds a text per line, any other a JSON object. suffix: put after outputs without
    one. A relative clip is looked for in the file's folder, then in the working directory.

    Raises FileNotFoundError, ValueError or another OSError for a file that holds no lines.
    """
    path = Path(os.path.expanduser(path))
    lines, problems, unused = [], [], set()
    claimed: dict[str, int] = {}
    for number, data in numbered_lines(path):
        try:
            entry = {"text": _decoded(data)} if path.suffix.lower() == ".txt" else _entry(data)
            unused |= entry.keys() - set(FIELDS)
            with options_spelled():  # they are the line's fields
                line = _line(number, entry, defaults, suffix, path.parent)
            _claim(line, claimed)
        except ValueError as error:
            problems.append(Problem(number, str(error)))
        else:
            lines.append(line)
    if not lines and not problems:
        raise ValueError(f"{path}: the file is empty; write one JSON object per text")
    return lines, problems, unused


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text; save the file as UTF-8") from None


def _entry(data: bytes) -> dict:
    text = _decoded(data)
    try:
        entry = parse_json(text)
    except ValueError as error:
        raise ValueError(f"not JSON ({error}); write one object per line") from None
    if not isinstance(entry, dict):
        raise ValueError(f"JSON of type {type(entry).__name__}; write one object per line")
    return {field: value for field, value in entry.items() if value is not None}


def _line(number: int, entry: dict, defaults: Defaults, suffix: str, folder: Path) -> Line:
    if "text" not in entry and "script" not in entry:
        raise ValueError("text is missing; every line needs one, or the script of a dialogue")
    for name in ("text", "script", *VOICE_FIELDS):
        if name in entry:
            _check_encodable(name, entry[name])
    script, voices = read_dialogue(entry, folder)
    text = entry["text"] if script is None else script.words
    own = {name: entry[name] for name in OPTIONS if name in entry}
    options = replace(defaults.options, **own) if own else defaults.options
    check_text(text, options.normalize)
    voice = _voice(entry, defaults.voice, folder) if script is None else VoiceInputs()
    name = str(entry["id"]) if "id" in entry else None
    best_of = entry.get("best_of", defaults.best_of)
    check_integer("best_of", best_of, 1, MOST_TAKES)
    output = _output(number, entry, suffix)
    return Line(number, output, text, voice, options, name, script, voices, int(best_of))


def _voice(entry: dict, defaults: Mapping[str, str], folder: Path) -> VoiceInputs:
    """The line's voice beside the default one, with paths of the files."""
    own = {name: entry[name] for name in VOICE_FIELDS if name in entry}
    voice = VoiceInputs(**VoiceInputs.beside(own, defaults))  # raises what can't be combined
    files = {}
    for name, value in voice.given().items():
        if name == "voice":
            files[name] = _saved_voice(value, folder if name in own else Path())
        elif name in CLIPS:
            files[name] = _clip(value, folder) if name in own else Path(os.path.expanduser(value))
    return replace(voice, **files)


def _saved_voice(value: str, folder: Path) -> Path:
    is_path = value.lower().endswith(SUFFIX)
    try:
        return existing_voice(_clip(value, folder) if is_path else value)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None


def _check_encodable(name: str, value: object) -> None:
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
    """Path from `output`, or from `id` or the number with the suffix. Raises ValueError."""
    key = "output" if "output" in entry else "id"
    value = entry.get(key, f"{number:05d}")
    if key == "id" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    _check_encodable(key, value)
    output = PurePath(value)
    # A drive or a backslash would mean something else on another system.
    if not value.isprintable() or "\\" in value or ":" in value:
        raise ValueError(
            f"{key} {value!r} holds characters that a file name should not; leave them out"
        )
    if output.is_absolute() or ".." in output.parts:
        raise ValueError(f"{key} {value!r} leads out of the output folder; give a name in it")
    if not output.name or value.endswith("/"):
        raise ValueError(f"{key} {value!r} is not a file name; give one")
    if key == "output" and output.suffix:
        output_format(output)
    else:
        output = output.with_name(output.name + suffix)
    if max(len(part.encode()) for part in output.parts) > NAME_BYTES:
        raise ValueError(f"{key} is longer than {NAME_BYTES} bytes; shorten it")
    return output


def _claim(line: Line, claimed: dict[str, int]) -> None:
    """Raise ValueError if another line writes there, on a case-insensitive file system too."""
    name = unicodedata.normalize("NFC", line.output.as_posix()).casefold()
    folders = [f"{folder}/" for folder in PurePath(name).parents][:-1]
    # Outputs may share a folder, but a file must not be the folder of another.
    for other in (name, f"{name}/", *(folder[:-1] for folder in folders)):
        if other in claimed:
            raise ValueError(
                f"output {str(line.output)!r} clashes with line {claimed[other]}'s; rename one"
            )
    for own in (name, *folders):
        claimed.setdefault(own, line.number)
