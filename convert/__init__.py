"""Convert checkpoints for MLX, and upload them. Installed as `mlx_voxcpm2.convert`."""

from .checkpoint import LAYOUTS
from .conversion import Conversion, convert
from .publish import publish

__all__ = ["LAYOUTS", "Conversion", "convert", "publish"]
