"""Which layers are quantised and how, written into config.json as mlx-lm writes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..errors import one_line
from ..models.family import Family, Network, Weights

logger = logging.getLogger("mlx_voxcpm2")

# mode: its default number of bits, and the group sizes to try, the preferred one first.
_MODES = {"affine": (4, (64, 32)), "mxfp4": (4, (32,)), "mxfp8": (8, (32,)), "nvfp4": (4, (16,))}
FULL = 16
"""Number of bits that stands for an unquantised layer."""


@dataclass(frozen=True)
class Quantization:
    """How to quantise the layers of the transformer stacks; all other layers stay as they are.

    mode: "affine" (1 to 6 or 8 bits in groups of 32, 64 or 128), "mxfp4", "mxfp8" or "nvfp4".
    bits: of the weights; by default 4, or the mode's own number.
    group_size: number of weights that share a scale; by default the largest of 64 and 32 that
        divides every layer's inputs, or the mode's own.
    dit_bits: of the diffusion transformer, if different; 16 leaves it unquantised.
    down_bits: of the MLPs' `down_proj`, if different and neither dit_bits nor encoder_bits apply.
    encoder_bits: of the local encoder, if different.

    Raises ValueError for a setting that this MLX does not support.
    """

    bits: int | None = None
    group_size: int | None = None
    mode: str = "affine"
    dit_bits: int | None = None
    down_bits: int | None = None
    encoder_bits: int | None = None

    def __post_init__(self):
        if self.mode not in _MODES:
            raise ValueError(
                f"quantisation mode is {self.mode!r}; it must be one of {', '.join(_MODES)}"
            )
        if self.bits is None:
            object.__setattr__(self, "bits", _MODES[self.mode][0])
        self._check(self.bits)
        for bits in (self.dit_bits, self.down_bits, self.encoder_bits):
            if bits not in (None, FULL):
                self._check(bits)

    def _check(self, bits: int) -> None:
        group = _MODES[self.mode][1][0] if self.group_size is None else self.group_size
        for name, number in (("group size", group), ("number of bits", bits)):
            if type(number) is not int or number < 1:  # MLX divides by it before it checks it
                raise ValueError(f"{name} is {number!r}; it must be a positive integer")
        try:  # only the arguments are checked: nothing is computed
            mx.quantize(mx.zeros((1, 256 * group)), group, bits, mode=self.mode)
        except (ValueError, RuntimeError, TypeError, OverflowError) as error:
            reason = one_line(error).removeprefix("[quantize] ")
            raise ValueError(f"MLX {mx.__version__} can't quantise so: {reason}") from None

    def bits_of(self, path: str, family: Family) -> int:
        """Number of bits for a layer of a stack."""
        if path.startswith(family.diffusion):
            return self.dit_bits or self.bits
        if path.startswith(family.encoder) and self.encoder_bits is not None:
            return self.encoder_bits
        return self.down_bits or self.bits if path.endswith(".down_proj") else self.bits

    def entry(self, model: Network) -> dict:
        """config.json's "quantization" for a family's network.

        It has the settings of most layers and, by path, those of the others; False is a layer that
        is not quantised. Raises ValueError for a group size that does not divide a layer's inputs.
        """
        family, smallest = model.family, min(_MODES[self.mode][1])
        vocabulary = (family.embedding, family.output_head)
        widths = {path: module.weight.shape[1] for path, module in quantizable_layers(model)}
        stacks = [path for path in widths if ".layers." in path]
        stacks = [path for path in stacks if not path.startswith(family.unquantized)]
        large = [path for path in widths if path in stacks or path in vocabulary]
        fitting = {path: widths[path] for path in large if widths[path] % smallest == 0}
        if not fitting:
            raise ValueError(f"no layer's inputs are a multiple of {smallest}; nothing to quantise")
        group = self._choose_group(fitting)
        common = {"group_size": group, "bits": self.bits, "mode": self.mode}
        entry: dict = dict(common)
        for path in widths:
            bits = self.bits_of(path, family)
            own: dict | bool = {**common, "bits": bits}
            if path in vocabulary:
                # One row is read per token, so bits cost little here, and errors reach all layers.
                # An output head is a tenth of what a token reads, and nothing follows that could
                # average its errors out.
                own = {"group_size": max(group, 32), "bits": 8, "mode": "affine"}
            if path not in fitting or bits == FULL or widths[path] % own["group_size"]:
                own = False
            if own != common:
                entry[path] = own
        if narrow := len(large) - len(fitting):
            logger.warning(
                "%d layers stay as they are: their inputs are no multiple of %d", narrow, smallest
            )
        return entry

    def _choose_group(self, widths: dict[str, int]) -> int:
        sizes = _MODES[self.mode][1]
        if self.group_size is None:
            return next(
                size for size in sizes if not any(width % size for width in widths.values())
            )
        for path, width in widths.items():
            if width % self.group_size:
                raise ValueError(
                    f"group size {self.group_size} does not divide the {width} inputs of {path}; "
                    f"choose {min(sizes)}, or leave it out"
                )
        return self.group_size


def quantizable_layers(model: Network) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers and embeddings that could be quantised, by path.

    Recipes choose those of the stacks (`.layers.`) and the text embedding. In VoxCPM2 the others
    (FSQ, stop predictor, projections between the stacks, the local stacks' own, time embeddings)
    are 2 % of the bytes, and no later layer averages their errors out.
    """
    for path, module in model.named_modules():
        is_matrix = isinstance(module, nn.Linear | nn.Embedding)
        if is_matrix and not path.startswith(model.family.float32):
            yield path, module


def quantize_weights(model: Network, weights: Weights, entry: dict) -> Weights:
    """Quantises, lazily, the weights that `Quantization.entry` selects."""
    chosen = {path for path, _ in quantizable_layers(model) if entry.get(path) is not False}
    result = {}
    for name, value in weights.items():
        path = name.removesuffix(".weight")
        if name == path or path not in chosen:
            result[name] = value
            continue
        parts = mx.quantize(value, **settings_of(path, entry))
        names = (name, f"{path}.scales", f"{path}.biases")
        result.update(zip(names, parts, strict=False))  # floating-point modes have no biases
    return result


def has_scales(weights: Weights) -> bool:
    """Whether any of the tensors are quantised."""
    return any(name.endswith(".scales") for name in weights)


def quantize_layers(model: Network, weights: Weights, entry: dict) -> None:
    """Replaces the layers whose weights have scales by quantised ones, without their weights."""

    def settings(path: str, module: nn.Module) -> dict | bool:
        is_quantized = hasattr(module, "to_quantized") and f"{path}.scales" in weights
        return settings_of(path, entry) if is_quantized else False

    if has_scales(weights):
        try:
            nn.quantize(model, class_predicate=settings)
        except RuntimeError as error:
            raise ValueError(f"config.json: quantization: {one_line(error)}") from None


def dequantize_weights(weights: Weights, prefixes: tuple[str, ...], entry: dict) -> Weights:
    """Dequantises, lazily, the weights whose names begin with one of the prefixes.

    Other converters quantise layers that this package computes with in float32.
    """
    result = dict(weights)
    for name in weights:
        path = name.removesuffix(".scales")
        is_chosen = path != name and name.startswith(prefixes)
        if not is_chosen or f"{path}.weight" not in weights:
            continue
        settings, weight = settings_of(path, entry), result[f"{path}.weight"]
        scales, biases = result.pop(name), result.pop(f"{path}.biases", None)
        result[f"{path}.weight"] = mx.dequantize(weight, scales, biases, **settings)
    return result


QUANTIZATION_NAMES = ("quantization", "quantization_config")


def quantization_entry(data: dict) -> dict:
    """Quantisation settings in config.json, by either of its names; {} if there are none."""
    entry = next((data[name] for name in QUANTIZATION_NAMES if data.get(name)), {})
    if not isinstance(entry, dict):
        raise ValueError(
            f"config.json: quantization must be an object, not {entry!r}; convert the model again"
        )
    return entry


def settings_of(path: str, entry: dict) -> dict:
    """Group size, bits and mode of one layer: its own, else the common ones.

    Older files have no mode. Raises ValueError for a setting that is missing or mistyped.
    """
    own = entry.get(path)
    settings = own if isinstance(own, dict) else entry
    settings = {"mode": "affine", **settings}
    if settings["mode"] == "affine":  # the default of MLX, which some converters leave out
        settings = {"group_size": _MODES["affine"][1][0], **settings}
    for name, kind in (("group_size", int), ("bits", int), ("mode", str)):
        if not isinstance(settings.get(name), kind):
            raise ValueError(
                f"config.json: quantization of {path} has no {name}; convert the model again"
            )
    return {name: settings[name] for name in ("group_size", "bits", "mode")}
