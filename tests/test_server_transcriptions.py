"""POST /v1/audio/transcriptions, with a recogniser that knows its clip."""

import asyncio
import io
import threading

import numpy as np
import pytest
import soundfile

pytest.importorskip("uvicorn", reason="needs the extra 'server'")
pytest.importorskip("openai", reason="needs the extra 'test'")

import openai
from speech_server import LocalServer
from voice_clips import RATE, speech

from mlx_voxcpm2.audio import reading
from mlx_voxcpm2.recognition.word_times import WordTime
from mlx_voxcpm2.server.streams import SpeechError
from mlx_voxcpm2.server.transcription import RecogniserThread

WORDS = "One of them is here. Two of them are there."


class Recogniser:
    """Knows what is said, and when the first two words are. Fails at full scale."""

    def __init__(self, heard: list, language: str | None = None):
        self.heard, self.language = heard, language

    def __call__(self, audio: np.ndarray, rate: int) -> str:
        if np.abs(audio).max() > 0.99:
            raise ValueError("the recogniser fails; give another clip")
        self.heard.append((audio, rate, threading.current_thread().name, self.language))
        return f" {WORDS}\n" if np.abs(audio).max() > 0.01 else ""

    def with_language(self, language: str) -> "Recogniser":
        if len(language) > 2:
            raise ValueError(f"language is {language!r}; give two letters")
        return Recogniser(self.heard, language)

    def words(self, audio: np.ndarray, rate: int) -> list[WordTime]:
        return [WordTime(" One", 0.1, 0.25), WordTime(" of", 0.25, 0.5)]


@pytest.fixture(scope="module")
def heard() -> list:
    return []


@pytest.fixture(scope="module")
def server(released, anna_folder, heard):
    thread = RecogniserThread(lambda: Recogniser(heard))
    with LocalServer(released.folder, anna_folder / "voices", recogniser=thread) as server:
        yield server
    thread.close()


@pytest.fixture(scope="module")
def clip() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, speech(2.0), RATE, format="FLAC")
    return file.getvalue()


def transcribe(server, clip, **fields):
    create = server.client().audio.transcriptions.create
    return create(model="whisper-1", file=("clip.flac", clip), **fields)


def test_the_words_of_a_clip(server, clip, heard):
    assert transcribe(server, clip).text == WORDS
    audio, rate, name, language = heard[-1]
    assert rate == 16000 and len(audio) == 32000 and language is None
    assert name.startswith("recogniser")  # speech goes on in the model's thread


def test_a_clip_is_decoded_when_its_turn_has_come(server, clip, monkeypatch):
    """The sound of all clips that wait would fill the memory."""
    names, decode = [], reading.decode

    def noting(*args):
        names.append(threading.current_thread().name)
        return decode(*args)

    monkeypatch.setattr(reading, "decode", noting)
    assert transcribe(server, clip).text == WORDS
    assert len(names) == 1 and names[0].startswith("recogniser")


class BusyRecogniser:
    """Is given pieces of half a minute, and goes on when it is released."""

    def __init__(self):
        self.pieces = 0
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self, audio: np.ndarray, rate: int) -> str:
        self.pieces += 1
        self.begun.set()
        assert self.released.wait(20)
        return WORDS


MINUTES = np.tile(speech(2.0), 60)  # at another rate: what counts is that there are pieces


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_transcription_ends_when_it_is_cancelled_or_the_server_ends(is_closed):
    recogniser = BusyRecogniser()
    thread = RecogniserThread(lambda: recogniser)

    async def stop() -> None:
        task = asyncio.create_task(thread.transcribe(MINUTES))
        assert await asyncio.to_thread(recogniser.begun.wait, 20)
        if is_closed:
            closing = asyncio.create_task(asyncio.to_thread(thread.close))
            await asyncio.to_thread(thread._is_closed.wait, 20)
            recogniser.released.set()
            await closing
            with pytest.raises(SpeechError, match="stopped"):
                await task
            return
        task.cancel()
        await asyncio.wait([task])
        recogniser.released.set()
        assert (await thread.transcribe(MINUTES[:RATE])).text == WORDS

    asyncio.run(stop())
    thread.close()
    assert recogniser.pieces == (1 if is_closed else 2), "it goes on for nobody"


def test_the_formats_of_openais_service(server, clip):
    assert transcribe(server, clip, response_format="text").strip() == WORDS
    titles = transcribe(server, clip, response_format="srt")
    assert titles.startswith("1\n00:00:0") and "Two of them are there." in titles
    assert transcribe(server, clip, response_format="vtt").startswith("WEBVTT")
    verbose = transcribe(server, clip, response_format="verbose_json")
    assert verbose.duration == 2.0 and verbose.text == WORDS
    times = [(each.start, each.end) for each in verbose.segments]
    assert 0 <= times[0][0] < times[0][1] <= times[1][0] < times[1][1] <= 2.0
    assert verbose.words is None and verbose.language == ""


def test_the_language_is_the_recognisers(server, clip, heard):
    verbose = transcribe(server, clip, language="de", response_format="verbose_json")
    assert verbose.language == heard[-1][3] == "de"


def test_words_have_times_if_they_are_asked_for(server, clip):
    wanted = {"response_format": "verbose_json", "timestamp_granularities": ["word"]}
    verbose = transcribe(server, clip, **wanted)
    assert [(each.word, each.start, each.end) for each in verbose.words] == [
        ("One", 0.1, 0.25),
        ("of", 0.25, 0.5),
    ]
    assert verbose.text == WORDS and not verbose.segments
    wanted["timestamp_granularities"] = ["word", "segment"]
    verbose = transcribe(server, clip, **wanted)
    assert len(verbose.words) == 2 and len(verbose.segments) == 2


def test_a_stream_sends_the_text_as_it_is_recognised(server, heard):
    file, before = io.BytesIO(), len(heard)
    soundfile.write(file, np.tile(speech(2.0), 20), RATE, format="FLAC")
    events = list(transcribe(server, file.getvalue(), stream=True))
    assert [each.type for each in events] == ["transcript.text.delta"] * 2 + [
        "transcript.text.done"
    ]
    assert events[-1].text == f"{WORDS} {WORDS}" == events[0].delta + events[1].delta
    assert len(heard) == before + 2, "in pieces of half a minute"
    silent = io.BytesIO()
    soundfile.write(silent, np.zeros(RATE), RATE, format="WAV")
    assert [each.text for each in transcribe(server, silent.getvalue(), stream=True)] == [""]


def test_a_clip_without_words_has_an_empty_transcript(server):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(RATE), RATE, format="WAV")
    assert transcribe(server, file.getvalue()).text == ""
    assert transcribe(server, file.getvalue(), response_format="verbose_json").segments == []


def test_a_stream_that_fails_ends_with_the_error(server):
    file, samples = io.BytesIO(), np.tile(speech(2.0), 20)
    samples[-RATE:] = np.sign(np.sin(np.arange(RATE)))
    soundfile.write(file, samples, RATE, format="FLAC")
    stream = iter(transcribe(server, file.getvalue(), stream=True))
    assert next(stream).delta == WORDS
    with pytest.raises(openai.APIError, match="the recogniser fails; give another clip"):
        next(stream)


def test_unknown_fields_are_named(server, clip):
    answer = server.client().audio.transcriptions.with_raw_response.create(
        model="x", file=("clip.flac", clip), language="en", temperature=0.5
    )
    assert answer.headers["x-ignored-fields"] == "temperature"


@pytest.mark.parametrize(
    ("content", "fields", "words"),
    [
        (b"no sound", {}, "file: the content cannot be read as audio"),
        (b"", {}, "file is empty"),
        (None, {"response_format": "ass"}, "it must be one of json, text"),
        (None, {"language": "german"}, "language is 'german'; give two letters"),
        (None, {"language": "german", "stream": True}, "language is 'german'"),
        (None, {"response_format": "srt", "stream": True}, "stream sends text, and no srt"),
        (None, {"timestamp_granularities": ["word"]}, "for response_format 'verbose_json'"),
        (
            None,
            {"timestamp_granularities": ["letter"], "response_format": "verbose_json"},
            "'letter'; it must be one of segment, word",
        ),
    ],
)
def test_what_cannot_be_transcribed_is_said(server, clip, content, fields, words):
    with pytest.raises(openai.BadRequestError, match=words):
        transcribe(server, clip if content is None else content, **fields)


def test_a_body_that_is_no_form_is_refused(server):
    post = server.client()._client.post
    url = f"{server.url}/audio/transcriptions"
    assert post(url, json={"file": "x"}).status_code == 415
    kind = {"content-type": "multipart/form-data"}
    assert post(url, content=b"x", headers=kind).status_code == 400
    assert post(url, data={"model": "x"}, files={"other": b"x"}).status_code == 400
