"""What the page sends: voices, settings, names. Without a model."""

import numpy as np
import pytest

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.app.about import recogniser_name
from mlx_voxcpm2.app.dialogue_inputs import PageDialogue
from mlx_voxcpm2.app.inputs import FieldError, PageRequest, VoiceChoice, new_voice_name
from mlx_voxcpm2.app.progress import LETTERS_PER_SECOND, Pace, fraction_done, remaining_seconds
from mlx_voxcpm2.app.take_writer import peaks_of
from mlx_voxcpm2.app.widgets import shown_settings
from mlx_voxcpm2.recognition.recogniser import DEFAULT_RECOGNISER
from mlx_voxcpm2.settings import settings_of

CLIPS = {"one": (np.zeros(1600, np.float32), 16000), "two": (np.ones(1600, np.float32), 16000)}
FULL = {
    "description": "An old man",
    "style": " sad ",
    "clip": "one",
    "words": " What it says. ",
    "voice": "anna",
}
ONE = {"prompt_audio": "one", "prompt_text": "What it says."}
CASES = [  # kind and options of the voice, what the model is given, upstream's mode
    ({"kind": "any"}, {}, "zero-shot"),
    ({"kind": "described"}, {"instruct": "An old man"}, "design"),
    ({"kind": "clip"}, {"instruct": "sad", "ref_audio": "one"}, "reference"),
    ({"kind": "clip", "continues": True}, {"ref_audio": "one", **ONE}, "combined"),
    ({"kind": "clip", "continues": True, "clones": False}, ONE, "continuation"),
    (
        {"kind": "clip", "continues": True, "other_clip": "two"},
        {"ref_audio": "one", **ONE, "prompt_audio": "two"},
        "combined",
    ),
    ({"kind": "saved"}, {"instruct": "sad", "voice": "anna"}, "voice"),
]


@pytest.fixture(autouse=True)
def saved_voice(voice_folder):
    voice_folder.mkdir(parents=True)
    (voice_folder / "anna.safetensors").touch()


def parsed(voice=None, text="Hello.", **settings):
    body = {"text": text, "voice": voice or {"kind": "any"}, "settings": settings}
    return PageRequest.parse(body, CLIPS.__getitem__)


@pytest.mark.parametrize(("choice", "given", "mode"), CASES)
def test_a_kind_of_voice_uses_its_own_fields_only(choice, given, mode):
    request = parsed({**FULL, **choice})
    used = {
        name: next(id for id, clip in CLIPS.items() if clip is value)
        if isinstance(value, tuple)
        else value
        for name, value in request.voice.given().items()
    }
    assert used == given and request.choice.mode == mode


@pytest.mark.parametrize(
    ("choice", "missing", "words"),
    [
        ({"kind": "described"}, "description", "Say what the voice is like"),
        ({"kind": "clip"}, "clip", "Record the voice"),
        ({"kind": "clip", "continues": True}, "words", "word for word"),
        ({"kind": "saved"}, "voice", "Choose a voice"),
    ],
)
@pytest.mark.parametrize("empty", ["", "  "])
def test_a_missing_field_is_named_with_its_error(choice, missing, words, empty):
    with pytest.raises(FieldError, match=words) as error:
        parsed({**FULL, **choice, missing: empty})
    assert error.value.field == missing and "\n" not in str(error.value)


def test_a_style_is_optional_and_an_old_clip_has_to_be_given_again():
    only_clip = parsed({"kind": "clip", "clip": "one", "style": " "}).voice.given()
    assert list(only_clip) == ["ref_audio"]
    for field in ("clip", "other_clip"):
        with pytest.raises(FieldError, match="give it again") as error:
            parsed({**FULL, "kind": "clip", "continues": True, field: "gone"})
        assert error.value.field == field


def test_a_voice_must_be_a_saved_one():
    """A path would read any file of the machine that shows the page."""
    with pytest.raises(FieldError, match="There is no voice") as error:
        parsed({"kind": "saved", "voice": "/home/somebody/voice.safetensors"})
    assert error.value.field == "voice"


@pytest.mark.parametrize(
    "voice", [None, "any", {"kind": "other"}, {"kind": 1}, {"clones": "yes"}, {"x": 1}]
)
def test_a_voice_of_another_form_is_refused(voice):
    with pytest.raises(FieldError):
        VoiceChoice.parse(voice)


@pytest.mark.parametrize(
    "body",
    [None, [], "x", {}, {"text": 1}, {"text": "a", "settings": []}, {"text": "a", "voice": 1}],
)
def test_a_body_of_another_form_is_refused(body):
    with pytest.raises(FieldError):
        PageRequest.parse(body, CLIPS.__getitem__)


def test_settings_are_parsed_as_a_browser_gives_them():
    given = {"seed": " 17 ", "cfg_value": 1.6, "inference_timesteps": 6.0, "temperature": ""}
    request = parsed(**given, max_tokens="12", retry_badcase=False, paragraph_pause="2")
    assert request.options == GenerationOptions(1.6, 6, max_tokens=12, seed=17, retry_badcase=False)
    assert request.long_form.paragraph_pause == 2
    assert parsed(seed="").options.seed is None
    assert parsed(seed="18446744073709551615").options.seed == 2**64 - 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "x"),
        ("seed", "1.5"),
        ("seed", "-1"),
        ("cfg_value", 0),
        ("fade_in", "much"),
        ("inference_timesteps", 2.5),
        ("paragraph_pause", 1000),
        ("solver", "magic"),
    ],
)
def test_a_wrong_setting_is_named_with_its_error(name, value):
    with pytest.raises(FieldError, match=f"{name} is") as error:
        parsed(**{name: value})
    assert error.value.field == name


def test_an_unknown_setting_is_refused():
    with pytest.raises(FieldError, match="no setting 'output'"):
        parsed(output="/tmp/x")


def test_defaults_of_the_command_line_hold_unless_the_page_sends_others():
    body = {"text": "Hello.", "settings": {"seed": "2"}}
    defaults = {"seed": 1, "min_tokens": 7, "cfg_value": None}
    options = PageRequest.parse(body, CLIPS.__getitem__, defaults).options
    assert (options.seed, options.min_tokens, options.cfg_value) == (2, 7, 2.0)


def test_the_text_has_words():
    for text in ("", "  \n", "…", "[pause:1]"):
        with pytest.raises(FieldError) as error:
            parsed(text=text)
        assert error.value.field == "text"


def test_a_long_text_and_one_with_pauses_are_spoken_in_segments():
    assert [each.text for each in parsed(text=" Hello. ").segments] == ["Hello."]
    assert len(parsed(text="A sentence. " * 40).segments) > 1
    parts = parsed(text="One. [pause:1] Two.\n\nThree." + " More words." * 30).segments
    assert (parts[0].text, parts[0].pause) == ("One.", 1)
    assert parsed(text="A.\n\n" + "B. " * 200, paragraph_pause=3).segments[0].pause == 3


def test_a_stream_does_not_retry():
    body = {"text": "Hello.", "stream": True}
    streamed = PageRequest.parse(body, CLIPS.__getitem__).task().options
    whole = PageRequest.parse({**body, "stream": False}, CLIPS.__getitem__).task().options
    assert not streamed.may_retry and whole.may_retry


@pytest.mark.parametrize(
    "name",
    ["", "  ", None, 1, "a/b", "../a", "/tmp/a.safetensors", "a.safetensors", "A.SafeTensors"],
)
def test_a_voices_name_is_never_a_path(name):
    with pytest.raises(FieldError) as error:
        new_voice_name(name)
    assert error.value.field == "name" and "path" not in str(error.value)
    assert new_voice_name(" Old man ") == "Old man"


def test_settings_are_shown_with_the_options_limits_and_the_command_lines_values():
    given = {"seed": 5, "fade_in": 0.3, "trim_silence": True, "cfg_value": None}
    shown = {each["name"]: each for each in shown_settings(given)}
    for name, value in {"seed": 5, "fade_in": 0.3, "trim_silence": True, "cfg_value": 2.0}.items():
        assert shown[name]["default"] == value
    described = settings_of(GenerationOptions)
    for name in ("cfg_value", "inference_timesteps", "temperature"):
        limits = shown[name]["low"], shown[name]["high"]
        assert limits == (described[name].low, described[name].high)
    assert shown["fade_in"]["high"] == 0.3
    assert [choice[0] for choice in shown["solver"]["choices"]] == ["euler", "adams"]


def test_the_pace_is_learnt_from_what_was_spoken():
    pace, text = Pace(), "a" * 140
    assert pace.expected(text) == pytest.approx(140 / LETTERS_PER_SECOND)
    for _ in range(20):
        pace.learn(text, 20.0)
    assert pace.expected(text) == pytest.approx(20, rel=0.01)
    pace.learn("", 1.0)
    pace.learn(text, 0.0)
    assert pace.expected(text) == pytest.approx(20, rel=0.01)
    assert pace.expected("!") > 0


def test_the_remaining_time_follows_the_speed_so_far():
    assert remaining_seconds(0, 10, 1) is None
    assert remaining_seconds(2, 10, 4) == 16
    assert remaining_seconds(12, 10, 4) == 0
    assert fraction_done(5, 10) == 0.5 and fraction_done(20, 10) < 1


def test_words_are_offered_if_a_recogniser_is_given_or_installed(monkeypatch):
    def missing():
        raise ValueError("speech recognition needs mlx-audio")

    monkeypatch.setattr("mlx_voxcpm2.app.about.check_recognition_installed", lambda: None)
    assert recogniser_name(None) == DEFAULT_RECOGNISER
    monkeypatch.setattr("mlx_voxcpm2.app.about.check_recognition_installed", missing)
    assert recogniser_name(None) is None and recogniser_name("mine") == "mine"


def test_peaks_are_relative_to_the_highest():
    assert peaks_of([0.1, 0.2, 0.4, 0.1], 2) == (0.5, 1.0)
    assert peaks_of([], 3) == peaks_of([0.0], 3) == (0.0, 0.0, 0.0)


def dialogue(script, **voices):
    body = {"script": script, "voices": voices, "settings": {}}
    return PageDialogue.parse(body, CLIPS.__getitem__)


def described(description):
    return {"kind": "described", "description": description}


def test_what_is_written_of_a_voice_counts_as_text(monkeypatch):
    monkeypatch.setattr("mlx_voxcpm2.app.inputs.LONGEST_TEXT", 20)
    words = {"kind": "clip", "clip": "one", "continues": True}
    for voice in (described("b" * 8), {**words, "words": "b" * 8}):
        assert parsed(voice, "a" * 12).text == "a" * 12
        with pytest.raises(FieldError, match=r"13 characters, .* the voice 8; 20 in all") as wrong:
            parsed(voice, "a" * 13)
        assert wrong.value.field == "text"
    assert dialogue("A: Hi.\nB: Yes.", A=described("bb"), B=described("cccc")).words
    with pytest.raises(FieldError, match=r"14 characters, .* the voice 7; 20 in all") as wrong:
        dialogue("A: Hi.\nB: Yes.", A=described("bb"), B=described("ccccc"))
    assert wrong.value.field == "script"


def test_pauses_of_ten_minutes_together_are_the_pages_limit_too():
    assert parsed(text="Hi " + "[pause:60]" * 10).segments[0].pause == 600
    wrong = "the pauses come to 660 s, 600 s is the limit"
    with pytest.raises(FieldError, match=wrong) as text:
        parsed(text="Hi " + "[pause:60]" * 11)
    with pytest.raises(FieldError, match=wrong) as script:
        dialogue("A: Hi " + "[pause:60]" * 11 + "\nB: Yes.")
    assert (text.value.field, script.value.field) == ("text", "script")
