"""`mlx-voxcpm2 app` on the command line: errors that are found before a model is loaded."""

import importlib.util
import os
import socket

import pytest

from mlx_voxcpm2 import cli
from mlx_voxcpm2.app import __main__ as command


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Function that runs the command: its status and its line on stderr. It loads no model."""
    monkeypatch.setattr(command, "load", lambda _: pytest.fail("a model is loaded"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def run(*arguments):
        try:
            status = cli.main(["app", *arguments])
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return status, err

    return run


@pytest.fixture
def gradio(monkeypatch):
    """Function that makes Gradio appear installed, or not."""

    def is_installed(answer: bool):
        find = importlib.util.find_spec

        def find_gradio(name, *rest):
            if name == "gradio":
                return find("json") if answer else None
            return find(name, *rest)

        monkeypatch.setattr(importlib.util, "find_spec", find_gradio)

    return is_installed


def test_without_gradio_a_line_names_the_extra(run, gradio):
    gradio(False)
    status, line = run()
    assert status == 2 and "pip install 'mlx-voxcpm2[app]'" in line


def test_a_port_in_use_is_a_line(run, gradio):
    gradio(True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, line = run("--port", str(port))
    assert status == 2 and f"port {port} is in use; give another by --port" in line
    command.check_port("127.0.0.1", port)  # now it is free


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "0"], "port is 0"),
        (["--port", "70000"], "port is 70000"),
        (["--port", "x"], "--port"),
        (["--host", "no.such.host.invalid"], "no host 'no.such.host.invalid'"),
        (["--cfg_value", "0"], "cfg_value is 0.0"),
        (["--text", "Hello."], "--text"),
    ],
)
def test_bad_flags_are_a_line(run, gradio, arguments, words):
    gradio(True)
    status, line = run(*arguments)
    assert status == 2 and words in line


def test_only_this_machine_sees_the_page_by_default():
    args = command.build_parser().parse_args([])
    assert (args.host, args.port, args.share) == ("127.0.0.1", 7860, False)
    args = command.build_parser().parse_args(["--server-name", "0.0.0.0", "--share"])
    assert (args.host, args.share) == ("0.0.0.0", True)


def test_the_temporary_folder_is_removed_when_the_page_ends(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "elsewhere")
    with pytest.raises(KeyboardInterrupt), command.temporary_folder() as folder:
        assert folder.parent == tmp_path and os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "recording.wav").write_bytes(b"sound")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
