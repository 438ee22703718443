"""Labels of speakers at the beginning of a script's lines, told from other words before a colon."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Form = Literal["usual", "lower", "tight", "number", "dash", "time"]
"""`Anna: Hi`, `anna: Hi`, `Anna:Hi`, `1: Hi`, `Anna - Hi`, `Anna 0:03` above a line of words."""

# Quotes, list items and the times of transcripts and messages, which may stand before a label.
_DATE = r"\d{1,4}([./-])\d{1,2}\1\d{1,4},?\s+"
_TIME = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s?[AaPp]\.?[Mm]\.?)?"
_BEFORE = (
    r"^[\s\u200e]*(?:>\s*)*(?:[-*+•]\s+|\d+[.)]\s+)?"
    rf"(?:[\[(]?(?:{_DATE})?{_TIME}[\])]?\s+(?:[-–]\s+)?)?"
)
_MARK = r"(?:\*{1,3}|_{1,3})"
_EMPHASIS = rf"{_MARK}?"
_OTHERS = r":：()（）\[\]*\"“”«»<>{}|/\\,;!?"
# White space is part of what follows it, never of two parts that could share it: a line of many
# spaces would be tried at each of them, in the square of its length.
_LABEL = re.compile(
    rf"{_BEFORE}(?P<open>{_EMPHASIS})"
    rf"(?P<name>[^\s_{_OTHERS}](?:[^{_OTHERS}]{{0,38}}?[^\s{_OTHERS}])??)"
    rf"(?:\s*(?P<closed>{_MARK}))?"
    rf"(?P<styles>(?:\s*{_EMPHASIS}[(（\[][^()（）\[\]]*[)）\]])*)"
    rf"(?P<closed_late>{_EMPHASIS})"
    r"(?:\s*(?P<colon>[:：])|\s+(?P<dash>[-–—])(?=\s))(?P<text>.*)$"
)
_NAME_ALONE = re.compile(
    rf"^\s*[*_]*(?P<name>[^\s_.{_OTHERS}](?:[^.{_OTHERS}]{{0,38}}?[^\s.{_OTHERS}])??)"
    r"(?:\s*[*_]+)?(?:(?P<styles>(?:\s*[(（][^()（）]*[)）])+)[*_]*)?\s*$"
)
# <v Anna>Hello.</v> of WebVTT, <anna> hello of chats, 【小明】你好.
_IN_BRACKETS = re.compile(
    r"^\s*(?:<(?:v\s+)?(?P<angle>[^<>/]{1,40})>|【(?P<square>[^【】]{1,40})】)"
    r"\s*(?:[:：]\s*)?(?P<text>\S.*)$"
)
_TIMED = re.compile(
    rf"\s*(?P<name>[^\s{_OTHERS}][^{_OTHERS}]{{0,39}}?)\s+\d{{1,2}}:\d{{2}}(?::\d{{2}})?\s*"
)
_STYLE = re.compile(r"[(（\[]([^()（）\[\]]*)[)）\]]")
_NUMBERED = re.compile(r"(?:speaker|s)[\s_#-]*0*(\d{1,3})", re.IGNORECASE)
_FULL_NUMBERED = re.compile(r"speaker[\s_#-]*0*(\d{1,3})", re.IGNORECASE)
_TAG = re.compile(r"\[\s*s(?:peaker)?[\s_-]*0*(\d{1,3})\s*\]\s*:?", re.IGNORECASE)

_MOST_WORDS = 4
# Small words inside names: Ludwig van Beethoven, Man in Black.
_SMALL = set("a af al and av bin da de del den der di du el in la le of på the to".split())
_SMALL |= {"van", "von", "y", "zu"}
# Words before a colon that introduce a remark. Given a voice, they are speakers all the same.
_NO_NAMES = set(
    """
    abstract achtung act actually address advice again also and answers anyway appendix
    attention author b.g.m. background basically because beispiel besides bgm bonus but cast
    caution caveat chapter characters con conclusion cons consider context correct correction
    credits danger date default definition disclaimer disclosure duration e-mail e.g. edit email
    episode error example examples exercise fact false figure file finally first fourth friday
    fx goal goals here hint hinweis honestly how however i.e. idea imagine important indeed
    ingredients instead instructions intro key language lastly legend length lesson link links
    listen location look materials meanwhile merke message monday music n.b. nb next no nota
    notabene note notes now objective ok okay option or otherwise outro overview p.p.s. p.s.
    part place plot plus pps pro problem pros ps quote re reason reference references remark
    remember reminder result results right rule saturday scene second section seriously setting
    setup sfx so solution sound source sources spoiler spoilers step still subject subtitle
    summary sunday surprise table takeaway that theme then there therefore these third this
    those thursday thus time tip title tl;dr tldr today todo tomorrow tools topic translation
    trigger true tuesday update url version video warning website wednesday well what when where
    who why wichtig wrong yes yesterday 例 例如 备注 提示 時間 标题 注 注意 注記 题目
    """.split()
)
# First words of headings such as "Step 1:".
_HEADINGS = {"figure", "table", "chapter", "step", "part", "scene"}
# Remarks of film scripts in the place of a style: off screen, continued.
_NO_STYLES = {"vo", "os", "oc", "contd", "cont", "continued", "off", "offscreen", "on screen"}


@dataclass(frozen=True)
class Label:
    """What looks like a speaker's label, and the rest of its line."""

    name: str
    style: str | None
    text: str
    form: Form = "usual"
    is_certain: bool = False
    """Whether it is "Speaker N", or the name of a speaker who has a voice."""

    @property
    def key(self) -> str:
        return speaker_key(self.name)


def speaker_key(name: str) -> str:
    """Key by which speakers are the same: "1" for Speaker 1, speaker_01 and 1; "anna" for ANNA."""
    text = " ".join(unicodedata.normalize("NFC", name).split())
    if numbered := _NUMBERED.fullmatch(text):
        return numbered[1]
    return (text.lstrip("0") or "0") if text.isdecimal() else text.casefold()


def split_tags(line: str) -> list[str]:
    """A line with [S1] marks, as Dia writes them, as a line with a label for each."""
    pieces = _TAG.split(line)
    tagged = zip(pieces[1::2], pieces[2::2], strict=True)
    labelled = [f"Speaker {number}: {words}" for number, words in tagged]
    return [each for each in [pieces[0], *labelled] if each.strip()] or [line]


def possible_label(line: str, known: Collection[str] = ()) -> Label | None:
    """The label that a line may begin with, or None. known: keys of speakers that have a voice."""
    line = _with_colon(line)
    found = _LABEL.match(line)
    if found is None:
        return _name_alone(line, known)
    if timed := _TIMED.fullmatch(line):
        return _before_time(timed["name"], known)
    name, text = " ".join(found["name"].split()), found["text"].strip()
    form = _form(name, found)
    is_known = speaker_key(name) in known and not name.isdecimal()
    is_certain = is_known or _FULL_NUMBERED.fullmatch(name) is not None
    if form is None or found["text"].startswith(("//", "\\")):
        return None
    if not (is_certain or _may_be_name(name)):
        return None
    if number := _FULL_NUMBERED.fullmatch(name) or re.fullmatch(r"0*(\d{1,3})", name):
        name = f"Speaker {number[1]}"
    if mark := found["open"]:
        is_closed = found["closed"] or found["closed_late"]
        text = text if is_closed else _without_end_of_emphasis(text, mark)
    return Label(name, style_of(found["styles"]), text, form, is_certain)


def _name_alone(line: str, known: Collection[str]) -> Label | None:
    """A line with nothing but a known name, as in film scripts, and perhaps a style."""
    found = _NAME_ALONE.match(line)
    if found is None or found["name"].isdecimal() or speaker_key(found["name"]) not in known:
        return None
    name, style = " ".join(found["name"].split()), style_of(found["styles"] or "")
    return Label(name, style, "", is_certain=True)


def names_alone(lines: Sequence[str], has_others: bool = False) -> list[str]:
    """Names in the manner of film scripts: alone on their lines, with words on the next one.

    lines: all lines, empty where they have a label. Each name once; those in capitals, or that come
    again. A single one is a heading rather than a speaker, unless there are others with a voice.
    """
    found: list[str] = []
    for line, following in pairwise(lines):
        if following.strip() and (name := _bare_name(line)) and not _bare_name(following):
            found.append(name)
    counted = Counter(map(speaker_key, found))
    likely = [name for name in found if name.isupper() or counted[speaker_key(name)] > 1]
    by_key: dict[str, str] = {}
    for name in likely:
        by_key.setdefault(speaker_key(name), name)
    return list(by_key.values()) if len(likely) > 1 or has_others else []


def _bare_name(line: str) -> str | None:
    found = _NAME_ALONE.match(line)
    name = " ".join(found["name"].split()) if found else ""
    if not name or name.islower() or not any(map(str.isalpha, name)) or not _may_be_name(name):
        return None
    return name


def _with_colon(line: str) -> str:
    """A line that begins with a name in brackets, as one that begins with a name and a colon."""
    found = _IN_BRACKETS.match(line)
    if found is None:
        return line
    name, text = found["angle"] or found["square"], found["text"].rstrip()
    text = text.removesuffix("</v>") or text
    is_markup = f"</{name}>" in text
    return line if is_markup else f"{name}: {text}"


def _before_time(name: str, known: Collection[str]) -> Label | None:
    """The label of a line that is a name and the time of its words, which are the next lines."""
    is_certain = speaker_key(name) in known or _FULL_NUMBERED.fullmatch(name) is not None
    if not (is_certain or _may_be_name(name)):
        return None
    return Label(" ".join(name.split()), None, "", "time", is_certain)


def _without_end_of_emphasis(text: str, mark: str) -> str:
    """Words after a label of which the emphasis ends behind the colon, or with the line."""
    if text.startswith(mark):
        return text.removeprefix(mark).strip()
    return text.removesuffix(mark).strip()


def _form(name: str, found: re.Match[str]) -> Form | None:
    """Form of a label; None for what is a time such as 12:30."""
    after = found["text"][:1]
    if found["dash"]:
        return None if name.isdecimal() else "dash"
    is_tight = found["colon"] == ":" and after.isascii() and after.isalnum()
    if name.isdecimal():
        return None if is_tight else "number"
    if is_tight:
        return "tight"
    return "lower" if name.islower() else "usual"


def _may_be_name(name: str) -> bool:
    """Whether words that are not known as a speaker may be one."""
    words, folded = name.split(), name.casefold()
    if {folded, folded.rstrip(".")} & _NO_NAMES or words[0].casefold() in _HEADINGS:
        return False
    if name.isdecimal() or (name.islower() and name.isalpha()):
        return True
    is_capital = all(_is_word_of_name(each, not i) for i, each in enumerate(words))
    return is_capital and len(words) <= _MOST_WORDS


def _is_word_of_name(word: str, is_first: bool) -> bool:
    first = word.lstrip("'’#&.-")[:1]
    if first.isalpha():
        return not first.islower() or (not is_first and word.casefold() in _SMALL)
    return not is_first and (first.isdecimal() or word == "&")


def style_of(text: str) -> str | None:
    """Style in the parentheses of a text such as `(whispering)`; None for a time or a remark."""
    found = []
    for each in _STYLE.findall(text):
        words = " ".join(each.split())
        bare = re.sub(r"[^\w\s]", "", words).casefold()
        if any(map(str.isalpha, words)) and bare not in _NO_STYLES:
            found.append(words)
    return ", ".join(found) or None


def labels_of(lines: Sequence[str], known: Collection[str] = ()) -> list[Label | None]:
    """The label of each line, or None. lines: those that are spoken, in order.

    Decides over the whole script. "Speaker 1" and names that have a voice are labels everywhere.
    If the first line has a label, others of the usual form and of its own are labels, too; if its
    form is an unusual one, it takes two of them. Otherwise a name must begin several lines.
    """
    possible = [possible_label(line, known) for line in lines]
    found = [each for each in possible if each]
    first = next(iter(possible), None)
    keys = {each.key for each in found if each.is_certain}
    if first is None:
        counted = Counter(each.key for each in found if each.form == "usual")
        if any(count > 1 for count in counted.values()):
            keys |= counted.keys()
    else:
        # Names before a dash are not mixed with those before a colon.
        forms = {first.form} if first.form == "dash" else {first.form, "usual"}
        alike = [each for each in found if each.form in forms]
        if first.is_certain or first.form == "usual" or len(alike) > 1:
            keys |= {each.key for each in alike}
    return [each if each and each.key in keys else None for each in possible]
