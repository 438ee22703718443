"""`mlx-voxcpm2 app` on the command line, up to the application that it serves."""

import socket
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from mlx_voxcpm2 import cli, load_model
from mlx_voxcpm2.app import __main__ as command
from mlx_voxcpm2.commands.serving import load_service
from mlx_voxcpm2.voices.registry import VoiceRegistry


@pytest.fixture
def run(monkeypatch, run_command, tmp_path):
    """Function that runs the command: its status and its line on stderr. It loads no model."""
    monkeypatch.setattr(command, "load_service", lambda *_: pytest.fail("a model is loaded"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def run(*arguments):
        status, out, err = run_command(cli.main, "app", *arguments)
        assert (out, err.count("\n")) == ("", 1)
        return status, err

    return run


@pytest.fixture
def loopback_only(monkeypatch):
    monkeypatch.delenv(command.PASSWORD_VARIABLE, raising=False)


def test_without_the_servers_libraries_a_line_names_the_extra(run, monkeypatch):
    monkeypatch.setattr("mlx_voxcpm2.commands.serving.find_spec", lambda name: None)
    status, line = run()
    assert status == 2 and "pip install 'mlx-voxcpm2[app]'" in line


def test_a_port_in_use_is_a_line(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, line = run("--port", str(port))
    assert status == 2 and f"port {port} of 127.0.0.1 can't be taken" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "-1"], "port is -1"),
        (["--port", "70000"], "port is 70000"),
        (["--port", "x"], "--port"),
        (["--host", "no.such.host.invalid", "--no_auth"], "no.such.host.invalid"),
        (["--host", "0.0.0.0"], "MLX_VOXCPM2_PASSWORD"),
        (["--cfg_value", "0"], "cfg_value is 0.0"),
        (["--batch_size", "0"], "batch_size is 0"),
        (["--text", "Hello."], "--text"),
        (["--share"], "--allowed_hosts"),
    ],
)
def test_bad_flags_are_a_line(run, loopback_only, arguments, words):
    status, line = run(*arguments)
    assert status == 2 and words in line


def arguments_of(*flags):
    return command.read_arguments(command.build_parser().parse_args([*flags]))


def test_only_this_machine_sees_the_page_by_default(loopback_only):
    given = arguments_of("--model", "demo")
    assert (given.host, given.port, given.word) == ("127.0.0.1", 7860, None)
    given.check_access()
    assert arguments_of("--server-name", "0.0.0.0", "--model_id", "demo").host == "0.0.0.0"


def test_the_password_opens_the_page_and_is_the_apis_key(monkeypatch, loopback_only):
    monkeypatch.delenv("MLX_VOXCPM2_API_KEY", raising=False)
    given = arguments_of("--host", "0.0.0.0", "--password", "sesame")
    given.check_access()
    assert (given.word, given.api.key) == ("sesame", "sesame")
    monkeypatch.setenv(command.PASSWORD_VARIABLE, "open")
    assert arguments_of("--host", "0.0.0.0").api.key == "open"
    monkeypatch.setenv("MLX_VOXCPM2_API_KEY", "key")
    assert arguments_of("--host", "0.0.0.0").api.key == "key"


def test_the_temporary_folder_is_removed_when_the_page_ends(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), command.temporary_folder() as folder:
        assert folder.parent == tmp_path
        (folder / "take.wav").write_bytes(b"sound")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_page_and_the_api_share_one_model(released, tmp_path, monkeypatch, voice_folder):
    def load(choice):
        return load_model(released.folder, dtype="float32")

    monkeypatch.setattr("mlx_voxcpm2.commands.serving.load", load)
    given = replace(arguments_of("--inference_timesteps", "2", "--max_tokens", "2"), password="a")
    service = load_service(given.api, VoiceRegistry(), command.limits_of(given))
    try:
        with TestClient(
            command.application(given, service, tmp_path), "http://127.0.0.1"
        ) as client:
            assert client.get("/").url.path == "/login"
            assert client.get("/health").status_code == 200
            body = {"input": "Hello.", "voice": "default", "response_format": "wav"}
            assert client.post("/v1/audio/speech", json=body).status_code == 401
            key = {"authorization": "Bearer a"}
            spoken = client.post("/v1/audio/speech", json=body, headers=key)
            assert spoken.status_code == 200 and spoken.content[:4] == b"RIFF"
            for path in ("/", "/v1/models", "/health"):
                elsewhere = client.get(path, headers={"host": "evil.example", **key})
                assert elsewhere.status_code in (403, 421)
    finally:
        service.thread.close()
