"""The option `speed`: the finished sound is stretched, and nothing else notices."""

import asyncio
import sys

import numpy as np
import pytest
from test_long_form import SEGMENTS, speak, whole

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.audio.stretching import stretched
from mlx_voxcpm2.long_form.cache import SegmentCache
from mlx_voxcpm2.recognition.verification import Verification
from mlx_voxcpm2.speech.live_batch import LiveBatch

TEXT = "Hello there."
RATE = 48000
QUICK = {"seed": 3, "max_tokens": 4, "inference_timesteps": 2}
ONCE = {**QUICK, "retry_badcase": False, "retry_by_ear": False}


def joined(results) -> np.ndarray:
    return np.concatenate([np.array(each.audio) for each in results])


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.5, 4])
def test_a_result_is_the_stretched_speech(endless_model, speed):
    plain, result = (endless_model.speak(TEXT, speed=each, **QUICK) for each in (1, speed))
    expected = stretched(np.array(plain.audio), RATE, speed)
    assert np.array_equal(result.audio, expected)
    assert result.samples == len(expected) and result.duration == len(expected) / RATE
    assert result.audio_duration == f"00:00:{result.duration:06.3f}"
    assert result.token_count == plain.token_count and result.seed == plain.seed
    assert np.array_equal(result.unstretched, plain.audio)
    assert np.array_equal(result.audio_as_generated, plain.audio)


@pytest.mark.parametrize("options", [{}, {"trim_silence": True}])
@pytest.mark.parametrize("speed", [0.5, 1.3, 4])
def test_the_chunks_of_a_stream_are_the_whole(endless_model, speed, options):
    given = {"speed": speed, **ONCE, **options}
    chunks = list(endless_model.generate(TEXT, stream=True, **given))
    result = endless_model.speak(TEXT, **given)
    assert np.array_equal(joined(chunks), result.audio)
    assert [each.is_final_chunk for each in chunks] == [False] * (len(chunks) - 1) + [True]
    assert sum(each.token_count for each in chunks) == result.token_count
    again = endless_model.generate(TEXT, stream=True, **given).whole()
    assert np.array_equal(again.audio, result.audio)
    assert np.array_equal(again.unstretched, result.unstretched)


def test_a_stream_begins_with_the_first_patch(endless_model):
    first, *_ = endless_model.generate(TEXT, stream=True, speed=1.5, **ONCE)
    assert first.token_count == 1 and 0 < first.samples < 7680


def test_async_results_are_stretched_too(endless_model):
    async def spoken():
        return await endless_model.generate(TEXT, speed=2, **QUICK)

    assert asyncio.run(spoken()).samples == 4 * 7680 // 2


def test_each_text_of_a_batch_has_its_own_speed(endless_model):
    requests = [endless_model.request(TEXT, speed=speed, **QUICK) for speed in (0.5, 1, 2)]
    found = {each.sequence_idx: each for each in endless_model.generate_batch(requests)}
    assert [found[index].samples for index in range(3)] == [8 * 7680, 4 * 7680, 2 * 7680]
    assert found[1].unstretched is None
    alone = endless_model.speak(TEXT, speed=0.5, **QUICK)
    assert np.abs(np.array(found[0].audio_as_generated - alone.audio_as_generated)).max() < 1e-4


def test_progress_is_told_in_seconds_of_the_output(endless_model):
    for given in ({"stream": True, **ONCE}, QUICK):
        told: list[float] = []
        list(endless_model.generate(TEXT, speed=2, progress=told.append, **given))
        assert told == pytest.approx([0.08, 0.16, 0.24, 0.32])


@pytest.mark.parametrize("retries", [False, True])
def test_requests_of_a_server_are_stretched(endless_model, retries):
    batch = LiveBatch(endless_model, size=2)
    given = {**QUICK, "retry_badcase": retries, "retry_by_ear": False}
    batch.add(0, endless_model.request(TEXT, speed=4, **given))
    chunks = []
    while not batch.is_idle:
        chunks += batch.step()
    result = endless_model.speak(TEXT, speed=4, **given)
    assert np.abs(joined(chunks) - np.array(result.audio)).max() < 1e-4
    generated = np.concatenate([each.audio_as_generated for each in chunks])
    assert generated.shape == result.unstretched.shape
    assert all(len(each.audio) for each in chunks) and chunks[-1].finish_reason == "length"


def test_recognisers_hear_the_speech_as_it_was_generated(endless_model):
    heard = []

    def recogniser(audio: np.ndarray, rate: int) -> str:
        heard.append(audio)
        return TEXT

    result = endless_model.speak(TEXT, speed=4, verify=Verification(recogniser), **QUICK)
    assert [len(each) for each in heard] == [4 * 7680] and result.samples == 7680
    assert result.error_rate == 0


def test_pauses_of_a_long_text_keep_their_seconds_and_speech_does_not(released):
    plain, fast = (speak(released.model, speed=speed) for speed in (1, 2))
    patches = 3 * 7680
    starts = [0, 4800, 4800 + patches // 2, 4800 + patches + 38400]
    assert [round(each.start * RATE) for each in fast] == starts
    assert len(whole(fast)) == starts[-1] + patches // 2 + 24000
    for one, other, segment in zip(plain, fast, SEGMENTS, strict=True):
        if segment.text:
            speech = one.speech_as_generated
            assert np.array_equal(speech, other.speech_as_generated)  # the same voice
            assert np.array_equal(other.audio[: len(speech) // 2], stretched(speech, RATE, 2))


def test_another_speed_of_a_cached_long_text_costs_no_generation(released, tmp_path):
    told: list[float] = []
    speak(released.model, cache=SegmentCache(tmp_path / "parts"), speed=2, progress=told.append)
    assert max(told) == pytest.approx(3 * 3 * 0.16 / 2)
    spoken = speak(released.model, cache=SegmentCache(tmp_path / "parts"), speed=0.5)
    assert all(each.was_cached for each in spoken if each.text)
    fresh = speak(released.model, speed=0.5)
    assert np.array_equal(whole(spoken), whole(fresh))


def test_speed_1_needs_no_library(endless_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    plain = endless_model.speak(TEXT, **QUICK)
    assert np.array_equal(endless_model.speak(TEXT, speed=1.0, **QUICK).audio, plain.audio)
    assert plain.unstretched is None
    with pytest.raises(ValueError) as error:
        endless_model.speak(TEXT, speed=1.5, **QUICK)
    assert str(error.value) == (
        "speed needs the library av; install 'mlx-voxcpm2[media]', or leave speed out"
    )


@pytest.mark.parametrize("speed", [float("nan"), 0, 0.2, 5, -1, float("inf"), "fast", None, True])
def test_a_speed_out_of_range_is_a_one_line_error(speed):
    with pytest.raises(ValueError) as error:
        GenerationOptions(speed=speed)
    assert "speed is" in str(error.value) and "0.25 to 4" in str(error.value)
    assert "\n" not in str(error.value)


def test_fingerprints_of_files_from_before_the_option_are_still_valid():
    assert "speed" not in GenerationOptions().fingerprint_values
    assert GenerationOptions(speed=2).fingerprint_values["speed"] == 2
