"""Subtitles: sentences in two short lines, with the times at which they are heard."""

from pathlib import Path

import numpy as np
import pytest

from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.long_form.cues import Cue, cues_of, width
from mlx_voxcpm2.long_form.subtitles import subtitles
from mlx_voxcpm2.recognition import recogniser as recognition
from mlx_voxcpm2.recognition.word_times import WordTime, aligned, words_in
from mlx_voxcpm2.text.segments import split_text

RATE = 16000


def sound(*seconds: float) -> np.ndarray:
    """Noise and silence in turn, noise first."""
    random = np.random.default_rng(0)
    parts = [
        random.standard_normal(round(each * RATE)) * (0.1 if number % 2 == 0 else 1e-5)
        for number, each in enumerate(seconds)
    ]
    return np.concatenate(parts).astype(np.float32)


def times(cues: list[Cue]) -> list[tuple[float, float]]:
    return [(round(cue.start, 2), round(cue.end, 2)) for cue in cues]


def test_a_cue_is_a_sentence_and_has_the_times_of_its_sound():
    text = "This is the first one. And the second. Third!"
    cues = cues_of(text, sound(1.5, 0.3, 1.0, 0.5, 0.4), RATE, start=10.0)
    assert [cue.text for cue in cues] == ["This is the first one.", "And the second.", "Third!"]
    assert times(cues) == [(10.0, 11.5), (11.8, 12.8), (13.3, 13.7)]


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_no_empty_line_of_a_short_text_ends_a_cue(suffix):
    text = "\r\n \r\nChapter One\r\n\r\nIt was\n\tdark. He slept.\n\n\u00a0\n"
    cues = cues_of(text, sound(1.5, 0.3, 1.0), RATE)
    assert " ".join(cue.text for cue in cues) == "Chapter One It was dark. He slept."
    blocks = subtitles(cues, suffix).strip().split("\n\n")
    assert len(blocks) == len(cues) + (suffix == ".vtt")
    assert cues_of(" \n\n ", sound(1.0), RATE) == []


def test_a_pause_inside_a_sentence_is_not_its_end():
    """The first pause is a comma's; each sentence has half of the letters."""
    text = "Oh, this is the long first sentence. This is a second one as long."
    cues = cues_of(text, sound(0.2, 0.2, 1.8, 0.2, 2.0), RATE)
    assert times(cues) == [(0.0, 2.2), (2.4, 4.4)]


def test_silence_at_the_ends_is_not_in_a_cue():
    audio = np.concatenate(
        [np.zeros(RATE, np.float32), sound(1.0), np.zeros(RATE // 2, np.float32)]
    )
    assert times(cues_of("Hello there.", audio, RATE)) == [(1.0, 2.0)]


def test_without_pauses_the_letters_decide():
    cues = cues_of("One two three four. Five six seven eight nine ten.", sound(4.0), RATE)
    assert cues[0].end == cues[1].start == pytest.approx(4 * 15 / 39, abs=0.02)
    assert times(cues_of("One. Two.", np.zeros(RATE, np.float32), RATE))[1][1] == 1.0
    assert cues_of("Hi.", np.zeros(0, np.float32), RATE) == [Cue("Hi.", 0.0, 0.0)]


@pytest.mark.parametrize(
    "text",
    [
        "the " * 90 + "end.",
        "Well, when it rains, as it so often does in the north, nobody at all goes out; they stay.",
        "a" * 200,
        "今天天气很好我们去公园玩" * 9 + "。",
        "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 6,
        "x " * 3 + "y" * 50 + " z" * 30,
    ],
    ids=["words", "clauses", "one word", "Chinese", "Thai", "mixed"],
)
def test_a_cue_has_at_most_two_lines_of_42_letters(text):
    cues = cues_of(text, sound(9.0), RATE)
    lines = [line for cue in cues for line in cue.text.split("\n")]
    assert max(map(width, lines)) <= 42
    assert max(cue.text.count("\n") for cue in cues) <= 1
    assert "".join("".join(lines).split()) == "".join(text.split())
    ends = [0.0, *(edge for cue in cues for edge in (cue.start, cue.end))]
    assert ends == sorted(ends)


def test_lines_end_at_clauses_where_they_can():
    text = "When it rains, as it does here in winter, nobody goes out."
    assert cues_of(text, sound(3.0), RATE)[0].text == (
        "When it rains, as it does here in winter,\nnobody goes out."
    )


WORDS = [
    WordTime(" This", 0.1, 0.3),
    WordTime(" is", 0.3, 0.5),
    WordTime(" won.", 0.5, 0.9),
    WordTime(" Too", 1.5, 1.8),
    WordTime(" here!", 1.8, 2.2),
]


def test_times_of_words_are_those_of_the_recogniser():
    cues = cues_of("This is one. Two here.", sound(2.5), RATE, start=1.0, words=WORDS)
    assert times(cues) == [(1.1, 1.9), (2.5, 3.2)]
    assert [word.text for word in cues[0].words] == ["This", "is", "one."]
    assert (cues[0].words[1].start, cues[1].words[-1].end) == (1.3, 3.2)
    content = subtitles(cues, ".vtt")
    assert "This <00:00:01.300>is <00:00:01.500>one." in content
    assert "<00" not in subtitles(cues, ".srt")


def test_a_sentence_that_was_not_recognised_has_no_words():
    assert aligned(["Hello there.", "This is it."], WORDS)[0] == ()
    assert aligned(["a", "b"], []) == [(), ()]


def test_outputs_of_recognisers_are_understood():
    whisper = {"segments": [{"words": [{"word": " Hi", "start": 0.5, "end": 1.0}]}]}
    tokens = [{"text": " He", "start": 0, "end": 1}, {"text": "y", "start": 1, "end": 2}]
    assert words_in(whisper) == [WordTime(" Hi", 0.5, 1.0)]
    assert words_in({"sentences": [{"tokens": tokens}]}) == [WordTime(" Hey", 0.0, 2.0)]
    assert words_in({"segments": [{"text": "Hi"}]}) is None


def test_the_command_takes_the_times_of_words(released, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generate, "load", lambda args: released.model)
    monkeypatch.setattr(recognition, "check_recognition_installed", lambda _: None)
    asked = []

    def load(name, language):
        asked.append((name, language))
        return lambda audio, rate: [WordTime("One", 0.1, 0.2), WordTime("two", 0.3, 0.4)]

    monkeypatch.setattr(recognition, "load_word_timer", load)
    quick = ["--model", str(released.folder), "--max_tokens", "3", "--inference_timesteps", "2"]

    def run(*flags: str) -> int:
        return generate.main([*quick, "--text", "One two.", "--timestamps", *flags])

    assert run("--subtitles", "a.vtt", "--language", "de", "--asr_model", "some/whisper") == 0
    assert asked == [("some/whisper", "de")]
    content = Path("a.vtt").read_text(encoding="utf-8")
    assert "00:00:00.100 --> 00:00:00.400\nOne <00:00:00.300>two." in content
    assert run("--subtitles", "b.vtt", "--speed", "2") == 0
    content = Path("b.vtt").read_text(encoding="utf-8")
    assert "00:00:00.050 --> 00:00:00.200\nOne <00:00:00.150>two." in content
    assert run() == 2
    assert "--timestamps is given without subtitles; add --subtitles FILE" in capfd.readouterr().err


def test_segments_of_a_split_text_become_cues_by_sentence():
    (piece,) = split_text("Ms. Lee came at 5 p.m. today. She left.")
    cues = cues_of(piece.text, sound(2.0, 0.3, 0.7), RATE)
    assert [cue.text for cue in cues] == ["Ms. Lee came at 5 p.m. today.", "She left."]
