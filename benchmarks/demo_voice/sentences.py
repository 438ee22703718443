"""English sentences for training a voice, and held-out ones for measuring it.

The sentences are WordNet's examples of usage (Princeton's WordNet 3.0 licence, which allows use and
distribution for any purpose; the Debian package wordnet-base), and composed ones.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

from composed import ABBREVIATED, TALK, TEMPLATES, composed_sentences

WORDNET = Path("/usr/share/wordnet")
HELD_OUT = Path(__file__).with_name("held_out.txt")
KNOWN_HELD_OUT, UNKNOWN_HELD_OUT = 200, 50
COMPOSED = ((TEMPLATES, 12_000), (TALK, 8_000), (ABBREVIATED, 3_000))
"""Templates of composed sentences, and how many each group gives."""
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ,.'?!;:-]+")
_ARCHAIC = re.compile(
    r"\b(thou|thee|thy|thine|hath|doth|unto|ye|shalt|wherefore)\b|'tis|o'er", re.I
)


def words_of(sentence: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", sentence.lower())


def wordnet_sentences(folder: Path = WORDNET) -> list[str]:
    """Examples of 3 to 14 words, each once, with a capital and a full stop."""
    found = set()
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="latin1").splitlines():
            gloss = "" if line.startswith("  ") else line.partition("|")[2]
            found.update(filter(None, map(_sentence, re.findall(r'"([^"]+)"', gloss))))
    return sorted(found)


def _sentence(example: str) -> str | None:
    text = " ".join(example.split())
    if not _PLAIN.fullmatch(text) or "--" in text or ".." in text or _ARCHAIC.search(text):
        return None
    if not 3 <= len(text.split()) <= 14:
        return None
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text.rstrip(",;:' -") + "."


def wordnet_words(folder: Path = WORDNET) -> list[str]:
    """Single words in lower case that WordNet lists, without proper names and abbreviations."""
    found = set()
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"index.{part}").read_text(encoding="latin1").splitlines():
            word = line.partition(" ")[0]
            if re.fullmatch(r"[a-z]{2,14}", word) and re.search("[aeiouy]", word):
                found.add(word)
    return sorted(found)


def wordnet_common_words(folder: Path = WORDNET) -> set[str]:
    """Words that occur in the texts in which WordNet's authors counted senses."""
    found = set()
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"index.{part}").read_text(encoding="latin1").splitlines():
            # lemma, part of speech, senses, pointers and their symbols, senses, counted senses
            fields = line.split()
            if not line.startswith(" ") and int(fields[5 + int(fields[3])]) > 0:
                found.add(fields[0])
    return found


def choose_held_out(
    sentences: list[str], common: set[str], seed: int = 20
) -> tuple[list[str], list[str]]:
    """Sentences to hold out: 200 of known words, and 50 with an unknown word.

    Known words occur in at least five other sentences. Unknown words are common words of six
    letters or more that occur in one sentence only.
    """
    counts = Counter(word for each in sentences for word in set(words_of(each)))
    draw, known, unknown = random.Random(seed), [], []
    for each in draw.sample(sentences, len(sentences)):
        words = words_of(each)
        if not 5 <= len(words) <= 12 or re.search(r"\b[A-Z]\w", each[1:]):
            continue
        rare = [word for word in words if counts[word] < 6]
        if not rare and len(known) < KNOWN_HELD_OUT:
            known.append(each)
        single = len(rare) == 1 and counts[rare[0]] == 1 and len(rare[0]) >= 6
        if single and rare[0] in common and len(unknown) < UNKNOWN_HELD_OUT:
            unknown.append(each)
    return known, unknown


def held_out() -> tuple[list[str], list[str]]:
    """Held-out sentences: of known words, and with words that no other sentence has."""
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    return lines[:KNOWN_HELD_OUT], lines[KNOWN_HELD_OUT:]


def training_sentences(seed: int = 7) -> list[str]:
    """Sentences that are not held out, in an order that is the same at every call."""
    excluded = {each for part in held_out() for each in part}
    found = wordnet_sentences()
    for number, (templates, count) in enumerate(COMPOSED):
        found += composed_sentences(templates, count, 3 + number)
    found = [each for each in found if each not in excluded]
    random.Random(seed).shuffle(found)
    return found


def write_held_out() -> None:
    known, unknown = choose_held_out(wordnet_sentences(), wordnet_common_words())
    HELD_OUT.write_text("\n".join([*known, *unknown]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_held_out()
