"""Scripts of dialogues become the prompts that Microsoft's processor makes."""

import pytest
from golden.vibevoice_cases import PROMPTS

from mlx_voxcpm2.vibevoice.script import Turn, read_turns


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_prompts_have_microsoft_s_tokens(make_dialogue, number):
    script, frames = PROMPTS[number]
    dialogue = make_dialogue("tiny")
    assert dialogue.model.prompt(script, frames) == dialogue.notes["tiny"]["prompts"][number]


def test_the_voices_of_the_goldens_have_their_places(dialogue):
    frames = [len(features) for features in dialogue.features()]
    script = PROMPTS[0][0]
    assert dialogue.model.prompt(script, frames) == dialogue.notes[dialogue.variant]["prompt"]


@pytest.mark.parametrize(
    ("script", "turns"),
    [
        ("Hello.\n\nAgain.", [Turn(0, "Hello. Again.")]),
        ("SPEAKER 2 :  Hi!  \nspeaker 1: You", [Turn(1, "Hi!"), Turn(0, "You")]),
        ("Speaker 0: One\nSpeaker 3: Two", [Turn(0, "One"), Turn(3, "Two")]),
        ("Speaker 1: It\u2019s\r\n  going on  \n", [Turn(0, "It's going on")]),
        ("Speaker 1: x: y\nSpeaker 2: z", [Turn(0, "x: y"), Turn(1, "z")]),
        ("Speaker 2: One\nSpeaker 3: Two", [Turn(1, "One"), Turn(2, "Two")]),
        ("Speaker 1:\nSpeaker 1: Yes", [Turn(0, ""), Turn(0, "Yes")]),
    ],
)
def test_scripts_are_read_by_their_labels(script, turns):
    assert read_turns(script) == turns


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (" \n ", "the script is empty"),
        ("Speaker 1:  \nSpeaker 2:", "the script is empty"),
        ("A title\nSpeaker 1: Hi.", "begins with 'A title'"),
        ("\n".join(f"Speaker {i}: Hi." for i in range(5)), "has 5 speakers"),
        ("Speaker 99999999: Hi.", "too high a number"),
        ("Speaker 1: \ud800", "half a character"),
        (7, "the script is a int"),
    ],
)
def test_a_script_that_nobody_can_speak_is_refused(script, message):
    with pytest.raises(ValueError, match=message):
        read_turns(script)


def test_a_control_token_in_a_script_is_refused(make_dialogue):
    with pytest.raises(ValueError, match="a control token"):
        make_dialogue("tiny").model.prompt("Speaker 1: <|vision_pad|>")


def test_more_voices_than_speakers_are_refused(make_dialogue):
    with pytest.raises(ValueError, match="2 voices for 1 speakers"):
        make_dialogue("tiny").model.prompt("Speaker 1: Hi.", [1, 1])
