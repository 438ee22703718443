"""Decoding: the network's logits -> tokens, one synchronisation per token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from ...layers.kv_cache import KVCache
from ...models.voxtral.network import VoxtralModel

_PREFILL = 2048
"""Positions that are computed at once: attention needs memory for each times all before it."""
_SCORED = 128
"""Rows of logits that are computed at once: 67 MB for a vocabulary of 131,072."""


class Sampler:
    """Draws tokens: the most probable one at temperature 0, else one of the nucleus.

    top_p: probability that the nucleus, the most probable tokens, has at least (Holtzman et al.
    2019, arXiv 1904.09751). seed: of the random numbers; None for others each time.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int | None = None):
        self.temperature, self.top_p = temperature, top_p
        self._key = mx.random.key(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    def __call__(self, logits: mx.array) -> mx.array:
        """logits (vocabulary,), float32 -> a token."""
        if self.temperature == 0:
            return mx.argmax(logits)
        self._key, key = mx.random.split(self._key)
        logits = logits / self.temperature
        if self.top_p < 1:
            logits = mx.where(_in_nucleus(logits, self.top_p), logits, -mx.inf)
        return mx.random.categorical(logits, key=key)


def _in_nucleus(logits: mx.array, top_p: float) -> mx.array:
    """Whether each token is in the smallest set of the most probable ones that has top_p."""
    ordered = -mx.sort(-logits)
    probabilities = mx.softmax(ordered)
    before = mx.cumsum(probabilities) - probabilities
    least = mx.min(mx.where(before < top_p, ordered, mx.inf))
    return logits >= least


@dataclass
class Decoded:
    """Tokens of a text, filled while they are decoded."""

    tokens: list[int] = field(default_factory=list)
    is_stopped: bool = False
    """Whether the last token is one that ends a text."""
    pending: list[mx.array] = field(default_factory=list)
    """Log-probability of each token, not read yet."""

    def log_probs(self) -> tuple[float, ...]:
        """Natural logarithm of each token's probability."""
        return _floats(mx.stack(self.pending))


def decode(
    model: VoxtralModel,
    embeddings: mx.array,
    limit: int,
    stops: frozenset[int],
    sampler: Sampler,
    result: Decoded,
) -> Iterator[int]:
    """Tokens that follow a prompt's embeddings (1, L, H), up to one of `stops` or the limit.

    The step after a token is under way while the token is read, so that a read is all that the
    device and Python ever wait for; the log-probabilities are read at the end.
    """
    hidden, cache = _prefill(model, embeddings, 1)
    step = _draw(model.language_model.logits(hidden), sampler)
    mx.async_eval(*step)
    for count in range(1, limit + 1):
        token, log_prob = step
        if count < limit:
            step = _next(model, token, cache, sampler)
            mx.async_eval(*step)
        read: Any = token.item()
        result.tokens.append(read)
        result.pending.append(log_prob)
        result.is_stopped = result.tokens[-1] in stops
        yield result.tokens[-1]
        if result.is_stopped:
            return


def _prefill(
    model: VoxtralModel, embeddings: mx.array, rows: int
) -> tuple[mx.array, list[KVCache]]:
    """embeddings (1, L, H) -> hidden states of the last rows (rows, H), and the cache."""
    cache, decoder = model.make_cache(), model.language_model.model
    length = embeddings.shape[1]
    for start in range(0, length - rows, _PREFILL):
        part = embeddings[:, start : min(start + _PREFILL, length - rows)]
        decoder(part, cache, output_positions=slice(-1, None))
        mx.eval([(each.keys, each.values) for each in cache])
    return decoder(embeddings[:, length - rows :], cache)[0], cache


def _next(
    model: VoxtralModel, token: mx.array, cache: list[KVCache], sampler: Sampler
) -> tuple[mx.array, mx.array]:
    """The token after one that may not be computed yet, and its log-probability."""
    embedded = model.language_model.model.embed(token.reshape(1, 1))
    return _draw(model(embedded, cache)[0], sampler)


def _draw(logits: mx.array, sampler: Sampler) -> tuple[mx.array, mx.array]:
    """logits (1, vocabulary) -> a token and its log-probability."""
    row = logits[0].astype(mx.float32)
    token = sampler(row)
    return token, row[token] - mx.logsumexp(row)


def text_log_probs(model: VoxtralModel, embeddings: mx.array, text: list[int]) -> tuple[float, ...]:
    """Log-probability of each token of a text that follows a prompt's embeddings (1, L, H)."""
    following = model.language_model.model.embed(mx.array(text[:-1], mx.int32)[None])
    hidden, _ = _prefill(model, mx.concatenate([embeddings, following], axis=1), len(text))
    found: list[float] = []
    for start in range(0, len(text), _SCORED):
        rows = slice(start, start + _SCORED)
        logits = model.language_model.logits(hidden[rows]).astype(mx.float32)
        chosen = mx.take_along_axis(logits, mx.array(text[rows])[:, None], axis=-1)[:, 0]
        found += _floats(chosen - mx.logsumexp(logits, axis=-1))
    return tuple(found)


def _floats(x: mx.array) -> tuple[float, ...]:
    """x (N,) as Python's numbers."""
    values: Any = x.tolist()
    return tuple(values)
