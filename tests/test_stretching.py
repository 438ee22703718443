"""Time-stretching: another duration, the same pitch, whole or chunk by chunk."""

import numpy as np
import pytest

from mlx_voxcpm2.audio.stretching import Stretcher, stretched

SPEEDS = (0.25, 0.3, 0.5, 0.7, 0.95, 1.3, 1.5, 2, 2.7, 4)


def tone(seconds: float, rate: int, pitch: float = 180.0) -> np.ndarray:
    """A voice-like sound: harmonics, louder and softer four times a second."""
    times = np.arange(round(seconds * rate)) / rate
    waves = sum(np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 6))
    return (0.2 * waves * (1.2 + np.sin(8 * np.pi * times))).astype(np.float32)


def pitch_of(audio: np.ndarray, rate: int) -> float:
    """Frequency in Hz of the strongest partial, from an interpolated spectrum."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**19))
    return float(np.argmax(spectrum) * rate / 2**19)


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("speed", SPEEDS)
def test_the_duration_changes_and_the_pitch_does_not(speed, rate):
    audio = tone(1.5, rate)
    output = stretched(audio, rate, speed)
    assert output.dtype == np.float32 and len(output) == round(len(audio) / speed)
    assert pitch_of(output, rate) == pytest.approx(180, rel=0.01)
    level = np.sqrt(np.mean(output**2)) / np.sqrt(np.mean(audio**2))
    assert 0.8 < level < 1.2 and np.abs(output).max() < 1.05 * np.abs(audio).max()


@pytest.mark.parametrize("speed", [0.25, 0.8, 1.1, 2, 4])
def test_chunks_of_any_length_joined_are_the_whole(speed):
    audio, random = tone(1.3, 48000), np.random.default_rng(0)
    cuts = sorted(random.integers(0, len(audio), 20).tolist())
    chunks = [*np.split(audio, cuts), audio[:0]]
    stretcher = Stretcher(48000, speed)
    parts = [stretcher.apply(each, index == len(cuts) + 1) for index, each in enumerate(chunks)]
    assert np.array_equal(np.concatenate(parts), stretched(audio, 48000, speed))


@pytest.mark.parametrize(("speed", "patches"), [(0.25, 1), (0.7, 1), (1.5, 1), (2, 1), (4, 2)])
def test_the_first_sound_comes_with_the_first_patch(speed, patches):
    """At more than twice the speed with the second, of 160 ms each."""
    stretcher, audio = Stretcher(48000, speed), tone(0.16 * patches, 48000)
    assert sum(len(stretcher.apply(each, False)) for each in np.split(audio, patches))


@pytest.mark.parametrize("speed", SPEEDS)
def test_sounds_stay_at_their_time_and_the_end_is_not_lost(speed):
    """Bursts in the middle and at the very end of silence, to 35 ms of the input or the output."""
    rate, burst = 48000, np.random.default_rng(1).normal(0, 0.3, 4800).astype(np.float32)
    audio = np.zeros(2 * rate, np.float32)
    audio[rate : rate + len(burst)] = audio[-len(burst) :] = burst
    output = np.abs(stretched(audio, rate, speed))
    middle = len(output) * 3 // 4
    loud = np.flatnonzero(output[:middle] > 0.1)
    near = 0.035 * max(1, 1 / speed)
    assert loud[0] / rate == pytest.approx(1 / speed, abs=near)
    assert loud[-1] / rate == pytest.approx(1.1 / speed, abs=near)
    assert np.sqrt(np.mean(output[-round(len(burst) / speed / 2) :] ** 2)) > 0.15


@pytest.mark.parametrize("samples", [1, 2, 100, 479, 481])
@pytest.mark.parametrize("speed", [0.25, 4])
def test_very_short_audio_is_stretched_too(samples, speed):
    output = stretched(np.full(samples, 0.1, np.float32), 48000, speed)
    assert len(output) == max(1, round(samples / speed))
    assert np.isfinite(output).all() and output[0] == pytest.approx(0.1, rel=0.01)


def test_at_speed_1_and_without_audio_nothing_is_done():
    audio = tone(0.1, 16000)
    assert stretched(audio, 16000, 1.0) is audio
    assert len(stretched(audio[:0], 16000, 2.0)) == 0
