"""The voices that others may ask for by name, never by a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .folder import existing_voice, folded_name, voice_files
from .saved import Voice

if TYPE_CHECKING:
    from ..speech.clip_encoder import ClipEncoder

NO_VOICE = "default"
"""What clients that must name a voice say for none."""


class OfferedVoices:
    """Those given, or else all that are kept, also the ones that come while we run."""

    def __init__(self, only: Sequence[str | Path] | None = None, default: str | Path | None = None):
        """only: names or files; others can't be asked for. default: what NO_VOICE means.

        Raises FileNotFoundError or ValueError for one that is not there.
        """
        self.only = None if only is None else [existing_voice(each) for each in only]
        self.default = None if default is None else existing_voice(default)
        self._read: dict[tuple[Path, int], Voice] = {}

    def check(self, encoder: ClipEncoder) -> None:
        """Of those given, whether they are this model's. Raises ValueError or OSError."""
        for file in {*(self.only or []), self.default} - {None}:
            self._voice(file, encoder)

    def names(self) -> list[str]:
        return [NO_VOICE, *(file.stem for file in self._files())]

    def file(self, name: str | None) -> Path | None:
        """None for no voice at all. Raises ValueError for one that is not offered."""
        if name is None or folded_name(name) == NO_VOICE:
            return self.default
        for file in self._files():
            if folded_name(file.stem) == folded_name(name):
                return file
        names = ", ".join(self.names()[:50])
        raise ValueError(f"there is no voice {name[:100]!r}; there are: {names}")

    def clips(
        self, name: str | None, instruct: str | None, encoder: ClipEncoder
    ) -> dict[str, object]:
        """The voice as `VoxCPM2.request` takes it, checked; {} for none. Errors: as `voice`."""
        return clips_of(self.voice(name, encoder), instruct)

    def voice(self, name: str | None, encoder: ClipEncoder) -> Voice | None:
        """As `file`; read once and checked. Raises ValueError or OSError."""
        file = self.file(name)
        return None if file is None else self._voice(file, encoder)

    def _voice(self, file: Path, encoder: ClipEncoder) -> Voice:
        key = (file, file.stat().st_mtime_ns)
        if key not in self._read:
            voice = Voice.load(file)
            voice.check(encoder)
            self._read[key] = voice
        return self._read[key]

    def _files(self) -> list[Path]:
        return voice_files() if self.only is None else self.only


def clips_of(voice: Voice | None, instruct: str | None) -> dict[str, object]:
    """What `VoxCPM2.request` takes instead of a voice, which it would check anew each time."""
    if voice is None:
        return {}
    names = ("ref_audio", "prompt_audio", "prompt_text")
    return dict(zip(names, voice.stands_for(instruct), strict=True))
