"""Page in a headless Chromium, from starting the command to audio, at two widths.

Skipped where Playwright or a Chromium is missing. To run it:

    pip install -e ".[test]" playwright
    playwright install chromium   # or apt install chromium, or have Chrome
    MLX_VOXCPM2_PICTURES=pictures python -m pytest tests/test_app_page.py

Pictures of each state are written to the folder that MLX_VOXCPM2_PICTURES names, if any.
"""

import contextlib
import json
import os
import re
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
        self.folder = folder
        self.before = temporary_folders()
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "MLX_VOXCPM2_VOICES": str(folder / "voices")}
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment |= {name: proxy, name.upper(): proxy}
        for name in ("no_proxy", "NO_PROXY"):
            environment.pop(name, None)
        self.errors = folder / "stderr.txt"
        command = [sys.executable, "-m", "mlx_voxcpm2.app", "--model", str(model)]
        command += ["--dtype", "float32", "--port", "0", *flags]
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=errors
            )
        end = time.monotonic() + PATIENCE
        while "shows the page" not in self.said():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.1)
        self.address = re.search(r"http://127\.0\.0\.1:\d+", self.said()).group()

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
        assert command.process.wait(PATIENCE) == 0
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
        self.open()

    def open(self) -> None:
        self.page.goto(self.command.address)
        self.page.locator("body[data-ready]").wait_for()

    def _console(self, message: "playwright.ConsoleMessage") -> None:
        if message.type == "error" and "status of 422" not in message.text:
            self.faults.append(message.text)

    def _request(self, request: "playwright.Request") -> None:
        if not request.url.startswith((f"{self.command.address}/", "blob:", "data:")):
            self.faults.append(f"asks for {request.url}")

    def picture(self, name: str) -> None:
        if folder := os.environ.get("MLX_VOXCPM2_PICTURES"):
            width = self.page.viewport_size["width"]
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}-{width}.png")

    def button(self, name: str, place: "playwright.Locator | None" = None) -> None:
        (place or self.page).get_by_role("button", name=name, exact=True).click()

    def write(self, label: str, text: str) -> None:
        self.page.get_by_label(label).fill(text)

    def choose(self, kind: str) -> None:
        self.page.locator(f"[name=kind][value={kind}]").check()

    def take(self, number: int = 0) -> "playwright.Locator":
        """Card of a take, newest first."""
        return self.page.locator(".take").nth(number)

    def takes(self) -> int:
        return self.page.locator(".take").count()

    def speak(self, text: str = "Hello there, how do you do?") -> "playwright.Locator":
        """Speaks, and returns the card of the new take."""
        before = self.takes()
        self.page.evaluate("window.played = []; window.listening = true")
        self.write("What should it say?", text)
        self.button("Speak")
        self.take(before).wait_for(state="attached")
        self.page.locator("#speak").wait_for()
        self.page.evaluate("window.listening = false")
        return self.take()

    def audio(self, number: int = 0) -> np.ndarray:
        """Audio of a take, as its link saves it."""
        with self.page.expect_download() as download:
            self.take(number).get_by_role("link", name="Save").click()
        samples, rate = soundfile.read(download.value.path(), dtype="float32")
        assert rate == 48000
        return samples

    def chunks(self) -> list[tuple[float, np.ndarray]]:
        """Playback time of each chunk, in seconds, and its samples."""
        played = self.page.evaluate("window.played")
        return [(when, np.array(samples, np.float32)) for when, samples in played]

    def error(self, field: str) -> str:
        place = self.page.locator(f"[data-field={field}] > .error")
        place.wait_for()
        return place.inner_text()

    def record(self) -> None:
        """Record a second of the browser's microphone, which beeps."""
        self.button("Record", self.page.locator("#clip"))
        self.page.wait_for_timeout(2200)
        self.button("Stop recording")
        self.page.locator("#clip .drop.full").wait_for()


WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture
def visit(browser, page_command):
    """Function that opens the page, at a width."""
    contexts, visitors = [], []
    before = len(page_command.said())

    def visit(width: str = "desktop", **more) -> Visitor:
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        context = browser.new_context(
            viewport=size, permissions=["microphone"], accept_downloads=True, **more
        )
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        visitors.append(Visitor(context.new_page(), page_command))
        return visitors[-1]

    yield visit
    for context in contexts:
        context.close()
    assert [fault for visitor in visitors for fault in visitor.faults] == []
    assert "Traceback" not in page_command.said()[before:]


def is_in_view(place: "playwright.Locator") -> bool:
    return place.evaluate(
        "e => { const r = e.getBoundingClientRect();"
        "return r.height > 0 && r.top >= 0 && r.bottom <= innerHeight && r.right <= innerWidth; }"
    )


def test_live_playback_is_the_complete_audio_without_gaps(visit):
    visitor = visit()
    visitor.speak()
    chunks = visitor.chunks()
    joined = np.concatenate([samples for _, samples in chunks])
    audio = visitor.audio()
    assert len(chunks) > 1 and len(joined) == len(audio) >= 6 * 7680
    assert np.abs(joined - audio).max() < 2e-4 and np.sqrt(np.mean(audio**2)) > 0.01
    ends = [when + len(samples) / 48000 for when, samples in chunks]
    late = sum(abs(begin - end) > 1e-6 for (begin, _), end in zip(chunks[1:], ends, strict=False))
    assert all(begin > end - 1e-6 for (begin, _), end in zip(chunks[1:], ends, strict=False))
    assert late < len(chunks) / 2  # a busy machine may be late, not always


@pytest.mark.parametrize("width", list(WIDTHS))
def test_each_kind_of_voice_speaks(visit, voice_clip, width):
    visitor = visit(width)
    page = visitor.page
    visitor.picture("1-start")
    visitor.choose("described")
    page.locator("#descriptions button").first.click()
    assert "An old man" in visitor.speak().locator(".tag").inner_text()
    visitor.picture("2-described")

    visitor.choose("clip")
    page.locator("#clip input[type=file]").set_input_files(voice_clip)
    page.locator("#clip .drop.full").wait_for()
    visitor.picture("3-clip")
    visitor.speak()
    page.locator("[name=use][value=continue]").check()
    visitor.button("Speak")
    assert "word for word" in visitor.error("words")
    assert is_in_view(page.locator("[data-field=words] > .error"))
    visitor.picture("4-error")
    visitor.write("What does the clip say", "What it says.")
    visitor.speak()

    visitor.choose("any")
    card = visitor.speak()
    visitor.button("Keep voice", card)
    card.get_by_label("Name of the voice").fill(f"anna {width}")
    visitor.button("Save", card)
    chosen = page.get_by_role("radio", name=f"anna {width}")
    chosen.wait_for()
    assert chosen.is_checked() and page.locator("[name=kind][value=saved]").is_checked()
    assert f"anna {width}" in visitor.speak().locator(".tag").inner_text()
    visitor.picture("5-saved")
    assert visitor.takes() == 5


def test_a_model_with_a_voice_of_its_own_is_not_said_to_make_voices_up(visit):
    visitor = visit()
    page = visitor.page
    assert "another voice" in page.locator("#any-hint").inner_text()

    def with_own_voice(route):
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "has_own_voice": True})

    page.route("**/page/about", with_own_voice)
    visitor.open()
    assert "usual voice" in page.locator("#any-hint").inner_text()
    assert "Its own voice" in page.locator(".kinds").inner_text()
    page.locator("[name=mode][value=dialogue]").check()
    page.get_by_label("What do the speakers say?").fill("Anna: Hello.")
    assert "The model’s own" in page.locator(".speaker select").inner_text()


def test_the_microphone_gives_a_clip(visit):
    visitor = visit()
    visitor.choose("clip")
    visitor.record()
    assert "Recording" in visitor.page.locator("#clip").inner_text()
    assert "from a clip" in visitor.speak().locator(".tag").inner_text()
    visitor.button("Remove Recording")
    visitor.page.locator("#clip").get_by_role("button", name="Record").wait_for()


def test_a_clip_that_is_no_sound_is_an_error_at_its_place(visit, tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    visitor = visit()
    visitor.choose("clip")
    visitor.page.locator("#clip input[type=file]").set_input_files(tmp_path / "noise.wav")
    line = visitor.error("clip")
    assert "\n" not in line and "/" not in line.replace("WAV, FLAC", "")


def test_a_seed_that_is_copied_makes_the_same_speech_and_again_makes_another(visit):
    visitor = visit()
    seed = re.search(r"seed (\d+)", visitor.speak().inner_text()).group(1)
    first = visitor.audio()
    visitor.page.locator("#settings > summary").click()
    visitor.write("Seed", seed)
    visitor.page.get_by_label("Play while it is made").uncheck()
    visitor.speak()
    assert visitor.chunks() == []
    second = visitor.audio()
    assert np.abs(first[: len(second)] - second).max() < 1e-4
    visitor.write("Seed", "")
    visitor.speak("Again, please.")
    visitor.button("Again", visitor.take())
    visitor.page.locator(".take").nth(3).wait_for()
    assert not np.array_equal(visitor.audio(0), visitor.audio(1))


def test_text_settings_and_takes_survive_a_reload(visit, voice_clip):
    visitor = visit()
    page = visitor.page
    visitor.choose("clip")
    page.locator("#clip input[type=file]").set_input_files(voice_clip)
    page.locator("#clip .drop.full").wait_for()
    visitor.write("In which style?", "sad")
    page.locator("#settings > summary").click()
    visitor.write("Guidance, exactly", "1.5")
    page.get_by_label("Guidance, exactly").press("Tab")
    visitor.speak("Remember me.")
    visitor.open()
    assert page.get_by_label("What should it say?").input_value() == "Remember me."
    assert page.locator("[name=kind][value=clip]").is_checked()
    assert page.get_by_label("In which style?").input_value() == "sad"
    assert "clip.wav" in page.locator("#clip").inner_text()
    assert "1 changed" in page.locator("#settings > summary").inner_text()
    assert visitor.takes() == 1 and "Remember me." in visitor.take().inner_text()
    visitor.speak("Remember me.")
    visitor.button("Set all back") if page.locator("#settings[open]").count() else None


def test_a_remembered_choice_that_is_not_offered_any_more_becomes_the_usual_one(visit):
    visitor = visit()
    page = visitor.page
    form = json.dumps({"text": "Remember me.", "settings": {"normalize": "gone"}})
    page.evaluate("form => localStorage.setItem('voxcpm2-form', form)", form)
    visitor.open()
    assert page.get_by_label("What should it say?").input_value() == "Remember me."
    assert page.locator("#setting-normalize").input_value() == "false"
    assert page.locator("#changed").inner_text() == ""


def test_a_usual_choice_that_is_not_offered_leaves_the_page_usable(visit):
    visitor = visit()
    page = visitor.page

    def without_normalize(route):
        answer = route.fetch()
        about = answer.json()
        (setting,) = [each for each in about["settings"] if each["name"] == "normalize"]
        setting |= {"default": True, "choices": [[False, "No"]], "disabled": True}
        route.fulfill(response=answer, json=about)

    page.route("**/page/about", without_normalize)
    visitor.open()
    assert page.locator("#setting-normalize").input_value() == "false"
    assert visitor.speak().is_visible()


def test_speech_that_is_stopped_while_it_is_sent_is_not_made(visit):
    visitor = visit()
    page = visitor.page
    held, ended = [], []
    page.route("**/page/speech", lambda route: held.append(route))
    page.on("requestfailed", lambda request: ended.append(request.url))
    visitor.write("What should it say?", "Hello there, how do you do?")
    visitor.button("Speak")
    page.get_by_text("Sending …").wait_for()
    visitor.button("Stop")
    page.get_by_text("Stopped before there was any speech.").wait_for()
    page.locator("#speak").wait_for()
    assert len(held) == 1 and ended == [f"{visitor.command.address}/page/speech"]
    page.unroute("**/page/speech")
    assert visitor.speak().is_visible() and visitor.takes() == 1


def test_a_take_is_deleted_unless_that_is_undone(visit):
    visitor = visit()
    visitor.speak()
    visitor.button("Delete the take", visitor.take())
    visitor.take().wait_for(state="hidden")
    visitor.button("Undo")
    visitor.take().wait_for()
    visitor.button("Delete the take", visitor.take())
    visitor.take().wait_for(state="detached")
    visitor.open()
    assert visitor.takes() == 0


def test_saved_voices_are_renamed_and_deleted(visit):
    visitor = visit()
    page = visitor.page
    card = visitor.speak()
    visitor.button("Keep voice", card)
    card.get_by_label("Name of the voice").fill("a/b")
    visitor.button("Save", card)
    assert "can't be a voice's name" in card.get_by_role("alert").inner_text()
    card.get_by_label("Name of the voice").fill("grandpa")
    visitor.button("Save", card)
    visitor.button("Rename grandpa")
    visitor.write("New name of grandpa", "granny")
    visitor.button("Rename")
    page.get_by_role("radio", name="granny").wait_for()
    assert page.get_by_role("radio", name="granny").is_checked()
    with page.expect_response("**/granny/sound") as heard:
        visitor.button("Hear granny")
    assert heard.value.ok
    visitor.button("Delete granny")
    visitor.button("Delete for good")
    page.get_by_role("radio", name="granny").wait_for(state="detached")


@pytest.mark.parametrize("width", list(WIDTHS))
def test_the_keyboard_speaks_and_what_happens_is_in_view(visit, width):
    visitor = visit(width)
    page = visitor.page
    page.keyboard.press("Control+Enter")
    assert "Write the words" in visitor.error("text")
    assert page.locator("#text").evaluate("e => e === document.activeElement")
    assert page.locator("#stop").is_hidden()
    page.locator("#examples button").first.click()
    assert page.locator("[data-field=text] > .error").is_hidden()
    page.keyboard.press("Control+Enter")
    page.locator(".take").wait_for(state="attached")
    page.get_by_text(re.compile(r"Done: [\d.]+ s of speech")).wait_for()
    for place in ("#line", "#speak"):
        assert is_in_view(page.locator(place))
    newest = page.get_by_role("button", name="Play the newest take")
    assert is_in_view(newest) if width == "phone" else is_in_view(visitor.take())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_dark_or_light_as_the_system_is(visit, scheme):
    visitor = visit(color_scheme=scheme)
    colour = "getComputedStyle(document.body).backgroundColor"
    channels = [int(each) for each in re.findall(r"\d+", visitor.page.evaluate(colour))]
    assert (sum(channels[:3]) < 384) == (scheme == "dark")
    visitor.picture(f"6-{scheme}")
    visitor.button("Change between light and dark")
    visitor.open()
    channels = [int(each) for each in re.findall(r"\d+", visitor.page.evaluate(colour))]
    assert (sum(channels[:3]) < 384) == (scheme == "light")


def test_stop_and_ctrl_c_end_generation_at_once_and_leave_no_files(browser, make_case, tmp_path):
    """The texts have more than 50 s of speech."""
    flags = "--min_tokens", "2000", "--inference_timesteps", "20", "--silence_limit", "0"
    command = Command(make_case("released").folder, tmp_path / "run", "", *flags)
    try:
        context = browser.new_context(viewport={"width": 390, "height": 844})
        visitor = Visitor(context.new_page(), command)
        visitor.write("What should it say?", "Word " * 50)
        visitor.button("Speak")
        visitor.page.get_by_text(re.compile(r"Speaking: .* left")).wait_for()
        assert is_in_view(visitor.page.locator("#progress"))
        assert visitor.page.locator("#speak").is_hidden()
        visitor.picture("7-speaking")
        visitor.button("Stop")
        visitor.take().wait_for()
        assert "You stopped it" in visitor.take().inner_text()
        assert float(visitor.take().locator(".time").inner_text().split()[0].split(":")[0]) < 40
        visitor.button("Speak")
        visitor.page.get_by_text(re.compile("Speaking: ")).wait_for()
        visitor.page.reload()  # cancels that speech, and the next one begins
        visitor.page.locator("body[data-ready]").wait_for()
        visitor.button("Speak")
        visitor.page.get_by_text(re.compile("Speaking: ")).wait_for()
        command.process.send_signal(signal.SIGINT)
        output, _ = command.process.communicate(timeout=20)
        assert command.process.returncode == 0 and output == b""
        assert "Traceback" not in command.said()
        assert temporary_folders() <= command.before
        context.close()
    finally:
        command.process.kill()
        command.process.wait()


def test_a_dialogue_is_written_spoken_and_remembered(visit, voice_clip):
    visitor = visit("phone")
    page = visitor.page
    script = page.get_by_label("What do the speakers say?")
    page.locator("[name=mode][value=dialogue]").check()
    assert page.locator("#text").is_hidden() and page.locator("[name=kind]").first.is_hidden()
    visitor.button("Speak")
    assert "in lines such as" in visitor.error("script")
    page.locator("#scripts button").first.click()
    page.locator(".speaker").nth(1).wait_for()
    assert page.locator(".speaker b").all_inner_texts() == ["Anna", "Ben"]
    assert "2 turns, from line 2" in page.locator(".speaker").nth(1).inner_text()
    visitor.picture("6-dialogue")

    script.fill("Anna: Hello.\n(A door.)\nBen (sad): Good morning.\nCarl: Yes.\nAnna: No.")
    page.get_by_text("Not spoken: line 2.").wait_for()
    page.get_by_label("Voice of Ben").select_option("described")
    visitor.button("Speak")
    assert "Say what the voice is like" in visitor.error("'speaker Ben'")
    visitor.write("Description for Ben", "An old man")
    page.get_by_label("Voice of Carl").select_option("clip")
    page.locator(".speaker input[type=file]").nth(2).set_input_files(voice_clip)
    page.locator(".speaker .drop.full").wait_for()
    visitor.button("Speak")
    visitor.take().wait_for(state="attached")
    page.get_by_text(re.compile(r"Done: [\d.]+ s of speech")).wait_for()
    assert visitor.take().locator(".tag").all_inner_texts() == ["Anna", "Ben", "Carl"]
    assert visitor.take().get_by_role("button", name="Keep voice").count() == 0
    assert is_in_view(page.locator("#speak"))
    visitor.picture("7-dialogue-spoken")

    visitor.open()
    page.get_by_label("Voice of Ben").wait_for()
    assert page.get_by_label("Description for Ben").input_value() == "An old man"
    page.locator(".speaker .drop.full").wait_for()
    assert "clip.wav" in page.locator(".speaker").nth(2).inner_text()
    script.fill("Anna: Hello.\nBen:\nAnna: No.")
    page.get_by_text("line 2: Ben says nothing").wait_for()
    visitor.button("Speak")
    assert "line 2: Ben says nothing" in visitor.error("script")
    page.locator("[name=mode][value=voice]").check()
    visitor.button("Put its text and settings back into the form", visitor.take())
    page.get_by_label("Voice of Carl").wait_for()
    assert "Good morning." in script.input_value() and script.is_visible()
