"""The command line as a user meets it: help, hints, progress, reports, Ctrl-C, completion."""

import io
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import module_command, without_hints
from help_picture import FILE, picture

from mlx_voxcpm2 import __version__, cli
from mlx_voxcpm2.commands import batch, generate
from mlx_voxcpm2.commands.progress import SpeechBar
from mlx_voxcpm2.commands.report import print_report

QUICK = ["--inference_timesteps", "1", "--max_tokens", "3", "--seed", "3"]


@pytest.fixture
def main(monkeypatch, run_command):
    """Runs `mlx-voxcpm2` on a terminal of 80 columns: status, standard output and error."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_command(cli.main, *arguments)

    return run


def test_the_help_of_generate_fits_one_screen(main):
    status, out, _ = main("generate", "--help")
    lines = out.splitlines()
    assert status == 0 and len(lines) <= 45 and max(map(len, lines)) <= 80
    assert FILE.read_text(encoding="utf-8") == picture(out), "run python tests/help_picture.py"
    assert out.index("examples:") < out.index("--ref_audio PATH")
    assert 18 <= len(re.findall(r"^  --", out, re.M)) <= 26
    everything = main("generate", "--help-all")[1]
    flags = set(re.findall(r"^  (--\w+)", everything, re.M))
    assert {"--min_tokens", "--verify_limit", "--crossfade", "--cache_dir", "--speed"} <= flags
    assert not {"--pitch", "--cfg_scale", "--lora_r"} & flags


@pytest.mark.parametrize("name", ["convert", "train", "transcribe", "voice", "doctor"])
def test_help_all_is_help_where_that_shows_all(main, name):
    status, out, _ = main(name, "--help-all")
    assert (status, out) == (0, main(name, "--help")[1])


@pytest.mark.parametrize(
    ("name", "own", "foreign"),
    [
        ("design", "--instruct", "--ref_audio"),
        ("clone", "--ref_audio", "--voice"),
        ("validate", "--train", "--output"),
        ("train", "--output", "--ref_audio"),
    ],
)
def test_each_command_has_examples_of_its_own(main, name, own, foreign):
    status, out, _ = main(name, "--help")
    examples = [line for line in out.splitlines() if line.startswith(f"  mlx-voxcpm2 {name} ")]
    assert status == 0 and examples
    assert any(own in each for each in examples) and not any(foreign in each for each in examples)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_no_help_is_cut_within_parentheses(main, name):
    _, out, _ = main(name, "--help")
    assert out.count("(") == out.count(")") and max(map(len, out.splitlines())) <= 80


def test_without_a_command_the_help_is_shown(main):
    status, out, err = main()
    assert status == 0 and err == "" and all(name in out for name in cli.COMMANDS)
    assert main("--help")[1] == out


def test_every_command_says_its_version(main):
    for command in ([], ["voice"], ["voice", "add"], *([name] for name in cli._ALL)):
        assert main(*command, "--version")[:2] == (0, f"mlx-voxcpm2 {__version__}\n"), command


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["generat"], "did you mean generate?"),
        (["Hello there."], 'mlx-voxcpm2 generate "Hello there."'),
        (["xyz"], "the commands are generate, batch"),
        (["generate", "Hello.", "--ouput", "a.wav"], "did you mean --output?"),
        (["generate", "Hello.", "--ref-adio=a.wav"], "did you mean --ref_audio?"),
        (["generate", "Hello", "there."], "put a text in quotes"),
        (["generate", "Hello.", "--text", "Hi."], "'Hello.' is given beside --text"),
        (
            ["batch", "--input", "a", "--output_dir", "b", "--formt", "wav"],
            "did you mean --format?",
        ),
        (["convert", "--dequantise"], "did you mean --dequantize?"),
        (["train", "--max_step", "3"], "did you mean --max_steps?"),
        (["voice", "add", "anna", "--ref_adio", "a"], "did you mean --ref_audio?"),
        (["serve", "--prt", "3"], "did you mean --port?"),
        (["app", "--xyzzy"], "there is no flag --xyzzy; --help-all lists the flags"),
    ],
)
def test_a_wrong_command_or_flag_gets_a_hint(main, arguments, hint):
    status, out, err = main(*arguments)
    assert status == 2 and out == "" and err.count("\n") == 1
    assert hint in err or hint.replace("; --help-all", "; --help-all") in err


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def states(self) -> list[str]:
        """What the bar showed, one after another."""
        return [each for each in re.split(r"[\r\n]|\x1b\[A", self.getvalue()) if each.strip()]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["generate", "--text", "-x"], "given as --text=-x"),
        (["generate", "--text", "--what?", "--seed", "1"], "given as '--text=--what?'"),
        (["generate", "-x"], "there is no flag -x; a text that begins with a hyphen is given as"),
        (["generate", "--control", "-x"], "given as --instruct=-x"),
        (["generate", "--text", "--output", "a.wav"], "has no value before --output; give one"),
        (["generate", "--prompt-text"], "--prompt_text has no value; give one"),
        (["batch", "--input", "a.txt", "--instruct", "-x"], "given as --instruct=-x"),
        (["voice", "add", "a", "--description", "-x"], "given as --description=-x"),
        (["dialogue", "a.txt", "--voices", "-x"], "given as --voices=-x"),
        (["transcribe", "-x"], "there is no flag -x"),
        (["batch", "--inptu", "a.txt"], "there is no flag --inptu; did you mean --input?"),
    ],
)
def test_a_value_that_begins_with_a_hyphen_is_told_from_a_missing_one(main, arguments, line):
    status, out, err = main(*arguments)
    assert status == 2 and out == "" and line in err and err.count("\n") == 1
    assert "argument" not in err and "required" not in err


def test_a_text_that_begins_with_a_hyphen_is_taken_as_the_message_says(main):
    for given in (["--text=-x"], ["-5 degrees"], ["--text", "-5"], ["--text", "- one"]):
        assert "./none: no such folder" in main("generate", *given, "--model", "./none")[2]


@pytest.fixture
def speak(released, tmp_path, monkeypatch):
    """Runs a command on a terminal, on the model that is loaded; returns its standard error."""
    monkeypatch.chdir(tmp_path)
    for module in (generate, batch):
        monkeypatch.setattr(module, "load", lambda choice: released.model)

    def run(module, *arguments: str) -> Terminal:
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            patch.setattr(logging.root, "handlers", [])  # pytest's
            assert module.main(["--model", str(released.folder), *QUICK, *arguments]) == 0
        return terminal

    return run


def seconds(terminal: Terminal) -> list[float]:
    """Seconds of speech that the bar showed, without repetitions."""
    found = [re.search(r"([\d.]+) of about \d+ s of speech", each) for each in terminal.states]
    values = [float(each[1]) for each in found if each]
    return [b for a, b in zip([None, *values], values, strict=False) if a != b]


BOOK = "The first one is long enough to be cloned.\n\nYes. [pause:0.8] " + "No, the the. " * 3
PATCHES = [0.0, 0.2, 0.3, 0.5, 0.6, 0.8, 1.0, 1.1, 1.3, 1.4]


def test_the_bar_of_a_text_moves_with_every_patch(speak):
    terminal = speak(generate, "Hello.", "--output", "a.wav")
    assert seconds(terminal) == PATCHES[:4]
    assert re.search(
        r"0\.5 of about 1 s of speech \|.+\| 00:\d\d, 00:\d\d left", terminal.getvalue()
    )


def test_the_bar_of_a_long_text_moves_with_every_patch(speak):
    terminal = speak(generate, BOOK, "--output", "a.wav")
    assert seconds(terminal) == PATCHES
    assert "2 of 3 segments" in terminal.getvalue()
    together = seconds(speak(generate, BOOK, "--output", "b.wav", "--parallel", "2"))
    assert together == sorted(together) and together[-1] == 1.4 and len(together) >= 7


def test_the_bar_of_a_batch_moves_with_every_patch(speak):
    Path("lines.txt").write_text("One.\nTwo.\n")
    flags = ["--input", "lines.txt", "--output_dir", "out", "--batch_size", "1"]
    terminal = speak(batch, *flags)
    assert seconds(terminal) == PATCHES[:7] and "1 of 2 texts" in terminal.getvalue()


def test_messages_stand_on_lines_of_their_own_above_the_bar(speak, monkeypatch):
    def fault(attempt, finish_reason):
        return "0.5 s of silence" if attempt.number == 1 else None

    monkeypatch.setattr("mlx_voxcpm2.speech.generation.Attempt.fault", fault)
    terminal = speak(generate, "Hello.", "--output", "a.wav")
    message = "seed 3 gave 0.5 s of silence; generating again with the next seed"
    (line,) = [each for each in terminal.getvalue().split("\n") if message in each]
    assert line.split("\r")[-1] == message, "the bar is wiped from the line before"


def test_the_estimate_follows_what_was_spoken():
    bar = SpeechBar(letters=300)
    assert bar._total(0) == 20
    bar.finish("a" * 100, 10)
    assert bar._total(10) == 30
    bar.leave_out("b" * 100)
    assert bar._total(10) == 20 and bar._total(25) == 25


def test_a_report_has_two_lines_of_80_columns(capsys, speak):
    print_report("/a/long/path" * 9 + "/end.wav", 12345.67, 4567.89, ["a", "b"])
    first, second = capsys.readouterr().err.splitlines()
    assert len(first) <= 80 and "/end.wav: 12345.67 s of speech in 4567.89 s" in first
    assert second == "a; b"
    report = speak(generate, "Hello.", "--no_retry_by_ear").getvalue().split("\r")[-1]
    lines = [line for line in report.splitlines() if "incomplete" not in line]
    assert len(lines) == 2 and max(map(len, lines)) <= 80


def test_audio_is_not_written_to_a_terminal(main, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    status, out, err = main("generate", "Hello.", "--output", "-")
    assert status == 2 and out == "" and "standard output is a terminal" in err
    assert err.count("\n") == 1


def test_an_empty_output_is_refused(main):
    status, out, err = main("generate", "Hello.", "--output", "")
    assert (
        status == 2 and out == "" and "--output is empty" in err and not Path("speech.wav").exists()
    )


def test_ctrl_c_during_the_imports_is_one_line_and_status_130(tmp_path):
    """numpy is imported early; here it is a file that presses Ctrl-C."""
    (tmp_path / "numpy.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n"
    )
    places = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parent.parent)])
    command = [sys.executable, "-m", "mlx_voxcpm2", "generate", "Hello."]
    environment = os.environ | {"PYTHONPATH": places}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "mlx-voxcpm2: stopped\n")


def test_ctrl_c_during_a_command_is_one_line_and_status_130(main, monkeypatch):
    def press(_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(generate, "read_arguments", press)
    monkeypatch.setattr("threading.active_count", lambda: 1)  # else it ends this process
    assert main("generate", "Hello.") == (130, "", "mlx-voxcpm2 generate: stopped\n")


def test_importing_the_library_leaves_ctrl_c_alone():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def completed(line: str, tmp_path: Path) -> set[str]:
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    program = "import sys; from mlx_voxcpm2.cli import main; sys.argv = ['mlx-voxcpm2']; main()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return {word.strip() for word in answer.read_text().split("\n")}


def test_a_shell_completes_commands_and_flags(tmp_path):
    assert completed("mlx-voxcpm2 ge", tmp_path) == {"generate"}
    found = completed("mlx-voxcpm2 generate Hello. --ref", tmp_path)
    assert found == {"--ref_audio", "--ref-audio"} or "--ref_audio" in found
    assert "--ref_text" not in found


def test_a_temporary_folder_that_is_missing_is_a_line(tmp_path):
    """Some versions of MLX ask for it when a file of weights is read."""
    command = module_command("generate", "--model", "demo", "--text", "hello")
    found = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    if found.returncode == 0:
        return
    assert found.returncode == 2 and not any(tmp_path.iterdir())
    (line,) = without_hints(found.stderr).splitlines()
    assert line.endswith(f"TMPDIR is {tmp_path / 'none'}, no usable folder; set it to one")
