"""Voices that clients may select by name, never by a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .folder import existing_voice, folded_name, voice_files
from .inputs import VoiceInputs
from .saved import Voice

if TYPE_CHECKING:
    from .clip_encoder import ClipEncoder

NO_VOICE = "default"
"""Name for no voice, for clients that must name one."""


class VoiceRegistry:
    """Voices that clients may select: the given ones, or every saved voice, as saved now."""

    def __init__(self, only: Sequence[str | Path] | None = None, default: str | Path | None = None):
        """only: names or files of the voices to offer. default: the voice that NO_VOICE means.

        Raises FileNotFoundError or ValueError for a voice that does not exist.
        """
        self.only = None if only is None else [existing_voice(each) for each in only]
        self.default = None if default is None else existing_voice(default)
        self._read: dict[tuple[Path, int], Voice] = {}

    def check(self, encoder: ClipEncoder) -> None:
        """Raise ValueError or OSError if a given voice does not fit the model."""
        default = [] if self.default is None else [self.default]
        for file in {*(self.only or []), *default}:
            self.read(file, encoder)

    def names(self) -> list[str]:
        return [NO_VOICE, *(file.stem for file in self._files())]

    def file(self, name: str | None) -> Path | None:
        """File of a voice, or None for no voice. Raises ValueError for an unknown name."""
        if name is None or folded_name(name) == NO_VOICE:
            return self.default
        if (file := self.find(name)) is not None:
            return file
        names = ", ".join(self.names()[:50])
        raise ValueError(f"there is no voice {name[:100]!r}; there are: {names}")

    def find(self, name: str) -> Path | None:
        """File of a saved voice of this name, or None."""
        key = folded_name(name)
        return next((file for file in self._files() if folded_name(file.stem) == key), None)

    def inputs(self, name: str | None, instruct: str | None, encoder: ClipEncoder) -> VoiceInputs:
        """A voice by name, with an instruction, for a request. Errors: as `voice`."""
        voice = self.voice(name, encoder)
        return VoiceInputs(instruct) if voice is None else VoiceInputs.of(voice, instruct)

    def voice(self, name: str | None, encoder: ClipEncoder) -> Voice | None:
        """Voice by name, read once and checked, or None. Raises ValueError or OSError."""
        file = self.file(name)
        return None if file is None else self.read(file, encoder)

    def read(self, file: Path, encoder: ClipEncoder) -> Voice:
        """Voice of a file, read once and checked. Raises ValueError or OSError."""
        key = (file, file.stat().st_mtime_ns)
        if key not in self._read:
            voice = Voice.load(file)
            voice.check(encoder)
            self._read[key] = voice
        return self._read[key]

    def _files(self) -> list[Path]:
        return voice_files() if self.only is None else self.only
