"""Convert a checkpoint for MLX: cast, fuse, quantise, write and verify it tensor by tensor."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from mlx_voxcpm2.errors import one_line
from mlx_voxcpm2.models.family import Export, Weights
from mlx_voxcpm2.weights.checkpoint import Checkpoint, read_checkpoint
from mlx_voxcpm2.weights.hub import find_checkpoint
from mlx_voxcpm2.weights.precision import Precision

from .safetensors_writer import content, header, write_file
from .target_folder import require_room, target_folder

LAYOUTS = ("mlx-audio", "mlx-voxcpm2")
MAX_SHARD_BYTES = 5 * 10**9

Progress = Callable[[str, int, int], None]
"""Called with a stage ("writing", "checking"), the bytes done and all bytes of that stage."""


def write_checkpoint(
    hf_path: str | Path,
    mlx_path: str | Path,
    precision: Precision,
    *,
    revision: str | None = None,
    layout: str = "mlx-audio",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Reads a checkpoint, changes it as `precision` says and writes it; returns the new folder.

    Other arguments and errors: see `conversion.convert`.
    """
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
    architecture = checkpoint.model.family.architectures[0]
    dtype = str(checkpoint.dtype).removeprefix("mlx.core.")
    config = {**checkpoint.data, "model_type": architecture, "dtype": dtype}
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    for name in checkpoint.model.family.small_files:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)


def _unchanged(name: str, value: mx.array) -> tuple[str, mx.array]:
    return name, value


@dataclass(frozen=True)
class Plan:
    """Which tensors to write into which files, and in which layout."""

    names: dict[str, list[str]]
    """Names of the model's tensors, by file."""
    headers: dict[str, bytes]
    """First bytes of each file."""
    index: dict | None
    """Content of the index of shards, if there are several files."""
    export: Export
    """Converts a tensor to the layout that is written."""
    size: int
    """Size of all files in bytes."""


def _plan(checkpoint: Checkpoint, layout: str) -> Plan:
    from huggingface_hub import split_state_dict_into_shards_factory

    weights, model = checkpoint.weights, checkpoint.model
    export = model.family.to_mlx_audio(model) if layout == "mlx-audio" else _unchanged
    split = split_state_dict_into_shards_factory(
        weights,
        get_storage_size=lambda value: value.nbytes,
        max_shard_size=MAX_SHARD_BYTES,
        filename_pattern="model{suffix}.safetensors",
    )
    files = split.filename_to_tensors
    stored = {
        file: dict(export(name, weights[name]) for name in names) for file, names in files.items()
    }
    headers = {file: header(tensors) for file, tensors in stored.items()}
    index = None
    if split.is_sharded:
        file_of = {name: file for file, tensors in stored.items() for name in tensors}
        index = {"metadata": split.metadata, "weight_map": dict(sorted(file_of.items()))}
    size = split.metadata["total_size"] + sum(map(len, headers.values()))
    return Plan(files, headers, index, export, size)


def _write_weights(
    weights: Weights, plan: Plan, folder: Path, progress: Progress
) -> dict[str, tuple]:
    """Writes the weights, emptying the dict; returns the fingerprints that `_verify` expects."""
    sums, done = {}, 0

    def stored(names: list[str]) -> Iterator[mx.array]:
        for name in names:
            value = mx.contiguous(weights.pop(name))
            sums[name] = fingerprint(value)
            yield plan.export(name, value)[1]

    for file, names in plan.names.items():
        for written in write_file(folder / file, plan.headers[file], stored(names)):
            mx.clear_cache()  # MLX keeps the memory of freed arrays
            done += written
            progress("writing", done, plan.size)
    if plan.index is not None:
        text = json.dumps(plan.index, indent=2, ensure_ascii=False) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return sums


def fingerprint(value: mx.array) -> tuple:
    """Shape, type and checksum of a tensor."""
    return value.shape, value.dtype, zlib.crc32(content(value))


def _verify(folder: Path, sums: dict[str, tuple], progress: Progress) -> None:
    """Reads the new checkpoint; raises ValueError unless it has the tensors that were written."""
    found = read_checkpoint(folder, Precision())
    total = sum(value.nbytes for value in found.weights.values())
    wrong, done = [], 0  # a tensor that is missing has been refused already
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
