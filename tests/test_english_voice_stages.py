"""The command that makes the voice for any English text, with its stages replaced."""

import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "demo_voice"))

import build_english
from build_english import Sizes, stages


@pytest.mark.parametrize("has_voice", [True, False])
def test_one_command_runs_all_stages(tmp_path, has_voice, monkeypatch):
    """Each script exists and knows its arguments; from nothing the first stages run too."""
    ran = stages(tmp_path, Sizes(), has_voice, "english")
    folder = Path(build_english.__file__).parent
    for script, *arguments in ran:
        source = (folder / script).read_text(encoding="utf-8")
        assert all(f'"{each}"' in source for each in arguments if each.startswith("--")), script
    scripts = [script for script, *_ in ran]
    assert ("train_reader.py" in scripts) is not has_voice
    assert scripts[:2] == ["labels.py", "speech_corpus.py"]
    assert scripts[-3:] == ["export_speech.py", "evaluate_speech.py", "evaluate_modes.py"]


@pytest.fixture
def stages_run(monkeypatch):
    """The commands of the stages, which end with the statuses given by script."""
    said, statuses = [], {}

    def run(command):
        said.append([Path(command[1]).name, *command[2:]])
        return CompletedProcess(command, statuses.get(said[-1][0], 0))

    def build(*arguments: str, **given: int) -> tuple[int, list[list[str]]]:
        statuses.update({f"{name}.py": status for name, status in given.items()})
        monkeypatch.setattr(sys, "argv", ["build_english.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            build_english.main()
        return stopped.value.code, said

    monkeypatch.setattr(build_english.subprocess, "run", run)
    return build


def test_a_stage_that_fails_is_the_last_one(tmp_path, stages_run):
    status, said = stages_run(str(tmp_path), predicted_speech=3)
    assert (status, said[-1][0]) == (3, "predicted_speech.py")


def test_both_measurements_are_made_though_the_first_is_not_reached(tmp_path, stages_run):
    status, said = stages_run(str(tmp_path), evaluate_speech=1)
    assert (status, said[-1][0]) == (1, "evaluate_modes.py")


def test_a_quick_build_leaves_the_packages_voice_alone(tmp_path, stages_run):
    status, said = stages_run(str(tmp_path), "--quick")
    assert status == 0
    voices = {script: rest for script, *rest in said[-3:]}
    own = str(tmp_path / "english")
    assert voices["export_speech.py"] == [str(tmp_path), own]
    assert {rest[0] for script, rest in voices.items() if script.startswith("evaluate")} == {own}
