"""From requests to speech: patches -> streams of sound -> results.

Upstream: core.py (`_generate`), model/voxcpm2.py (`_generate_with_prompt_cache`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import mlx.core as mx

from .batch import Batch, Request
from .results import GenerationResult, Stopwatch

if TYPE_CHECKING:
    from .model import VoxCPM2

logger = logging.getLogger("mlx_voxcpm2")

# Upstream's rule for speech that is absurdly long for its text.
ATTEMPTS = 3

Progress = Callable[[float], None] | None
Piece = tuple[int, mx.array, str | None]


def stream_audio(
    model: VoxCPM2, requests: Sequence[Request], closed: threading.Event | None = None
) -> Iterator[list[Piece]]:
    """Yields, patch by patch, of each request that still speaks: its number, the sound (samples,)
    and beside the last one why it ends.

    A prompt's last patches are decoded first and not heard, so that the sound goes on from them.
    Each piece is held back until the next patch has been queued, so the device never waits for us;
    but the first is heard at once, since whether it is the last one needs no reading.
    """
    batch, numbers = Batch(model, requests), list(range(len(requests)))
    vae = model.audio_vae
    cache = vae.join_caches([_heard(model, request) for request in requests])
    held: list[Piece] | None = None
    is_first = True
    while numbers:
        chunks = vae.decode(batch.draw(), cache=cache)
        mx.async_eval(chunks, vae.held(cache))
        if held is not None:
            yield held
        if closed is not None and closed.is_set():
            return
        reasons = batch.end()
        held = list(zip(numbers, chunks, reasons, strict=True))
        if is_first:
            yield held
            held, is_first = None, False
        going = [index for index, reason in enumerate(reasons) if reason is None]
        if going and len(going) < len(numbers):
            vae.keep(cache, going)
        numbers = [numbers[index] for index in going]
    if held is not None:
        yield held


def _heard(model: VoxCPM2, request: Request) -> list:
    """The AudioVAE's stream after what the speech goes on from."""
    cache, context = model.audio_vae.make_cache(), request.prompt.context
    if context is not None:
        model.audio_vae.decode(context.reshape(1, -1, context.shape[-1]), cache=cache)
    return cache


def speak(
    model: VoxCPM2, request: Request, closed: threading.Event, progress: Progress = None
) -> Iterator[tuple[mx.array, str | None]]:
    """The pieces of one request's sound, each computed, with `progress` told of it."""
    samples = 0
    for ((_, audio, reason),) in stream_audio(model, [request], closed):
        mx.eval(audio)
        samples += audio.shape[0]
        if progress is not None:
            progress(samples / model.sample_rate)
        yield audio, reason


def stream_results(
    model: VoxCPM2,
    request: Request,
    closed: threading.Event,
    watch: Stopwatch,
    progress: Progress = None,
) -> Generator[GenerationResult, None, None]:
    """One result per patch, as soon as it can be heard."""
    for audio, reason in speak(model, request, closed, progress):
        yield watch.result(
            audio, 1, is_streaming_chunk=True, is_final_chunk=reason is not None,
            seed=request.options.seed, finish_reason=reason,
        )  # fmt: skip
        watch.go_on()


def whole_result(
    model: VoxCPM2,
    request: Request,
    closed: threading.Event,
    watch: Stopwatch,
    progress: Progress = None,
) -> Generator[GenerationResult, None, None]:
    """One result: a joined stream, drawn again with the next seed while its length is absurd."""
    # With noise supplied, every attempt would be the same.
    attempts = ATTEMPTS if request.options.retry_badcase and request.noise is None else 1
    for attempt in range(1, attempts + 1):
        pieces = list(speak(model, request, closed, progress))
        if closed.is_set():
            return
        if attempt == attempts or not request.is_too_long(len(pieces)):
            break
        logger.warning(
            "seed %d gave %d patches for %d tokens of text; speaking again with the next seed",
            request.options.seed, len(pieces), request.text_tokens,
        )  # fmt: skip
        request = replace(request, options=request.options.next_seed())
    chunks, reasons = zip(*pieces, strict=True)
    yield watch.result(
        mx.concatenate(chunks), len(chunks), is_final_chunk=True,
        seed=request.options.seed, finish_reason=reasons[-1],
    )  # fmt: skip
