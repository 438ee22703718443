"""Cache of generated segments in a folder, until the whole text is done."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ..errors import one_line
from ..files import atomic_write
from ..speech.results import FinishReason

_SEED = "seed.json"


@dataclass(frozen=True)
class CachedSegment:
    """Audio of one segment, with its seed and outcome."""

    audio: np.ndarray
    """float32 (samples,)."""
    seed: int
    finish_reason: FinishReason
    guards: tuple[str, ...] = ()
    error_rate: float | None = None


class SegmentCache:
    """A file per segment, valid for the settings with which it was generated.

    Raises OSError or ValueError, in one line, where the folder can't be used.
    """

    def __init__(self, folder: str | Path, settings: object = None):
        """settings: what decides the audio besides the arguments of `speak_long`, such as the
        weights and their precision. Anything that JSON holds."""
        self.folder, self.settings = Path(os.path.expanduser(folder)), settings
        self._unsaved_seed: int | None = None
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; segments are stored there: move it away")

    def seed(self) -> int:
        """Seed of the interrupted run, or a new one."""
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

    def read(self, index: int) -> CachedSegment:
        from safetensors import SafetensorError, safe_open

        file = self._file(index)
        try:
            with safe_open(file, framework="numpy") as content:
                data = content.metadata()
                audio = content.get_tensor("audio")
                guards = tuple(json.loads(data["guards"]))
                rate = json.loads(data["error_rate"])
                reason = cast(FinishReason, data["finish_reason"])
                return CachedSegment(audio, int(data["seed"]), reason, guards, rate)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"{file}: can't be read ({one_line(error)}); delete it and run again"
            ) from None

    def write(self, index: int, settings: str, segment: CachedSegment) -> None:
        from safetensors.numpy import save

        if self._unsaved_seed is not None:
            self._write(self.folder / _SEED, json.dumps(self._unsaved_seed).encode())
            self._unsaved_seed = None
        data = {
            "settings": settings,
            "seed": str(segment.seed),
            "finish_reason": segment.finish_reason,
            "guards": json.dumps(segment.guards),
            "error_rate": json.dumps(segment.error_rate),
        }
        self._write(self._file(index), save({"audio": segment.audio}, metadata=data))

    def remove(self) -> None:
        """Delete the segments, and the folder unless it holds other files."""
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
