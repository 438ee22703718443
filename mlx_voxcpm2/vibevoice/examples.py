"""Examples to learn from: a prompt, its voices and the dialogue's sound."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ..models.vibevoice.codec import sample_latents
from ..models.vibevoice.loss import Example
from ..models.vibevoice.network import VibeVoiceNetwork
from ..models.vibevoice.solver import TRAIN_STEPS
from ..schema import check_integer
from .steps import LegalTokens
from .voices import VoiceEncoder


def make_example(
    network: VibeVoiceNetwork,
    legal: LegalTokens,
    prompt_ids: Sequence[int],
    voices: Sequence[np.ndarray],
    target: np.ndarray,
    sample: tuple[mx.array, mx.array] | None = None,
) -> Example:
    """Example of a prompt, its voices and its target, samples (L,) at 24 kHz.

    sample: std (C,) and noise (C, frames, D) to draw the latents of all C clips, the target last;
    None for their means. Raises ValueError for voices that do not fit the prompt.
    """
    encoder = VoiceEncoder(network)
    clips = [np.asarray(clip, np.float32).reshape(-1) for clip in (*voices, target)]
    if not all(len(clip) and np.isfinite(clip).all() for clip in clips):
        raise ValueError("a clip is empty or holds values that are not finite; give other audio")
    latents = [encoder.mean(clip) for clip in clips]
    if sample is not None:
        spread = network.config.latent_std
        latents = [
            sample_latents(mean[None], std.reshape(1), noise[None, : len(mean)], spread)[0]
            for mean, std, noise in zip(latents, *sample, strict=True)
        ]
    semantic = mx.concatenate([encoder.semantic(clip) for clip in clips])
    frames, ids = len(latents[-1]), list(prompt_ids)
    places, given = ids.count(legal.frame), len(semantic) - frames
    if places != given:
        raise ValueError(f"the voices have {given} frames, the prompt has places for {places}")
    tokens = mx.array([*ids, *[legal.frame] * frames, legal.end, legal.stop])
    features = network.features(mx.concatenate(latents))
    return Example(tokens, tokens == legal.frame, features, semantic, frames, len(ids))


def check_draws(noise: mx.array, timesteps: mx.array, mul: int, frames: int, size: int) -> None:
    """Raise ValueError unless noise and timesteps are for `frames` frames, `mul` times each."""
    check_integer("mul", mul, 1, 1000)
    wanted = (frames * mul, size)
    if noise.shape != wanted or timesteps.shape != wanted[:1]:
        raise ValueError(
            f"noise has shape {noise.shape}, timesteps {timesteps.shape}; they must be {wanted} "
            f"and {wanted[:1]}"
        )
    if not ((timesteps >= 0) & (timesteps < TRAIN_STEPS)).all().item():
        raise ValueError(f"timesteps must be from 0 to {TRAIN_STEPS - 1}")
