"""An adapter's files, as upstream's training writes and reads them.

An adapter adds scale * B A, of low rank, to the weights of linear layers: Hu et al. 2021, arXiv
2106.09685. Upstream: `LoRAConfig` and `load_lora_weights` of model/voxcpm2.py, and
scripts/train_voxcpm_finetune.py.
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

from ..errors import one_line
from ..files import atomic_folder
from ..schema import check_integer, check_number
from .files import Weights, read_file
from .hub import ADAPTER_FILES, find_adapter

logger = logging.getLogger("mlx_voxcpm2")

WEIGHTS_FILE, OLD_WEIGHTS_FILE, SETTINGS_FILE = ADAPTER_FILES

_ATTENTION = ("q_proj", "v_proj", "k_proj", "o_proj")
_PROJECTIONS = ("enc_to_lm_proj", "lm_to_dit_proj", "res_to_dit_proj", "fusion_concat_proj")


@dataclass(frozen=True)
class LoRASettings:
    """Which layers an adapter changes, and how: upstream's LoRAConfig, field by field.

    The defaults are those of upstream's recipe (conf/voxcpm_v2), not of its class (r 8, alpha 16,
    nothing enabled). Raises ValueError for a value out of range.

    enable_lm: layers of the language models (base_lm and residual_lm).
    enable_dit: layers of the diffusion transformer (feat_decoder.estimator).
    enable_proj: projections between the stacks.
    r: rank of B A, at least 1.
    alpha: a whole number, at least 1; at strength 1, alpha / r multiplies B A.
    dropout: 0 to 0.99, in training only: of a layer's input (upstream: of what B A gives).
    target_modules_lm, target_modules_dit: the layers' own names; target_proj_modules: paths.
    """

    enable_lm: bool = True
    enable_dit: bool = True
    enable_proj: bool = False
    r: int = 32
    alpha: int = 32
    dropout: float = 0.0
    target_modules_lm: tuple[str, ...] = _ATTENTION
    target_modules_dit: tuple[str, ...] = _ATTENTION
    target_proj_modules: tuple[str, ...] = _PROJECTIONS

    def __post_init__(self):
        check_integer("r", self.r, 1, None)
        check_integer("alpha", self.alpha, 1, None)
        check_number("dropout", self.dropout, 0, 0.99)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("enable") and not isinstance(value, bool):
                raise ValueError(f"{field.name} is {value!r}; it must be true or false")
            if field.name.startswith("target"):
                if not isinstance(value, list | tuple) or {type(name) for name in value} - {str}:
                    raise ValueError(f"{field.name} is {value!r}; it must be a list of names")
                object.__setattr__(self, field.name, tuple(value))


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter that was read, and how strong it is to be."""

    source: Path
    """The file of the weights."""
    tensors: Weights
    """By upstream's names: PATH.lora_A (r, in) and PATH.lora_B (out, r)."""
    settings: LoRASettings | None
    strength: float

    @property
    def unit(self) -> float:
        """What multiplies B A at strength 1: alpha / r, or 1 where nobody knows alpha."""
        return 1.0 if self.settings is None else self.settings.alpha / self.settings.r

    @property
    def scale(self) -> float:
        return self.unit * self.strength


def check_strength(strength: float) -> float:
    """Raises ValueError unless it is a finite number."""
    number = isinstance(strength, Real) and not isinstance(strength, bool)
    if not number or not math.isfinite(strength):
        raise ValueError(
            f"the adapter's strength is {strength!r}; it must be a finite number, such as 1 for "
            "what was trained, 0 for nothing of it"
        )
    return float(strength)


def split_strength(text: str) -> tuple[str, float | None]:
    """PATH[:STRENGTH] of a command line -> both. What exists by the whole name is all path."""
    path, colon, last = text.rpartition(":")
    if not colon or os.path.exists(os.path.expanduser(text)):
        return text, None
    try:
        strength = float(last)
    except ValueError:
        return text, None
    return path, check_strength(strength)


def read_adapter(path_or_repo: str | Path, strength: float | None = None) -> StoredAdapter:
    """A folder with upstream's files, its file of weights, or a hub repository -> an adapter.

    strength: multiplies alpha / r; by default 1, as it was trained. Without lora_config.json,
    which alone knows alpha, it must be given, and multiplies B A itself: for an adapter that was
    trained with alpha 32 and r 32 that is the same, with alpha 16 and r 32 "as trained" is 0.5.

    Raises FileNotFoundError for what is not there and ValueError for what is no adapter.
    """
    given = None if strength is None else check_strength(strength)
    file = _weights_file(find_adapter(path_or_repo))
    beside = file.with_name(SETTINGS_FILE)
    if not beside.is_file():
        if given is None:
            raise ValueError(
                f"{file}: no {SETTINGS_FILE} beside it, so nobody knows how strong it was trained; "
                "put that file there, or give a strength, which is then alpha / r"
            )
        settings = None
    else:
        settings = _read_settings(beside)
    return StoredAdapter(file, read_file(file)[0], settings, 1.0 if given is None else given)


def read_adapter_if_any(
    path_or_repo: str | Path | None, strength: float | None
) -> StoredAdapter | None:
    """The same, where None is no adapter, which then can have no strength."""
    if path_or_repo is not None:
        return read_adapter(path_or_repo, strength)
    if strength is not None:
        raise ValueError("adapter_strength is given and no adapter; leave it out, or give one")
    return None


def _weights_file(path: Path) -> Path:
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
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON ({one_line(error)}); take it anew") from None
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
    """Writes a folder that upstream's and this package's loaders take: all of it or nothing.

    tensors: by upstream's names, as `adapters.lora_tensors` gives them; written in float32.
    base_model: what was trained on, a path or hub id. overwrite: whether to replace an adapter's
    folder. Raises FileExistsError or OSError.
    """
    folder = Path(os.path.expanduser(folder))
    if os.path.lexists(folder) and not (overwrite and (folder / WEIGHTS_FILE).is_file()):
        reason = "and is no adapter's folder" if overwrite else "already"
        raise FileExistsError(f"{folder} exists {reason}; choose another folder")
    with atomic_folder(folder) as new:
        write_adapter(new, tensors, settings, base_model)
    return folder


def write_adapter(
    folder: Path, tensors: Weights, settings: LoRASettings, base_model: str = ""
) -> None:
    """`save_adapter`'s files, into a folder that is there, beside others."""
    values = {name: mx.contiguous(value.astype(mx.float32)) for name, value in tensors.items()}
    try:
        mx.save_safetensors(str(folder / WEIGHTS_FILE), values)
    except RuntimeError as error:
        raise OSError(f"{folder} can't be written ({one_line(error)}); make room") from None
    content = {"base_model": base_model, "lora_config": asdict(settings)}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
