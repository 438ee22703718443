"""Load VoxCPM2 from a folder or a hub repository, in any known layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx

from .activity import activity
from .layers import device
from .model import VoxCPM2
from .models.voxcpm2.config import VoxCPM2Config
from .models.voxcpm2.family import FAMILY
from .text.tokenizer import Tokenizer
from .text.vocabulary import read_vocabulary
from .trials.prove import prove
from .weights import adapters
from .weights.adapter_files import read_adapter_if_given
from .weights.checkpoint import Checkpoint, load_network, read_checkpoint
from .weights.hub import BUILT_IN, find_checkpoint
from .weights.precision import DtypeName, Precision, choose_precision

if TYPE_CHECKING:
    from .weights.quantization import Quantization


def read_voxcpm2(folder: Path, precision: Precision) -> Checkpoint[VoxCPM2]:
    """Reads a folder's checkpoint with its tokenizer. Raises the errors of `load_model`."""

    def build(config: VoxCPM2Config) -> VoxCPM2:
        model = VoxCPM2(config, Tokenizer(folder / FAMILY.required_file))
        model.request_builder.vocabulary = read_vocabulary(folder)
        return model

    return read_checkpoint(folder, precision, FAMILY, build)


def load_model(
    path_or_repo: str | Path,
    dtype: DtypeName | mx.Dtype | None = None,
    revision: str | None = None,
    quantize: str | Quantization | None = None,
    adapter: str | Path | None = None,
    adapter_strength: float | None = None,
) -> VoxCPM2:
    """Loads a checkpoint from a folder, or from the Hugging Face hub (which keeps a cache).

    "english" and "demo" are small voices that come with the package: the first reads English, the
    second says some words only.

    dtype: "bfloat16", "float16" or "float32" for all but the AudioVAE, which stays float32. The
    default is bfloat16; for an MLX converter's files their own type, for the package's own voices
    float32. On a CPU the default keeps the type of the matrices, which are large, and computes in
    float32.
    revision: a branch, tag or commit of a hub repository.
    quantize: a recipe ("8bit", "4bit-dit8" …, see `recipes.RECIPES`) or a `Quantization`:
    the same model as from the converted checkpoint, made in memory.
    adapter, adapter_strength: a LoRA adapter to attach, see `VoxCPM2.load_adapter`.

    Raises FileNotFoundError for a missing file and ValueError for an unsuitable or damaged one,
    each with one line that names the file or tensor and says what to do.
    """
    device.free_streams_at_thread_end()
    if dtype is None and path_or_repo in BUILT_IN:
        dtype = mx.float32  # its file has 16 bits to be small; float32 is faster on a CPU
    precision = choose_precision(dtype, quantize)
    stored = read_adapter_if_given(adapter, adapter_strength)
    folder = find_checkpoint(path_or_repo, revision)
    with activity(f"loading {path_or_repo}"):
        checkpoint = read_voxcpm2(folder, precision)
        model = load_network(checkpoint, has_free_dtype=dtype is None)
    prove(model)
    if stored is not None:
        adapters.attach(model, stored)
    return model


def load_lazily(path_or_repo: str | Path, revision: str | None = None) -> VoxCPM2:
    """Loads a model whose weights are read at first use: for encoding clips, slow for speaking."""
    folder = find_checkpoint(path_or_repo, revision)
    # float32 is the AudioVAE's type in any case.
    checkpoint = read_voxcpm2(folder, Precision(mx.float32))
    # A transposed array would be copied at each use.
    whole = [(name, mx.contiguous(value)) for name, value in checkpoint.weights.items()]
    checkpoint.model.load_weights(whole, strict=True)
    checkpoint.model.eval()
    return checkpoint.model
