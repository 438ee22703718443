"""Tekken encodes and decodes as mistral-common, and its prepared form is kept in a cache."""

import json

import pytest
import voxtral_checkpoints as made
from conftest import GOLDEN

from mlx_voxcpm2.text import tekken
from mlx_voxcpm2.text.tekken import Tekken

NOTES = json.loads((GOLDEN / "voxtral.json").read_text(encoding="utf-8"))


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(tekken, "cache_folder", lambda: tmp_path / "cache")
    made.write_tekken(tmp_path / "tekken.json", NOTES["ranks"])
    return tmp_path / "tekken.json"


@pytest.fixture
def tokenizer(file):
    return Tekken(file)


def test_texts_have_mistral_common_s_tokens(tokenizer):
    for each in NOTES["encoded"]:
        assert tokenizer.encode(each["text"]) == each["ids"], each["text"]


def test_tokens_have_mistral_common_s_text(tokenizer):
    for each in NOTES["decoded"]:
        assert tokenizer.decode(each["ids"]) == each["text"]


def test_a_stream_holds_back_unfinished_characters(tokenizer):
    ids = tokenizer.encode("今👩é")
    pieces = list(tokenizer.decode_stream(ids))
    assert "".join(pieces) == "今👩é" and "\ufffd" not in "".join(pieces)
    assert len(ids) > 3


def test_control_tokens_are_found_by_name_only(tokenizer):
    assert (tokenizer.control("[AUDIO]"), tokenizer.control("[TRANSCRIBE]")) == (24, 34)
    assert len(tokenizer.encode("[AUDIO]")) > 1
    with pytest.raises(ValueError, match=r"no token \[VIDEO\]"):
        tokenizer.control("[VIDEO]")


def test_the_cache_is_used_and_a_damaged_one_replaced(file, monkeypatch):
    first = Tekken(file)
    cached = next((file.parent / "cache" / "tokenizers").iterdir())
    cached.write_text("{}")
    assert Tekken(file).encode("Hello") == first.encode("Hello")
    monkeypatch.setattr(tekken, "build_tokenizer", None)
    assert Tekken(file).encode("Hello") == first.encode("Hello")


def test_another_file_has_another_place_in_the_cache(file):
    Tekken(file)
    file.write_text(file.read_text() + " ")
    Tekken(file)
    assert len(list((file.parent / "cache" / "tokenizers").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_error(file, monkeypatch):
    monkeypatch.setattr(tekken, "cache_folder", lambda: file / "cache")
    assert Tekken(file).encode("Hello")


DAMAGES = {
    "no vocabulary": lambda data: data.pop("vocab"),
    "too few tokens": lambda data: data["vocab"].pop(),
    "ranks in disorder": lambda data: data["vocab"].reverse(),
    "bytes that are no base64": lambda data: data["vocab"][300].update(token_bytes="?"),
    "two equal tokens": lambda data: data["vocab"][300].update(
        token_bytes=data["vocab"][301]["token_bytes"]
    ),
    "an empty token": lambda data: data["vocab"][300].update(token_bytes=""),
    "a pattern that is none": lambda data: data["config"].update(pattern="("),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(file, what):
    data = json.loads(file.read_text())
    DAMAGES[what](data)
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"not a tekken.json .*; download it again") as error:
        Tekken(file)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named_with_its_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no tekken.json here; take it from mistralai/"):
        Tekken(tmp_path / "tekken.json")


def test_half_a_character_is_refused(tokenizer):
    with pytest.raises(ValueError, match="half a character"):
        tokenizer.encode("\ud800")
