"""Processes that share each batch, started as `mlx.launch` starts them, over MLX's ring."""

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import without_hints
from training_runs import SETTINGS, arguments, losses, run

from mlx_voxcpm2.commands import train

TIMEOUT = 600


@pytest.fixture
def run_processes(tmp_path):
    """Function that runs the command in as many processes as there are lists of arguments.

    Returns the processes' statuses and messages.
    """

    def run_all(*each: list[str]) -> tuple[list[int], list[str]]:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in each]
        hosts = [[f"127.0.0.1:{one.getsockname()[1]}"] for one in sockets]
        for one in sockets:
            one.close()
        (tmp_path / "hosts.json").write_text(json.dumps(hosts))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes = []
        for rank, flags in enumerate(each):
            group = {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(tmp_path / "hosts.json")}
            command = [sys.executable, "-m", "mlx_voxcpm2.train", *flags]
            processes.append(subprocess.Popen(command, env=os.environ | group, **pipes))
        try:
            said = [without_hints(each.communicate(timeout=TIMEOUT)[0]) for each in processes]
        finally:
            for process in processes:
                process.kill()
        return [process.returncode for process in processes], said

    return run_all


def assert_near(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-5)


def test_two_processes_have_the_losses_of_one(
    released, training_data, tmp_path, run_processes, monkeypatch
):
    """True also after a checkpoint, which only the first process sees and one process wrote."""
    config = tmp_path / "train.yaml"
    config.write_text(SETTINGS.replace("dropout: 0.2", "dropout: 0"))
    flags = ["--config", str(config), "--lora", "--batch_size", "3", "--max_steps", "4"]
    outputs = {name: tmp_path / name for name in ("alone", "first", "second", "broken")}
    of = {}
    for name, output in outputs.items():
        of[name] = arguments(released.folder, training_data, output, *flags)
    assert run(*of["alone"]) == 0
    rows = losses(outputs["alone"])

    statuses, said = run_processes(of["first"], of["second"])
    assert statuses == [0, 0], said
    assert "step 4 of 4" in said[0] and said[1] == ""
    assert_near(losses(outputs["first"]), rows)
    assert {path.name for path in outputs["second"].iterdir()} == {"latents"}

    def stop(self, step, validation):
        if step.number == 3:
            raise OSError("enough")

    with monkeypatch.context() as patch:
        patch.setattr(train.Progress, "__call__", stop)
        assert run(*of["broken"]) == 2
    statuses, said = run_processes(of["broken"], of["second"])
    assert statuses == [0, 0], said
    assert "step 3 of 4" in said[0] and "step 2 of 4" not in said[0]
    assert_near(losses(outputs["broken"]), rows)


def test_only_a_process_that_cannot_start_reports_why_and_none_waits(
    released, training_data, tmp_path, run_processes
):
    missing = training_data.with_name("no.jsonl")
    first = arguments(released.folder, training_data, tmp_path / "first")
    second = arguments(released.folder, missing, tmp_path / "second")
    statuses, said = run_processes(first, second)
    assert statuses == [2, 2]
    assert said[0] == ""
    assert said[1] == (f"python -m mlx_voxcpm2.train: {missing}: no such file; check the path\n")
