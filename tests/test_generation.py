"""`generate`: chunks, seeds, threads, limits and errors, besides the numbers."""

import logging
import threading
import time

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import GenerationOptions, load_model
from mlx_voxcpm2.models.voxcpm2.flow import Schedule

TEXT = "Hello world, this is a test."
QUICK = {"inference_timesteps": 2}


def spoken(results) -> np.ndarray:
    return np.concatenate([np.array(result.audio) for result in results])


def test_streamed_chunks_join_to_the_whole_audio(endless_model):
    options = {"seed": 3, "max_tokens": 7, **QUICK}
    chunks = list(endless_model.generate(TEXT, stream=True, **options))
    (whole,) = endless_model.generate(TEXT, **options)
    assert np.array_equal(spoken(chunks), np.array(whole.audio))
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * 6 + [True]
    assert all(chunk.is_streaming_chunk for chunk in chunks)
    assert not whole.is_streaming_chunk and whole.is_final_chunk


def test_a_result_has_the_fields_that_mlx_audio_expects(endless_model):
    (result,) = endless_model.generate(TEXT, seed=9, max_tokens=5, **QUICK)
    assert result.sample_rate == endless_model.sample_rate == 48000
    assert result.samples == result.audio.shape[0] == 5 * 7680
    assert result.audio.dtype == mx.float32
    assert result.token_count == 5 and result.segment_idx == 0
    assert result.audio_duration == "00:00:00.800"
    speed = 0.8 / result.processing_time_seconds
    assert result.real_time_factor == pytest.approx(speed)
    assert result.audio_samples["samples"] == result.samples
    assert result.prompt["tokens"] == 5
    assert result.peak_memory_usage > 0
    assert result.seed == 9


def test_the_requested_solver_generates_every_patch(endless_model, monkeypatch):
    schedules, sample_patch = [], endless_model.sample_patch

    def spy(*arguments):
        schedules.append(arguments[4])
        return sample_patch(*arguments)

    monkeypatch.setattr(endless_model, "sample_patch", spy)
    options = {"seed": 3, "max_tokens": 3, "inference_timesteps": 4}
    default, euler, adams = (
        spoken(endless_model.generate(TEXT, **options, **solver))
        for solver in ({}, {"solver": "euler"}, {"solver": "adams"})
    )
    assert schedules == [Schedule.sway(4)] * 6 + [Schedule.even(4, "adams")] * 3
    assert np.array_equal(default, euler)
    assert relative_error(adams, euler) > 1e-3


def test_generation_adds_no_parameters(make_case):
    from mlx.utils import tree_flatten

    model = make_case("mup").model
    before = {name for name, _ in tree_flatten(model.parameters())}
    list(model.generate(TEXT, seed=0, max_tokens=1, **QUICK))
    after = dict(tree_flatten(model.parameters()))
    assert set(after) == before and all(isinstance(value, mx.array) for value in after.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])  # on a CPU: one stream, two streams
def test_each_patch_may_be_requested_by_another_thread(released, dtype):
    """Web frameworks run each step of an iterator in any thread of a pool."""
    model = load_model(released.folder, dtype)
    options = {"seed": 1, "max_tokens": 5, "ref_audio": released.waveform("short"), **QUICK}
    results = model.generate(TEXT, stream=True, **options)
    chunks = []
    for count in range(1, 6):
        step = threading.Thread(target=lambda: chunks.append(next(results)))
        step.start()
        step.join()
        assert len(chunks) == count
        if chunks[-1].is_final_chunk:
            break
    (whole,) = model.generate(TEXT, **options)
    assert np.array_equal(spoken(chunks), np.array(whole.audio))


def test_the_seed_after_the_largest_is_0():
    assert GenerationOptions(seed=2**32 - 1).next_seed().seed == 2**32
    assert GenerationOptions(seed=2**64 - 1).next_seed().seed == 0


def test_six_patches_per_token_are_too_long(tiny_model):
    request = tiny_model.request(TEXT)
    assert request.is_too_long(6 * request.text_tokens)
    assert not request.is_too_long(6 * request.text_tokens - 1)


def test_a_numpy_seed_can_be_incremented_for_a_retry(endless_model):
    (result,) = endless_model.generate("你好", seed=np.int64(3), inference_timesteps=1)
    assert result.seed == 5


def test_encoded_clips_give_the_same_audio_as_the_clips(released):
    model, clip = released.model, released.waveform("short")
    options = {"seed": 2, "max_tokens": 3, "prompt_text": "Hi.", **QUICK}
    (spoken,) = model.generate(TEXT, ref_audio=clip, prompt_audio=clip, **options)
    reference, prompt = model.encode_audio(clip), model.encode_audio(clip, pad="left")
    (again,) = model.generate(TEXT, ref_audio=reference, prompt_audio=prompt, **options)
    assert mx.array_equal(spoken.audio, again.audio)


def test_a_prompt_prefilled_in_chunks_gives_the_same_audio(released, monkeypatch):
    options = {"seed": 2, "max_tokens": 3, **QUICK}
    (whole,) = released.model.generate(TEXT, ref_audio=released.waveform("ref"), **options)
    monkeypatch.setattr("mlx_voxcpm2.speech.prefill.PREFILL_POSITIONS", 7)
    (chunked,) = released.model.generate(TEXT, ref_audio=released.waveform("ref"), **options)
    assert relative_error(chunked.audio, whole.audio) < 1e-4


def test_processing_time_excludes_the_callers_time(endless_model):
    begin = time.perf_counter()
    results = endless_model.generate(TEXT, stream=True, seed=0, max_tokens=2, **QUICK)
    time.sleep(0.5)
    counted, slept = 0.0, 0.5
    for result in results:
        counted += result.processing_time_seconds
        time.sleep(0.5)
        slept += 0.5
    assert counted <= time.perf_counter() - begin - slept


def test_max_tokens_takes_precedence_over_min_tokens(endless_model):
    (result,) = endless_model.generate(TEXT, seed=0, max_tokens=1, **QUICK)
    assert result.token_count == 1 and result.finish_reason == "length"


def test_numpy_numbers_are_accepted(endless_model):
    (ours,) = endless_model.generate(TEXT, seed=np.int64(3), max_tokens=np.int32(2), **QUICK)
    (same,) = endless_model.generate(TEXT, seed=3, max_tokens=2, cfg_value=np.float32(2), **QUICK)
    assert mx.array_equal(ours.audio, same.audio)


def test_a_reported_seed_reproduces_the_result(endless_model):
    (first,) = endless_model.generate(TEXT, max_tokens=4, **QUICK)
    (again,) = endless_model.generate(TEXT, max_tokens=4, seed=first.seed, **QUICK)
    (other,) = endless_model.generate(TEXT, max_tokens=4, **QUICK)
    assert mx.array_equal(first.audio, again.audio)
    assert first.seed != other.seed
    assert not mx.array_equal(first.audio, other.audio)


def test_a_seed_does_not_touch_the_global_random_state(endless_model):
    mx.random.seed(1)
    expected = mx.random.uniform()
    mx.random.seed(1)
    list(endless_model.generate(TEXT, seed=4, max_tokens=2, **QUICK))
    assert mx.random.uniform().item() == expected.item()


def test_every_seed_gives_standard_normal_noise():
    from mlx_voxcpm2.speech.noise import draw_noise

    for seed in (0, 2**64 - 1):
        draws = draw_noise(seed, (4, 64))
        values = np.array(mx.stack([next(draws) for _ in range(100)]))
        assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02
        assert len(np.unique(values.reshape(100, -1)[:, 0])) == 100


def test_speech_ends_where_the_context_is_full(endless_model):
    """One position per patch; the model of the tests has room for 512."""
    words = "the " * 400
    positions = len(endless_model.tokenize(words)) + 1
    options = {"min_tokens": 4096, "retry_badcase": False, "inference_timesteps": 1}
    (result,) = endless_model.generate(words, seed=0, **options)
    assert result.token_count == 512 - positions + 1
    assert result.finish_reason == "length"


def test_speech_truncated_by_the_callers_limit_is_not_a_bad_case(endless_model, caplog):
    (result,) = endless_model.generate(TEXT, max_tokens=5, seed=3, **QUICK)
    assert result.seed == 3 and not caplog.records


def test_a_retry_is_reported(endless_model, caplog):
    list(endless_model.generate("你好", seed=3, inference_timesteps=1))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_bad_case_is_not_retried_while_streaming(endless_model, caplog):
    results = list(endless_model.generate("你好", stream=True, retry_badcase=True, seed=3, **QUICK))
    assert {result.seed for result in results} == {3}
    assert "retry_badcase" in caplog.text


def test_closing_the_iterator_stops_generation(endless_model):
    reported = []
    results = endless_model.generate(TEXT, stream=True, seed=0, progress=reported.append, **QUICK)
    next(results)
    results.close()
    count = len(reported)
    assert list(results) == [] and len(reported) == count


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_another_thread_can_stop_generation_within_a_patch(endless_model, stream):
    reported_at, produced, closed_at = [], [], []

    def progress(_: float):
        reported_at.append(time.perf_counter())

    options = {"stream": stream, "seed": 0, "inference_timesteps": 1}
    results = endless_model.generate("the " * 100, progress=progress, **options)

    def close():
        while len(reported_at) < 3:
            time.sleep(0.001)
        results.close()
        closed_at.append(time.perf_counter())

    closer = threading.Thread(target=close)
    closer.start()
    produced += list(results)
    closer.join()
    after = [moment for moment in reported_at if moment > closed_at[0]]
    assert len(after) <= 1
    assert len(reported_at) < 100
    if not stream:
        assert produced == []


def test_a_model_loaded_in_one_thread_speaks_in_another(released):
    spoken_there = []

    def speak():
        results = released.model.generate(
            TEXT, ref_audio=released.waveform("short"), seed=1, max_tokens=3, stream=True, **QUICK
        )
        spoken_there.append(spoken(results))

    thread = threading.Thread(target=speak)
    thread.start()
    thread.join()
    (here,) = released.model.generate(
        TEXT, ref_audio=released.waveform("short"), seed=1, max_tokens=3, **QUICK
    )
    assert np.array_equal(spoken_there[0], np.array(here.audio))


def test_an_iterator_made_in_one_thread_can_run_in_another(released):
    options = {"seed": 1, "max_tokens": 3, "noise": np.zeros((3, 4, 16)), **QUICK}
    results = released.model.generate(TEXT, ref_audio=released.waveform("short"), **options)
    received = []
    thread = threading.Thread(target=lambda: received.extend(results))
    thread.start()
    thread.join()
    assert len(received) == 1


def test_patches_come_one_by_one_and_are_the_latents_of_the_speech(endless_model):
    options = GenerationOptions(seed=8, max_tokens=4, inference_timesteps=2)
    patches = list(endless_model.generate_patches(TEXT, options=options))
    assert [patch.shape for patch in patches] == [(4, 16)] * 4
    (result,) = endless_model.generate(TEXT, seed=8, max_tokens=4, **QUICK)
    sound = endless_model.decode_latents(mx.stack(patches))
    assert np.allclose(np.array(sound), np.array(result.audio), atol=1e-5)


def test_too_little_noise_is_an_error_only_when_it_is_needed(endless_model):
    noise = np.zeros((3, 4, 16))
    (result,) = endless_model.generate(TEXT, noise=noise, max_tokens=3, **QUICK)
    assert result.token_count == 3 and result.seed is None
    with pytest.raises(ValueError, match="3 rows"):
        list(endless_model.generate(TEXT, noise=noise, max_tokens=4, **QUICK))


def test_speech_for_which_the_noise_does_not_reach_ends_by_length_and_spares_its_batch(
    endless_model,
):
    options = GenerationOptions(seed=1, max_tokens=6, inference_timesteps=2)
    short = endless_model.request(TEXT, options=options, noise=np.zeros((4, 4, 16)))
    requests = [short, endless_model.request(TEXT, options=options)]
    results = {each.sequence_idx: each for each in endless_model.generate_batch(requests)}
    assert [(results[i].token_count, results[i].finish_reason) for i in range(2)] == [
        (4, "length"),
        (6, "length"),
    ]
    (alone,) = endless_model.generate(TEXT, noise=np.zeros((4, 4, 16)), max_tokens=6, **QUICK)
    assert (alone.token_count, alone.finish_reason) == (4, "length")


def test_the_graph_of_a_patch_does_not_grow_with_the_speech(endless_model):
    """Cost is linear: no patch is decoded, encoded or attended to twice."""
    sizes = []
    cache = endless_model.audio_vae.make_cache()
    for _ in range(3):
        chunk = endless_model.audio_vae.decode(mx.zeros((1, 4, 16)), cache=cache)
        mx.eval(chunk)
        sizes.append(sum(array.size for array in endless_model.audio_vae.cache_arrays(cache)))
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize(("dtype", "solver"), [("bfloat16", "euler"), ("float16", "adams")])
def test_sixteen_bit_weights_keep_all_intermediates_in_sixteen_bits(make_case, dtype, solver):
    """Masks and RoPE tables in float32 would promote every array that they touch."""
    case = make_case("mup")
    model = load_model(case.folder, dtype=dtype)
    wanted = getattr(mx, dtype)
    is_audio = mx.array([[False, True, False, True]])
    cache = model.make_cache()
    inputs = model.embed(mx.array([[5, 0, 6, 0]]), is_audio, case.given("x", 2, 2, 16))
    hidden, residual = model(inputs, is_audio, cache)
    schedule = Schedule.of(solver, 3)
    solving = schedule, model.feat_decoder.time_tokens(schedule), 2.0
    patches = mx.zeros((1, 2, 16), wanted), mx.ones((1, 2, 16), wanted)
    patch = model.sample_patch(hidden[:, -1], residual[:, -1], *patches, *solving)
    step = model(model.embed_patches(patch[:, None]), cache=cache)
    arrays = [inputs, hidden, residual, patch, *step, model.stop_logits(hidden[:, -1])]
    arrays += [array for stack in cache for layer in stack for array in (layer.keys, layer.values)]
    assert {array.dtype for array in arrays} == {wanted}
    (result,) = model.generate("Hello.", seed=1, max_tokens=2)
    assert result.audio.dtype == mx.float32


BAD = [
    ({"text": ""}, "text is empty"),
    ({"text": " \n\t"}, "text is empty"),
    ({"text": None}, "text is empty"),
    ({"text": b"Hello."}, "text is a bytes"),
    ({"text": "a \ud800"}, "lone surrogate"),
    ({"instruct": 5}, "instruct is a int"),
    ({"noise": np.array([[["x"]]])}, "noise is no array"),
    ({"ref_audio": mx.full((3, 4, 16), float("nan"))}, "not finite"),
    ({"cfg_value": 0.0}, "cfg_value"),
    ({"cfg_value": 11}, "cfg_value"),
    ({"cfg_value": float("nan")}, "cfg_value"),
    ({"cfg_value": "2"}, "cfg_value"),
    ({"inference_timesteps": 0}, "inference_timesteps"),
    ({"inference_timesteps": 101}, "inference_timesteps"),
    ({"inference_timesteps": 2.5}, "inference_timesteps"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": float("inf")}, "temperature"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**64}, "seed"),
    ({"solver": "rk4"}, "solver is 'rk4'; it must be 'euler' or 'adams'"),
    ({"solver": ["adams"]}, "solver"),
    ({"solver": None}, "solver"),
    ({"prompt_text": "Hello."}, "prompt_audio"),
    ({"prompt_audio": (np.zeros(100), 16000)}, "prompt_text"),
    ({"prompt_audio": (np.zeros(100), 16000), "prompt_text": " "}, "prompt_text is empty"),
    (
        {"prompt_audio": (np.zeros(100), 16000), "prompt_text": "Hi.", "instruct": "calm"},
        "instruct does not work with a prompt",
    ),
    ({"ref_audio": (np.zeros(0), 16000)}, "ref_audio"),
    ({"ref_audio": (np.array([0, np.nan]), 16000)}, "ref_audio"),
    ({"ref_audio": "missing.wav"}, "missing.wav"),
    ({"ref_audio": mx.zeros((3, 4, 15))}, "ref_audio has shape"),
    ({"ref_audio": mx.zeros((0, 4, 16))}, "ref_audio has shape"),
    ({"ref_audio": mx.zeros((600, 4, 16))}, "more than the model's 512"),
    ({"noise": np.zeros((3, 4, 15))}, "noise has shape"),
    ({"noise": np.zeros((0, 4, 16))}, "noise has shape"),
    ({"noise": np.full((3, 4, 16), np.inf)}, "not finite"),
    ({"text": "a " * 600}, r"more than the model's 512"),
    ({"ref_audio": (np.zeros(16000 * 90), 16000)}, r"more than the model's 512"),
]


@pytest.mark.parametrize(("wrong", "line"), BAD)
def test_bad_input_is_a_one_line_error_at_once(endless_model, wrong, line):
    with pytest.raises((ValueError, FileNotFoundError), match=line) as error:
        endless_model.generate(**{"text": TEXT, **wrong})
    assert "\n" not in str(error.value)


def test_the_error_for_a_long_text_names_the_limit(endless_model):
    words = "a " * 600
    over = len(endless_model.tokenize(words)) + 1 - 512
    with pytest.raises(ValueError, match=f" {over} more than"):
        endless_model.generate(words)


def test_noise_and_latents_may_be_of_any_float_type(endless_model):
    noise = np.random.RandomState(0).standard_normal((2, 4, 16)).astype(np.float16)
    results = [
        np.array(next(endless_model.generate(TEXT, noise=values, max_tokens=2, **QUICK)).audio)
        for values in (noise, noise.astype(np.float64), mx.array(noise), noise.tolist())
    ]
    assert all(np.array_equal(audio, results[0]) for audio in results)
    sound = endless_model.decode_latents(mx.array(noise).astype(mx.float32))
    assert mx.array_equal(endless_model.decode_latents(noise), sound)


def test_a_sample_rate_is_refused_where_it_changes_nothing(make_case):
    model = make_case("dense_vae").model
    with pytest.raises(ValueError, match="condition_sample_rate"):
        model.decode_latents(mx.zeros((2, 3, 7)), 24000)


def test_other_entry_points_check_their_input_too(endless_model):
    with pytest.raises(ValueError, match="pad"):
        endless_model.encode_audio((np.zeros(10), 16000), pad="both")
    with pytest.raises(ValueError, match="latents have shape"):
        endless_model.decode_latents(mx.zeros((3, 16)))


def test_fast_takes_the_place_of_default_solver_settings_and_refuses_others():
    chosen = GenerationOptions(fast=True)
    for same in ({"solver": "adams"}, {"inference_timesteps": 7}):
        assert GenerationOptions(fast=True, **same).batch_key == chosen.batch_key
        assert GenerationOptions(fast=True, **same).fingerprint_values == chosen.fingerprint_values
    with pytest.raises(ValueError, match="fast has the inference_timesteps 7, not 12"):
        GenerationOptions(fast=True, inference_timesteps=12)
    assert "fast" not in GenerationOptions().fingerprint_values
