"""Problems that are found in a clip of a voice, and how clips are cleaned."""

import mlx.core as mx
import numpy as np
import pytest
from voice_clips import RATE, USUAL, speech

from mlx_voxcpm2.audio.clips import Clip, read_clip


def clip_of(samples: np.ndarray) -> Clip:
    return read_clip((samples, RATE), RATE)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.mark.parametrize("level", [0.05, USUAL, 0.2])
def test_a_good_clip_has_no_problems_and_is_not_changed(level):
    samples = np.concatenate([silence(0.3), speech(level=level), silence(0.3)])
    clip = clip_of(samples)
    assert clip.problems() == []
    cleaned, changes = clip.cleaned()
    assert changes == [] and np.array_equal(cleaned.samples, samples)
    assert clip.loudness() == pytest.approx(level, rel=0.05)


SPOILT = {
    "quiet": (speech(level=0.01), "is quiet (-40 dB, usual are -22)"),
    "short": (speech(1.5), "only 1.3 s of speech"),
    "long": (np.tile(speech(10), 7), "70 s long"),
    "silent": (silence(3), "nothing but silence"),
    "nearly silent": (speech(level=0.0005), "nothing but silence"),
    "mostly silence": (np.concatenate([speech(), silence(6), speech(0.4)]), "mostly silence"),
    "noisy": (
        speech() + np.random.RandomState(1).normal(0, 0.02, 40000).astype("f4"),
        "noisy between the words",
    ),
    "off zero": (speech() + np.float32(0.1), "+0.10 off zero (a DC offset)"),
    "inverted": (np.stack([speech(), -speech()], 1), "cancel out"),
    "clipped": (np.clip(speech(level=0.9), -1, 1), "clipped at"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_each_problem_is_named_alone(fault):
    samples, words = SPOILT[fault]
    (problem,) = clip_of(samples).problems()
    assert words in problem
    assert ";" in problem and "\n" not in problem


def test_a_click_does_not_hide_that_a_clip_is_quiet():
    samples = speech(level=0.01)
    samples[1000:1100] = 0.9
    assert "quiet" in clip_of(samples).problems()[0]


def test_clipping_is_found_in_any_channel_before_rates_and_channels_are_changed():
    good, bad = speech(level=0.3), np.clip(speech(level=0.9), -1, 1)
    places = clip_of(bad).clipped_places
    stereo = np.stack([good, bad], axis=1)
    assert read_clip((stereo, 48_000), RATE).clipped_places == places > 10
    whole_numbers = np.clip(np.round(stereo * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    assert read_clip((whole_numbers, 48_000), RATE).clipped_places == places


def test_a_wave_that_only_touches_full_scale_is_not_clipped():
    time = np.arange(3 * 48_000) / 48_000
    tone = np.sin(2 * np.pi * 110 * time)
    for samples in (tone, np.round(tone * 32767).astype(np.int16)):
        assert read_clip((samples, 48_000), RATE).clipped_places == 0
    assert clip_of(np.full(9000, 0.5, np.float32)).clipped_places == 0


@pytest.mark.parametrize(("length", "places"), [(3, 0), (4, 1), (5, 1)])
def test_four_samples_at_full_scale_are_clipped(length, places):
    samples = speech(level=0.1)
    samples[1000 : 1000 + length] = 1.0
    assert clip_of(samples).clipped_places == places


def test_a_quiet_clip_is_raised_to_the_usual_level():
    quiet = clip_of(speech(level=0.01))
    cleaned, (change,) = quiet.cleaned()
    assert cleaned.loudness() == pytest.approx(USUAL, rel=1e-3) and "18 dB louder" in change
    gain = cleaned.samples / quiet.samples
    assert np.allclose(gain, gain[0]) and cleaned.problems() == []


def test_no_peak_is_raised_to_full_scale():
    samples = speech(level=0.02)
    samples[500] = 0.5
    cleaned, _ = clip_of(samples).cleaned()
    assert np.abs(cleaned.samples).max() == pytest.approx(0.95)
    samples[500] = 0.99
    assert np.array_equal(clip_of(samples).cleaned()[0].samples, samples)


def test_an_offset_is_removed_and_makes_no_silence_speech():
    samples = np.concatenate([silence(2), speech(), silence(2)]) - np.float32(0.2)
    cleaned, changes = clip_of(samples).cleaned()
    assert "-0.20 off zero" in changes[0] and "silence" in changes[1]
    assert abs(cleaned.samples.mean()) < 1e-3 and cleaned.problems() == []
    assert clip_of(silence(3) + np.float32(0.3)).is_silent


def test_of_channels_that_cancel_out_one_is_used():
    words = speech()
    for channels in ([words, -words], [words, -words, silence(2.5)], [words / 2, -0.9 * words / 2]):
        clip = clip_of(np.stack(channels, 1))
        assert clip.is_inverted and np.array_equal(clip.samples, channels[0])
    assert not clip_of(np.stack([words, silence(2.5)], 1)).is_inverted


def test_long_silence_at_the_ends_is_cut_off():
    words = speech()
    samples = np.concatenate([silence(2), words, silence(3)])
    cleaned, (change,) = clip_of(samples).cleaned()
    assert "silence" in change
    begin = np.flatnonzero(cleaned.samples)[0]
    assert begin == pytest.approx(0.2 * RATE, abs=320)
    assert cleaned.seconds == pytest.approx(2.5 + 0.4, abs=0.06)
    assert np.array_equal(cleaned.samples[begin : begin + len(words)], words)


def test_silence_is_not_cleaned():
    for samples in (silence(3), silence(0.001)):
        cleaned, changes = clip_of(samples).cleaned()
        assert changes == [] and np.array_equal(cleaned.samples, samples)
        assert clip_of(samples).is_silent


def test_generation_warns_of_a_poor_clip_and_uses_it_unchanged(released, caplog):
    model, quick = released.model, {"seed": 1, "max_tokens": 1, "inference_timesteps": 1}
    clip = (np.concatenate([silence(1), speech(level=0.01)]), RATE)
    patches = {side: model.encode_audio(clip, side) for side in ("right", "left")}
    assert caplog.messages == []
    spoken = [
        next(model.generate("Hi.", ref_audio=ref, prompt_audio=prompt, prompt_text="a", **quick))
        for ref, prompt in ((patches["right"], patches["left"]), (clip, clip))
    ]
    assert mx.array_equal(spoken[0].audio, spoken[1].audio)
    assert [line.split(" is quiet")[0] for line in caplog.messages] == ["ref_audio", "prompt_audio"]
