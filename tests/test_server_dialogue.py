"""Dialogues on the server: each speaker's voice by name, errors with lines, subtitles."""

import base64
import json
import re

import httpx
import numpy as np
import pytest
from conftest import relative_error

pytest.importorskip("uvicorn", reason="needs the extra 'server'")

from speech_server import LocalServer

from mlx_voxcpm2 import GenerationOptions, speak_dialogue
from mlx_voxcpm2.audio.reading import read_channels
from mlx_voxcpm2.server.dialogue import DialogueRequest
from mlx_voxcpm2.server.request import Limits

SHORT = {"max_tokens": 2, "seed": 5, "inference_timesteps": 1}
SCRIPT = "Anna: Hello there.\nBen (sad): Hi. [pause:0.5]\n(A door.)\nAnna: How are you?\nBen: Well."


@pytest.fixture(scope="module")
def server(released, anna_folder):
    aliases = {"host": "anna"}
    with LocalServer(released.folder, anna_folder / "voices", aliases=aliases) as server:
        yield server


@pytest.fixture
def post(server):
    """Function that sends a request, and returns the answer."""

    def post(script=SCRIPT, voices=None, path="/audio/dialogue", **fields):
        body = {"script": script, "voices": voices, "response_format": "wav", **SHORT, **fields}
        return httpx.post(server.url + path, json=body, timeout=60)

    return post


def decoded(content: bytes) -> np.ndarray:
    return read_channels(content)[0][:, 0]


def library(model, voices, script=SCRIPT, **options) -> np.ndarray:
    spoken = speak_dialogue(model, script, voices, **{**SHORT, **options})
    return np.concatenate([segment.audio for segment in spoken])


@pytest.mark.parametrize("stream", [True, False])
def test_a_dialogue_is_the_one_that_the_library_speaks(post, released, anna_folder, stream):
    file = anna_folder / "voices" / "anna.safetensors"
    answer = post(voices={"anna": "anna", "BEN": "design: low voice"}, stream=stream)
    assert answer.status_code == 200 and answer.headers["x-seed"] == "5"
    wanted = library(released.model, {"Anna": file, "Ben": "design: low voice"})
    ours = decoded(answer.content)
    assert len(ours) == len(wanted) and relative_error(ours, wanted) < 1e-2


def test_voices_may_be_a_list_aliases_and_openais_form(post, released, anna_folder):
    script = "Anna: Hi.\nBen: Yes."
    wanted = decoded(post(script, {"Anna": "anna", "Ben": "anna"}).content)
    for voices in (["host", "anna"], {"Ben": {"id": "host"}, "anna": "ANNA"}):
        np.testing.assert_array_equal(decoded(post(script, voices).content), wanted)


def test_a_speaker_without_a_voice_is_made_up_and_not_in_the_servers_own(released, anna_folder):
    voices = anna_folder / "voices"
    with LocalServer(released.folder, voices, default="anna") as server:
        body = {"script": SCRIPT, "response_format": "wav", **SHORT}
        answer = httpx.post(f"{server.url}/audio/dialogue", json=body, timeout=60)
    assert relative_error(decoded(answer.content), library(released.model, None)) < 1e-2


def test_pauses_and_speed_are_those_of_the_fields(post, released):
    script = "Anna: Hi.\nBen: Yes."
    short, long = (decoded(post(script, turn_pause=each).content) for each in (0.1, 0.4))
    assert len(long) - len(short) == round(0.3 * released.model.sample_rate)
    fast = decoded(post(script, turn_pause=0.1, speed=2).content)
    speech = len(short) - round(0.1 * released.model.sample_rate)
    assert len(short) - len(fast) == speech // 2


def test_subtitles_name_the_speakers(post, server):
    answer = post(subtitles="vtt", stream=False)
    file = httpx.get(server.url.removesuffix("/v1") + answer.headers["x-subtitles"]).text
    assert re.findall("<v (.*?)>(.*)", file) == [
        ("Anna", "Hello there."),
        ("Ben", "Hi."),
        ("Anna", "How are you?"),
        ("Ben", "Well."),
    ]
    events = post("Hello there.", subtitles="srt", stream_format="sse").text
    lines = [json.loads(line[6:]) for line in events.split("\n\n") if line]
    assert {line["type"] for line in lines} == {
        "speech.audio.delta",
        "speech.subtitles",
        "speech.audio.done",
    }
    (text,) = [line["text"] for line in lines if line["type"] == "speech.subtitles"]
    assert "Hello there." in text and "Speaker 1" not in text  # the script names nobody
    assert base64.b64decode(lines[0]["audio"]).startswith(b"RIFF")


@pytest.mark.parametrize(
    ("script", "voices", "words"),
    [
        ("", None, "the script has no words to speak"),
        ("Hello!\nAnna: Yes.\nAnna: No.", None, "line 1: 'Hello!' has no speaker"),
        ("Anna: Hi.\nBen:\nAnna: Yes.", None, "line 2: Ben says nothing"),
        ("Anna: Hi.\nBen: Yo [pause:x]", None, r"line 2: [pause:x] is no pause"),
        (SCRIPT, {"Anna": "carl"}, "voice of Anna: there is no voice 'carl'; there are: "),
        (SCRIPT, {"Anna": "../voices/anna.safetensors"}, "voice of Anna: there is no voice"),
        (SCRIPT, {"Anna": "clip.wav"}, "voice of Anna: there is no voice"),
        (SCRIPT, {"Anna": "design:"}, "voice of Anna: 'design:' describes no voice"),
        (SCRIPT, {"Anna": 5}, "voice of Anna: voice is 5; give a name"),
        (SCRIPT, {"Anna": " "}, "voice of Anna: it is empty"),
        (SCRIPT, {"Carl": "anna"}, "voices: nobody speaks as Carl"),
        (SCRIPT, ["anna"] * 3, "voices: 3 are given, and the script has 2 speakers"),
        (SCRIPT, "anna", "voices is 'anna'; it must be an object or a list"),
        (5, None, "script is 5; it must be a string"),
        ("Anna: " + "a" * 5000, None, "the input has 5006 characters, 4096 is the limit here"),
    ],
)
def test_invalid_requests_are_refused_in_one_line(post, script, voices, words):
    answer = post(script, voices)
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400 and words in message and "\n" not in message


def test_the_body_of_a_dialogue_is_checked_as_any(server, post):
    answer = httpx.post(f"{server.url}/audio/dialogue", json=[1])
    assert "send one, with script and voices" in answer.json()["error"]["message"]
    answer = post(input="Hello.", turn_pause=61)
    assert "turn_pause is 61" in answer.json()["error"]["message"]
    assert post(input="Hello.", stream=False).headers["x-ignored-fields"] == "input"
    limits = Limits("m", 4096, GenerationOptions(), is_strict=True)
    with pytest.raises(ValueError, match="voice_ids"):
        DialogueRequest.parse({"script": SCRIPT, "voice_ids": {}}, limits)


def test_the_route_and_its_fields_are_documented(server):
    address = server.url.removesuffix("/v1")
    paths = httpx.get(f"{address}/openapi.json").json()["paths"]
    content = paths["/v1/audio/dialogue"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    assert schema["required"] == ["script"] and {"voices", "turn_pause", "seed", "subtitles"} <= {
        *schema["properties"]
    }
    assert "input" not in schema["properties"]
    page = httpx.get(f"{address}/docs").text
    assert "POST /v1/audio/dialogue" in page and "<code>turn_pause" in page
