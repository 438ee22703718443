"""Requests of the server, parsed: the limits are exact."""

from dataclasses import replace

import pytest

from mlx_voxcpm2 import GenerationOptions
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
