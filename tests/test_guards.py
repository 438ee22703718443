"""Guards against the model's known faults; without a fault they change nothing."""

from itertools import chain, repeat

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.speech.guards import SilenceDetector, Trimmer
from mlx_voxcpm2.text.spoken import spoken_letters

TEXT = "Hello world, this is a test."
QUICK = {"inference_timesteps": 1, "seed": 3}
PATCH = 7680
OFF = {"retry_by_ear": False, "silence_limit": 0}


@pytest.fixture
def louden(released, monkeypatch):
    """Function that scales successive patches by its arguments, of which the last one repeats."""
    decode = released.model.audio_vae.decode

    def louden(*levels: float):
        left = chain(levels, repeat(levels[-1]))
        monkeypatch.setattr(
            released.model.audio_vae, "decode", lambda *a, **named: decode(*a, **named) * next(left)
        )

    return louden


def joined(results) -> np.ndarray:
    return np.concatenate([np.array(result.audio) for result in results])


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=round(seconds * 48000))
    return (level * values).astype(np.float32)


def test_audio_is_unchanged_while_no_guard_acts(endless_model):
    (plain,) = endless_model.generate(TEXT, max_tokens=5, **OFF, **QUICK)
    (guarded,) = endless_model.generate(TEXT, max_tokens=5, **QUICK)
    chunks = list(endless_model.generate(TEXT, max_tokens=5, stream=True, **QUICK))
    assert np.array_equal(guarded.audio, plain.audio)
    assert np.array_equal(joined(chunks), plain.audio)
    assert guarded.guards == plain.guards == chunks[-1].guards == ()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_endless_silence_is_stopped(endless_model, louden, stream):
    """The stop comes one patch late, so that the device never waits for the caller."""
    louden(1, 0, 0, 1, 0)
    *_, last = results = list(
        endless_model.generate(TEXT, silence_limit=0.48, retry_by_ear=False, stream=stream, **QUICK)
    )
    assert len(joined(results)) == 8 * PATCH, "two silent patches are a pause, three are not"
    assert last.finish_reason == "silence"
    assert last.guards == ("silence_limit: 0.48 s of silence ended it",)


def test_only_the_silent_rows_of_a_batch_are_stopped(endless_model, monkeypatch):
    """The other rows continue and sound as they do alone."""
    options = GenerationOptions(max_tokens=9, silence_limit=0.3, retry_by_ear=False, **QUICK)
    (alone,) = endless_model.generate_batch([TEXT], options=options)
    decode = endless_model.audio_vae.decode

    def first_is_silent(*arguments, **named):
        sound = decode(*arguments, **named)
        return sound * mx.array([[0.0], [1.0]]) if len(sound) == 2 else sound

    monkeypatch.setattr(endless_model.audio_vae, "decode", first_is_silent)
    silent, other = endless_model.generate_batch([TEXT, TEXT], options=options)
    assert (silent.sequence_idx, silent.finish_reason) == (0, "silence")
    assert silent.token_count == 3
    assert (other.finish_reason, other.guards) == ("length", ())
    assert relative_error(other.audio, alone.audio) < 1e-4


def test_a_silent_attempt_is_retried(brief_model, louden, caplog):
    louden(0, 0, 0, 0, 1)
    (result,) = brief_model.generate(TEXT, **QUICK)
    assert result.seed == 4 and result.finish_reason == "stop"
    assert result.guards == ("retry: seed 3 gave 0.6 s of silence",)
    assert "generating again with the next seed" in caplog.text
    (alone,) = brief_model.generate(TEXT, inference_timesteps=1, seed=4)
    assert np.array_equal(result.audio, alone.audio)


def test_the_guard_gives_up_after_three_attempts_and_reports_it(brief_model, louden):
    louden(0)
    (result,) = brief_model.generate(TEXT, **QUICK)
    assert result.seed == 5 and len(result.guards) == 3
    assert result.guards[-1] == "gave up: seed 5 gave 0.6 s of silence"


def test_speech_is_generated_once_if_a_retry_is_unwanted_or_useless(brief_model, louden, caplog):
    louden(0)
    draws = np.zeros((4, 4, 16))
    for settings in ({"retry_by_ear": False}, {"noise": draws}, {"max_tokens": 1}):
        (result,) = brief_model.generate(TEXT, **QUICK, **settings)
        assert result.guards == ()
    *_, last = brief_model.generate(TEXT, stream=True, **QUICK)
    assert last.seed == 3 and not caplog.records
    list(brief_model.generate(TEXT, stream=True, retry_by_ear=True, **QUICK))
    assert "retry_by_ear has no effect while streaming" in caplog.text


def test_an_attempt_too_short_for_its_letters_is_retried(brief_model):
    """Four patches are 0.64 s, time for 38 letters; a description of the voice is not spoken."""
    (result,) = brief_model.generate("the " * 13, **QUICK)
    assert result.guards[0] == "retry: seed 3 gave 0.64 s of speech for 39 letters"
    for text, instruct in (("the " * 12, None), ("(" + "the " * 13 + ")Hi.", None)):
        assert next(brief_model.generate(text, instruct=instruct, **QUICK)).guards == ()
    assert next(brief_model.generate("Hi.", instruct="the " * 13, **QUICK)).guards == ()
    assert next(brief_model.generate("the " * 13, max_tokens=4, min_tokens=4, **QUICK)).guards == ()


def test_only_spoken_letters_are_counted():
    assert spoken_letters("Hi, you -- 42!") == 7
    assert spoken_letters("你好。") == 6
    assert spoken_letters("(a low voice) Hi") == spoken_letters("（低声）Hi") == 2
    assert spoken_letters("Say (softly) hi") == 11


def detector_after(*sounds: np.ndarray) -> SilenceDetector:
    """Detector after these sounds."""
    detector = SilenceDetector(48000)
    for sound in sounds:
        detector.update(sound)
    return detector


def test_attempts_that_cannot_be_the_text_are_faults():
    hush = np.zeros(5 * 48000, np.float32)
    for sounds, reason, fault in (
        ([noise(2)], "stop", None),
        ([noise(0.3), noise(1.9, 0.0)], "stop", None),
        ([noise(0.3), hush], "stop", "0.3 s of speech in 5.3 s, else silence"),
        ([noise(3), hush], "stop", None),
        ([noise(3), hush], "silence", "silence after 3.0 s"),
        ([hush, noise(0.5, 0.0005)], "stop", "5.5 s of silence"),
        ([hush], "length", "5.0 s of silence"),
        ([noise(0.3), noise(5, 0.001)], "stop", "0.3 s of speech in 5.3 s, else silence"),
        ([noise(1), noise(5, 0.01)], "stop", None),
    ):
        assert detector_after(*sounds).fault(10, reason) == fault


def test_a_hum_far_below_the_speech_is_silence():
    detector = detector_after(noise(1, 0.1), noise(3, 0.002))
    assert detector.silence == pytest.approx(3, abs=0.03)
    assert detector_after(noise(1, 0.1), noise(3, 0.02)).silence == 0
    click = np.array([0.9], np.float32)
    assert detector_after(click, noise(3, 0.002)).silence == 0, "a click is no speech"


@pytest.mark.parametrize("seconds", [0.02, 0.3], ids=["a part of a patch", "two patches"])
def test_the_beginning_fades_in_and_the_rest_is_unchanged(endless_model, seconds):
    options = {"max_tokens": 4, **QUICK}
    (plain,) = endless_model.generate(TEXT, **options)
    (faded,) = endless_model.generate(TEXT, fade_in=seconds, **options)
    chunks = list(endless_model.generate(TEXT, fade_in=seconds, stream=True, **options))
    length = round(seconds * 48000)
    plain, audio = np.array(plain.audio), np.array(faded.audio)
    rise = np.arange(length, dtype=np.float32) / length
    np.testing.assert_allclose(audio[:length], plain[:length] * rise, atol=1e-6)
    assert np.array_equal(audio[length:], plain[length:])
    assert np.array_equal(joined(chunks), audio)
    assert faded.guards == chunks[-1].guards == (f"fade_in: {seconds} s",)


def test_silence_at_both_ends_is_cut_off_and_pauses_stay(endless_model, louden):
    levels = (0, 0, 1, 1, 0, 0, 1, 0, 0, 0)
    options = {"max_tokens": len(levels), **QUICK}
    louden(*levels)
    (plain,) = endless_model.generate(TEXT, **options)
    louden(*levels)
    (whole,) = endless_model.generate(TEXT, trim_silence=True, **options)
    louden(*levels)
    chunks = list(endless_model.generate(TEXT, trim_silence=True, stream=True, **options))
    margin = round(0.2 * 48000)
    expected = np.array(plain.audio)[2 * PATCH - margin : 7 * PATCH + margin]
    assert np.array_equal(whole.audio, expected)
    assert np.array_equal(joined(chunks), expected)
    cut = (5 * PATCH - 2 * margin) / 48000
    assert whole.guards == chunks[-1].guards == (f"trim_silence: {cut:.2f} s cut off",)
    assert [chunk.samples for chunk in chunks] == [PATCH + margin, PATCH, 3 * PATCH, margin]
    assert sum(chunk.token_count for chunk in chunks) == whole.token_count == len(levels)
    assert [chunk.is_final_chunk for chunk in chunks] == [False, False, False, True]


def test_silent_audio_is_not_trimmed_to_nothing(endless_model, louden):
    louden(0)
    options = {"max_tokens": 3, "trim_silence": True, **QUICK}
    for stream in (False, True):
        *_, last = results = list(endless_model.generate(TEXT, stream=stream, **options))
        assert len(joined(results)) == 3 * PATCH and last.guards == ()


def test_audio_that_ends_with_speech_is_trimmed_only_in_front():
    trimmer, sound = Trimmer(48000), noise(1)
    first = trimmer.apply(np.concatenate([np.zeros(48000, np.float32), sound]), False)
    assert len(first) == 48000 + round(0.2 * 48000)
    assert np.array_equal(trimmer.apply(sound, True), sound)
    assert trimmer.cut == round(0.8 * 48000)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"silence_limit": -1}, "silence_limit is -1; it must be a number from 0 to 3600"),
        ({"silence_limit": None}, "silence_limit is None"),
        ({"fade_in": 20}, "fade_in is 20; it must be a number from 0 to 1"),
        ({"fade_in": float("nan")}, "fade_in is nan"),
        ({"trim_silence": 1}, "trim_silence is 1; it must be true or false"),
        ({"trim_silence": None}, "trim_silence is None"),
        ({"retry_by_ear": "yes"}, "retry_by_ear is 'yes'"),
        ({"retry_badcase": 0}, "retry_badcase is 0"),
    ],
)
def test_bad_values_are_one_line_errors(endless_model, wrong, line):
    with pytest.raises(ValueError, match=line) as error:
        endless_model.generate(TEXT, **wrong)
    assert "\n" not in str(error.value)
