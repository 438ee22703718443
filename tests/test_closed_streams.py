"""Commands whose standard streams are closed, as by `>&-`."""

import subprocess
import sys


def test_a_closed_standard_output_is_one_line_and_a_closed_standard_error_is_no_file(tmp_path):
    command = f"{sys.executable} -m mlx_voxcpm2.generate --model demo --text one --output"
    done = subprocess.run(
        f"{command} - >&-", shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 2 and "standard output is closed; give --output" in done.stderr
    assert subprocess.run(f"{command} a.wav 2>&-", shell=True, cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"
