"""Text normalization: numbers, dates and units become words on request."""

import json
import logging
import socket
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.app.inputs import parse_settings
from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.dialogue.speak import speak_dialogue
from mlx_voxcpm2.long_form.speak import speak_long
from mlx_voxcpm2.server.request import Limits, SpeechRequest
from mlx_voxcpm2.text import normalization
from mlx_voxcpm2.text.normalization import language_of, normalized
from mlx_voxcpm2.text.number_words import LANGUAGES, number_words
from mlx_voxcpm2.text.spoken import spoken_text

OFFICIAL = json.loads(
    (Path(__file__).parent / "golden" / "normalization.json").read_text(encoding="utf-8")
)
LIMITS = Limits("model", 100, GenerationOptions())
QUICK = {"max_tokens": 3, "inference_timesteps": 2, "seed": 7}


def one_space(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("text", [each for each in OFFICIAL if language_of(each) == "zh"])
def test_chinese_texts_are_the_official_packages(text):
    """Its English differs on purpose, see `benchmarks/normalization`."""
    assert one_space(normalized(text)) == one_space(OFFICIAL[text])


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Say {HH AH0 L OW1} 5 times", "Say {HH AH0 L OW1} five times"),
        ("读{ni3}{hao3}3次", "读{ni3}{hao3}三次"),
        ("Wait [pause:0.8] 3 s [laughing]2", "Wait [pause:0.8] three seconds [laughing]two"),
        ("(A voice, 30 years old)It is 5.", "(A voice, 30 years old)It is five."),
        ("(温柔的女声)It is 5.", "(温柔的女声)It is five."),
    ],
)
def test_marks_for_the_model_are_unchanged(text, spoken):
    assert normalized(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ('He said "5 dollars\\" and left.', 'He said "five dollars\\" and left.'),
        ("x² + 3³ in [2]", "x squared plus three cubed in [2]"),
        ("2½ cups, é5", "two and a half cups, éfive"),
        ("3 < 5 & 6 > 2", "three less than five and six greater than two"),
        ('今天"3"个', '今天"三"个'),
        ("\u00a05\u00a0km", "five kilometers"),
        ("１２ １२", "twelve twelve"),
    ],
)
def test_texts_that_the_library_would_spoil_are_normalized(text, spoken):
    assert one_space(normalized(text)) == spoken


def test_markdown_is_not_read_aloud_and_paragraphs_stay():
    text = "# Title 1\n\n- **5** apples\n- `6` _pears_\n\n```\ncode\n```\nEnd of 2 * 3 * 4."
    assert normalized(text) == (
        "Title one\n\nfive apples. six pears.\n\nEnd of two times three times four."
    )


def test_japanese_is_read_as_japanese():
    assert normalized("今日は5円です。") == "今日は五円です。"
    assert normalized("２０％オフ", "ja") == "二十パーセントオフ"
    assert language_of("今日は晴れです") == "ja"
    assert language_of("优の良品很不错") == "zh"
    assert language_of("Ünïcode 5") == "en" and language_of("5") == "en"


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        (
            "Beijing (北京) has 21 million people.",
            "Beijing (北京) has twenty one million people.",
        ),
        (
            "Tokyo (東京) has 14 million people and 3 km of walls.",
            "Tokyo (東京) has fourteen million people and three kilometers of walls.",
        ),
        ("The 漢字 costs $5.", "The 漢字 costs five dollars."),
        ("My friend 小明 is 5 ft tall.", "My friend 小明 is five feet tall."),
        ("I like ラーメン, 2 bowls for $15.", "I like ラーメン, two bowls for fifteen dollars."),
        ("Seoul (서울) has 9 million people.", "Seoul (서울) has nine million people."),
        ("我用iPhone 15看3个视频", "我用iPhone十五看三个视频"),
        ("他在Google工作了5年", "他在Google工作了五年"),
        ("R = 5 Ω", "R equals five ohms"),
    ],
)
def test_the_language_is_that_of_most_letters(text, spoken):
    assert normalized(text) == spoken


def test_a_letter_of_another_script_does_not_decide_the_language():
    assert language_of("hi :-) <3 :D (ツ)") == "en"
    assert language_of("コーヒーを飲む") == language_of("iPadを3台買う") == "ja"
    assert language_of("서울 2호선 KTX") is language_of("Η Αθήνα") is None
    assert normalized("The 漢字 costs 5.", "zh") == "The漢字costs五."


def test_other_languages_keep_their_numbers_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "mlx_voxcpm2"):
        assert normalized("Он платит **5** рублей") == "Он платит 5 рублей"
        assert "English, Chinese, Japanese" in caplog.text
        caplog.clear()
        assert normalized("그는 **5**유로", "ko") == "그는 5유로"
        assert len(caplog.records) == 1
        caplog.clear()
        normalized("Без цифр {ni3}")
        assert not caplog.records


@pytest.mark.parametrize("language", ["xx", "English", "zz-DE", " "])
def test_an_unknown_language_is_refused_also_where_there_is_nothing_to_normalize(language):
    for refused in (
        lambda: normalized("No digits.", language),
        lambda: GenerationOptions(normalize=language),
        lambda: speak_long(None, "No digits.", normalize=True, language=language),
        lambda: speak_dialogue(None, "A: No digits.", normalize=True, language=language),
        lambda: SpeechRequest.parse(
            {"input": "No digits.", "normalize": True, "language": language}, LIMITS
        ),
        lambda: parse_settings({"normalize": True, "language": f"{language}?"}),
    ):
        with pytest.raises(
            ValueError, match=r"normalize does not know the language '.*give a code"
        ):
            refused()


def test_languages_of_the_model_and_any_without_normalization_are_accepted():
    assert GenerationOptions(normalize="ar").language == "ar"
    assert normalized("5 km", "tl") == normalized("5 km", "fil") != "5 km"
    for language in ("xx", "English", "auto"):  # only abbreviations depend on it
        SpeechRequest.parse({"input": "Hi.", "language": language}, LIMITS)


@pytest.mark.parametrize(
    ("language", "text", "spoken"),
    [
        (
            "de",
            "Er zahlt 5 Euro, 20 % und 1.234,5 km.",
            "Er zahlt fünf Euro, zwanzig Prozent und "
            "eintausendzweihundertvierunddreißig Komma fünf Kilometer.",
        ),
        (
            "de-AT",
            "Das war 1995: 3,50 €.",
            "Das war neunzehnhundertfünfundneunzig: drei Euro fünfzig.",
        ),
        ("fr", "Il a 71 ans et 5 €.", "Il a soixante-et-onze ans et cinq euros."),
        (
            "es",
            "Pagó 1.234,5; el 20 %.",
            "Pagó mil doscientos treinta y cuatro coma cinco; el veinte por ciento.",
        ),
        ("ru", "Он платит 5 рублей.", "Он платит пять рублей."),
        ("th", "ราคา 25 บาท", "ราคา ยี่สิบห้า บาท"),
    ],
)
def test_numbers_of_a_named_language_are_in_its_words(language, text, spoken):
    assert normalized(text, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Am 3. Mai um 10:30 kam Nr. 007, 5-jährig."),
        ("de", "Er sah 1 Frau."),
        ("fr", "Le 1er et le 2e."),
        ("es", "Vinieron 21 mujeres."),
        ("ru", "Он читал 2 книги."),
    ],
)
def test_numbers_whose_form_depends_on_their_sentence_stay(language, text):
    assert normalized(text, language) == text


def test_all_languages_of_number_words_have_their_own():
    words = {language: number_words(123, language) for language in LANGUAGES}
    assert "one hundred twenty-three" not in words.values()
    assert not [word for word in words.values() if any(map(str.isdigit, word))]


def test_normalization_needs_no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked for")

    normalization._reader.cache_clear()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert normalized("I have 5.") == "I have five."


def test_a_missing_library_is_a_one_line_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "wetext", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"mlx-voxcpm2\[normalize\]"):
        GenerationOptions(normalize=True)
    GenerationOptions()
    with pytest.raises(ValueError, match="normalize is 1"):
        GenerationOptions(normalize=1)


def test_the_library_is_imported_only_on_request():
    script = "import mlx_voxcpm2.generate, sys; assert not {'wetext', 'regex'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_text_of_emoji_is_empty():
    with pytest.raises(ValueError, match="text is empty"):
        spoken_text("😀", None, True)


def test_the_model_speaks_the_normalized_words(released):
    """The audio is that of the words; the description is unchanged."""
    told = {"instruct": "30 years old", **QUICK}
    (by_option,) = released.model.generate("I have 5 kg.", normalize=True, **told)
    (by_words,) = released.model.generate("I have five kilograms.", **told)
    assert mx.array_equal(by_option.audio, by_words.audio)
    options = GenerationOptions(normalize="zh", **QUICK)
    (many,) = released.model.generate_batch(["5"], options=options)
    (alone,) = released.model.generate("五", **QUICK)
    assert mx.allclose(many.audio, alone.audio, atol=1e-5)


def test_a_long_text_is_normalized_once_before_it_is_split(released, monkeypatch):
    monkeypatch.delattr("mlx_voxcpm2.text.spoken.normalized")  # called by requests
    options = GenerationOptions(normalize=True, **QUICK)
    text = "I have 5. [pause:0.1] You have 6.\n\nNo " + "1234567 " * 12
    segments = list(speak_long(released.model, text, options=options))
    assert segments[0].text == "I have five."
    assert segments[1].text == "You have six."
    assert max(len(segment.text) for segment in segments) <= 310 and len(segments) > 4


def test_the_command_speaks_numbers_as_words(released, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generate, "load", lambda args: released.model)
    quick = ["--max_tokens", "3", "--inference_timesteps", "2", "--seed", "7"]

    def run(*flags: str) -> int:
        return generate.main(["--model", str(released.folder), *quick, *flags])

    assert run("--text", "I have 5.", "--normalize", "--output", "a.wav") == 0
    assert run("--text", "I have five.", "--output", "b.wav") == 0
    assert run("--text", "I have 5.", "--normalize", "--language", "ko", "--output", "c.wav") == 0
    assert run("--text", "I have 5.", "--output", "d.wav") == 0
    first, second, third, fourth = (Path(f"{name}.wav").read_bytes() for name in "abcd")
    assert first == second != third == fourth
    capfd.readouterr()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("--text", "I have 5.", "--normalize", "--output", "e.wav") == 2
    err = capfd.readouterr().err
    assert "mlx-voxcpm2[normalize]" in err and err.count("\n") == 1
    assert not Path("e.wav").exists()
