"""`generate_batch`: order, errors, retries and threads, besides the numbers of each row."""

import logging
import threading

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import GenerationOptions

QUICK = {"inference_timesteps": 2}
LENGTHS = (5, 2, 7, 3, 1, 4)


def requests(model, lengths=LENGTHS):
    """Two requests or more, each with its own seed and length."""
    for seed, length in enumerate(lengths):
        yield model.request("Hi.", options=GenerationOptions(seed=seed, max_tokens=length, **QUICK))


def test_results_come_in_order_of_completion_with_their_index(endless_model):
    results = list(endless_model.generate_batch(requests(endless_model), batch_size=2))
    # Two places: 0-5 then 3 until 12 in one would be later than 2 until 9 in the other.
    assert [result.sequence_idx for result in results] == [1, 0, 3, 2, 4, 5]
    for result in results:
        index = result.sequence_idx
        assert result.seed == index and result.token_count == LENGTHS[index]
        assert result.is_final_chunk and not result.is_streaming_chunk
        assert result.finish_reason == "length" and result.audio.dtype == mx.float32
        assert result.samples == LENGTHS[index] * endless_model.patch_samples
        (alone,) = endless_model.generate("Hi.", seed=index, max_tokens=LENGTHS[index], **QUICK)
        assert relative_error(result.audio, alone.audio) < 1e-4


def test_a_batch_accepts_plain_texts(endless_model):
    options = GenerationOptions(seed=3, max_tokens=2, **QUICK)
    results = endless_model.generate_batch(["Hello.", "Good bye then."], options=options)
    spoken = {result.sequence_idx: result for result in results}
    for index, text in enumerate(["Hello.", "Good bye then."]):
        (alone,) = endless_model.generate(text, seed=3, max_tokens=2, **QUICK)
        assert relative_error(spoken[index].audio, alone.audio) < 1e-4
    drawn = list(
        endless_model.generate_batch(["Hi.", "Hi."], options=GenerationOptions(max_tokens=1))
    )
    assert drawn[0].seed != drawn[1].seed


def test_each_bad_case_is_retried_without_delaying_others(endless_model, caplog):
    """One text token allows six patches; the attempts are those that `generate` makes."""

    def mixed():
        for text, seed in (("the", 10), ("the " * 8, 20), ("the", 30)):
            options = GenerationOptions(seed=seed, max_tokens=8, min_tokens=30, **QUICK)
            yield endless_model.request(text, options=options)

    with caplog.at_level(logging.WARNING):
        results = {
            result.sequence_idx: result
            for result in endless_model.generate_batch(mixed(), batch_size=2)
        }
    assert [results[index].seed for index in range(3)] == [12, 20, 32]
    assert len(caplog.records) == 4
    (alone,) = endless_model.generate("the", seed=10, max_tokens=8, min_tokens=30, **QUICK)
    assert alone.seed == 12
    assert relative_error(results[0].audio, alone.audio) < 1e-3
    options = GenerationOptions(seed=1, retry_badcase=False, **QUICK)
    (result,) = endless_model.generate_batch(["the"], options=options)
    assert result.seed == 1


def test_requests_are_read_only_when_there_is_room(endless_model):
    """Any number of requests may follow; each is encoded when it is admitted."""
    taken = []

    def without_end():
        for index in range(10**9):
            taken.append(index)
            yield endless_model.request(
                "Hi.", options=GenerationOptions(max_tokens=2, seed=1, **QUICK)
            )

    with endless_model.generate_batch(without_end(), batch_size=3) as results:
        assert taken == []
        for count in range(1, 8):
            next(results)
            assert len(taken) <= count + 2 * 3
    assert list(results) == []


def test_the_error_of_a_request_is_raised_after_the_others_have_finished(endless_model):
    def some():
        yield from requests(endless_model, (6, 2))
        yield ""

    finished = []
    with pytest.raises(ValueError, match="request 2: text is empty"):
        for result in endless_model.generate_batch(some(), batch_size=2):
            finished.append((result.sequence_idx, result.token_count))
    assert finished == [(1, 2), (0, 6)]


def test_progress_is_the_seconds_of_all_active_requests(endless_model):
    reported = []
    list(
        endless_model.generate_batch(
            requests(endless_model), batch_size=2, progress=reported.append
        )
    )
    patches = [round(seconds / 0.16) for seconds in reported]
    assert patches == sorted(patches) and patches[-1] == sum(LENGTHS)
    assert patches[:3] == [2, 4, 6]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"requests": ["Hi.", " "]}, "request 1: text is empty"),
        ({"requests": ["Hi.", 5]}, "request 1: text is a int"),
        ({"requests": "Hi."}, "requests is a single str; give a list of texts"),
        ({"requests": 5}, "requests is a single int; give a list of texts"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
    ],
)
def test_bad_input_is_a_one_line_error_at_once(endless_model, wrong, line):
    with pytest.raises(ValueError, match=line) as error:
        endless_model.generate_batch(**{"requests": ["Hi."], **wrong})
    assert "\n" not in str(error.value)


def test_an_empty_batch_is_no_error(endless_model):
    assert list(endless_model.generate_batch([])) == []


def test_another_thread_may_make_the_requests_or_read_the_results(released):
    """Rows join and leave meanwhile."""
    model, voice = released.model, released.waveform("short")
    made, spoken = [], []

    def make():
        for seed, length in enumerate(LENGTHS):
            options = GenerationOptions(seed=seed, min_tokens=9, max_tokens=length, **QUICK)
            made.append(model.request("Hi.", ref_audio=voice, options=options))

    def in_thread(function):
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    in_thread(make)
    results = model.generate_batch(made, batch_size=2)
    for _ in LENGTHS:
        in_thread(lambda: spoken.append(next(results)))
    assert {result.sequence_idx for result in spoken} == set(range(len(LENGTHS)))
    assert all(np.isfinite(np.array(result.audio)).all() for result in spoken)
