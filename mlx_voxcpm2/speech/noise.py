"""Noise that the patches start from: drawn from a seed, or supplied."""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

NOISE_BLOCK = 64


def draw_noise(seed: int, patch_shape: tuple[int, ...]) -> Iterator[mx.array]:
    """Standard normal noise, such as (P, D), one per patch; equal for equal seeds on all devices.

    Drawn in blocks: a draw takes a dozen kernels, whatever its size.
    """
    key = mx.random.key(int(seed))
    while True:
        key, draw = mx.random.split(key)
        block = mx.random.normal((NOISE_BLOCK, *patch_shape), key=draw)
        mx.async_eval(key, block)  # the next patch may be asked for by another thread
        yield from block


def supplied_noise(noise: mx.array) -> Iterator[mx.array]:
    """Rows (P, D) of noise (N, P, D). Raises ValueError after the last."""
    yield from noise
    raise ValueError(
        f"noise has {len(noise)} rows and the speech is not over; pass more rows, or "
        f"max_tokens={len(noise)}"
    )


def checked_noise(noise: mx.array, patch_shape: tuple[int, ...]) -> mx.array:
    """Noise of N patches, such as (N, P, D), as float32. Raises ValueError for another shape."""
    if isinstance(noise, mx.array):
        noise = noise.astype(mx.float32)  # numpy has no bfloat16
    try:
        values = np.asarray(noise).astype(np.float32)
    except (TypeError, ValueError):
        raise ValueError("noise is no array of numbers; give floats of one row per patch") from None
    if values.ndim < 2 or values.shape[1:] != patch_shape or not len(values):
        sizes = ", ".join(map(str, patch_shape))
        raise ValueError(f"noise has shape {values.shape}; it must be (patches, {sizes})")
    if not np.isfinite(values).all():
        raise ValueError("noise holds values that are not finite")
    return mx.array(values)
