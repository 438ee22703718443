"""Running `mlx-voxcpm2 serve`, and clients for it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openai


class SpeechServer:
    """Process of the command; `with` ends it."""

    def __init__(self, checkpoint: Path, voices: Path, *flags: str):
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

    def client(self) -> "openai.OpenAI":
        import openai

        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=100)

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
