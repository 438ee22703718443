"""From a prompt to speech: patches -> a stream of sound -> results.

Upstream: core.py (`_generate`), model/voxcpm2.py (`_inference`, `_generate_with_prompt_cache`).
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import mlx.core as mx

from .models.flow import Schedule
from .models.minicpm import KVCache
from .options import GenerationOptions
from .prompt import Prompt
from .results import GenerationResult, Stopwatch

if TYPE_CHECKING:
    from .model import VoxCPM2

logger = logging.getLogger("mlx_voxcpm2")

# Upstream's rule: speech of more than six patches per token of text has gone astray.
PATCHES_PER_TOKEN = 6.0
EXTRA_PATCHES = 10
ATTEMPTS = 3

PREFILL_POSITIONS = 1024

Progress = Callable[[float], None] | None


@dataclass(frozen=True)
class Request:
    """A prompt with what bounds its speech: at most `limit` patches for `text_tokens` of text."""

    prompt: Prompt
    options: GenerationOptions
    text_tokens: int
    limit: int
    noise: mx.array | None = None

    def is_too_long(self, patches: int) -> bool:
        return patches >= self.text_tokens * PATCHES_PER_TOKEN

    def speak(
        self, model: VoxCPM2, closed: threading.Event, progress: Progress = None
    ) -> Iterator[tuple[mx.array, str | None]]:
        """The pieces of `stream_audio`, each computed, with `progress` told of it."""
        samples = 0
        patches = generate_patches(model, self, closed)
        chunks = stream_audio(model, patches, self.prompt.context, self.limit)
        for audio, reason in chunks:
            mx.eval(audio)
            samples += audio.shape[0]
            if progress is not None:
                progress(samples / model.sample_rate)
            yield audio, reason


def length_limit(text_tokens: int, positions: int, context: int, max_tokens: int) -> int:
    """How many patches a text may take: upstream's cap, the caller's, and the context's room."""
    cap = int(text_tokens * PATCHES_PER_TOKEN + EXTRA_PATCHES)
    # The last patch needs no position of its own: nothing follows it.
    return min(cap, max_tokens, context - positions + 1)


def draw_noise(seed: int, patch_shape: tuple[int, int]) -> Iterator[mx.array]:
    """Standard normal (P, D), float32, one per patch; the same for the same seed everywhere."""
    key = mx.random.key(int(seed))
    while True:
        key, draw = mx.random.split(key)
        mx.async_eval(key)  # the next patch may be asked for by another thread
        yield mx.random.normal(patch_shape, key=draw)


def supplied_noise(noise: mx.array) -> Iterator[mx.array]:
    """The rows (P, D) of noise (N, P, D); ValueError for the one after the last."""
    yield from noise
    raise ValueError(
        f"noise has {len(noise)} rows and the speech is not over; pass more rows, or "
        f"max_tokens={len(noise)}"
    )


def read_prompt(
    model: VoxCPM2, prompt: Prompt, cache: tuple[list[KVCache], list[KVCache]]
) -> tuple[mx.array, mx.array]:
    """Fills the caches; the hidden states (1, H) of both language models at the last position.

    In pieces, so that a long prompt takes little more memory than a short one.
    """
    is_audio = mx.array([prompt.is_audio])
    patches = None if prompt.patches is None else prompt.patches[None]
    embeddings = model.embed(mx.array([prompt.tokens]), is_audio, patches)
    for start in range(0, len(prompt.tokens), PREFILL_POSITIONS):
        piece = slice(start, start + PREFILL_POSITIONS)
        hidden, residual = model(embeddings[:, piece], is_audio[:, piece], cache)
        hidden, residual = hidden[:, -1], residual[:, -1]
        mx.async_eval(hidden, residual)
    return hidden, residual


def generate_patches(
    model: VoxCPM2, request: Request, closed: threading.Event | None = None
) -> Generator[mx.array, None, str]:
    """Yields patches (P, D), each submitted to the device but not waited for.

    Returns why it ended: "stop", "length", or "closed". The stop decision belongs to the hidden
    state that draws the patch, so it is known before the patch is: reading it waits for the
    language model only, and the next patch is queued while this one is being computed.
    """
    options, prompt = request.options, request.prompt
    schedule = Schedule.of(options.solver, options.inference_timesteps)
    time_tokens = model.feat_decoder.time_tokens(schedule)
    shape = (model.config.patch_size, model.config.feat_dim)
    noise = (
        draw_noise(options.seed, shape) if request.noise is None else supplied_noise(request.noise)
    )
    cache = model.make_cache()
    hidden, residual = read_prompt(model, prompt, cache)
    last = mx.zeros(shape) if prompt.last_patch is None else prompt.last_patch
    patch = last[None].astype(model.dtype)
    for index in itertools.count():
        stop = mx.argmax(model.stop_logits(hidden), axis=-1)
        mx.async_eval(stop)
        start = (next(noise) * options.temperature).astype(model.dtype)[None]
        patch = model.sample_patch(
            hidden, residual, patch, start, schedule, time_tokens, options.cfg_value
        )
        mx.async_eval(patch)
        yield patch[0]
        if closed is not None and closed.is_set():
            return "closed"
        if index > options.min_tokens and stop.item() == 1:
            return "stop"
        if index + 1 == request.limit:
            return "length"
        hidden, residual = model(model.embed_patches(patch[:, None]), cache=cache)
        hidden, residual = hidden[:, -1], residual[:, -1]


def stream_audio(
    model: VoxCPM2,
    patches: Generator[mx.array, None, str],
    context: mx.array | None = None,
    limit: int | None = None,
) -> Iterator[tuple[mx.array, str | None]]:
    """Yields (samples,) per patch, with the reason of the end beside the last one.

    `context` (N, P, D) is decoded first and not heard, so that the sound goes on from it. Each
    chunk is held back until the next patch has been queued, so the device never waits for us;
    but the first is heard at once, since no speech stops there unless `limit` patches are one.
    """
    cache = model.audio_vae.make_cache()
    if context is not None:
        model.audio_vae.decode(context.reshape(1, -1, context.shape[-1]), cache=cache)
    held, is_first = None, True
    while True:
        try:
            patch = next(patches)
        except StopIteration as end:
            if held is not None and end.value != "closed":
                yield held, end.value
            return
        chunk = model.audio_vae.decode(patch[None], cache=cache)[0]
        mx.async_eval(chunk, model.audio_vae.held(cache))
        if held is not None:
            yield held, None
        held = chunk
        if is_first and limit != 1:
            yield held, None
            held = None
        is_first = False


def stream_results(
    model: VoxCPM2,
    request: Request,
    closed: threading.Event,
    watch: Stopwatch,
    progress: Progress = None,
) -> Generator[GenerationResult, None, None]:
    """One result per patch, as soon as it can be heard."""
    for audio, reason in request.speak(model, closed, progress):
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
        pieces = list(request.speak(model, closed, progress))
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
