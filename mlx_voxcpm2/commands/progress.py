"""Progress bar of speech, which moves with every patch: seconds, elapsed time, estimated end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ..text.segments import spoken_length

if TYPE_CHECKING:
    from tqdm import tqdm

LETTERS_PER_SECOND = 15.0
"""Rate of speech that is assumed until some has been spoken."""

_FORM = "{desc}{n:.1f} of about {total:.0f} s of speech |{bar:10}| {elapsed}, {remaining} left"


class SpeechBar:
    """Bar on standard error, if that is a terminal. Call it with the seconds of speech so far.

    Use it as a context manager around the work.
    """

    def __init__(self, text: str | None = None, letters: int = 0):
        """text: what is spoken, or letters: their number in all texts."""
        self._letters = spoken_length(text) if text is not None else letters
        self._spoken = (0, 0.0)
        """Letters and seconds of the texts that are finished."""
        self._start = time.perf_counter()
        self._bar: tqdm | None = None
        self.first: float | None = None
        """Seconds until the first audio."""

    def __enter__(self) -> SpeechBar:
        from tqdm import tqdm

        bar = tqdm(
            total=self._total(0.0),
            bar_format=_FORM,
            disable=None,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
        )
        self._bar = bar
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, seconds: float) -> None:
        if self.first is None:
            self.first = time.perf_counter() - self._start
        if self._bar is not None and not self._bar.disable:
            self._bar.n, self._bar.total = seconds, self._total(seconds)
            self._bar.refresh()

    def finish(self, text: str, seconds: float) -> None:
        """Count a text as spoken, in so many seconds of speech: the estimate becomes better."""
        letters, before = self._spoken
        self._spoken = letters + spoken_length(text), before + seconds

    def leave_out(self, text: str) -> None:
        """Count a text that needs not be spoken any more."""
        self._letters -= spoken_length(text)

    def describe(self, what: str) -> None:
        """Put words before the bar, such as "3 of 10 texts"."""
        if self._bar is not None:
            self._bar.set_description(what, refresh=False)

    def _total(self, seconds: float) -> float:
        """Estimated seconds of all speech, not below those so far, nor below 1."""
        letters, spoken = self._spoken
        rate = letters / spoken if letters and spoken else LETTERS_PER_SECOND
        return max(self._letters / rate, seconds, 1.0)
