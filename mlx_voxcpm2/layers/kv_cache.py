"""What attention keeps of the positions so far: rows of a batch come, go and are of any length."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx


def _unless_zero(padding: Sequence[int]) -> tuple[int, ...]:
    """Without any padding no mask is needed."""
    return tuple(padding) if any(padding) else ()


class KVCache:
    """Keys and values of one layer, (B, heads, capacity, head size), grown in blocks in place.

    Rows may begin at different columns, so as to end at the same one: before row b's first
    position there are `padding[b]` columns that nobody looks at.
    """

    block = 256

    def __init__(self, padding: Sequence[int] = ()):
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.offset = 0
        self.padding = _unless_zero(padding)

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

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows stay, and no column that only others needed."""
        padding = [self.padding[row] for row in rows] if self.padding else [0]
        unused = min(padding)
        self.padding = _unless_zero([missing - unused for missing in padding])
        self.offset -= unused
        chosen = mx.array(rows)
        self.keys = self.keys[:, :, unused:][chosen]
        self.values = self.values[:, :, unused:][chosen]

    def join(self, other: KVCache) -> None:
        """The rows of another cache come after these, and end at the same column."""
        both, length = (self, other), max(self.offset, other.offset)
        padding = [
            length - cache.offset + missing
            for cache in both
            for missing in cache.padding or [0] * cache.keys.shape[0]
        ]
        for name in ("keys", "values"):
            filled = []
            for cache in both:
                columns = (length - cache.offset, -length % self.block)
                held = getattr(cache, name)[:, :, : cache.offset]
                filled.append(mx.pad(held, [(0, 0), (0, 0), columns, (0, 0)]))
            setattr(self, name, mx.concatenate(filled))
        self.offset, self.padding = length, _unless_zero(padding)

    def first_positions(self) -> int | mx.array:
        """Of what is added next: one for all rows, or (B,)."""
        return self.offset - mx.array(self.padding) if self.padding else self.offset

    def mask(self, length: int) -> str | mx.array | None:
        """Who sees whom among the next `length` positions and those before: causal, no padding.

        Padding sees itself: a row of attention without anything to see would not be finite.
        """
        if not self.padding:
            return "causal" if length > 1 else None
        seen, seeing = mx.arange(self.offset + length), mx.arange(length)[:, None] + self.offset
        first = mx.array(self.padding)[:, None, None, None]
        return ((seen >= first) & (seen <= seeing)) | (seen == seeing)
