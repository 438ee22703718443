"""The MiniCPM-4 stack that the language models, the local encoder and the local DiT share.

Upstream: modules/minicpm4/model.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.nn.utils import checkpoint

from .backend import joins_gate_and_up, project, rms_norm, stacks_query_heads, swiglu
from .config import TransformerConfig
from .joined_linear import Evaluate, JoinedLinear
from .kv_cache import KVCache
from .rope import LongRoPE

EVERYTHING = slice(None)


class Joinable(nn.Module):
    """Has layers, named in `inputs`, that project the same input."""

    inputs: tuple[str, ...]

    def __init__(self):
        super().__init__()
        self.joined: JoinedLinear | None = None

    def join(self, evaluate: Evaluate) -> None:
        self.joined = JoinedLinear.of([self[name] for name in self.inputs], evaluate)

    @property
    def is_joined(self) -> bool:
        layers = [self[name] for name in self.inputs]
        return self.joined is not None and self.joined.holds(layers)


def _add_projected(residual: mx.array, layer: nn.Module, x: mx.array, scale: float) -> mx.array:
    """residual + scale * layer(x), in one kernel where the layer is a plain matrix of x's type."""
    if type(layer) is nn.Linear and "bias" not in layer and layer.weight.dtype == x.dtype:
        return mx.addmm(residual, x, layer.weight.T, alpha=scale)
    projected = project(layer, x)
    return residual + (projected if scale == 1 else projected * scale)


class RMSNorm(nn.RMSNorm):
    def __call__(self, x: mx.array) -> mx.array:
        """x (..., H) -> (..., H)."""
        return rms_norm(x, self.weight, self.eps)


class Attention(Joinable):
    inputs = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: TransformerConfig):
        super().__init__()
        hidden, size = config.hidden_size, config.head_dim
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.scale = size**-0.5 if config.no_rope else config.rope_scale**2 * size**-0.5
        self.q_proj = nn.Linear(hidden, self.heads * size, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * size, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * size, bias=False)
        self.o_proj = nn.Linear(self.heads * size, hidden, bias=False)

    def mix(
        self,
        x: mx.array,
        batch: int,
        rope: LongRoPE | None,
        start: int | mx.array,
        mask: str | mx.array | None,
        cache: KVCache | None,
        read: slice,
    ) -> mx.array:
        """x (B * L, H) -> the heads' outputs (B * R, heads * size) where `read` selects.

        What is left to do is `o_proj`.
        """
        if self.is_joined:
            together = self.joined(x)
        else:
            together = mx.concatenate([project(self[name], x) for name in self.inputs], axis=-1)
        heads = self.heads + 2 * self.kv_heads
        together = together.reshape(batch, -1, heads, together.shape[-1] // heads)
        turning, values = mx.split(
            together.transpose(0, 2, 1, 3), [self.heads + self.kv_heads], axis=1
        )
        if rope is not None:
            turning = rope(turning, start)
        queries, keys = mx.split(turning, [self.heads], axis=1)
        if cache is not None:
            keys, values = cache.update(keys, values)
        if isinstance(mask, mx.array):
            mask = mask[:, :, read]
        queries = queries[:, :, read]
        shape = queries.shape
        if mask is None and stacks_query_heads(shape[2], self.heads // self.kv_heads):
            queries = queries.reshape(batch, self.kv_heads, -1, shape[3])
        mixed = mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=self.scale, mask=mask
        )
        return mixed.reshape(shape).transpose(0, 2, 1, 3).reshape(-1, shape[1] * shape[3])


class MLP(Joinable):
    inputs = ("gate_proj", "up_proj")

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def join(self, evaluate: Evaluate) -> None:
        if joins_gate_and_up():
            super().join(evaluate)

    def activate(self, x: mx.array) -> mx.array:
        """x (N, H) -> (N, intermediate size). What is left to do is `down_proj`."""
        if self.is_joined:
            return swiglu(*mx.split(self.joined(x), 2, axis=-1))
        return swiglu(project(self.gate_proj, x), project(self.up_proj, x))


class DecoderLayer(nn.Module):
    """Positions of all rows of a batch one after another, (B * L, H): matrix products take no
    other shape, and each would be turned into this and back."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.residual_scale = config.residual_scale

    def __call__(
        self,
        x: mx.array,
        batch: int,
        rope: LongRoPE | None,
        start: int | mx.array,
        mask: str | mx.array | None,
        cache: KVCache | None,
        read: slice,
    ) -> mx.array:
        """x (B * L, H) -> (B * R, H), of each row the R positions that `read` selects."""
        mixed = self.self_attn.mix(self.input_layernorm(x), batch, rope, start, mask, cache, read)
        if read != EVERYTHING:
            x = x.reshape(batch, -1, x.shape[-1])[:, read].reshape(-1, x.shape[-1])
        x = _add_projected(x, self.self_attn.o_proj, mixed, self.residual_scale)
        active = self.mlp.activate(self.post_attention_layernorm(x))
        return _add_projected(x, self.mlp.down_proj, active, self.residual_scale)


class MiniCPM(nn.Module):
    """`positions` bounds the sequence: it sizes the RoPE tables.

    recomputes: whether, in training mode, the gradient computes each layer a second time instead
    of keeping what is inside it: less memory, a third slower (Chen et al. 2016, arXiv 1604.06174).
    """

    def __init__(self, config: TransformerConfig, positions: int):
        super().__init__()
        self.recomputes = False
        self.embedding_scale = config.embedding_scale
        if config.vocab_size:
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rope = None if config.no_rope else LongRoPE(config, positions)

    def join(self, evaluate: Evaluate) -> None:
        """Projections of the same input become one product each, once the weights are final."""
        for layer in self.layers:
            layer.self_attn.join(evaluate)
            layer.mlp.join(evaluate)

    def make_cache(self, padding: Sequence[int] = ()) -> list[KVCache]:
        """padding: by row, how many positions are there only to fill it up on the left."""
        return [KVCache(padding) for _ in self.layers]

    def embed(self, tokens: mx.array) -> mx.array:
        """tokens (B, T) -> (B, T, H)."""
        embedded = self.embed_tokens(tokens).astype(self.norm.weight.dtype)
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
        causal stack they must be the last ones.
        """
        first = cache[0] if cache else KVCache()
        start, mask = first.first_positions(), first.mask(x.shape[1]) if causal else None
        last = len(self.layers) - 1
        batch, _, hidden = x.shape
        x = x.reshape(-1, hidden)
        for index, layer in enumerate(self.layers):
            wanted = read if index == last else EVERYTHING
            layer = checkpoint(layer) if self.recomputes and self.training else layer
            x = layer(x, batch, self.rope, start, mask, cache[index] if cache else None, wanted)
        return self.norm(x).reshape(batch, -1, hidden)
