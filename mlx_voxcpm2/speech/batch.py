"""Batches of requests: one pass of the network generates the next patch of each.

Upstream: model/voxcpm2.py (`_inference`), which generates one at a time. Each row has the result
that it has alone, but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..models.voxcpm2.flow import Schedule
from .noise import draw_noise, supplied_noise
from .options import GenerationOptions
from .prefill import prefill
from .prompt import Prompt
from .results import FinishReason

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model

# Upstream's rule: speech of more than six patches per token of text is faulty.
PATCHES_PER_TOKEN = 6.0
EXTRA_PATCHES = 10


@dataclass(frozen=True)
class Request:
    """A prompt, and at most `limit` patches of speech for its `text_tokens` tokens of text."""

    prompt: Prompt
    options: GenerationOptions
    text_tokens: int
    limit: int
    noise: mx.array | None = None
    letters: int = 0
    """Letters of the text, by `spoken_letters`; 0 if unknown."""
    text: str = ""
    """The text that the speech should say."""
    takes: int | None = None
    """Number of takes that `best_of` chooses from; None for its own number."""

    def is_too_long(self, patches: int) -> bool:
        return patches >= self.text_tokens * PATCHES_PER_TOKEN

    def draws(self, shape: tuple[int, int]) -> Iterator[mx.array]:
        """Noise of each patch in turn, float32 (P, D), before the temperature."""
        if self.noise is None:
            return draw_noise(self.options.seed or 0, shape)
        return supplied_noise(self.noise)


def length_limit(text_tokens: int, positions: int, context: int, max_tokens: int) -> int:
    """Largest number of patches: the least of upstream's cap, the caller's, the free context."""
    cap = int(text_tokens * PATCHES_PER_TOKEN + EXTRA_PATCHES)
    # The last patch needs no position of its own: nothing follows it.
    return min(cap, max_tokens, context - positions + 1)


def limit_by_noise(limit: int, rows: int, min_tokens: int) -> int:
    """Largest number of patches that have a row of noise each: one text must not end a batch.

    Raises ValueError if the speech is sure to need more rows.
    """
    least = min(limit, min_tokens + 2)  # the stop head is not read before, see `Row.may_stop`
    if rows < least:
        raise ValueError(
            f"noise has {rows} rows and the speech needs at least {least}; pass more rows, or "
            f"max_tokens={rows}"
        )
    return min(limit, rows)


@dataclass
class Row:
    """State of one request in a batch."""

    request: Request
    draws: Iterator[mx.array]
    patches: int = 0
    """Number of patches generated."""

    def noise(self) -> mx.array:
        """Noise (P, D) of the next patch."""
        return next(self.draws) * self.request.options.temperature

    @property
    def may_stop(self) -> bool:
        """Whether the stop head counts for the last patch, by upstream's rule."""
        return self.patches - 1 > self.request.options.min_tokens

    def reason_to_end(self, stop: bool) -> FinishReason | None:
        """Finish reason after a patch, given the stop head's decision."""
        if stop and self.may_stop:
            return "stop"
        return "length" if self.patches >= self.request.limit else None


class Batch:
    """Rows generated together. Call `draw` and `end` in turn until no rows are left; between them
    other batches may `join`."""

    def __init__(self, model: VoxCPM2Model, requests: Sequence[Request]):
        """Raises ValueError for requests with unlike solvers or step counts."""
        keys = {each.options.batch_key for each in requests}
        if len(keys) != 1:
            raise ValueError(
                f"{len(keys)} combinations of solver, inference_timesteps and fast in one batch; "
                "its requests need the same ones"
            )
        self.model, shape = model, (model.config.patch_size, model.config.feat_dim)
        self.schedule = Schedule.of(*keys.pop())
        self.time_tokens = model.feat_decoder.time_tokens(self.schedule)
        self.rows = [Row(request, request.draws(shape)) for request in requests]
        silence = mx.zeros(shape)
        last = [each.prompt.last_patch for each in requests]
        patches = [silence if patch is None else patch for patch in last]
        self.patches = mx.stack(patches).astype(model.dtype)
        self.cache, self.hidden, self.residual = prefill(model, [each.prompt for each in requests])
        self.is_read = True
        """Whether the hidden states are those after the last patches."""
        self._update_guidance()

    def _read_patches(self) -> None:
        if self.is_read:
            return
        embedded = self.model.embed_patches(self.patches[:, None])
        hidden, residual = self.model(embedded, cache=self.cache)
        self.hidden, self.residual = hidden.squeeze(1), residual.squeeze(1)
        self.is_read = True

    def join(self, others: Batch) -> None:
        """Append the rows of another batch with the same solver and step count."""
        for batch in (self, others):
            batch._read_patches()
        self.rows += others.rows
        self.hidden = mx.concatenate([self.hidden, others.hidden])
        self.residual = mx.concatenate([self.residual, others.residual])
        self.patches = mx.concatenate([self.patches, others.patches])
        for stack, other_stack in zip(self.cache, others.cache, strict=True):
            for layer, other in zip(stack, other_stack, strict=True):
                layer.join(other)
        self._rows_changed()

    def _rows_changed(self) -> None:
        self._update_guidance()
        # Evaluated so that the old arrays are freed and another thread can continue.
        layers = [layer for stack in self.cache for layer in stack]
        held = [array for layer in layers for array in (layer.keys, layer.values)]
        mx.async_eval(self.hidden, self.residual, self.patches, held)

    def _update_guidance(self) -> None:
        values = [float(row.request.options.cfg_value) for row in self.rows]
        self.cfg_values = mx.array(values, dtype=self.model.dtype)

    def draw(self) -> mx.array:
        """Generate the next patch of every row, (B, P, D); submitted, not waited for."""
        self._read_patches()
        self.stops = mx.argmax(self.model.stop_logits(self.hidden), axis=-1)
        mx.async_eval(self.stops)
        noise = mx.stack([row.noise() for row in self.rows]).astype(self.model.dtype)
        self.patches = self.model.sample_patch(
            self.hidden,
            self.residual,
            self.patches,
            noise,
            self.schedule,
            self.time_tokens,
            self.cfg_values,
        )
        mx.async_eval(self.patches)
        self.is_read = False
        for row in self.rows:
            row.patches += 1
        return self.patches

    def end(
        self, requested: Sequence[FinishReason | None] | None = None
    ) -> list[FinishReason | None]:
        """Finish reason of each row after the patch just generated, or None; finished rows leave.

        requested: by row, a reason to end although the model continues, or None.
        The stop decision belongs to the hidden state that generated the patch, so it is known
        before the patch is: this waits for the language model only.
        """
        needs_stops = any(row.may_stop for row in self.rows)
        stops: Any = self.stops.tolist() if needs_stops else [0] * len(self.rows)
        reasons: list[FinishReason | None] = [
            row.reason_to_end(stop == 1) or other
            for row, stop, other in zip(
                self.rows, stops, requested or [None] * len(stops), strict=True
            )
        ]
        self._select([index for index, reason in enumerate(reasons) if reason is None])
        return reasons

    def _select(self, rows: list[int]) -> None:
        if len(rows) == len(self.rows):
            return
        self.rows = [self.rows[row] for row in rows]
        if not rows:
            return
        chosen = mx.array(rows)
        self.hidden, self.residual = self.hidden[chosen], self.residual[chosen]
        self.patches = self.patches[chosen]
        for stack in self.cache:
            for layer in stack:
                layer.select(rows)
        self._rows_changed()


def generate_patches(model: VoxCPM2Model, request: Request) -> Iterator[mx.array]:
    """Patches (P, D) of a request, each submitted to the device but not waited for."""
    batch = Batch(model, [request])
    while batch.rows:
        yield batch.draw().squeeze(0)
        batch.end()
