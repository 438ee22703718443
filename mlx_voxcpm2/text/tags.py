"""HTML's tags, comments and scripts, as far as they are none of the text's own words."""

from __future__ import annotations

import re

_BLOCK_TAGS = "p div h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table tr thead tbody tfoot caption section"
_BLOCK_TAGS += " article header footer main nav aside blockquote pre figure figcaption hr form body"
_BLOCK_TAGS += " html head title address fieldset details summary"
_INLINE_TAGS = "a abbr acronym audio b bdi bdo big br button canvas cite code col colgroup data del"
_INLINE_TAGS += " dfn em embed font i iframe img input ins kbd label link mark meta meter object"
_INLINE_TAGS += " option output picture progress q rp rt ruby s samp select small source span"
_INLINE_TAGS += " strike strong style sub sup td th time track tt u var video wbr svg script center"

# A tag has nothing but attributes: what stands in `a<b and c>d` is text.
_ATTRIBUTES = (
    r"(?:\s+[A-Za-z_:@][\w:.-]*\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+)|\s+(?:disabled|checked"
    r"|hidden|controls|selected|required|readonly|multiple|autoplay|loop|muted|async|defer|open"
    r"|nowrap|reversed))*"
)
_BLOCK_TAG = re.compile(
    rf"<(/?)({'|'.join(sorted(_BLOCK_TAGS.split(), key=len, reverse=True))}){_ATTRIBUTES}\s*/?>",
    re.IGNORECASE,
)
_INLINE_TAG = re.compile(
    rf"<(/?)({'|'.join(sorted(_INLINE_TAGS.split(), key=len, reverse=True))}){_ATTRIBUTES}\s*/?>",
    re.IGNORECASE,
)
_BARE_TAG = re.compile(r"</?[a-z][a-z0-9]*", re.I)
# Tags that are never closed, or often left open.
_OFTEN_OPEN = frozenset("br hr wbr img input meta col p li dt dd tr td th body html head".split())
# A power; behind a longer word it is the number of a footnote.
_RAISED = re.compile(r"(?<![A-Za-z]{3})(?<=[\w)])<sup>([-−]?\d{1,3})</sup>", re.I)
_UNSEEN = re.compile(r"<!--|<(script|style|head)\b[^>]{0,2000}>", re.I)


def without_block_tags(text: str, replacement: str) -> str:
    """Text with a replacement for each tag of a block, without comments, scripts and styles."""
    if "<" not in text:
        return text
    return _without_tags(_BLOCK_TAG, _without_unseen(text), replacement)


def without_inline_tags(text: str) -> str:
    """Text without tags inside lines; a raised number becomes a power."""
    return _without_pairs(_without_tags(_INLINE_TAG, _RAISED.sub(r"^\1", text), ""))


def _without_tags(pattern: re.Pattern[str], text: str, replacement: str) -> str:
    tags = {found.group().lower() for found in _BARE_TAG.finditer(text)}
    return pattern.sub(lambda found: _tag(found, tags, replacement), text)


def _tag(found: re.Match[str], tags: set[str], replacement: str) -> str:
    """The replacement of a tag; the text itself in `a<b>c` and `List<Object>`, where nothing is
    closed.

    tags: `<b` and `</b` of all tags.
    """
    name, text = found[2].lower(), found.string
    if found.start() and text[found.start() - 1].isalnum() and name not in _OFTEN_OPEN:
        other = f"<{name}" if found[1] else f"</{name}"
        if other not in tags and (not found[1] or len(name) == 1):
            return found.group()
    return " " if name in ("br", "td", "th", "img", "wbr") else replacement


def _without_pairs(text: str) -> str:
    """Text without tags of other names that are closed, such as `<speak>` and `</speak>`."""
    names = {found[1] for found in re.finditer(r"</([A-Za-z][\w:-]*)\s*>", text)}
    if not names:
        return text
    any_name = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(rf"</?(?:{any_name}){_ATTRIBUTES}\s*/?>", "", text)


def _without_unseen(text: str) -> str:
    """Text without comments, scripts and styles; what is opened and never closed stays."""
    kept, start, place, ends = [], 0, 0, Ends(text)
    while found := _UNSEEN.search(text, place):
        place = found.end()
        end = ends.after(place, rf"(?i:</{found[1]}\s*>)" if found[1] else "-->")
        if end is not None:
            kept.append(text[start : found.start()])
            start = place = end
    return "".join(kept) + text[start:]


class Ends:
    """Ends of what is opened in a text, none of which is searched for twice in vain."""

    def __init__(self, text: str):
        self.text = text
        self._missing: set[str] = set()

    def after(self, place: int, pattern: str) -> int | None:
        """Where the next match of the pattern ends, or None. Call it with rising places."""
        if pattern in self._missing:
            return None
        found = re.compile(pattern).search(self.text, place)
        if found is None:
            self._missing.add(pattern)
        return found and found.end()
