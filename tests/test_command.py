"""The command line: what it writes, what it says, how it fails."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import soundfile
from conftest import module_command

from mlx_voxcpm2 import cli
from mlx_voxcpm2.commands import generate

QUICK = ["--inference_timesteps", "2", "--max_tokens", "3", "--dtype", "float32"]


@pytest.fixture
def run(released, tmp_path, monkeypatch, run_command):
    """Runs the command in an empty folder; returns status, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, model: Path | str | None = None):
        return run_command(
            generate.main, "--model", str(model or released.folder), *QUICK, *arguments
        )

    return run


@pytest.fixture
def clip(released, tmp_path) -> str:
    return str(checkpoints.write_wav(tmp_path / "clip.wav", *released.waveform("short")))


def test_the_readmes_command_writes_48_khz_speech(run, released):
    status, out, err = run(
        "--text",
        "Hello.",
        "--instruct",
        "A warm, low voice",
        "--output",
        "hello.wav",
        "--seed",
        "7",
    )
    assert status == 0 and out == ""
    audio, rate = soundfile.read("hello.wav", dtype="float32")
    (result,) = released.model.generate(
        "Hello.", instruct="A warm, low voice", seed=7, max_tokens=3, inference_timesteps=2
    )
    assert rate == 48000
    np.testing.assert_allclose(audio, np.array(result.audio), atol=2 / 2**15)
    for wanted in ("hello.wav", "0.48 s of speech", "real time", "first audio", "GB", "seed 7"):
        assert wanted in err


def test_the_solver_flag_is_the_librarys_option(run, released):
    flags = ["--inference_timesteps", "4", "--seed", "7", "--output", "adams.wav"]
    assert run("--text", "Hello.", "--solver", "adams", *flags)[0] == 0
    audio, _ = soundfile.read("adams.wav", dtype="float32")
    (result,) = released.model.generate(
        "Hello.", solver="adams", seed=7, max_tokens=3, inference_timesteps=4
    )
    np.testing.assert_allclose(audio, np.array(result.audio), atol=2 / 2**15)


def test_without_output_it_writes_speech_wav(run):
    assert run("--text", "Hello.")[0] == 0
    assert soundfile.info("speech.wav").frames == 3 * 7680


def test_all_voices_can_be_given(run, clip):
    prompt = ["--prompt_audio", clip, "--prompt_text", "Hi."]
    Path("prompt.txt").write_text("Hi.\n")
    for voice in (
        ["--ref_audio", clip],
        ["--reference-audio", clip, "--control", "calm"],
        prompt,
        ["--ref-audio", clip, *prompt],
        ["--prompt-audio", clip, "--prompt-file", "prompt.txt"],
    ):
        assert run("--text", "Hello.", *voice)[0] == 0, voice


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff", "WAV"])
def test_the_suffix_chooses_the_format(run, suffix):
    assert run("--text", "Hello.", "--output", f"a.{suffix}")[0] == 0
    info = soundfile.info(f"a.{suffix}")
    assert info.samplerate == 48000
    assert info.duration == pytest.approx(0.48, abs=0.05)


def test_text_comes_from_a_file_or_standard_input(run, monkeypatch):
    arguments = ["--seed", "1", "--output"]
    assert run("--text", "Grüß dich.", *arguments, "a.wav")[0] == 0
    Path("text.txt").write_text("\ufeffGrüß dich.\n", encoding="utf-8")
    assert run("--text-file", "text.txt", *arguments, "b.wav")[0] == 0
    for source, name in (([], "c"), (["--text_file", "-"], "d")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüß dich.\n".encode())))
        assert run(*source, *arguments, f"{name}.wav")[0] == 0
    first, *others = (Path(f"{name}.wav").read_bytes() for name in "abcd")
    assert others == [first, first, first]


def test_streaming_writes_the_same_file(run):
    assert run("--text", "Hello.", "--seed", "2", "--output", "whole.wav")[0] == 0
    assert run("--text", "Hello.", "--seed", "2", "--output", "grown.wav", "--stream")[0] == 0
    assert Path("whole.wav").read_bytes() == Path("grown.wav").read_bytes()


def test_audio_goes_to_standard_output(released, tmp_path):
    """Nothing else may be in it."""
    for flags in ([], ["--stream"]):
        given = ["--text", "Hello.", "--seed", "3", "--output", "-", *flags]
        command = module_command("generate", "--model", released.folder, *QUICK, *given)
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=True)
        pcm = done.stdout[44:]
        assert done.stdout[:4] == b"RIFF" and len(pcm) == 2 * 3 * 7680
        assert np.abs(np.frombuffer(pcm, "<i2")).max() > 0


def test_a_closed_pipe_ends_the_command_quietly(released, tmp_path):
    command = (
        f"'{sys.executable}' -m mlx_voxcpm2.generate --model '{released.folder}' --dtype float32 "
        "--text 'Hello there.' --stream --output - --inference_timesteps 1 --min_tokens 60 "
        "--max_tokens 60 | head -c 1000 >/dev/null; exit ${PIPESTATUS[0]}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_streamed_file_is_valid_after_a_kill(released, tmp_path):
    output = tmp_path / "grown.wav"
    given = ["--text", "the " * 60, "--stream", "--output", output, "--min_tokens", "300"]
    command = module_command("generate", "--model", released.folder, "--dtype", "float32", *given)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not output.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    audio, rate = soundfile.read(output)
    assert rate == 48000 and len(audio) >= 7680 and len(audio) % 7680 == 0
    assert os.listdir(tmp_path) == ["grown.wav"]


def test_a_cut_utterance_is_reported(run, caplog):
    assert run("--text", "Hello.", "--min_tokens", "3")[0] == 0
    assert "cut after 0.48 s" in caplog.text


def test_both_spellings_and_the_names_of_others_are_known():
    parser = generate.build_parser()
    pairs = [
        (["--cfg-scale", "1.5"], "cfg_value", 1.5),
        (["--cfg_value", "1.5"], "cfg_value", 1.5),
        (["--ddpm_steps", "5"], "inference_timesteps", 5),
        (["--inference-timesteps", "5"], "inference_timesteps", 5),
        (["--max-len", "5"], "max_tokens", 5),
        (["--model-path", "x"], "model", "x"),
        (["--hf_model_id", "x"], "model", "x"),
        (["--control", "x"], "instruct", "x"),
        (["--reference_audio", "x"], "ref_audio", "x"),
    ]
    for arguments, name, value in pairs:
        assert getattr(parser.parse_args(arguments), name) == value
    help_text = parser.format_help()
    assert "--ref_audio PATH " in help_text and "--ref-audio" not in help_text


BAD = [
    ([], "text is empty"),
    (["--text", ""], "text is empty"),
    (["--text", " \t"], "text is empty"),
    (["--text", "a", "--text_file", "b"], "both given"),
    (["--text_file", "missing.txt"], "missing.txt"),
    (["--text_file", "."], "is a folder"),
    (["--text_file", "latin.txt"], "not UTF-8"),
    (["--text", "a", "--ref_audio", "missing.wav"], "missing.wav"),
    (["--text", "a", "--ref_audio", "."], "folder"),
    (["--text", "a", "--ref_audio", "latin.txt"], "latin.txt"),
    (["--text", "a", "--ref_audio", "empty.wav"], "ref_audio"),
    (["--text", "a", "--ref_audio", "infinite.wav"], "NaN or infinite"),
    (["--text", "a", "--prompt_audio", "good.wav"], "prompt_text"),
    (["--text", "a", "--prompt_text", "b"], "prompt_audio"),
    (["--text", "a", "--prompt_audio", "good.wav", "--prompt_text", ""], "prompt_text is empty"),
    (
        ["--text", "a", "--prompt_audio", "good.wav", "--prompt_text", "b", "--instruct", "c"],
        "instruct",
    ),
    (["--text", "a", "--cfg_value", "nan"], "cfg_value"),
    (["--text", "a", "--cfg_value", "0"], "cfg_value"),
    (["--text", "a", "--cfg_value", "much"], "cfg_value"),
    (["--text", "a", "--inference_timesteps", "0"], "inference_timesteps"),
    (["--text", "a", "--temperature", "inf"], "temperature"),
    (["--text", "a", "--solver", "rk4"], "solver is 'rk4'; it must be 'euler' or 'adams'"),
    (["--text", "a", "--seed", "-1"], "seed"),
    (["--text", "a", "--max_tokens", "0"], "max_tokens"),
    (["--text", "a", "--dtype", "int8"], "dtype"),
    (["--text", "the " * 600, "--segment_length", "0"], "more than the model's 512"),
    (["--text", "a", "--ref_audio", "long.wav"], "more than the model's 512"),
    (["--text", "a", "--output", "missing/a.wav"], "missing"),
    (["--text", "a", "--output", "."], "output"),
    (["--text", "a", "--output", "a.txt"], ".txt"),
    (["--text", "a", "--output", "a.flac", "--stream"], "cannot be streamed"),
    (["--text", "a", "--output", "/proc/a.wav"], "/proc/a.wav"),
    (["--text", "a", "--stream", "--play"], "--output"),
    (["--text", "a", "--speaker", "b"], "--speaker"),
    (["--text", "a", "--outp", "b.wav"], "--outp"),
]


@pytest.mark.parametrize(("arguments", "line"), BAD, ids=[" ".join(a)[:60] for a, _ in BAD])
def test_bad_input_is_one_line_and_status_2_and_leaves_nothing(run, arguments, line, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    tone = np.sin(np.arange(4000) / 9).astype(np.float32)
    Path("latin.txt").write_bytes("Grüße".encode("latin-1"))
    soundfile.write("good.wav", tone, 16000)
    soundfile.write("empty.wav", tone[:0], 16000)
    soundfile.write("infinite.wav", np.full(9, np.inf), 16000, "FLOAT")
    soundfile.write("long.wav", np.zeros(16000 * 90), 16000)
    before = sorted(os.listdir())
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert line in err and "Traceback" not in err
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_a_failure_after_loading_is_still_one_line(released, tmp_path):
    """Hints about types and speed wait until the speech begins."""
    given = ["--output", tmp_path / "a.wav", "--max_tokens", "1", "--text"]
    command = module_command("generate", "--model", released.folder, *given)
    failed = subprocess.run(
        [*command, "the " * 600, "--segment_length", "0"], capture_output=True, text=True
    )
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    slow = [*command, "the", "--dtype", "bfloat16"]
    spoken = subprocess.run(slow, capture_output=True, text=True)
    assert spoken.returncode == 0 and "leave out --dtype" in spoken.stderr


def test_a_bad_checkpoint_is_one_line_and_status_2(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for model, line in ((tmp_path / "empty", "config.json"), (tmp_path / "none", "no such folder")):
        status, out, err = run("--text", "a", model=model)
        assert (status, out, err.count("\n")) == (2, "", 1) and line in err


def test_an_older_file_survives_a_failure(run):
    Path("speech.wav").write_bytes(b"precious")
    for flags in ([], ["--stream"]):
        assert (
            run("--text", "the " * 600, "--segment_length", "0", *flags, "--output", "speech.wav")[
                0
            ]
            == 2
        )
        assert Path("speech.wav").read_bytes() == b"precious"


def test_playing_without_its_package_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    status, _, err = run("--text", "a", "--play")
    assert status == 2 and "mlx-voxcpm2[play]" in err and err.count("\n") == 1


def test_the_loudspeaker_gets_every_patch_and_no_file_is_written(run, monkeypatch):
    heard = []

    class Silent:
        def __init__(self, sample_rate):
            assert sample_rate == 48000

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, chunk):
            heard.append(len(chunk))

    monkeypatch.setattr("mlx_voxcpm2.audio.playback.Loudspeaker", Silent)
    status, _, err = run("--text", "Hello.", "--play")
    assert status == 0 and heard == [7680] * 3 and os.listdir() == []
    assert "played" in err


def test_the_installed_command_runs_the_commands(released, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", str(released.folder), "--text", "Hi.", *QUICK]
    assert cli.main(["generate", *arguments]) == 0
    assert soundfile.info("speech.wav").frames == 3 * 7680
    assert cli.main(["convert", "--hf-path", str(released.folder), "--mlx-path", "new"]) == 0
    assert (tmp_path / "new" / "model.safetensors").exists()
    capfd.readouterr()
    assert cli.main(["speak"]) == 2 and capfd.readouterr().err.count("\n") == 1
