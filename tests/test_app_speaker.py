"""Speech for the page, by the model's thread."""

import asyncio

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile
from voice_clips import RATE, speech

from mlx_voxcpm2 import Voice, load_model
from mlx_voxcpm2.app.dialogue_inputs import PageDialogue
from mlx_voxcpm2.app.inputs import PageRequest
from mlx_voxcpm2.app.progress import Pace
from mlx_voxcpm2.app.speaker import Speaker
from mlx_voxcpm2.app.take_writer import TakeWriter
from mlx_voxcpm2.server.model_thread import ModelThread
from mlx_voxcpm2.server.tasks import SpeechAudio
from mlx_voxcpm2.text.vocabulary import KnownWords
from mlx_voxcpm2.voices.inputs import VoiceInputs

LONG = (
    "One sentence is here, and it goes on for a while so that it is long enough. " * 5
    + "\n\nThe end."
)


@pytest.fixture(scope="module")
def speakers(make_case, tmp_path_factory):
    """Function that makes a speaker whose model ends as soon as it may, or never."""
    made, case = {}, make_case("released")

    def make(which: str) -> Speaker:
        def load():
            model = load_model(case.folder, dtype="float32")
            model.stop_head.weight = mx.array(checkpoints.stop_head(which, case.config))
            return model

        if which not in made:
            made[which] = Speaker(ModelThread(load), tmp_path_factory.mktemp("takes"))
        return made[which]

    yield make
    for speaker in made.values():
        speaker.thread.close()


@pytest.fixture(autouse=True)
def own_voices(voice_folder):
    pass


CLIP = (speech(2.53), RATE)
CLIP_VOICE = {"kind": "clip", "clip": "c", "words": "What it says."}
VOICES = {
    "zero-shot": {"kind": "any"},
    "design": {"kind": "described", "description": "An old man"},
    "reference": {**CLIP_VOICE, "style": "sad"},
    "continuation": {**CLIP_VOICE, "continues": True, "clones": False},
    "combined": {**CLIP_VOICE, "continues": True},
}


def request(voice=None, text="Hello there.", stream=True, **settings):
    settings = {"seed": "3", "inference_timesteps": 2, **settings}
    body = {"text": text, "voice": voice or {"kind": "any"}, "settings": settings, "stream": stream}
    return PageRequest.parse(body, {"c": CLIP}.__getitem__)


async def heard(job):
    return [samples async for samples in job.audio()]


def spoken(speaker, *given, **more):
    """Take of a request, and its chunks."""

    async def speak():
        job = speaker.speak(request(*given, **more))
        return await heard(job), job

    chunks, job = asyncio.run(speak())
    return job.take, [each for each in chunks if len(each)]


@pytest.mark.parametrize("mode", list(VOICES))
def test_a_take_has_the_librarys_audio(speakers, make_case, mode):
    speaker = speakers("always")
    take, chunks = spoken(speaker, VOICES[mode], min_tokens=4)
    model = load_model(make_case("released").folder, dtype="float32")
    model.stop_head.weight = speaker.thread.model.stop_head.weight
    given = request(VOICES[mode]).voice.given()
    (result,) = model.generate("Hello there.", **given, seed=3, inference_timesteps=2, min_tokens=4)
    whole = np.concatenate(chunks)
    assert len(chunks) > 3 and np.allclose(whole, np.array(result.audio), atol=1e-5)
    written, rate = soundfile.read(take.file, dtype="float32")
    assert rate == 48000 and np.abs(written - whole).max() < 1e-4
    assert (take.seed, take.finish_reason, take.request.choice.mode) == (3, "stop", mode)
    assert take.duration == len(whole) / rate and len(take.peaks) == 72
    assert take.request.voice.ref_audio is None  # the clip's samples are not kept


def test_requests_are_spoken_together_with_seeds_of_their_own(speakers):
    speaker = speakers("always")

    async def speak():
        jobs = [speaker.speak(request(seed="", text=text)) for text in ("One.", "Two.", "Three.")]
        await asyncio.gather(*map(heard, jobs))
        return [job.take for job in jobs]

    takes = asyncio.run(speak())
    assert len({take.seed for take in takes}) == 3  # drawn, and reported
    assert [take.request.text for take in takes] == ["One.", "Two.", "Three."]


def test_words_and_descriptions_that_a_small_voice_lacks_are_noted(speakers, monkeypatch):
    speaker = speakers("always")
    known = KnownWords(["one", "two"], ["low voice"])
    monkeypatch.setattr(speaker.thread.model.request_builder, "vocabulary", known)
    described = {"kind": "described", "description": "warm"}
    faults_of = speaker.thread.faults
    for _ in range(2):
        first, second = faults_of(request(described, "One three.").task())
        assert "'three'" in first and "the description 'warm'; it knows low voice" in second
    script = {"script": "A: One.\nB (sad): Two.", "settings": {}, "voices": {"A": described}}
    faults = faults_of(PageDialogue.parse(script, {}.__getitem__).task())
    assert ["'warm'" in faults[0], "'sad'" in faults[1], len(faults)] == [True, True, 2]
    assert not faults_of(request({**described, "description": "Low voice"}, "One.").task())


def test_stop_ends_a_stream_and_keeps_the_audio_so_far(speakers):
    speaker = speakers("never")

    async def speak():
        job, chunks = speaker.speak(request(text="Word " * 50)), []
        async for samples in job.audio():
            chunks.append(samples)
            if len(chunks) == 3:
                assert job.has_begun and job.seconds > 0
                job.stop()
        return job.take, chunks

    take, chunks = asyncio.run(speak())
    assert take.finish_reason == "stopped" and "You stopped it" in take.remarks[0]
    assert take.duration == pytest.approx(sum(map(len, chunks)) / 48000)
    assert take.duration < 20  # of 50 s at least
    voice = asyncio.run(speaker.voice_of_take(take))
    assert voice.prompt_text is None  # the spoken words are unknown
    assert spoken(speaker, max_tokens=2)[0].duration == pytest.approx(0.32)  # the thread goes on


def test_a_job_stopped_before_any_audio_has_no_take_and_leaves_no_file(speakers):
    speaker = speakers("never")
    before = set(speaker.folder.iterdir())

    async def speak():
        job = speaker.speak(request(text="Word " * 50, stream=False))
        job.stop()
        return await heard(job), job.take

    assert asyncio.run(speak()) == ([], None)
    assert set(speaker.folder.iterdir()) == before


def test_a_reader_who_leaves_ends_the_work_and_leaves_no_file(speakers):
    speaker = speakers("never")
    before = set(speaker.folder.iterdir())

    async def speak():
        job = speaker.speak(request(text="Word " * 50, min_tokens=300))
        audio = job.audio()
        await anext(audio)
        await audio.aclose()
        while speaker.thread.unfinished:
            await asyncio.sleep(0.01)
        assert job.seconds < 20  # of 48 s at least

    asyncio.run(asyncio.wait_for(speak(), 20))
    assert set(speaker.folder.iterdir()) == before


def test_a_long_text_is_spoken_in_segments_that_have_subtitles_and_a_voice(speakers):
    speaker = speakers("always")
    take, chunks = spoken(speaker, text=LONG, min_tokens=8)
    assert take.duration == pytest.approx(sum(map(len, chunks)) / 48000)
    assert (take.seed, take.finish_reason) == (3, "stop")
    assert len(take.passages) > 1 and take.passages[-1].text == "The end."
    subtitles = take.subtitles(".srt")
    assert subtitles.startswith("1\n00:00:0") and subtitles.rstrip().endswith("The end.")
    voice = asyncio.run(speaker.voice_of_take(take))
    assert voice.prompt_text.startswith("One sentence is here")  # the end is too short
    assert voice.reference_seconds < take.duration / 2


@pytest.mark.parametrize("pause", [0.5, 2.25])
@pytest.mark.parametrize("stream", [True, False])
def test_subtitles_and_the_voice_begin_after_a_pause_in_front(speakers, pause, stream):
    text = f"[pause:{pause}] Hello there. [pause:{pause}] Bye."
    take, _ = spoken(speakers("always"), text=text, stream=stream, min_tokens=8)
    hello, bye = take.passages
    assert hello.start == pause and hello.end > pause + 0.5
    assert bye.start == pytest.approx(hello.end + pause) and bye.end == pytest.approx(take.duration)
    sound, rate = take.sound()
    speech = sound[round(hello.start * rate) : round(hello.end * rate)]
    assert len(take.excerpt.audio) == len(speech)
    assert np.abs(take.excerpt.audio - speech).max() < 1e-4


def test_a_take_that_is_stopped_in_a_pause_in_front_has_no_voice(speakers, tmp_path):
    speaker, silence = speakers("always"), SpeechAudio(np.zeros(480, np.float32), is_pause=True)
    writer = TakeWriter(tmp_path, 48000)
    writer.write(silence)
    take = writer.take(request(text="[pause:1] Hello."), "stopped", 1.0)
    writer.close(is_kept=True)
    assert take.duration == take.passages[0].start == take.passages[0].end == 0.01
    assert take.subtitles(".srt") is not None
    with pytest.raises(ValueError, match="the speech"):
        asyncio.run(speaker.voice_of_take(take))


def test_the_voice_of_a_take_is_kept_used_and_heard(speakers):
    speaker = speakers("always")
    take, _ = spoken(speaker, VOICES["design"], min_tokens=4)
    asyncio.run(speaker.voice_of_take(take)).save("grandpa")
    voice = Voice.load("grandpa")
    assert (voice.prompt_text, voice.description) == ("Hello there.", "An old man")
    again, _ = spoken(speaker, {"kind": "saved", "voice": "grandpa"})
    assert again.duration > 0
    sound = asyncio.run(speaker.sound_of_voice("grandpa"))
    assert len(sound) / 48000 == pytest.approx(take.duration, abs=0.2)
    assert np.abs(sound).max() > 0


def test_the_voice_of_a_clip_is_made_and_its_problems_are_told(speakers):
    speaker = speakers("always")
    quiet = VoiceInputs("sad", (speech(level=0.01), RATE))
    voice, notes = asyncio.run(speaker.voice_of_clip(quiet))
    assert voice.prompt is None and "dB louder" in notes[0]
    both = request({**CLIP_VOICE, "continues": True}).voice
    voice, notes = asyncio.run(speaker.voice_of_clip(both))
    assert voice.prompt_text == "What it says." and notes == ()


def test_the_guards_actions_are_told(speakers):
    take, _ = spoken(speakers("always"), fade_in=0.02)
    assert "fade_in: 0.02 s" in take.notes and take.notes[-1] in take.remarks


def test_the_length_of_speech_is_learnt(speakers, monkeypatch):
    speaker, text = speakers("always"), "Hello there, how do you do?"
    monkeypatch.setattr(speaker, "pace", Pace())
    guess = speaker.pace.expected(text)
    take, _ = spoken(speaker, text=text, min_tokens=4)
    assert abs(speaker.pace.expected(text) - take.duration) < abs(guess - take.duration)


def test_a_fast_take_has_the_voice_of_the_usual_one(speakers):
    speaker = speakers("always")
    usual, _ = spoken(speaker, min_tokens=8)
    fast, _ = spoken(speaker, min_tokens=8, speed=2)
    assert fast.duration == pytest.approx(usual.duration / 2, rel=0.05)
    assert fast.passages[0].end == pytest.approx(fast.duration)
    assert np.abs(fast.excerpt.audio - usual.excerpt.audio).max() < 1e-3


def test_a_take_is_encoded_as_other_files(speakers):
    take, _ = spoken(speakers("always"), min_tokens=4)
    assert take.encoded("flac")[:4] == b"fLaC" and len(take.encoded("mp3")) > 100
    assert take.file_name == "zero-shot-seed-3"
    take.remove()
    assert not take.file.exists()
