"""Named settings of quantisation."""

from __future__ import annotations

from .quantization import FULL, Quantization

# Errors: relative RMS of VoxCPM2's latents against float32, on a small network of random weights
# (benchmarks/quantisation.py); bfloat16 itself has 0.034.
RECIPES = {
    # As published.
    "bf16": None,
    # Error 0.035, hardly more than bfloat16's, in half of the bytes.
    "8bit": Quantization(8),
    # Diffusion transformer unquantised, if 8bit is audibly different.
    "8bit-dit16": Quantization(8, dit_bits=FULL),
    # Error 0.090: a third of 4bit's for a third more bytes; no mixed recipe of 4 bits comes near.
    "6bit": Quantization(6),
    # Error 0.31; the smallest of these.
    "4bit": Quantization(4),
    # Error 0.25. The language models have most of the bytes, so 8 bits for the rest cost little.
    # The local encoder's output has an error of 0.33 at 4 bits, 0.023 at 8 (at the released size).
    "4bit-dit8": Quantization(4, dit_bits=8, encoder_bits=8),
    # The smallest with an unquantised diffusion transformer.
    "4bit-dit16": Quantization(4, dit_bits=FULL, encoder_bits=8),
    # Error 0.24. mlx-lm's mixed recipes give down_proj more bits too, and it joins no other layer.
    "4bit-down6-dit8": Quantization(4, dit_bits=8, down_bits=6, encoder_bits=8),
}
MODE_RECIPES = ("mxfp4", "mxfp8", "nvfp4")
"""Further recipes: floating-point formats of 4 or 8 bits, if this MLX has them."""
MIXED_RECIPES = {
    "mixed_4_6": RECIPES["4bit-down6-dit8"],
    "mixed_3_6": Quantization(3, dit_bits=8, down_bits=6, encoder_bits=8),
    "mixed_3_4": Quantization(3, dit_bits=8, down_bits=4, encoder_bits=8),
    "mixed_2_6": Quantization(2, dit_bits=8, down_bits=6, encoder_bits=8),
}
"""mlx-lm's names: few bits for most layers of the language models, more for each `down_proj`.

mlx-lm gives those also to `v_proj`, in a third of the layers. The diffusion transformer and the
local encoder, which its models don't have, get 8. Below 4 bits the errors are not measured.
"""


def find_recipe(quantize: str | Quantization | None) -> Quantization | None:
    """Settings of a recipe by its name; None for "bf16". Raises ValueError for an unknown one."""
    if quantize is None or isinstance(quantize, Quantization):
        return quantize
    if quantize in MODE_RECIPES:
        return Quantization(mode=quantize)
    if quantize in MIXED_RECIPES:
        return MIXED_RECIPES[quantize]
    if not isinstance(quantize, str) or quantize not in RECIPES:
        known = ", ".join((*RECIPES, *MODE_RECIPES))
        raise ValueError(f"recipe is {quantize!r}; it must be one of {known}")
    return RECIPES[quantize]
