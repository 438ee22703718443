"""Segments that are spoken already, kept in a folder until the whole is done."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import one_line
from ..files import atomic_write

_SEED = "seed.json"


@dataclass(frozen=True)
class Part:
    audio: np.ndarray
    """float32 (samples,)."""
    seed: int
    finish_reason: str
    guards: tuple[str, ...] = ()
    error_rate: float | None = None


class Parts:
    """A file per segment. It counts only for the settings with which it was spoken.

    Raises OSError or ValueError, in one line, where the folder can't be used.
    """

    def __init__(self, folder: str | Path, settings: object = None):
        """settings: what decides how the model speaks, besides what `speak_long` is given: which
        weights, at which precision. Anything that JSON holds."""
        self.folder, self.settings = Path(os.path.expanduser(folder)), settings
        self._unsaved_seed: int | None = None
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; parts are kept there: move it away")

    def seed(self) -> int:
        """That of the last time, or a new one."""
        file = self.folder / _SEED
        try:
            return int(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._unsaved_seed = secrets.randbits(32)  # a failure at once leaves no folder
            return self._unsaved_seed

    def has(self, index: int, settings: str) -> bool:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(index), framework="numpy") as content:
                return (content.metadata() or {}).get("settings") == settings
        except (OSError, SafetensorError):
            return False

    def read(self, index: int) -> Part:
        from safetensors import SafetensorError, safe_open

        file = self._file(index)
        try:
            with safe_open(file, framework="numpy") as content:
                data = content.metadata()
                audio = content.get_tensor("audio")
                guards = tuple(json.loads(data["guards"]))
                rate = json.loads(data["error_rate"])
                return Part(audio, int(data["seed"]), data["finish_reason"], guards, rate)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"{file}: can't be read ({one_line(error)}); delete it and go on"
            ) from None

    def write(self, index: int, settings: str, part: Part) -> None:
        from safetensors.numpy import save

        if self._unsaved_seed is not None:
            self._write(self.folder / _SEED, json.dumps(self._unsaved_seed).encode())
            self._unsaved_seed = None
        data = {
            "settings": settings, "seed": str(part.seed), "finish_reason": part.finish_reason,
            "guards": json.dumps(part.guards), "error_rate": json.dumps(part.error_rate),
        }  # fmt: skip
        self._write(self._file(index), save({"audio": part.audio}, metadata=data))

    def remove(self) -> None:
        """Deletes what was kept, and the folder unless somebody has put something into it."""
        for file in [*self.folder.glob("[0-9]*.safetensors"), self.folder / _SEED]:
            file.unlink(missing_ok=True)
        try:
            self.folder.rmdir()
        except OSError:
            pass

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:06d}.safetensors"

    def _write(self, file: Path, content: bytes) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            atomic_write(file, content)
        except OSError as error:
            raise type(error)(
                f"{file}: can't be written ({one_line(error)}); make room or write elsewhere"
            ) from None
