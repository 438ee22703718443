"""One model, three layouts of its tensors: upstream's, mlx-audio's and this package's.

This package keeps upstream's names and stores convolutions as `models.conv` computes with them.
Tensors are told apart by name and by who wrote them, never by shape: a kernel may be as wide as
its channels.
"""

from __future__ import annotations

import re

import mlx.core as mx

from .config import AudioVAEConfig
from .models.conv import (
    CausalConv1d,
    CausalDepthwiseConv1d,
    CausalTransposeConv1d,
    Snake1d,
)
from .models.voxcpm2 import VoxCPM2Model

Weights = dict[str, mx.array]

# Training reads the variance; mlx-audio stores its RoPE tables.
_UNUSED = re.compile(r"^audio_vae\.encoder\.fc_logvar\.|\.rope\.(inv_freq|(long|short)_factor)$")

_CONVOLUTIONS = (CausalConv1d, CausalDepthwiseConv1d, CausalTransposeConv1d)

_MLX_AUDIO_UNITS = {
    "encoder": ("res1", "res2", "res3", "snake", "conv"),
    "decoder": ("snake", "conv_t", "res1", "res2", "res3"),
}
_MLX_AUDIO_RESIDUAL = ("snake1", "conv1", "snake2", "conv2")


def is_mlx_audio(weights: Weights) -> bool:
    return "audio_vae.encoder.conv_in.weight" in weights


def from_upstream(model: VoxCPM2Model, weights: Weights) -> Weights:
    """PyTorch's convolutions: weight norm is folded, axes are turned."""
    weights = _fold_weight_norm(_without_unused(weights))
    return _turned(model, weights)


def from_mlx_audio(model: VoxCPM2Model, weights: Weights, quantization: dict) -> Weights:
    """mlx-audio's names, and its AudioVAE as it may have quantised that too."""
    weights = _dequantize_vae(_without_unused(weights), quantization)
    config = model.config.audio_vae_config
    weights = {_upstream_name(name, config): value for name, value in weights.items()}
    for path, module in model.audio_vae.named_modules():
        name = f"audio_vae.{path}.weight"
        if isinstance(module, _CONVOLUTIONS) and name in weights:
            # It keeps all as (out, kernel, in).
            transposed = isinstance(module, CausalTransposeConv1d)
            weights[name] = weights[name].transpose(*((2, 0, 1) if transposed else (0, 2, 1)))
    boundaries = config.sr_bin_boundaries
    if boundaries is not None:
        weights.setdefault(
            "audio_vae.decoder.sr_bin_boundaries", mx.array(boundaries, dtype=mx.int32)
        )
    return _turned(model, weights)


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
        direction, scale = direction.astype(mx.float32), value.astype(mx.float32)
        axes = tuple(range(1, direction.ndim))
        norm = mx.sqrt(mx.sum(direction * direction, axis=axes, keepdims=True))
        folded[stem + ".weight"] = direction * (scale / norm)
    for name in weights:  # a direction that lost its length is unknown, not silently dropped
        if name.endswith(".weight_v") and name[:-1] + "g" not in weights:
            folded[name] = weights[name]
    return folded


def _turned(model: VoxCPM2Model, weights: Weights) -> Weights:
    """PyTorch's convolutions and (1, C, 1) slopes as the modules compute with them."""
    for path, module in model.audio_vae.named_modules():
        weight, alpha = f"audio_vae.{path}.weight", f"audio_vae.{path}.alpha"
        if isinstance(module, _CONVOLUTIONS) and weight in weights and weights[weight].ndim == 3:
            weights[weight] = module.from_torch(weights[weight])
        elif isinstance(module, Snake1d) and alpha in weights:
            weights[alpha] = weights[alpha].reshape(-1)
    return weights


def _dequantize_vae(weights: Weights, quantization: dict) -> Weights:
    result = dict(weights)
    for name in weights:
        stem = name.removesuffix(".scales")
        if stem == name or not name.startswith("audio_vae."):
            continue
        result[stem + ".weight"] = mx.dequantize(
            result[stem + ".weight"], result.pop(name), result.pop(stem + ".biases", None),
            **quantization_of(stem, quantization),
        )  # fmt: skip
    return result


def quantization_of(path: str, quantization: dict) -> dict:
    """A layer's group size, bits and mode, its own ones first; older files have no mode."""
    own = quantization.get(path)
    settings = own if isinstance(own, dict) else quantization
    names = [name for name in ("group_size", "bits") if not isinstance(settings.get(name), int)]
    if names:
        raise ValueError(
            f"config.json: quantization of {path} has no {names[0]}; convert the model again"
        )
    return {
        "group_size": settings["group_size"],
        "bits": settings["bits"],
        "mode": settings.get("mode", "affine"),
    }


def _upstream_name(name: str, config: AudioVAEConfig) -> str:
    """A name of mlx-audio's AudioVAE -> upstream's; other names as they are."""
    match = re.match(r"audio_vae\.(encoder|decoder)\.(.+)", name)
    if not match:
        return name
    part, rest = match.groups()
    stack, first = ("block", 1) if part == "encoder" else ("model", 2 if config.depthwise else 1)
    last = first + len(config.decoder_rates)
    rest = re.sub(r"^conv_in\.(?:layers\.(\d)\.)?", lambda m: f"{stack}.{m[1] or 0}.", rest)
    rest = re.sub(r"^snake_out\.", f"{stack}.{last}.", rest)
    rest = re.sub(r"^conv_out\.", f"{stack}.{last + 1}.", rest)
    rest = re.sub(r"^_sr_boundaries$", "sr_bin_boundaries", rest)
    rest = re.sub(r"^sr_cond_layers\.(\d+)", lambda m: f"sr_cond_model.{int(m[1]) + first}", rest)

    def unit(m: re.Match) -> str:
        index, kind, inner = int(m[1]), m[2], m[3]
        result = f"{stack}.{index + first}.block.{_MLX_AUDIO_UNITS[part].index(kind)}"
        return f"{result}.block.{_MLX_AUDIO_RESIDUAL.index(inner)}" if inner else result

    kinds, inner = "|".join(_MLX_AUDIO_UNITS[part]), "|".join(_MLX_AUDIO_RESIDUAL)
    rest = re.sub(rf"^blocks\.layers\.(\d+)\.({kinds})\b(?:\.({inner})\b)?", unit, rest)
    return f"audio_vae.{part}.{rest}"
