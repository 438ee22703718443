"""Checkpoints for MLX from upstream's release. Installed as `mlx_voxcpm2.convert`."""

from .checkpoint import convert, save_checkpoint
from .publish import publish

__all__ = ["convert", "publish", "save_checkpoint"]
