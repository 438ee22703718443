"""Measures of the demo voice: correct speech passes, and each kind of faulty speech is detected."""

import json
from dataclasses import replace

import numpy as np
import pytest
from demo_clips import RECORDED, read_clip
from measures import Spoken, Task, designed, ends_in_time, same_voice, word_accuracy
from recogniser import OTHER, Heard, recognise
from speech import join_words, words_of

SPEAKERS = list(RECORDED)


def said(speaker: str, reason: str = "stop", **changes) -> Spoken:
    """A speaker's clip as a model's output; `before` and `after` are added to the audio."""
    clip = read_clip(speaker)
    sound = np.concatenate([changes.get("before", []), clip.sound, changes.get("after", [])])
    return Spoken(sound.astype(np.float32), clip.sample_rate, reason)


def task(speaker: str, words: list[str] | None = None) -> Task:
    """Task of saying the clip's words in its voice."""
    recorded = RECORDED[speaker]
    words = words or recorded["says"]
    return Task(words, reference=read_clip(speaker), pitches=recorded["own_pitches"])


TASKS = [task(speaker) for speaker in SPEAKERS]


@pytest.fixture(scope="module")
def correct_speech() -> list[Spoken]:
    return [said(speaker) for speaker in SPEAKERS]


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_every_speaker_is_recognised(speaker):
    clip = read_clip(speaker)
    assert recognise(clip.sound, clip.sample_rate) == clip.words
    random = np.random.default_rng(0)
    noise = 0.1 * clip.sound.std() * random.standard_normal(len(clip.sound))
    assert recognise(0.1 * (clip.sound + noise), clip.sample_rate) == clip.words


def test_speech_at_other_sample_rates_is_recognised():
    import soxr

    clip = read_clip("tenor")
    for rate in (24_000, 48_000):
        assert recognise(soxr.resample(clip.sound, clip.sample_rate, rate), rate) == clip.words


def test_silence_has_no_words():
    for sound in (np.zeros(0), np.zeros(10), np.zeros(8000)):
        assert recognise(sound, 16_000) == []


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_reversed_speech_is_hardly_recognised_as_words(speaker):
    clip = read_clip(speaker)
    recognised = recognise(clip.sound[::-1], clip.sample_rate)
    assert len(recognised) - recognised.count(OTHER) <= 1  # of four


def test_correct_speech_meets_every_goal(correct_speech):
    rows = [
        word_accuracy("", TASKS, correct_speech, 1.0),
        *same_voice("", TASKS, correct_speech, 1.0),
        designed(correct_speech[:1], correct_speech[-1:], 1.0),
        ends_in_time(TASKS, correct_speech, 1.0),
    ]
    assert all(row.is_met and row.value == 1 for row in rows), rows


def test_wrong_words_are_counted(correct_speech):
    wrong = [
        task("bass", ["good", "music", "seven", "open"]),
        task("tenor", [*RECORDED["tenor"]["says"], "one"]),
        task("alto", ["七", "二", "四"]),
        *TASKS[3:],
    ]
    row = word_accuracy("", wrong, correct_speech, 0.95)
    assert row.value == pytest.approx(1 - 3 / 16) and not row.is_met
    assert row.detail == "1 wrong, 1 missing, 1 added, of 16"


def test_another_voice_is_detected(correct_speech):
    for own, other in [(0, 1), (1, 2), (2, 3), (3, 0)]:
        near, nearest = same_voice("", [TASKS[own]], [correct_speech[other]], 0.9)
        assert near.value == nearest.value == 0 and not near.is_met and not nearest.is_met
    (noise,) = [replace(correct_speech[0], sound=np.random.default_rng(0).standard_normal(16_000))]
    assert [row.value for row in same_voice("", TASKS[:1], [noise], 0.9)] == [0, 0]


def test_voices_that_are_not_as_described_are_detected(correct_speech):
    assert not designed(correct_speech[-1:], correct_speech[:1], 0.9).is_met
    assert not designed(correct_speech[:1], correct_speech[:1], 0.9).is_met


CLIP = read_clip("alto")
SECOND = CLIP.sample_rate
HISS = 0.03 * np.random.default_rng(1).standard_normal(SECOND)
LATE = {
    "a limit ended it": {"reason": "length"},
    "silence": {"after": np.zeros(SECOND)},
    "hiss": {"after": HISS},
    "more words": {"after": CLIP.sound[: len(CLIP.sound) // 2]},
    "babble": {"after": CLIP.sound[::-1]},
}


@pytest.mark.parametrize("fault", LATE)
def test_speech_that_does_not_end_in_time_is_detected(fault):
    late = [said(speaker, **LATE[fault]) for speaker in SPEAKERS]
    assert ends_in_time(TASKS, late, 1.0).value == 0
    start = {"before": LATE[fault].get("after", [])}
    if fault in ("silence", "hiss"):
        early = [said(speaker, **start) for speaker in SPEAKERS]
        assert ends_in_time(TASKS, early, 0.75).is_met  # the recogniser may slip


def test_an_unrecognised_last_word_ends_where_the_audio_does(monkeypatch):
    loud, quiet = np.ones(4800, np.float32), np.zeros(3200, np.float32)
    sound = np.concatenate([loud, quiet, loud, quiet])
    monkeypatch.setattr("measures.hear", lambda *_: [Heard("good", 0.1, 0.9)])
    spoken = Spoken(sound, 16_000, "stop")
    assert spoken.tail(is_heard=False) == pytest.approx(0.2)
    assert spoken.tail(is_heard=True) == pytest.approx(0.7)


def test_silence_does_not_end_in_time():
    mute = [Spoken(np.zeros(SECOND), SECOND, "stop")]
    assert not ends_in_time(TASKS[:1], mute, 1.0).is_met
    assert word_accuracy("", TASKS[:1], mute, 0.95).value == 0


def test_a_prompt_and_its_continuation_are_one_text():
    for text, cut in (("good morning seven open", 2), ("三八零五", 1)):
        words = words_of(text)
        prompt = replace(read_clip("bass"), words=words[:cut])
        asked = Task(words[cut:], prompt=prompt).arguments()
        assert asked["prompt_text"] + asked["text"] == join_words(words) == text


def test_texts_of_the_training_data_are_read_to_be_left_out(tmp_path):
    from evaluate import read_texts

    manifest = tmp_path / "train.jsonl"
    lines = ["(low voice)good morning", "三八 零"]
    manifest.write_text("\n".join(json.dumps({"text": line}) for line in lines), "utf-8")
    assert read_texts(manifest) == {"good morning", "三八零"}
    manifest.write_text('{"text": "one"}\n{"audio": "a.wav"}', "utf-8")
    with pytest.raises(ValueError, match="line 2"):
        read_texts(manifest)
