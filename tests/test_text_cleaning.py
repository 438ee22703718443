"""Markdown, HTML, scene breaks and broken characters before a text is spoken."""

import pytest

from mlx_voxcpm2.text.characters import speakable
from mlx_voxcpm2.text.markup import paragraphs
from mlx_voxcpm2.text.normalization import normalized
from mlx_voxcpm2.text.segments import split_text
from mlx_voxcpm2.text.spoken import check_text, has_words, spoken_text


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("a<b and c>d", "a less than b and c greater than d"),
        ("if i<p or x<a>y", "if i less than p or x less than a greater than y"),
        ('<b>bold</b> <a href="x.html">link</a><br/>end', "bold link end"),
        ("<p>One.</p><p>Two.</p>", "One.\n\nTwo."),
        ("<!-- not --><script>x = 1</script>yes", "yes"),
        ("Write to <me@x.org> or <https://x.org>.", "Write to me at x dot org or x dot org."),
        ("She, <Anna Lee>, came.", "She, Anna Lee, came."),
        ("1️⃣ First, 2⃣ second", "one First, two second"),
        ("Hi 👋🏽 there 🇩🇪 👨‍👩‍👧!", "Hi there !"),
        ("> quoted\n>> twice", "quoted twice"),
        ("~~x~~ and ==y== and __z__", "x and y and z"),
        ("A &amp; B &lt; C&nbsp;D &#8212; E", "A and B less than C D — E"),
        ("```py\nprint(1)\n```\nText", "Text"),
        ("Text\n```\nopen code", "Text\n\nopen code"),
        (
            "See [it](http://a.b/(c) 't'), ![pic](x.png) [r][1][^2].\n\n[1]: http://a.b",
            "See it, r.",
        ),
        ("Text.[^1]\n\n[^1]: The note.", "Text.\n\nThe note."),
        ("- [x] done\n* two\n+ three", "done. two. three."),
        ("1. Go\n2) Stop", "one. Go. two. Stop."),
        (
            "List<Object> of Map<String, List<Button>>.",
            "List of Object of Map of String, List of Button.",
        ),
        ("Vec<section>, a<b>bold</b>, <speak>x</speak>", "Vec of section, abold, x"),
        ("mc<sup>2</sup>, word*, a ⁂ ★ b 🔟", "mc squared, word, a b ten"),
        ("| Name | Age |\n|:--|--:|\n| Anna | 5 |", "Name, Age.\n\nAnna, five."),
        ("a == b and c == d", "a equals b and c equals d"),
        ("**One\nand** two", "One and two"),
        ("\\*not bold\\*", "not bold"),
        ("H~2~O, x^2^, **bold**er and ``a `b` c``", "H two O, x squared, bolder and a b c"),
        ("# Title {#id .class}\nText {.x}", "Title\n\nText"),
        ("Term\n: meaning", "Term\n\nmeaning"),
        ("::: note\nText\n:::", "Text"),
        ("---\ntitle: x\ntags:\n- y\n---\nText", "Text"),
        ("---\nHe left: now.\n---\nText", "He left: now.\n\nText"),
        (
            "$x^2$ and $5 or $6, $US and A$.",
            "x squared and five dollars or six dollars, $US and A$.",
        ),
        ("One\\\ntwo.", "One two."),
    ],
)
def test_markup_is_not_spoken_and_no_word_is_lost(text, spoken):
    assert normalized(text, "en") == spoken


BREAKS = ["***", "* * *", "---", "- - -", "___", "###", "~~~", "= = =", "•••", "⁂", "…", "<hr>"]


@pytest.mark.parametrize("line", BREAKS)
def test_a_scene_break_is_a_pause(line):
    text = f"The first scene ends.\n{line}\nThe second begins."
    assert normalized(text, "en") == "The first scene ends.\n\nThe second begins."
    pieces = split_text(text, paragraph_pause=0.7)
    assert [(piece.text, piece.pause) for piece in pieces] == [
        ("The first scene ends.", 0.7),
        ("The second begins.", 0.0),
    ]


BOOK = """# Chapter 2

It was **5 p.m.** on a well-
known day, and exam-
ple 1 &amp; 2 were there.
* * *
> She said *no* to 3 &lt; 4.

| a | 1 |
|---|---|
| b | 2 |

```
code 5
```
PART III
The end of 10 <i>pages</i>.
~~~
Good~~bye~~ night at 6.
"""


@pytest.mark.parametrize("length", [40, 300])
def test_normalizing_segments_gives_the_words_of_normalizing_before(length):
    before = " ".join(piece.text for piece in split_text(normalized(BOOK, "en"), length))
    after = " ".join(normalized(piece.text, "en") for piece in split_text(BOOK, length))
    assert after == before
    assert "well-known day, and example one and two were there." in before
    assert "code" not in before and "* *" not in before and "|" not in before


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("co\u00adop zero\u200bwidth \u202eabc\u202c\ufeff", "coop zerowidth abc"),
        ("pri\ue000vate con\x00trol\x1b no\uffffchar \ufffd", "private control nochar "),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
    ids=["invisible", "private", "Persian"],
)
def test_characters_that_cannot_be_spoken_are_always_left_out(text, spoken):
    assert speakable(text) == spoken
    assert spoken_text(text) == spoken
    assert split_text(text)[0].text == spoken.strip()


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("ﬁnd the oﬃce", "find the office"),
        ("𝐁𝐨𝐥𝐝 ⓑ ｗｉｄｅ", "Bold b wide"),
        (
            "exam-\nple, self-\nmade, twenty-\none, Jean-\nPaul",
            "example, self-made, twenty-one, Jean-Paul",
        ),
        ("re-enter and re-\nenter", "re-enter and re-enter"),
        ("don’t, dogs’ and ’tis", "don't, dogs' and 'tis"),
        ("cafe\u0301", "café"),
        ("①② ⑴ Ⅻ H₂O ㎏", "one two (one) XII H two O kg"),
        ("ℌi 🅷🅸 🅗", "Hi HI H"),
        ("soft\u00ad\nened, rock ’n’ roll, non‑stop", "softened, rock 'n' roll, non-stop"),
        ("Z\u0337\u0321\u0358\u031b\u0301a\u0338lgo", "Zalgo"),
        ("\x1b[31;1mred\x1b[0m \x1b]0;title\x07text\ufffc", "red text"),
    ],
    ids=[
        *("ligatures", "styled", "cut words", "compound", "apostrophes", "accent", "numbers"),
        *("inverted", "hyphens", "piled marks", "terminal"),
    ],
)
def test_broken_characters_are_mended(text, spoken):
    assert normalized(text, "en") == spoken


SILENT = [
    "...",
    "😀",
    "\u200b\u2060",
    "* * *",
    "?!",
    "\u3164",
    "[pause:1]",
    "(calm)",
    "—",
    " \n",
    "",
]


@pytest.mark.parametrize("text", SILENT)
def test_a_text_with_nothing_to_say_is_refused_in_one_line(text):
    assert not has_words(text)
    for refuse in (check_text, spoken_text, split_text):
        if refuse is split_text and text == "(calm)":
            continue  # only a request has a description before its text
        with pytest.raises(ValueError, match="text is empty") as caught:
            refuse(text)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["5", "½", "a", "你", "[laughing]", "{ni3}", "(calm)Hi.", "1️⃣"])
def test_a_text_with_a_word_a_number_or_a_sound_is_spoken(text):
    assert has_words(text)
    check_text(text)


@pytest.mark.parametrize("end", ["\f", "\u2029", "\x85", "\r", "\n\n", "\r\n\r\n"])
def test_every_end_of_a_paragraph_is_one(end):
    assert paragraphs(f"One.{end}Two.") == ["One.", "Two."]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\v"])
def test_an_end_of_a_line_is_a_space(end):
    assert paragraphs(f"One and{end}two.") == ["One and two."]
    assert paragraphs(f"今天{end}很好") == ["今天很好"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CHAPTER ONE\nIt was dark.", ["CHAPTER ONE", "It was dark."]),
        ("Introduction\nThe book begins.", ["Introduction", "The book begins."]),
        ("Title\n\nText.", ["Title", "Text."]),
        ("# Title #\nText.", ["Title", "Text."]),
        ("Chapter 3: the sea\n“Look,” he said.", ["Chapter 3: the sea", "“Look,” he said."]),
        ("第一章\n今天天气很好，我们去公园。", ["第一章", "今天天气很好，我们去公园。"]),
        ("It was a line of\nprose.", ["It was a line of prose."]),
        (
            "I wandered lonely as a cloud\nThat floats on high,",
            ["I wandered lonely as a cloud That floats on high,"],
        ),
        ("He left.\nShe stayed.", ["He left. She stayed."]),
    ],
)
def test_a_heading_is_a_paragraph_of_its_own(text, expected):
    assert paragraphs(text) == expected
