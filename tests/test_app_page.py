"""Page in a headless Chromium, from starting the command to audio.

Skipped where Gradio, Playwright or a Chromium is missing. To run it:

    pip install -e ".[test,app]" playwright
    playwright install chromium   # or apt install chromium, or have Chrome
    python -m pytest tests/test_app_page.py
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

if find_spec("gradio") is None:  # importing it here would cost each process some seconds
    pytest.skip("Gradio is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

# Seconds; a busy machine may need some.
PATIENCE = 150

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Records the played audio with its times.
LISTEN = """
window.played = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  if (this.context instanceof AudioContext && window.listening)
    window.played.push([when, Array.from(this.buffer.getChannelData(0))]);
  return start.apply(this, arguments);
};
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def temporary_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("mlx-voxcpm2-*"))


@contextlib.contextmanager
def counting_proxy():
    """Yields the address of a proxy, and the list of requests that it received."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        callers = []

        def listen():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    callers.append(connection.recv(200))
                    connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", callers


class Command:
    """Process that serves the page."""

    def __init__(self, model: Path, folder: Path, proxy: str, *flags: str):
        self.folder, self.port = folder, free_port()
        self.before = temporary_folders()
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "MLX_VOXCPM2_VOICES": str(folder / "voices")}
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment |= {name: proxy, name.upper(): proxy}
        for name in ("no_proxy", "NO_PROXY"):
            environment.pop(name, None)
        self.errors = folder / "stderr.txt"
        command = [sys.executable, "-m", "mlx_voxcpm2.app", "--model", str(model)]
        command += ["--dtype", "float32", "--port", str(self.port), *flags]
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=errors
            )
        end = time.monotonic() + PATIENCE
        while "shows the page" not in self.said():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.1)

    def said(self) -> str:
        return self.errors.read_text()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if not own.exists() and found is None:
            pytest.skip("no Chromium; playwright install chromium")
        fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = started.chromium.launch(
            executable_path=None if own.exists() else found, args=["--no-sandbox", *fakes]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_command(browser, make_case, tmp_path_factory):
    """Running command that generates 6 to 10 patches, 1 to 1.6 s."""
    with counting_proxy() as (proxy, callers):
        flags = "--min_tokens", "6", "--max_tokens", "10", "--inference_timesteps", "2"
        folder = tmp_path_factory.mktemp("page")
        command = Command(make_case("released").folder, folder, proxy, *flags)
        yield command
        command.process.terminate()
        assert command.process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert temporary_folders() <= command.before
        assert not callers, "the page asks the network"


class Visitor:
    """Visitor of the page in a browser."""

    def __init__(self, page: "playwright.Page", command: Command):
        self.page, self.command = page, command
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._console)
        page.on("request", self._request)
        page.add_init_script(LISTEN)
        page.goto(f"http://127.0.0.1:{command.port}/")
        page.get_by_label("Text to speak").wait_for()

    def _console(self, message: "playwright.ConsoleMessage") -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def _request(self, request: "playwright.Request") -> None:
        if not request.url.startswith((f"http://127.0.0.1:{self.command.port}/", "blob:", "data:")):
            self.faults.append(f"asks for {request.url}")

    def button(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def unfold(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def player(self, place: str) -> "playwright.Locator":
        """Button of a player; present when it has audio."""
        return self.page.locator(place).get_by_role("button", name="Play", exact=True)

    def write(self, label: str, text: str) -> None:
        self.page.get_by_label(label).fill(text)

    def choose(self, mode: str) -> None:
        self.page.get_by_role("radio", name=mode).check()

    def status(self) -> str:
        return self.page.locator("#status textarea").input_value()

    def wait_for(self, words: str) -> str:
        end = time.monotonic() + PATIENCE
        while words not in self.status():
            assert time.monotonic() < end, f"{self.status()!r}; {self.command.said()}"
            self.page.wait_for_timeout(100)
        return self.status()

    def speak(self, text: str = "Hello there, how do you do?") -> str:
        self.page.evaluate("window.played = []; window.listening = true")
        self.write("Text to speak", text)
        self.button("Speak")
        status = self.wait_for(" s of speech in ")
        self.page.evaluate("window.listening = false")
        return status

    def clear_status(self) -> None:
        """Replace the status by an error's, so that the next one is new."""
        self.write("Text to speak", "")
        self.button("Speak")
        self.wait_for("text is empty")

    def audio(self) -> np.ndarray:
        """Complete audio, as the player's button saves it."""
        with self.page.expect_download() as download:
            self.page.locator("#speech").get_by_label("Download").click()
        file = download.value.path()
        samples, rate = soundfile.read(file, dtype="float32")
        assert rate == 48000
        return samples

    def chunks(self) -> list[tuple[float, np.ndarray]]:
        """Playback time of each chunk, in seconds, and its samples."""
        played = self.page.evaluate("window.played")
        return [(when, np.array(samples, np.float32)) for when, samples in played]


@pytest.fixture
def visitor(browser, page_command):
    context = browser.new_context(permissions=["microphone"], accept_downloads=True)
    context.set_default_timeout(1000 * PATIENCE)
    before = len(page_command.said())
    visitor = Visitor(context.new_page(), page_command)
    yield visitor
    context.close()
    assert visitor.faults == []
    assert "Traceback" not in page_command.said()[before:]


def test_live_playback_is_the_complete_audio_without_gaps(visitor):
    assert "(zero-shot, seed " in visitor.speak()
    chunks = visitor.chunks()
    joined = np.concatenate([samples for _, samples in chunks])
    audio = visitor.audio()
    assert len(chunks) > 1 and len(joined) == len(audio) >= 6 * 7680
    assert np.abs(joined - audio).max() < 2e-4 and np.sqrt(np.mean(audio**2)) > 0.01
    ends = [when + len(samples) / 48000 for when, samples in chunks]
    late = sum(abs(begin - end) > 1e-6 for (begin, _), end in zip(chunks[1:], ends, strict=False))
    assert all(begin > end - 1e-6 for (begin, _), end in zip(chunks[1:], ends, strict=False))
    assert late < len(chunks) / 2  # a busy machine may be late, not always
    assert visitor.player("#speech").is_visible()


def test_a_mode_shows_only_the_fields_that_it_uses(visitor):
    page = visitor.page
    places = {
        "instruct": page.get_by_label("The voice, such as").or_(page.get_by_label("The style")),
        "ref_audio": page.locator("#ref_audio"),
        "prompt_audio": page.locator("#prompt_audio"),
        "prompt_text": page.get_by_label("word for word"),
        "voice": page.get_by_label("Saved voices"),
    }
    for mode, used in {
        "Design": {"instruct"},
        "Reference": {"ref_audio", "instruct"},
        "Continuation": {"prompt_audio", "prompt_text"},
        "Combined": {"ref_audio", "prompt_audio", "prompt_text"},
        "Saved voice": {"voice", "instruct"},
        "Zero-shot": set(),
    }.items():
        visitor.choose(mode)
        for name, place in places.items():
            place.wait_for(state="visible" if name in used else "hidden")


def test_every_mode_speaks_from_files_and_from_the_microphone(visitor, voice_clip):
    page = visitor.page
    visitor.choose("Design")
    visitor.write("The voice, such as", "An old man")
    assert "(design, seed " in visitor.speak()

    visitor.choose("Reference")
    page.locator("#ref_audio input[type=file]").set_input_files(voice_clip)
    visitor.player("#ref_audio").wait_for()
    visitor.clear_status()
    assert "(reference, seed " in visitor.speak()

    visitor.choose("Continuation")
    recorder = page.locator("#prompt_audio")
    recorder.get_by_label("Record audio").click()
    recorder.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(2500)
    recorder.get_by_role("button", name="Stop", exact=True).first.click()
    visitor.player("#prompt_audio").wait_for()
    visitor.write("Transcript of that clip", "Beep, beep.")
    visitor.clear_status()
    assert "(continuation, seed " in (status := visitor.speak())
    assert "the clip to continue holds only" in status  # the browser's microphone only beeps

    visitor.choose("Combined")
    visitor.write("Transcript of the clip to continue", "Beep, beep.")
    visitor.clear_status()
    assert "(combined, seed " in visitor.speak()

    entries = page.locator("label", has_text="how do you do?")
    modes = [entries.nth(index).inner_text().split("(")[1].split(",")[0] for index in range(4)]
    assert modes == ["combined", "continuation", "reference", "design"]


def test_a_seed_reproduces_the_speech(visitor):
    visitor.speak()
    first = visitor.audio()
    visitor.button("Use this seed again")
    visitor.page.wait_for_timeout(500)
    visitor.page.get_by_label("Play while generating").uncheck()
    visitor.clear_status()
    visitor.speak()
    assert visitor.chunks() == []
    second = visitor.audio()
    assert np.array_equal(first[: len(second)], second)
    visitor.page.locator("label", has_text="how do you do?").nth(1).click()
    visitor.page.wait_for_timeout(500)
    assert np.array_equal(visitor.audio(), first)


def test_voices_are_saved_and_used(visitor, voice_clip):
    page = visitor.page
    visitor.speak()
    visitor.unfold("Save this voice")
    visitor.write("Name of the voice", "grandpa")
    visitor.button("Save voice")
    visitor.wait_for("The voice grandpa is saved")
    visitor.choose("Reference")
    page.locator("#ref_audio input[type=file]").set_input_files(voice_clip)
    visitor.player("#ref_audio").wait_for()
    visitor.unfold("Save this clip's voice")
    visitor.write("Name of the clip's voice", "grandpa")
    visitor.button("Save clip's voice")
    visitor.wait_for("exists already; give the voice another name")
    visitor.write("Name of the clip's voice", "anna")
    visitor.button("Save clip's voice")
    visitor.wait_for("The voice anna is saved")
    files = sorted(file.name for file in (visitor.command.folder / "voices").iterdir())
    assert files == ["anna.safetensors", "grandpa.safetensors"]
    visitor.choose("Saved voice")
    page.get_by_label("Saved voices").click()
    page.get_by_role("option", name="grandpa").click()
    assert "(voice, seed " in visitor.speak()


def test_errors_are_one_line_on_the_page(visitor, tmp_path):
    visitor.button("Speak")
    visitor.wait_for("text is empty; give the words to speak")
    visitor.write("Text to speak", "Hello.")
    visitor.choose("Reference")
    visitor.button("Speak")
    visitor.wait_for("no clip; record the voice or choose a file")
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    visitor.page.locator("#ref_audio input[type=file]").set_input_files(tmp_path / "noise.wav")
    visitor.page.wait_for_timeout(1500)
    visitor.button("Speak")
    line = visitor.wait_for("the voice's clip")
    assert "\n" not in line and "Traceback" not in line
    visitor.faults.clear()  # the browser's player logs, too, that it is no audio
    visitor.choose("Zero-shot")
    visitor.speak()


def test_stop_and_ctrl_c_end_generation_at_once_and_leave_no_files(browser, make_case, tmp_path):
    """The texts have more than 50 s of speech."""
    flags = "--min_tokens", "2000", "--inference_timesteps", "20", "--silence_limit", "0"
    command = Command(make_case("released").folder, tmp_path / "run", "", *flags)
    try:
        context = browser.new_context()
        visitor = Visitor(context.new_page(), command)
        visitor.write("Text to speak", "Word " * 50)
        visitor.button("Speak")
        visitor.wait_for("Speaking … ")
        visitor.button("Stop")
        status = visitor.wait_for(" s of speech in ")
        assert "You stopped it" in status and float(status.split()[0]) < 40
        visitor.write("Text to speak", "More " * 50)
        visitor.button("Speak")
        visitor.wait_for("Speaking … ")
        context.close()  # cancels that speech, and the next one begins
        context = browser.new_context()
        visitor = Visitor(context.new_page(), command)
        visitor.write("Text to speak", "Most " * 50)
        visitor.button("Speak")
        visitor.wait_for("Speaking … ")
        command.process.send_signal(signal.SIGINT)
        output, _ = command.process.communicate(timeout=20)
        assert command.process.returncode == 130 and output == b""
        shown, stopped = command.said().splitlines()
        assert "shows the page" in shown and stopped.endswith(": stopped")
        assert temporary_folders() <= command.before
        context.close()
    finally:
        command.process.kill()
        command.process.wait()
