"""Requests spoken together: one pass of the network draws the next patch of each.

Upstream: model/voxcpm2.py (`_inference`), which speaks one at a time. A row is what it is alone,
but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx

from ..models.voxcpm2.flow import Schedule
from .noise import draw_noise, supplied_noise
from .options import GenerationOptions
from .prompt import Prompt

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model

# Upstream's rule: speech of more than six patches per token of text has gone astray.
PATCHES_PER_TOKEN = 6.0
EXTRA_PATCHES = 10

PREFILL_POSITIONS = 1024


@dataclass(frozen=True)
class Request:
    """A prompt with what bounds its speech: at most `limit` patches for `text_tokens` of text."""

    prompt: Prompt
    options: GenerationOptions
    text_tokens: int
    limit: int
    noise: mx.array | None = None
    letters: int = 0
    """Of the text, by `spoken_letters`; 0 where nobody knows."""
    text: str = ""
    """What is to be heard."""

    def is_too_long(self, patches: int) -> bool:
        return patches >= self.text_tokens * PATCHES_PER_TOKEN

    def draws(self, shape: tuple[int, int]) -> Iterator[mx.array]:
        """What the patches start from: float32 (P, D) each, before the temperature."""
        if self.noise is None:
            return draw_noise(self.options.seed, shape)
        return supplied_noise(self.noise)


def length_limit(text_tokens: int, positions: int, context: int, max_tokens: int) -> int:
    """How many patches a text may take: upstream's cap, the caller's, and the context's room."""
    cap = int(text_tokens * PATCHES_PER_TOKEN + EXTRA_PATCHES)
    # The last patch needs no position of its own: nothing follows it.
    return min(cap, max_tokens, context - positions + 1)


@dataclass
class Row:
    request: Request
    draws: Iterator[mx.array]
    patches: int = 0
    """How many are drawn."""

    def noise(self) -> mx.array:
        """(P, D) for the next patch."""
        return next(self.draws) * self.request.options.temperature

    @property
    def may_stop(self) -> bool:
        """Whether the stop head is heard about the last patch, as upstream hears it."""
        return self.patches - 1 > self.request.options.min_tokens

    def reason_to_end(self, stop: bool) -> str | None:
        """After a patch, with the stop head's opinion of it."""
        if stop and self.may_stop:
            return "stop"
        return "length" if self.patches >= self.request.limit else None


class Batch:
    """Call `draw` and `end` in turn until no rows are left; between them others may `join`."""

    def __init__(self, model: VoxCPM2Model, requests: Sequence[Request]):
        """Requests with other steps or another solver than the first's raise ValueError."""
        kinds = {each.options.kind for each in requests}
        if len(kinds) != 1:
            raise ValueError(
                f"{len(kinds)} kinds of solver and inference_timesteps at once; what is spoken "
                "together needs the same ones"
            )
        self.model, shape = model, (model.config.patch_size, model.config.feat_dim)
        self.schedule = Schedule.of(*kinds.pop())
        self.time_tokens = model.feat_decoder.time_tokens(self.schedule)
        self.rows = [Row(request, request.draws(shape)) for request in requests]
        silence = mx.zeros(shape)
        last = [each.prompt.last_patch for each in requests]
        last = mx.stack([silence if patch is None else patch for patch in last])
        self.patches = last.astype(model.dtype)
        self._read([each.prompt for each in requests])
        self.is_read = True
        """Whether the hidden states are those after the last patches."""
        self._gather_strengths()

    def _read(self, prompts: list[Prompt]) -> None:
        """Fills the caches; keeps the hidden states (B, H) of both models at the last position.

        Shorter prompts are filled up on the left. In pieces, so that a long prompt takes little
        more memory than a short one.
        """
        length = max(len(prompt.tokens) for prompt in prompts)
        padding = [length - len(prompt.tokens) for prompt in prompts]
        filled = list(zip(padding, prompts, strict=True))
        tokens = mx.array([[0] * missing + prompt.tokens for missing, prompt in filled])
        is_audio = mx.array([[False] * missing + prompt.is_audio for missing, prompt in filled])
        patches = [prompt.patches for prompt in prompts if prompt.patches is not None]
        self.cache = self.model.make_cache(padding)
        embeddings = self.model.embed(
            tokens, is_audio, mx.concatenate(patches) if patches else None
        )
        for start in range(0, length, PREFILL_POSITIONS):
            piece = slice(start, start + PREFILL_POSITIONS)
            hidden, residual = self.model(
                embeddings[:, piece], is_audio[:, piece], self.cache, read=slice(-1, None)
            )
            self.hidden, self.residual = hidden.squeeze(1), residual.squeeze(1)
            mx.async_eval(self.hidden, self.residual)

    def _read_patches(self) -> None:
        if self.is_read:
            return
        embedded = self.model.embed_patches(self.patches[:, None])
        hidden, residual = self.model(embedded, cache=self.cache)
        self.hidden, self.residual = hidden.squeeze(1), residual.squeeze(1)
        self.is_read = True

    def join(self, others: Batch) -> None:
        """The rows of another batch of this kind go on in this one, after these."""
        for batch in (self, others):
            batch._read_patches()
        self.rows += others.rows
        self.hidden = mx.concatenate([self.hidden, others.hidden])
        self.residual = mx.concatenate([self.residual, others.residual])
        self.patches = mx.concatenate([self.patches, others.patches])
        for stack, other_stack in zip(self.cache, others.cache, strict=True):
            for layer, other in zip(stack, other_stack, strict=True):
                layer.join(other)
        self._rows_have_changed()

    def _rows_have_changed(self) -> None:
        self._gather_strengths()
        # So that nothing refers to the arrays of before, and another thread may go on.
        layers = [layer for stack in self.cache for layer in stack]
        held = [array for layer in layers for array in (layer.keys, layer.values)]
        mx.async_eval(self.hidden, self.residual, self.patches, held)

    def _gather_strengths(self) -> None:
        values = [float(row.request.options.cfg_value) for row in self.rows]
        self.cfg_values = mx.array(values, dtype=self.model.dtype)

    def draw(self) -> mx.array:
        """The next patch of every row, (B, P, D), submitted to the device but not waited for."""
        self._read_patches()
        self.stops = mx.argmax(self.model.stop_logits(self.hidden), axis=-1)
        mx.async_eval(self.stops)
        noise = mx.stack([row.noise() for row in self.rows]).astype(self.model.dtype)
        self.patches = self.model.sample_patch(
            self.hidden, self.residual, self.patches, noise, self.schedule, self.time_tokens,
            self.cfg_values,
        )  # fmt: skip
        mx.async_eval(self.patches)
        self.is_read = False
        for row in self.rows:
            row.patches += 1
        return self.patches

    def end(self, asked: Sequence[str | None] | None = None) -> list[str | None]:
        """Why each row ends after the patch just drawn ("stop", "length") or None; those leave.

        asked: by row, why it shall end although the model goes on, or None.
        The stop decision belongs to the hidden state that drew the patch, so it is known before
        the patch is: this waits for the language model only.
        """
        heard = any(row.may_stop for row in self.rows)
        stops = self.stops.tolist() if heard else [0] * len(self.rows)
        reasons = [
            row.reason_to_end(stop == 1) or other
            for row, stop, other in zip(self.rows, stops, asked or [None] * len(stops), strict=True)
        ]
        self._keep([index for index, reason in enumerate(reasons) if reason is None])
        return reasons

    def _keep(self, rows: list[int]) -> None:
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
                layer.keep(rows)
        self._rows_have_changed()


def generate_patches(model: VoxCPM2Model, request: Request) -> Iterator[mx.array]:
    """Yields patches (P, D), each submitted to the device but not waited for."""
    batch = Batch(model, [request])
    while batch.rows:
        yield batch.draw().squeeze(0)
        batch.end()
