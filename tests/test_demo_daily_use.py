"""Everyday use of the checkpoint in the package: a recogniser understands its speech."""

import numpy as np
import pytest
from demo_clips import read_clip, slips
from recogniser import hear
from speech import SPEAKERS, pitch, words_of

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.long_form.speak import speak_long
from mlx_voxcpm2.recognition.verification import Verification
from mlx_voxcpm2.speech.options import GenerationOptions

LINES = ["three one four", "one five nine two", "good morning please", "red green blue"]
SLIPS = 1
"""Number of words that may be wrong in a test."""


@pytest.fixture(scope="module")
def demo_model():
    return load_model("demo")


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_long_text_is_spoken_in_order_and_in_one_voice(demo_model, parallel):
    reference = read_clip("tenor")
    voice = {"ref_audio": (reference.sound, reference.sample_rate)}
    text = "\n\n".join(LINES) + " [pause:0.8] hello world"
    options = GenerationOptions(seed=3)
    segments = list(speak_long(demo_model, text, options=options, parallel=parallel, **voice))
    sound = np.concatenate([np.array(segment.audio) for segment in segments])
    said = words_of(" ".join([*LINES, "hello world"]))
    assert slips(said, sound, demo_model.sample_rate) <= 2 * SLIPS
    for segment in segments:
        if segment.text:
            found = pitch(np.array(segment.audio), demo_model.sample_rate)
            assert found == pytest.approx(SPEAKERS["tenor"].hertz, rel=0.15), segment.text


def test_each_text_of_a_batch_is_recognised(demo_model):
    options = GenerationOptions(seed=5)
    requests = [demo_model.request(text, options=options) for text in LINES]
    results = sorted(
        demo_model.generate_batch(requests, batch_size=3), key=lambda x: x.sequence_idx
    )
    wrong = [
        slips(words_of(text), result.audio, demo_model.sample_rate)
        for text, result in zip(LINES, results, strict=True)
    ]
    assert sum(wrong) <= SLIPS, wrong


def test_a_stream_has_the_same_audio(demo_model):
    whole = next(iter(demo_model.generate(LINES[0], seed=8)))
    chunks = [np.array(chunk.audio) for chunk in demo_model.generate(LINES[0], seed=8, stream=True)]
    assert np.abs(np.concatenate(chunks) - np.array(whole.audio)).max() < 1e-4
    assert slips(words_of(LINES[0]), whole.audio, demo_model.sample_rate) <= SLIPS


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_saved_voice_speaks(demo_model, speaker, tmp_path):
    clip = read_clip(speaker)
    demo_model.make_voice((clip.sound, clip.sample_rate)).save(tmp_path / "voice.safetensors")
    path = str(tmp_path / "voice.safetensors")
    (result,) = demo_model.generate(LINES[2], voice=path, seed=4)
    assert pitch(np.array(result.audio), demo_model.sample_rate) == pytest.approx(
        SPEAKERS[speaker].hertz, rel=0.15
    )
    assert slips(words_of(LINES[2]), result.audio, demo_model.sample_rate) <= SLIPS


def test_verified_speech_has_the_right_transcript(demo_model):
    def recogniser(sound: np.ndarray, rate: int) -> str:
        return " ".join(word.word for word in hear(sound, rate))

    checked = Verification(recogniser)
    (result,) = demo_model.generate(LINES[0], seed=1, verify=checked)
    assert result.heard == LINES[0] and result.error_rate == 0


def test_guards_do_not_act_on_good_speech(demo_model):
    for text in LINES:
        (result,) = demo_model.generate(text, seed=2)
        assert result.guards == () and result.finish_reason == "stop"
    (trimmed,) = demo_model.generate(LINES[0], seed=2, trim_silence=True, fade_in=0.02)
    assert slips(words_of(LINES[0]), trimmed.audio, demo_model.sample_rate) <= SLIPS
    assert "fade_in: 0.02 s" in trimmed.guards
