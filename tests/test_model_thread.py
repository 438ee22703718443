"""The model's thread: tasks that come and go, from one event loop or several."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import GOLDEN

from mlx_voxcpm2 import GenerationOptions, load_model, speak_dialogue
from mlx_voxcpm2.dialogue.options import TurnOptions
from mlx_voxcpm2.dialogue.script import parse_script
from mlx_voxcpm2.dialogue.speak import dialogue_segments
from mlx_voxcpm2.server.model_thread import ModelThread
from mlx_voxcpm2.server.streams import SpeechError, SpeechStream
from mlx_voxcpm2.server.tasks import SpeechAudio, SpeechTask
from mlx_voxcpm2.text.segments import Segment, split_text
from mlx_voxcpm2.voices.inputs import VoiceInputs
from mlx_voxcpm2.weights.adapter_files import read_adapter

SHORT = {"max_tokens": 5, "inference_timesteps": 2}


@pytest.fixture(scope="module")
def thread(released):
    thread = ModelThread(lambda: load_model(released.folder, dtype="float32"), batch_size=2)
    yield thread
    assert thread.close()


def task(text: str, seed: int = 1, stream: bool = True, **fields) -> SpeechTask:
    options = GenerationOptions(seed=seed, **SHORT).with_retries_unless(stream)
    return SpeechTask(tuple(split_text(text)), options, **fields)


async def spoken(thread: ModelThread, wanted: SpeechTask) -> list:
    async with thread.speak(wanted) as stream:
        return [each async for each in stream]


def joined(chunks: list) -> np.ndarray:
    return np.concatenate([each.audio for each in chunks])


def alone(released, text: str, seed: int = 1) -> np.ndarray:
    return np.array(released.model.speak(text, seed=seed, **SHORT).audio)


def test_each_task_has_the_sound_that_it_has_alone(thread, released):
    async def all_at_once() -> list:
        wanted = [task("Hello there.", seed, stream=seed % 2 == 0) for seed in range(5)]
        return await asyncio.gather(*(spoken(thread, each) for each in wanted))

    for seed, chunks in enumerate(asyncio.run(all_at_once())):
        np.testing.assert_allclose(joined(chunks), alone(released, "Hello there.", seed), atol=1e-4)
        assert (len(chunks) > 3) == (seed % 2 == 0)
        assert [each.finish_reason for each in chunks[:-1]] == [None] * (len(chunks) - 1)
        part, reason = chunks[-1].part, chunks[-1].finish_reason
        assert (part.seed, part.text, part.finish_reason) == (seed, "Hello there.", reason)
        assert part.patches * released.model.patch_samples == len(joined(chunks))
    assert thread.unfinished == 0


def test_segments_follow_each_other_with_their_pauses(thread, released):
    chunks = asyncio.run(spoken(thread, task("one two [pause:0.5] three")))
    parts = [each.part for each in chunks if each.part is not None]
    assert [(part.index, part.text, part.pause) for part in parts] == [
        (0, "one two", 0.5),
        (1, "three", 0.0),
    ]
    sound, first = joined(chunks), round(parts[0].seconds * thread.sample_rate)
    np.testing.assert_allclose(sound[:first], alone(released, "one two"), atol=1e-4)
    assert not sound[first : first + thread.sample_rate // 2].any()
    total = parts[0].seconds + 0.5 + parts[1].seconds
    assert len(sound) / thread.sample_rate == pytest.approx(total)


def test_a_long_pause_comes_in_seconds_that_share_their_memory(thread):
    rate, patch = thread.sample_rate, thread.model.patch_samples
    chunks = asyncio.run(spoken(thread, task("[pause:2.5] one [pause:3.25] two [pause:2]")))
    assert [len(each.audio) for each in chunks[:3]] == [rate, rate, rate // 2]
    assert max(len(each.audio) for each in chunks) <= rate + patch
    pauses = [each.audio for each in chunks if each.is_pause]
    assert len(pauses) == 3 + 3 + 1  # the first second comes with the end of the speech
    assert all(np.shares_memory(each, pauses[0]) and not each.any() for each in pauses)
    speech = sum(each.part.seconds for each in chunks if each.part)
    assert len(joined(chunks)) / rate == pytest.approx(2.5 + 3.25 + 2 + speech)
    assert [each.finish_reason is None for each in chunks] == [True] * (len(chunks) - 1) + [False]


def test_a_long_pause_of_a_turn_that_was_spoken_early_is_whole(thread, released):
    script = "Anna: Hi.[pause:2.5]\nAnna: " + "Good morning to you all, my dear old friends. " * 2
    segments = tuple(dialogue_segments(parse_script(script), TurnOptions()))
    options = GenerationOptions(seed=5, **SHORT).with_retries_unless(True)
    chunks = asyncio.run(spoken(thread, SpeechTask(segments, options, speakers={})))
    theirs = speak_dialogue(released.model, script, {}, seed=5, **SHORT)
    ours, whole = joined(chunks), np.concatenate([each.audio for each in theirs])
    np.testing.assert_allclose(ours, whole, atol=1e-3)


def test_only_the_first_parentheses_are_a_description(thread, monkeypatch):
    """Stage directions such as "(He sits.)" are spoken, as on the command line."""
    asked, request = [], thread.model.request
    monkeypatch.setattr(
        thread.model, "request", lambda text, **given: asked.append(text) or request(text, **given)
    )
    asyncio.run(spoken(thread, task("(An old man) One.\n\n(He sits.)\n\nTwo (or three).")))
    assert asked == ["(An old man) One.", "He sits.", "Two (or three)."]


def test_text_may_come_while_it_is_spoken(thread):
    async def conversation() -> tuple[list, str]:
        stream = thread.speak(task("one", is_open=True))
        chunks = [await anext(stream)]
        while chunks[-1].part is None:
            chunks.append(await anext(stream))
        assert chunks[-1].finish_reason is None
        stream.feed(split_text("two"))
        stream.end()
        chunks += [each async for each in stream]
        return chunks, chunks[-1].finish_reason

    chunks, reason = asyncio.run(conversation())
    assert [each.part.text for each in chunks if each.part] == ["one", "two"]
    assert reason is not None


def test_a_task_that_is_closed_after_its_last_words_ends(thread):
    async def conversation() -> list:
        stream = thread.speak(task("one", is_open=True))
        chunks = []
        async for each in stream:
            chunks.append(each)
            if each.part is not None:
                stream.end()
        return chunks

    last = asyncio.run(conversation())[-1]
    assert last.finish_reason is not None and not len(last.audio)


def test_a_cancelled_stream_ends_and_gives_its_place_back(thread):
    async def cancelled() -> int:
        stream = thread.speak(task("one two three four five six seven eight"))
        count = 0
        async for _ in stream:
            count += 1
            stream.cancel()
        waiting = thread.speak(task("one"))
        waiting.cancel()
        assert [each async for each in waiting] == []
        await thread.call(lambda model: None)  # after the cancelling
        return count

    assert asyncio.run(cancelled()) == 1
    assert thread.unfinished == thread.speaking == 0


def test_a_slow_reader_is_waited_for_between_segments(thread, monkeypatch):
    """No segment is begun while so much sound is unread, and it goes on when that is read."""
    monkeypatch.setattr("mlx_voxcpm2.server.streams.UNREAD_SECONDS", 0.1)

    async def slow() -> tuple[float, list]:
        stream = thread.speak(task("one\n\ntwo\n\nthree"))
        while thread.speaking or not stream.seconds:
            await asyncio.sleep(0.01)
        before = stream.seconds
        return before, [each async for each in stream]

    before, chunks = asyncio.run(slow())
    parts = [each.part for each in chunks if each.part]
    assert [part.text for part in parts] == ["one", "two", "three"]
    assert before == pytest.approx(parts[0].seconds + parts[0].pause)  # and not the second


class _LockWithAWriter:
    """A lock; when it is free for the first time, a writer takes its turn."""

    def __init__(self, write):
        self._lock, self._writers = threading.Lock(), [write]

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()
        if self._writers:
            self._writers.pop()()


def test_a_task_that_waits_while_its_reader_counts_is_woken(monkeypatch):
    monkeypatch.setattr("mlx_voxcpm2.server.streams.UNREAD_SECONDS", 10)

    async def read() -> list[str]:
        events = []
        owner = SimpleNamespace(sample_rate=1, resume=lambda _: events.append("resumed"))
        stream = SpeechStream(owner, task("one"))

        def write():  # as the model's thread: it waits if the stream is full
            stream.put_all([SpeechAudio(np.zeros(4, np.float32))])
            events.extend(["full"] * stream.is_full)

        stream.put_all([SpeechAudio(np.zeros(8, np.float32))])
        stream._lock = _LockWithAWriter(write)
        for _ in range(2):
            await anext(stream)
        return events

    assert asyncio.run(read()) in ([], ["full", "resumed"])


def test_the_thread_goes_on_after_an_exception(thread, monkeypatch):
    def fail():
        raise MemoryError("no memory")

    with monkeypatch.context() as changed:
        changed.setattr(thread._batch._batch, "step", fail)
        with pytest.raises(SpeechError, match="no memory"):
            asyncio.run(spoken(thread, task("one")))
    assert joined(asyncio.run(spoken(thread, task("one")))).any()
    assert thread.failures == 1 and thread.is_alive


def test_a_task_that_cannot_be_spoken_raises_and_others_go_on(thread):
    async def both():
        unfit = task("one", voice=VoiceInputs(voice="no such voice"))
        return await asyncio.gather(
            spoken(thread, unfit), spoken(thread, task("two")), return_exceptions=True
        )

    refused, chunks = asyncio.run(both())
    assert isinstance(refused, FileNotFoundError) and joined(chunks).any()


def test_functions_run_in_the_models_thread_and_raise_there(thread):
    async def called():
        assert await thread.call(lambda model: model.sample_rate) == thread.sample_rate
        with pytest.raises(KeyError):
            await thread.call(lambda model: {}["x"])

    asyncio.run(called())
    assert thread.submit(lambda model: 3).result() == 3


def test_a_model_that_does_not_load_raises():
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ModelThread(lambda: load_model("/none/such"))


def test_adapters_are_chosen_by_name_and_do_not_mix(released):
    folder = GOLDEN / "adapters" / "official"
    load = lambda: load_model(released.folder, dtype="float32")  # noqa: E731
    thread = ModelThread(load, batch_size=4, adapters=lambda: {"style": read_adapter(folder)})
    options = GenerationOptions(seed=1, max_tokens=4, inference_timesteps=2).without_retries()

    def wanted(name: str | None) -> SpeechTask:
        return SpeechTask((Segment("Hello."),), options, adapter=name)

    async def mixed() -> list:
        names = [None, "style", None, "style"]
        return await asyncio.gather(*(spoken(thread, wanted(name)) for name in names))

    try:
        plain, styled, again, restyled = map(joined, asyncio.run(mixed()))
        with pytest.raises(ValueError, match="no adapter 'x'; there are: style"):
            asyncio.run(spoken(thread, wanted("x")))
    finally:
        assert thread.close()
    np.testing.assert_allclose(plain, again, atol=1e-4)
    np.testing.assert_allclose(styled, restyled, atol=1e-4)
    assert np.abs(plain[: len(styled)] - styled[: len(plain)]).max() > 1e-3


def test_closing_ends_what_is_spoken():
    thread = ModelThread(lambda: load_model("demo"))

    async def ended():
        stream = thread.speak(task("one two three four"))
        await anext(stream)
        closing = asyncio.get_running_loop().run_in_executor(None, thread.close)
        with pytest.raises(SpeechError, match="the server is ending"):
            [each async for each in stream]
        return await closing

    assert asyncio.run(ended()) and not thread.is_alive


DIALOGUE = """Anna: Hello. [pause:0.5]
Ben (sad): Yes, yes.
Anna (whispering): Good morning to you all, my friends.
Ben: How do you do?
[pause:0.2]
Anna: All is well here today."""


def dialogue(voices: dict, seed: int = 5, stream: bool = True, speed: float = 1.0) -> SpeechTask:
    options = GenerationOptions(seed=seed, speed=speed, **SHORT).with_retries_unless(stream)
    segments = dialogue_segments(parse_script(DIALOGUE), TurnOptions())
    return SpeechTask(tuple(segments), options, speakers=voices)


@pytest.mark.parametrize(("given", "speed"), [((), 1.0), (("Anna",), 2.0), (("Anna", "Ben"), 1.0)])
def test_a_dialogue_is_the_one_that_the_library_speaks(thread, released, given, speed):
    """With the same made-up voices, whose segments are spoken before their turn."""
    clips = {"Anna": released.waveform("ref"), "Ben": released.waveform("short")}
    voices = {name: VoiceInputs(ref_audio=clips[name]) for name in given}
    wanted = list(speak_dialogue(released.model, DIALOGUE, voices, seed=5, speed=speed, **SHORT))
    for stream in (True, False):
        chunks = asyncio.run(spoken(thread, dialogue(voices, stream=stream, speed=speed)))
        parts = [each.part for each in chunks if each.part]
        assert [(part.index, part.text, part.speaker) for part in parts] == [
            (each.index, each.text, each.speaker) for each in wanted if each.text
        ]
        ours, theirs = joined(chunks), np.concatenate([each.audio for each in wanted])
        assert len(ours) == len(theirs) and np.sqrt(np.mean(theirs**2)) > 1e-3
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
        assert [each.finish_reason is None for each in chunks] == [True] * (len(chunks) - 1) + [
            False
        ]
        assert all(len(each.audio) for each in chunks[:-1])


def test_a_turn_that_needs_no_other_first_is_heard_patch_by_patch(thread, released):
    voices = {"Ben": VoiceInputs("low voice")}
    voices["Anna"] = VoiceInputs(ref_audio=released.waveform("ref"))
    chunks = asyncio.run(spoken(thread, dialogue(voices)))
    counts = [0]
    for each in chunks:
        counts[-1] += 1
        if each.part is not None:
            counts.append(0)
    # Ben's anchor is his second turn, which is spoken before his first.
    assert counts == [5, 5, 5, 1, 5, 0]
