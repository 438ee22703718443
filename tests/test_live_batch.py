"""Requests that join and leave at any time have the results that they have alone."""

import numpy as np
import pytest

from mlx_voxcpm2.speech.live_batch import LiveBatch
from mlx_voxcpm2.speech.options import GenerationOptions


def request(model, seed: int, tokens: int, text: str = "Hello there.", **options):
    settings = {"inference_timesteps": 2, "retry_badcase": False, "retry_by_ear": False, **options}
    chosen = GenerationOptions(seed=seed, max_tokens=tokens, **settings)
    return model.request(text, options=chosen)


def alone(model, seed: int, tokens: int, text: str = "Hello there.", **options) -> np.ndarray:
    settings = {"inference_timesteps": 2, "retry_badcase": False, "retry_by_ear": False, **options}
    (result,) = model.generate(text, seed=seed, max_tokens=tokens, **settings)
    return np.array(result.audio)


def spoken(batch: LiveBatch) -> dict[int, list]:
    said: dict[int, list] = {}
    while not batch.is_idle:
        for each in batch.step():
            said.setdefault(each.number, []).append(each)
    return said


def assert_same(chunks: list, expected: np.ndarray):
    sound = np.concatenate([chunk.audio for chunk in chunks])
    assert sound.shape == expected.shape
    assert np.abs(sound - expected).max() < 1e-4
    assert [chunk.finish_reason is None for chunk in chunks[:-1]] == [True] * (len(chunks) - 1)
    assert chunks[-1].finish_reason in ("stop", "length")


def test_a_request_that_joins_later_has_the_result_it_has_alone(tiny_model):
    batch, said = LiveBatch(tiny_model, size=2), {}
    batch.add(7, request(tiny_model, 1, 6))
    for each in batch.step():
        said.setdefault(each.number, []).append(each)
    batch.add(8, request(tiny_model, 2, 3))
    batch.add(9, request(tiny_model, 3, 4))  # waits for a place
    for number, chunks in spoken(batch).items():
        said.setdefault(number, []).extend(chunks)
    for number, seed, tokens in ((7, 1, 6), (8, 2, 3), (9, 3, 4)):
        assert_same(said[number], alone(tiny_model, seed, tokens))
        assert len(said[number]) > 1


def test_a_request_that_may_be_retried_gives_its_audio_at_the_end(tiny_model):
    """True also if the first attempt is far too long for its text."""
    batch = LiveBatch(tiny_model, size=1)
    options = {"text": "A", "retry_badcase": True, "min_tokens": 13}
    batch.add(0, request(tiny_model, 1, 13, **options))
    (chunks,) = spoken(batch).values()
    assert len(chunks) == 1
    assert_same(chunks, alone(tiny_model, 1, 13, **options))
    assert batch.count == 3  # three attempts


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_cancelled_request_leaves_and_the_others_continue(tiny_model, steps):
    batch, before = LiveBatch(tiny_model, size=2), []
    batch.add(0, request(tiny_model, 1, 500, min_tokens=499))
    batch.add(1, request(tiny_model, 2, 8))
    batch.add(2, request(tiny_model, 3, 3))
    for _ in range(steps):
        before += [each for each in batch.step() if each.number == 1]
    batch.cancel(0)
    said = spoken(batch)
    assert set(said) == {1, 2}
    assert_same(before + said[1], alone(tiny_model, 2, 8))
    assert_same(said[2], alone(tiny_model, 3, 3))


def test_a_request_with_another_step_count_can_be_cancelled_while_it_waits(tiny_model):
    batch = LiveBatch(tiny_model, size=2)
    batch.add(0, request(tiny_model, 1, 5))
    batch.add(1, request(tiny_model, 2, 50, inference_timesteps=3, min_tokens=49))
    batch.add(2, request(tiny_model, 3, 4))
    batch.step()
    assert batch.scheduler.waiting is not None
    batch.cancel(1)
    said = spoken(batch)
    assert set(said) == {0, 2}
    assert batch.scheduler.count == batch.count == 3
    assert_same(said[2], alone(tiny_model, 3, 4))


def test_the_last_request_can_be_cancelled(tiny_model):
    batch = LiveBatch(tiny_model, size=1)
    batch.add(0, request(tiny_model, 1, 500, min_tokens=499))
    batch.step()
    batch.cancel(0)
    assert batch.step() == batch.step() == []
    assert batch.is_idle
