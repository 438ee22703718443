"""Cache of generated segments in a folder, until the whole text is done."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ..documents import read_json
from ..errors import one_line
from ..file_names import check_file_name
from ..files import atomic_write, remove_leftovers
from ..schema import check_integer
from ..speech.results import FinishReason

_SEED = "seed.json"
_SEGMENT = re.compile(r"[0-9]{6,}\.safetensors")
_OURS = {"settings", "seed", "finish_reason", "guards", "error_rate"}
"""Metadata of a segment."""


@dataclass(frozen=True)
class CachedSegment:
    """Audio of one segment, with its seed and outcome."""

    audio: np.ndarray
    """float32 (samples,)."""
    seed: int
    finish_reason: FinishReason
    guards: tuple[str, ...] = ()
    error_rate: float | None = None
    score: float | None = None


class SegmentCache:
    """A file per segment, valid for the settings with which it was generated.

    Raises OSError or ValueError, in one line, where the folder can't be used.
    """

    def __init__(self, folder: str | Path, settings: object = None):
        """settings: what decides the audio besides the arguments of `speak_long`, such as the
        weights and their precision. Anything that JSON holds."""
        self.folder, self.settings = Path(os.path.expanduser(folder)), settings
        self._unsaved_seed: int | None = None
        check_file_name(self.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; segments are stored there: move it away")
        remove_leftovers(self.folder)

    def seed(self) -> int:
        """Seed of the interrupted run, or a new one."""
        seed = _seed(self.folder / _SEED)
        if seed is None:
            seed = self._unsaved_seed = secrets.randbits(32)  # a failure at once leaves no folder
        return seed

    def has(self, index: int, settings: str) -> bool:
        return (_metadata(self._file(index)) or {}).get("settings") == settings

    def read(self, index: int, settings: str) -> CachedSegment:
        """A stored segment. Raises OSError if it is damaged, or another run has replaced it."""
        from safetensors import SafetensorError, safe_open

        file = self._file(index)
        try:
            with safe_open(file, framework="numpy") as content:
                data = content.metadata() or {}
                if data.get("settings") != settings:
                    raise OSError("another run has replaced it")
                audio = content.get_tensor("audio")
                guards = tuple(json.loads(data["guards"]))
                rate = json.loads(data["error_rate"])
                reason = cast(FinishReason, data["finish_reason"])
                score = json.loads(data.get("score", "null"))
                return CachedSegment(audio, int(data["seed"]), reason, guards, rate, score)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
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
            "score": json.dumps(segment.score),
        }
        self._write(self._file(index), save({"audio": segment.audio}, metadata=data))

    def remove(self) -> None:
        """Delete the segments, and the folder unless it holds other files."""
        for file in self.folder.glob("*"):
            if _is_ours(file):
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
            if file.name != _SEED and _metadata(file) is not None and not _is_ours(file):
                raise FileExistsError(errno.EEXIST, "another program's file has its name")
            atomic_write(file, content)
        except OSError as error:
            raise type(error)(
                f"{file}: can't be written ({one_line(error)}); make room or write elsewhere"
            ) from None


def _metadata(file: Path) -> dict[str, str] | None:
    """Metadata of a safetensors file; None if it is missing, damaged or no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as content:
            return content.metadata() or {}
    except (OSError, SafetensorError):
        return None


def _is_ours(file: Path) -> bool:
    """Whether this package has written a file of the folder."""
    if file.name == _SEED:
        return _seed(file) is not None
    return _SEGMENT.fullmatch(file.name) is not None and _OURS <= (_metadata(file) or {}).keys()


def _seed(file: Path) -> int | None:
    """Seed in a file; None if there is none."""
    try:
        value = read_json(file, "")
        check_integer("seed", value, 0, 2**64 - 1)
    except (OSError, ValueError):
        return None
    return int(value)
