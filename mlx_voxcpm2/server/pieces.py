"""Text that comes piece by piece, as from a language model, and its complete sentences."""

from __future__ import annotations

import re

from ..text.segments import SEGMENT_LENGTH, spoken_length
from ..text.sentences import sentences
from ..text.words import characters_of, words_of


class Sentences:
    """Text that comes in pieces; gives the sentences that are complete."""

    def __init__(self, language: str | None = None, longest: int = 2 * SEGMENT_LENGTH):
        """longest: letters of a sentence that are waited for, see `spoken_length`."""
        self.language, self.longest, self.rest = language, longest, ""

    def add(self, piece: str) -> str:
        """The sentences that are complete with this piece; "" if there are none.

        A sentence is complete when another one has begun, since "3." may go on as "3.5". Nobody
        should wait for the end of one that is too long: it is given up to its last word.
        """
        *complete, self.rest = sentences(self.rest + piece, self.language) or [""]
        while spoken_length(self.rest) > self.longest and (cut := _last_word(self.rest)):
            complete.append(self.rest[:cut])
            self.rest = self.rest[cut:]
        return "".join(complete)

    def flush(self) -> str:
        """All that is left."""
        complete, self.rest = self.rest, ""
        return complete


def _last_word(text: str) -> int:
    """Index of the last word, which may go on; of the last character if there is one word.

    A word begins behind white space, or where there is none as `words_of` finds it.
    """
    if spaces := re.match(r".*\s", text, re.DOTALL):
        return spaces.end()
    words = words_of(text)
    return len(text) - len((words if len(words) > 1 else characters_of(text))[-1])
