"""Clients that know nothing but the base URL: names of voices, models, fields and paths."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'server'")
pytest.importorskip("openai", reason="needs the extra 'test'")

import openai
from speech_server import LocalServer

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.server.openai_voices import DESCRIPTIONS, known_description
from mlx_voxcpm2.text.vocabulary import KnownWords

# One per name of OpenAI's documentation.
OPENAI_VOICES = "alloy ash ballad coral echo fable onyx nova sage shimmer verse marin cedar".split()
CHEAP = GenerationOptions(max_tokens=5, inference_timesteps=2, seed=1)
TEXT = "Hello there, how do you do?"


@pytest.fixture(scope="module")
def voices(anna_folder, tmp_path_factory):
    """Folder with the saved voices anna and echo, the same clip."""
    folder = tmp_path_factory.mktemp("data") / "voices"
    folder.mkdir()
    for name in ("anna", "echo"):
        shutil.copy(anna_folder / "voices" / "anna.safetensors", folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def server(released, voices):
    design = CHEAP.with_retries_unless(stream=True)
    fields = {"options": CHEAP, "design": design, "aliases": {"af_heart": "anna", "fable": "anna"}}
    with LocalServer(released.folder, voices, **fields) as server:
        yield server


def speak(server, voice, **fields) -> bytes:
    fields = {"model": "tts-1", "input": TEXT, "response_format": "pcm", **fields}
    return server.client().audio.speech.create(voice=voice, **fields).content


def test_openais_names_are_described_each_in_its_own_way():
    assert set(OPENAI_VOICES) == DESCRIPTIONS.keys()
    assert len(set(DESCRIPTIONS.values())) == len(DESCRIPTIONS)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (["low voice", "man", "woman", "high voice"], ["woman", "low voice", "man", "high voice"]),
        (["woman", "man", "child"], ["woman", "man", "man", "woman"]),
        ([], [None] * 4),
    ],
)
def test_a_small_voice_has_each_by_a_description_that_it_knows(known, expected):
    names = ("alloy", "onyx", "verse", "nova")
    assert [known_description(name, known) for name in names] == expected
    assert all(known_description(name, known) for name in DESCRIPTIONS) is bool(known)


def test_all_of_openais_voices_speak_each_always_in_the_same_voice(server, voices):
    names = [*OPENAI_VOICES, "alloy", "cedar", "verse"]
    with ThreadPoolExecutor(len(names)) as pool:
        sounds = list(pool.map(lambda name: speak(server, name), names))
    first = dict(zip(names[: len(OPENAI_VOICES)], sounds, strict=False))
    for name, again in zip(names[len(first) :], sounds[len(first) :], strict=True):
        ours, theirs = (np.frombuffer(each, "<i2").astype(int) for each in (first[name], again))
        assert len(ours) == len(theirs) and np.abs(ours - theirs).max() <= 1
    designed = {name for name in OPENAI_VOICES if name not in ("echo", "fable")}
    assert {file.stem for file in (voices / ".openai").iterdir()} == designed
    assert len({sound[:200] for sound in first.values()}) >= len(designed)


def test_descriptions_that_a_small_voice_knows_name_its_voices(server, monkeypatch):
    known = KnownWords(TEXT.lower().replace(",", "").rstrip("?").split(), ["man", "echo"])
    monkeypatch.setattr(server.thread.model.request_builder, "vocabulary", known)
    assert speak(server, "Man") == speak(server, "default", instructions="man")
    assert speak(server, "man") != speak(server, "default")
    assert speak(server, "echo") == speak(server, "anna")  # a saved voice goes before
    listed = server.client()._client.get(f"{server.url}/audio/voices").json()["voices"]
    assert [each["id"] for each in listed][:6] == "default af_heart fable anna echo man".split()


@pytest.mark.parametrize("stream", [True, False])
def test_a_header_says_what_is_left_out_of_the_text(server, monkeypatch, stream):
    known = KnownWords(["hello"], ["man"])
    monkeypatch.setattr(server.thread.model.request_builder, "vocabulary", known)
    url, body = f"{server.url}/audio/speech", {"stream": stream, "instructions": "wärm"}

    def warnings(text, **fields):
        answer = server.client()._client.post(url, json={"input": text, **body, **fields})
        assert answer.status_code == 200
        return answer.headers.get("x-warnings")

    told = "this voice does not know 'caf%C3%A9'; it knows 1 words, such as hello"
    description = "this voice does not know the description 'w%C3%A4rm'; it knows man"
    assert warnings("Hello café.") == f"{told} | {description}"
    assert warnings("Hello.", instructions="man") is None
    assert len(warnings("Hello " + "é" * 200)) == 1000


def test_aliases_and_saved_voices_go_before_openais_names(server):
    assert speak(server, "fable") == speak(server, "echo") == speak(server, "anna")


def test_a_designed_voice_is_kept_and_made_again_if_its_file_is_damaged(server, released, voices):
    before, file = speak(server, "onyx"), voices / ".openai" / "onyx.safetensors"
    written, content = file.stat().st_mtime_ns, file.read_bytes()
    fields = {"thread": server.thread, "options": CHEAP, "design": server.design}
    with LocalServer(released.folder, voices, **fields) as again:
        assert speak(again, "onyx") == before
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"damaged")
    with LocalServer(released.folder, voices, **fields) as again:
        assert len(speak(again, "onyx")) == len(before)
    assert len(file.read_bytes()) == len(content)


@pytest.mark.parametrize("voice", [None, "", "default", {"id": "anna"}, {"name": "anna"}, {}])
def test_a_voice_may_be_a_name_an_object_or_empty(server, voice):
    url, body = f"{server.url}/audio/speech", {"input": TEXT, "voice": voice}
    answer = server.client()._client.post(url, json={**body, "response_format": "PCM"})
    assert answer.status_code == 200
    expected = speak(server, "anna" if voice and "anna" in str(voice) else "default")
    assert answer.content == expected


SHAPES = {
    "Open WebUI": {"model": "tts-1-hd", "input": TEXT, "voice": "alloy"},
    "SillyTavern": {
        "model": "tts-1",
        "input": TEXT,
        "voice": "nova",
        "response_format": "mp3",
        "speed": 1,
    },
    "Home Assistant": {
        "model": "gpt-4o-mini-tts",
        "input": TEXT,
        "voice": "marin",
        "instructions": "Speak calmly",
        "speed": 1.0,
        "response_format": "opus",
    },
    "Kokoro-FastAPI": {
        "model": "kokoro",
        "input": TEXT,
        "voice": "af_heart",
        "response_format": "mp3",
        "download_format": "mp3",
        "speed": 1.0,
        "stream": True,
        "return_download_link": True,
        "lang_code": "a",
        "volume_multiplier": 1.0,
        "normalization_options": {"normalize": True},
    },
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("path", ["/v1/audio/speech", "/audio/speech"])
def test_requests_of_usual_programs_are_spoken(server, name, path):
    address = server.url.removesuffix("/v1") + path
    answer = server.client()._client.post(address, json=SHAPES[name])
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("audio/") and len(answer.content) > 500
    ignored = answer.headers.get("x-ignored-fields", "")
    assert ("lang_code" in ignored) == (name == "Kokoro-FastAPI")


def test_the_openai_client_has_all_its_routes(server):
    client = server.client()
    assert [model.id for model in client.models.list()] == [server.model]
    assert client.models.retrieve(server.model).id == server.model
    assert client.models.retrieve("tts-1").id == "tts-1"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-5")
    assert missing.value.code == "model_not_found"
    events = client.audio.speech.create(
        model="x", voice="anna", input=TEXT, response_format="pcm", stream_format="sse"
    )
    assert b"speech.audio.done" in events.content


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("HEAD", "/v1/models", 200),
        ("HEAD", "/v1/audio/voices", 200),
        ("GET", "/v1/audio/models", 200),
        ("GET", "/audio/voices", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("HEAD", "/", 200),
        ("GET", "/v1", 200),
        ("GET", "/v1/audio/speech", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 404),
        ("POST", "/v1/audio/transcriptions", 404),
    ],
)
def test_what_is_asked_for_beside_speech(server, method, path, status):
    address = server.url.removesuffix("/v1") + path
    answer = server.client()._client.request(method, address)
    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["error"]["message"]
    if method == "HEAD":
        assert not answer.content


def test_without_a_recogniser_a_request_for_a_transcript_is_told_the_flag(server):
    answer = server.client()._client.post(f"{server.url}/audio/transcriptions")
    assert "--asr_model" in answer.json()["error"]["message"]


def test_the_documentation_names_every_field(server):
    root = server.url.removesuffix("/v1")
    schema = server.client()._client.get(f"{root}/openapi.json").json()
    body = schema["paths"]["/v1/audio/speech"]["post"]["requestBody"]["content"]
    fields = body["application/json"]["schema"]["properties"]
    assert {"input", "voice", "instruct", "seed", "cfg_value", "subtitles", "adapter"} <= {*fields}
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"] and "default" in operation["responses"]
    assert {*schema["paths"]["/metrics"]["get"]["responses"]["200"]["content"]} == {"text/plain"}
    page = server.client()._client.get(f"{root}/docs").text
    assert "<script" not in page and all(f"<code>{name}</code>" in page for name in fields)


def test_numbers_for_prometheus_count_requests(server):
    speak(server, "anna")
    text = server.client()._client.get(server.url.replace("/v1", "/metrics")).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(lines['voxcpm2_requests_total{kind="speech",status="200"}']) >= 1
    count = float(lines["voxcpm2_first_byte_seconds_count"])
    assert float(lines['voxcpm2_first_byte_seconds_bucket{le="+Inf"}']) == count >= 1
    assert float(lines["voxcpm2_audio_seconds_total"]) > 0


def test_each_request_is_one_line_of_the_log_that_it_cannot_fake(server, caplog):
    caplog.set_level("INFO", "mlx_voxcpm2.requests")
    speak(server, "anna")
    with pytest.raises(openai.BadRequestError):
        speak(server, "x\nid=req_1 status=200")
    while len(caplog.records) < 2:  # it is written after the last byte
        time.sleep(0.01)
    done, refused = (record.getMessage() for record in caplog.records)
    assert 'voice="anna"' in done and "status=200" in done and "first_byte=0." in done
    assert "status=400" in refused and "\n" not in refused and "first_byte=-" in refused


def test_a_strict_server_refuses_what_it_does_not_know(server, released, voices):
    fields = {"thread": server.thread, "options": CHEAP, "is_strict": True}
    with LocalServer(released.folder, voices, **fields) as strict:
        assert speak(strict, "anna", model=strict.model)
        with pytest.raises(openai.NotFoundError, match="there is no model 'tts-1'") as missing:
            speak(strict, "anna")
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="sead is not known; did you mean seed"):
            speak(strict, "anna", model=strict.model, extra_body={"sead": 1})
        with pytest.raises(openai.NotFoundError):
            strict.client().models.retrieve("tts-1")
