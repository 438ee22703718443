"""Times of day and durations in English."""

from __future__ import annotations

from re import Match

from .numbers import cardinal, two_digits
from .rules import Rule, rule


def _half(text: str | None) -> str:
    return f" {text[0].upper()}M" if text else ""


def _time(hour: str, minute: str, is_bare: bool) -> str:
    """Hour and minute; a bare full hour is "twelve o'clock" or "fifteen hundred"."""
    words = cardinal(str(int(hour)))
    if is_bare and hour in ("00", "24") and minute == "00":
        return "midnight"
    if minute != "00":
        return f"{words} {two_digits(minute)}"
    if not is_bare:
        return words
    return f"{words} hundred" if int(hour) > 12 else f"{words} o'clock"


def _clock(found: Match[str]) -> str:
    hour, second = found["hour"], found["second"]
    if int(hour) > 24:
        return found.group()
    half = _half(found["half"] or found["dotted"])
    words = _time(hour, found["minute"], not (half or second))
    return words + (f" and {cardinal(str(int(second)))} seconds" if second else "") + half


def _duration(found: Match[str]) -> str:
    names = ("hour", "minute", "second")
    parts = [
        f"{cardinal(str(int(each)))} {name}{'' if int(each) == 1 else 's'}"
        for each, name in zip(found.groups(), names, strict=True)
        if int(each)
    ]
    return f"{' '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else " ".join(parts)


def _lengths(found: Match[str]) -> str:
    names = ("hours", "minutes", "seconds")
    return " ".join(
        f"{cardinal(str(int(found[name])))} {name[:-1] if int(found[name]) == 1 else name}"
        for name in names
        if found[name]
    )


def _military(found: Match[str]) -> str:
    hour, minute = found["hour"], found["minute"]
    return (
        f"{found['before']}{two_digits(hour)} {'hundred' if minute == '00' else two_digits(minute)}"
    )


def _start(found: Match[str]) -> str:
    hour, _, minute = found["start"].partition(":")
    return f"{_time(hour, minute or '00', False)}{_half(found['first'])} to "


# The full stop of "p.m." is kept at the end of a sentence.
_HALF = r"\s?(?:(?P<dotted>[AaPp])\.\s?[Mm]\.(?=\s+[a-z(\d]|[,;:?!)])|(?P<half>[AaPp])\.?\s?[Mm]\b)"
_SECOND_TIME = r"(?=\d{1,2}(?::[0-5]\d\b|(?::[0-5]\d)?\s?[AaPp]\.?[Mm]\b))"

TIMES: list[Rule] = [
    rule(r"(?<![\w:.])(?P<hour>\d{1,2}):00 ?(?=o['’]clock\b)", r"\g<hour> "),
    # 1h30m and 5m 30s, but not 5m alone, which is a distance.
    rule(
        r"(?<![\w.,])(?P<hours>\d{1,2}) ?h ?(?P<minutes>\d{1,2}) ?m"
        r"(?: ?(?P<seconds>\d{1,2}) ?s)?\b",
        _lengths,
    ),
    rule(r"(?<![\w.,])(?P<hours>(?!))?(?P<minutes>\d{1,2})m ?(?P<seconds>\d{1,2})s\b", _lengths),
    rule(
        r"(?P<before>\b(?i:at|by|to|from|until|before|after) )(?P<hour>[012]\d)(?P<minute>[0-5]\d)"
        r"(?= (?:hours|hrs|h)\b(?! of))",
        _military,
    ),
    rule(r"(?<![\w:.])(\d{1,2}):([0-5]\d):([0-5]\d)(?![\w:]|\s?[AaPp]\.?[Mm])", _duration),
    rule(
        r"(?<![\w:.])(?P<start>\d{1,2}(?::[0-5]\d)?)(?:\s?(?P<first>[AaPp])\.?[Mm]\.?)?\s?[-–—]\s?"
        rf"{_SECOND_TIME}",
        _start,
    ),
    rule(
        r"(?<![\w:.])(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d|60))?"
        rf"(?![\d:]|,\d{{3}}\b)(?:{_HALF})?",
        _clock,
    ),
    rule(rf"(?<![\w:.])(?P<hour>\d{{1,2}})\.(?P<minute>[0-5]\d)(?P<second>){_HALF}", _clock),
    rule(
        rf"(?<![\w:.])(?P<hour>\d{{1,2}}){_HALF}(?!\w)",
        lambda found: cardinal(found["hour"]) + _half(found["half"] or found["dotted"]),
    ),
]
