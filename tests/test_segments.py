"""Long texts are split where a reader would breathe."""

import pytest

from mlx_voxcpm2.text.segments import Segment, is_one_segment, split_text, spoken_length


def texts(text: str, *settings, **named) -> list[str]:
    return [segment.text for segment in split_text(text, *settings, **named)]


def letters(text: str) -> str:
    return "".join(each for each in text if each.isalnum())


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Roe left at 3.5 p.m. today. Who?", ["Dr. Roe left at 3.5 p.m. today.", "Who?"]),
        ("你好。今天天气很好！你呢？", ["你好。", "今天天气很好！", "你呢？"]),
        ("こんにちは。元気ですか？はい。", ["こんにちは。", "元気ですか？", "はい。"]),
        ("안녕하세요. 잘 지내세요?", ["안녕하세요.", "잘 지내세요?"]),
        ("नमस्ते। आप कैसे हैं? मैं ठीक हूँ।", ["नमस्ते। आप कैसे हैं?", "मैं ठीक हूँ।"]),
        ("مرحبا بكم. كيف حالك اليوم؟ أنا بخير.", ["مرحبا بكم.", "كيف حالك اليوم؟", "أنا بخير."]),
        ("Вот И. С. Тургенев. Как дела сейчас?", ["Вот И. С. Тургенев.", "Как дела сейчас?"]),
        ("Τι κάνεις σήμερα; Καλά ευχαριστώ.", ["Τι κάνεις σήμερα;", "Καλά ευχαριστώ."]),
        ("သူသွားသည်။ ကျွန်တော်လာသည်။", ["သူသွားသည်။", "ကျွန်တော်လာသည်။"]),
        ("ជំរាបសួរលោក។ សុខសប្បាយជាទេ?", ["ជំរាបសួរលោក។", "សុខសប្បាយជាទេ?"]),
    ],
    ids="English Chinese Japanese Korean Hindi Arabic Russian Greek Burmese Khmer".split(),
)
def test_sentence_ends_are_found_in_many_scripts(text, sentences):
    longest = max(map(spoken_length, sentences))
    assert texts(text, longest) == sentences


def test_sentences_are_joined_as_evenly_as_possible():
    """The model speaks single words worst, such as the last one of a text."""
    text = "One two three. Four five six. Seven eight. Nine."
    assert texts(text, 44) == ["One two three. Four five six.", "Seven eight. Nine."]


def test_neither_of_two_segments_is_very_short():
    sentence = "a" * 29 + "."
    for count, expected in ((4, [2, 2]), (5, [2, 3]), (6, [3, 3])):
        segments = split_text(" ".join([sentence] * count), 100)
        assert sorted(each.sentences for each in segments) == expected


def test_a_long_sentence_is_split_after_commas_then_words_then_characters():
    text = "When it rains, as it does here, nobody goes out. Yes."
    assert texts(text, 33) == ["When it rains, as it does here,", "nobody goes out. Yes."]
    for part in texts("the " * 200, 40):
        assert 30 <= len(part) <= 40 and set(part.split()) == {"the"}
    assert "".join(texts("小雨" * 90, 60)) == "小雨" * 90
    assert all(spoken_length(part) <= 60 for part in texts("小雨" * 90, 60))
    marked = "न\u093e" * 50
    assert all(part[0] == "न" for part in texts(marked, 15)), "no vowel loses its consonant"


def test_a_word_is_split_as_seldom_as_can_be():
    """Three full segments would split the long word twice."""
    text = f"{'a' * 29} {'b' * 60} {'c' * 30}"
    assert [each.text for each in split_text(text, 40)] == ["a" * 29, "b" * 30, "b" * 30, "c" * 30]


@pytest.mark.parametrize("limit", [1, 7, 60, 1000])
def test_no_word_is_lost_and_no_segment_too_long(limit):
    text = "It was the best, the worst; of times! And 小雨很好，来了。 Dr. No?\nNext… (so) – " * 5
    found = split_text(text, limit)
    assert letters("".join(part.text for part in found)) == letters(text)
    assert sum(part.text.count("worst") for part in found) == (5 if limit > 1 else 0)
    assert all(spoken_length(part.text) <= max(limit, 3) for part in found)


def test_paragraphs_and_marks_make_pauses():
    text = "[pause: 1]Hello. [PAUSE:0.8s] World.\n\n[pause:2]\n\nNext\nline."
    text += "\n\n* * *\n\nEnd.[pause:.5]\n"
    assert split_text(text, paragraph_pause=0.3) == [
        Segment("", 1.0),
        Segment("Hello.", 0.8, 1),
        Segment("World.", 2.0, 1),
        Segment("Next line.", 0.3, 1),
        Segment("End.", 0.5, 1),
    ]
    assert split_text("One.\n\nTwo.\n\n") == [Segment("One.", 0.5, 1), Segment("Two.", 0.0, 1)]
    assert split_text("One.[pause:1][pause:2]Two.")[0].pause == 3


def test_a_short_text_is_one_segment():
    assert is_one_segment("a" * 300) and not is_one_segment("a" * 301)
    assert is_one_segment("你" * 100) and not is_one_segment("你" * 101)
    assert is_one_segment("a" * 9999, 0)
    assert is_one_segment("One.\n\nTwo.") and not is_one_segment("One.[pause:1] Two.")


@pytest.mark.parametrize(
    "mark", ["[pause:]", "[pause:long]", "[pause:-1]", "[pause:61]", "[pause:nan]"]
)
def test_an_invalid_pause_is_refused(mark):
    with pytest.raises(ValueError, match=r"is no pause; give seconds from 0 to 60"):
        split_text(f"Hello. {mark}")


def test_a_text_without_words_is_refused():
    for text in ("", " \n\n", "* * *", "[pause:1]"):
        with pytest.raises(ValueError, match="text is empty"):
            split_text(text)


def test_a_book_without_sentence_ends_is_split_quickly():
    assert 67 <= len(split_text("the " * 5000)) <= 72
