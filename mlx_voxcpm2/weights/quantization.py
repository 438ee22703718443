"""Which layers are quantised and how, in the form that mlx-lm gives it in config.json."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..errors import one_line
from ..models.voxcpm2.network import VoxCPM2Model

logger = logging.getLogger("mlx_voxcpm2")

# mode: the bits it has by default, and the group sizes to try, the best first.
_MODES = {"affine": (4, (64, 32)), "mxfp4": (4, (32,)), "mxfp8": (8, (32,)), "nvfp4": (4, (16,))}
_EMBEDDING = "base_lm.embed_tokens"
_DIT = "feat_decoder.estimator."
_ENCODER = "feat_encoder."
FULL = 16
"""As many bits as leave a layer as it is."""


@dataclass(frozen=True)
class Quantization:
    """How to quantise the four transformer stacks. What their layers do not hold stays as it is.

    mode: "affine" (1 to 6 or 8 bits in groups of 32, 64 or 128), "mxfp4", "mxfp8" or "nvfp4".
    bits: of the weights; by default 4, or the mode's own number.
    group_size: of the weights that share a scale; by default the largest of 64 and 32 that
        divides every layer's inputs, or the mode's own.
    dit_bits: of the diffusion transformer, if others; 16 leaves it as it is.
    down_bits: of the MLPs' `down_proj`, if others, where dit_bits or encoder_bits say nothing.
    encoder_bits: of the local encoder, if others.

    Raises ValueError for what this MLX does not offer.
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
            if type(number) is not int or number < 1:  # MLX divides by it before it looks
                raise ValueError(f"{name} is {number!r}; it must be a positive integer")
        try:  # only the arguments are checked: nothing is computed
            mx.quantize(mx.zeros((1, 256 * group)), group, bits, mode=self.mode)
        except (ValueError, RuntimeError, TypeError, OverflowError) as error:
            reason = one_line(error).removeprefix("[quantize] ")
            raise ValueError(f"MLX {mx.__version__} can't quantise so: {reason}") from None

    def bits_of(self, path: str) -> int:
        """Of a layer of a stack."""
        if path.startswith(_DIT):
            return self.dit_bits or self.bits
        if path.startswith(_ENCODER) and self.encoder_bits is not None:
            return self.encoder_bits
        return self.down_bits or self.bits if path.endswith(".down_proj") else self.bits

    def entry(self, model: VoxCPM2Model) -> dict:
        """config.json's "quantization": the settings of most layers, and by path those of others.

        False is a layer that stays as it is. Raises ValueError for a group size that does not fit.
        """
        smallest = min(_MODES[self.mode][1])
        widths = {path: module.weight.shape[1] for path, module in linear_layers(model)}
        fitting = {path: w for path, w in widths.items() if _is_large(path) and w % smallest == 0}
        if not fitting:
            raise ValueError(f"no layer's inputs are a multiple of {smallest}; nothing to quantise")
        group = self._choose_group(fitting)
        common = {"group_size": group, "bits": self.bits, "mode": self.mode}
        entry: dict = dict(common)
        for path in widths:
            bits = self.bits_of(path)
            own: dict | bool = {**common, "bits": bits}
            if path == _EMBEDDING:
                # One row is read for each token, so bits cost little here, and errors reach all.
                own = {"group_size": max(group, 32), "bits": 8, "mode": "affine"}
            if path not in fitting or bits == FULL or widths[path] % own["group_size"]:
                own = False
            if own != common:
                entry[path] = own
        if narrow := sum(_is_large(path) for path in widths) - len(fitting):
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


# Errors are those of the latents against float32 on a small network of random weights
# (benchmarks/quantisation.py), where bfloat16 itself errs by 0.034.
RECIPES = {
    # As published: the reference for all others.
    "bf16": None,
    # Hardly further from float32 than bfloat16 is (0.035), in half of the bytes.
    "8bit": Quantization(8),
    # The diffusion transformer untouched, for those who hear a difference with 8bit.
    "8bit-dit16": Quantization(8, dit_bits=FULL),
    # A third of 4bit's error (0.090) for a third more bytes; no mixed recipe of 4 bits comes near.
    "6bit": Quantization(6),
    # The smallest of these (0.31).
    "4bit": Quantization(4),
    # The language models are what 4 bits make smaller; the rest in 8 costs little (0.25). The
    # local encoder's own output errs by 0.33 at 4 bits and 0.023 at 8 (at the released size).
    "4bit-dit8": Quantization(4, dit_bits=8, encoder_bits=8),
    # As small as can be without touching the diffusion transformer.
    "4bit-dit16": Quantization(4, dit_bits=FULL, encoder_bits=8),
    # 4bit-dit8 (0.24 so); down_proj, which mlx-lm's mixed recipes spare too, joins no other layer.
    "4bit-down6-dit8": Quantization(4, dit_bits=8, down_bits=6, encoder_bits=8),
}
MODE_RECIPES = ("mxfp4", "mxfp8", "nvfp4")
"""Further recipes: 4 or 8 bits as floating-point numbers, where this MLX offers them."""


def find_recipe(quantize: str | Quantization | None) -> Quantization | None:
    """A recipe by its name. Raises ValueError for an unknown one."""
    if quantize is None or isinstance(quantize, Quantization):
        return quantize
    if quantize in MODE_RECIPES:
        return Quantization(mode=quantize)
    if not isinstance(quantize, str) or quantize not in RECIPES:
        known = ", ".join((*RECIPES, *MODE_RECIPES))
        raise ValueError(f"recipe is {quantize!r}; it must be one of {known}")
    return RECIPES[quantize]


def _is_large(path: str) -> bool:
    """Whether to quantise a linear layer: those of the stacks, and the text embedding.

    The others (FSQ, stop predictor, projections between the stacks, the local stacks' own, time
    embeddings) are 2 % of the bytes, and nothing behind them averages their errors out.
    """
    return ".layers." in path or path == _EMBEDDING


def linear_layers(model: VoxCPM2Model) -> Iterator[tuple[str, nn.Module]]:
    """What could be quantised, by path. The AudioVAE never is."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding) and not path.startswith("audio_vae."):
            yield path, module


def quantize_weights(
    model: VoxCPM2Model, weights: dict[str, mx.array], entry: dict
) -> dict[str, mx.array]:
    """The weights that `Quantization.entry` selects become packed ones with scales; lazily."""
    chosen = {path for path, _ in linear_layers(model) if entry.get(path) is not False}
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


def quantization_entry(data: dict) -> dict:
    """What config.json says of quantisation, by either name; {} if nothing."""
    entry = data.get("quantization") or data.get("quantization_config") or {}
    if not isinstance(entry, dict):
        raise ValueError(
            f"config.json: quantization must be an object, not {entry!r}; convert the model again"
        )
    return entry


def settings_of(path: str, entry: dict) -> dict:
    """A layer's group size, bits and mode, its own ones first; older files have no mode."""
    own = entry.get(path)
    settings = own if isinstance(own, dict) else entry
    settings = {"mode": "affine", **settings}
    for name, kind in (("group_size", int), ("bits", int), ("mode", str)):
        if not isinstance(settings.get(name), kind):
            raise ValueError(
                f"config.json: quantization of {path} has no {name}; convert the model again"
            )
    return {name: settings[name] for name in ("group_size", "bits", "mode")}
