"""The thread that the page's model lives on; without Gradio."""

import threading
import time

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile
from voice_clips import RATE, speech

from mlx_voxcpm2 import Voice, load_model
from mlx_voxcpm2.app.inputs import asked_speech
from mlx_voxcpm2.app.speaker import Speaker

LONG = (
    "One sentence is here, and it goes on for a while so that it is long enough. " * 5
    + "\n\nThe end."
)


@pytest.fixture(scope="module")
def speakers(make_case, tmp_path_factory):
    """Makes one whose model ends as soon as it may, or never; loaded on its own thread."""
    made, case = {}, make_case("released")

    def make(which: str) -> Speaker:
        def load():
            model = load_model(case.folder, dtype="float32")
            model.stop_head.weight = mx.array(checkpoints.stop_head(which, case.config))
            return model

        if which not in made:
            made[which] = Speaker(load, tmp_path_factory.mktemp("takes"))
        return made[which]

    yield make
    for speaker in made.values():
        speaker.close()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "voices"))
    monkeypatch.chdir(tmp_path)
    soundfile.write("clip.wav", speech(2.53), RATE)
    return tmp_path


def spoken(speaker, mode="zero-shot", text="Hello there.", streamed=False, given=None, **settings):
    """The take, and what was heard piece by piece."""
    settings = {"seed": "3", "inference_timesteps": 2, **settings}
    pieces = []
    job = speaker.speak(asked_speech(mode, text, given or {}, settings, streamed), pieces.append)
    assert job.has_ended(60)
    return job.take(), pieces


CLIP = {"ref_audio": "clip.wav", "prompt_audio": "clip.wav", "prompt_text": "What it says."}


@pytest.mark.parametrize("mode", ["zero-shot", "design", "reference", "continuation", "combined"])
def test_a_take_is_what_the_library_speaks(speakers, make_case, mode):
    speaker = speakers("always")
    take, pieces = spoken(
        speaker, mode, given={**CLIP, "instruct": "An old man"}, streamed=True, min_tokens=4
    )
    model = load_model(make_case("released").folder, dtype="float32")
    model.stop_head.weight = speaker.model.stop_head.weight
    (result,) = model.generate(
        "Hello there.", **take.speech.clips, seed=3, inference_timesteps=2, min_tokens=4
    )
    whole = np.concatenate(pieces)
    assert len(pieces) > 3 and np.allclose(whole, np.array(result.audio), atol=1e-6)
    written, rate = soundfile.read(take.file, dtype="float32")
    assert rate == 48000 and np.abs(written - whole).max() < 1e-4
    assert (take.seed, take.reason, take.file.name) == (3, "stop", f"{mode}-seed-3.wav")
    assert f"({mode}, seed 3)" in take.report


def test_all_jobs_run_on_one_thread_that_is_not_the_callers(speakers):
    speaker, threads = speakers("always"), []
    first = asked_speech("zero-shot", "Hello.", {}, {"inference_timesteps": 2}, True)
    jobs = [speaker.speak(first, lambda _: threads.append(threading.get_ident())) for _ in range(3)]
    assert all(job.has_ended(60) for job in jobs)
    assert len(set(threads)) == 1 and threading.get_ident() not in threads
    seeds = {job.take().seed for job in jobs}
    assert len(seeds) == 3  # drawn, and told


@pytest.mark.parametrize("streamed", [True, False])
def test_stop_ends_the_work_and_keeps_what_was_heard(speakers, streamed):
    speaker, enough = speakers("never"), threading.Event()
    asked = asked_speech("zero-shot", "Word " * 50, {}, {"inference_timesteps": 2}, streamed)
    heard = []

    def hear(samples):
        heard.append(samples)
        if len(heard) == 3:
            enough.set()

    job = speaker.speak(asked, hear)
    while not enough.is_set() and job.seconds < 0.5:
        assert not job.has_ended(0.005)
    job.stop()
    begin = time.perf_counter()
    assert job.has_ended(10) and time.perf_counter() - begin < 5
    take = job.take()
    assert job.seconds < 20  # of 50 s at least
    if streamed:
        assert take.reason == "stopped" and "You stopped it" in take.report
        assert take.seconds == pytest.approx(sum(map(len, heard)) / 48000)
        speaker.keep_take(take, "stopped")
        assert Voice.load("stopped").prompt_text is None  # who knows which words were spoken
    else:
        assert take is None and not heard
    assert spoken(speaker, max_tokens=2)[0].seconds == pytest.approx(0.32)  # it speaks on


def test_a_job_that_waits_can_be_stopped(speakers):
    speaker = speakers("never")
    asked = asked_speech("zero-shot", "Word " * 50, {}, {"inference_timesteps": 2}, True)
    first, second = (speaker.speak(asked, lambda _: None) for _ in range(2))
    second.stop()
    assert second.has_ended() and second.take() is None and not second.has_begun
    first.stop()
    assert first.has_ended(10)


def test_a_long_text_is_spoken_segment_by_segment(speakers):
    speaker = speakers("always")
    take, pieces = spoken(speaker, text=LONG, min_tokens=20)
    assert len(pieces) > 1 and take.seconds == pytest.approx(sum(map(len, pieces)) / 48000)
    assert (take.seed, take.reason) == (3, "stop")
    speaker.keep_take(take, "anna")
    voice = Voice.load("anna")
    assert voice.prompt_text.startswith("One sentence is here")  # the end is too short
    assert len(take.sample.audio) <= len(pieces[0])
    assert voice.reference_seconds == pytest.approx(len(take.sample.audio) / 48000, abs=0.16)


def test_the_voice_of_a_take_is_kept_and_speaks(speakers):
    speaker = speakers("always")
    take, _ = spoken(speaker, "design", given={"instruct": "An old  man"}, min_tokens=4)
    file = speaker.keep_take(take, "grandpa")
    voice = Voice.load("grandpa")
    assert file.stem == "grandpa"
    assert (voice.prompt_text, voice.description) == ("Hello there.", "An old man")
    again, _ = spoken(speaker, "voice", given={"voice": "grandpa"})
    assert again.seconds > 0
    with pytest.raises(FileExistsError, match="exists already"):
        speaker.keep_take(take, "grandpa")


def test_the_voice_of_a_clip_is_kept_and_its_faults_are_told(speakers):
    speaker = speakers("always")
    soundfile.write("quiet.wav", speech(level=0.01), RATE, "FLOAT")
    _, notes = speaker.keep_clip({"ref_audio": "quiet.wav", "instruct": "sad"}, "quiet")
    assert Voice.load("quiet").prompt is None and "dB louder" in notes[0]
    _, notes = speaker.keep_clip(CLIP, "both")
    assert Voice.load("both").prompt_text == "What it says." and notes == ()


def test_a_poor_clip_and_a_guard_are_noted_beside_the_take(speakers):
    soundfile.write("quiet.wav", speech(level=0.01), RATE, "FLOAT")
    take, _ = spoken(
        speakers("always"), "reference", given={"ref_audio": "quiet.wav"}, fade_in=0.02
    )
    assert "is quiet" in take.notes[0] and "fade_in: 0.02 s" in take.notes
    report = take.report.splitlines()
    assert "the voice's clip is quiet" in report[1] and take.notes[-1] in report


def test_what_goes_wrong_is_raised_where_the_take_is_asked_for(speakers):
    speaker = speakers("always")
    with pytest.raises(FileNotFoundError, match=r"no file 'none.wav'"):
        spoken(speaker, "reference", given={"ref_audio": "none.wav"})
    assert spoken(speaker)[0] is not None  # and it speaks on


def test_a_model_that_can_not_be_loaded_says_so(tmp_path):
    def load():
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        Speaker(load, tmp_path)
