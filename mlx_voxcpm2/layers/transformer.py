"""Decoder-only transformer: RMSNorm, grouped-query attention with RoPE, SwiGLU.

MiniCPM-4 (upstream: modules/minicpm4/model.py), Llama and Qwen2 are options of it. Activations are
(B * L, H), all positions of all rows one after another: matrix products take no other shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx
import mlx.nn as nn
from mlx.nn.utils import checkpoint

from . import kernels
from .config import TransformerConfig
from .custom.add_norm import add_linear_norm
from .custom.few_rows import few_rows
from .custom.rope_attention import rope_attention
from .fused_linear import Evaluate, FusedProjections
from .kv_cache import KVCache
from .rope import RoPE

ALL = slice(None)


@dataclass(frozen=True)
class Positions:
    """Positions of a call, and the attention mask between them."""

    batch: int
    start: int | mx.array
    """Position of the first one, (B,) if it differs between rows."""
    mask: str | mx.array | None
    outputs: slice
    """Positions that a layer computes, R of L."""

    def select(self, x: mx.array) -> mx.array:
        """x (B * L, H) -> the output positions (B * R, H)."""
        if self.outputs == ALL:
            return x
        return x.reshape(self.batch, -1, x.shape[-1])[:, self.outputs].reshape(-1, x.shape[-1])


class RMSNorm(nn.RMSNorm):
    def __call__(self, x: mx.array) -> mx.array:
        """x (..., H) -> (..., H)."""
        return kernels.rms_norm(x, self.weight, self.eps)


class Attention(FusedProjections):
    projections = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: TransformerConfig):
        super().__init__()
        hidden, size = config.hidden_size, config.head_size
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.scale = config.attention_scale
        self.q_proj = nn.Linear(hidden, self.heads * size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden, self.kv_heads * size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden, self.kv_heads * size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(self.heads * size, hidden, bias=False)

    def mix(
        self,
        x: mx.array,
        norm: RMSNorm,
        positions: Positions,
        rope: RoPE | None,
        cache: KVCache | None,
    ) -> mx.array:
        """x (B * L, H) -> the heads' outputs of norm(x), (B * R, heads * size), before `o_proj`."""
        projected = self.project(x, norm)
        qkv = projected[0] if len(projected) == 1 else mx.concatenate(projected, axis=-1)
        sizes = positions.batch, self.heads, self.kv_heads
        if cache is None and positions.mask is None and not self.training:
            table = None if rope is None else rope.table
            mixed = rope_attention(qkv, *sizes, self.scale, positions.outputs, table)
            if mixed is not None:
                return mixed
        rotate = None if rope is None else partial(rope, start=positions.start)
        queries, keys, values = kernels.split_heads(qkv, *sizes, rotate)
        if cache is not None:
            keys, values = cache.update(keys, values)
        mask = positions.mask
        if isinstance(mask, mx.array):
            mask = mask[:, :, positions.outputs]
        return kernels.attend(queries[:, :, positions.outputs], keys, values, self.scale, mask)


class MLP(FusedProjections):
    """SwiGLU: `down_proj` of silu(gate_proj) * up_proj (Shazeer 2020, arXiv 2002.05202)."""

    projections = ("gate_proj", "up_proj")

    def __init__(self, hidden: int, inner: int):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def fuse(self, evaluate: Evaluate) -> None:
        if kernels.fuses_gate_and_up():
            super().fuse(evaluate)

    def activate(self, x: mx.array, norm: RMSNorm | None = None) -> mx.array:
        """x (N, H) -> norm(x) gated, (N, intermediate size), before `down_proj`."""
        gated = None if norm is None else self.gate(x, norm)
        if gated is not None:
            return gated
        projected = self.project(x, norm)
        gate, up = projected if len(projected) == 2 else mx.split(projected[0], 2, axis=-1)
        return kernels.swiglu(gate, up)


class DecoderLayer(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config.hidden_size, config.intermediate_size)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.residual_scale = config.residual_scale

    def __call__(
        self, x: mx.array, positions: Positions, rope: RoPE | None, cache: KVCache | None
    ) -> mx.array:
        """x (B * L, H) -> (B * R, H), the output positions."""
        attention, norm = self.self_attn, self.post_attention_layernorm
        mixed = attention.mix(x, self.input_layernorm, positions, rope, cache)
        x, normed = self._add_and_norm(positions.select(x), attention.o_proj, mixed, norm)
        inner = self.mlp.activate(x, norm) if normed is None else self.mlp.activate(normed)
        return self._add(x, self.mlp.down_proj, inner)

    def _add_and_norm(
        self, residual: mx.array, layer: nn.Module, x: mx.array, norm: RMSNorm
    ) -> tuple[mx.array, mx.array | None]:
        """`_add`, (N, H), and its norm if one custom kernel computes both."""
        scale = self.residual_scale
        pair = None if self.training else add_linear_norm(residual, layer, x, scale, norm)
        return (self._add(residual, layer, x), None) if pair is None else (pair[0], pair[1])

    def _add(self, residual: mx.array, layer: nn.Module, x: mx.array) -> mx.array:
        """residual + scale * layer(x), (N, H)."""
        scale = self.residual_scale
        found = None if self.training else few_rows(x, layer, residual=residual, scale=scale)
        return kernels.add_linear(residual, layer, x, scale) if found is None else found


class Transformer(nn.Module):
    """Stack of decoder layers: embeddings -> hidden states.

    positions: the longest sequence, which sizes the RoPE tables.
    """

    def __init__(self, config: TransformerConfig, positions: int):
        super().__init__()
        self.recomputes = False
        """Whether, in training mode, the gradient computes each layer a second time instead of
        storing its activations: less memory, a third slower (Chen et al. 2016, arXiv 1604.06174).
        """
        self.embedding_scale = config.embedding_scale
        if config.vocab_size:
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rope = None if config.rope_theta is None else RoPE(config, positions)

    def fuse(self, evaluate: Evaluate) -> None:
        """Fuses projections of the same input, once the weights are final."""
        for layer in self.layers:
            layer.self_attn.fuse(evaluate)
            layer.mlp.fuse(evaluate)

    def unfuse(self) -> None:
        """Undoes `fuse`, before layers or their weights are replaced."""
        for layer in self.layers:
            layer.self_attn.unfuse()
            layer.mlp.unfuse()

    def make_cache(self, padding: Sequence[int] = ()) -> list[KVCache]:
        """An empty cache per layer. padding: number of padding positions on each row's left."""
        return [KVCache(padding) for _ in self.layers]

    def embed(self, tokens: mx.array) -> mx.array:
        """tokens (B, T) -> (B, T, H)."""
        embedded = self.embed_tokens(tokens).astype(self.norm.weight.dtype)
        return embedded if self.embedding_scale == 1 else embedded * self.embedding_scale

    def __call__(
        self,
        x: mx.array,
        cache: Sequence[KVCache] | None = None,
        causal: bool = True,
        output_positions: slice = ALL,
    ) -> mx.array:
        """x (B, L, H), which follows the positions in `cache` -> hidden states (B, R, H).

        The last layer computes the R `output_positions` only. In a causal stack they must be the
        last ones.
        """
        batch, length, hidden = x.shape
        first = cache[0] if cache else KVCache()
        mask = first.mask(length) if causal else None
        positions = Positions(batch, first.first_positions(), mask, ALL)
        last = replace(positions, outputs=output_positions)
        x = x.reshape(-1, hidden)
        for index, layer in enumerate(self.layers):
            call = checkpoint(layer) if self.recomputes and self.training else layer
            where = last if layer is self.layers[-1] else positions
            x = call(x, where, self.rope, cache[index] if cache else None)
        return self.norm(x).reshape(batch, -1, hidden)


class CausalLM(nn.Module):
    """Tokens -> logits, with the embedding matrix or a matrix of its own as the output head."""

    def __init__(self, config: TransformerConfig, positions: int):
        super().__init__()
        self.model = Transformer(config, positions)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def logits(self, hidden: mx.array) -> mx.array:
        """hidden (..., H) -> (..., vocabulary)."""
        head = self.lm_head if "lm_head" in self else self.model.embed_tokens
        rows = kernels.linear(head, hidden.reshape(-1, hidden.shape[-1]))
        return rows.reshape(*hidden.shape[:-1], -1)

    def __call__(self, tokens: mx.array, cache: list[KVCache] | None = None) -> mx.array:
        """tokens (B, T) -> logits (B, T, vocabulary)."""
        return self.logits(self.model(self.model.embed(tokens), cache))
