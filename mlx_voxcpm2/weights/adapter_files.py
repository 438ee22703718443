"""Files of a LoRA adapter, as upstream's training writes and reads them.

An adapter adds scale * B A, of low rank, to the weights of linear layers: Hu et al. 2021, arXiv
2106.09685. Upstream: `load_lora_weights` of model/voxcpm2.py, scripts/train_voxcpm_finetune.py.
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict, dataclass, fields
from numbers import Real
from pathlib import Path

import mlx.core as mx

from ..documents import read_json
from ..errors import one_line, option
from ..file_names import is_folder_of
from ..files import atomic_folder, remove_leftovers
from ..models.family import Weights
from ..models.voxcpm2.lora import LoRASettings
from .files import read_file
from .hub import ADAPTER_FILES, find_adapter

logger = logging.getLogger("mlx_voxcpm2")

WEIGHTS_FILE, OLD_WEIGHTS_FILE, SETTINGS_FILE = ADAPTER_FILES


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter read from its files."""

    source: Path
    """File of the weights."""
    tensors: Weights
    """Factors by upstream's names: PATH.lora_A (r, in) and PATH.lora_B (out, r)."""
    settings: LoRASettings | None
    """Settings, or None if their file is missing, so that alpha is unknown."""
    strength: float
    """Factor of the trained scale: 1 is as trained, 0 the base model."""

    @property
    def trained_scale(self) -> float:
        """Factor of B A at strength 1: alpha / r, or 1 if alpha is unknown."""
        return 1.0 if self.settings is None else self.settings.scale

    @property
    def scale(self) -> float:
        """Factor of B A."""
        return self.trained_scale * self.strength


def has_settings(stored: StoredAdapter, settings: LoRASettings) -> bool:
    """Whether an adapter was trained with these settings, or its own are unknown."""
    return stored.settings is None or asdict(stored.settings) == asdict(settings)


def check_strength(strength: float) -> float:
    """Returns the strength as a float. Raises ValueError unless it is a finite number."""
    number = isinstance(strength, Real) and not isinstance(strength, bool)
    if not number or not math.isfinite(strength):
        raise ValueError(
            f"the adapter's strength is {strength!r}; it must be a finite number, such as 1 for "
            "what was trained, 0 for nothing of it"
        )
    return float(strength)


def split_strength(text: str) -> tuple[str, float | None]:
    """Splits PATH[:STRENGTH] of a command line; the name of an existing file is all path."""
    path, colon, last = text.rpartition(":")
    if not colon or os.path.exists(os.path.expanduser(text)):
        return text, None
    try:
        strength = float(last)
    except ValueError:
        return text, None
    return path, check_strength(strength)


def read_adapter(path_or_repo: str | Path, strength: float | None = None) -> StoredAdapter:
    """Reads an adapter from a folder with upstream's files, its weights file or a hub repository.

    strength: factor of alpha / r; by default 1, as trained. Without lora_config.json, the only
    file with alpha, it must be given and is the factor of B A itself: for an adapter trained with
    alpha 32 and r 32 that is the same, with alpha 16 and r 32 "as trained" is 0.5.

    Raises FileNotFoundError for a missing file and ValueError for one that is not an adapter's.
    """
    given = None if strength is None else check_strength(strength)
    file = _weights_file(find_adapter(path_or_repo))
    beside = file.with_name(SETTINGS_FILE)
    if not beside.is_file():
        if given is None:
            raise ValueError(
                f"{file}: no {SETTINGS_FILE} beside it, so alpha is unknown; put that file there, "
                "or give a strength, which is then alpha / r"
            )
        settings = None
    else:
        settings = _read_settings(beside)
    return StoredAdapter(file, read_file(file)[0], settings, 1.0 if given is None else given)


def read_adapter_if_given(
    path_or_repo: str | Path | None, strength: float | None
) -> StoredAdapter | None:
    """`read_adapter`, or None without a path. Raises ValueError for a strength alone."""
    if path_or_repo is not None:
        return read_adapter(path_or_repo, strength)
    if strength is not None:
        raise ValueError(
            f"{option('adapter_strength')} is given and no adapter; leave it out, or give one"
        )
    return None


def _weights_file(path: Path) -> Path:
    """File of the weights in an adapter's folder, or the path itself if it is such a file."""
    if path.is_dir():
        for name in (WEIGHTS_FILE, OLD_WEIGHTS_FILE):
            if (path / name).is_file():
                return path / name
        raise FileNotFoundError(
            f"{path}: no {WEIGHTS_FILE} here; give a folder such as latest/ of what training wrote"
        )
    if path.suffix not in (".safetensors", ".ckpt", ".pth"):
        raise ValueError(f"{path} is no adapter; give a folder with {WEIGHTS_FILE}")
    return path


def _read_settings(file: Path) -> LoRASettings:
    data = read_json(file, "copy it again")
    data = data.get("lora_config") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not {"r", "alpha"} <= data.keys():
        raise ValueError(f"{file}: no lora_config with r and alpha in it; take the original file")
    known = {field.name for field in fields(LoRASettings)}
    if unknown := data.keys() - known:
        logger.warning("%s: not known, not used: %s", file, ", ".join(sorted(unknown)))
    try:
        return LoRASettings(**{name: value for name, value in data.items() if name in known})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {one_line(error)}") from None


def save_adapter(
    folder: str | Path,
    tensors: Weights,
    settings: LoRASettings,
    base_model: str = "",
    overwrite: bool = False,
) -> Path:
    """Writes, atomically, a folder that upstream's and this package's loaders read.

    tensors: by upstream's names, from `adapters.lora_tensors`; written in float32.
    base_model: path or hub id of the model that was fine-tuned. overwrite: whether to replace an
    adapter's folder. Raises FileExistsError or OSError.
    """
    folder = Path(os.path.expanduser(folder))
    if os.path.lexists(folder):
        if not overwrite:
            raise FileExistsError(f"{folder} exists already; choose another folder")
        # What is replaced is deleted, so there must be nothing but an adapter in it.
        if not is_folder_of(folder, ADAPTER_FILES) or not (folder / WEIGHTS_FILE).is_file():
            raise FileExistsError(
                f"{folder} is no adapter's folder, or holds more; choose another folder"
            )
    remove_leftovers(folder.absolute().parent, folder)
    with atomic_folder(folder) as new:
        write_adapter(new, tensors, settings, base_model)
    return folder


def write_adapter(
    folder: Path, tensors: Weights, settings: LoRASettings, base_model: str = ""
) -> None:
    """Writes the files of `save_adapter` into an existing folder. Raises OSError."""
    values = {name: mx.contiguous(value.astype(mx.float32)) for name, value in tensors.items()}
    try:
        mx.save_safetensors(str(folder / WEIGHTS_FILE), values)
    except RuntimeError as error:
        raise OSError(f"{folder} can't be written ({one_line(error)}); make room") from None
    content = {"base_model": base_model, "lora_config": asdict(settings)}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
