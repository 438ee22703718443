"""The training forward of dialogues: cross entropy of their tokens, diffusion loss of their frames.

A frame's condition is the state before it, as in generation; upstream's model file takes the state
at the frame, which has heard it.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .network import VibeVoiceNetwork
from .solver import signal_and_noise

MUL = 4
"""Number of times that each frame is noised, upstream's `ddpm_batch_mul`."""


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of a batch of dialogues, arrays of one number.

    cross_entropy: mean over all tokens but placeholders, the prompt's too. target: over those
    after the prompt alone. diffusion: mean squared error of the velocity.
    """

    cross_entropy: mx.array
    diffusion: mx.array
    target: mx.array


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of dialogues to learn, padded on the right, where the causal decoder does not see it.

    A row is the prompt, a placeholder per frame of the target, and the tokens that end it. There
    are N placeholders with latents, M frames to learn and K tokens to learn; each of these is
    padded too.
    """

    tokens: mx.array
    """(B, T)."""
    is_placeholder: mx.array
    """(B, T)."""
    means: mx.array
    """(N, D): means of the latents at the placeholders, row after row."""
    spread: mx.array
    """(N, D): standard normal, times that of the clip; 0 learns the means."""
    semantic: mx.array
    """(N, S): semantic latents of the same audio."""
    targets: mx.array
    """(M,): position of each frame to learn among all B * T."""
    target_latent: mx.array
    """(M,): its index in `means`."""
    target_weights: mx.array
    """(M,) 1, or 0 for padding."""
    labels: mx.array
    """(K,): position among all B * T of each token to learn."""
    label_weights: mx.array
    """(K,) 1, or 0 for padding."""
    follows: mx.array
    """(K,) 1 for a token after the target's frames, else 0."""


def compute_losses(
    network: VibeVoiceNetwork,
    batch: Batch,
    noise: mx.array,
    timesteps: mx.array,
    mul: int = MUL,
    counts: mx.array | None = None,
) -> Losses:
    """Losses of a batch; each frame is noised `mul` times.

    noise (M * mul, D); timesteps (M * mul,), whole numbers from 0 to 999. counts: the numbers of
    frames and of tokens by which the sums are divided, by default the batch's own; for a part of a
    batch, those of the whole.
    """
    features = network.features(batch.means + network.config.latent_std * batch.spread)
    hidden = _hidden_states(network, batch, features)
    clean = mx.repeat(features[batch.target_latent], mul, axis=0)
    condition = mx.repeat(hidden[batch.targets - 1], mul, axis=0)
    alpha, sigma = (each[:, None] for each in signal_and_noise(timesteps))
    noisy, velocity = alpha * clean + sigma * noise, alpha * noise - sigma * clean
    predicted = network.prediction_head(noisy, timesteps.astype(mx.float32), condition)
    square = mx.mean(mx.square(predicted - velocity).reshape(-1, mul * clean.shape[-1]), axis=-1)
    labels = batch.tokens.reshape(-1)[batch.labels]
    # Of the states before labels only: the logits of all positions would take gigabytes.
    entropy = nn.losses.cross_entropy(network.token_logits(hidden[batch.labels - 1]), labels)
    frames, tokens = (None, None) if counts is None else (counts[0], counts[1])
    return Losses(
        _mean(entropy, batch.label_weights, tokens),
        _mean(square, batch.target_weights, frames),
        _mean(entropy, batch.label_weights * batch.follows),
    )


def _hidden_states(network: VibeVoiceNetwork, batch: Batch, features: mx.array) -> mx.array:
    """States of all positions (B * T, H)."""
    sound = network.acoustic_connector(features) + network.semantic_connector(batch.semantic)
    tokens, is_placeholder = batch.tokens.reshape(-1), batch.is_placeholder.reshape(-1)
    x = network.embed(tokens, is_placeholder, sound).reshape(*batch.tokens.shape, -1)
    hidden = network.language_model(x)
    return hidden.reshape(-1, hidden.shape[-1])


def _mean(values: mx.array, weights: mx.array, count: mx.array | None = None) -> mx.array:
    """Weighted sum over `count`, by default the sum of the weights."""
    return mx.sum(values * weights) / (mx.maximum(mx.sum(weights), 1) if count is None else count)
