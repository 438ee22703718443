"""Clips -> the latents of the frozen AudioVAE, encoded once and kept on disk."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ..errors import one_line
from ..files import atomic_write

if TYPE_CHECKING:
    from ..model import VoxCPM2

# In every fingerprint: another way of encoding needs another number.
_ENCODING = "patches, filled up on the right, 1"


class LatentCache:
    """`cache(path)` is what `model.encode_audio(path)` returns, kept in a folder.

    An entry belongs to the bytes of a clip, the AudioVAE's encoder and the patch size: if one
    changes, the clip is encoded anew, and one folder serves many models. Processes may share it.
    Nothing is ever deleted: a folder that has grown too large may be.
    """

    def __init__(self, folder: str | os.PathLike, model: VoxCPM2):
        """The folder is made if it is missing. Raises OSError, in one line, if it can't be."""
        self.folder = Path(os.path.expanduser(folder))
        self._model = model
        self._fingerprint = _fingerprint(model)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"{self.folder}: no folder for latents ({one_line(error)}); choose another place"
            ) from None

    def __call__(self, path: str | os.PathLike) -> mx.array:
        """The clip's patches (N, P, D), float32; the last one is filled up with silence.

        Raises what `encode_audio` raises, and OSError, in one line, if they can't be kept.
        """
        entry = self._entry(path)
        patches = self._kept(entry)
        if patches is None:
            patches = np.array(self._model.encode_audio(path))
            self._keep(entry, patches)
        return mx.array(patches)

    def fill(self, paths: Iterable[str | os.PathLike]) -> dict[Path, np.ndarray]:
        """Clips -> their patches, encoded if they are not there yet; with a bar on a terminal."""
        from tqdm import tqdm

        held = {}
        for path in tqdm(
            list(dict.fromkeys(map(Path, paths))), desc="encoding clips", unit="clip",
            disable=None, file=sys.stderr, leave=False,
        ):  # fmt: skip
            held[path] = np.array(self(path))
            mx.clear_cache()  # the next clip's arrays have other lengths and can't use these
        return held

    def _entry(self, path: str | os.PathLike) -> Path:
        """The file of a clip's latents."""
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

    def _kept(self, entry: Path) -> np.ndarray | None:
        """What an entry holds, or None if it is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            patches = load(entry.read_bytes())["patches"]
        except (OSError, SafetensorError, KeyError):
            return None
        config = self._model.config
        fits = patches.ndim == 3 and patches.shape[1:] == (config.patch_size, config.feat_dim)
        whole = fits and len(patches) and patches.dtype == np.float32
        return patches if whole and np.isfinite(patches).all() else None

    def _keep(self, entry: Path, patches: np.ndarray) -> None:
        from safetensors.numpy import save

        try:
            atomic_write(entry, save({"patches": patches}))
        except OSError as error:
            raise type(error)(
                f"{self.folder}: latents can't be kept here ({one_line(error)}); make room, or "
                "choose another place"
            ) from None


def _fingerprint(model: VoxCPM2):
    """A hash, to be gone on with, of all that decides what a clip's latents are."""
    vae = model.audio_vae
    digest = hashlib.sha256(
        repr((_ENCODING, model.config.patch_size, vae.config.sample_rate)).encode()
    )
    for name, weight in sorted(tree_flatten(vae.encoder.parameters())):
        digest.update(f"{name} {weight.shape} {weight.dtype}".encode())
        digest.update(np.ascontiguousarray(weight))
    return digest
