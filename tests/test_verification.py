"""Verification: a recogniser transcribes speech, and misrecognised speech is generated again."""

import itertools
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from demo_clips import RECORDED, read_clip
from recogniser import recognise

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.long_form.cache import SegmentCache
from mlx_voxcpm2.long_form.speak import speak_long
from mlx_voxcpm2.recognition import verification
from mlx_voxcpm2.recognition.recogniser import transcript_of
from mlx_voxcpm2.recognition.verification import Verification, error_rate

QUICK = {"max_tokens": 3, "inference_timesteps": 2}


class Listener:
    """Recogniser that returns given transcripts one after another, and records its calls."""

    def __init__(self, *transcripts: str):
        self.transcripts, self.sounds = list(transcripts), []

    def __call__(self, sound: np.ndarray, sample_rate: int) -> str:
        assert sound.dtype == np.float32 and sound.ndim == 1 and sample_rate == 48000
        self.sounds.append(sound)
        return self.transcripts.pop(0) if len(self.transcripts) > 1 else self.transcripts[0]


@pytest.mark.parametrize(
    ("said", "transcript", "rate"),
    [
        ("Yes, it's twenty-two!", "yes its twenty two", 0),
        ("Straße", "STRASSE", 0),
        ("one two three four", "one too three", 0.5),
        ("yes", "yes no no", 2),
        ("yes", "", 1),
        ("你好，今天很好。", "你好 今天很坏", 1 / 6),
        ("这个学习", "這個學習", 0),
        ("これはペンです", "これは本です", 2 / 7),
        ("我有iPhone手机", "我有 iphone 手机", 0),
        ("สวัสดี", "สวัสตี", 1 / 4),
        ("नमस्ते दुनिया", "नमस्ते दुनिय", 1 / 2),
        ("I have 5 kg.", "I have five kilograms", 0),
        ("(softly)Say {HH AH0 L OW1} yes [pause:0.5] now", "say yes now", 0),
        ("(softly)...", "", 0),
        ("...", "yes", 1),
    ],
)
def test_the_error_rate_is_the_share_of_wrong_words_or_characters(said, transcript, rate):
    assert error_rate(said, transcript) == pytest.approx(rate)


def test_misrecognised_speech_is_retried_with_the_next_seed(released, monkeypatch):
    seconds = itertools.count(step=1000)
    clock = SimpleNamespace(perf_counter=lambda: next(seconds))
    monkeypatch.setattr(verification, "time", clock)
    listener = Listener("who knows", "hello there")
    (result,) = released.model.generate(
        "Hello there.", seed=7, verify=Verification(listener), **QUICK
    )
    (second,) = released.model.generate("Hello there.", seed=8, **QUICK)
    assert mx.array_equal(result.audio, second.audio) and result.seed == 8
    assert (result.heard, result.error_rate) == ("hello there", 0)
    assert result.guards == ("retry: seed 7 was heard as 'who knows', 100% wrong",)
    assert len(listener.sounds) == 2
    assert result.processing_time_seconds > 1000  # of listening and of the other attempt


def test_the_attempt_with_the_lowest_error_rate_is_returned(released):
    listener = Listener("no", "yes no", "no no")
    (result,) = released.model.generate(
        "Yes yes.", instruct="calm", seed=2**64 - 1, verify=Verification(listener), **QUICK
    )
    assert result.seed == 0 and result.heard == "yes no" and result.error_rate == 0.5
    assert [guard.split(":")[0] for guard in result.guards] == ["retry"] * 2 + ["gave up"]
    assert result.guards[-1] == "gave up: seed 0 was heard as 'yes no', 50% wrong"


@pytest.mark.parametrize(
    ("settings", "attempts"),
    [({"limit": 0.5}, 1), ({"limit": 0.49}, 3), ({"retries": 0}, 1), ({"retries": 4}, 5)],
)
def test_limit_and_retries_are_those_of_the_settings(released, settings, attempts):
    listener = Listener("yes no")
    verify = Verification(listener, **settings)
    (result,) = released.model.generate("Yes yes.", seed=1, verify=verify, **QUICK)
    assert len(listener.sounds) == attempts and result.heard == "yes no"


def test_guard_notes_of_the_returned_attempt_are_reported_once(released):
    listener = Listener("no", "yes")
    (result,) = released.model.generate(
        "Yes.", seed=1, fade_in=0.02, verify=Verification(listener), **QUICK
    )
    assert result.guards == ("retry: seed 1 was heard as 'no', 100% wrong", "fade_in: 0.02 s")


def test_speech_with_given_noise_is_not_retried(released):
    config, listener = released.model.config, Listener("no")
    noise = mx.zeros((3, config.patch_size, config.feat_dim))
    list(released.model.generate("Yes.", noise=noise, verify=Verification(listener), **QUICK))
    assert len(listener.sounds) == 1


def test_only_the_misrecognised_texts_of_a_batch_are_retried(released):
    model, listener = released.model, Listener("one", "who knows", "two", "three")
    requests = [
        model.request(text, options=GenerationOptions(seed=seed, **QUICK))
        for text, seed in (("One.", 0), ("Two.", 10), ("Three.", 20))
    ]
    results = list(
        model.generate_batch(requests, batch_size=1, verify=Verification(listener, retries=1))
    )
    assert [result.sequence_idx for result in results] == [0, 1, 2]
    assert [result.heard for result in results] == ["one", "two", "three"]
    for result, text, seed in zip(results, ("One.", "Two.", "Three."), (0, 11, 20), strict=True):
        (alone,) = model.generate(text, seed=seed, **QUICK)
        assert result.seed == seed and mx.array_equal(result.audio, alone.audio)
    assert [bool(result.guards) for result in results] == [False, True, False]


def test_the_segments_of_a_long_text_are_checked_once(released, tmp_path):
    text = "One is here, friend. [pause:0.1] Two is here. [pause:0.1] Three is here."
    listener = Listener("one is here friend", "two is not", "two is here", "three is here")
    options = GenerationOptions(seed=5, **QUICK)

    def speak(limit: float):
        verify = Verification(listener, limit)
        parts = SegmentCache(tmp_path / "parts")
        return list(speak_long(released.model, text, options=options, verify=verify, cache=parts))

    segments = speak(0.2)
    assert [segment.error_rate for segment in segments] == [0, 0, 0]
    assert [len(segment.guards) for segment in segments] == [0, 1, 0]
    assert len(listener.sounds) == 4
    cached = speak(0.2)
    assert len(listener.sounds) == 4 and all(segment.was_cached for segment in cached)
    assert [segment.error_rate for segment in cached] == [0, 0, 0] and cached[1].guards
    speak(0.3)
    assert len(listener.sounds) > 4, "segments cached with another limit are checked with this one"


def test_closing_the_iterator_stops_between_attempts(released):
    def recogniser(*_) -> str:
        results.close()
        return "no"

    verify = Verification(recogniser, retries=20)
    results = released.model.generate("Yes.", seed=1, verify=verify, **QUICK)
    assert len(list(results)) <= 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"limit": 1.5}, "verify_limit is 1.5"),
        ({"retries": -1}, "verify_retries is -1"),
    ],
)
def test_settings_out_of_range_are_one_line_errors(change, line):
    with pytest.raises(ValueError, match=line):
        Verification(Listener(""), **change)


def test_a_stream_cannot_be_verified(released):
    with pytest.raises(ValueError, match="leave out stream"):
        released.model.generate("Yes.", stream=True, verify=Verification(Listener("")))


def test_a_recogniser_that_returns_no_text_is_a_one_line_error(released):
    verify = Verification(lambda *_: ["yes"])
    with pytest.raises(ValueError, match="returns a list"):
        list(released.model.generate("Yes.", verify=verify, **QUICK))


def transcribe_demo_words(sound: np.ndarray, sample_rate: int) -> str:
    return " ".join(recognise(sound, sample_rate))


@pytest.mark.parametrize("speaker", RECORDED)
def test_real_speech_has_no_errors_and_other_words_have_many(speaker):
    """The recogniser was trained on speech in English and Chinese."""
    clip = read_clip(speaker)
    transcript = transcript_of((clip.sound, clip.sample_rate), transcribe_demo_words)
    assert error_rate(" ".join(clip.words), transcript) == 0
    assert error_rate(" ".join(RECORDED[speaker]["words"]), transcript) >= 0.75


def test_a_clip_without_words_is_a_one_line_error():
    with pytest.raises(ValueError, match="no words were recognised"):
        transcript_of((np.zeros(16000, np.float32), 16000), transcribe_demo_words, "prompt_audio")
