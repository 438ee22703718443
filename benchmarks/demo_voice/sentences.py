"""English sentences for training a voice, and held-out ones for measuring it.

The sentences are WordNet's examples of usage (Princeton's WordNet 3.0 licence, which allows use and
distribution for any purpose; the Debian package wordnet-base), and sentences composed of names,
numbers, times and dates in words, questions, dialogue and everyday speech.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
HELD_OUT = Path(__file__).with_name("held_out.txt")
KNOWN_HELD_OUT, UNKNOWN_HELD_OUT = 200, 50
COMPOSED, TALKS = 12_000, 8_000
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


ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
FIRST, SECOND = (
    "first second third fourth fifth sixth seventh eighth ninth".split(),
    (
        "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth "
        "nineteenth twentieth"
    ).split(),
)
NAMES = (
    "Anna Tom Maria James Emily Peter Sarah David Laura Michael Kate Daniel Julia Robert Alice "
    "Henry Nora Samuel Grace Oliver Lucy Martin Helen George Rachel Frank Sophie Edward Claire Paul"
).split()
PLACES = (
    "London Paris Boston Chicago Berlin Madrid Dublin Vienna Sydney Toronto Lisbon Oslo Denver "
    "Seattle Texas Canada Japan Italy Spain India Brazil Egypt Norway Mexico Ireland"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
THINGS = (
    "letter ticket book table room car train garden house meeting lesson concert dinner picture "
    "report project message answer question camera phone bottle window bicycle apple computer"
).split()
TEMPLATES = (
    "{name} bought {count} {thing}s for {count} dollars.",
    "The {thing} costs {count} dollars and {tens} cents.",
    "My number is {digits}.",
    "The train to {place} leaves at {time}.",
    "The meeting is on {day}, {month} {ordinal}.",
    "She was born on {month} {ordinal}, {year}.",
    "In {year}, {name} moved to {place}.",
    "{name} lives at {count} Main Street in {place}.",
    "Can you be here at {time} on {day}?",
    "Is the {thing} in {place} or in {place}?",
    "Where did {name} put the {thing}?",
    "When will the {thing} be ready, {name}?",
    '"Where is my {thing}?" asked {name}.',
    '"I saw it in {place}," said {name}.',
    "What a lovely {thing}, {name}!",
    "Hello {name}, how are you today?",
    "Good morning, {name}. Did you see the {thing}?",
    "Thank you, {name}; the {thing} is perfect!",
    "About {count} percent of the {thing}s were sold by {day}.",
    "Please open page {count} and read line {count}.",
    "{name} and {name} will meet in {place} next {day}.",
    "It is {time}, and {name} is still in {place}.",
    "Why don't you call {name} on {digits}?",
    "No, {name}, that's the {ordinal} {thing} today!",
)

TALK = (
    "{be} not sure about the {thing}.",
    "{be} ready to leave for {place}.",
    "{be} late again, {name}!",
    "{be} waiting for {name}.",
    "{be} looking for the {thing}, aren't we?",
    "{be} in {place} until {day}.",
    "{be} going to call {name} on {day}.",
    "{be} really sorry, but {be} busy today.",
    "{be} happy here, and {be} staying.",
    "{it} a lovely {thing}, isn't it?",
    "{it} too late now.",
    "{it} all right, {name}. {it} only a {thing}.",
    "{it} not what I wanted!",
    "{it} what {name} said on {day}.",
    "{have} never been to {place}.",
    "{have} lost the {thing} again.",
    "{have} known {name} for {few} years.",
    "{have} already seen it, haven't they?",
    "{have} got {few} {thing}s at home.",
    "{have} just spoken with {name}.",
    "{will} see you on {day}.",
    "{will} be back at {time}.",
    "{will} bring the {thing} tomorrow.",
    "{will} ask {name} about it, won't you?",
    "{will} need a new {thing}, and {will} find one.",
    "{would} rather stay at home.",
    "{would} like a cup of tea, please.",
    "{would} love to see {place}.",
    "{do} know where the {thing} is.",
    "{do} want to go to {place}.",
    "{do} believe a word of it.",
    "{do} remember your name.",
    "{do} have any time on {day}.",
    "{do} understand the question, do you?",
    "{do} like it, but {do} say so.",
    "{do} think so, {name}.",
    "If {be} late, {do} wait for us.",
    "I think {it} right, but {be} not certain.",
    "You know {be} here because {have} found the {thing}.",
    "What's in the {thing}, {name}?",
    "Where's my {thing}? {it} not here.",
    "Who's coming to {place}? {name} and {name}.",
    "How's {name}? {have} been away.",
    "Why isn't {name} here? {it} {time}.",
    "Don't worry, {will} do it together.",
    "Don't be silly! {it} easy.",
    "Let's go to {place} on {day}.",
    "Let's not talk about the {thing}.",
    "Isn't it strange that {be} always right?",
    "Aren't you glad {it} over?",
    "Well, {it} your {thing}, so {will} pay for it.",
    "Oh no, {have} broken the {thing}!",
    "Yes, {be} sure. {it} {name}'s {thing}.",
    "Hey, {name}! {have} got good news.",
    "Sorry, {do} speak any French.",
    "Excuse me, {be} looking for {name}'s house.",
)
"""Everyday speech, whose contractions WordNet's examples lack."""
CONTRACTED = {
    "{be}": "I'm I'm you're he's she's we're they're",
    "{it}": "it's it's that's there's",
    "{have}": "I've I've you've we've they've",
    "{will}": "I'll I'll you'll he'll she'll we'll they'll",
    "{would}": "I'd you'd he'd she'd we'd they'd",
    "{do}": "I~don't you~don't we~don't they~don't he~doesn't she~doesn't I~didn't he~didn't "
    "she~didn't we~didn't they~didn't I~can't you~can't he~can't she~can't we~can't they~can't "
    "I~won't he~won't we~won't you~shouldn't I~couldn't she~couldn't they~couldn't I~wouldn't "
    "he~wouldn't we~wouldn't they~wouldn't",
}


def number(value: int) -> str:
    """Number from 0 to 999,999 in words."""
    if value < 20:
        return ONES[value]
    if value < 100:
        return TENS[value // 10 - 2] + (f"-{ONES[value % 10]}" if value % 10 else "")
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if value >= size:
            rest = value % size
            joint = " and " if size == 100 or rest < 100 else " "
            return f"{number(value // size)} {name}" + (joint + number(rest) if rest else "")
    raise ValueError(value)


def ordinal(value: int) -> str:
    """Ordinal number from 1 to 31 in words."""
    if value < 10:
        return FIRST[value - 1]
    if value <= 20:
        return SECOND[value - 10]
    return "thirtieth" if value == 30 else f"{TENS[value // 10 - 2]}-{FIRST[value % 10 - 1]}"


def composed_sentences(
    count: int = COMPOSED, seed: int = 3, templates: Sequence[str] = TEMPLATES
) -> list[str]:
    """Composed sentences: names, places, numbers, times and dates; the same at every call."""
    draw = random.Random(seed)
    fields = {
        "{name}": lambda: draw.choice(NAMES),
        "{place}": lambda: draw.choice(PLACES),
        "{day}": lambda: draw.choice(DAYS),
        "{month}": lambda: draw.choice(MONTHS),
        "{thing}": lambda: draw.choice(THINGS),
        "{ordinal}": lambda: ordinal(draw.randint(1, 31)),
        "{count}": lambda: number(int(10 ** draw.uniform(0.4, 5.9))),
        "{few}": lambda: number(draw.randint(2, 30)),
        "{tens}": lambda: number(draw.randint(10, 99)),
        "{digits}": lambda: " ".join(draw.choices(ONES[:10], k=draw.randint(3, 7))),
        "{time}": lambda: _time(draw),
        "{year}": lambda: _year(draw),
    }
    for field, words in CONTRACTED.items():
        choices = [each.replace("~", " ") for each in words.split()]
        fields[field] = partial(draw.choice, choices)
    found = set()
    while len(found) < count:
        text = re.sub(r"\{\w+\}", lambda field: fields[field[0]](), draw.choice(templates))
        # The beginning of a sentence may have been composed in lower case.
        found.add(re.sub(r"(?:^|[.?!] )[a-z]", lambda begin: begin[0].upper(), text))
    return sorted(found)


def _time(draw: random.Random) -> str:
    hour = draw.randint(1, 12)
    forms = ("{} o'clock", "half past {}", "a quarter to {}", "ten past {}", "{} thirty")
    return draw.choice(forms).format(ONES[hour])


def _year(draw: random.Random) -> str:
    tens = number(draw.randint(10, 99))
    return f"{draw.choice(('eighteen', 'nineteen', 'twenty'))} {tens}"


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
    found = [*wordnet_sentences(), *composed_sentences(), *composed_sentences(TALKS, 4, TALK)]
    found = [each for each in found if each not in excluded]
    random.Random(seed).shuffle(found)
    return found


def write_held_out() -> None:
    known, unknown = choose_held_out(wordnet_sentences(), wordnet_common_words())
    HELD_OUT.write_text("\n".join([*known, *unknown]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_held_out()
