"""Verification of speech by a recogniser: what it does not understand is generated again."""

from __future__ import annotations

import logging
import threading
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from ..settings import check_values, setting
from ..speech.generation import Progress, whole_results
from ..speech.results import GenerationResult
from ..text.normalization import (
    INSTRUCTION,
    LANGUAGES,
    MARK,
    is_normalize_installed,
    language_of,
    normalized,
)
from .protocols import Recogniser, text_of

if TYPE_CHECKING:
    from ..models.voxcpm2.network import VoxCPM2Model
    from ..speech.batch import Request

logger = logging.getLogger("mlx_voxcpm2")

# Scripts that put no spaces between words: a character counts as a word is counted elsewhere.
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR")


def check_comparison_installed(name: str) -> None:
    """Raise ValueError if the library is missing that compares transcripts. name: what needs it."""
    if find_spec("jiwer") is None:
        raise ValueError(f"{name} needs the library jiwer; install 'mlx-voxcpm2[asr]'")


@dataclass(frozen=True)
class Verification:
    """How to verify speech. Raises ValueError for a value out of range, or without jiwer.

    recogniser: audio (samples,) and its rate in Hz -> transcript, see `load_recogniser`.
    limit: 0..1; speech with a larger word error rate is generated again with another seed, at most
    `retries` times, 0..20. The attempt with the lowest rate is returned.
    """

    recogniser: Recogniser
    limit: float = setting(
        0.2, "number", "fraction of the words that may be wrong", low=0, high=1, metavar="FRACTION"
    )
    retries: int = setting(2, "integer", "further attempts at most", low=0, high=20, metavar="N")

    def __post_init__(self):
        check_values(Verification, vars(self), "verify_")
        check_comparison_installed("verify")

    def results(
        self,
        model: VoxCPM2Model,
        requests: Iterable[Request],
        closed: threading.Event,
        progress: Progress = None,
        spent: float = 0,
        batch_size: int = 1,
        produce: Callable[..., Generator[GenerationResult, None, None]] = whole_results,
    ) -> Generator[GenerationResult, None, None]:
        """`whole_results` with transcripts, or the best of several attempts in their place.

        produce: generates the attempts, as `whole_results` or `BestOf.results`.
        """
        pending: dict[int, Request] = {}

        def recorded() -> Iterator[Request]:
            for number, request in enumerate(requests):
                pending[number] = request
                yield request

        for result in produce(model, recorded(), closed, progress, spent, batch_size):
            yield self._verified(model, pending.pop(result.sequence_idx), result, closed, produce)

    def _verified(
        self,
        model: VoxCPM2Model,
        request: Request,
        result: GenerationResult,
        closed: threading.Event,
        produce: Callable[..., Generator[GenerationResult, None, None]],
    ) -> GenerationResult:
        begin, before = time.perf_counter(), result.processing_time_seconds
        best = attempt = self._transcribed(request, result)
        notes: list[str] = []
        # With noise supplied, every attempt would be the same.
        for _ in range(0 if request.noise is not None else self.retries):
            if attempt.error_rate <= self.limit or closed.is_set():
                break
            notes.append(f"retry: {attempt}")
            logger.warning("%s; generating again with another seed", attempt)
            takes = attempt.result.takes
            last = takes[-1].seed if takes else attempt.result.seed
            options = replace(request.options, seed=last).next_seed()
            again = produce(model, [replace(request, options=options)], closed)
            generated = next(again, None)
            if generated is None:
                break
            attempt = self._transcribed(request, generated)
            best = min(best, attempt, key=lambda each: each.error_rate)
        gave_up = [f"gave up: {best}"] if best.error_rate > self.limit else []
        seconds = before + time.perf_counter() - begin
        return replace(
            best.result,
            heard=best.transcript,
            error_rate=best.error_rate,
            sequence_idx=result.sequence_idx,
            processing_time_seconds=seconds,
            real_time_factor=best.result.duration / seconds,
            guards=(*notes, *best.result.guards, *gave_up),
        )

    def _transcribed(self, request: Request, result: GenerationResult) -> Transcribed:
        audio = np.array(result.audio_as_generated)
        transcript = text_of(self.recogniser, audio, result.sample_rate)
        return Transcribed(result, transcript, error_rate(request.text, transcript))


@dataclass(frozen=True, eq=False)
class Transcribed:
    """Result of an attempt, with the recogniser's transcript and its word error rate."""

    result: GenerationResult
    transcript: str
    error_rate: float

    def __str__(self) -> str:
        text = self.transcript if len(self.transcript) <= 60 else self.transcript[:59] + "…"
        return f"seed {self.result.seed} was heard as {text!r}, {self.error_rate:.0%} wrong"


def error_rate(text: str, transcript: str) -> float:
    """Word error rate, 0 and up: wrong, missing and extra words over the number of words.

    In scripts without spaces between words, a character error rate. Capitals, punctuation and
    what is not spoken (`{…}`, `[…]`, an instruction in parentheses at the beginning) do not count,
    nor, where wetext is installed, whether a number is in words, or Chinese in simplified
    characters.
    """
    import jiwer

    wanted, found = _compared(text, transcript)
    return float(jiwer.wer(wanted, found)) if wanted else float(bool(found))


def character_error_rate(text: str, transcript: str) -> float:
    """As `error_rate`, of the characters: a word that is nearly right counts less."""
    import jiwer

    wanted, found = _compared(text, transcript)
    return float(jiwer.cer(wanted, found)) if wanted else float(bool(found))


def spoken_part(text: str) -> str:
    """A text without what is not spoken: `{…}`, `[…]`, an instruction at the beginning."""
    return MARK.sub(" ", INSTRUCTION.sub("", text)).strip()


def _compared(text: str, transcript: str) -> tuple[str, str]:
    """Words of both that are compared, with a space between them."""
    text = spoken_part(text)
    language = language_of(text)
    return " ".join(_words(text, language)), " ".join(_words(transcript, language))


def _simplified(text: str) -> str:
    """Chinese text in simplified characters, since recognisers may write either kind."""
    from wetext import normalize

    return str(normalize(text, lang="zh", traditional_to_simple=True))


def _words(text: str, language: str | None) -> list[str]:
    """Words in lower case without punctuation; characters in scripts without spaces."""
    if language in LANGUAGES and is_normalize_installed():
        text = normalized(text, language)
        text = _simplified(text) if language == "zh" else text
    found: str = ""
    for each in unicodedata.normalize("NFKC", text).casefold():
        category, name = unicodedata.category(each), unicodedata.name(each, "")
        if category == "Pd":
            found += " "
        elif category[0] == "M" and found.endswith(" "):
            found = f"{found[:-1]}{each} "  # a vowel sign of the character before it
        elif category[0] not in "PSC" or each.isspace():
            is_word = category[0] == "L" and name.startswith(_WITHOUT_SPACES)
            found += f" {each} " if is_word else each
    return [*found.split()]
