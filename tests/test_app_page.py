"""The page, from starting the command to sound, in a Chromium without a window.

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
from pathlib import Path

import numpy as np
import pytest
import soundfile
from voice_clips import RATE, speech

pytest.importorskip("gradio", reason="Gradio is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

# Seconds; a busy machine may take some.
PATIENCE = 150

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Remembers what is played, and when; what else is on the machine stays silent.
LISTEN = """
window.heard = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  if (this.context instanceof AudioContext && window.listening)
    window.heard.push([when, Array.from(this.buffer.getChannelData(0))]);
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
    """Its address, and who asked it for anything outside this machine."""
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
    """The process that shows the page."""

    def __init__(self, model: Path, folder: Path, proxy: str, *flags: str):
        self.folder, self.port = folder, free_port()
        self.before = temporary_folders()
        folder.mkdir(exist_ok=True)
        proxies = {f"{kind}_{case}" for kind in ("http", "https", "all") for case in ("proxy",)}
        environment = {
            **os.environ, "MLX_VOXCPM2_VOICES": str(folder / "voices"),
            **{name: proxy for each in proxies for name in (each, each.upper())},
        }  # fmt: skip
        for name in ("no_proxy", "NO_PROXY"):
            environment.pop(name, None)
        self.errors = folder / "stderr.txt"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "mlx_voxcpm2.app", "--model", str(model), "--dtype",
                    "float32", "--port", str(self.port), *flags,
                ],
                env=environment, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
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
        browser = started.chromium.launch(
            executable_path=None if own.exists() else found,
            args=[
                "--no-sandbox", "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def command(browser, make_case, tmp_path_factory):
    """Speaks 6 to 10 patches, 1 to 1.6 s."""
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
    """Whoever looks at the page, and what they find there."""

    def __init__(self, page: "playwright.Page", command: Command):
        self.page, self.command = page, command
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._console)
        page.on("request", self._request)
        page.add_init_script(LISTEN)
        page.goto(f"http://127.0.0.1:{command.port}/")
        page.get_by_label("What to say").wait_for()

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
        """Its button; it is there when there is a sound."""
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
        self.page.evaluate("window.heard = []; window.listening = true")
        self.write("What to say", text)
        self.button("Speak")
        status = self.wait_for(" s of speech in ")
        self.page.evaluate("window.listening = false")
        return status

    def clear_status(self) -> None:
        """By an error, so that the next words are those of what comes next."""
        self.write("What to say", "")
        self.button("Speak")
        self.wait_for("text is empty")

    def take(self) -> np.ndarray:
        """The whole take, as the player's button saves it."""
        with self.page.expect_download() as download:
            self.page.locator("#take").get_by_label("Download").click()
        file = download.value.path()
        samples, rate = soundfile.read(file, dtype="float32")
        assert rate == 48000
        return samples

    def pieces(self) -> list[tuple[float, np.ndarray]]:
        """When each was played, in seconds, and its samples."""
        heard = self.page.evaluate("window.heard")
        return [(when, np.array(samples, np.float32)) for when, samples in heard]


@pytest.fixture
def visitor(browser, command):
    context = browser.new_context(permissions=["microphone"], accept_downloads=True)
    context.set_default_timeout(1000 * PATIENCE)
    before = len(command.said())
    visitor = Visitor(context.new_page(), command)
    yield visitor
    context.close()
    assert visitor.faults == []
    assert "Traceback" not in command.said()[before:]


@pytest.fixture
def clip(tmp_path) -> Path:
    soundfile.write(tmp_path / "clip.wav", speech(3), RATE)
    return tmp_path / "clip.wav"


def test_what_is_played_while_it_is_spoken_is_the_take_without_a_gap(visitor):
    assert "(zero-shot, seed " in visitor.speak()
    pieces = visitor.pieces()
    joined = np.concatenate([samples for _, samples in pieces])
    take = visitor.take()
    assert len(pieces) > 1 and len(joined) == len(take) >= 6 * 7680
    assert np.abs(joined - take).max() < 2e-4 and np.sqrt(np.mean(take**2)) > 0.01
    ends = [when + len(samples) / 48000 for when, samples in pieces]
    late = sum(abs(begin - end) > 1e-6 for (begin, _), end in zip(pieces[1:], ends, strict=False))
    assert all(begin > end - 1e-6 for (begin, _), end in zip(pieces[1:], ends, strict=False))
    assert late < len(pieces) / 2  # a busy machine may be late, not always
    assert visitor.player("#take").is_visible()


def test_a_mode_shows_what_it_uses_and_nothing_else(visitor):
    page = visitor.page
    places = {
        "instruct": page.get_by_label("The voice, such as").or_(page.get_by_label("The manner")),
        "ref_audio": page.locator("#ref_audio"),
        "prompt_audio": page.locator("#prompt_audio"),
        "prompt_text": page.get_by_label("word for word"),
        "voice": page.get_by_label("Kept voices"),
    }
    for mode, used in {
        "Design": {"instruct"},
        "Reference": {"ref_audio", "instruct"},
        "Continuation": {"prompt_audio", "prompt_text"},
        "Combined": {"ref_audio", "prompt_audio", "prompt_text"},
        "A kept voice": {"voice", "instruct"},
        "Zero-shot": set(),
    }.items():
        visitor.choose(mode)
        for name, place in places.items():
            place.wait_for(state="visible" if name in used else "hidden")


def test_every_mode_speaks_from_files_and_from_the_microphone(visitor, clip):
    page = visitor.page
    visitor.choose("Design")
    visitor.write("The voice, such as", "An old man")
    assert "(design, seed " in visitor.speak()

    visitor.choose("Reference")
    page.locator("#ref_audio input[type=file]").set_input_files(clip)
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
    visitor.write("What that clip says", "Beep, beep.")
    visitor.clear_status()
    assert "(continuation, seed " in (status := visitor.speak())
    assert "the clip to go on from holds only" in status  # the browser's microphone only beeps

    visitor.choose("Combined")
    visitor.write("What the clip to go on from says", "Beep, beep.")
    visitor.clear_status()
    assert "(combined, seed " in visitor.speak()

    takes = page.locator("label", has_text="how do you do?")
    modes = [takes.nth(index).inner_text().split("(")[1].split(",")[0] for index in range(4)]
    assert modes == ["combined", "continuation", "reference", "design"]


def test_a_seed_makes_the_same_take_again(visitor):
    visitor.speak()
    first = visitor.take()
    visitor.button("Use this take's seed again")
    visitor.page.wait_for_timeout(500)
    visitor.page.get_by_label("Play while it is spoken").uncheck()
    visitor.clear_status()
    visitor.speak()
    assert visitor.pieces() == []  # it was asked to be quiet
    second = visitor.take()
    assert np.array_equal(first[: len(second)], second)
    visitor.page.locator("label", has_text="how do you do?").nth(1).click()
    visitor.page.wait_for_timeout(500)
    assert np.array_equal(visitor.take(), first)


def test_voices_are_kept_and_spoken_in(visitor, clip):
    page = visitor.page
    visitor.speak()
    visitor.unfold("Keep this take's voice")
    visitor.write("Name of the take's voice", "grandpa")
    visitor.button("Keep the take's voice")
    visitor.wait_for("The voice grandpa is kept")
    visitor.choose("Reference")
    page.locator("#ref_audio input[type=file]").set_input_files(clip)
    visitor.player("#ref_audio").wait_for()
    visitor.unfold("Keep this clip's voice")
    visitor.write("Name of the clip's voice", "grandpa")
    visitor.button("Keep the clip's voice")
    visitor.wait_for("exists already; give the voice another name")
    visitor.write("Name of the clip's voice", "anna")
    visitor.button("Keep the clip's voice")
    visitor.wait_for("The voice anna is kept")
    files = sorted(file.name for file in (visitor.command.folder / "voices").iterdir())
    assert files == ["anna.safetensors", "grandpa.safetensors"]
    visitor.choose("A kept voice")
    page.get_by_label("Kept voices").click()
    page.get_by_role("option", name="grandpa").click()
    assert "(voice, seed " in visitor.speak()


def test_what_is_wrong_is_a_line_on_the_page(visitor, tmp_path):
    visitor.button("Speak")
    visitor.wait_for("text is empty; give the words to speak")
    visitor.write("What to say", "Hello.")
    visitor.choose("Reference")
    visitor.button("Speak")
    visitor.wait_for("no clip; record the voice or choose a file")
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    visitor.page.locator("#ref_audio input[type=file]").set_input_files(tmp_path / "noise.wav")
    visitor.page.wait_for_timeout(1500)
    visitor.button("Speak")
    line = visitor.wait_for("the voice's clip")
    assert "\n" not in line and "Traceback" not in line
    visitor.faults.clear()  # the browser's player says, too, that it is no sound
    visitor.choose("Zero-shot")
    visitor.speak()


def test_stop_and_ctrl_c_end_at_once_and_leave_nothing(browser, make_case, tmp_path):
    """Of a text that would take more than 50 s of speech."""
    flags = "--min_tokens", "2000", "--inference_timesteps", "20", "--silence_limit", "0"
    command = Command(make_case("released").folder, tmp_path / "run", "", *flags)
    try:
        context = browser.new_context()
        visitor = Visitor(context.new_page(), command)
        visitor.write("What to say", "Word " * 50)
        visitor.button("Speak")
        visitor.wait_for("Speaking … ")
        visitor.button("Stop")
        status = visitor.wait_for(" s of speech in ")
        assert "You stopped it" in status and float(status.split()[0]) < 40
        visitor.write("What to say", "More " * 50)
        visitor.button("Speak")
        visitor.wait_for("Speaking … ")
        context.close()  # that speech is for nobody any more, and the next one begins
        context = browser.new_context()
        visitor = Visitor(context.new_page(), command)
        visitor.write("What to say", "Most " * 50)
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
