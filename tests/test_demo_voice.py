"""The checkpoint in the package speaks: right words in the right voice, and an end in time.

The same measures as benchmarks/demo_voice/evaluate.py takes, of a few sequences: so few that a
goal leaves room for one slip.
"""

import json

import mlx.core as mx
import pytest
from conftest import relative_error
from demo_clips import GOLDEN, RECORDED, read_clip
from measures import Task, designed, ends_in_time, same_voice, speak, word_accuracy
from speech import SPEAKERS, words_of

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.server import openai_voices
from mlx_voxcpm2.weights import hub

TEXTS = [
    "evening three yes",
    "open eight coffee",
    "world nine please left",
    "六零二",
    "zero music stop",
    "right five water good",
    "三七一四",
    "hello green two",
]
SPEECH = json.loads((GOLDEN / "speech.json").read_text(encoding="utf-8"))
LOW, HIGH = (SPEAKERS[name].description for name in ("bass", "soprano"))
TASKS = {
    "zero-shot": [Task(words_of(text)) for text in TEXTS],
    "reference": [
        Task(each["words"], reference=read_clip(speaker), pitches=each["pitches"])
        for speaker, each in RECORDED.items()
    ],
    "continuation": [
        Task(each["words"], prompt=read_clip(speaker), pitches=each["pitches"])
        for speaker, each in RECORDED.items()
    ],
    "low": [Task(words_of(text), instruct=LOW) for text in TEXTS[:4]],
    "high": [Task(words_of(text), instruct=HIGH) for text in TEXTS[:4]],
}


def test_its_descriptions_are_those_that_it_has_learnt():
    lines = (hub.BUILT_IN["demo"] / "descriptions.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [speaker.description for speaker in SPEAKERS.values()]
    assert set(lines) == set(openai_voices.SPEAKERS)


@pytest.fixture(scope="module")
def demo_speech():
    """All tasks, spoken in one pass of the network."""
    everything = [task for tasks in TASKS.values() for task in tasks]
    sounds = iter(speak(load_model("demo", "float32"), everything, len(everything)))
    return {mode: [next(sounds) for _ in tasks] for mode, tasks in TASKS.items()}


@pytest.mark.parametrize(
    "modes", [["zero-shot"], ["reference"], ["continuation"], ["low", "high"]], ids="+".join
)
def test_the_words_are_right(demo_speech, modes):
    tasks, said = ([each for mode in modes for each in of[mode]] for of in (TASKS, demo_speech))
    row = word_accuracy("+".join(modes), tasks, said, 0.85)
    assert row.is_met, row


@pytest.mark.parametrize("mode", ["reference", "continuation"])
def test_the_voice_is_that_of_the_clip(demo_speech, mode):
    rows = same_voice(mode, TASKS[mode], demo_speech[mode], 0.8)
    assert all(row.is_met for row in rows), rows


def test_the_voice_is_as_described(demo_speech):
    row = designed(demo_speech["low"], demo_speech["high"], 1.0)
    assert row.is_met, row


def test_speech_ends_in_time(demo_speech):
    everything = [task for tasks in TASKS.values() for task in tasks]
    row = ends_in_time(everything, [each for group in demo_speech.values() for each in group], 0.95)
    assert row.is_met, row


@pytest.mark.parametrize("name", SPEECH)
def test_the_official_package_has_the_same_audio_and_stops_at_the_same_patch(name):
    golden = mx.load(str(GOLDEN / "speech.safetensors"))
    case, noise = SPEECH[name], golden[f"{name}.noise"]
    clip = {"ref_audio": GOLDEN / case["ref_audio"]} if "ref_audio" in case else {}
    more = mx.concatenate([noise, noise])  # enough for the stop head to end it
    (result,) = load_model("demo").generate(case["text"], noise=more, **clip)
    assert result.finish_reason == "stop"
    assert relative_error(result.audio, golden[f"{name}.audio"]) < 1e-4


@pytest.mark.parametrize(("recipe", "goal"), [("8bit", 0.87), ("4bit", 0.8)])
def test_the_quantised_checkpoint_says_the_words(recipe, goal):
    model, tasks = load_model("demo", "float32", quantize=recipe), TASKS["zero-shot"]
    row = word_accuracy(recipe, tasks, speak(model, tasks), goal)
    assert row.is_met, row
