"""Training losses: error of the velocity, and cross entropy of the stop head.

Upstream: model/voxcpm2.py (`forward`), modules/locdit/unified_cfm.py (`compute_loss`). The
diffusion transformer runs at targets only, where upstream runs it everywhere and masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..models.voxcpm2.network import VoxCPM2Model
from .sequences import Sequences


@dataclass(frozen=True)
class Draws:
    """Random numbers of a loss, for each of M targets."""

    times: mx.array
    """(M,) times of the flow, from 0, the patch, to 1, noise."""
    noise: mx.array
    """(M, P, D)."""
    keep: mx.array
    """(M,) 1 or 0: whether the language models' condition is kept. Dropping it sometimes trains
    the unconditional velocity that guidance needs."""

    @classmethod
    def random(
        cls,
        generators: Sequence[np.random.Generator],
        counts: Sequence[int],
        shape: tuple[int, int],
        drop: float = 0.1,
        padded_length: int | None = None,
        t_scheduler: str = "log-norm",
    ) -> Draws:
        """Draws for rows with `counts` targets, each from its own generator.

        shape: (P, D). drop: probability that `keep` is 0. padded_length: M, if there are fewer
        targets. t_scheduler: as in `FlowConfig`. Times are sigmoid(N(-0.4, 1)) with "log-norm",
        else uniform.
        """
        rows = list(zip(generators, counts, strict=True))
        if t_scheduler == "log-norm":
            times = [1 / (1 + np.exp(-random.normal(-0.4, 1, count))) for random, count in rows]
        else:
            times = [random.random(count) for random, count in rows]
        noise = [random.standard_normal((count, *shape)) for random, count in rows]
        keep = [random.random(count) >= drop for random, count in rows]
        times, noise, keep = (np.concatenate(drawn) for drawn in (times, noise, keep))
        padding = (padded_length or len(times)) - len(times)
        return cls(
            mx.array(np.pad(times, (0, padding)).astype(np.float32)),
            mx.array(np.pad(noise, ((0, padding), (0, 0), (0, 0))).astype(np.float32)),
            mx.array(np.pad(keep, (0, padding)).astype(np.float32)),
        )


def losses(
    model: VoxCPM2Model, sequences: Sequences, draws: Draws, count: int | mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """Mean squared error of the velocity and cross entropy of the stop head, float32 scalars.

    Both are sums over targets, divided by `count`: by default the number of targets in
    `sequences`; for a part of a batch, the number in the whole batch.
    """
    count = mx.maximum(mx.sum(sequences.weights), 1) if count is None else count
    hidden, residual = states_before_targets(model, sequences)
    square = mx.square(velocity_error(model, hidden, residual, sequences, draws))
    diff = mx.sum(mx.mean(square, axis=(1, 2)) * sequences.weights) / count
    logits = model.stop_logits(hidden).astype(mx.float32)
    cross_entropy = nn.losses.cross_entropy(logits, sequences.is_last)
    return diff, mx.sum(cross_entropy * sequences.weights) / count


def states_before_targets(model: VoxCPM2Model, sequences: Sequences) -> tuple[mx.array, mx.array]:
    """Hidden states that predict the targets, of the base and the residual LM, (M, H) each."""
    embeddings = model.embed(sequences.tokens, sequences.is_audio, sequences.patches)
    states = model(embeddings, sequences.is_audio)
    hidden, residual = (each.reshape(-1, each.shape[-1])[sequences.targets - 1] for each in states)
    return hidden, residual


def velocity_error(
    model: VoxCPM2Model, hidden: mx.array, residual: mx.array, sequences: Sequences, draws: Draws
) -> mx.array:
    """Error of the predicted velocity (M, P, D), float32; the target is noise - patch.

    hidden, residual: (M, H), see `states_before_targets`.
    """
    patches = sequences.patches[sequences.target_patch]
    previous = sequences.patches[mx.maximum(sequences.previous_patch, 0)]
    cond = mx.where((sequences.previous_patch < 0)[:, None, None], 0, previous)
    t = draws.times[:, None, None]
    mu = mx.concatenate([model.lm_to_dit_proj(hidden), model.res_to_dit_proj(residual)], axis=-1)
    mu = mu * draws.keep[:, None].astype(mu.dtype)
    noisy = ((1 - t) * patches + t * draws.noise).astype(model.dtype)
    velocity = model.feat_decoder.estimator(
        noisy, mu, draws.times, cond.astype(model.dtype), mx.zeros_like(draws.times)
    )
    return velocity.astype(mx.float32) - (draws.noise - patches)
