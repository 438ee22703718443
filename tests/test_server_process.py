"""`mlx-voxcpm2 serve` as a process: how it starts, how it ends, and what it refuses to start."""

import signal
import socket
import sys
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'server'")
pytest.importorskip("openai", reason="needs the extra 'test'")

from speech_server import SpeechServer

from mlx_voxcpm2.commands import serve as command
from mlx_voxcpm2.server import process

LONG = "Hello there, how do you do? " * 20
ENDLESS = {"max_tokens": 4096, "min_tokens": 4000}


def test_stopped_by_a_signal_it_finishes_what_is_under_way(released, anna_folder):
    """SIGTERM: no new connections, the rest of the answer, status 0."""
    flags = ["--voice", "anna", "--grace", "20", "--max_tokens", "25"]
    flags += ["--inference_timesteps", "3"]
    with SpeechServer(released.folder, anna_folder / "voices", *flags) as server:
        create = server.client().audio.speech.with_streaming_response.create
        fields = {"model": "tts-1", "voice": "default", "input": LONG, "response_format": "wav"}
        with create(**fields, extra_body={"min_tokens": 24}) as answer:
            chunks = answer.iter_bytes()
            first = next(chunks)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionRefusedError):
                while True:
                    socket.create_connection(server.address).close()
                    time.sleep(0.05)
            sound = first + b"".join(chunks)
        assert server.process.wait(timeout=30) == 0
        server.reader.join()
    segments, rate = 2, released.model.sample_rate
    assert len(sound) - 44 == segments * 25 * 2 * released.model.patch_samples, rate
    lines = [line for line in server.messages if line.startswith("id=")]
    assert 'voice="default"' in lines[0] and "status=200" in lines[0]
    assert not [line for line in server.messages if "Traceback" in line]


def test_it_ends_although_a_request_takes_longer_than_its_grace(released, anna_folder):
    flags = ["--grace", "0"]
    with SpeechServer(released.folder, anna_folder / "voices", *flags) as server:
        create = server.client().audio.speech.with_streaming_response.create
        fields = {"model": "x", "voice": "anna", "input": LONG, "response_format": "pcm"}
        with create(**fields, extra_body=ENDLESS) as answer:
            next(answer.iter_bytes())
            assert server.stop(signal.SIGINT) == 0
    assert not [line for line in server.messages if "Traceback" in line], server.messages


def run(run_command, *flags) -> str:
    """The single line by which the command refuses to start."""
    status, _, errors = run_command(command.main, *flags)
    assert status == 2 and errors.count("\n") == 1, errors
    return errors


def test_a_port_in_use_is_a_one_line_error(run_command, released):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = ["--model", released.folder, "--port", taken.getsockname()[1]]
        assert "give another --port" in run(run_command, *flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "/none/such"], "no such folder"),
        (["--voice", "/none/x.safetensors"], "no such voice file"),
        (["--host", "0.0.0.0"], "set MLX_VOXCPM2_API_KEY or --api_key, or --no_auth"),
        (["--host", ""], "host is empty"),
        (["--api_key", ""], "api_key is empty"),
        (["--alias", "alloy"], "'alloy' is no NAME=VALUE"),
        (["--model", "demo", "--alias", "x=nobody"], "no voice 'nobody'"),
        (["--model", "demo", "--adapters", "a=/none/such"], "no such folder"),
        (["--grace", "-1"], "grace is -1.0; it must be a number from 0 to 3600"),
    ],
)
def test_what_is_missing_or_wrong_is_a_one_line_error(
    run_command, voice_folder, monkeypatch, flags, words
):
    monkeypatch.delenv("MLX_VOXCPM2_API_KEY", raising=False)
    assert words in run(run_command, "--port", 0, *flags)


def test_missing_libraries_are_a_one_line_error(run_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'mlx-voxcpm2[server]'" in run(run_command)


def test_a_key_comes_from_the_environment_as_well(monkeypatch):
    monkeypatch.setenv("MLX_VOXCPM2_API_KEY", "secret")

    def arguments(*flags):
        return command.read_arguments(command.build_parser().parse_args(flags))

    assert arguments("--host", "0.0.0.0").key == "secret"
    assert arguments("--api-key", "other").key == "other"
    command.check_access(arguments("--host", "0.0.0.0"))
    monkeypatch.delenv("MLX_VOXCPM2_API_KEY")
    command.check_access(arguments("--host", "0.0.0.0", "--no-auth"))
    command.check_access(arguments("--host", "::1"))


def test_a_connection_that_sends_no_request_is_closed(monkeypatch):
    """Or only the beginning of one, also after an answer."""
    import threading

    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    monkeypatch.setattr(process, "HEAD_SECONDS", 0.2)
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("done"))])
    listener, started = socket.create_server(("127.0.0.1", 0)), threading.Event()
    address = listener.getsockname()
    server = process.server_of(app, 0, started.set)
    runner = threading.Thread(target=server.run, args=[[listener]])
    runner.start()
    try:
        assert started.wait(20)
        for beginning in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST"):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(beginning)
                assert connection.recv(100) == b""
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET / HTTP/1.1\r\n")
            assert connection.recv(100) == b""
    finally:
        server.should_exit = True
        runner.join(20)
