"""Markdown, HTML, scene breaks and broken characters before a text is spoken."""

import pytest

from mlx_voxcpm2.text.characters import speakable, with_whole_words
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


@pytest.mark.parametrize(
    "line",
    [
        *("[Anna]: Hello.", "[12:30]: Arrived.", '[Anna]: Well, "no".', "[Anna]: Really?!"),
        *("[Anna]: 3.5", "[Score]: 3/4", "[Anna]: Yes/no.", "[Anna]: Hm...yes", "[安娜]: 你好。"),
        *('[Anna]: p.m. "late"', '[Anna]: Node.js "is" great', '[Anna]: <sigh> "No."'),
    ],
)
def test_a_line_of_dialogue_is_no_definition_of_a_link(line):
    assert paragraphs(line) == [line]
    spoken = " ".join(piece.text for piece in split_text(f"{'It rains. ' * 40}\n{line}\nShe left."))
    assert line in spoken


@pytest.mark.parametrize(
    "target",
    [
        *("http://a.b", "https://a.b 'T'", "mailto:a@b.c", "/a", "#top", '<http://a.b> "T"'),
        *("docs/guide", "../guide", "file.html (T)", "example.com", "<my file.pdf>"),
    ],
)
def test_a_link_is_its_words_and_its_definition_is_not_spoken(target):
    text = "See [the site][The  Site], [the site][] and ![a picture][the site]it.\n\n[the site]: "
    assert paragraphs(text + target) == ["See the site, the site and it."]
    written = target.replace(" (T)", "")
    assert normalized(f"See [the site]({written}) and ![a picture]({written})it.", "en") == (
        "See the site and it."
    )


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("in 1990.[1][2] It", "in nineteen ninety. [1] [2] It"),
        ("in 1990.[1][2]\n\n[1]: /a\n[2]: /b", "in nineteen ninety. [1] [2]"),
        ("[laughing][sigh] Hi![laughing][sigh]", "[laughing][sigh] Hi![laughing][sigh]"),
        ("[laughing][r][1] Hi\n\n[1]: /a", "[laughing]r Hi"),
        ("One.[pause:1][pause:2]Two.", "One.[pause:1][pause:2]Two."),
        ("[laughing](softly) Hi![sigh](so low)", "[laughing](softly) Hi![sigh](so low)"),
        ("![the picture][1]\n\n[1]: a.png", ""),
    ],
)
def test_brackets_side_by_side_are_no_link_without_a_target(text, spoken):
    assert normalized(text, "en") == spoken


def test_words_of_a_link_with_a_definition_are_at_most_500_letters():
    text = "[{}][x]\n\n[x]: x.png"
    assert paragraphs(text.format("a" * 500)) == ["a" * 500]
    assert paragraphs(text.format("a" * 501)) == [f"[{'a' * 501}][x]"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("first-\nand second-class", "first- and second-class"),
        ("two-\nor three-bedroom", "two- or three-bedroom"),
        ("five-\nto tenfold", "five- to tenfold"),
        ("small-\nto medium-sized", "small- to medium-sized"),
        ("Vor-\nund Nachteile", "Vor- und Nachteile"),
        ("ein-\noder zweimal, zwei-\nbis dreimal", "ein- oder zweimal, zwei- bis dreimal"),
        ("moyen-\net long-courrier", "moyen- et long-courrier"),
        ("voor-\nen nadelen", "voor- en nadelen"),
        ("black-\nand-white, state-\nof-the-art", "black-and-white, state-of-the-art"),
        ("wom-\nen, col-\nor, tan-\nto, thous-\nand", "women, color, tanto, thousand"),
        ("Frau-\nen, here-\nof, tick-\net, Kür-\nbis", "Frauen, hereof, ticket, Kürbis"),
        ("My husband and hus-\nband", "My husband and husband"),
        ("A garland: garl-\nand", "A garland: garland"),
    ],
)
def test_a_hyphen_before_a_conjunction_hangs(text, whole):
    assert with_whole_words(text) == whole


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("❶ Mix ❷ Bake", "one Mix two Bake"),
        ("❿➀➉➊➓⓫⓴⓿⓵㉑㊿", "ten one ten one ten eleven twenty zero one twenty one fifty"),
        ("3 ✕ 4 ✖️ 5", "three times four times five"),
        ("a ✕ b, 5✕ faster", "a times b, five times faster"),
        ("8 ➖ 3, 8 ➗ 2, 8 ➕ 1", "eight minus three, eight divided by two, eight plus one"),
        ("✕ Close. No ✕ Maybe ➕", "Close. No Maybe"),
    ],
)
def test_numbers_in_circles_and_heavy_signs_of_arithmetic_are_read(text, spoken):
    assert normalized(text, "en") == spoken


def test_heavy_signs_and_numbers_in_circles_are_read_in_chinese():
    assert normalized("3 ✕ 4", "zh") == normalized("3 × 4", "zh") == "三乘四"
    assert normalized("❶ 开始", "zh") == "一开始"
