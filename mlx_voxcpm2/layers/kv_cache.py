"""Keys and values of past positions, for batches whose rows join, leave and differ in length."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx


class KVCache:
    """Keys and values of one layer, (B, heads, capacity, head size), grown in blocks in place.

    All rows end at the same column and may begin at different ones: the first `padding[b]` columns
    of row b are padding, which attention does not see.
    """

    block = 256

    def __init__(self, padding: Sequence[int] = ()):
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.offset = 0
        self.padding = _none_if_zero(padding)

    def update(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Appends keys and values (B, heads, L, head size); returns all of them so far."""
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
            new = mx.zeros((batch, heads, capacity - old, size), dtype=like.dtype)
            present = getattr(self, name)
            grown = new if present is None else mx.concatenate([present, new], axis=2)
            setattr(self, name, grown)

    def select(self, rows: Sequence[int]) -> None:
        """Drops all other rows, and the columns that only they needed."""
        padding = [self.padding[row] for row in rows] if self.padding else [0]
        unused = min(padding)
        self.padding = _none_if_zero([columns - unused for columns in padding])
        self.offset -= unused
        chosen = mx.array(rows)
        self.keys = self.keys[:, :, unused:][chosen]
        self.values = self.values[:, :, unused:][chosen]

    def join(self, other: KVCache) -> None:
        """Appends the rows of another cache, so that all end at the same column."""
        both, length = (self, other), max(self.offset, other.offset)
        padding = [
            length - cache.offset + columns
            for cache in both
            for columns in cache.padding or [0] * cache.keys.shape[0]
        ]
        for name in ("keys", "values"):
            padded = []
            for cache in both:
                columns = (length - cache.offset, -length % self.block)
                used = getattr(cache, name)[:, :, : cache.offset]
                padded.append(mx.pad(used, [(0, 0), (0, 0), columns, (0, 0)]))
            setattr(self, name, mx.concatenate(padded))
        self.offset, self.padding = length, _none_if_zero(padding)

    def first_positions(self) -> int | mx.array:
        """Position of the next token: an int, or (B,) if rows are padded."""
        return self.offset - mx.array(self.padding) if self.padding else self.offset

    def mask(self, length: int) -> str | mx.array | None:
        """Attention mask of the next `length` positions: causal, without padding.

        Padding sees itself, since attention over nothing would not be finite.
        """
        if not self.padding:
            return "causal" if length > 1 else None
        keys, queries = mx.arange(self.offset + length), mx.arange(length)[:, None] + self.offset
        first = mx.array(self.padding)[:, None, None, None]
        return ((keys >= first) & (keys <= queries)) | (keys == queries)


def _none_if_zero(padding: Sequence[int]) -> tuple[int, ...]:
    """The padding, or () if there is none: then no mask is needed."""
    return tuple(padding) if any(padding) else ()
