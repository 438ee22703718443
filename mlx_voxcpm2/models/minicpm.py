"""The MiniCPM-4 stack that the language models, the local encoder and the local DiT share.

Upstream: modules/minicpm4/model.py.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..backend import swiglu
from ..config import TransformerConfig
from .joined_linear import Evaluate, JoinedLinear
from .rope import LongRoPE

EVERYTHING = slice(None)


class KVCache:
    """Keys and values of one layer, (B, heads, capacity, head size), grown in blocks in place."""

    block = 256

    def __init__(self):
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.offset = 0

    def update(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """keys, values (B, heads, L, head size) -> all of them so far."""
        start, self.offset = self.offset, self.offset + keys.shape[2]
        if self.keys is None or self.offset > self.keys.shape[2]:
            self._grow(keys)
        self.keys[:, :, start : self.offset] = keys
        self.values[:, :, start : self.offset] = values
        return self.keys[:, :, : self.offset], self.values[:, :, : self.offset]

    def _grow(self, like: mx.array) -> None:
        batch, heads, _, size = like.shape
        capacity = -(-self.offset // self.block) * self.block
        old = 0 if self.keys is None else self.keys.shape[2]
        for name in ("keys", "values"):
            room = mx.zeros((batch, heads, capacity - old, size), dtype=like.dtype)
            held = getattr(self, name)
            grown = room if held is None else mx.concatenate([held, room], axis=2)
            setattr(self, name, grown)


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        hidden, size = config.hidden_size, config.head_dim
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.scale = size**-0.5 if config.no_rope else config.rope_scale**2 * size**-0.5
        self.q_proj = nn.Linear(hidden, self.heads * size, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * size, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * size, bias=False)
        self.o_proj = nn.Linear(self.heads * size, hidden, bias=False)
        self.joined: JoinedLinear | None = None

    def join(self, evaluate: Evaluate) -> None:
        self.joined = JoinedLinear.of(evaluate, self.q_proj, self.k_proj, self.v_proj)

    def _project(self, x: mx.array, read: slice) -> list[mx.array]:
        """Queries of the positions read, keys and values of all."""
        layers = self.q_proj, self.k_proj, self.v_proj
        if self.joined is not None and self.joined.holds(*layers):
            queries, keys, values = self.joined(x)
            return [queries[:, read], keys, values]
        return [self.q_proj(x[:, read]), self.k_proj(x), self.v_proj(x)]

    def __call__(
        self,
        x: mx.array,
        rope: LongRoPE | None,
        start: int,
        causal: bool,
        cache: KVCache | None,
        read: slice,
    ) -> mx.array:
        """x (B, L, H) -> (B, R, H), the R positions that `read` selects."""
        batch, length, _ = x.shape

        def split(y: mx.array, heads: int) -> mx.array:
            return y.reshape(batch, y.shape[1], heads, -1).transpose(0, 2, 1, 3)

        queries, keys, values = self._project(x, read)
        queries = split(queries, self.heads)
        keys, values = split(keys, self.kv_heads), split(values, self.kv_heads)
        if rope is not None:
            queries = rope(queries, start + read.indices(length)[0])
            keys = rope(keys, start)
        if cache is not None:
            keys, values = cache.update(keys, values)
        mixed = mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=self.scale,
            mask="causal" if causal and length > 1 else None,
        )  # fmt: skip
        return self.o_proj(mixed.transpose(0, 2, 1, 3).reshape(batch, queries.shape[2], -1))


class MLP(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.joined: JoinedLinear | None = None

    def join(self, evaluate: Evaluate) -> None:
        self.joined = JoinedLinear.of(evaluate, self.gate_proj, self.up_proj)

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, L, H) -> (B, L, H)."""
        if self.joined is not None and self.joined.holds(self.gate_proj, self.up_proj):
            gate, up = self.joined(x)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(swiglu(gate, up))


class DecoderLayer(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.residual_scale = config.residual_scale

    def __call__(
        self,
        x: mx.array,
        rope: LongRoPE | None,
        start: int,
        causal: bool,
        cache: KVCache | None,
        read: slice,
    ) -> mx.array:
        """x (B, L, H) -> (B, R, H), the R positions that `read` selects."""
        mixed = self.self_attn(self.input_layernorm(x), rope, start, causal, cache, read)
        x = self._add(x[:, read], mixed)
        return self._add(x, self.mlp(self.post_attention_layernorm(x)))

    def _add(self, x: mx.array, update: mx.array) -> mx.array:
        return x + (update if self.residual_scale == 1 else update * self.residual_scale)


class MiniCPM(nn.Module):
    """`positions` bounds the sequence: it sizes the RoPE tables."""

    def __init__(self, config: TransformerConfig, positions: int):
        super().__init__()
        self.embedding_scale = config.embedding_scale
        if config.vocab_size:
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rope = None if config.no_rope else LongRoPE(config, positions)

    def join(self, evaluate: Evaluate) -> None:
        """Projections of the same input become one product each, once the weights are final."""
        for layer in self.layers:
            layer.self_attn.join(evaluate)
            layer.mlp.join(evaluate)

    def make_cache(self) -> list[KVCache]:
        return [KVCache() for _ in self.layers]

    def embed(self, tokens: mx.array) -> mx.array:
        """tokens (B, T) -> (B, T, H)."""
        embedded = self.embed_tokens(tokens)
        return embedded if self.embedding_scale == 1 else embedded * self.embedding_scale

    def __call__(
        self,
        x: mx.array,
        cache: list[KVCache] | None = None,
        causal: bool = True,
        read: slice = EVERYTHING,
    ) -> mx.array:
        """x (B, L, H), after what `cache` holds -> hidden states (B, R, H).

        `read` selects the R positions that are wanted: the last layer computes no others. In a
        causal stack they must be all.
        """
        start = cache[0].offset if cache else 0
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            wanted = read if index == last else EVERYTHING
            x = layer(x, self.rope, start, causal, cache[index] if cache else None, wanted)
        return self.norm(x)
