"""Saved voices: the latents of a clip, in one small file.

Upstream: `build_prompt_cache` of model/voxcpm2.py makes the same, in memory only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from .folder import check_new_voice, read_voice, write_voice_file

if TYPE_CHECKING:
    from .clip_encoder import ClipEncoder

ARCHITECTURE = "voxcpm2"
# Largest relative difference of fingerprints of the same encoder. Another AudioVAE differs by about
# 1; one whose weights were folded by another program, or rounded to 16 bits, by less than this.
SAME_ENCODER = 0.1


@dataclass(frozen=True, eq=False)
class Voice:
    """A voice to speak in, made by `VoxCPM2.make_voice`.

    Raises ValueError for arrays that can't be patches, or a prompt without its transcript.
    """

    known_sound: mx.array
    """`ClipEncoder.fingerprint`, (1, P, D), of the AudioVAE that encoded the clips."""
    reference: mx.array | None = None
    """Patches (N, P, D), float32: the voice to clone."""
    prompt: mx.array | None = None
    """Patches (N, P, D), float32: speech to continue, if `prompt_text` is known."""
    prompt_text: str | None = None
    description: str = ""
    patch_seconds: float = 0.16
    created: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )
    name: str = ""
    """Name of the file; "" for a voice that was not saved."""

    def __post_init__(self):
        if self.reference is None and self.prompt is None:
            raise ValueError("a voice needs a clip; give ref_audio")
        if (self.prompt is None) != (not (self.prompt_text or "").strip()):
            raise ValueError("a voice with a prompt needs the prompt's words, and none without")
        for name in ("description", "created", "name"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a string")
        if not 0 < self.patch_seconds < 10:
            raise ValueError(f"patch_seconds is {self.patch_seconds}; it must be from 0 to 10")
        shape = self.known_sound.shape
        for name, patches in self._patches().items():
            if patches.ndim != 3 or patches.shape[1:] != shape[1:] or not len(patches):
                raise ValueError(f"{name} has shape {patches.shape}, known_sound {shape}")
            if not mx.isfinite(patches).all().item():
                raise ValueError(f"{name} holds values that are not finite")

    @property
    def reference_seconds(self) -> float:
        return 0.0 if self.reference is None else len(self.reference) * self.patch_seconds

    @property
    def prompt_seconds(self) -> float:
        return 0.0 if self.prompt is None else len(self.prompt) * self.patch_seconds

    def save(self, name_or_path: str | Path, overwrite: bool = False) -> Path:
        """Write the voice to its file, whole or not at all; returns the path.

        name_or_path: a name in the folder of voices, or a path that ends in .safetensors. Raises
        FileExistsError for a voice that exists, unless `overwrite`; OSError; and ValueError for an
        invalid name.
        """
        file = check_new_voice(name_or_path, overwrite)
        tensors = {name: np.array(patches) for name, patches in self._patches().items()}
        data = {
            "architecture": ARCHITECTURE,
            "created": self.created,
            "description": self.description,
            "patch_seconds": repr(self.patch_seconds),
            "prompt_text": self.prompt_text or "",
        }
        write_voice_file(
            file, tensors, {key: value for key, value in data.items() if value}, overwrite
        )
        return file

    @classmethod
    def load(cls, name_or_path: str | Path) -> Voice:
        """Read a saved voice. Raises FileNotFoundError, ValueError or OSError."""
        return read_voice(name_or_path, ARCHITECTURE, cls._of_file)

    @classmethod
    def _of_file(cls, name: str, tensors: dict[str, np.ndarray], data: dict[str, str]) -> Voice:
        return cls(
            **{each: mx.array(tensors[each]) for each in _TENSORS if each in tensors},
            prompt_text=data.get("prompt_text"),
            description=data.get("description", ""),
            created=data.get("created", ""),
            patch_seconds=float(data.get("patch_seconds", "nan")),
            name=name,
        )

    def __repr__(self) -> str:
        clips = (("reference", self.reference_seconds), ("prompt", self.prompt_seconds))
        parts = [f"{name} {seconds:.1f} s" for name, seconds in clips if seconds]
        return f"Voice({', '.join([repr(self.name), *parts])})"

    def check(self, encoder: ClipEncoder) -> None:
        """Raise ValueError if the patches were encoded by another AudioVAE."""
        if not is_same_encoder(encoder.fingerprint, self.known_sound):
            raise ValueError(
                f"the voice {self.name or 'given'} was made with another AudioVAE than this "
                "model's; make it again from its clip, with this model"
            )

    def _patches(self) -> dict[str, mx.array]:
        return {name: getattr(self, name) for name in _TENSORS if getattr(self, name) is not None}


_TENSORS = ("known_sound", "reference", "prompt")


def is_same_encoder(ours: mx.array, theirs: mx.array) -> bool:
    """Whether fingerprints are of the same encoder, by their relative RMS difference."""
    if ours.shape != theirs.shape:
        return False
    return float(mx.sqrt(mx.mean((theirs - ours) ** 2) / mx.mean(ours**2))) < SAME_ENCODER
