"""POST /v1/audio/transcriptions, with a recogniser that knows its clip."""

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

from mlx_voxcpm2.server.transcription import RecogniserThread

WORDS = "One of them is here. Two of them are there."


@pytest.fixture(scope="module")
def heard() -> list:
    return []


@pytest.fixture(scope="module")
def server(released, anna_folder, heard):
    def recogniser(audio: np.ndarray, rate: int) -> str:
        heard.append((audio, rate, threading.current_thread().name))
        return f" {WORDS}\n" if np.abs(audio).max() > 0.01 else ""

    thread = RecogniserThread(lambda: recogniser)
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
    audio, rate, name = heard[-1]
    assert rate == 16000 and len(audio) == 32000
    assert name.startswith("recogniser")  # speech goes on in the model's thread


def test_the_formats_of_openais_service(server, clip):
    assert transcribe(server, clip, response_format="text").strip() == WORDS
    titles = transcribe(server, clip, response_format="srt")
    assert titles.startswith("1\n00:00:0") and "Two of them are there." in titles
    assert transcribe(server, clip, response_format="vtt").startswith("WEBVTT")
    verbose = transcribe(server, clip, response_format="verbose_json")
    assert verbose.duration == 2.0 and verbose.text == WORDS
    times = [(each.start, each.end) for each in verbose.segments]
    assert 0 <= times[0][0] < times[0][1] <= times[1][0] < times[1][1] <= 2.0


def test_a_clip_without_words_has_an_empty_transcript(server):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(RATE), RATE, format="WAV")
    assert transcribe(server, file.getvalue()).text == ""
    assert transcribe(server, file.getvalue(), response_format="verbose_json").segments == []


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
