"""The three layouts of VoxCPM2's tensors in files: upstream's, mlx-audio's and this package's.

This package keeps upstream's names and stores convolutions as `layers.conv` computes with them.
Layouts are told apart by names and by which program wrote the file, never by shape: a kernel may
be as wide as its channels.
"""

from __future__ import annotations

import re

import mlx.core as mx
from mlx.utils import tree_flatten

from ...layers.conv import CausalConv1d, CausalDepthwiseConv1d, CausalTransposeConv1d
from ..family import Export, Network, Weights
from .audio_vae_blocks import Snake1d
from .config import AudioVAEConfig

# The variance is for training only; mlx-audio stores its RoPE tables.
_UNUSED = re.compile(r"^audio_vae\.encoder\.fc_logvar\.|\.rope\.(inv_freq|(long|short)_factor)$")

_CONVOLUTIONS = (CausalConv1d, CausalDepthwiseConv1d, CausalTransposeConv1d)

_MLX_AUDIO_UNITS = {
    "encoder": ("res1", "res2", "res3", "snake", "conv"),
    "decoder": ("snake", "conv_t", "res1", "res2", "res3"),
}
_MLX_AUDIO_RESIDUAL = ("snake1", "conv1", "snake2", "conv2")


def has_mlx_audio_layout(weights: Weights) -> bool:
    """Whether these are mlx-audio's names."""
    return "audio_vae.encoder.conv_in.weight" in weights


def sanitize(model: Network, weights: Weights, written_by_mlx: bool) -> Weights:
    """Tensors of any of the three layouts -> by this package's names and axes.

    written_by_mlx: whether the file is from an MLX program; else it is upstream's. Raises
    ValueError for a weight norm that does not fit.
    """
    if has_mlx_audio_layout(weights):
        return _from_mlx_audio(model, _without_unused(weights))
    if written_by_mlx:
        return weights
    return _transposed(model, _fold_weight_norm(_without_unused(weights)))


def to_mlx_audio(model: Network) -> Export:
    """The function that gives a tensor the name and axes of mlx-audio's layout."""
    modules = dict(model.named_modules())

    def export(name: str, value: mx.array) -> tuple[str, mx.array]:
        module = modules.get(name.rpartition(".")[0])
        if isinstance(module, _CONVOLUTIONS) and name.endswith(".weight"):
            value = module.to_torch(value)
            transposed = isinstance(module, CausalTransposeConv1d)
            value = value.transpose(*((1, 2, 0) if transposed else (0, 2, 1)))
        elif isinstance(module, Snake1d):
            value = value.reshape(1, 1, -1)
        return _mlx_audio_name(name, model.config.audio_vae_config), value

    return export


def _from_mlx_audio(model: Network, weights: Weights) -> Weights:
    config = model.config.audio_vae_config
    ours = {_mlx_audio_name(name, config): name for name, _ in tree_flatten(model.parameters())}
    weights = {ours.get(name, name): value for name, value in weights.items()}
    for path, module in model.audio_vae.named_modules():
        name = f"audio_vae.{path}.weight"
        if isinstance(module, _CONVOLUTIONS) and name in weights:
            # mlx-audio stores all of them as (out, kernel, in).
            transposed = isinstance(module, CausalTransposeConv1d)
            weights[name] = weights[name].transpose(*((2, 0, 1) if transposed else (0, 2, 1)))
    boundaries = config.sr_bin_boundaries
    if boundaries is not None:
        weights.setdefault(
            "audio_vae.decoder.sr_bin_boundaries", mx.array(boundaries, dtype=mx.int32)
        )
    return _transposed(model, weights)


def _without_unused(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if not _UNUSED.search(name)}


def _fold_weight_norm(weights: Weights) -> Weights:
    """g and v -> g v / |v|, over all axes but the first, as torch.nn.utils.weight_norm."""
    folded = {}
    for name, value in weights.items():
        if name.endswith(".weight_v"):
            continue
        stem = name.removesuffix(".weight_g")
        direction = weights.get(stem + ".weight_v")
        if stem == name or direction is None:
            folded[name] = value
            continue
        axes = tuple(range(1, direction.ndim))
        if value.shape != (expected := (direction.shape[0],) + (1,) * len(axes)):
            raise ValueError(
                f"tensor {name} has shape {value.shape} instead of {expected}; the checkpoint is "
                "damaged, download it again"
            )
        direction, scale = direction.astype(mx.float32), value.astype(mx.float32)
        norm = mx.sqrt(mx.sum(direction * direction, axis=axes, keepdims=True))
        folded[stem + ".weight"] = direction * (scale / norm)
    for name in weights:  # a direction without its length is reported later, as unknown
        if name.endswith(".weight_v") and name[:-1] + "g" not in weights:
            folded[name] = weights[name]
    return folded


def _transposed(model: Network, weights: Weights) -> Weights:
    """PyTorch's convolutions and (1, C, 1) slopes -> as the modules compute with them."""
    for path, module in model.audio_vae.named_modules():
        weight, alpha = f"audio_vae.{path}.weight", f"audio_vae.{path}.alpha"
        if isinstance(module, _CONVOLUTIONS) and weight in weights and weights[weight].ndim == 3:
            weights[weight] = module.from_torch(weights[weight])
        elif isinstance(module, Snake1d) and alpha in weights:
            weights[alpha] = weights[alpha].reshape(-1)
    return weights


def _mlx_audio_name(name: str, config: AudioVAEConfig) -> str:
    """Upstream's name of a tensor -> mlx-audio's, which differs in the AudioVAE only."""
    match = re.match(
        r"audio_vae\.(encoder|decoder)\.(?:block|model|sr_cond_model)\.(\d+)\.(.+)", name
    )
    if not match:
        return name.replace(".sr_bin_boundaries", "._sr_boundaries")
    part, index, rest = match[1], int(match[2]), match[3]
    first = 2 if part == "decoder" and config.depthwise else 1
    count = len(config.encoder_rates if part == "encoder" else config.decoder_rates)
    if ".sr_cond_model." in name:
        stage = f"sr_cond_layers.{index - first}"
    elif index < first:
        stage = f"conv_in.layers.{index}" if first == 2 else "conv_in"
    elif index < first + count:
        stage = f"blocks.layers.{index - first}"
    else:
        stage = ("snake_out", "conv_out")[index - first - count]

    def inner(kinds: tuple[str, ...], rest: str) -> str:
        found = re.match(r"block\.(\d+)\.(.+)", rest)
        if not found:
            return rest
        return f"{kinds[int(found[1])]}.{inner(_MLX_AUDIO_RESIDUAL, found[2])}"

    return f"audio_vae.{part}.{stage}.{inner(_MLX_AUDIO_UNITS[part], rest)}"
