"""Long speech is cut in its pauses, into pieces that are no longer than allowed."""

from itertools import pairwise

import numpy as np
import pytest

from mlx_voxcpm2.audio.silences import cut_at_silences, is_silent

RATE = 1000


def speech(seconds: float, *pauses: tuple[float, float]) -> np.ndarray:
    """A loud tone with pauses, (begin, end) in seconds, which have a hundredth of its level."""
    samples = np.sin(np.arange(round(seconds * RATE)) * 1.3).astype(np.float32)
    for begin, end in pauses:
        samples[round(begin * RATE) : round(end * RATE)] *= 0.01
    return samples


def cuts(samples: np.ndarray, longest: float) -> list[float]:
    """Seconds at which the samples are cut."""
    bounds = cut_at_silences(samples, RATE, longest)
    assert bounds[0][0] == 0 and bounds[-1][1] == len(samples)
    assert all(one[1] == two[0] for one, two in pairwise(bounds))
    assert all(0 < end - start <= longest * RATE for start, end in bounds)
    return [end / RATE for _, end in bounds[:-1]]


def test_short_speech_is_one_piece():
    assert cuts(speech(6.0), 6.0) == []


def test_the_cut_is_in_the_middle_of_the_pause():
    assert cuts(speech(9.0, (5.0, 5.4)), 6.0) == pytest.approx([5.2], abs=0.06)


def test_the_quietest_of_several_pauses_is_taken():
    samples = speech(9.0, (4.2, 4.6), (5.4, 5.8))
    samples[4200:4600] *= 0.1
    assert cuts(samples, 6.0) == pytest.approx([4.4], abs=0.06)


def test_the_latest_of_equal_pauses_is_taken():
    samples = speech(9.0)
    samples[4200:4600] = samples[5400:5800] = 0
    assert cuts(samples, 6.0) == pytest.approx([5.6], abs=0.06)


def test_a_pause_before_the_last_third_is_passed_over():
    samples = speech(9.0, (1.0, 2.0), (4.8, 5.2))
    samples[1000:2000] = 0
    assert cuts(samples, 6.0) == pytest.approx([5.0], abs=0.06)


def test_a_click_of_silence_is_no_pause():
    samples = speech(9.0, (4.5, 4.9))
    samples[5500:5540] = 0
    assert cuts(samples, 6.0) == pytest.approx([4.7], abs=0.06)


def test_every_piece_is_cut_in_a_pause_of_its_own():
    found = cuts(speech(17.0, (5.0, 5.4), (9.5, 9.9), (14.0, 14.4)), 6.0)
    assert found == pytest.approx([5.2, 9.7, 14.2], abs=0.06)


def test_speech_without_a_pause_is_cut_too():
    assert len(cuts(np.ones(20000, np.float32), 3.0)) >= 6


def test_less_than_three_frames_is_refused():
    with pytest.raises(ValueError, match=r"longest is 0\.01 s; give at least"):
        cut_at_silences(speech(1.0), RATE, 0.01)


def test_nothing_and_zeros_are_silent_and_speech_is_not():
    assert is_silent(np.zeros(0, np.float32), RATE) and is_silent(np.zeros(900, np.float32), RATE)
    assert not is_silent(speech(1.0), RATE)
