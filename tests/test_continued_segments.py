"""Long texts in which each segment continues the audio of the one before."""

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.long_form.cache import SegmentCache
from mlx_voxcpm2.long_form.speak import speak_long
from mlx_voxcpm2.text.segments import Segment

QUICK = {"inference_timesteps": 2}
OPTIONS = GenerationOptions(seed=5, retry_by_ear=False, **QUICK)
SEGMENTS = [Segment("Hi."), Segment("Hello there you."), Segment("Yes.", 0.5), Segment("No.")]


def speak(model, segments=SEGMENTS, **settings):
    settings = {"options": OPTIONS, "continue_segments": True, **settings}
    return list(speak_long(model, segments, **settings))


def audio_of(segment) -> np.ndarray:
    """Audio of a spoken segment without the pause after it."""
    return segment.audio[: round((segment.end - segment.start) * 48000)]


def test_each_segment_continues_the_audio_and_the_words_before_it(brief_model):
    """The longest segment gives the voice; it and a segment after a pause have no prompt."""
    spoken = speak(brief_model)
    first, anchor, continued, restarted = map(audio_of, spoken)
    reference = brief_model.encode_audio((anchor, 48000))

    def alone(index: int, **voice) -> mx.array:
        (result,) = brief_model.generate(
            SEGMENTS[index].text, seed=5 + 3 * index, **OPTIONS_OF_ONE, **voice
        )
        return result.audio

    assert relative_error(anchor, alone(1)) < 1e-4
    assert relative_error(first, alone(0, ref_audio=reference)) < 1e-3
    prompt = brief_model.encode_audio((anchor, 48000), "left")
    voice = {"prompt_audio": prompt, "prompt_text": "Hello there you. "}
    assert relative_error(continued, alone(2, ref_audio=reference, **voice)) < 1e-3
    assert relative_error(restarted, alone(3, ref_audio=reference)) < 1e-3
    plain = speak(brief_model, continue_segments=False)
    unchanged = [np.array_equal(a.audio, b.audio) for a, b in zip(spoken, plain, strict=True)]
    assert unchanged == [True, True, False, True]


OPTIONS_OF_ONE = {"retry_by_ear": False, **QUICK}


def prompts(model, monkeypatch, segments, **settings) -> dict[str, dict]:
    """Settings of each segment's request, by its text."""
    asked, request = {}, model.request

    def spy(text, **settings):
        asked[text] = settings
        return request(text, **settings)

    monkeypatch.setattr(model, "request", spy)
    speak(model, segments, **settings)
    return asked


def test_prompts_fit_the_language_and_the_position(brief_model, released, monkeypatch):
    segments = [Segment("你好你好你好。"), Segment("你好。"), Segment("Hi.")]
    options = GenerationOptions(seed=5, fade_in=0.02, retry_by_ear=False, **QUICK)
    asked = prompts(brief_model, monkeypatch, segments, options=options, instruct="calm")
    assert asked["你好。"]["prompt_text"] == "你好你好你好。", "no spaces between Chinese sentences"
    assert asked["Hi."]["prompt_text"] == "你好。"
    assert asked["你好你好你好。"]["instruct"] == "calm" and "instruct" not in asked["Hi."]
    fades = [asked[segment.text]["options"].fade_in for segment in segments]
    assert fades == [0.02, 0, 0], "continued speech has no beginning that clicks"
    clip, words = released.waveform("short"), "The the."
    voice = {"prompt_audio": clip, "prompt_text": words}
    asked = prompts(brief_model, monkeypatch, SEGMENTS[:2], **voice)
    first, second = asked["Hi."], asked["Hello there you."]
    assert (first["prompt_text"], second["prompt_text"]) == (words, "Hi. ")
    assert mx.array_equal(second["ref_audio"], first["prompt_audio"]), (
        "the given voice is continued"
    )


def test_no_segment_continues_truncated_audio(brief_model, monkeypatch):
    """The words in truncated audio are unknown."""
    options = GenerationOptions(seed=5, max_tokens=3, **QUICK)
    asked = prompts(brief_model, monkeypatch, SEGMENTS, options=options)
    assert not any("prompt_text" in settings for settings in asked.values())
    monkeypatch.setattr("mlx_voxcpm2.long_form.reader.LONGEST_CLIP", 0.6)
    asked = prompts(brief_model, monkeypatch, SEGMENTS)
    assert not any("prompt_text" in settings for settings in asked.values())


def test_a_stopped_run_resumes_with_the_same_result(brief_model, tmp_path):
    segments = [Segment("Hello there you."), *(Segment(word) for word in ("Hi.", "Yes.", "No."))]
    unbroken = speak(brief_model, segments)
    for stop in (1, 3):
        folder = tmp_path / str(stop)
        run = speak_long(
            brief_model,
            segments,
            options=OPTIONS,
            continue_segments=True,
            cache=SegmentCache(folder),
        )
        for _ in range(stop):
            next(run)
        run.close()
        again = speak(brief_model, segments, cache=SegmentCache(folder))
        assert [segment.was_cached for segment in again] == [index < stop for index in range(4)]
        for one, other in zip(again, unbroken, strict=True):
            assert np.array_equal(one.audio, other.audio)


def test_segments_after_a_changed_one_are_generated_again(brief_model, tmp_path):
    segments = [Segment("Hello there you."), *(Segment(word) for word in ("Hi.", "Yes.", "No."))]
    speak(brief_model, segments, cache=SegmentCache(tmp_path / "a"))
    changed = [*segments[:1], Segment("Go."), *segments[2:]]
    spoken = speak(brief_model, changed, cache=SegmentCache(tmp_path / "a"))
    assert [segment.was_cached for segment in spoken] == [True, False, False, False]
    speak(brief_model, segments, cache=SegmentCache(tmp_path / "b"), continue_segments=False)
    spoken = speak(brief_model, segments, cache=SegmentCache(tmp_path / "b"))
    assert [segment.was_cached for segment in spoken] == [True, False, False, False]


def test_guard_notes_are_cached_with_a_segment(brief_model, tmp_path):
    options = GenerationOptions(seed=5, fade_in=0.02, **QUICK)
    settings = {"options": options, "cache": SegmentCache(tmp_path / "a")}
    fresh, cached = (speak(brief_model, **settings) for _ in range(2))
    assert [segment.guards for segment in cached] == [segment.guards for segment in fresh]
    assert fresh[0].guards == ("fade_in: 0.02 s",) and all(segment.was_cached for segment in cached)


def test_continued_segments_cannot_be_generated_in_parallel(brief_model):
    with pytest.raises(ValueError, match="leave one of them out"):
        speak_long(brief_model, "Hello.", parallel=2, continue_segments=True)
