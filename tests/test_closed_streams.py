"""Commands whose standard streams are closed, as by `>&-`, or can't be written to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import module_command


def test_a_closed_standard_output_is_one_line_and_a_closed_standard_error_is_no_file(tmp_path):
    command = f"{sys.executable} -m mlx_voxcpm2.generate --model demo --text one --output"
    done = subprocess.run(
        f"{command} - >&-", shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 2 and "standard output is closed; give --output" in done.stderr
    assert subprocess.run(f"{command} a.wav 2>&-", shell=True, cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"


def check(folder: Path, output) -> tuple[int, str]:
    """Status and errors of a command whose few lines are written at its end."""
    (folder / "script.txt").write_text("A: Hi.")
    command = module_command("commands.dialogue", "script.txt", "--check")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.PIPE, text=True
    )
    return done.returncode, done.stderr


def test_a_reader_that_has_left_is_no_error(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        assert check(tmp_path, output) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_one_line(tmp_path):
    with open("/dev/full", "wb") as output:
        status, err = check(tmp_path, output)
    assert status == 2 and err.count("\n") == 1
    assert "standard output can't be written to (No space left on device)" in err
