"""VibeVoice's diffusion head: a noisy latent, its time and a hidden state -> the velocity.

Upstream: vibevoice 0.0.1, modular/modular_vibevoice_diffusion_head.py. Adaptive layer norm:
Peebles and Xie 2023, arXiv 2212.09748.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...layers import kernels
from ...layers.fused_linear import Evaluate
from ...layers.transformer import MLP, RMSNorm
from .config import HeadConfig


class TimeEmbedding(nn.Module):
    """Timesteps -> (N, H), by cosines and sines and an MLP."""

    def __init__(self, config: HeadConfig):
        super().__init__()
        half, hidden = config.frequency_size // 2, config.hidden_size
        self.fc1 = nn.Linear(config.frequency_size, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, hidden, bias=False)
        exponents = np.arange(half, dtype=np.float32) * np.float32(-math.log(config.max_period))
        self._frequencies = mx.array(np.exp(exponents / np.float32(half)))

    def __call__(self, t: mx.array) -> mx.array:
        """t (N,), float32 -> (N, H). The sinusoids are computed in float32 at any precision."""
        angles = t.astype(mx.float32)[:, None] * self._frequencies
        sinusoids = mx.concatenate([mx.cos(angles), mx.sin(angles)], axis=-1)
        dtype = self.fc1.scales.dtype if "scales" in self.fc1 else self.fc1.weight.dtype
        hidden = kernels.linear(self.fc1, sinusoids.astype(dtype))
        return kernels.linear(self.fc2, kernels.silu(hidden))


class HeadLayer(nn.Module):
    def __init__(self, config: HeadConfig):
        super().__init__()
        self.ffn = MLP(config.hidden_size, config.intermediate_size)
        self.norm = RMSNorm(config.hidden_size, config.eps)
        self.modulation = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)

    def __call__(self, x: mx.array, modulation: mx.array) -> mx.array:
        """x (N, H), modulation (N, 3 H): shift, scale and gate -> (N, H)."""
        shift, scale, gate = mx.split(modulation, 3, axis=-1)
        inner = self.ffn.activate(kernels.modulate(self.norm(x), shift, scale))
        return kernels.gated_sum(x, kernels.linear(self.ffn.down_proj, inner), gate)


class FinalLayer(nn.Module):
    def __init__(self, config: HeadConfig):
        super().__init__()
        hidden = config.hidden_size
        self.linear = nn.Linear(hidden, config.latent_dim, bias=False)
        self.modulation = nn.Linear(hidden, 2 * hidden, bias=False)
        self._eps, self._hidden = config.eps, hidden

    def __call__(self, x: mx.array, modulation: mx.array) -> mx.array:
        """x (N, H), modulation (N, 2 H): shift and scale -> (N, D)."""
        shift, scale = mx.split(modulation, 2, axis=-1)
        ones = mx.ones((self._hidden,), dtype=x.dtype)
        normed = kernels.rms_norm(x, ones, self._eps)
        return kernels.linear(self.linear, kernels.modulate(normed, shift, scale))


class DiffusionHead(nn.Module):
    def __init__(self, config: HeadConfig):
        super().__init__()
        hidden = config.hidden_size
        self.noisy_images_proj = nn.Linear(config.latent_dim, hidden, bias=False)
        self.cond_proj = nn.Linear(hidden, hidden, bias=False)
        self.t_embedder = TimeEmbedding(config)
        self.layers = [HeadLayer(config) for _ in range(config.layers)]
        self.final_layer = FinalLayer(config)

    def fuse(self, evaluate: Evaluate) -> None:
        """Fuses projections of the same input, once the weights are final."""
        for layer in self.layers:
            layer.ffn.fuse(evaluate)

    def unfuse(self) -> None:
        """Undoes `fuse`, before layers or their weights are replaced."""
        for layer in self.layers:
            layer.ffn.unfuse()

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the activations: that of the norms, which are never quantised."""
        return self.layers[0].norm.weight.dtype

    def modulations(self, time: mx.array, condition: mx.array) -> list[mx.array]:
        """time (S, H) of `t_embedder`, condition (B, H) -> each layer's (S, B, 3 H or 2 H).

        They do not depend on the noisy latent: the matrices are read once for all S times.
        """
        projected = kernels.linear(self.cond_proj, condition.astype(self.dtype))
        summed = kernels.silu(time[:, None] + projected)
        flat = summed.reshape(-1, summed.shape[-1])
        layers = [*self.layers, self.final_layer]
        found = [kernels.linear(layer.modulation, flat) for layer in layers]
        return [each.reshape(*summed.shape[:2], -1) for each in found]

    def velocity(self, x: mx.array, modulations: list[mx.array]) -> mx.array:
        """Noisy latents x (B, D), modulations (N, 3 H or 2 H) of one time -> (N, D), float32.

        N is a multiple of B: the latents are repeated, for several conditions each.
        """
        hidden = kernels.linear(self.noisy_images_proj, x.astype(self.dtype))
        if copies := len(modulations[0]) // len(x) - 1:
            repeated = mx.broadcast_to(hidden, (copies + 1, *hidden.shape))
            hidden = repeated.reshape(-1, hidden.shape[-1])
        *inner, last = modulations
        for layer, modulation in zip(self.layers, inner, strict=True):
            hidden = layer(hidden, modulation)
        return self.final_layer(hidden, last).astype(mx.float32)

    def __call__(self, x: mx.array, t: mx.array, condition: mx.array) -> mx.array:
        """x (N, D), t (N,) from 0 to 999, condition (N, H) -> velocity (N, D), float32."""
        projected = kernels.linear(self.cond_proj, condition.astype(self.dtype))
        summed = kernels.silu(self.t_embedder(t) + projected)
        layers = [*self.layers, self.final_layer]
        return self.velocity(x, [kernels.linear(layer.modulation, summed) for layer in layers])
