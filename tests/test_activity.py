"""Lines that say what keeps a user waiting."""

import time

import pytest

from mlx_voxcpm2 import activity, load_model
from mlx_voxcpm2.commands.shell import Parser, flag, run
from mlx_voxcpm2.recognition import recogniser


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(activity, "ANNOUNCED_AFTER", 0)


def announced(argv: list[str], command, capsys) -> str:
    parser = Parser(prog="command")
    flag(parser, "quiet", action="store_true")
    assert run(parser, command, argv) == 0
    return capsys.readouterr().err


def wait(_) -> None:
    with activity.activity("waiting"):
        time.sleep(0.2)


def test_a_long_activity_is_one_line_on_standard_error(at_once, capsys):
    assert announced([], wait, capsys) == "waiting …\n"


def test_a_short_activity_says_nothing(capsys):
    assert announced([], wait, capsys) == ""


def test_quiet_commands_and_libraries_say_nothing(at_once, capsys):
    assert announced(["--quiet"], wait, capsys) == ""
    wait(None)
    assert capsys.readouterr().err == ""


def test_loading_and_the_first_sound_are_announced(released, at_once, monkeypatch):
    said = []
    monkeypatch.setattr(activity.threading, "Timer", Timer)
    with activity.announcing(said.append):
        model = load_model(released.folder, "float32")
        list(model.generate("Hello.", stream=True, max_tokens=2, retry_badcase=False))
    assert said == [f"loading {released.folder}", "computing the first sound"]


def test_encoding_a_clip_is_announced(released, at_once, monkeypatch):
    said = []
    monkeypatch.setattr(activity.threading, "Timer", Timer)
    with activity.announcing(said.append):
        released.model.encode_audio(released.waveform("short"))
    assert said == ["encoding a clip"]


def test_loading_a_recogniser_is_announced(at_once, monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(activity.threading, "Timer", Timer)
    monkeypatch.setattr("mlx_audio.stt.utils.load_model", lambda folder: None)
    monkeypatch.setattr(recogniser, "recogniser_config", lambda name: {})
    monkeypatch.setattr(recogniser, "find_recogniser", lambda name: tmp_path)
    with activity.announcing(said.append):
        recogniser.load_recogniser("some/whisper")
    assert said == ["loading some/whisper"]


class Timer:
    """Stand-in that does not wait."""

    def __init__(self, _, function, arguments):
        self.start = lambda: function(*arguments)

    def cancel(self) -> None:
        pass
