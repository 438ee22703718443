"""The command that makes the voice for any English text, with its stages replaced."""

import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

import build_english
from build_english import Sizes, stages


@pytest.mark.parametrize("has_voice", [True, False])
def test_one_command_runs_all_stages(tmp_path, has_voice):
    """Each script exists and knows its arguments; from nothing the first stages run too."""
    turns = stages(tmp_path, Sizes(), has_voice, "english")
    ran = [command for turn in turns for commands in turn for command in commands]
    folder = Path(build_english.__file__).parent
    for script, *arguments in ran:
        source = (folder / script).read_text(encoding="utf-8")
        assert all(f'"{each}"' in source for each in arguments if each.startswith("--")), script
    scripts = [script for script, *_ in ran]
    assert ("train_reader.py" in scripts) is not has_voice
    assert scripts[:2] == ["labels.py", "speech_corpus.py"]
    assert scripts[-3:] == ["export_speech.py", "evaluate_speech.py", "evaluate_modes.py"]


def scripts_of(commands: list[list[str]]) -> list[str]:
    return [script for script, *_ in commands]


def test_stages_run_after_those_whose_results_they_need(tmp_path):
    corpus, training, in_voices, export, measurements = stages(tmp_path, Sizes(), False, "english")
    sound, network = training
    assert scripts_of(network) == ["train_reader.py", "train_voice.py", "predicted_speech.py"]
    for before, commands in zip(sound, in_voices, strict=False):  # decoder, then encoder
        assert before[1] == commands[0][1]
        assert "--voices" in commands[0] and "--voices" not in before
        steps = [int(each[each.index("--steps") + 1]) for each in (before, commands[0])]
        assert steps[0] < steps[1]
    assert [len(turn) for turn in (corpus, export, measurements)] == [1, 1, 2]


@pytest.fixture
def stages_run(monkeypatch):
    """Runs the build; its status and commands, which end with the statuses given by script."""
    said, statuses, threads = [], {}, {}

    def run(command, env, stdout, stderr):
        script = Path(command[1]).name
        said.append([script, *command[2:]])
        threads[script] = int(env["OMP_NUM_THREADS"])
        for stream in (stdout, stderr):
            print("a line of", script, file=stream, flush=True)
        return CompletedProcess(command, statuses.get(script, 0))

    def build(*arguments: str, **given: int) -> tuple[int, list[list[str]]]:
        statuses.update({f"{name}.py": status for name, status in given.items()})
        monkeypatch.setattr(sys, "argv", ["build_english.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            build_english.main()
        return stopped.value.code, said

    monkeypatch.setattr(build_english.subprocess, "run", run)
    build.threads = threads
    return build


def test_no_stage_follows_one_that_failed(tmp_path, stages_run):
    status, said = stages_run(str(tmp_path), predicted_speech=3)
    assert status == 3
    assert "export_speech.py" not in scripts_of(said)


def test_measurements_that_miss_their_goal_end_nothing(tmp_path, stages_run):
    status, said = stages_run(str(tmp_path), evaluate_speech=1, evaluate_vae=1)
    assert status == 1
    assert {"export_speech.py", "evaluate_modes.py"} <= set(scripts_of(said))


def test_stages_beside_each_other_share_the_cores(tmp_path, stages_run, monkeypatch):
    monkeypatch.setattr(build_english, "BUILT_IN", {"english": tmp_path / "missing"})
    monkeypatch.setattr(build_english.os, "cpu_count", lambda: 6)
    stages_run(str(tmp_path))
    threads = [stages_run.threads[f"{name}.py"] for name in ("labels", "train_voice")]
    assert threads == [6, 3]


def test_what_a_stage_prints_is_in_its_log(tmp_path, stages_run, capsys):
    stages_run(str(tmp_path))
    logs = {path.stem: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert {"labels", "train_voice", "evaluate_modes"} <= set(logs)
    assert logs["labels"] == "a line of labels.py\n" * 2
    said = capsys.readouterr().out
    assert "a line" not in said
    assert f"labels.py {tmp_path}: 0.0 minutes, status 0\n" in said


def test_a_quick_build_leaves_the_packages_voice_alone(tmp_path, stages_run):
    status, said = stages_run(str(tmp_path), "--quick")
    assert status == 0
    voices = {script: rest for script, *rest in said[-3:]}
    own = str(tmp_path / "english")
    assert voices["export_speech.py"] == [str(tmp_path), own]
    assert {rest[0] for script, rest in voices.items() if script.startswith("evaluate")} == {own}
