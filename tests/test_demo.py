"""`demo` as a checkpoint is the package's own voice; words outside its vocabulary are reported."""

import shutil

import mlx.core as mx
import pytest

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.text import vocabulary
from mlx_voxcpm2.text.segments import Segment
from mlx_voxcpm2.text.vocabulary import KnownCharacters, read_vocabulary
from mlx_voxcpm2.weights import hub


@pytest.fixture
def tiny_demo(released, tmp_path, monkeypatch):
    """A tiny checkpoint in the place of the package's voice, which knows three words."""
    folder = tmp_path / "package" / "demo"
    shutil.copytree(released.folder, folder)
    (folder / "words.txt").write_text("three one\n三\n", encoding="utf-8")
    (folder / "descriptions.txt").write_text("low voice\nman\n", encoding="utf-8")
    monkeypatch.setitem(hub.BUILT_IN, "demo", folder)
    return folder


def test_demo_is_the_packages_own_voice_in_float32(tiny_demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # a folder of that name is ./demo
    assert load_model("demo").dtype == mx.float32
    assert load_model("demo", "bfloat16").dtype == mx.bfloat16
    with pytest.raises(FileNotFoundError, match="config"):
        load_model("./demo")


def test_a_build_without_the_voice_says_how_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(hub.BUILT_IN, "demo", tmp_path / "demo")
    with pytest.raises(FileNotFoundError, match="no voice of that name"):
        load_model("demo")


@pytest.mark.parametrize(("name", "meant"), [("englsh", "english"), ("English", "english")])
def test_a_misspelt_name_of_a_voice_in_the_package_names_the_voice(name, meant):
    with pytest.raises(FileNotFoundError, match=f"^{name}: no such folder; did you mean {meant}?"):
        load_model(name)


def test_a_converted_demo_knows_its_words_and_descriptions(tiny_demo, tmp_path):
    model = load_model(convert("demo", tmp_path / "converted", quantize="8bit"))
    words = model.request_builder.vocabulary
    assert words.words_of("") == ["three", "one", "三"]
    assert "low voice" in words.description_fault("(soprano)")


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("three one", []),
        ("三三", []),
        ("three four", ["four"]),
        ("Three, four!", ["four"]),
        ("THREE 三，三。", []),
        ("三四", ["三四"]),
        ("(a low voice) Three.", []),
    ],
)
def test_words_outside_the_vocabulary_are_found(tiny_demo, text, unknown):
    words = read_vocabulary(tiny_demo)
    assert words.unknown(words.folded(text)) == unknown


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Hello, World!", "hello world"),
        ("“Yes” — no; please…", "yes no please"),
        ("三，一。 四！", "三一四"),
        ("三一 四", "三一 四"),
        ("Pi: 三点一四", "pi 三点一四"),
        ("(A Low Voice)Three. One.", "(A Low Voice)three one"),
        ("(Low Voice.)Three. One.", "(low voice)three one"),
        ("（ low  voice ） One", "(low voice) one"),
        (" Three. ", " three "),
        ("Don't", "don't"),
        ("ＯＮＥ", "ｏｎｅ"),
    ],
)
def test_capitals_and_punctuation_are_folded(tiny_demo, text, folded):
    assert read_vocabulary(tiny_demo).folded(text) == folded


def test_the_demo_reads_its_words_in_any_spelling():
    """Words are capitalised, in upper case, quoted, spaced, and in a sentence with a prompt."""
    model = load_model("demo")
    for word in "zero one hello world please today 三 九".split():
        plain = model.request(word, seed=1).prompt.tokens
        for written in (f"{word.capitalize()}.", f"{word.upper()}!", f"“{word}”", f" {word}\n"):
            assert model.request(written, seed=1).prompt.tokens == plain
    clip = model.decode_latents(mx.zeros((4, 4, 24))), 16000
    plain, written = (
        model.request(text, prompt_audio=clip, prompt_text=words, seed=1).prompt.tokens
        for words, text in (("good morning ", "hello world"), ("Good morning.", "Hello, world!"))
    )
    assert written == plain


def test_a_checkpoint_without_a_vocabulary_gives_no_warning(released, caplog):
    assert read_vocabulary(released.folder) is None
    released.model.request("one four")
    assert not caplog.text


class TestKnownCharacters:
    @pytest.fixture
    def characters(self, tmp_path) -> KnownCharacters:
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        (tmp_path / "characters.txt").write_text(f"{letters}.,?!;:-'\"()\n", encoding="utf-8")
        (tmp_path / "descriptions.txt").write_text("woman\na child's voice\n", encoding="utf-8")
        return read_vocabulary(tmp_path)

    @pytest.mark.parametrize(
        ("text", "folded"),
        [
            ("Hello, World!", "Hello, World!"),
            ("“Yes” — no; it’s…", '"Yes", no; it\'s...'),
            ("Café\tnaïve\n Øre ﬁne Straße", "Cafe naive Ore fine Strasse."),
            ("(A Child's Voice)Three. (One.)", "(a child's voice)Three. (One.)"),
            ("(An old woman, slow) Three.", "(woman) Three."),
            ("(A robot) Three.", "(A robot) Three."),
            (" Three. ", " Three. "),
            ("3 of 三.", "3 of 三."),
            ("Chapter one", "Chapter one."),
            ('He said "come back"', 'He said "come back."'),
            ("Well, yes —", "Well, yes."),
            ("Really?)", "Really?)"),
            ("…", "..."),
            ("Salt & pepper@home", "Salt and pepper at home."),
            ("a.b@example.com. No.Yes p.m.", "a.b at example dot com. No.Yes p.m."),
        ],
    )
    def test_text_is_written_in_known_characters(self, characters, text, folded):
        assert characters.folded(text) == folded

    @pytest.mark.parametrize(
        ("text", "fault", "readable"),
        [
            ("Yes, no.", None, "Yes, no."),
            ("α is β", "leaves out 'α', 'β', which it can't read", "  is  "),
            ("αβγδε", "leaves out 'α', 'β', 'γ' and 2 more, which it can't read", None),
            ("(woman)Yes.", None, "(woman)Yes."),
            ("(A robot)Yes.", None, "Yes."),
        ],
    )
    def test_what_is_unknown_is_named_and_left_out(self, characters, text, fault, readable):
        found = characters.text_fault(text)
        assert found == (fault and f"this voice {fault}")
        if readable is not None:
            assert characters.readable(text) == readable

    def test_numbers_are_left_out_with_advice_where_they_can_not_be_normalized(
        self, characters, monkeypatch
    ):
        monkeypatch.setattr(vocabulary, "is_normalize_installed", lambda: False)
        assert characters.language_to_normalize("At 3.") is None
        fault = "this voice leaves out '3', which it can't read; write numbers in words, or install"
        assert characters.text_fault("At 3.") == f"{fault} 'mlx-voxcpm2[normalize]'"
        assert characters.readable("At 3.") == "At  ."
        with pytest.raises(ValueError, match="can't read '12'; write numbers in words"):
            characters.readable("12")

    @pytest.mark.parametrize(
        ("text", "language"),
        [
            ("At 3.", "en"),
            ("<b>Yes</b>", "en"),
            ("Dr. “Café” — no…", None),
            ("(3 men) Yes.", None),
            ("(woman) Yes.", None),
        ],
    )
    def test_only_what_can_not_be_read_is_normalized(self, characters, text, language):
        assert characters.language_to_normalize(text) == language

    @pytest.mark.parametrize(
        ("text", "advice"),
        [
            ("三四", "it reads English"),
            ("...", "it reads English"),
        ],
    )
    def test_a_text_without_any_known_letter_is_refused(self, characters, text, advice):
        with pytest.raises(ValueError, match=f"this voice can't read .*; {advice}"):
            characters.readable(text)

    def test_a_model_is_not_given_what_its_voice_can_not_read(self, released, characters):
        builder = released.model.request_builder
        builder.vocabulary = characters
        try:
            plain = released.model.request("At dawn.", seed=1).prompt.tokens
            assert released.model.request("At — dawn.", seed=1).prompt.tokens != plain
            assert released.model.request("Ａt dáwn.", seed=1).prompt.tokens == plain
            with pytest.raises(ValueError, match="it reads English"):
                released.model.request("三")
            assert "at three" in released.model.request("See # at 3").text.lower()
            assert not builder.faults([Segment("See it at 3")], ["woman"])  # it is in words
        finally:
            builder.vocabulary = None


UNKNOWN = "this voice does not know the description 'warm'; it knows low voice, man"


@pytest.mark.parametrize(
    ("text", "instruct", "warnings"),
    [
        ("one", "warm", [UNKNOWN]),
        ("(warm) one", None, [UNKNOWN]),
        ("one", "Low  voice.", []),
        ("(Man) one", None, []),
        ("one", None, []),
        ("one", " ", []),
    ],
)
def test_an_unknown_description_is_a_warning_with_the_known_ones(
    tiny_demo, text, instruct, warnings, caplog
):
    model = load_model("demo")
    caplog.clear()
    for _ in range(2):  # once for all parts of a text
        model.request(text, instruct=instruct)
    assert caplog.messages == warnings


def test_the_demo_reads_its_descriptions_in_any_spelling():
    model = load_model("demo")
    for known in ("low voice", "woman"):
        plain = model.request("one", instruct=known, seed=1).prompt.tokens
        for written in (f"{known.capitalize()}.", known.upper(), f" {known} "):
            assert model.request("one", instruct=written, seed=1).prompt.tokens == plain
            assert model.request(f"({written})one", seed=1).prompt.tokens == plain
        assert model.request("one", instruct=f"very {known}", seed=1).prompt.tokens != plain


@pytest.mark.parametrize(("text", "said"), [("one four", True), ("one three", False)])
def test_the_command_lists_the_words_of_the_vocabulary(tiny_demo, text, said, tmp_path, caplog):
    output = tmp_path / "sound.wav"
    flags = ["--model", "demo", "--text", text, "--output", str(output), "--max_tokens", "2"]
    assert generate.main(flags) == 0
    assert ("does not know 'four'; it knows 3 words, such as three, one, 三" in caplog.text) == said
    assert output.exists()
