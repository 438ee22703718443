"""The server, tested with the official OpenAI client."""

import base64
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from changed_options import CHANGED

pytest.importorskip("uvicorn", reason="needs the extra 'server'")
pytest.importorskip("openai", reason="needs the extra 'test'")

import openai
from openai import BadRequestError, InternalServerError
from speech_server import LocalServer

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.audio.encoding import MEDIA_TYPES
from mlx_voxcpm2.audio.reading import read_channels
from mlx_voxcpm2.audio.stretching import stretched
from mlx_voxcpm2.peers.tables import aliases_of
from mlx_voxcpm2.server.body import SPEECH
from mlx_voxcpm2.server.request import Limits, SpeechRequest
from mlx_voxcpm2.server.tasks import SegmentQueue, SpeechTask
from mlx_voxcpm2.speech.results import Chunk
from mlx_voxcpm2.text.segments import split_text
from mlx_voxcpm2.voices.inputs import VoiceInputs

SHORT = {"max_tokens": 5, "seed": 5, "inference_timesteps": 2}
TEXT = "Hello there, how do you do?"
LONG = "Hello there, how do you do? " * 10


@pytest.fixture(scope="module")
def clip_bytes(anna_folder) -> bytes:
    """Content of a WAV file."""
    return (anna_folder / "clip.wav").read_bytes()


@pytest.fixture(scope="module")
def server_voices(anna_folder) -> Path:
    return anna_folder / "voices"


@pytest.fixture(scope="module")
def server(released, server_voices):
    with LocalServer(released.folder, server_voices) as server:
        yield server


@pytest.fixture(scope="module")
def speak(server):
    """Function that returns the content of a response."""
    create = server.client().audio.speech.create

    def speak(text=TEXT, voice="default", response_format="wav", body=SHORT, **fields) -> bytes:
        fields |= {"voice": voice, "response_format": response_format, "extra_body": body}
        return create(model=server.model, input=text, **fields).content

    return speak


def decoded(content: bytes) -> np.ndarray:
    return read_channels(content)[0][:, 0]


WHOLE = {**SHORT, "stream": False}


def generated(model, text=TEXT, **options) -> np.ndarray:
    """Audio that the library generates with the options SHORT."""
    (result,) = model.generate(text, **{**SHORT, **options})
    return np.array(result.audio).clip(-1, 1)


def assert_same_audio(ours: np.ndarray, theirs: np.ndarray):
    """Assert that two signals are equal up to the rounding to 16 bits."""
    assert len(ours) == len(theirs)
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_every_format_has_the_librarys_audio(name, speak, released):
    content, whole = speak(response_format=name, body=WHOLE), generated(released.model)
    rate = released.model.sample_rate
    if name == "pcm":  # as OpenAI's: 24 kHz, 16 bits
        samples = np.frombuffer(content, "<i2") / 2**15
        assert len(samples) == len(whole) // 2
        assert soundfile.info(io.BytesIO(speak())).samplerate == rate == 48000
        return
    samples = decoded(content)
    assert abs(len(samples) - len(whole)) < 0.05 * rate
    if name in ("wav", "flac"):
        assert_same_audio(samples, whole)


@pytest.mark.parametrize("name", ["wav", "pcm", "mp3", "opus", "aac", "flac"])
def test_sound_comes_as_it_is_made_and_is_the_same_speech(name, server, speak):
    body = {**SHORT, "max_tokens": 12}
    create = server.client().audio.speech.with_streaming_response.create
    with create(
        model=server.model, input=LONG, voice="default", response_format=name, extra_body=body
    ) as answer:
        chunks = list(answer.iter_bytes())
        assert answer.headers["content-type"] == MEDIA_TYPES[name]
        assert answer.headers["x-seed"] == "5"
    assert len(chunks) > (2 if name in ("aac", "flac", "opus") else 5)
    whole = speak(LONG, response_format=name, body={**body, "stream": False})
    streamed = b"".join(chunks)
    if name == "wav":
        assert streamed[44:] == whole[44:]
    elif name == "pcm":
        assert streamed == whole
    else:
        assert abs(len(decoded(streamed)) - len(decoded(whole))) < 5000


def test_the_first_sound_is_sent_after_the_first_patch(server):
    """While the second one is not made yet: the thread waits until the first has been read."""
    batch, read = server.thread._batch._batch, threading.Event()
    step, steps = batch.step, []

    def slow_step():
        steps.append(read.wait(20) if len(steps) == 1 else True)
        return step()

    create = server.client().audio.speech.with_streaming_response.create
    batch.step = slow_step
    try:
        fields = {"voice": "default", "response_format": "mp3", "extra_body": SHORT}
        with create(model="any", input=TEXT, **fields) as answer:
            chunks = answer.iter_bytes()
            next(chunks)
            read.set()
            list(chunks)
    finally:
        batch.step = step
    assert all(steps)


def test_a_header_says_that_a_limit_cut_the_speech_or_that_it_is_not_known_yet(server):
    create = server.client().audio.speech.with_raw_response.create
    answer = create(model="any", input=TEXT, voice="default", extra_body=WHOLE)
    assert answer.headers["x-finish-reason"] == "length"
    assert "x-retries" not in answer.headers
    answer = create(model="any", input=TEXT, voice="default", extra_body=SHORT)
    assert "x-finish-reason" not in answer.headers and "none" in answer.headers["x-retries"]


def test_whole_answers_are_retried_and_say_so(server):
    body = {**SHORT, "min_tokens": 13, "max_tokens": 13, "retry": True}
    answer = server.client().audio.speech.with_raw_response.create(
        model="any", input="A", voice="default", response_format="wav", extra_body=body
    )
    notes = answer.headers["x-guards"].split("; ")
    assert [note.split(":")[0] for note in notes] == ["retry", "retry", "gave up"]


def test_server_sent_events_have_the_audio_in_base64(speak):
    lines = speak(response_format="pcm", stream_format="sse").decode().split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["usage"]["output_tokens"] == SHORT["max_tokens"]
    deltas = [base64.b64decode(event["audio"]) for event in events[:-1]]
    assert b"".join(deltas) == speak(response_format="pcm")


def test_server_sent_events_end_with_the_error_of_a_later_segment(server, speak, monkeypatch):
    request = server.thread.model.request

    def unfit(text, **given):
        if text == "two":
            raise ValueError("two can't be spoken")
        return request(text, **given)

    monkeypatch.setattr(server.thread.model, "request", unfit)
    content = speak("one [pause:0.1] two", response_format="pcm", stream_format="sse").decode()
    events = [json.loads(line.removeprefix("data: ")) for line in content.split("\n\n") if line]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["message"] == "two can't be spoken"
    assert events[-1]["error"]["type"] == "invalid_request_error"


def test_instructions_have_the_effect_of_instruct(speak, released):
    sound = decoded(speak(instructions="An old man"))
    assert_same_audio(sound, generated(released.model, instruct="An old man"))


def test_options_have_the_effect_that_they_have_in_the_library(speak, released):
    options = {"cfg_value": 1.5, "inference_timesteps": 3, "seed": 9, "temperature": 0.7}
    sound = decoded(speak(body={**SHORT, **options}))
    assert_same_audio(sound, generated(released.model, **options))


@pytest.mark.parametrize("stream", [False, True])
def test_speed_is_that_of_openais_service(speak, released, stream):
    sound = decoded(speak(speed=1.5, body={**SHORT, "stream": stream}))
    assert_same_audio(sound, generated(released.model, speed=1.5))


def test_a_saved_voice_is_chosen_by_its_name(speak, released, server_voices):
    sound = decoded(speak(voice="Anna"))
    assert_same_audio(sound, generated(released.model, voice=server_voices / "anna.safetensors"))
    assert np.abs(sound - decoded(speak())).max() > 0.01


def test_a_voice_that_is_saved_later_is_offered(speak, server, released, clip_bytes, server_voices):
    file = released.model.make_voice(clip_bytes).save(server_voices / "ben.safetensors")
    try:
        listing = server.client().get("/audio/voices", cast_to=object)
        assert [voice["id"] for voice in listing["data"]][:4] == ["default", "anna", "ben", "alloy"]
        assert listing["voices"] == listing["data"]
        assert speak(voice="ben") == speak(voice="anna")
    finally:
        file.unlink()


def test_a_request_may_contain_a_clip(speak, released, clip_bytes):
    encoded = "data:audio/wav;base64," + base64.b64encode(clip_bytes).decode()
    sound = decoded(speak(body={**SHORT, "ref_audio": encoded}))
    assert_same_audio(sound, generated(released.model, voice=released.model.make_voice(clip_bytes)))


def test_clips_are_not_decoded_in_the_models_thread(speak, clip_bytes, monkeypatch):
    from mlx_voxcpm2.audio import clips

    read, threads = clips.read_channels, []

    def recorded(source, name):
        if isinstance(source, bytes):
            threads.append(threading.current_thread().name)
        return read(source, name)

    monkeypatch.setattr(clips, "read_channels", recorded)
    speak(body={**SHORT, "ref_audio": base64.b64encode(clip_bytes).decode()})
    assert len(threads) == 1 and threads[0] != "model"


def test_a_clip_with_its_transcript_is_a_prompt_unless_there_are_instructions(
    speak, released, clip_bytes
):
    encoded = base64.b64encode(clip_bytes).decode()
    body = {**SHORT, "ref_audio": encoded, "ref_text": "What it says."}
    voice = released.model.make_voice(clip_bytes, prompt_text="What it says.")
    assert_same_audio(decoded(speak(body=body)), generated(released.model, voice=voice))
    steered = generated(released.model, voice=voice, instruct="sad")
    assert_same_audio(decoded(speak(body=body, instructions="sad")), steered)


def test_the_first_fault_of_a_segment_is_the_finish_reason():
    model = SimpleNamespace(sample_rate=10, request=lambda text, **_: text)
    segments = tuple(split_text("One. [pause:1] Two. [pause:1] Three."))
    task = SpeechTask(segments, GenerationOptions(seed=1), VoiceInputs(voice="anna"))
    queue = SegmentQueue(task, model)
    for text, reason in (("One.", "stop"), ("Two.", "length"), ("Three.", "silence")):
        assert queue.finish_reason is None
        assert queue.next_request() == text
        queue.add(Chunk(0, np.zeros(10, np.float32), reason))
    assert queue.is_empty and queue.finish_reason == "length"


def test_a_long_text_is_spoken_in_segments(speak, released):
    text = "Hello there. [pause:0.25] How do you do?"
    sound = decoded(speak(text))
    first = generated(released.model, "Hello there.")
    silence = released.model.sample_rate // 4
    assert_same_audio(sound[: len(first)], first)
    assert not sound[len(first) : len(first) + silence].any()
    voice = released.model.encode_audio((first, released.model.sample_rate))
    second = generated(released.model, "How do you do?", seed=8, ref_audio=voice)
    assert_same_audio(sound[len(first) + silence :], second)
    # Twice as fast, with the same voice and the same pause.
    fast = decoded(speak(text, speed=2))
    assert len(fast) == len(first) // 2 + silence + len(second) // 2
    assert_same_audio(fast[-len(second) // 2 :], stretched(second, released.model.sample_rate, 2))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"voice": "carl"}, "there is no voice 'carl'; there are: default, anna, alloy"),
        ({"voice": "../voices/anna.safetensors"}, "there is no voice"),
        ({"text": "[pause:1] 🎉"}, "text is empty"),
        ({"response_format": "m4a"}, "it must be one of mp3, wav"),
        ({"text": "  "}, "input is empty"),
        ({"text": "Hi " + "[pause:60]" * 409}, "the pauses come to 24540 s, 600 s is the limit"),
        ({"text": "a" * 5000}, "4096 is the limit"),
        ({"speed": 5.0}, "speed is 5.0; it must be a number from 0.25 to 4"),
        ({"body": {"cfg_value": 99}}, "cfg_value is 99"),
        ({"body": {"max_tokens": 10**6}}, "4096 is the limit"),
        ({"body": {"fade_in": 2}}, "fade_in is 2"),
        ({"body": {"retry_badcase": True, "stream": True}}, "no effect on a stream"),
        ({"body": {"stream": "yes"}}, "stream is 'yes'"),
        ({"body": {"ref_audio": "/etc/hostname"}}, "no file of the server is read"),
        ({"body": {"ref_audio": "L2V0Yy9ob3N0bmFtZQ=="}}, "ref_audio"),
        ({"body": {"ref_text": "words"}}, "without ref_audio"),
        ({"body": {"prompt_text": "words"}}, "without prompt_audio"),
        ({"body": {"adapter": "none"}}, "there is no adapter 'none'"),
        ({"body": {"subtitles": "ass"}}, "it must be srt or vtt"),
        ({"body": {"stream_format": "ndjson"}}, "it must be audio or sse"),
        ({"body": {"voice": ["anna"]}}, "voice is ['anna']"),
        ({"body": {"instructions": 5}}, "instructions is 5; it must be a string"),
        ({"body": {"seed": "1"}}, "seed is '1'; it must be a whole number"),
    ],
)
def test_invalid_requests_are_refused_in_plain_words(fields, words, speak):
    with pytest.raises(BadRequestError) as refused:
        speak(**fields)
    message = refused.value.body["message"]
    assert words in message and "\n" not in message


def test_a_voices_file_is_never_read_by_its_path(speak, server_voices):
    with pytest.raises(BadRequestError, match="there is no voice"):
        speak(voice=str(server_voices / "anna.safetensors"))


def test_a_clip_is_never_read_by_its_path(speak, clip_bytes, tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(clip_bytes)
    for name in (str(path), path.as_uri(), base64.b64encode(str(path).encode()).decode()):
        with pytest.raises(BadRequestError, match="ref_audio"):
            speak(body={**SHORT, "ref_audio": name})


def test_a_body_that_is_not_json_or_too_large_is_refused(server):
    client = server.client()._client
    url, json_type = f"{server.url}/audio/speech", {"content-type": "application/json"}
    assert client.post(url, content=b"{", headers=json_type).status_code == 400
    assert client.post(url, content=b"[]", headers=json_type).status_code == 400
    long = b" " * (21 * 2**20)
    assert client.post(url, content=long, headers=json_type).status_code == 413
    for kind in ({"content-type": "text/plain"}, {}):
        assert client.post(url, content=b'{"input": "one"}', headers=kind).status_code == 415


def test_a_prompt_clip_with_its_words_is_continued(speak, released, clip_bytes):
    encoded = base64.b64encode(clip_bytes).decode()
    body = {**SHORT, "prompt_audio": encoded, "prompt_text": "What it says."}
    voice = released.model.make_voice(None, clip_bytes, "What it says.")
    assert_same_audio(decoded(speak(body=body)), generated(released.model, voice=voice))


def test_subtitles_come_as_an_event_or_as_a_file(server, speak):
    lines = speak(body={**SHORT, "subtitles": "srt"}, stream_format="sse").decode().split("\n\n")
    (event,) = [json.loads(line[6:]) for line in lines if "speech.subtitles" in line]
    assert event["format"] == "srt" and "-->" in event["text"]
    answer = server.client().audio.speech.with_raw_response.create(
        model="any", input=TEXT, voice="default", extra_body={**SHORT, "subtitles": "VTT"}
    )
    assert answer.content
    address = server.url.removesuffix("/v1") + answer.headers["x-subtitles"]
    file = server.client()._client.get(address)
    assert file.text.startswith("WEBVTT") and file.headers["content-type"].startswith("text/vtt")
    assert server.client()._client.get(f"{server.url}/audio/speech/x/subtitles").status_code == 404


def test_pauses_between_paragraphs_are_chosen(speak, released):
    body = {**SHORT, "paragraph_pause": 0.25}
    rate = released.model.sample_rate
    short, long = (
        len(decoded(speak("One.\n\nTwo.", body={**body, "paragraph_pause": seconds})))
        for seconds in (0.25, 0.5)
    )
    assert long - short == rate // 4


def test_fifty_requests_at_once_have_the_audio_they_have_alone(speak, released):
    def one(seed: int) -> bytes:
        return speak(body={**SHORT, "max_tokens": 2 + seed % 5, "seed": seed})

    with ThreadPoolExecutor(50) as pool:
        sounds = list(pool.map(one, range(50)))
    for seed in (0, 17, 49):
        theirs = generated(released.model, max_tokens=2 + seed % 5, seed=seed)
        assert_same_audio(decoded(sounds[seed]), theirs)


@pytest.mark.parametrize("name", [each.name for each in fields(GenerationOptions)])
def test_every_option_of_the_library_is_a_field(name):
    defaults = GenerationOptions(seed=1)
    limits, value = Limits("m", 100, defaults), CHANGED[name]
    for accepted in (name, *aliases_of(name)):
        body = {"input": "Hello.", "stream": False, accepted: value}
        parsed = SpeechRequest.parse(body, limits)
        expected = replace(defaults, **{name: value}).with_retries_unless(stream=False)
        assert parsed.options == expected


def busy(server) -> int:
    """Number of requests that the event loop or the model's thread has, the larger one."""
    health = server.client().get("../health", cast_to=object)
    return max(health["requests"], health["unfinished"])


def wait_until_free(server, seconds: float = 10):
    end = time.monotonic() + seconds
    while busy(server) and time.monotonic() < end:
        time.sleep(0.05)
    assert busy(server) == 0


ENDLESS = {"max_tokens": 4096, "min_tokens": 4000, "stream": True}


def test_disconnecting_cancels_a_stream(server):
    create = server.client().audio.speech.with_streaming_response.create
    fields = {"voice": "anna", "response_format": "pcm", "extra_body": ENDLESS}
    with create(model=server.model, input=LONG * 4, **fields) as response:
        chunks = response.iter_bytes()
        next(chunks)
        assert busy(server) == 1
    wait_until_free(server)


def test_disconnecting_cancels_a_request_for_a_whole_file(server):
    create = server.client().with_options(timeout=1).audio.speech.create
    fields = {"voice": "anna", "extra_body": {**ENDLESS, "stream": False}}
    with pytest.raises(openai.APITimeoutError):
        create(model=server.model, input=LONG * 4, **fields)
    wait_until_free(server)


def test_a_voice_for_all_a_limit_of_text_and_overload(released, server_voices):
    with LocalServer(
        released.folder, server_voices, default="anna", text_length=3000, capacity=1
    ) as server:
        client = server.client()
        create = client.audio.speech.with_streaming_response.create
        fields = {"model": "tts-1", "voice": "default"}
        with create(input=LONG * 4, response_format="pcm", extra_body=ENDLESS, **fields) as answer:
            chunks = answer.iter_bytes()
            next(chunks)
            with pytest.raises(InternalServerError, match="try later") as refused:
                client.audio.speech.create(input=TEXT, **fields)
            assert refused.value.status_code == 503
            assert refused.value.response.headers["retry-after"]
            with socket.create_connection(server.address, timeout=20) as connection:
                connection.sendall(
                    b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                    b"application/json\r\nContent-Length: 20000000\r\n\r\n"
                )  # and no body
                assert connection.recv(1000).startswith(b"HTTP/1.1 503")
        wait_until_free(server)
        content = client.audio.speech.create(
            input=TEXT, response_format="wav", extra_body=SHORT, **fields
        ).content
        expected = generated(released.model, voice=server_voices / "anna.safetensors")
        assert_same_audio(decoded(content), expected)
        with pytest.raises(BadRequestError, match="3000 is the limit"):
            client.audio.speech.create(input="a" * 3001, **fields)


def test_it_goes_on_after_an_exception_of_the_model(server, speak, monkeypatch):
    expected = speak()
    batch = server.thread._batch._batch

    def fail():
        raise RuntimeError("out of memory")

    monkeypatch.setattr(batch, "step", fail)
    with pytest.raises(InternalServerError, match=r"the speech failed \(out of memory\)"):
        speak()
    assert speak() == expected
    assert (
        b"voxcpm2_model_failures 1.0"
        in server.client()._client.get(server.url.replace("/v1", "/metrics")).content
    )


def test_a_field_that_is_null_is_as_if_it_were_left_out():
    limits = Limits("demo", 100, GenerationOptions(seed=1))
    nulls = SpeechRequest.parse({**dict.fromkeys(SPEECH.names), "input": "Hi."}, limits)
    plain = SpeechRequest.parse({"input": "Hi."}, limits)
    assert (nulls.options, nulls.format_name) == (plain.options, plain.format_name)
    assert (nulls.text, nulls.is_stream, nulls.voice.given()) == ("Hi.", True, {})
