"""Long texts: one voice, exact times, bounded memory."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.long_form.cache import SegmentCache
from mlx_voxcpm2.long_form.cues import Cue
from mlx_voxcpm2.long_form.joiner import SegmentJoiner
from mlx_voxcpm2.long_form.speak import speak_long
from mlx_voxcpm2.long_form.subtitles import subtitles
from mlx_voxcpm2.text.segments import Segment, anchor_of
from mlx_voxcpm2.text.spoken import without_instruction

OPTIONS = GenerationOptions(seed=5, inference_timesteps=2, max_tokens=3)
SEGMENTS = [
    Segment("", 0.1),
    Segment("Hi."),
    Segment("Hello there you.", 0.8),
    Segment("Yes.", 0.5),
]
PATCHES = 3 * 7680


def speak(model, segments=SEGMENTS, **settings):
    return list(speak_long(model, segments, **{"options": OPTIONS, **settings}))


def spoken_alone(model, index: int, **voice):
    """Result of a segment's text with the seed that it has in the long text."""
    options = {"seed": 5 + 3 * index, "inference_timesteps": 2, "max_tokens": 3}
    return model.speak(SEGMENTS[index].text, **options, **voice)


def whole(spoken) -> np.ndarray:
    return np.concatenate([segment.audio for segment in spoken])


def test_pauses_and_times_are_exact_to_the_sample(released):
    spoken = speak(released.model)
    audio = whole(spoken)
    starts = [0, 4800, 4800 + PATCHES, 4800 + 2 * PATCHES + 38400]
    assert [round(segment.start * 48000) for segment in spoken] == starts
    assert [round((segment.end - segment.start) * 48000) for segment in spoken] == [
        0,
        *[PATCHES] * 3,
    ]
    assert len(audio) == starts[-1] + PATCHES + 24000
    silence = np.flatnonzero(audio == 0)
    for begin, length in ((0, 4800), (4800 + 2 * PATCHES, 38400), (starts[-1] + PATCHES, 24000)):
        assert np.isin(np.arange(begin, begin + length), silence).all()
        assert audio[begin - 1] != 0 or not begin
    assert [segment.text for segment in spoken] == [segment.text for segment in SEGMENTS]


def test_without_a_voice_all_segments_are_cloned_from_the_first_long_one(released):
    model = released.model
    spoken = speak(model)
    anchor = spoken_alone(model, 2)
    assert relative_error(spoken[2].audio[:PATCHES], anchor.audio) < 1e-4
    voice = model.encode_audio((np.array(anchor.audio), 48000))
    for index in (1, 3):
        alone = spoken_alone(model, index, ref_audio=voice)
        assert relative_error(spoken[index].audio[:PATCHES], alone.audio) < 1e-3
        assert spoken[index].seed == 5 + 3 * index


def test_a_title_is_too_short_to_give_the_voice():
    assert (
        anchor_of([Segment("Title"), Segment("", 1.0), Segment("a" * 90), Segment("a" * 200)]) == 2
    )
    assert anchor_of([Segment("Hi."), Segment("Hello."), Segment("Yes.")]) == 1


def test_a_given_voice_speaks_all_segments(released):
    model, clip = released.model, released.waveform("short")
    spoken = speak(model, ref_audio=clip, instruct="calm")
    for index in (1, 2):
        alone = spoken_alone(model, index, ref_audio=clip, instruct="calm")
        assert relative_error(spoken[index].audio[:PATCHES], alone.audio) < 1e-4


def test_parallel_generation_has_the_same_segments_in_the_same_order(released):
    texts = [Segment(f"{'the ' * length}.") for length in (3, 9, 1, 6, 2)]
    options = GenerationOptions(seed=1, inference_timesteps=2, max_tokens=4)
    alone, together = (speak(released.model, texts, options=options, parallel=n) for n in (1, 3))
    assert [segment.index for segment in together] == list(range(5))
    for one, other in zip(alone, together, strict=True):
        assert (one.seed, one.start, one.end) == (other.seed, other.start, other.end)
        assert relative_error(other.audio, one.audio) < 1e-3


def test_prompts_and_memory_do_not_grow_with_the_length(released):
    mx.clear_cache()
    memory = []
    lengths = set()
    request = released.model.request

    def counting(*arguments, **settings):
        made = request(*arguments, **settings)
        lengths.add(len(made.prompt.tokens))
        return made

    texts = [Segment("the the.")] * 12
    released.model.request = counting
    try:
        for _ in speak_long(released.model, texts, options=OPTIONS):
            memory.append(mx.get_active_memory())
    finally:
        del released.model.request
    assert len(lengths) == 2, "the first without a reference, all others with the same"
    assert memory[-1] <= memory[2] * 1.01


def test_a_stopped_run_resumes_with_the_same_result(released, tmp_path):
    unbroken = speak(released.model, cache=SegmentCache(tmp_path / "a", "model"))
    run = speak_long(
        released.model, SEGMENTS, options=OPTIONS, cache=SegmentCache(tmp_path / "b", "model")
    )
    assert [next(run).was_cached for _ in range(2)] == [False, False]
    run.close()
    again = speak(released.model, cache=SegmentCache(tmp_path / "b", "model"))
    assert [segment.was_cached for segment in again if segment.text] == [True, True, False]
    assert np.array_equal(whole(again), whole(unbroken))
    third = speak(released.model, cache=SegmentCache(tmp_path / "b", "model"))
    assert all(segment.was_cached for segment in third if segment.text)
    assert np.array_equal(whole(third), whole(unbroken))


def test_changed_segments_are_generated_again(released, tmp_path):
    speak(released.model, cache=SegmentCache(tmp_path / "a", "model"))

    def cached(segments=SEGMENTS, settings="model", **others):
        spoken = speak(
            released.model, segments, cache=SegmentCache(tmp_path / "a", settings), **others
        )
        return [segment.was_cached for segment in spoken if segment.text]

    assert cached([*SEGMENTS[:3], Segment("No.")]) == [True, True, False]
    assert cached(crossfade=0.01)[:2] == [True, True], "joins are not cached"
    assert cached([*SEGMENTS[:2], Segment("Hello there all of you."), SEGMENTS[3]]) == [False] * 3
    assert cached(settings="another model") == [False] * 3
    assert cached(settings="another model", instruct="calm") == [False] * 3
    (tmp_path / "a" / "000001.safetensors").write_bytes(b"damaged")
    assert cached(settings="another model", instruct="calm") == [False, True, True]


def test_the_seed_of_the_previous_run_is_used_again(tmp_path):
    parts = SegmentCache(tmp_path / "a")
    seed = parts.seed()
    assert not (tmp_path / "a").exists(), "the folder is made by the first segment"
    from mlx_voxcpm2.long_form.cache import CachedSegment

    parts.write(0, "x", CachedSegment(np.zeros(3, np.float32), 1, "stop"))
    assert SegmentCache(tmp_path / "a").seed() == seed
    parts.remove()
    assert not (tmp_path / "a").exists()


def test_adjacent_segments_are_crossfaded():
    joiner = SegmentJoiner(1000, crossfade=0.1)
    ones = np.ones(1000, np.float32)
    sounds = [joiner.add(ones, 0, False), joiner.add(ones, 0.5, False), joiner.add(ones, 0, True)]
    audio = np.concatenate([sound for sound, _ in sounds])
    assert [times for _, times in sounds] == [(0, 1), (0.9, 1.9), (2.4, 3.4)]
    assert len(audio) == 3400 and (audio[1900:2400] == 0).all()
    np.testing.assert_allclose(audio[950], np.sqrt(2), atol=0.05)
    assert audio[0] == 0 and audio[1899] == 0, "no clicks at the ends"
    assert (audio[100:900] == 1).all()


def test_levels_are_matched_to_the_first_within_limits():
    noise = np.random.default_rng(0).normal(size=48000).astype(np.float32)
    joiner = SegmentJoiner(48000, match_level=True)
    levels = [
        float(np.std(joiner.add(noise * np.float32(level), 0, False)[0]))
        for level in (0.1, 0.07, 0.15, 0.01, 0.0)
    ]
    np.testing.assert_allclose(levels, [0.1, 0.1, 0.1, 0.02, 0.0], rtol=0.03)
    plain, _ = SegmentJoiner(48000).add(noise, 0, True)
    assert np.array_equal(plain, noise)


def test_level_matching_never_clips():
    """The gain is limited to a peak of 0.95, and audio with a louder peak is unchanged."""
    time = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 200 * time).astype(np.float32)

    def peaked(peak: float) -> np.ndarray:
        audio = 0.1 * tone
        audio[1000] = peak
        return audio

    joiner = SegmentJoiner(48000, match_level=True)
    joiner.add(0.2 * tone, 0, False)
    for peak, expected in ((0.3, 0.6), (0.8, 0.95), (0.97, 0.97)):
        audio, _ = joiner.add(peaked(peak), 0, False)
        np.testing.assert_allclose(np.abs(audio).max(), expected, rtol=0.02)


def test_a_long_text_warns_once_of_a_poor_clip(released, caplog):
    quiet = np.random.default_rng(0).normal(size=48000).astype(np.float32) * 0.01
    spoken = speak(released.model, ref_audio=(quiet, 48000))
    assert len(spoken) == len(SEGMENTS)
    assert caplog.text.count("ref_audio is quiet") == 1


def test_subtitles_have_the_times_of_the_segments():
    cues = [Cue("One & two.", 0.0, 1.25), Cue("Three.", 3599.9996, 3661.5)]
    assert subtitles(cues, ".srt") == (
        "1\n00:00:00,000 --> 00:00:01,250\nOne & two.\n\n2\n01:00:00,000 --> 01:01:01,500\nThree.\n"
    )
    assert subtitles(cues, ".vtt").startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nOne &amp; two.\n\n01:"
    )


def test_bad_settings_are_refused_at_once(released):
    for settings, line in (
        ({"parallel": 0}, "parallel"),
        ({"crossfade": -1}, "crossfade"),
        ({"prompt_text": "a"}, "prompt_audio"),
        ({"ref_audio": "missing.wav"}, "missing.wav"),
        ({"voice": "a.safetensors", "ref_audio": "b.wav"}, "both given"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=line):
            speak_long(released.model, "Hello.", **settings)


def test_parentheses_begin_a_description_of_the_whole_text_only(released, monkeypatch):
    """In a play "(He sits.)" is text."""
    model, asked = released.model, []
    request = model.request
    monkeypatch.setattr(
        model, "request", lambda text, **given: asked.append(text) or request(text, **given)
    )
    play = "(calm)\n\nIt is one.\n\n(He (the king) sits.)\n\n(She stands.) It is two."
    spoken = speak(model, play, segment_length=40)
    wanted = ["(calm) It is one.", "He (the king) sits.", "She stands. It is two."]
    assert sorted(asked) == sorted(wanted)
    assert [each.text for each in spoken][1] == "(He (the king) sits.)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("((laughter))", "laughter"),
        ("(Yes.) (No.) Me.", "Yes. (No.) Me."),
        ("((a) b", "a b"),
        ("(" * 2000 + "a)", "a"),
    ],
)
def test_no_parentheses_are_left_that_the_model_would_not_speak(text, words):
    assert without_instruction(text) == words


@pytest.mark.parametrize("empty", ["![a picture](x.png)", "[^1]", "&nbsp;", "<b></b>", "😀"])
def test_a_segment_that_is_empty_when_normalized_is_its_pause(released, empty):
    text = [Segment("One.", 0.25), Segment(empty, 0.5), Segment("Two.")]
    parts = speak(released.model, text, options=replace(OPTIONS, normalize=True))
    assert [part.text for part in parts] == ["One.", "", "Two."]
    assert len(parts[1].audio) == round(0.5 * parts[1].sample_rate) and not parts[1].audio.any()
