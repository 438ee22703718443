"""`mlx-voxcpm2 app` on the command line: what is found wrong before a model is loaded."""

import importlib.util
import os
import socket

import pytest

from mlx_voxcpm2 import cli
from mlx_voxcpm2.app import __main__ as command


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs it; status and what it says on stderr. No model, and no page, is reached."""
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
    """As if it were there, or not."""

    def is_there(answer: bool):
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec",
            lambda name, *rest: (find("json") if answer else None) if name == "gradio"
            else find(name, *rest),
        )  # fmt: skip

    return is_there


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


def test_the_page_is_seen_here_only_unless_it_is_said():
    args = command.build_parser().parse_args([])
    assert (args.host, args.port, args.share) == ("127.0.0.1", 7860, False)
    args = command.build_parser().parse_args(["--server-name", "0.0.0.0", "--share"])
    assert (args.host, args.share) == ("0.0.0.0", True)


def test_what_is_recorded_and_spoken_goes_when_the_page_ends(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "elsewhere")
    with pytest.raises(KeyboardInterrupt), command.temporary_folder() as folder:
        assert folder.parent == tmp_path and os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "recording.wav").write_bytes(b"sound")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
