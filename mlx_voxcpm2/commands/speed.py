"""Timed generation of as many patches as wanted, for benchmarks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..speech.batch import Request

TEXT = (
    "Hello world, this is a test. The quick brown fox jumps over the lazy dog, and then the dog "
    "gets up and jumps over the quick brown fox, which is not so quick any more."
)
COMPARED = 3
"""Number of first patches of the first row that are returned."""


@dataclass(frozen=True, eq=False)
class Speech:
    """Measures of one pass over some texts."""

    first: float
    """Seconds until all rows had their first patch."""
    seconds: float
    peak_bytes: int
    """MLX's peak of memory meanwhile."""
    start: Any
    """Audio (samples,) of the first row's first patches."""


def requests(model: VoxCPM2, count: int, patches: int) -> list[Request]:
    """Texts of different lengths, each with its own seed, spoken in so many patches each.

    The first row is the same at every count, and not the longest.
    """
    from ..speech.options import GenerationOptions

    vocabulary = model.request_builder.vocabulary
    words = TEXT.split() if vocabulary is None else 40 * vocabulary.words_of(TEXT)
    return [
        model.request(
            " ".join(words[: 8 + 5 * row % 27]),
            options=GenerationOptions(min_tokens=patches, max_tokens=patches, seed=row),
        )
        for row in range(count)
    ]


def speak(model: VoxCPM2, count: int, patches: int) -> Speech:
    """Generates `patches` patches of `count` texts at once; the stop head is not heard."""
    import mlx.core as mx

    from ..speech.generation import stream_audio

    rows, heard = requests(model, count, patches), []
    first = 0.0
    mx.reset_peak_memory()
    begin = time.perf_counter()
    for chunks in stream_audio(model, rows):
        mx.eval([chunk.audio for chunk in chunks])
        first = first or time.perf_counter() - begin
        heard.append(chunks[0].audio)
    seconds = time.perf_counter() - begin
    return Speech(first, seconds, mx.get_peak_memory(), mx.concatenate(heard[:COMPARED]))
