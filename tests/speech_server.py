"""Running the server, in this process or as a command, and clients for it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from mlx_voxcpm2 import GenerationOptions, load_model
from mlx_voxcpm2.server import process
from mlx_voxcpm2.server.access import Access
from mlx_voxcpm2.server.application import application
from mlx_voxcpm2.server.exchange import Service
from mlx_voxcpm2.server.model_thread import ModelThread
from mlx_voxcpm2.server.request import Limits
from mlx_voxcpm2.server.voices import DESIGN, NamedVoices
from mlx_voxcpm2.voices.registry import VoiceRegistry

if TYPE_CHECKING:
    import openai


class Clients:
    """Something that serves at `url`, the base URL of OpenAI's clients."""

    url: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname, parts.port

    def client(self) -> "openai.OpenAI":
        return self._client

    @cached_property
    def _client(self) -> "openai.OpenAI":
        """Made once, since its certificates take a while."""
        import openai

        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=100)


class LocalServer(Clients):
    """The server in threads of this process; `with` ends it."""

    def __init__(
        self,
        checkpoint: Path | str,
        voices: Path,
        *,
        thread: ModelThread | None = None,
        default: str | None = None,
        aliases: dict[str, str] | None = None,
        options: GenerationOptions | None = None,
        text_length: int = 4096,
        capacity: int = 72,
        is_strict: bool = False,
        access: Access | None = None,
        design: GenerationOptions | None = None,
        recogniser=None,
    ):
        self.environment = pytest.MonkeyPatch()
        self.environment.setenv("MLX_VOXCPM2_VOICES", str(voices))
        self.thread = thread or ModelThread(lambda: load_model(checkpoint, dtype="float32"))
        self.owns_thread = thread is None
        self.model = Path(checkpoint).name
        limits = Limits(self.model, text_length, options or GenerationOptions(), is_strict)
        registry, self.design = VoiceRegistry(default=default), design
        named = NamedVoices(self.thread, registry, aliases or {}, design or DESIGN)
        self.service = Service(self.thread, named, limits, capacity)
        self.app = application(self.service, access or Access(), recogniser)

    def __enter__(self) -> "LocalServer":
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        started = threading.Event()
        self.server = process.server_of(self.app, 0, started.set)
        self.runner = threading.Thread(target=self.server.run, args=[[listener]])
        self.runner.start()
        assert started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.runner.join(20)
        self.environment.undo()
        if self.owns_thread:
            assert self.thread.close()


class SpeechServer(Clients):
    """Process of the command; `with` ends it."""

    def __init__(self, checkpoint: Path | str, voices: Path, *flags: str):
        command = [sys.executable, "-m", "mlx_voxcpm2.cli", "serve", "--model", str(checkpoint)]
        command += ["--dtype", "float32", "--port", "0", *flags]
        environment = {**os.environ, "MLX_VOXCPM2_VOICES": str(voices)}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, cwd=voices.parent
        )
        self.messages: list[str] = []
        for line in self.process.stderr:
            self.messages.append(line)
            if " speaks at " in line:
                break
        else:
            raise RuntimeError("".join(self.messages))
        self.url = self.messages[-1].split()[-1]
        self.model = self.messages[-1].split()[0]
        self.reader = threading.Thread(target=self.messages.extend, args=[self.process.stderr])
        self.reader.start()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal; returns the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=30)
        self.reader.join()
        return status

    def __enter__(self) -> "SpeechServer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.reader.join()
