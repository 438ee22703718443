"""The loop that speaks: a token per step and row, and for a frame's token its latent and audio.

Positive and negative rows are one batch of the language model. The negative branch of a row hears
what the row itself was fed while it speaks, and begins anew with each segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from ..layers.kv_cache import joined
from ..models.vibevoice.network import VibeVoiceNetwork
from ..models.vibevoice.solver import Solver
from ..speech.results import FinishReason
from .script import LegalTokens

LAST = slice(-1, None)


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a dialogue.

    logits (4,): of start, end, frame and stop. latent (D,) and audio (hop,): of a frame, else None.
    finish_reason: in the last step, why the dialogue ends.
    """

    token: int
    logits: mx.array
    latent: mx.array | None = None
    audio: mx.array | None = None
    finish_reason: FinishReason | None = None


@dataclass(eq=False)
class Row:
    """A dialogue that is generated: its number, prompt, noise and limit of steps."""

    number: int
    ids: Sequence[int]
    embeddings: mx.array
    """Of the prompt, (T, H)."""
    noise: Iterator[mx.array]
    """Noise (D,), one for each frame."""
    limit: int
    count: int = field(default=0, init=False)
    """Steps so far."""


class Batch:
    """Dialogues that are generated together. `step` until there are no more `rows`."""

    def __init__(
        self,
        network: VibeVoiceNetwork,
        legal: LegalTokens,
        rows: Sequence[Row],
        solver: Solver,
        cfg_value: float,
    ):
        self._network, self._legal, self.rows = network, legal, list(rows)
        self._solver, self._times = solver, network.time_vectors(solver)
        self._cfg = mx.array(cfg_value, dtype=mx.float32)
        self._is_guided = cfg_value != 1
        self._head = network.head_rows(legal.ids).T
        self._decoder = network.acoustic_tokenizer.decoder.silence(len(rows))
        self._encoder = network.semantic_tokenizer.encoder.silence(len(rows))
        self._prefill()

    def _prefill(self) -> None:
        """Reads the prompts, all but their last tokens."""
        caches = []
        for row in self.rows:
            cache = self._network.language_model.make_cache()
            before = row.embeddings[None, :-1]
            self._network.language_model(before, cache, output_positions=LAST)
            mx.eval([[each.keys, each.values] for each in cache])
            caches.append(cache)
        empty = len(self.rows) if self._is_guided else 0
        self._visible, self._cache = joined(caches, empty)
        self._inputs = mx.stack([row.embeddings[-1] for row in self.rows])
        self._feed()

    def _feed(self) -> None:
        """The language model's step for all rows: sets hidden states, logits and choices."""
        fed = mx.concatenate([self._inputs] * (2 if self._is_guided else 1))
        self._hidden = self._network.language_model(fed[:, None], self._cache)[:, 0]
        self._visible.extend(1)
        self._logits = self._hidden[: len(self.rows)].astype(mx.float32) @ self._head
        self._choices = mx.argmax(self._logits, axis=-1)

    def submit(self, *arrays: mx.array) -> None:
        """Has the device compute the next choices, and these arrays, without waiting for them."""
        mx.async_eval(self._choices, *arrays)

    def step(self, choose: Callable[[mx.array], int] | None = None) -> list[tuple[Row, Step]]:
        """The next step of each row. choose: logits (4,) -> token id, instead of the largest one.

        Raises ValueError when noise ends or `choose` gives another token.
        """
        tokens = self._tokens(choose)
        frames = [i for i, token in enumerate(tokens) if token == self._legal.frame]
        embeddings = self._control_embeddings(tokens, frames)
        spoken: dict[int, tuple[mx.array, mx.array]] = {}
        if frames:
            latents, audio, following = self._speak(frames)
            spoken = {row: (latents[at], audio[at]) for at, row in enumerate(frames)}
            if embeddings is None:
                embeddings = following
            else:
                embeddings[mx.array(frames)] = following
        assert embeddings is not None
        self._inputs = embeddings
        found = []
        for i, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            row.count += 1
            reason: FinishReason | None = None
            if token == self._legal.stop:
                reason = "stop"
            elif row.count >= row.limit:
                reason = "length"
            latent, samples = spoken.get(i, (None, None))
            found.append((row, Step(token, self._logits[i], latent, samples, reason)))
        self._continue([i for i, (_, step) in enumerate(found) if step.finish_reason is None])
        return found

    def _tokens(self, choose: Callable[[mx.array], int] | None) -> list[int]:
        if choose is None:
            choices: Any = self._choices.tolist()
            return [self._legal.ids[choice] for choice in choices]
        tokens = [int(choose(logits)) for logits in self._logits]
        for token in tokens:
            if token not in self._legal.ids:
                raise ValueError(f"choose gave token {token}; it must be one of {self._legal.ids}")
        return tokens

    def _control_embeddings(self, tokens: list[int], frames: list[int]) -> mx.array | None:
        """Embeddings (B, H) of the tokens, and what those that are no frames change; else None."""
        if len(frames) == len(tokens):
            return None
        for i, token in enumerate(tokens):
            negative = len(tokens) + i
            if token == self._legal.frame:
                continue
            if self._is_guided:  # it advances with frames only
                self._visible.hide_last(negative)
            if token == self._legal.start and self._is_guided:
                self._visible.restart(negative)
            if token == self._legal.end:
                for state in (self._decoder, self._encoder):
                    state.clear(i)
        return self._network.language_model.embed(mx.array(tokens)[None])[0]

    def _speak(self, frames: list[int]) -> tuple[mx.array, mx.array, mx.array]:
        """Latents, audio and next inputs of the rows that speak."""
        network, count = self._network, len(self.rows)
        hidden = self._hidden.reshape(-1, count, self._hidden.shape[-1])
        noise = mx.stack([next(self.rows[i].noise) for i in frames])
        decoder, encoder = self._decoder, self._encoder
        if len(frames) < count:
            hidden = hidden[:, mx.array(frames)]
            decoder, encoder = decoder.selected(frames), encoder.selected(frames)
        latents = network.sample_latent(hidden, noise, self._solver, self._times, self._cfg)
        audio, embeddings = network.speak_frame(latents, decoder, encoder)
        if len(frames) < count:
            self._decoder.replace(frames, decoder)
            self._encoder.replace(frames, encoder)
        return latents, audio, embeddings

    def _continue(self, rows: list[int]) -> None:
        """Drops rows that have ended, and has the language model read the next inputs."""
        if len(rows) < len(self.rows) and rows:
            count = len(self.rows)
            both = [*rows, *(count + i for i in rows)] if self._is_guided else rows
            self._visible.select(both)
            for layer in self._cache:
                layer.select(both)
            for state in (self._decoder, self._encoder):
                state.select(rows)
            self._inputs = self._inputs[mx.array(rows)]
        self.rows = [self.rows[i] for i in rows]
        if self.rows:
            self._feed()
