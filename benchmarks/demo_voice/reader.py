"""A language model that reads: characters -> the phonemes of the next patch.

At each patch its input is an embedding of the previous patch's phonemes, in place of the local
encoder's. One head of one layer is trained to attend to the characters that are read during the
next patch (guided attention: Tachibana et al. 2017, arXiv 1710.08969).
"""

from __future__ import annotations

import mlx_voxcpm2  # noqa: F401  # before MLX, so that it finds a fast BLAS on Linux  # isort: skip

import math
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from labels import PATCH, PHONEMES, Reading
from mlx.utils import tree_flatten, tree_unflatten
from spelling import AUDIO_START, spell

from mlx_voxcpm2.layers.kv_cache import KVCache
from mlx_voxcpm2.layers.transformer import ALL, DecoderLayer, Positions, Transformer
from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config

GUIDED_LAYER, GUIDE_WEIGHT = 2, 0.5
REPLACED = 0.15
"""Fraction of input patches replaced at random, so that the text is not ignored."""
CASES = {"lower": 0.15, "upper": 0.05, "title": 0.05}
_FAR = -1e9


class Reader(nn.Module):
    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        hidden = config.lm_config.hidden_size
        self.base_lm = Transformer(config.base_config, config.context_length)
        self.sounds = nn.Embedding(PATCH * PHONEMES, hidden)
        self.head = nn.Linear(hidden, PATCH * PHONEMES)
        self.update(tree_unflatten(list(_drawn(self).items())))

    def embed_phonemes(self, phonemes: mx.array) -> mx.array:
        """Embeds phonemes (..., PATCH) -> (..., H)."""
        return self.sounds(phonemes + PHONEMES * mx.arange(PATCH)).sum(-2)

    def __call__(
        self, tokens: mx.array, is_audio: mx.array, previous: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Logits (B, T, PATCH, PHONEMES), and the guided head's attention scores (B, T, T).

        tokens (B, T), is_audio (B, T), previous (B, T, PATCH): phonemes of audio positions.
        """
        lm = self.base_lm
        x = mx.where(is_audio[..., None], self.embed_phonemes(previous), lm.embed(tokens))
        batch, length, hidden = x.shape
        positions = Positions(batch, 0, KVCache().mask(length), ALL)
        x, attention = x.reshape(-1, hidden), None
        for index, layer in enumerate(lm.layers):
            if index == GUIDED_LAYER:
                attention = self._attention(layer, x, batch)
            x = layer(x, positions, lm.rope, None)
        logits = self.head(lm.norm(x))
        return logits.reshape(batch, length, PATCH, PHONEMES), attention

    def _attention(self, layer: DecoderLayer, x: mx.array, batch: int) -> mx.array:
        """Attention scores of the first head, as `Attention` computes them."""
        own = layer.self_attn
        size = own.q_proj.weight.shape[0] // own.heads
        x = layer.input_layernorm(x)
        queries, keys = (
            self.base_lm.rope((x @ projection.weight[:size].T).reshape(batch, 1, -1, size), 0)
            for projection in (own.q_proj, own.k_proj)
        )
        found = (queries @ keys.swapaxes(-1, -2))[:, 0] * own.scale
        return found + mx.triu(mx.full(found.shape[1:], _FAR), 1)


def _drawn(reader: Reader) -> dict[str, mx.array]:
    """Random weights of unit gain; those that add to the residual stream are smaller."""
    drawn = {}
    depth = 2 * len(reader.base_lm.layers)
    for name, weight in tree_flatten(reader.trainable_parameters()):
        if weight.ndim < 2:
            continue
        size = weight.shape[1] ** -0.5
        if "embed_tokens" in name:
            size = 1.0
        elif name.startswith("sounds."):
            size = PATCH**-0.5
        elif "o_proj" in name or "down_proj" in name:
            size /= math.sqrt(depth)
        drawn[name] = mx.random.normal(weight.shape) * size
    return drawn


class Batch:
    """Batch of readings, padded on the right."""

    def __init__(self, readings: Sequence[Reading], random: np.random.Generator | None = None):
        """random: for training; varies the case and replaces some of the input phonemes."""
        longest = max(len(each.text) + 1 + len(each.phonemes) for each in readings)
        shape = (len(readings), longest + -longest % 8)
        tokens, is_audio = np.zeros(shape, np.int32), np.zeros(shape, bool)
        previous, wanted = np.zeros((*shape, PATCH), np.int32), np.zeros((*shape, PATCH), np.int32)
        weights, guided = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        read = np.zeros((*shape, shape[1]), bool)
        for row, each in enumerate(readings):
            text = each.text if random is None else _recased(each.text, random)
            letters, end = len(text), len(text) + len(each.phonemes)
            tokens[row, : letters + 1] = [*spell(text), AUDIO_START]
            is_audio[row, letters + 1 : end + 1] = True
            previous[row, letters + 1 : end + 1] = each.phonemes
            wanted[row, letters:end], weights[row, letters:end] = each.phonemes, 1
            if each.read is not None:
                guided[row, letters:end] = 1
                place, (first, behind) = np.arange(letters), each.read.T[..., None]
                read[row, letters:end, :letters] = (place >= first) & (place < behind)
        if random is not None:
            replaced = random.random(shape) < REPLACED
            previous[replaced] = random.integers(PHONEMES, size=previous[replaced].shape)
        self.inputs = mx.array(tokens), mx.array(is_audio), mx.array(previous)
        self.wanted, self.weights = mx.array(wanted), mx.array(weights)
        self.read, self.guided = mx.array(read), mx.array(guided)


def _recased(text: str, random: np.random.Generator) -> str:
    names = [*CASES, "as it is"]
    name = random.choice(names, p=[*CASES.values(), 1 - sum(CASES.values())])
    return text if name == names[-1] else getattr(text, name)()


def loss_of(reader: Reader, batch: Batch) -> tuple[mx.array, mx.array]:
    """Loss, and its parts: of the phonemes, of the guided head, and the phonemes' accuracy."""
    logits, attention = reader(*batch.inputs)

    def mean(values: mx.array, weights: mx.array) -> mx.array:
        return mx.sum(values * weights) / mx.maximum(mx.sum(weights), 1)

    phonemes = mean(nn.losses.cross_entropy(logits, batch.wanted).mean(-1), batch.weights)
    right = mean((logits.argmax(-1) == batch.wanted).mean(-1), batch.weights)
    mass = mx.logsumexp(mx.where(batch.read, attention, _FAR), -1) - mx.logsumexp(attention, -1)
    guide = mean(mx.minimum(-mass, 20), batch.guided)
    return phonemes + GUIDE_WEIGHT * guide, mx.stack([phonemes, guide, right])
