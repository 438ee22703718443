"""What the fields of the page mean; without Gradio, without a model."""

import numpy as np
import pytest

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.app.inputs import FIELDS, MODES, asked_speech, new_voice_name
from mlx_voxcpm2.app.live_sound import MOST_STREAMS, LiveSounds
from mlx_voxcpm2.app.takes import KEPT, Sample, Take, with_take, write_take

FULL = {
    "instruct": "An old man", "ref_audio": "ref.wav", "prompt_audio": "prompt.wav",
    "prompt_text": " What it says. ", "voice": "anna",
}  # fmt: skip
USED = {
    "zero-shot": {},
    "design": {"instruct": "An old man"},
    "reference": {"ref_audio": "ref.wav", "instruct": "An old man"},
    "continuation": {"prompt_audio": "prompt.wav", "prompt_text": "What it says."},
    "combined": {
        "ref_audio": "ref.wav", "prompt_audio": "prompt.wav", "prompt_text": "What it says.",
    },
    "voice": {"voice": "anna", "instruct": "An old man"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def voices(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path))
    (tmp_path / "anna.safetensors").touch()


def asked(mode, given=None, text="Hello.", streamed=False, **settings):
    return asked_speech(mode, text, FULL if given is None else given, settings, streamed)


@pytest.mark.parametrize("mode", list(MODES))
def test_a_mode_uses_its_inputs_whatever_the_hidden_ones_hold(mode):
    assert asked(mode).clips == USED[mode]
    assert set(MODES[mode].labels) == set(USED[mode]) <= set(FIELDS)


@pytest.mark.parametrize(
    ("mode", "missing", "line"),
    [
        ("design", "instruct", "no description; say"),
        ("reference", "ref_audio", "no clip; record"),
        ("continuation", "prompt_audio", "no clip; record"),
        ("continuation", "prompt_text", "words are missing; write"),
        ("combined", "ref_audio", "no clip; record"),
        ("combined", "prompt_text", "words are missing; write"),
        ("voice", "voice", "no voice; keep one"),
    ],
)
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_what_a_mode_misses_is_one_line(mode, missing, line, empty):
    with pytest.raises(ValueError, match=line) as error:
        asked(mode, {**FULL, missing: empty})
    assert "\n" not in str(error.value)


def test_a_manner_may_be_left_out_and_one_clip_may_serve_twice():
    assert asked("reference", {"ref_audio": "ref.wav", "instruct": " "}).clips == {
        "ref_audio": "ref.wav"
    }
    assert asked("combined", {**FULL, "prompt_audio": None}).clips["prompt_audio"] == "ref.wav"


def test_a_voice_must_be_kept_here():
    """A path would read any file of the machine that shows the page."""
    with pytest.raises(ValueError, match="is kept any more"):
        asked("voice", {"voice": "/home/somebody/voice.safetensors"})


def test_settings_come_as_a_page_gives_them():
    speech = asked(
        "zero-shot", seed=" 17 ", cfg_value=1.6, inference_timesteps=6.0, temperature=None,
        max_tokens=12, retry_badcase=False,
    )  # fmt: skip
    assert speech.options == GenerationOptions(1.6, 6, max_tokens=12, seed=17, retry_badcase=False)
    assert asked("zero-shot", seed="").options.seed is None
    for wrong in ({"seed": "x"}, {"seed": "1.5"}, {"seed": "-1"}, {"cfg_value": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            asked("zero-shot", **wrong)
    with pytest.raises(ValueError, match=r"inference_timesteps is 2\.5"):
        asked("zero-shot", inference_timesteps=2.5)


def test_a_text_must_say_something_and_a_long_one_is_known():
    with pytest.raises(ValueError, match="text is empty"):
        asked("zero-shot", text="  \n")
    assert not asked("zero-shot").is_long
    assert asked("zero-shot", text="A sentence. " * 40).is_long
    assert asked("zero-shot", text="One. [pause:1] Two.").is_long


@pytest.mark.parametrize(
    "name", ["", "  ", None, "a/b", "../a", "/tmp/a.safetensors", "a.safetensors", "A.SafeTensors"]
)
def test_a_page_can_not_name_files(name):
    with pytest.raises(ValueError, match=r"name|\.safetensors"):
        new_voice_name(name)
    assert new_voice_name(" Old man ") == "Old man"


def test_sound_reaches_its_reader_whoever_comes_first():
    sounds, samples = LiveSounds(), np.array([0, 1, -1, 2, 0.5], np.float32)
    sounds.write("a", samples[:2])
    reader = sounds.read("a")
    first = next(reader)
    sounds.write("a", samples[2:])
    sounds.write("b", samples)
    sounds.close("a")
    heard = np.frombuffer(first + b"".join(reader), "<i2")
    assert heard.tolist() == [0, 32767, -32767, 32767, 16384]
    sounds.write("", samples)
    sounds.close("")


def test_sound_that_nobody_hears_is_forgotten():
    sounds = LiveSounds()
    for number in range(3 * MOST_STREAMS):
        sounds.write(str(number), np.zeros(10, np.float32))
        sounds.close(str(number))
    assert len(sounds._streams) == MOST_STREAMS


def test_the_last_takes_are_kept_and_the_files_of_others_go(tmp_path):
    history, audio = [], np.linspace(-0.5, 0.5, 480, dtype=np.float32)
    for number in range(KEPT + 2):
        speech = asked("zero-shot", text=f"Take {number}. " + "a" * 80)
        file = write_take(tmp_path, audio, 48000, "take")
        sample = Sample(audio, speech.text, "stop")
        history = with_take(history, Take(speech, file, sample, number, 0.01, "stop"))
    assert [take.seed for take in history] == list(range(KEPT + 1, 1, -1))
    assert {take.file for take in history} == set(tmp_path.glob("take-*/take.wav"))
    assert len(list(tmp_path.glob("take-*"))) == KEPT
    assert history[0].label == f"Take {KEPT + 1}. … (zero-shot, 0.0 s, seed {KEPT + 1})"
