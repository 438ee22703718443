"""Dialogues that are asked for -> steps -> results."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from ..layers.device import free_streams_at_thread_end
from ..models.vibevoice.network import VibeVoiceNetwork
from ..models.vibevoice.solver import Solver
from ..speech.kernel_build import KERNELS
from ..speech.noise import draw_noise, supplied_noise
from ..speech.results import FinishReason, GenerationResult, Stopwatch
from .script import LegalTokens
from .steps import Batch, Row, Step
from .voices import PreparedVoice

Progress = Callable[[float], None] | None
"""Called with the seconds of speech so far."""


@dataclass(frozen=True, eq=False)
class Request:
    """A dialogue that was checked.

    ids (T,): the prompt's tokens; voices: of its placeholders, in order; seed: of the noise; noise
    (N, D): instead of the seed's; limit: of steps.
    """

    ids: Sequence[int]
    voices: Sequence[PreparedVoice]
    seed: int
    noise: mx.array | None
    limit: int

    def row(self, network: VibeVoiceNetwork, legal: LegalTokens, number: int) -> Row:
        """The request as a row of a batch, with its voices encoded."""
        features = [voice.features() for voice in self.voices]
        embeddings = embed_prompt(network, legal, self.ids, features)
        size = network.config.acoustic.latent_dim
        noise = draw_noise(self.seed, (size,)) if self.noise is None else supplied_noise(self.noise)
        return Row(number, self.ids, embeddings, noise, self.limit)


def embed_prompt(
    network: VibeVoiceNetwork,
    legal: LegalTokens,
    ids: Sequence[int],
    voices: Sequence[mx.array],
) -> mx.array:
    """Embeddings of a prompt (T, H), with the voices' features (N, D) at its placeholders.

    Raises ValueError if the voices do not fit.
    """
    places, frames = list(ids).count(legal.frame), sum(map(len, voices))
    if places != frames:
        raise ValueError(
            f"the voices have {frames} frames, the prompt has places for {places}; give the voices "
            "that the prompt was made for"
        )
    tokens = mx.array(list(ids))
    sound = network.acoustic_connector(mx.concatenate(list(voices))) if frames else None
    return network.embed(tokens, tokens == legal.frame, sound)


def stream_steps(
    network: VibeVoiceNetwork,
    legal: LegalTokens,
    rows: Sequence[Row],
    solver: Solver,
    cfg_value: float,
    choose: Callable[[mx.array], int] | None = None,
    closed: threading.Event | None = None,
) -> Iterator[list[tuple[Row, Step]]]:
    """Steps of all rows until each has ended, or `closed` is set.

    The audio is submitted to the device, but not waited for.
    """
    free_streams_at_thread_end()
    batch = Batch(network, legal, rows, solver, cfg_value)
    while batch.rows and not (closed is not None and closed.is_set()):
        found = batch.step(choose)
        pending = [step.audio for _, step in found if step.audio is not None]
        batch.submit(*pending)
        if pending:
            KERNELS.count_patch(network)
        yield found


@dataclass(eq=False)
class Speech:
    """Audio of one row that was not returned yet."""

    watch: Stopwatch
    seed: int
    index: int
    chunks: deque[mx.array] = field(default_factory=deque)
    samples: int = 0

    def add(self, audio: mx.array) -> None:
        self.chunks.append(audio)
        self.samples += audio.shape[0]

    def result(self, **fields) -> GenerationResult:
        """A result of all audio that was not returned yet."""
        chunks = list(self.chunks)
        self.chunks.clear()
        # Joined by numpy: as one graph it would be as long as the dialogue.
        audio = chunks[0] if len(chunks) == 1 else mx.array(_joined(chunks))
        found = self.watch.result(
            audio, len(chunks), seed=self.seed, sequence_idx=self.index, **fields
        )
        self.watch.resume()
        return found


def _joined(chunks: Sequence[mx.array]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(np.array(each) for each in chunks)])


@dataclass(frozen=True)
class Sampling:
    """What all rows of a batch share."""

    steps: int
    cfg_value: float


def speak(
    network: VibeVoiceNetwork,
    legal: LegalTokens,
    requests: Sequence[Request],
    sampling: Sampling,
    closed: threading.Event,
    stream: bool = False,
    progress: Progress = None,
    first: int = 0,
) -> Generator[GenerationResult, None, None]:
    """A result per request, as it ends; or with `stream` one per frame of each.

    first: index of the first request. A streamed frame is returned once the next token is known,
    so that the last one says why the dialogue has ended.
    """
    speeches = {
        first + i: Speech(Stopwatch(network.sample_rate), request.seed, first + i)
        for i, request in enumerate(requests)
    }
    free_streams_at_thread_end()
    rows = [each.row(network, legal, first + i) for i, each in enumerate(requests)]
    solver = Solver(sampling.steps)
    for found in stream_steps(network, legal, rows, solver, sampling.cfg_value, None, closed):
        for row, step in found:
            speech = speeches[row.number]
            if step.audio is not None:
                if stream and speech.chunks:
                    yield speech.result(is_streaming_chunk=True)
                speech.add(step.audio)
            reason: FinishReason | None = step.finish_reason
            if reason is not None and (speech.chunks or not stream or not speech.samples):
                yield speech.result(
                    is_streaming_chunk=stream, is_final_chunk=stream, finish_reason=reason
                )
        if progress is not None:
            progress(sum(each.samples for each in speeches.values()) / network.sample_rate)
