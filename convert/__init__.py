"""Checkpoints for MLX from upstream's release. Installed as `mlx_voxcpm2.convert`."""

from .checkpoint import convert, save_checkpoint

__all__ = ["convert", "save_checkpoint"]
