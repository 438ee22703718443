"""Convert checkpoints for MLX, and upload them. Installed as `mlx_voxcpm2.convert`."""

from .checkpoint import LAYOUTS, convert
from .publish import publish

__all__ = ["LAYOUTS", "convert", "publish"]
