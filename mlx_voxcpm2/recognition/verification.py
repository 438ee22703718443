"""Does speech say its text? A recogniser listens, and what it did not understand is said again."""

from __future__ import annotations

import logging
import threading
import time
import unicodedata
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from ..schema import check_integer, check_number
from ..speech.generation import Progress, whole_results
from ..speech.results import GenerationResult
from ..text.normalization import LANGUAGES, MANNER, MARK, language_of, normalized
from .recogniser import Recogniser

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model
    from ..speech.batch import Request

logger = logging.getLogger("mlx_voxcpm2")

# Scripts that put no spaces between words: a character counts as a word is counted elsewhere.
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass(frozen=True)
class Verification:
    """How speech is checked. Raises ValueError for a value out of range, or without jiwer.

    recogniser: sound (samples,) and its rate in Hz -> words, see `load_recogniser`.
    limit: 0..1; speech with a larger part of its words wrong is spoken again with another seed,
    at most `retries` times, 0..20. The take that was understood best is kept.
    """

    recogniser: Recogniser
    limit: float = 0.2
    retries: int = 2

    def __post_init__(self):
        check_limits(self.limit, self.retries)
        if find_spec("jiwer") is None:
            raise ValueError("verify needs the library jiwer; install 'mlx-voxcpm2[asr]'")

    def results(
        self,
        model: VoxCPM2Model,
        requests: Iterable[Request],
        closed: threading.Event,
        progress: Progress = None,
        spent: float = 0,
        batch_size: int = 1,
    ) -> Generator[GenerationResult, None, None]:
        """`whole_results`, each with what was heard, or another take in its place."""
        taken: dict[int, Request] = {}

        def noted() -> Iterator[Request]:
            for number, request in enumerate(requests):
                taken[number] = request
                yield request

        for result in whole_results(model, noted(), closed, progress, spent, batch_size):
            yield self._verified(model, taken.pop(result.sequence_idx), result, closed)

    def _verified(
        self,
        model: VoxCPM2Model,
        request: Request,
        result: GenerationResult,
        closed: threading.Event,
    ) -> GenerationResult:
        begin, before = time.perf_counter(), result.processing_time_seconds
        best = take = self._heard(request, result)
        done: list[str] = []
        # With noise supplied, every take would be the same.
        for _ in range(0 if request.noise is not None else self.retries):
            if take.error_rate <= self.limit or closed.is_set():
                break
            done.append(f"retry: {_account(take)}")
            logger.warning("%s; speaking again with another seed", _account(take))
            options = replace(request.options, seed=take.seed).next_seed()
            again = whole_results(model, [replace(request, options=options)], closed)
            spoken = next(again, None)
            if spoken is None:
                break
            take = self._heard(request, spoken)
            best = min(best, take, key=lambda each: each.error_rate)
        gave_up = [f"gave up: {_account(best)}"] if best.error_rate > self.limit else []
        seconds = before + time.perf_counter() - begin
        return replace(
            best,
            sequence_idx=result.sequence_idx,
            processing_time_seconds=seconds,
            real_time_factor=best.samples / best.sample_rate / seconds,
            guards=(*done, *best.guards, *gave_up),
        )

    def _heard(self, request: Request, result: GenerationResult) -> GenerationResult:
        heard = self.recogniser(np.array(result.audio), result.sample_rate)
        if not isinstance(heard, str):
            raise ValueError(
                f"the recogniser returns a {type(heard).__name__}; it must be a string"
            )
        return replace(result, heard=heard, error_rate=error_rate(request.text, heard))


def check_limits(limit: float, retries: int) -> None:
    check_number("verify_limit", limit, 0, 1)
    check_integer("verify_retries", retries, 0, 20)


def _account(take: GenerationResult) -> str:
    heard = take.heard if len(take.heard) <= 60 else take.heard[:59] + "…"
    return f"seed {take.seed} was heard as {heard!r}, {take.error_rate:.0%} wrong"


def error_rate(said: str, heard: str) -> float:
    """The part of the words that are wrong, missing or too many, 0 and up; 1 if none are right.

    In scripts without spaces between words, of the characters. Capitals, punctuation and what is
    not spoken (`{…}`, `[…]`, a manner in parentheses at the beginning) do not count, nor, where
    wetext is installed, whether a number is in words, or Chinese in simplified characters.
    """
    import jiwer

    said = MARK.sub(" ", MANNER.sub("", said))
    language = language_of(said)
    wanted, found = _words(said, language), _words(heard, language)
    if not wanted:
        return float(bool(found))
    return float(jiwer.wer(" ".join(wanted), " ".join(found)))


def _simplified(text: str) -> str:
    """Chinese in simplified characters: recognisers may write the others for what is the same."""
    from wetext import normalize

    return normalize(text, lang="zh", traditional_to_simple=True)


def _words(text: str, language: str | None) -> list[str]:
    """In small letters, without punctuation; characters where a script puts no spaces."""
    if language in LANGUAGES and find_spec("wetext") and find_spec("regex"):
        text = normalized(text, language)
        text = _simplified(text) if language == "zh" else text
    found = ""
    for each in unicodedata.normalize("NFKC", text).casefold():
        category, name = unicodedata.category(each), unicodedata.name(each, "")
        if category == "Pd":
            found += " "
        elif category[0] == "M" and found.endswith(" "):
            found = f"{found[:-1]}{each} "  # a vowel sign of the character before it
        elif category[0] not in "PSC" or each.isspace():
            is_word = category[0] == "L" and name.startswith(_WITHOUT_SPACES)
            found += f" {each} " if is_word else each
    return found.split()
