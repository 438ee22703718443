"""Messages name options as their reader writes them: flags in a command, keywords in Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2 import GenerationOptions, cli
from mlx_voxcpm2.audio.writing import check_output
from mlx_voxcpm2.errors import option, options_spelled
from mlx_voxcpm2.server.request import Limits, SpeechRequest
from mlx_voxcpm2.voices.inputs import VoiceInputs
from mlx_voxcpm2.weights.precision import choose_precision

SPEAK = ["generate", "--text", "Hi."]


@pytest.fixture
def run(tmp_path, monkeypatch, run_command):
    monkeypatch.chdir(tmp_path)
    soundfile.write("clip.wav", np.sin(np.arange(32000) / 9), 16000)
    return lambda *arguments: run_command(cli.main, *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*SPEAK, "--cfg_value", "999"], ": --cfg_value is 999.0; it must be"),
        ([*SPEAK, "--cfg-scale", "999"], ": --cfg_value is 999.0; it must be"),
        ([*SPEAK, "--solver", "rk"], ": --solver is 'rk'; it must be"),
        ([*SPEAK, "--model", "demo", "--dtype", "int8"], ": --dtype is 'int8'; it must be"),
        ([*SPEAK, "--fast", "--solver", "euler", "--inference_timesteps", "9"], ": --fast has"),
        ([*SPEAK, "--parallel", "2", "--continue_segments"], ": --parallel is 2 with --continue_s"),
        ([*SPEAK, "--prompt_text", "Hi."], ": --prompt_text is given without --prompt_audio;"),
        ([*SPEAK, "--prompt_audio", "clip.wav"], "without --prompt_text; give its transcript"),
        ([*SPEAK, "--ref_audio", "none.wav"], ": --ref_audio: no file"),
        ([*SPEAK, "--output", "none/a.wav"], ": --output: no folder"),
        ([*SPEAK, "--output", "a.xyz"], ": --output: .xyz files cannot be written"),
        ([*SPEAK, "--subtitles", "none/a.srt"], ": --subtitles: no folder"),
        ([*SPEAK, "--normalize", "--language", "xx"], ": --normalize does not know the language"),
        ([*SPEAK, "--asr_model", "x"], ": --asr_model is given without a use"),
        ([*SPEAK, "--device", "tpu"], ": --device is 'tpu'; it must be"),
        (["generate", "--text", "a", "--text_file", "b"], ": --text and a file with it are both"),
        (["voice", "add", "a", "--ref_audio", "none.wav"], ": --ref_audio: no file"),
        (["transcribe", "clip.wav", "--output", "a.xyz"], ": --output: 'a.xyz' ends in no"),
        (["convert", "--hf_path", "a", "--q_bits", "0"], ": --q_bits is 0; it must be"),
        (
            ["convert", "--hf_path", "a", "--q_bits", "4"],
            ": --q_bits says how to quantise; give --quantize",
        ),
        (["serve", "--cfg_value", "999"], ": --cfg_value is 999.0; it must be"),
        (["app", "--cfg_value", "999"], ": --cfg_value is 999.0; it must be"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_a_command_says_its_flags(run, arguments, words):
    status, _, err = run(*arguments)
    assert status == 2 and words in err and err.count("\n") == 1


def test_a_warning_says_them_too(run, caplog):
    soundfile.write("quiet.wav", 0.01 * np.sin(np.arange(48000) / 9), 16000)
    status, _, _ = run(
        "voice", "add", "./a.safetensors", "--ref_audio", "quiet.wav", "--model", "demo"
    )
    assert status == 0 and "--ref_audio: " in caplog.text and "(--as_is leaves it)" in caplog.text


def test_lines_of_a_batch_and_requests_say_their_fields(run):
    Path("a.jsonl").write_text(json.dumps({"text": "Hi.", "cfg_value": 999}) + "\n")
    status, _, err = run("batch", "--input", "a.jsonl", "--output_dir", "out")
    assert status == 2 and "line 1: cfg_value is 999" in err
    with pytest.raises(ValueError, match=r"^cfg_value is 999"):
        SpeechRequest.parse({"input": "a", "cfg_value": 999}, Limits("a", 9, GenerationOptions()))


def test_python_says_keywords():
    for refused, words in (
        (lambda: GenerationOptions(cfg_value=999), "cfg_value is 999"),
        (lambda: VoiceInputs(prompt_text="a"), "prompt_text is given without prompt_audio;"),
        (lambda: choose_precision("int8", None), "dtype is 'int8'"),
        (lambda: check_output("a.xyz"), "output: .xyz files"),
    ):
        with pytest.raises(ValueError) as error:
            refused()
        assert str(error.value).startswith(words)


def test_a_spelling_ends_with_its_block():
    with pytest.raises(KeyError), options_spelled({"a": "--b"}.__getitem__):
        assert option("a") == "--b"
        with options_spelled():
            assert option("a") == "a"
        option("c")
    assert option("a") == "a"
