"""A book costs as much a letter as a page: work is counted, at one length and at four times it."""

import signal
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from mlx_voxcpm2.dialogue.labels import labels_of, names_alone
from mlx_voxcpm2.long_form.cues import cues_of
from mlx_voxcpm2.recognition.word_times import WordTime, aligned
from mlx_voxcpm2.text import characters, english, sentences, tags
from mlx_voxcpm2.text.markup import paragraphs, without_markup
from mlx_voxcpm2.text.normalization import normalized
from mlx_voxcpm2.text.segments import PAUSE_MARK, split_text
from mlx_voxcpm2.text.spoken import spoken_letters, spoken_text

LENGTH = 150
"""Repetitions of a text, in the shorter one."""

TEXTS = {
    "prose": "It rained, as it does here. Nobody went out on May 5, 1984!\n\n",
    "one paragraph": "It was well known. ",
    "no sentence ends": "the ",
    "abbreviations": "at 5 p.m. and e.g. then ",
    "cut words": "an exam-\nple ",
    "pauses": "[pause:1] a\n\n",
    "fences": "```py\ncode\n",
    "comments": "<!-- never closed ",
    "tags": "x<b>y ",
    "tables": "| a | 1 |\n",
    "Chinese": "今天天气很好，我们去公园。",
}
ACTIONS = {
    "normalized": normalized,
    "normalized as German": lambda text: normalized(text, "de"),
    "split": split_text,
    "split at paragraphs only": lambda text: split_text(text, 0),
    "made one line": spoken_text,
    "its letters counted": spoken_letters,
}


def calls(action, text: str) -> int:
    """Number of calls, of Python's and of C's functions, that an action makes."""
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        action(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("text", TEXTS)
def test_calls_grow_no_faster_than_the_text(text, action):
    short, act = TEXTS[text] * LENGTH, ACTIONS[action]
    act(short)  # loads libraries and tables
    assert calls(act, 4 * short) < 5 * calls(act, short)


def test_an_end_of_sentence_is_judged_by_the_letters_before_it(monkeypatch):
    """Though the sentence has gone on for long."""
    judge, seen = sentences._goes_on, []
    monkeypatch.setattr(
        sentences, "_goes_on", lambda *given: seen.append(len(given[0])) or judge(*given)
    )
    text = "5:30 p.m. " * 100
    assert sentences.sentences(text, "en") == [text]
    assert len(seen) > 90 and max(seen) < 60


def test_the_words_of_a_text_are_collected_once_for_all_that_are_cut(monkeypatch):
    collect, seen = characters._words_in, []
    monkeypatch.setattr(characters, "_words_in", lambda text: seen.append(text) or collect(text))
    assert characters.with_whole_words("exam-\nple " * 100) == "example " * 100
    assert len(seen) == 1
    characters.with_whole_words("no word\nis cut " * 100)
    assert len(seen) == 1


@pytest.mark.parametrize("opened", ["```py\n", "~~~py\n", "<!-- ", "<script> ", "<style> x <head>"])
def test_an_end_that_is_missing_is_searched_for_once(opened, monkeypatch):
    searched = []
    after = tags.Ends.after

    def seen(self, place, pattern):
        searched.append(pattern not in self._missing)
        return after(self, place, pattern)

    monkeypatch.setattr(tags.Ends, "after", seen)
    paragraphs("word " + opened * 100)
    assert len(searched) >= 99 and sum(searched) <= 2


@contextmanager
def at_most(seconds: float):
    """Fail if the block takes more of the processor's time; `re` looks for signals as it works."""

    def stop(*_):
        raise TimeoutError(f"it takes more than {seconds} s of the processor's time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize(
    "form",
    ["A{}x", "- {}x", "{}x", "A (sad){}x", "A **{}(sad){}**{}x", "A{}0:03{}x", "<a>{}", "<a>x{}y"],
)
def test_white_space_of_a_line_is_no_work_for_the_labels(form):
    """Its square would be a hundred times the limit and more, and what it takes a twentieth."""
    line = form.replace("{}", " " * 200_000)
    with at_most(5):
        assert labels_of([line], {"a"})[0] is None or form == "<a>x{}y"
        names_alone([line, "Hello."])


@pytest.mark.parametrize("mark", "*_")
def test_emphasis_of_a_line_is_no_work_for_the_labels(mark):
    with at_most(10):
        assert labels_of([f"A{mark * 200_000}x"], {"a"}) == [None]


def test_white_space_of_a_pause_mark_is_read_once():
    with at_most(5):
        assert PAUSE_MARK.search("[pause:" + " " * 1_000_000) is None
    assert split_text("One. [ pause :  2 s ] Two.")[0].pause == 2


@pytest.mark.parametrize("form", ["![{}](x.png)", "[{}](x.png)"])
def test_brackets_reach_no_further_than_a_caption(form):
    assert "[" not in without_markup(form.format("a" * 500))
    assert without_markup(form.format("a" * 501)) == form.format("a" * 501)


def test_data_without_spaces_is_read_in_pieces(monkeypatch):
    """Some rules of English take the square of a word's length."""
    apply, seen = english.apply_rules, []
    monkeypatch.setattr(
        english, "apply_rules", lambda rules, text: seen.append(len(text)) or apply(rules, text)
    )
    spoken = english.spoken_english(f"In 1984 {'1,2;' * 400} cost $5.")
    assert spoken.startswith("In nineteen eighty four one,") and "five dollars" in spoken
    assert spoken.count("one") == spoken.count("two") == 400
    assert max(seen) < 320


RATE = 1000


def seconds_of(text: str) -> np.ndarray:
    """Noise of a second with a pause behind it, for every 16 letters."""
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) / 9
    noise[-RATE // 5 :] = 0
    return np.tile(noise, len(text) // 16)


@pytest.mark.parametrize("text", ["prose", "no sentence ends", "abbreviations", "Chinese"])
def test_subtitles_of_a_segment_of_any_length_cost_as_much_a_letter(text):
    short = TEXTS[text] * (LENGTH // 2)
    cost = [calls(lambda text: cues_of(text, seconds_of(text), RATE), short * n) for n in (1, 4)]
    assert cost[1] < 5 * cost[0]


def test_times_of_words_cost_as_much_a_word_in_long_texts():
    def align(count: int) -> int:
        text = "the end of it is the end. " * count
        words = [WordTime(word, i / 4, i / 4 + 0.2) for i, word in enumerate(text.split())]
        texts = text.split(".")
        assert aligned(texts, words)[0][3].text == "it"
        return calls(lambda texts: aligned(texts, words), texts)

    assert align(1200) < 5 * align(300)
