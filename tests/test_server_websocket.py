"""Conversations: text piece by piece from a language model, sound as sentences are complete."""

import base64
import json
import shutil
import threading
import time

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'server'")

from speech_server import LocalServer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.server import websocket
from mlx_voxcpm2.server.pieces import Sentences

CHEAP = GenerationOptions(max_tokens=4, inference_timesteps=2, seed=1)


@pytest.fixture(scope="module")
def server(released, anna_folder):
    fields = {"options": CHEAP, "text_length": 100}
    with LocalServer(released.folder, anna_folder / "voices", **fields) as server:
        yield server


def conversation(server, **options):
    address = server.url.replace("http", "ws") + "/audio/speech/stream"
    return connect(address, open_timeout=30, close_timeout=5, **options)


def messages(socket) -> tuple[list[dict], bytes]:
    """All that comes until the conversation ends: JSON, and the sound."""
    found, sound = [], b""
    try:
        while True:
            received = socket.recv(timeout=60)
            if isinstance(received, bytes):
                sound += received
            else:
                found.append(json.loads(received))
    except ConnectionClosed:
        return found, sound


def send(socket, *parts: dict) -> None:
    for part in parts:
        socket.send(json.dumps(part))


def pieces(text: str) -> list[dict]:
    return [{"type": "text", "text": text[i : i + 3]} for i in range(0, len(text), 3)]


def test_sentences_are_spoken_when_they_are_complete(server):
    with conversation(server) as socket:
        send(socket, {"type": "start", "voice": "anna", "response_format": "wav", "foo": 1})
        started = json.loads(socket.recv(timeout=60))
        assert started["type"] == "started" and started["seed"] == 1
        assert started["ignored_fields"] == ["foo"]
        send(socket, *pieces("One of them is here. Two of"))
        assert socket.recv(timeout=60)[:4] == b"RIFF"  # while the second is not complete
        send(socket, *pieces(" them are there."), {"type": "end"})
        found, sound = messages(socket)
    assert [each["text"] for each in found if each["type"] == "spoken"] == [
        "One of them is here.",
        "Two of them are there.",
    ]
    assert found[-1]["type"] == "done" and sound


def test_the_sound_is_that_of_its_segments_alone(server):
    with conversation(server) as socket:
        send(socket, {"type": "start", "voice": "anna", "input": "One."})
        send(socket, {"type": "flush"}, {"type": "end"})
        _, sound = messages(socket)
    body = {"model": "x", "voice": "anna", "input": "One.", "response_format": "pcm"}
    alone = server.client().audio.speech.create(**body).content
    ours, theirs = (np.frombuffer(each, "<i2").astype(int) for each in (sound, alone))
    assert len(ours) == len(theirs) and np.abs(ours - theirs).max() <= 1


def spoken(found: list[dict]) -> list[str]:
    return [each["text"] for each in found if each["type"] == "spoken"]


def test_only_the_first_text_may_begin_with_an_instruction(server):
    """It may come before its text; what is in parentheses later is spoken."""
    with conversation(server) as socket:
        for text in ("(calm)", "No.", "(Only joking.)", "(He sat.) Yes."):
            send(socket, {"type": "text", "text": text}, {"type": "flush"})
        send(socket, {"type": "end"})
        found, _ = messages(socket)
    assert spoken(found) == ["(calm)No.", "Only joking.", "He sat. Yes."]


def test_a_sentence_that_does_not_end_is_spoken_all_the_same(server):
    """Pieces of language models begin with their space."""
    with conversation(server) as socket:
        send(socket, {"type": "start"})
        for _ in range(3):  # longer than the limit of 100 characters together
            send(socket, *[{"type": "text", "text": " and"}] * 15)
            received = socket.recv(timeout=60)
            while isinstance(received, bytes) or json.loads(received)["type"] != "spoken":
                received = socket.recv(timeout=60)
        send(socket, {"type": "end"})
        found, _ = messages(socket)
    assert [each["type"] for each in found] == ["spoken", "done"]


def test_text_without_a_start_is_spoken_by_the_defaults(server):
    with conversation(server) as socket:
        send(socket, {"type": "text", "text": "Hello."}, {"type": "end"})
        found, sound = messages(socket)
    assert [each["type"] for each in found] == ["started", "spoken", "done"] and sound


def test_a_conversation_without_words_ends(server):
    with conversation(server) as socket:
        send(socket, {"type": "start"}, {"type": "text", "text": " 🎉 "}, {"type": "end"})
        found, sound = messages(socket)
    assert found[-1]["type"] == "done" and not sound


def test_a_sentence_that_the_voice_can_not_read_is_left_out(released, anna_folder, tmp_path):
    folder = shutil.copytree(released.folder, tmp_path / "latin")
    (folder / "characters.txt").write_text("YNeso.", encoding="utf-8")
    with LocalServer(folder, anna_folder / "voices", options=CHEAP) as server:
        with conversation(server) as socket:
            for text in ("Yes.\n", "你好。\n", "No.\n"):
                send(socket, {"type": "text", "text": text}, {"type": "flush"})
            send(socket, {"type": "end"})
            found, _ = messages(socket)
    assert [each["text"] for each in found if each["type"] == "spoken"] == ["Yes.", "No."]
    (warning,) = (each["message"] for each in found if each["type"] == "warning")
    assert "leaves out '你', '好'" in warning
    assert found[-1]["type"] == "done"


def test_a_client_that_sends_nothing_is_told_so_once_its_text_is_spoken(server, monkeypatch):
    with conversation(server) as socket:
        send(socket, {"type": "start", "segment_length": 12})
        socket.recv(timeout=60)
        monkeypatch.setattr(websocket, "IDLE_SECONDS", 0.02)
        send(socket, {"type": "text", "text": "One is. Two are. Three are. And"})
        found, _ = messages(socket)
    assert [each["type"] for each in found] == [*["spoken"] * 3, "error"]
    assert found[-1]["error"]["message"] == "nothing came for 0.02 seconds; send text, or end"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([{"type": "start", "voice": "carl"}], "there is no voice 'carl'"),
        ([{"type": "start", "cfg_value": 99}], "cfg_value is 99"),
        ([{"type": "start"}, {"type": "start"}], "has been started"),
        ([{"type": "start"}, {"type": "text"}], "text is missing"),
        ([{"type": "start"}, {"type": "text", "text": "a" * 101}], "100 is the limit"),
        ([{"type": "shout"}], "type is 'shout'; it must be one of start, text, flush, end"),
        ([{"text": "x"}], "a message has no type"),
        ([{"type": ["start"]}], "type is ['start']"),
        ([{"type": "start", "ref_audio": base64.b64encode(b"x").decode()}], "ref_audio"),
    ],
)
def test_what_cannot_be_spoken_is_said_in_plain_words(server, parts, words):
    with conversation(server) as socket:
        send(socket, *parts)
        found, _ = messages(socket)
    assert words in found[-1]["error"]["message"] and found[-1]["type"] == "error"


def test_other_origins_are_refused(server):
    with pytest.raises(InvalidStatus):
        conversation(server, additional_headers={"Origin": "https://evil.example"})


def test_hanging_up_gives_the_place_back(server):
    with conversation(server) as socket:
        send(socket, {"type": "start"}, {"type": "text", "text": "Hello there. And then "})
        socket.recv(timeout=60)
    assert becomes_idle(server), "the conversation goes on without its client"


def becomes_idle(server) -> bool:
    """Whether no request has a place any more, after a while."""
    client = server.client()
    for _ in range(500):
        health = client.get("../health", cast_to=object)
        if health["requests"] == health["unfinished"] == 0:
            return True
    return False


def test_hanging_up_after_the_end_gives_the_place_back_too(server):
    """Although the task still waits for the model; what comes after the end is ignored."""
    held, release = threading.Event(), threading.Event()
    server.thread.submit(lambda _: (held.set(), release.wait(60)))
    assert held.wait(60)
    try:
        with conversation(server) as socket:
            send(socket, {"type": "start", "input": "Hello."}, {"type": "end"})
            send(socket, {"type": "flush"})
            socket.send(b"binary")
            assert json.loads(socket.recv(timeout=60))["type"] == "started"
        deadline = time.monotonic() + 10
        while server.service.places.taken and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.service.places.taken == 0
    finally:
        release.set()
    assert becomes_idle(server)


def test_a_sentence_is_complete_when_another_begins():
    text = Sentences()
    assert text.add("It costs 3.") == ""
    assert text.add("50 today") == ""
    assert text.add(". Dr. No") == "It costs 3.50 today. "
    assert text.add(" came. He") == "Dr. No came. "
    assert text.flush() == "He" and text.flush() == ""


@pytest.mark.parametrize(
    ("piece", "last"),
    [
        (" and", "and"),
        ("and ", ""),
        ("สวัสดี", "สวัสดี"),  # Thai puts no spaces between words
        ("a", "a"),
    ],
)
def test_a_sentence_that_is_too_long_is_complete_up_to_its_last_word(piece, last):
    text, given = Sentences(), ""
    while len(given) < 600:
        given += piece
        assert text.add(piece) == ""
    complete = text.add(piece)
    assert complete == (given + piece).removesuffix(last) and text.rest == last
    assert Sentences().add(piece * 1000) == (piece * 1000).removesuffix(last)
