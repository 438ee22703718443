"""The best of several takes of a text: the one whose text is likeliest, given its sound.

The takes differ in their seeds only, and are generated in one batch. A recogniser that scores
texts (Voxtral) needs one pass over each take and decodes nothing; any other transcribes it, and
the characters that are wrong count against it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from ..settings import check_values, setting
from ..speech.generation import ATTEMPTS, Progress, whole_results
from ..speech.options import GenerationOptions
from ..speech.results import GenerationResult, Take
from .protocols import Recogniser, Scorer, text_of
from .verification import (
    Verification,
    character_error_rate,
    check_comparison_installed,
    spoken_part,
)

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model
    from ..speech.batch import Request

MOST_TAKES = 64

Results = Generator[GenerationResult, None, None]


@dataclass(frozen=True)
class BestOf:
    """How to choose among takes. Raises ValueError for a value out of range, or without jiwer.

    A text of one take, such as one with given noise, is not scored.

    recogniser: one that scores texts, see `protocols.Scorer`, such as `voxtral.load` returns; or
    any other, see `load_recogniser`, for which jiwer is needed. count: 1..64 takes of each text.

    Take k has the seed of its request plus 3 k, since each take may be generated three times if it
    is faulty. The result reports the seed of the chosen take, which makes it again alone.
    """

    recogniser: Recogniser | Scorer
    count: int = setting(4, "integer", "takes of each text", low=1, high=MOST_TAKES, metavar="N")

    def __post_init__(self):
        check_values(BestOf, vars(self), "best_of_")
        if not isinstance(self.recogniser, Scorer):
            check_comparison_installed("best_of, by a recogniser that does not score texts,")

    def results(
        self,
        model: VoxCPM2Model,
        requests: Iterable[Request],
        closed: threading.Event,
        progress: Progress = None,
        spent: float = 0,
        batch_size: int = 1,
    ) -> Results:
        """`whole_results`, the best take of each request. batch_size: takes generated at once, and
        never less than those of one text."""
        places: dict[int, tuple[Takes, int]] = {}
        """Text and number of each take under way, by its index."""
        asked = Counter[str]()

        def takes() -> Iterator[Request]:
            for index, request in enumerate(requests):
                group = Takes(index, request, self._count(request))
                asked["texts"] += 1
                for number, take in enumerate(group.requests()):
                    places[asked["takes"]] = group, number
                    asked["takes"] += 1
                    yield take

        def report(seconds: float) -> None:
            """Report seconds of one take of each text, as if the others were not spoken."""
            if progress is not None:
                progress(seconds * asked["texts"] / asked["takes"])

        rows = max(batch_size, self.count)
        for result in whole_results(model, takes(), closed, report, spent, rows):
            group, number = places.pop(result.sequence_idx)
            group.found[number] = result
            if len(group.found) == group.count:
                yield self._best(group, spent)

    def _count(self, request: Request) -> int:
        if request.noise is not None:
            return 1  # every take would be the same
        return self.count if request.takes is None else request.takes

    def _best(self, group: Takes, spent: float) -> GenerationResult:
        results = [group.found[number] for number in range(group.count)]
        if group.count == 1:
            return replace(results[0], sequence_idx=group.index)  # there is nothing to choose
        scores = [self._score(group.request.text, result) for result in results]
        best = max(
            zip(results, scores, strict=True), key=lambda each: (_is_whole(each[0]), each[1])
        )
        result, score = best
        seconds = spent + time.perf_counter() - group.begin
        return replace(
            result,
            score=score,
            takes=tuple(
                Take(int(each.seed or 0), value)
                for each, value in zip(results, scores, strict=True)
            ),
            sequence_idx=group.index,
            processing_time_seconds=seconds,
            real_time_factor=result.duration / seconds,
        )

    def _score(self, text: str, result: GenerationResult) -> float:
        """Mean log probability of the text, or minus the rate of wrong characters."""
        text, audio = spoken_part(text), np.array(result.audio_as_generated)
        if not any(map(str.isalnum, text)):
            return 0.0  # nothing to be recognised
        if isinstance(self.recogniser, Scorer):
            found = self.recogniser.score((audio, result.sample_rate), text)
            mean = getattr(found, "mean", None)
            if not isinstance(mean, Real) or math.isnan(mean):
                raise ValueError(
                    f"the scorer returns a {type(found).__name__} without a number as its mean"
                )
            return float(mean)
        transcript = text_of(self.recogniser, audio, result.sample_rate)
        return 0.0 - character_error_rate(text, transcript)


def _is_whole(result: GenerationResult) -> bool:
    """Whether the model itself ended the speech, and no guard found fault with it."""
    has_fault = any(note.startswith("gave up") for note in result.guards)
    return result.finish_reason == "stop" and not has_fault


@dataclass
class Takes:
    """Takes of one request, as they end."""

    index: int
    """Index of the request."""
    request: Request
    count: int
    found: dict[int, GenerationResult] = field(default_factory=dict)
    begin: float = field(default_factory=time.perf_counter)

    def requests(self) -> Iterator[Request]:
        """The request with the seed of each take."""
        for number in range(self.count):
            options = _later_seed(self.request.options, ATTEMPTS * number)
            yield replace(self.request, options=options)


def _later_seed(options: GenerationOptions, distance: int) -> GenerationOptions:
    return replace(options, seed=(int(options.seed or 0) + distance) % 2**64)


def checked_results(verify: Verification | None, best_of: BestOf | None) -> Callable[..., Results]:
    """The function that generates results as `whole_results` does, the best takes, and checked."""
    produce = whole_results if best_of is None else best_of.results
    return produce if verify is None else partial(verify.results, produce=produce)
