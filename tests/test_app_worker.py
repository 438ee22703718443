"""Thread that runs the page's model; without Gradio."""

import threading
import time

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile
from voice_clips import RATE, speech

from mlx_voxcpm2 import Voice, load_model
from mlx_voxcpm2.app.inputs import PageRequest
from mlx_voxcpm2.app.worker import SpeechWorker
from mlx_voxcpm2.voices.inputs import VoiceInputs

LONG = (
    "One sentence is here, and it goes on for a while so that it is long enough. " * 5
    + "\n\nThe end."
)


@pytest.fixture(scope="module")
def workers(make_case, tmp_path_factory):
    """Function that makes a worker whose model ends as soon as it may, or never."""
    made, case = {}, make_case("released")

    def make(which: str) -> SpeechWorker:
        def load():
            model = load_model(case.folder, dtype="float32")
            model.stop_head.weight = mx.array(checkpoints.stop_head(which, case.config))
            return model

        if which not in made:
            made[which] = SpeechWorker(load, tmp_path_factory.mktemp("speech"))
        return made[which]

    yield make
    for worker in made.values():
        worker.close()


@pytest.fixture(autouse=True)
def folder_with_clip(tmp_path, voice_folder, voice_clip, monkeypatch):
    monkeypatch.chdir(tmp_path)


def spoken(worker, mode="zero-shot", text="Hello there.", streamed=False, given=None, **settings):
    """Result of a job, and its chunks."""
    settings = {"seed": "3", "inference_timesteps": 2, **settings}
    request, chunks = PageRequest.parse(mode, text, given or {}, settings, streamed), []
    job = worker.speak(request, chunks.append)
    assert job.has_ended(60)
    return job.result(), chunks


CLIP = {"ref_audio": "clip.wav", "prompt_audio": "clip.wav", "prompt_text": "What it says."}


@pytest.mark.parametrize("mode", ["zero-shot", "design", "reference", "continuation", "combined"])
def test_a_result_has_the_librarys_audio(workers, make_case, mode):
    worker = workers("always")
    entry, chunks = spoken(
        worker, mode, given={**CLIP, "instruct": "An old man"}, streamed=True, min_tokens=4
    )
    model = load_model(make_case("released").folder, dtype="float32")
    model.stop_head.weight = worker.model.stop_head.weight
    (result,) = model.generate(
        "Hello there.", **entry.request.voice.given(), seed=3, inference_timesteps=2, min_tokens=4
    )
    whole = np.concatenate(chunks)
    assert len(chunks) > 3 and np.allclose(whole, np.array(result.audio), atol=1e-6)
    written, rate = soundfile.read(entry.file, dtype="float32")
    assert rate == 48000 and np.abs(written - whole).max() < 1e-4
    assert (entry.seed, entry.finish_reason, entry.file.name) == (3, "stop", f"{mode}-seed-3.wav")
    assert f"({mode}, seed 3)" in entry.report


def test_all_jobs_run_in_one_thread_that_is_not_the_callers(workers):
    worker, threads = workers("always"), []
    first = PageRequest.parse("zero-shot", "Hello.", {}, {"inference_timesteps": 2}, True)
    jobs = [worker.speak(first, lambda _: threads.append(threading.get_ident())) for _ in range(3)]
    assert all(job.has_ended(60) for job in jobs)
    assert len(set(threads)) == 1 and threading.get_ident() not in threads
    seeds = {job.result().seed for job in jobs}
    assert len(seeds) == 3  # random, and reported


@pytest.mark.parametrize("streamed", [True, False])
def test_stop_ends_generation_and_returns_the_audio_so_far(workers, streamed):
    worker, enough = workers("never"), threading.Event()
    request = PageRequest.parse("zero-shot", "Word " * 50, {}, {"inference_timesteps": 2}, streamed)
    received = []

    def on_audio(samples):
        received.append(samples)
        if len(received) == 3:
            enough.set()

    job = worker.speak(request, on_audio)
    while not enough.is_set() and job.seconds < 0.5:
        assert not job.has_ended(0.005)
    job.stop()
    begin = time.perf_counter()
    assert job.has_ended(10) and time.perf_counter() - begin < 5
    entry = job.result()
    assert job.seconds < 20  # of 50 s at least
    if streamed:
        assert entry.finish_reason == "stopped" and "You stopped it" in entry.report
        assert entry.duration == pytest.approx(sum(map(len, received)) / 48000)
        worker.save_voice_of(entry, "stopped")
        assert Voice.load("stopped").prompt_text is None  # the spoken words are unknown
    else:
        assert entry is None and not received
    assert spoken(worker, max_tokens=2)[0].duration == pytest.approx(0.32)  # the worker still runs


def test_a_waiting_job_can_be_stopped(workers):
    worker = workers("never")
    request = PageRequest.parse("zero-shot", "Word " * 50, {}, {"inference_timesteps": 2}, True)
    first, second = (worker.speak(request, lambda _: None) for _ in range(2))
    second.stop()
    assert second.has_ended() and second.result() is None and not second.has_begun
    first.stop()
    assert first.has_ended(10)


def test_a_long_text_is_spoken_segment_by_segment(workers):
    worker = workers("always")
    entry, chunks = spoken(worker, text=LONG, min_tokens=20)
    assert len(chunks) > 1 and entry.duration == pytest.approx(sum(map(len, chunks)) / 48000)
    assert (entry.seed, entry.finish_reason) == (3, "stop")
    worker.save_voice_of(entry, "anna")
    voice = Voice.load("anna")
    assert voice.prompt_text.startswith("One sentence is here")  # the end is too short
    assert len(entry.excerpt.audio) <= len(chunks[0])
    assert voice.reference_seconds == pytest.approx(len(entry.excerpt.audio) / 48000, abs=0.16)


def test_the_voice_of_a_result_is_saved_and_used(workers):
    worker = workers("always")
    entry, _ = spoken(worker, "design", given={"instruct": "An old  man"}, min_tokens=4)
    file = worker.save_voice_of(entry, "grandpa")
    voice = Voice.load("grandpa")
    assert file.stem == "grandpa"
    assert (voice.prompt_text, voice.description) == ("Hello there.", "An old man")
    again, _ = spoken(worker, "voice", given={"voice": "grandpa"})
    assert again.duration > 0
    with pytest.raises(FileExistsError, match="exists already"):
        worker.save_voice_of(entry, "grandpa")


def test_the_voice_of_a_clip_is_saved_and_its_problems_are_returned(workers):
    worker = workers("always")
    soundfile.write("quiet.wav", speech(level=0.01), RATE, "FLOAT")
    _, notes = worker.save_voice(VoiceInputs("sad", "quiet.wav"), "quiet")
    assert Voice.load("quiet").prompt is None and "dB louder" in notes[0]
    _, notes = worker.save_voice(VoiceInputs(**CLIP), "both")
    assert Voice.load("both").prompt_text == "What it says." and notes == ()


def test_notes_have_the_clips_problems_and_the_guards_actions(workers):
    soundfile.write("quiet.wav", speech(level=0.01), RATE, "FLOAT")
    entry, _ = spoken(
        workers("always"), "reference", given={"ref_audio": "quiet.wav"}, fade_in=0.02
    )
    assert "is quiet" in entry.notes[0] and "fade_in: 0.02 s" in entry.notes
    report = entry.report.splitlines()
    assert "the voice's clip is quiet" in report[1] and entry.notes[-1] in report


def test_errors_are_raised_by_the_jobs_result(workers):
    worker = workers("always")
    with pytest.raises(FileNotFoundError, match=r"no file 'none.wav'"):
        spoken(worker, "reference", given={"ref_audio": "none.wav"})
    assert spoken(worker)[0] is not None  # the worker still runs


def test_a_loading_error_is_raised(tmp_path):
    def load():
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        SpeechWorker(load, tmp_path)


def test_clips_are_decoded_in_the_visitors_thread(workers, monkeypatch):
    """The model's thread speaks for others meanwhile."""
    from mlx_voxcpm2.audio import reading

    decode, threads = reading.decode, []

    def seen(*arguments):
        threads.append(threading.current_thread())
        return decode(*arguments)

    monkeypatch.setattr(reading, "decode", seen)
    worker = workers("always")
    spoken(worker, "combined", given=CLIP)
    worker.save_voice(VoiceInputs(ref_audio="clip.wav"), "Carla")
    assert len(threads) == 3 and set(threads) == {threading.current_thread()}
