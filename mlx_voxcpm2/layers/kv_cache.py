"""Keys and values of past positions, for batches whose rows join, leave and differ in length."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

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

    @classmethod
    def after(
        cls, rows: Sequence[tuple[KVCache | None, int]], padding: Sequence[int] = ()
    ) -> KVCache:
        """Cache of rows that begin as others did.

        rows: for each a cache of one row without padding, and how many of its first positions to
        take; or None and 0. padding: columns of each row that are none of its positions, counted
        from the left, where rows with fewer positions are padded.
        """
        made, columns = cls(padding), max(count for _, count in rows)
        like = next((cache for cache, count in rows if cache is not None and count), None)
        if like is None:
            return made
        made.offset, spare = columns, -columns % cls.block
        for name in ("keys", "values"):
            _, heads, _, size = getattr(like, name).shape
            nothing = mx.zeros((1, heads, 0, size), dtype=getattr(like, name).dtype)
            parts = [
                nothing if cache is None else getattr(cache, name)[:, :, :count]
                for cache, count in rows
            ]
            pads = [[(0, 0), (0, 0), (columns - each.shape[2], spare), (0, 0)] for each in parts]
            setattr(made, name, mx.concatenate(list(map(mx.pad, parts, pads))))
        return made

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


class Rows:
    """Which columns of a cache each row sees, for rows that pause and begin anew.

    All layers' caches share one. Rows end at the same column; those that a row does not see are
    padding, pauses, or what came before it began anew.
    """

    block = 256

    def __init__(self, lengths: Sequence[int], columns: int):
        """lengths: positions of each row, which are its last ones of so many columns."""
        self.lengths = list(lengths)
        self.columns = columns
        hidden = mx.array([columns - length for length in lengths])
        self.visible = mx.arange(self._capacity(columns + 1)) >= hidden[:, None]

    def _capacity(self, columns: int) -> int:
        return -(-columns // self.block) * self.block

    def extend(self, count: int) -> None:
        """Adds columns, which all rows see."""
        self.columns += count
        self.lengths = [length + count for length in self.lengths]
        missing = self._capacity(self.columns + 1) - self.visible.shape[1]
        if missing > 0:
            more = mx.ones((len(self.lengths), missing), dtype=mx.bool_)
            self.visible = mx.concatenate([self.visible, more], axis=1)

    def hide_last(self, row: int) -> None:
        """Undoes the last column of a row: it pauses."""
        self.visible[row, self.columns - 1] = False
        self.lengths[row] -= 1

    def restart(self, row: int) -> None:
        """Empties a row."""
        self.visible[row, : self.columns] = False
        self.lengths[row] = 0

    def select(self, rows: Sequence[int]) -> None:
        """Drops all other rows."""
        self.lengths = [self.lengths[row] for row in rows]
        self.visible = self.visible[mx.array(rows)]

    @property
    def sees_all(self) -> bool:
        """Whether every row sees every column."""
        return all(length == self.columns for length in self.lengths)


class PausableKVCache(KVCache):
    """A layer's cache of rows that pause and begin anew, which takes one position at a time."""

    def __init__(self, rows: Rows, keys: mx.array, values: mx.array):
        """keys and values (B, heads, columns, head size) of the rows' past positions."""
        super().__init__()
        self.rows, self.keys, self.values = rows, keys, values
        self.offset = rows.columns

    def select(self, rows: Sequence[int]) -> None:
        """Drops all other rows; `Rows.select` is to be called once for all layers."""
        chosen = mx.array(rows)
        self.keys, self.values = self.keys[chosen], self.values[chosen]

    def first_positions(self) -> int | mx.array:
        return self.offset if self.rows.sees_all else mx.array(self.rows.lengths)

    def mask(self, length: int) -> str | mx.array | None:
        """Attention mask of the next position: a view of the shared table, or none."""
        if self.rows.sees_all:
            return super().mask(length)
        return self.rows.visible[:, None, None, : self.offset + length]


def joined(caches: Sequence[Sequence[KVCache]], empty: int) -> tuple[Rows, list[PausableKVCache]]:
    """Caches of single rows, without padding, layer by layer, as one batch; with empty rows after.

    caches: each row's, one per layer.
    """
    columns = max(row[0].offset for row in caches)
    rows = Rows([*(row[0].offset for row in caches), *[0] * empty], columns)
    layers = []
    for layer in zip(*caches, strict=True):
        parts = []
        for name in ("keys", "values"):
            used = [getattr(each, name)[:, :, : each.offset] for each in layer]
            pads = [[(0, 0), (0, 0), (columns - each.shape[2], 0), (0, 0)] for each in used]
            padded = [mx.pad(each, pad) for each, pad in zip(used, pads, strict=True)]
            zeros = mx.zeros((empty, *padded[0].shape[1:]), dtype=padded[0].dtype)
            parts.append(mx.concatenate([*padded, zeros]))
        layers.append(PausableKVCache(rows, *parts))
    return rows, layers


Stacks = TypeVar("Stacks", bound="Sequence[Sequence[KVCache]]")


class Prefixes:
    """Caches after beginnings that sequences share; of more than fit, those used last."""

    def __init__(self, limit: int):
        """limit: most positions in all, which bounds the memory."""
        self.limit = limit
        self._caches: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Stacks]) -> Stacks:
        """The caches of each stack's layers, of one row; `read` makes those that are not there."""
        with self._lock:
            found = self._caches.get(key)
        found = found or read()
        if found[0][0].offset > self.limit:
            return found
        with self._lock:
            self._caches.pop(key, None)
            self._caches[key] = found
            while sum(caches[0][0].offset for caches in self._caches.values()) > self.limit:
                del self._caches[next(iter(self._caches))]
        return found

    def clear(self) -> None:
        with self._lock:
            self._caches = {}


def _none_if_zero(padding: Sequence[int]) -> tuple[int, ...]:
    """The padding, or () if there is none: then no mask is needed."""
    return tuple(padding) if any(padding) else ()
