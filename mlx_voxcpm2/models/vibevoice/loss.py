"""The training forward of a dialogue: cross entropy of its tokens, diffusion loss of its frames.

A frame's condition is the state before it, as in generation; upstream's model file takes the state
at the frame, which has heard it.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .network import VibeVoiceNetwork
from .solver import signal_and_noise


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of one dialogue, arrays of one number.

    cross_entropy: mean over all tokens but placeholders, the prompt's too. target: over those
    after the prompt alone. diffusion: mean squared error of the velocity.
    """

    cross_entropy: mx.array
    diffusion: mx.array
    target: mx.array


@dataclass(frozen=True, eq=False)
class Example:
    """A dialogue to learn: its tokens and the sound at its placeholders.

    tokens and is_placeholder (T,). features (N, D) and semantic (N, S): latents of all N
    placeholders, in order; the last `frames` of them are the target.
    """

    tokens: mx.array
    is_placeholder: mx.array
    features: mx.array
    semantic: mx.array
    frames: int
    first: int
    """Position of the first of the target's frames."""


def compute_losses(
    network: VibeVoiceNetwork, example: Example, noise: mx.array, timesteps: mx.array, mul: int = 4
) -> Losses:
    """Losses of an example; each frame is noised `mul` times.

    noise (frames * mul, D); timesteps (frames * mul,), whole numbers from 0 to 999.
    """
    sound = network.acoustic_connector(example.features)
    sound = sound + network.semantic_connector(example.semantic)
    x = network.embed(example.tokens, example.is_placeholder, sound)
    hidden = network.language_model(x[None])[0]
    first, frames = example.first, example.frames
    clean = mx.repeat(example.features[-frames:], mul, axis=0)
    condition = mx.repeat(hidden[first - 1 : first - 1 + frames], mul, axis=0)
    alpha, sigma = (each[:, None] for each in signal_and_noise(timesteps))
    noisy, velocity = alpha * clean + sigma * noise, alpha * noise - sigma * clean
    predicted = network.prediction_head(noisy, timesteps.astype(mx.float32), condition)
    labels, is_counted = example.tokens[1:], ~example.is_placeholder[1:]
    each = nn.losses.cross_entropy(network.token_logits(hidden[:-1]), labels)
    follows = is_counted & (mx.arange(1, len(example.tokens)) >= first)

    def mean(where: mx.array) -> mx.array:
        return mx.sum(each * where) / mx.maximum(mx.sum(where), 1)

    diffusion = mx.mean(mx.square(predicted - velocity))
    return Losses(mean(is_counted), diffusion, mean(follows))
