"""Training by the command, killed at its changes of files, ends as if it had never been killed."""

import os
import shutil
from pathlib import Path

import pytest
from crashes import kill_at_each_change
from safetensors.numpy import load_file
from training_runs import arguments, losses, run

from mlx_voxcpm2.training import run_folder

STEP = 35
"""States from one kill to the next; all of them take minutes."""

SETTINGS = """
lora: {r: 2, alpha: 4}
max_steps: 3
save_interval: 1
keep_checkpoints: 2
precision: float32
"""


def contents(folder: Path) -> dict[str, object]:
    """Files below a run's folder, with the weights and optimizer states of its checkpoints."""
    return {
        file.relative_to(folder).as_posix(): {
            name: value.tobytes() for name, value in load_file(file).items()
        }
        if file.suffix == ".safetensors" and "step_" in file.as_posix()
        else None
        for file in sorted(folder.rglob("*"))
        if not file.is_dir()
    }


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), STEP])
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    released, training_data, tmp_path, monkeypatch, step
):
    monkeypatch.setattr(run_folder, "draw_plot", lambda rows: bytes(len(rows)))
    place, config = tmp_path / "place", tmp_path / "short.yaml"
    place.mkdir()
    config.write_text(SETTINGS)

    def train(output: Path) -> None:
        command = arguments(released.folder, training_data, output, "--config", str(config))
        assert run(*command) == 0

    train(tmp_path / "whole")
    wanted, log = contents(tmp_path / "whole"), losses(tmp_path / "whole")
    output = place / "run"

    def prepare() -> None:
        shutil.rmtree(output, ignore_errors=True)

    for kill in kill_at_each_change(place, prepare, lambda: train(output), 50, step=step):
        train(output)
        assert (kill, contents(output)) == (kill, wanted)
        assert losses(output) == log
        assert os.readlink(output / "latest") == "step_0000003"
