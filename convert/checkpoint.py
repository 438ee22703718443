"""A checkpoint in any layout -> one for MLX: cast, quantised, written and verified."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from mlx_voxcpm2.errors import one_line
from mlx_voxcpm2.load import Checkpoint, Precision, choose_precision, read_checkpoint
from mlx_voxcpm2.weights import layouts
from mlx_voxcpm2.weights.adapter_files import read_adapter_if_any
from mlx_voxcpm2.weights.files import Weights
from mlx_voxcpm2.weights.hub import find_checkpoint
from mlx_voxcpm2.weights.quantization import Quantization

from .safetensors_writer import content, header, write_file
from .target_folder import require_room, target_folder

LAYOUTS = ("mlx-audio", "mlx-voxcpm2")
MAX_SHARD_BYTES = 5 * 10**9
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

Store = Callable[[str, mx.array], tuple[str, mx.array]]
Progress = Callable[[str, int, int], None]


def convert(
    hf_path: str | Path,
    mlx_path: str | Path,
    dtype: str | None = None,
    revision: str | None = None,
    *,
    quantize: str | Quantization | None = None,
    layout: str = "mlx-audio",
    overwrite: bool = False,
    adapter: str | Path | None = None,
    adapter_strength: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """A checkpoint that `load_model` takes -> a folder `mlx_path` with one for MLX.

    dtype, revision, quantize: as in `load_model`; a source that is quantised already is refused.
    layout: "mlx-audio", which that program and this one read, or "mlx-voxcpm2", in which the
        convolutions of the AudioVAE lie as this package computes with them.
    overwrite: whether to replace a checkpoint at `mlx_path`, when the new one is complete.
    adapter, adapter_strength: a LoRA adapter to fuse into the weights, before they are cast or
        quantised; see `adapter_files.read_adapter`.
    progress: is given a stage ("writing", "checking"), the bytes done and all bytes of it.

    Tensors are read, computed and written one by one, then read again and compared. Whatever
    ends that early leaves nothing behind. Raises what `load_model` raises, FileExistsError if
    `mlx_path` is there, and OSError if it can't be written.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
    stored = read_adapter_if_any(adapter, adapter_strength)
    precision = replace(choose_precision(dtype, quantize), must_be_original=True, adapter=stored)
    target = Path(os.path.realpath(os.path.expanduser(mlx_path)))
    with target_folder(target, overwrite) as folder:
        source = find_checkpoint(hf_path, revision)
        if target.exists() and target.samefile(source):  # however it is spelled
            raise ValueError(f"{target} is the source itself; choose another --mlx_path")
        checkpoint = read_checkpoint(source, precision)
        plan = _plan(checkpoint, layout)
        require_room(folder, plan.size)
        try:
            _write_small_files(checkpoint, source, folder)
            sums = _write_weights(checkpoint.weights, plan, folder, progress or _silent)
        except OSError as error:
            raise OSError(
                f"{target} can't be written ({one_line(error)}); make room, or choose another "
                "--mlx_path"
            ) from None
        try:
            _verify(folder, sums, progress or _silent)
        except ValueError as error:
            raise OSError(
                f"{target} can't be read as it was written ({one_line(error)}); check the disk"
            ) from None
    return target


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _write_small_files(checkpoint: Checkpoint, source: Path, folder: Path) -> None:
    config = {
        **checkpoint.data, "model_type": "voxcpm2", "dtype": str(checkpoint.dtype).split(".")[-1]
    }  # fmt: skip
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)


@dataclass(frozen=True)
class Plan:
    """Which tensors go into which files, and how."""

    names: dict[str, list[str]]
    """By file, the model's names."""
    heads: dict[str, bytes]
    """By file, what it begins with."""
    index: dict | None
    """Where there are several files, what tells which tensor is in which."""
    store: Store
    """The name and the value of a tensor here -> in the layout that is written."""
    size: int
    """Bytes of all files."""


def _plan(checkpoint: Checkpoint, layout: str) -> Plan:
    from huggingface_hub import split_state_dict_into_shards_factory

    weights = checkpoint.weights
    store: Store = (
        layouts.to_mlx_audio(checkpoint.model) if layout == "mlx-audio" else lambda *pair: pair
    )
    split = split_state_dict_into_shards_factory(
        weights, get_storage_size=lambda value: value.nbytes, max_shard_size=MAX_SHARD_BYTES,
        filename_pattern="model{suffix}.safetensors",
    )  # fmt: skip
    files = split.filename_to_tensors
    stored = {
        file: dict(store(name, weights[name]) for name in names) for file, names in files.items()
    }
    heads = {file: header(tensors) for file, tensors in stored.items()}
    index = None
    if split.is_sharded:
        file_of = {name: file for file, tensors in stored.items() for name in tensors}
        index = {"metadata": split.metadata, "weight_map": dict(sorted(file_of.items()))}
    size = split.metadata["total_size"] + sum(len(head) for head in heads.values())
    return Plan(files, heads, index, store, size)


def _write_weights(
    weights: Weights, plan: Plan, folder: Path, progress: Progress
) -> dict[str, tuple]:
    """Empties `weights` into the folder; returns what `_verify` wants to find there."""
    sums, done = {}, 0

    def stored(names: list[str]) -> Iterator[mx.array]:
        for name in names:
            value = mx.contiguous(weights.pop(name))
            sums[name] = fingerprint(value)
            yield plan.store(name, value)[1]

    for file, names in plan.names.items():
        for written in write_file(folder / file, plan.heads[file], stored(names)):
            mx.clear_cache()  # on a GPU, MLX keeps the memory of what is gone
            done += written
            progress("writing", done, plan.size)
    if plan.index is not None:
        text = json.dumps(plan.index, indent=2, ensure_ascii=False) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return sums


def fingerprint(value: mx.array) -> tuple:
    """Shape, type and a checksum of the bytes."""
    return value.shape, value.dtype, zlib.crc32(content(value))


def _verify(folder: Path, sums: dict[str, tuple], progress: Progress) -> None:
    """Reads it as `load_model` does; raises ValueError unless all is as it was computed."""
    found = read_checkpoint(folder, Precision())
    total = sum(value.nbytes for value in found.weights.values())
    wrong = sorted(found.weights.keys() ^ sums.keys())
    done = 0
    for name in list(found.weights):
        value = found.weights.pop(name)
        done += value.nbytes
        if fingerprint(value) != sums.get(name):
            wrong.append(name)
        del value
        mx.clear_cache()
        progress("checking", done, total)
    if wrong:
        raise ValueError(f"tensor {wrong[0]} differs")
