"""Sentences composed of names, places, times, dates and numbers in words: questions, dialogue,
everyday speech, and what is written otherwise than it is said, such as "Dr." and "BBC".
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import partial

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

TITLES = "Mr. Mrs. Ms. Dr. Prof. Capt. Sgt. Rev. Gen.".split()
SURNAMES = (
    "Smith Jones Brown Taylor Wilson Davis Clark Lewis Walker Hall Allen Young King Wright Green "
    "Baker Adams Nelson Hill Campbell Mitchell Carter Roberts Evans Turner Parker Collins Murphy"
).split()
ACRONYMS = (
    "BBC FBI CIA USA UK EU UN NBA CNN CEO PhD DNA TV CD DVD PC MP GP ID VIP HR PR IBM BMW NHS GPS "
    "ATM AC DC LA NY DJ IQ KGB MIT NBC PDF PIN RSVP SUV TB URL USB WWF XL"
).split()
ABBREVIATED = (
    "{title} {surname} lives in {place}.",
    "{title} {surname} met {title} {surname} on {day}.",
    "Is {title} {surname} at home, {title} {surname}?",
    "Good morning, {title} {surname}.",
    "{name} asked {title} {surname} about the {thing}.",
    "The {letters} and the {letters} agree.",
    "The {letters} has an office in {place}.",
    "{name} works for the {letters} in the {letters}.",
    "Have you seen the {thing} of the {letters}?",
    "The {letters} of {letters} spoke to {title} {surname}.",
    "My {letters} is on the {thing}.",
    "It is spelled {letter}, {letter}, {letter}, {letter}.",
    "Take bus {letter} or bus {letter} to {place}.",
    "{name} wrote the letter {letter}.",
    "The train leaves at {hour} {half}.",
    "Come at {hour} {half} on {day}.",
    "At {hour} {half} {name} called {title} {surname}.",
    "St. {name} Street is near the {thing}.",
    "{name} {surname}, Jr., lives in {place}.",
    "Bring a {thing}, a {thing}, etc.",
    "Bring something, e.g. a {thing}, on {day}.",
    "The first day, i.e. {day}, is free.",
    "It was {place} vs. {place} on {day}.",
    "{name} {letter}. {surname} wrote to the {letters}.",
    "The U.S. and the U.K. met in {place}.",
)
"""Abbreviations and acronyms as they are written."""


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


def composed_sentences(templates: Sequence[str], count: int, seed: int) -> list[str]:
    """Different sentences of the templates, sorted; the same at every call."""
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
        "{letters}": lambda: _letters(draw),
        "{letter}": lambda: draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "{title}": lambda: draw.choice(TITLES),
        "{surname}": lambda: draw.choice(SURNAMES),
        "{hour}": lambda: number(draw.randint(1, 12)),
        "{half}": lambda: draw.choice(("a.m.", "p.m.", "AM", "PM")),
    }
    for field, words in CONTRACTED.items():
        choices = [each.replace("~", " ") for each in words.split()]
        fields[field] = partial(draw.choice, choices)
    found = set()
    while len(found) < count:
        text = re.sub(r"\{\w+\}", lambda field: fields[field[0]](), draw.choice(templates))
        # The beginning of a sentence may have been composed in lower case; "p.m." does not end one.
        begin = r"(?:^|(?<!\.[a-z])[.?!] )[a-z]"
        found.add(re.sub(begin, lambda found: found[0].upper(), text))
    return sorted(found)


def _letters(draw: random.Random) -> str:
    """Acronym that is said letter by letter: a usual one, or three letters or four."""
    if draw.random() < 0.6:
        return draw.choice(ACRONYMS)
    return "".join(draw.choices("BCDFGHJKLMNPQRSTVWXZ", k=draw.randint(3, 4)))


def _time(draw: random.Random) -> str:
    hour = draw.randint(1, 12)
    forms = ("{} o'clock", "half past {}", "a quarter to {}", "ten past {}", "{} thirty")
    return draw.choice(forms).format(ONES[hour])


def _year(draw: random.Random) -> str:
    tens = number(draw.randint(10, 99))
    return f"{draw.choice(('eighteen', 'nineteen', 'twenty'))} {tens}"
