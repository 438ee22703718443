"""Fields, history and live audio of the page; without Gradio, without a model."""

import numpy as np
import pytest

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.app.history import HISTORY_LENGTH, HistoryEntry, with_entry, write_entry
from mlx_voxcpm2.app.inputs import FIELDS, MODES, PageRequest, new_voice_name
from mlx_voxcpm2.app.live_audio import MAX_STREAMS, LiveAudio
from mlx_voxcpm2.long_form.speak import SpokenSegment
from mlx_voxcpm2.settings import settings_of

PROMPT = {"prompt_audio": "prompt.wav", "prompt_text": "What it says."}
INSTRUCT = {"instruct": "An old man"}
FULL = {
    **INSTRUCT,
    **PROMPT,
    "prompt_text": " What it says. ",
    "ref_audio": "ref.wav",
    "voice": "anna",
}
USED = {
    "zero-shot": {},
    "design": INSTRUCT,
    "reference": {"ref_audio": "ref.wav", **INSTRUCT},
    "continuation": PROMPT,
    "combined": {"ref_audio": "ref.wav", **PROMPT},
    "voice": {"voice": "anna", **INSTRUCT},
}


@pytest.fixture(autouse=True)
def saved_voice(voice_folder):
    voice_folder.mkdir(parents=True)
    (voice_folder / "anna.safetensors").touch()


def parsed(mode, given=None, text="Hello.", streamed=False, **settings):
    return PageRequest.parse(mode, text, FULL if given is None else given, settings, streamed)


@pytest.mark.parametrize("mode", list(MODES))
def test_a_mode_ignores_the_values_of_hidden_inputs(mode):
    assert parsed(mode).voice.given() == USED[mode]
    assert set(MODES[mode].labels) == set(USED[mode]) <= set(FIELDS)


@pytest.mark.parametrize(
    ("mode", "missing", "line"),
    [
        ("design", "instruct", "no description; say"),
        ("reference", "ref_audio", "no clip; record"),
        ("continuation", "prompt_audio", "no clip; record"),
        ("continuation", "prompt_text", "transcript is missing; write"),
        ("combined", "ref_audio", "no clip; record"),
        ("combined", "prompt_text", "transcript is missing; write"),
        ("voice", "voice", "no voice; save one"),
    ],
)
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_missing_field_is_a_one_line_error(mode, missing, line, empty):
    with pytest.raises(ValueError, match=line) as error:
        parsed(mode, {**FULL, missing: empty})
    assert "\n" not in str(error.value)


def test_a_style_is_optional_and_one_clip_may_be_used_twice():
    only_clip = {"ref_audio": "ref.wav"}
    assert parsed("reference", {**only_clip, "instruct": " "}).voice.given() == only_clip
    assert parsed("combined", {**FULL, "prompt_audio": None}).voice.prompt_audio == "ref.wav"


def test_a_voice_must_be_a_saved_one():
    """A path would read any file of the machine that shows the page."""
    with pytest.raises(ValueError, match="there is no saved voice"):
        parsed("voice", {"voice": "/home/somebody/voice.safetensors"})


def test_settings_are_parsed_as_gradio_gives_them():
    fields = {"seed": " 17 ", "cfg_value": 1.6, "inference_timesteps": 6.0, "temperature": None}
    request = parsed("zero-shot", **fields, max_tokens=12, retry_badcase=False)
    assert request.options == GenerationOptions(1.6, 6, max_tokens=12, seed=17, retry_badcase=False)
    assert parsed("zero-shot", seed="").options.seed is None
    for wrong in ({"seed": "x"}, {"seed": "1.5"}, {"seed": "-1"}, {"cfg_value": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
            parsed("zero-shot", **wrong)
    with pytest.raises(ValueError, match=r"inference_timesteps is 2\.5"):
        parsed("zero-shot", inference_timesteps=2.5)


def test_a_text_has_words_and_a_long_one_is_recognised():
    with pytest.raises(ValueError, match="text is empty"):
        parsed("zero-shot", text="  \n")
    assert not parsed("zero-shot").is_long
    assert parsed("zero-shot", text="A sentence. " * 40).is_long
    assert parsed("zero-shot", text="One. [pause:1] Two.").is_long


@pytest.mark.parametrize(
    "name", ["", "  ", None, "a/b", "../a", "/tmp/a.safetensors", "a.safetensors", "A.SafeTensors"]
)
def test_a_voices_name_is_never_a_path(name):
    with pytest.raises(ValueError, match=r"name|\.safetensors"):
        new_voice_name(name)
    assert new_voice_name(" Old man ") == "Old man"


def test_audio_reaches_its_reader_in_either_order():
    live, samples = LiveAudio(), np.array([0, 1, -1, 2, 0.5], np.float32)
    live.write("a", samples[:2])
    reader = live.read("a")
    first = next(reader)
    live.write("a", samples[2:])
    live.write("b", samples)
    live.close("a")
    received = np.frombuffer(first + b"".join(reader), "<i2")
    assert received.tolist() == [0, 32767, -32767, 32767, 16384]
    live.write("", samples)
    live.close("")


def test_unread_audio_is_dropped():
    live = LiveAudio()
    for number in range(3 * MAX_STREAMS):
        live.write(str(number), np.zeros(10, np.float32))
        live.close(str(number))
    assert len(live._streams) == MAX_STREAMS


def test_history_has_the_newest_entries_and_removes_the_files_of_older_ones(tmp_path):
    history, audio = [], np.linspace(-0.5, 0.5, 480, dtype=np.float32)
    for number in range(HISTORY_LENGTH + 2):
        request = parsed("zero-shot", text=f"Text {number}. " + "a" * 80)
        file = write_entry(tmp_path, audio, 48000, "name")
        excerpt = SpokenSegment(0, request.text, audio, 48000, 0.0, 0.01)
        entry = HistoryEntry(request, file, excerpt, number, 0.01, "stop")
        history = with_entry(history, entry)
    assert [entry.seed for entry in history] == list(range(HISTORY_LENGTH + 1, 1, -1))
    assert {entry.file for entry in history} == set(tmp_path.glob("speech-*/name.wav"))
    assert len(list(tmp_path.glob("speech-*"))) == HISTORY_LENGTH
    number = HISTORY_LENGTH + 1
    assert history[0].label == f"Text {number}. … (zero-shot, 0.0 s, seed {number})"


def test_widgets_have_the_options_limits_and_the_command_lines_values():
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    from mlx_voxcpm2.app.widgets import SETTINGS, setting_widgets

    given = {"seed": 5, "fade_in": 0.3, "trim_silence": True, "cfg_value": None}
    made = dict(zip(SETTINGS, setting_widgets(given), strict=True))
    assert {name: widget.value for name, widget in made.items()} == {
        "seed": "5",
        "cfg_value": 2.0,
        "inference_timesteps": 10,
        "temperature": 1.0,
        "fade_in": 0.3,
        "trim_silence": True,
    }
    described = settings_of(GenerationOptions)
    for name in ("cfg_value", "inference_timesteps", "temperature"):
        limits = made[name].minimum, made[name].maximum
        assert limits == (described[name].low, described[name].high)
    assert made["fade_in"].maximum == 0.3
