"""The public API: keywords, results, iterators and `help`."""

import asyncio
import inspect
import pydoc
import subprocess
import sys
import threading
import time
from dataclasses import fields

import client_program
import mlx.core as mx
import numpy as np
import pytest
import soundfile

import mlx_voxcpm2
from mlx_voxcpm2 import GenerationOptions, VoxCPM2, load_model, speak_long
from mlx_voxcpm2.long_form.options import LongFormKeywords, LongFormOptions
from mlx_voxcpm2.speech.keywords import ADVICE, COUNTERPARTS
from mlx_voxcpm2.speech.options import OptionKeywords
from mlx_voxcpm2.speech.results import joined_results
from mlx_voxcpm2.voices.inputs import VoiceInputs, VoiceKeywords

QUICK = {"inference_timesteps": 2, "max_tokens": 4, "retry_badcase": False, "retry_by_ear": False}
METHODS = ("generate", "speak", "generate_batch", "request", "generate_patches")


def call(model, method: str, **settings):
    """Call a method; a batch gets a list of texts."""
    if method == "speak_long":
        return speak_long(model, "Hi.", **settings)
    return getattr(model, method)(["Hi."] if method == "generate_batch" else "Hi.", **settings)


@pytest.mark.parametrize("method", [*METHODS, "speak_long"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("instuct", "did you mean instruct?"),
        ("cfg_vale", "did you mean cfg_value?"),
        ("ref_text", "ref_text is prompt_text here"),
        ("prompt_wav_path", "prompt_wav_path is prompt_audio here"),
        ("reference_wav_path", "reference_wav_path is ref_audio here"),
        ("max_len", "max_len is max_tokens here"),
        ("cfg_scale", "cfg_scale is cfg_value here"),
        ("ddpm_steps", "ddpm_steps is inference_timesteps here"),
        ("pitch", "describe the pitch in instruct"),
        ("denoise", "clean the clip first"),
        ("something_else", "the names are instruct, ref_audio"),
    ],
)
def test_an_unknown_keyword_is_a_type_error_with_a_hint(tiny_model, method, name, hint):
    with pytest.raises(TypeError, match=rf"{method}\(\): {name} is ") as caught:
        call(tiny_model, method, **{name: 1})
    assert hint in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "name", "hint"),
    [
        ("generate", "steam", "did you mean stream?"),
        ("generate", "progess", "did you mean progress?"),
        ("generate_batch", "batchsize", "did you mean batch_size?"),
        ("speak_long", "parralel", "did you mean parallel?"),
        ("speak", "stream", "only generate streams"),
    ],
)
def test_a_methods_own_arguments_are_hinted_at_too(tiny_model, method, name, hint):
    with pytest.raises(TypeError, match=rf"{method}\(\): {name} is not known") as caught:
        call(tiny_model, method, **{name: 1})
    assert hint in str(caught.value)


@pytest.mark.parametrize("method", [*METHODS, "speak_long"])
def test_options_of_another_type_are_a_type_error(tiny_model, method):
    with pytest.raises(TypeError, match="options is a dict; give GenerationOptions"):
        call(tiny_model, method, options={"seed": 1})


def test_hints_name_existing_keywords():
    names = {each.name for cls in (VoiceInputs, GenerationOptions) for each in fields(cls)}
    assert set(COUNTERPARTS.values()) <= names
    assert not names & (COUNTERPARTS.keys() | ADVICE.keys())


@pytest.mark.parametrize(
    ("keywords", "cls"),
    [
        (OptionKeywords, GenerationOptions),
        (VoiceKeywords, VoiceInputs),
        (LongFormKeywords, LongFormOptions),
    ],
)
def test_typed_keywords_are_the_fields_with_their_types(keywords, cls):
    declared = {each.name: each.type for each in fields(cls)}
    annotations = inspect.get_annotations(keywords)
    assert {name: hint.__forward_arg__ for name, hint in annotations.items()} == declared


@pytest.mark.parametrize("method", METHODS)
def test_every_method_accepts_the_voice_and_the_options(tiny_model, method):
    """Checked in the signature, with the defaults, and by calls."""
    shown = inspect.signature(getattr(VoxCPM2, method)).parameters
    for cls in (VoiceInputs, GenerationOptions):
        for each in fields(cls):
            assert shown[each.name].default == each.default
    with pytest.raises(ValueError, match="cfg_value is 99"):
        call(tiny_model, method, cfg_value=99)
    with pytest.raises(ValueError, match="prompt_text is given without prompt_audio"):
        call(tiny_model, method, prompt_text="Hi.")


def test_speak_long_accepts_the_common_options_and_its_own(tiny_model):
    shown = inspect.signature(speak_long).parameters
    for cls in (VoiceInputs, GenerationOptions, LongFormOptions):
        assert all(shown[each.name].default == each.default for each in fields(cls))
    with pytest.raises(ValueError, match="crossfade is 2"):
        speak_long(tiny_model, "Hi.", crossfade=2)


def test_keywords_override_the_options(tiny_model):
    options = GenerationOptions(seed=1, **QUICK)
    (result,) = tiny_model.generate("Hi.", options=options, max_tokens=2, min_tokens=9)
    assert (result.seed, result.token_count) == (1, 2)
    results = list(tiny_model.generate_batch(["Hi.", "Hi."], options=options, seed=2, min_tokens=9))
    assert [result.seed for result in results] == [2, 2]
    assert results[0].token_count == QUICK["max_tokens"]


def test_a_batch_speaks_in_the_given_voice(released):
    settings = {"seed": 1, "min_tokens": 9, **QUICK}
    clip = released.waveform("short")
    (alone,) = released.model.generate("Hi.", ref_audio=clip, **settings)
    (row,) = released.model.generate_batch(["Hi."], ref_audio=clip, **settings)
    (other,) = released.model.generate("Hi.", **settings)
    assert np.array_equal(row.audio, alone.audio)
    assert not np.array_equal(row.audio, other.audio)


def test_speak_returns_the_whole_result_of_generate(tiny_model):
    settings = {"seed": 3, "min_tokens": 9, **QUICK}
    whole = tiny_model.speak("Hi.", **settings)
    (generated,) = tiny_model.generate("Hi.", **settings)
    assert np.array_equal(whole.audio, generated.audio)
    joined = tiny_model.generate("Hi.", stream=True, **settings).whole()
    assert np.array_equal(joined.audio, whole.audio)
    for name in ("samples", "token_count", "finish_reason", "audio_duration"):
        assert getattr(joined, name) == getattr(whole, name)
    assert not joined.is_streaming_chunk and joined.is_final_chunk
    with pytest.raises(ValueError, match="stopped before it began"):
        joined_results([])


def test_a_result_has_a_duration_and_can_be_saved(tiny_model, tmp_path):
    result = tiny_model.speak("Hi.", seed=3, min_tokens=9, **QUICK)
    assert result.duration == result.samples / 48000 == 0.64
    file = result.save(tmp_path / "speech.flac")
    sound, rate = soundfile.read(file)
    assert rate == 48000 and np.allclose(sound, result.audio, atol=1e-4)
    with pytest.raises(ValueError, match=r"\.txt files cannot be written"):
        result.save(tmp_path / "speech.txt")


def test_numpy_accepts_the_audio_directly(tiny_model):
    result = tiny_model.speak("Hi.", seed=3, min_tokens=9, **QUICK)
    assert np.concatenate([result.audio, result.audio]).dtype == np.float32
    assert np.abs(result.audio).max() == np.abs(np.array(result.audio)).max()


def test_representations_are_short(tiny_model, released):
    result = tiny_model.speak("Hi.", seed=3, min_tokens=9, **QUICK)
    assert repr(result) == "GenerationResult(0.64 s at 48000 Hz, seed 3, length)"
    voice = tiny_model.make_voice(released.waveform("short"))
    assert repr(voice).startswith("Voice('', reference ") and len(repr(voice)) < 60
    assert repr(tiny_model) == "VoxCPM2(3 layers, float32, 48000 Hz)"


def test_an_event_loop_keeps_running_during_generation():
    """`async for` gives chunks and `await` the whole; other tasks run in between."""
    model, ticks = load_model("demo"), []

    async def tick():
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0.001)

    async def both():
        ticking = asyncio.create_task(tick())
        whole = await model.generate("one two three four five", seed=1)
        during_await = len(ticks)
        counts = []
        async for _ in model.generate("one two three four five", seed=1, stream=True):
            counts.append(len(ticks))
        ticking.cancel()
        return whole, during_await, counts

    whole, during_await, counts = asyncio.run(both())
    assert during_await > 5 and counts[-1] > counts[0]
    assert len(counts) == whole.token_count


def test_a_cancelled_task_stops_the_generation(tiny_model):
    seconds = []

    async def cancelled():
        speech = tiny_model.generate(
            "Hi.", min_tokens=400, progress=seconds.append, **QUICK | {"max_tokens": 400}
        )
        task = asyncio.ensure_future(_await(speech))
        while not seconds:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.2)
        count = len(seconds)
        await asyncio.sleep(0.2)
        return count

    assert asyncio.run(cancelled()) == len(seconds) < 50


async def _await(speech):
    return await speech


def test_a_used_iterator_has_no_audio_left(tiny_model):
    async def use_twice():
        speech = tiny_model.generate("Hi.", **QUICK)
        await speech
        assert [result async for result in speech] == []
        with pytest.raises(ValueError, match="taken before"):
            await speech

    async def leave_early():
        speech = tiny_model.generate("Hi.", stream=True, **QUICK)
        async for _ in speech:
            break
        speech.close()
        return [result async for result in speech]

    asyncio.run(use_twice())
    assert asyncio.run(leave_early()) == []


@pytest.mark.parametrize(
    "end",
    [
        "await speech",
        "await anext(aiter(speech))",
        "threading.Thread(target=speech.whole).start()",
    ],
)
def test_a_program_that_has_spoken_in_another_thread_ends_well(end):
    """MLX aborts a process at its end if a thread has left its streams."""
    program = f"""
import asyncio, threading, mlx_voxcpm2
model = mlx_voxcpm2.load_model("demo")
async def main():
    speech = model.generate("one", seed=1, stream=True)
    {end}
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "work",
    [
        lambda model: load_model("demo"),
        lambda model: model.speak("Hi.", **QUICK),
        lambda model: model.make_voice((np.sin(np.arange(16000)), 16000)),
    ],
    ids=["load", "speak", "clip"],
)
def test_a_thread_that_computes_frees_its_streams(tiny_model, monkeypatch, work):
    freed_in = []
    clear = mx.clear_streams
    monkeypatch.setattr(
        mx, "clear_streams", lambda: (freed_in.append(threading.get_ident()), clear())
    )
    thread = threading.Thread(target=work, args=(tiny_model,))
    thread.start()
    thread.join()
    assert freed_in == [thread.ident]


def test_results_are_compared_by_identity(tiny_model):
    first, second = (
        tiny_model.speak("Hi.", seed=1, **QUICK),
        tiny_model.speak("Hi.", seed=1, **QUICK),
    )
    assert first == first and first != second and len({first, second}) == 2


def test_an_error_in_async_iteration_reaches_the_caller(tiny_model):
    def broken(seconds):
        raise OSError("the disk is full")

    async def iterate():
        async for _ in tiny_model.generate("Hi.", stream=True, progress=broken, **QUICK):
            pass

    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(iterate())


def test_help_shows_the_public_names_and_an_example():
    text = pydoc.render_doc(mlx_voxcpm2, renderer=pydoc.plaintext)
    for name in ("load_model(", "speak(", "generate(", "speak_long", "list_voices", "save("):
        assert name in text
    assert set(mlx_voxcpm2.__all__) <= set(dir(mlx_voxcpm2))


def test_a_client_program_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "voices"))
    client_program.main(tmp_path)
