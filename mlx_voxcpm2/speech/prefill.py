"""The pass over the prompts of a batch, before its first patch.

The positions of a reference depend on nothing behind them. They are read in a pass of their own,
whose keys and values the model stores for the next texts in that voice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..layers.kv_cache import KVCache
from .prompt import Prompt

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model

PREFILL_POSITIONS = 1024
"""Positions of a pass, so that a long prompt takes little more memory than a short one."""

Caches = tuple[list[KVCache], list[KVCache]]


def prefill(model: VoxCPM2Model, prompts: Sequence[Prompt]) -> tuple[Caches, mx.array, mx.array]:
    """Caches, and hidden states (B, H) of both language models at the last position.

    Shorter prompts are padded on the left. All rows read as many positions as the row with the
    most behind its reference; the others take fewer stored ones for it.
    """
    references = [_reference_caches(model, prompt) for prompt in prompts]
    lengths = [len(prompt.tokens) for prompt in prompts]
    read = max(len(each.tokens) - each.reference_positions for each in prompts)
    stored = [max(length - read, 0) for length in lengths]
    rest = [
        prompt.positions_between(count, length)
        for prompt, count, length in zip(prompts, stored, lengths, strict=True)
    ]
    padding = [max(lengths) - length for length in lengths]
    base, residual = (
        [
            KVCache.after(
                [
                    (None if caches is None else caches[stack][layer], count)
                    for caches, count in zip(references, stored, strict=True)
                ],
                padding,
            )
            for layer in range(len(lm.layers))
        ]
        for stack, lm in enumerate((model.base_lm, model.residual_lm))
    )
    cache = base, residual
    return cache, *_read(model, rest, cache)


def _reference_caches(model: VoxCPM2Model, prompt: Prompt) -> Caches | None:
    """Caches of one row after the reference, stored or read now; None without a reference."""
    reference = prompt.positions_between(0, prompt.reference_positions)
    if reference.patches is None:
        return None
    return model.prefixes.get(_digest(reference.patches), partial(_read_alone, model, reference))


def _digest(patches: mx.array) -> bytes:
    return hashlib.blake2b(np.array(patches.astype(mx.float32)).tobytes(), digest_size=16).digest()


def _read_alone(model: VoxCPM2Model, sequence: Prompt) -> Caches:
    cache = model.make_cache()
    _read(model, [sequence], cache)
    layers = [layer for stack in cache for layer in stack]
    mx.async_eval([array for layer in layers for array in (layer.keys, layer.values)])
    return cache


def _read(
    model: VoxCPM2Model, prompts: Sequence[Prompt], cache: Caches
) -> tuple[mx.array, mx.array]:
    """Reads what follows the positions in the caches; the hidden states (B, H) of the last one."""
    length = max(len(prompt.tokens) for prompt in prompts)
    filled = [(length - len(prompt.tokens), prompt) for prompt in prompts]
    tokens = mx.array([[0] * missing + prompt.tokens for missing, prompt in filled])
    is_audio = mx.array([[False] * missing + prompt.is_audio for missing, prompt in filled])
    patches = [prompt.patches for prompt in prompts if prompt.patches is not None]
    embeddings = model.embed(tokens, is_audio, mx.concatenate(patches) if patches else None)

    def read(chunk: slice) -> tuple[mx.array, mx.array]:
        part = embeddings[:, chunk], is_audio[:, chunk]
        hidden, residual = model(*part, cache, output_positions=slice(-1, None))
        hidden, residual = hidden.squeeze(1), residual.squeeze(1)
        mx.async_eval(hidden, residual)
        return hidden, residual

    starts = range(0, length, PREFILL_POSITIONS)
    *chunks, last = (slice(start, start + PREFILL_POSITIONS) for start in starts)
    for chunk in chunks:
        read(chunk)
    return read(last)
