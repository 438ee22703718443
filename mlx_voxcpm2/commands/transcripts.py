"""Where the transcripts of several recordings go: a file each, one file, or standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..audio.writing import check_target, target_path
from ..errors import one_line
from ..files import atomic_write, check_folder, write_all

if TYPE_CHECKING:
    from ..long_form.transcription import Transcription

STANDARD_STREAM = "-"
_FORMATS = ("txt", "srt", "vtt", "json")
_JSON = "verbose_json"
"""What `json` is on the command line: with the times."""


@dataclass(frozen=True)
class Output:
    """Place of one transcript."""

    source: str
    """Recording: a path, or "-"."""
    file: Path | None
    """File to write; None for standard output."""
    format: str
    is_one_of_many: bool = False
    """Whether other transcripts go to standard output, too."""

    @property
    def name(self) -> str:
        """The recording in messages."""
        return "standard input" if self.source == STANDARD_STREAM else self.source

    @property
    def has_times(self) -> bool:
        return self.format != "txt"

    def write(self, transcription: Transcription) -> None:
        """Write the transcript, whole or not at all. Raises OSError, in one line."""
        from ..long_form.transcript_formats import formatted

        text = formatted(transcription, _JSON if self.format == "json" else self.format)
        if self.file is None:
            write_all(sys.stdout.buffer, self._headed(text).encode())
            sys.stdout.flush()
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(target_path(self.file), text.encode())
        except OSError as error:
            raise type(error)(
                f"{self.file}: cannot be written ({one_line(error)}); write elsewhere"
            ) from None

    def _headed(self, text: str) -> str:
        """Content for standard output, which tells whose transcript it is."""
        if not self.is_one_of_many:
            return text
        if self.format == "json":  # a line for each recording
            return json.dumps({"file": self.source} | json.loads(text), ensure_ascii=False) + "\n"
        return f"{self.name}:\n{text}\n"


def planned_outputs(files: Sequence[str], output: str | None, format: str | None) -> list[Output]:
    """Output of each recording. Raises ValueError or FileNotFoundError, in one line.

    output: a file, or a folder: one that exists, or whose name ends in a slash; None or "-" for
    standard output. format: by default that of the file's suffix, or txt.
    """
    if files.count(STANDARD_STREAM) > 1:
        raise ValueError("standard input is given more than once; give - once")
    if output in (None, STANDARD_STREAM):
        return _printed(files, format or "txt")
    path = Path(os.path.expanduser(output))
    if path.is_dir() or output.endswith("/"):
        return _in_folder(files, path, format or "txt")
    if len(files) > 1:
        raise ValueError(
            f"--output: {output!r} is one file for {len(files)} recordings; give a folder, such as "
            f"{output}/"
        )
    _check_not_input(path, files)
    check_target(path)
    return [Output(files[0], path, _format_of(path, format))]


def _printed(files: Sequence[str], format: str) -> list[Output]:
    if sys.stdout is None:
        raise ValueError("standard output is closed; give --output")
    if len(files) > 1 and format in ("srt", "vtt"):
        raise ValueError(f"{len(files)} recordings have {len(files)} subtitles; give --output DIR/")
    return [Output(file, None, format, len(files) > 1) for file in files]


def _in_folder(files: Sequence[str], folder: Path, format: str) -> list[Output]:
    check_folder(folder)
    outputs, names = [], {}
    for file in files:
        stem = "standard-input" if file == STANDARD_STREAM else Path(file).stem
        path = folder / f"{stem}.{format}"
        if (other := names.setdefault(path.name.casefold(), file)) is not file:
            raise ValueError(
                f"{other} and {file} would both become {path}; transcribe them one by one"
            )
        _check_not_input(path, files)
        if folder.is_dir():
            check_target(path)
        outputs.append(Output(file, path, format))
    return outputs


def _format_of(path: Path, format: str | None) -> str:
    suffix = path.suffix.lower().lstrip(".")
    if format is None and suffix and suffix not in _FORMATS:
        raise ValueError(
            f"--output: {path.name!r} ends in no known format; end it in .txt, .srt, .vtt or "
            ".json, or give --format"
        )
    if suffix in _FORMATS and format not in (None, suffix):
        raise ValueError(
            f"--output: {path.name!r} does not end in .{format}; leave --format out, or change the "
            "name"
        )
    return format or suffix or "txt"


def _check_not_input(path: Path, files: Sequence[str]) -> None:
    for file in files:
        if file != STANDARD_STREAM and path.exists() and os.path.samefile(path, _real(file)):
            raise ValueError(f"--output: {str(path)!r} is the recording; give another name")


def _real(file: str) -> str:
    found = os.path.expanduser(file)
    return found if os.path.exists(found) else os.devnull
