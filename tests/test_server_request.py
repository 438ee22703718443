"""Requests of the server, parsed: the limits are exact."""

from dataclasses import replace

import pytest

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.server.dialogue import DialogueRequest
from mlx_voxcpm2.server.request import Limits, SpeechRequest

LIMITS = Limits("model", 20, GenerationOptions(max_tokens=50))


@pytest.mark.parametrize(("text", "instruct"), [("a" * 20, None), ("a" * 12, "b" * 8)])
def test_a_text_of_exactly_the_limit_is_accepted(text, instruct):
    request = SpeechRequest.parse({"input": text, "instructions": instruct}, LIMITS)
    assert request.text == text
    with pytest.raises(ValueError, match="the input has 21 characters, 20 is the limit"):
        SpeechRequest.parse({"input": text + "a", "instructions": instruct}, LIMITS)


def test_the_limit_of_tokens_is_exact():
    assert SpeechRequest.parse({"input": "a", "max_tokens": 50}, LIMITS).options.max_tokens == 50
    with pytest.raises(ValueError, match="max_tokens is 51; 50 is the limit"):
        SpeechRequest.parse({"input": "a", "max_tokens": 51}, LIMITS)


def test_parentheses_within_a_text_are_words():
    text = "Hello.\n\n(He sits.)\n\nGoodbye."
    limits = replace(LIMITS, text_length=100)
    assert len(SpeechRequest.parse({"input": text, "segment_length": 20}, limits).segments()) == 3
    with pytest.raises(ValueError, match="a description in parentheses"):
        SpeechRequest.parse({"input": "(He sits.)"}, LIMITS).segments()


@pytest.mark.parametrize("kind", ["ref", "prompt"])
def test_a_transcript_counts_as_text(kind):
    name = f"{kind}_text"
    body = {"input": "a" * 12, f"{kind}_audio": "UklGRg==", name: "b" * 8}
    assert SpeechRequest.parse(body, LIMITS).text == "a" * 12
    with pytest.raises(ValueError, match="21 characters, 20 is the limit here, with descriptions"):
        SpeechRequest.parse({**body, name: "b" * 9}, LIMITS)


def test_the_descriptions_of_speakers_count_as_text():
    def dialogue(description: str) -> DialogueRequest:
        voices = {"A": "anna", "B": f"design: {description}"}
        return DialogueRequest.parse({"script": "A: Hi.\nB: Yes.", "voices": voices}, LIMITS)

    assert dialogue("sad").voices["B"].instruct == "sad"  # with the script's 14 characters
    with pytest.raises(ValueError, match="21 characters, 20 is the limit here, with descriptions"):
        dialogue("warm it")


@pytest.mark.parametrize("between", ["", " a "])
def test_pauses_of_ten_minutes_together_are_the_limit(between):
    limits = replace(LIMITS, text_length=4096)

    def pauses(count: int) -> list[float]:
        marks = between.join(["[pause:60]"] * count)
        requests = [
            SpeechRequest.parse({"input": f"Hi {marks}"}, limits),
            DialogueRequest.parse({"script": f"Anna: Hi {marks}\nBen: Yes."}, limits),
        ]
        return [sum(each.pause for each in request.segments()) for request in requests]

    assert pauses(10) == [600, 600]
    for count in (11, 290):
        with pytest.raises(ValueError, match=f"the pauses come to {60 * count} s, 600 s is"):
            pauses(count)


def test_the_pauses_between_the_speakers_of_a_dialogue_are_limited():
    body = {"script": "Anna: Hi.\nBen: Yes.\n" * 10, "turn_pause": 60}
    request = DialogueRequest.parse(body, replace(LIMITS, text_length=4096))
    with pytest.raises(ValueError, match="the pauses come to 1140 s"):
        request.segments()


def test_the_usual_pauses_of_a_long_text_are_not_limited():
    text, limits = "One.\n\n" * 700, replace(LIMITS, text_length=10_000)
    segments = SpeechRequest.parse({"input": text, "paragraph_pause": 1}, limits).segments()
    assert sum(each.pause for each in segments) == 699
