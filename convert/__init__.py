"""Checkpoints for MLX from upstream's release. Installed as `mlx_voxcpm2.convert`."""

from .checkpoint import LAYOUTS, convert

__all__ = ["LAYOUTS", "convert"]
