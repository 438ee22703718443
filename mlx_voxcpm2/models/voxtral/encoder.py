"""Whisper's encoder: log-mel spectrogram -> a state every 20 ms; and the projector behind it.

Source: transformers, models/voxtral/modeling_voxtral.py. Activations of the layers are (B * T, H),
as in `layers.transformer`.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ...layers import kernels
from .config import DOWNSAMPLING, AudioConfig, VoxtralConfig


class LayerNorm(nn.LayerNorm):
    def __call__(self, x: mx.array) -> mx.array:
        """x (..., H) -> (..., H)."""
        return kernels.layer_norm(x, self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Attention of all positions to all: padding is heard as silence."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.scale = (hidden // self.heads) ** -0.5
        self.q_proj = nn.Linear(hidden, hidden)
        # A bias here would add the same to all scores of a query, and softmax takes it out again.
        self.k_proj = nn.Linear(hidden, hidden, bias=False)
        self.v_proj = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)

    def __call__(self, x: mx.array, batch: int) -> mx.array:
        """x (B * T, H) -> (B * T, H)."""
        queries, keys, values = (
            kernels.linear(layer, x).reshape(batch, -1, self.heads, x.shape[-1] // self.heads)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        split = (each.transpose(0, 2, 1, 3) for each in (queries, keys, values))
        mixed = kernels.attention(*split, self.scale)
        return kernels.linear(self.out_proj, mixed.transpose(0, 2, 1, 3).reshape(x.shape))


class EncoderLayer(nn.Module):
    def __init__(self, config: AudioConfig):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.self_attn = Attention(config)
        self.self_attn_layer_norm = LayerNorm(hidden, eps=1e-5)
        self.fc1 = nn.Linear(hidden, inner)
        self.fc2 = nn.Linear(inner, hidden)
        self.final_layer_norm = LayerNorm(hidden, eps=1e-5)

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, T, H) -> (B, T, H)."""
        batch, shape = x.shape[0], x.shape
        x = x.reshape(-1, shape[-1])
        x = x + self.self_attn(self.self_attn_layer_norm(x), batch)
        inner = kernels.gelu(kernels.linear(self.fc1, self.final_layer_norm(x)))
        return (x + kernels.linear(self.fc2, inner)).reshape(shape)


class Encoder(nn.Module):
    """Chunks are a batch: none hears another."""

    def __init__(self, config: AudioConfig):
        super().__init__()
        hidden = config.hidden_size
        self.conv1 = nn.Conv1d(config.num_mel_bins, hidden, 3, padding=1)
        self.conv2 = nn.Conv1d(hidden, hidden, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, hidden)
        self.layers = [EncoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.layer_norm = LayerNorm(hidden, eps=1e-5)

    def stem(self, mel: mx.array) -> mx.array:
        """mel (B, frames, bins) -> (B, T, H), T = frames / 2, with the positions added."""
        x = kernels.gelu(self.conv1(mel.astype(self.conv1.weight.dtype)))
        x = kernels.gelu(self.conv2(x))
        # In the positions' type, which is float32 whatever the others' is.
        return (x + self.embed_positions.weight[: x.shape[1]]).astype(x.dtype)

    def __call__(self, mel: mx.array) -> mx.array:
        """mel (B, frames, bins) -> states (B, T, H)."""
        x = self.stem(mel)
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)


class Projector(nn.Module):
    """States of the encoder, four side by side, -> embeddings of the decoder."""

    def __init__(self, config: VoxtralConfig):
        super().__init__()
        inner, hidden = config.audio_config.intermediate_size, config.text_config.hidden_size
        self.linear_1 = nn.Linear(inner, hidden, bias=False)
        self.linear_2 = nn.Linear(hidden, hidden, bias=False)

    def __call__(self, states: mx.array) -> mx.array:
        """states (B, T, H) -> (B * T / 4, hidden size of the decoder), in order of time."""
        x = states.reshape(-1, DOWNSAMPLING * states.shape[-1])
        return kernels.linear(self.linear_2, kernels.gelu(kernels.linear(self.linear_1, x)))
