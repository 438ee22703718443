"""English abbreviations, Roman numerals of rulers and chapters, codes, room and flight numbers."""

from __future__ import annotations

import re
from re import Match

from .numbers import cardinal, digits, from_roman, ordinal, paired, plural
from .rules import Rule, one_of, rule, table

_WORDS = {
    kind: {row[1]: row[2] for row in table("abbreviations") if row[0] == kind}
    for kind in ("title", "number", "word")
}
_RULERS = one_of(row[0] for row in table("rulers"))

_TITLES = (
    "King Queen Pope Emperor Empress Tsar Czar Tsarina Sultan Prince Princess Duke Pharaoh Shah"
)
_TITLES += " Kaiser Khan Antipope Patriarch Bishop Count Caliph Lord"
_LABELS = "Chapter Part Book Volume Act Scene Section Article Appendix Phase Type Class Level Stage"
_LABELS += " Grade Figure Table War Bowl Title Canto Episode Division Group Category Schedule Annex"
_LABELS += " Step Unit Lesson Movement Verse Amendment Tier Round Season Series Mark Page"
_ORDINAL_NOUNS = "Corps|Army|Legion|Olympiad|Olympics?|Congress|Dynasty|dynasty|Symphony"

# "I" alone is the word, unless what follows can't stand after that; Malcolm X is a name.
_NOT_I = (
    r"(?P<roman>[IVXLCDM]{2,}|V|(?<!Malcolm )X|"
    r"I(?=[,.;:)]|'s|\s*$| (?:was|of|is|ruled|died|reigned|had been)\b| and [A-Z]\w+ [IVX]+\b|"
    r" (?!always|perhaps|sometimes|besides|thus)[a-z]{2,}[a-rt-z]s\b))"
)
_DEEDS = "fall|die|rule|reign|ride|enter|leave|kneel|fight|lose|win|pass|rise|crowned|executed|go"
# Verbs of the one who speaks: "King Charles I think".
_SAYS_I = "(?! (?:think|know|believe|mean|guess|suppose|saw|met|am|have|would|will|can|could)\\b)"


def _ruler(found: Match[str]) -> str:
    number = from_roman(found["roman"])
    return f"{found['name']} the {ordinal(number)}" if number else found.group()


def _numbered(found: Match[str]) -> str:
    number = from_roman(found["roman"].upper())
    return f"{found['name']} {cardinal(str(number))}" if number else found.group()


def _numbered_range(found: Match[str]) -> str:
    last = from_roman((found["last"] or "").upper())
    if not last:
        return _numbered(found)
    between = found["between"] if found["between"].strip() in ("and", "or", "to") else " to "
    return f"{_numbered(found)}{between}{cardinal(str(last))}"


def _century(found: Match[str]) -> str:
    number = from_roman(found["roman"])
    return ordinal(number) if number else found.group()


LABELS: list[Rule] = [
    rule(
        rf"\b(?P<kind>{one_of(_WORDS['number'])})\. ?(?=\d|[IVXLC]+\b)",
        lambda found: f"{_WORDS['number'][found['kind']]} ",
    ),
]

ROMAN_NUMERALS: list[Rule] = [
    rule(
        rf"(?P<name>\b(?i:{one_of(_LABELS.split())})s?) "
        r"(?P<roman>[IVXLCDM]{2,}|[IVX]|[ivxl]{2,})"
        r"(?:(?P<between>\s?[-–—]\s?| and | or | to )(?P<last>[IVXLCDM]{2,}|[VX]))?(?![\w-])",
        _numbered_range,
    ),
    rule(
        rf"(?P<name>\b(?:{one_of(_TITLES.split())})(?: [A-Z][\w'’-]+){{1,3}}?)"
        rf" (?P<roman>[IVXLCDM]{{2,}}|[VX]|I{_SAYS_I})(?!\w)",
        _ruler,
    ),
    rule(rf"(?P<name>\b(?:{_RULERS})(?: [A-Z][a-z]\w*)?) {_NOT_I}(?!\w)", _ruler),
    # What a king is seen to do: "They saw Charles I fall."
    rule(
        rf"(?<=\bsaw )(?P<name>{_RULERS}) (?P<roman>I)(?= (?:{_DEEDS})\b)",
        _ruler,
    ),
    rule(rf"\b(?P<roman>[IVXLCDM]+)(?= (?:[Cc]entur(?:y|ies)|{_ORDINAL_NOUNS})\b)", _century),
    rule(r"(?<=\b[Tt]he )(?P<roman>[IVX]{2,})(?= [A-Z])", _century),
    rule(
        r"(?P<name>\b[A-Z][\w'’-]*[a-z]\w*) (?P<roman>(?=[IVX]{2})[IVX]+)"
        r"(?![\w-])(?! (?:drip|fluid|line|therapy|bag|antibiotic)s?\b)",
        _numbered,
    ),
]

_ROOMS = "Room room Flight flight Route Highway Interstate Suite Apartment Apt Gate Bus bus Boeing"
_ROOMS += " Airbus Unit Channel Extension Rm Train Terminal"
# Makers whose models are numbers: "a Porsche nine eleven".
_ROOMS += " Embraer Cessna Learjet Bombardier Douglas Nokia Porsche Ferrari Peugeot Saab Volvo Fiat"
_ROOMS += " Mercedes Audi BMW Intel RTX GTX GeForce Radeon Ryzen Xbox Levi's ThinkPad Leica Nikon"
_ROOMS += (
    " Canon Hasselblad Atari Commodore Kawasaki Ducati Yamaha Roland Casio Magnum McLaren Alfa"
)


def _code(found: Match[str]) -> str:
    letters, number = found["letters"], found["number"]
    if len(letters) <= 3 and letters.isupper() and letters not in _SAID:
        letters = " ".join(letters)
    words = digits(number) if number[0] == "0" or len(number) > 4 else paired(number)
    end = " " if found["joined"] else ""  # abc-123-def
    if found["after"] == "s":
        return f"{letters} {plural(words)}{end}"
    return f"{letters} {words} {found['after'] or ''}".rstrip() + end


# Short words of capitals that are not spelled.
_SAID = {"SARS", "COVID", "NATO", "LED", "RAM", "SAT", "GAP"}


def _model(text: str) -> str:
    """Last three digits of a processor's number: "seven hundred", "oh fifty"."""
    return paired(text) if text[0] != "0" else digits(text, "oh")


def _aircraft(found: Match[str]) -> str:
    """The model and its series: "seven thirty seven eight hundred"."""
    model, series = found["model"] or found["jet"], found["series"] or found["type"]
    letters = " ".join(found["letters"] or "")
    return f"{found['maker'] or ''}{paired(model)} {paired(series)} {letters}".rstrip()


_PLANES = "Boeing Airbus ATR Dash Embraer Cessna Learjet Fokker Douglas Antonov Gulfstream"
_PLANES += " Dassault Falcon Citation Challenger Bombardier Ilyushin Tupolev Beechcraft Saab Il Tu"
_FLOWN = "MAX|Max|jets?|aircraft|planes?|pilots?|flights?|Dreamliner|cargo|freighter|simulator"
_FLOWN += "|crash|crew|wings?|engines?|fleet|landed|took|flew"

CODES: list[Rule] = [
    rule(
        r"\b(?P<series>i[3579])-(?P<first>1\d)(?P<last>\d{3})(?P<letters>[A-Z]{0,2})\b",
        lambda found: (
            f"i {cardinal(found['series'][1])} {cardinal(found['first'])} "
            f"{_model(found['last'])} {' '.join(found['letters'])}".rstrip()
        ),
    ),
    # 737-800 and 777-300ER are no ranges.
    rule(
        rf"(?:(?P<maker>\b(?:{one_of(_PLANES.split())}) )(?P<model>\d{{1,3}})-"
        r"(?P<series>\d{1,3})|"
        r"(?<![\w.,$-])(?P<jet>7[0-8]7)-(?P<type>[1-9]00|[89]|10))(?P<letters>[A-Z]{1,2})?\b"
        r"(?![-.]\d)",
        _aircraft,
    ),
    rule(
        rf"(?P<before>\b(?:[Aa]n?|[Tt]he|[Nn]ew|[Oo]ld|[Tt]h(?:is|at)|[Oo]ur) )(?P<jet>7[0-8]7)"
        rf"(?= (?:{_FLOWN})\b|[,.;!?](?!\d)|\s*$)",
        lambda found: found["before"] + paired(found["jet"]),
    ),
    rule(
        rf"\b(?P<kind>{one_of(_ROOMS.split())})\.? #?(?P<number>\d{{3,4}})(?P<letter>[A-Z])?\b"
        r"(?![,.]\d|-\d)",
        lambda found: f"{found['kind']} {paired(found['number'])} {found['letter'] or ''}".rstrip(),
    ),
    rule(r"(?<!\w)#(?=\d)", "number "),
    rule(
        r"\b(?P<letters>[A-Za-z]+)-?(?P<number>\d+)(?P<after>[A-Za-z]{1,2})?\b"
        r"(?![.,]\d)(?P<joined>-(?=[A-Za-z]))?",
        _code,
    ),
    rule(
        r"(?<![\w.,])(?P<number>\d+)(?P<letters>(?!ST|ND|RD|TH)[A-Z]{1,3})\b",
        lambda found: f"{paired(found['number'])} {' '.join(found['letters'])}",
    ),
    rule(r"(?<![\w.,])(?P<number>\d+)-(?=[A-Za-z])", lambda found: f"{cardinal(found['number'])}-"),
]


def _dotted(kind: str) -> str:
    return rf"\b(?P<word>{one_of(_WORDS[kind])})\.(?=\W|$)"


# What may be named after a person: "Martin Luther King Jr. Day".
_NAMED = r"(?! (?:Day|Dr|Drive|Street|School|High|Memorial|Avenue|Boulevard|Way|Park|Bridge)\b)"
_AFTER_END = re.compile(rf"\s*$|{_NAMED}\s+[\"'“(]?[A-Z]")


def _word(found: Match[str]) -> str:
    end = "." if _AFTER_END.match(found.string, found.end()) else ""
    return _WORDS["word"][found["word"]] + end


ABBREVIATIONS: list[Rule] = [
    rule(
        rf"\b(?P<word>{one_of(_WORDS['title'])})\.(?= ?[A-Z]| (?:and|or)\b)",
        lambda found: _WORDS["title"][found["word"]],
    ),
    rule(r"\b(?P<word>Dr|Mr|Mrs|Ms)(?= [A-Z])", lambda found: _WORDS["title"][found["word"]]),
    rule(r"\bSt\.? (?=[A-Z][a-z])", "Saint "),
    rule(_dotted("word"), _word),
    rule(r"\bvs\b", "versus"),
    rule(
        r"\b(?P<half>[ap])\.\s?m\.(?=\s+[a-z(]|[,;:?!)])", lambda found: f"{found['half'].upper()}M"
    ),
    rule(r"\bw/o\b", "without"),
    rule(r"\bw/(?= ?\w)", "with "),
]
