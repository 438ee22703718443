"""Cache on disk for the latents of clips, encoded by the frozen AudioVAE."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..errors import one_line
from ..files import atomic_write, remove_leftovers

# Cache version, part of every fingerprint. Change it when latents change.
_VERSION = "patches, filled up on the right, 1"


class LatentCache:
    """Latents of clips: `cache(path)` returns `model.encode_audio(path)`, and saves it in a folder.

    The key is a hash of the clip's bytes, the AudioVAE's encoder and the patch size: if one
    changes, the clip is encoded again, so that several models and processes can share a folder.
    Entries are never deleted; the folder may be deleted at any time.
    """

    tensor: ClassVar[str] = "patches"
    """Name of the array in a file."""

    def __init__(self, folder: str | os.PathLike, model: Any):
        """Creates the folder if it is missing. Raises OSError, in one line, on failure."""
        self.folder = Path(os.path.expanduser(folder))
        self._model = model
        self._fingerprint = self._start_of_key()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)
        except OSError as error:
            raise type(error)(
                f"{self.folder}: no folder for latents ({one_line(error)}); choose another place"
            ) from None

    def __call__(self, path: str | os.PathLike) -> mx.array:
        """Patches of a clip (N, P, D), float32; the last one is padded with silence.

        Raises the errors of `encode_audio`, and OSError, in one line, if they can't be saved.
        """
        entry = self._entry(path)
        patches = self._read(entry)
        if patches is None:
            patches = self._encode(path)
            self._save(entry, patches)
        return mx.array(patches)

    # The following three differ between families.

    def _start_of_key(self) -> hashlib._Hash:
        """SHA-256 of the encoder's weights and settings, to be updated with a clip's bytes."""
        vae, patch_size = self._model.audio_vae, self._model.config.patch_size
        return fingerprint_of((_VERSION, patch_size, vae.config.sample_rate), vae.encoder)

    @property
    def _row_shape(self) -> tuple[int, ...]:
        """Shape of one patch."""
        return self._model.config.patch_size, self._model.config.feat_dim

    def _encode(self, path: str | os.PathLike) -> np.ndarray:
        """Patches of a clip."""
        return np.array(self._model.encode_audio(path))

    def fill(self, paths: Iterable[str | os.PathLike]) -> dict[Path, np.ndarray]:
        """Patches by clip, encoded if they are not cached; with a progress bar on a terminal."""
        from tqdm import tqdm

        clips, found = list(dict.fromkeys(map(Path, paths))), {}
        bar = {"desc": "encoding clips", "unit": "clip", "disable": None, "leave": False}
        for path in tqdm(clips, file=sys.stderr, **bar):
            found[path] = np.array(self(path))
            mx.clear_cache()  # the next clip's arrays have other lengths and can't reuse these
        return found

    def _entry(self, path: str | os.PathLike) -> Path:
        """File of a clip's latents."""
        digest = self._fingerprint.copy()
        try:
            with open(os.path.expanduser(path), "rb") as clip:
                while block := clip.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise type(error)(
                f"audio: {str(path)!r} cannot be read ({one_line(error)}); check the path"
            ) from None
        return self.folder / f"{digest.hexdigest()}.safetensors"

    def _read(self, entry: Path) -> np.ndarray | None:
        """Patches of an entry, or None if it is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            patches = load(entry.read_bytes())[self.tensor]
        except (OSError, SafetensorError, KeyError):
            return None
        fits = patches.shape[1:] == self._row_shape and patches.ndim == 1 + len(self._row_shape)
        whole = fits and len(patches) and patches.dtype == np.float32
        return patches if whole and np.isfinite(patches).all() else None

    def _save(self, entry: Path, patches: np.ndarray) -> None:
        from safetensors.numpy import save

        try:
            atomic_write(entry, save({self.tensor: patches}))
        except OSError as error:
            raise type(error)(
                f"{self.folder}: latents can't be saved here ({one_line(error)}); make room, or "
                "choose another place"
            ) from None


def fingerprint_of(settings: object, *encoders: nn.Module) -> hashlib._Hash:
    """SHA-256 of settings and the weights of encoders."""
    digest = hashlib.sha256(repr(settings).encode())
    for encoder in encoders:
        for name, weight in sorted(tree_flatten(encoder.parameters())):
            digest.update(f"{name} {weight.shape} {weight.dtype}".encode())
            digest.update(np.ascontiguousarray(weight))
    return digest
