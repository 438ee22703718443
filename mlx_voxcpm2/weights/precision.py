"""Types and quantisation that a checkpoint's weights get while it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from ..errors import option
from ..models.family import Family, Weights
from .adapter_files import StoredAdapter
from .files import is_float
from .quantization import Quantization
from .recipes import find_recipe

DtypeName = Literal["bfloat16", "bf16", "float16", "fp16", "float32", "fp32"]

DTYPES = {"bf16": mx.bfloat16, "fp16": mx.float16, "fp32": mx.float32}
DTYPES |= {str(dtype).rsplit(".", 1)[-1]: dtype for dtype in DTYPES.values()}


@dataclass(frozen=True)
class Precision:
    """How to change a checkpoint's weights while it is read."""

    dtype: mx.Dtype | None = None
    """Type of all weights but those that the family keeps in float32; None is bfloat16, or an MLX
    converter's choice."""
    quantization: Quantization | None = None
    unquantized: bool = False
    """Whether to refuse a checkpoint that is quantised already."""
    dequantize: bool = False
    """Whether to dequantise a quantised checkpoint, and to refuse any other."""
    adapter: StoredAdapter | None = None
    """Adapter to fuse into the weights before they are rounded."""

    @property
    def needs_unquantized(self) -> bool:
        """Whether a checkpoint that is quantised already can't be used."""
        changed = self.quantization is not None or self.adapter is not None or self.unquantized
        return changed and not self.dequantize


def choose_precision(
    dtype: str | mx.Dtype | None, quantize: str | Quantization | None
) -> Precision:
    """Precision by the arguments of `load_model`. Raises ValueError for an unknown one."""
    chosen = None
    if dtype is not None:
        chosen = dtype if isinstance(dtype, mx.Dtype) else DTYPES.get(str(dtype))
        if chosen is None or chosen not in DTYPES.values():
            raise ValueError(
                f"{option('dtype')} is {dtype!r}; it must be bfloat16, float16 or float32"
            )
    quantization = find_recipe(quantize)
    if quantize == "bf16":
        if chosen is not None and chosen != mx.bfloat16:
            raise ValueError("recipe 'bf16' is bfloat16; leave out the recipe or the other dtype")
        chosen = mx.bfloat16
    return Precision(chosen, quantization, unquantized=quantize == "bf16")


def cast_weights(weights: Weights, dtype: mx.Dtype, family: Family) -> Weights:
    """Casts the floating-point weights, except those that the family keeps in float32."""

    def cast(name: str, value: mx.array) -> mx.array:
        if not is_float(value):
            return value
        return value.astype(mx.float32 if name.startswith(family.float32) else dtype)

    return {name: cast(name, value) for name, value in weights.items()}
