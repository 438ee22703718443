"""Scripts of dialogues: labels, styles, comments, stage directions; the notation of voices."""

import mlx.core as mx
import pytest

from mlx_voxcpm2 import Voice, vibevoice
from mlx_voxcpm2.dialogue.conversation import conversation
from mlx_voxcpm2.dialogue.script import parse_script
from mlx_voxcpm2.dialogue.voices import (
    dialogue_voices,
    report_made_up,
    split_voices,
    voice_inputs,
    voices_by_speaker,
)
from mlx_voxcpm2.long_form.cues import Cue
from mlx_voxcpm2.long_form.subtitles import subtitles
from mlx_voxcpm2.recognition.word_times import WordTime
from mlx_voxcpm2.voices.inputs import VoiceInputs


def turns(text: str, names=()) -> list[str]:
    """Turns as "name (style)|words", with / between lines."""
    found = []
    for turn in parse_script(text, names).turns:
        style = f" ({turn.style})" if turn.style else ""
        found.append(f"{turn.speaker}{style}|" + turn.text.replace("\n", "/"))
    return found


HI_YO = ["Anna|Hi", "Ben|Yo"]
NUMBERED = ["Speaker 1|Hi", "Speaker 2|Yo"]
SRT = """1
00:00:00,000 --> 00:00:01,500
Anna: Hi

2
00:00:02,000 --> 00:00:03,000
Ben: Yo
"""
VTT = """WEBVTT

00:00.000 --> 00:01.500 align:left
<v Anna>Hi

00:02.000 --> 00:03.000
<v Ben>Yo</v>
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Speaker 1: Hi\nSpeaker 2: Yo", NUMBERED),
        ("speaker 1 : Hi\r\nSPEAKER 2:Yo\r\n", NUMBERED),
        ("SPEAKER_01: Hi\nSpeaker02: Yo", NUMBERED),
        ("[S1] Hi [S2] Yo", NUMBERED),
        ("1: Hi\n2: Yo", NUMBERED),
        ("Speaker 0: Hi\nSpeaker 1: Yo", ["Speaker 0|Hi", "Speaker 1|Yo"]),
        ("\ufeff\n\nAnna: Hi\n\n\nBen: Yo\n\n", HI_YO),
        ("Anna: Hi\rBen: Yo\r", HI_YO),
        ("**Anna:** Hi\n**Ben**: Yo", HI_YO),
        ("__Anna:__ Hi\n*Ben:* Yo", HI_YO),
        ("> Anna: Hi\n- Ben: Yo", HI_YO),
        ("1. Anna: Hi\n2. Ben: Yo", HI_YO),
        ("[00:12] Anna: Hi\n00:14.5 Ben: Yo", HI_YO),
        ("[12/05/2024, 10:31:02] Anna: Hi\n[2024-05-12 10:32] Ben: Yo", HI_YO),
        ("12/05/24, 10:31 PM - Anna: Hi\n12.05.24, 22:32 - Ben: Yo", HI_YO),
        ("Anna  0:03\nHi\n\nBen  1:00:07\nYo\n", HI_YO),
        (SRT, HI_YO),
        (VTT, HI_YO),
        ("<Anna> Hi\n<Ben> Yo", HI_YO),
        ("【小明】你好\n【小红】：再见", ["小明|你好", "小红|再见"]),
        ("Anna (00:12): Hi\nBen (0:01:14): Yo", HI_YO),
        ("Anna : Hi\nBen：Yo", HI_YO),
        ("Anna:Hi\nBen:Yo", HI_YO),
        ("Anna:\tHi\nBen:  Yo", HI_YO),
        ("Anna:\nHi\nBen:\n\nYo", HI_YO),
        ("Anna - Hi\nBen – Yo", HI_YO),
        ("Anna: Hi\nBen: Yo\nANNA: Me.", [*HI_YO, "Anna|Me."]),
        ("anna: Hi\nben: Yo", ["anna|Hi", "ben|Yo"]),
        ("张三：你好\n李四：再见", ["张三|你好", "李四|再见"]),
        ("Анна: Привет\nБен: Да", ["Анна|Привет", "Бен|Да"]),
        ("Dr. O'Brien-Smith: Hi\nThe Old Man: Yo", ["Dr. O'Brien-Smith|Hi", "The Old Man|Yo"]),
        ("Man #2: Hi\nLudwig van B: Yo", ["Man #2|Hi", "Ludwig van B|Yo"]),
        ("Q: Hi\nA: Yo", ["Q|Hi", "A|Yo"]),
        ("Anna: Hi\nWaiter: Yo", ["Anna|Hi", "Waiter|Yo"]),
    ],
)
def test_labels_of_many_forms_begin_turns(text, wanted):
    assert turns(text) == wanted


@pytest.mark.parametrize(
    "line",
    [
        "12:30 is noon.",
        "https://example.org/a: a page",
        "Note: this is a remark.",
        "**Warning:** be careful.",
        "P.S.: one more thing",
        "Yes: that one.",
        "Step 1: mix.",
        "Chapter Two: The Sea",
        '"Ben: go," he said.',
        "He said: go.",
        "The ratio is 3:4, or so.",
        "Monday 12:30",
        "See you at 12:30",
        "<B>Bold</B> words",
        "key:value",
        "C:\\folder is a path",
        "A very long line of words that goes on and on: go.",
        "Well - I think so.",
        "Then, Ben: go.",
        "I think: therefore I am.",
        "remember: lower case",
    ],
)
def test_other_words_before_a_colon_are_spoken(line):
    """They continue the turn, and in a script without labels they are its text."""
    assert turns(f"Anna: Hi\n{line}\nBen: Yo") == [f"Anna|Hi/{line}", "Ben|Yo"]
    assert turns(line) == [f"Speaker 1|{line}"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Anna: Hi\nthere\n\nYou.\nBen: Yo", ["Anna|Hi/there//You.", "Ben|Yo"]),
        ("Just a text.\nOf two lines.", ["Speaker 1|Just a text./Of two lines."]),
        ("A recipe.\nFlour: much.\nMilk: some.", ["Speaker 1|A recipe./Flour: much./Milk: some."]),
        ("Paris - a city.", ["Speaker 1|Paris - a city."]),
        ("Re:Zero is good.", ["Speaker 1|Re:Zero is good."]),
        ("Anna: Hi\nBen - no.\nben: low.", ["Anna|Hi/Ben - no./ben: low."]),
        ("Anna: Hi\n\\Ben: Yo", ["Anna|Hi/Ben: Yo"]),
        ("Anna: Hi\n\\# Yo", ["Anna|Hi/# Yo"]),
        ("# Title\nAnna: Hi\n// a remark\n#another\nBen: Yo", HI_YO),
        ("<!-- one\nCid: two -->\nAnna: Hi\nBen: Yo", HI_YO),
        ("Anna: Hi\n#1 of them", ["Anna|Hi/#1 of them"]),
        ("(A kitchen.)\nAnna: Hi\n[They sit.]\n*(Pause)*\nBen: Yo", HI_YO),
        ("Anna: Hi\n* * *\n---\nBen: Yo", ["Anna|Hi", "Ben|Yo"]),
        ("Anna (whispering): Hi\nBen: (sad) Yo", ["Anna (whispering)|Hi", "Ben (sad)|Yo"]),
        ("**Anna** (calm, low): Hi\nBen:\n(sad)\nYo", ["Anna (calm, low)|Hi", "Ben (sad)|Yo"]),
        ("Anna（轻声）：Hi\nBen [sad]: (slow) Yo", ["Anna (轻声)|Hi", "Ben (sad, slow)|Yo"]),
        ("ANNA (V.O.): Hi\nBEN (CONT'D): Yo", ["ANNA|Hi", "BEN|Yo"]),
        ("Anna: Hi (or so)\nBen: Yo", ["Anna|Hi (or so)", "Ben|Yo"]),
        (
            "Anna: Hi [pause:0.5] you\n[pause:2]\nBen: Yo",
            ["Anna|Hi [pause:0.5] you/[pause:2]", "Ben|Yo"],
        ),
        ("Anna: Hi\nBen: [pause:2]\nAnna: You", ["Anna|Hi[pause:2]", "Anna|You"]),
        ("Ben: [pause:2]\nAnna: You", ["Anna|[pause:2]You"]),
        ("Anna: Hi\nBen: …\nAnna: (sighs)\nBen: Yo", HI_YO),
        ("Anna: [laughing] Hi\nBen: Yo", ["Anna|[laughing] Hi", "Ben|Yo"]),
    ],
)
def test_the_lines_between_labels(text, wanted):
    assert turns(text) == wanted


def test_subtitles_are_read_as_the_script_that_they_were_made_of():
    """Without the times of their words and with the same marks."""
    words = [WordTime("Hi", 0.0, 0.4), WordTime("you", 0.5, 0.9)]
    cues = [
        Cue("Hi you", 0.0, 1.0, words, "Anna"),
        Cue("Me & you.", 1.0, 2.0, speaker="Anna"),
        Cue("Yo.", 2.0, 3.0, speaker="Ben"),
    ]
    wanted = ["Anna|Hi you", "Anna|Me & you.", "Ben|Yo."]
    assert turns(subtitles(cues, ".vtt")) == wanted == turns(subtitles(cues, ".srt"))
    unnamed = [Cue("Hi.", 0.0, 1.0), Cue("Yo.", 1.0, 2.0)]
    assert turns(subtitles(unnamed, ".srt")) == ["Speaker 1|Hi./Yo."]


def test_names_with_a_voice_are_labels_everywhere():
    text = "Note: Hi\nwell: Yo - no\nAnna - You\nANNA\n(sad)\nMe."
    wanted = ["Note|Hi/well: Yo - no", "Anna|You", "Anna (sad)|Me."]
    assert turns(text, ["note", "Anna"]) == wanted
    assert turns("Hi: you\nYes: me", ["hi", "yes"]) == ["Hi|you", "Yes|me"]
    assert turns("anna: Hi\nben: Yo", ["anna"]) == ["anna|Hi", "ben|Yo"]
    assert turns("1:30 it is", ["1"]) == ["Speaker 1|1:30 it is"]


FILM = "ANNA\nHello.\n\nBEN (off)\nHi there.\n\nANNA\nBye.\n"


@pytest.mark.parametrize(
    ("text", "given", "alone"),
    [
        (FILM, [], ("ANNA", "BEN")),
        (FILM, ["anna"], ("BEN",)),
        (FILM.replace("ANNA\nBye", "BEN\nBye"), ["anna"], ("BEN",)),
        (FILM, ["anna", "ben"], ()),
        (FILM.title(), [], ("Anna",)),
        ("CHAPTER ONE\nIt was late.\n\nCHAPTER TWO\nIt was early.", [], ()),
        ("THE END OF IT\nIt was late.", [], ()),
        ("Anna: Hello.\nBen: Hi.", [], ()),
        ("Yes\nNo\nMaybe\nYes", [], ()),
    ],
)
def test_names_alone_on_their_lines_may_be_speakers_without_a_voice(text, given, alone):
    assert parse_script(text, given).names_alone == alone


@pytest.mark.parametrize("given", [{}, {"anna": "design: low"}])
def test_one_line_says_which_names_need_a_voice(given, caplog):
    script = parse_script(FILM, given)
    report_made_up(script, dialogue_voices(script, given))
    (line,) = [each for each in caplog.messages if "alone" in each]
    names = ["BEN"] if given else ["ANNA", "BEN"]
    assert line.startswith(" and ".join(names)) and "\n" not in line
    assert line.endswith("voices " + " ".join(f"{name}=VOICE" for name in names))


def test_a_script_knows_its_speakers_and_lines():
    script = parse_script("# Two\nSpeaker 2: Hi\n(door)\nSpeaker 1: Yo\nSpeaker 2: You [pause:1]")
    assert script.speakers == ("Speaker 1", "Speaker 2")
    assert script.first_lines == {"Speaker 2": 2, "Speaker 1": 4}
    assert script.left_out == ((3, "(door)"),) and script.words == "Hi Yo You"
    assert script.is_labelled and not parse_script("Hi").is_labelled
    assert parse_script("Ben: Hi\nAnna: Yo").speakers == ("Ben", "Anna")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "the script has no words to speak"),
        ("# a comment\n(door)\n\n***", "the script has no words to speak"),
        ("Anna: …", "the script has no words to speak"),
        ("\nTitle here\nAnna: Hi\nAnna: Yo", "line 2: 'Title here' has no speaker"),
        ("Title\nSpeaker 1: Hi", "line 1: 'Title' has no speaker"),
        ("Anna: Hi\n\nBen:\nAnna: Yo", "line 3: Ben says nothing"),
        (3, "script is a int"),
    ],
)
def test_what_cannot_be_a_script_is_refused_with_its_line(text, line):
    with pytest.raises(ValueError, match=line):
        parse_script(text)


SCRIPT = parse_script("Anna: Hi\nBen: Yo\nSpeaker 3: You")


@pytest.mark.parametrize(
    ("voices", "wanted"),
    [
        ({"anna": "a", "BEN": "b", "3": "c"}, {"Anna": "a", "Ben": "b", "Speaker 3": "c"}),
        ({"Speaker_03": "c"}, {"Speaker 3": "c"}),
        (["a", "b"], {"Anna": "a", "Ben": "b"}),
        (None, {}),
    ],
)
def test_voices_are_matched_to_speakers(voices, wanted):
    assert voices_by_speaker(SCRIPT, voices) == wanted


@pytest.mark.parametrize(
    ("voices", "line"),
    [
        ({"Clara": "a"}, "nobody speaks as Clara; the speakers are Anna, Ben and Speaker 3"),
        ({"Ana": "a"}, "nobody speaks as Ana; did you mean Anna?"),
        ({"4": "a"}, "nobody speaks as 4"),
        ({"3": "a", "Speaker 3": "b"}, "Speaker 3 is given twice"),
        (["a"] * 4, "voices: 4 are given, and the script has 3 speakers"),
        ("anna", "voices is a single voice"),
    ],
)
def test_voices_that_fit_no_speaker_are_refused(voices, line):
    with pytest.raises(ValueError, match=line.replace("?", r"\?")):
        voices_by_speaker(SCRIPT, voices)


def test_a_misspelt_speaker_is_found():
    script = parse_script("Anna: Hi\nBen: Yo\nAna: You")
    with pytest.raises(ValueError, match="line 3: Ana has no voice; did you mean Anna"):
        voices_by_speaker(script, {"Anna": "a"})
    assert set(voices_by_speaker(script, {"Anna": "a", "Ana": "b"})) == {"Anna", "Ana"}


def test_a_voice_is_a_saved_one_a_clip_or_a_description(anna_folder, monkeypatch, released):
    monkeypatch.chdir(anna_folder)
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(anna_folder / "voices"))
    saved = anna_folder / "voices" / "anna.safetensors"
    for value in ("anna", "ANNA", "voices/anna.safetensors", {"voice": "anna"}):
        assert voice_inputs(value).voice.resolve() == saved, value
    assert voice_inputs("clip.wav").ref_audio.name == "clip.wav"
    assert voice_inputs("clip.wav", anna_folder / "voices").ref_audio.name == "clip.wav"
    assert voice_inputs("design: an old man").given() == {"instruct": "an old man"}
    assert voice_inputs("Design:x=y").given() == {"instruct": "x=y"}
    both = voice_inputs({"instruct": "calm", "ref_audio": "clip.wav"})
    assert both.instruct == "calm" and both.ref_audio.name == "clip.wav"
    assert voice_inputs(([0.0], 16000)).ref_audio == ([0.0], 16000)
    voice = Voice.load(saved)
    assert voice_inputs(voice).voice is voice
    given = VoiceInputs("calm")
    assert voice_inputs(given) is given


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("missing.wav", "missing.wav: no such clip"),
        ("folder/clip", "folder/clip: no such clip"),
        ("clara", "no voice 'clara'"),
        ("woman", "no voice 'woman' .*; a description begins with design:, as 'design: woman'$"),
        ("clara.safetensors", "no such voice file"),
        ("an old man!", "a description begins with design:"),
        ("design: ", "describes no voice"),
        ("", "it is empty; give a saved voice"),
        ({}, "a voice has no field"),
        ({"ref_adio": "a.wav"}, "ref_adio is not known; did you mean ref_audio"),
    ],
)
def test_what_is_no_voice_is_refused(value, line, voice_folder):
    with pytest.raises((ValueError, FileNotFoundError), match=line):
        voice_inputs(value)
    with pytest.raises((ValueError, FileNotFoundError), match="voice of Ben: "):
        dialogue_voices(SCRIPT, {"ben": value})


def test_voices_of_a_command_line_are_split():
    assert split_voices(["1=anna", "Ben=design: x=y"]) == {"1": "anna", "Ben": "design: x=y"}
    assert split_voices(["anna", "./a=b.wav"]) == ["anna", "./a=b.wav"]
    with pytest.raises(ValueError, match="'anna' names no speaker"):
        split_voices(["1=ben", "anna"])
    with pytest.raises(ValueError, match="speaker 1 is given twice"):
        split_voices(["1=ben", "speaker 1=anna"])


def test_vibevoice_gets_numbered_lines_and_the_clips_of_the_first_numbers(caplog):
    script = parse_script("Ben (sad): Hi\nthere.\nAnna: Yo [pause:1] you.\nBen: Me.")
    clip = ([0.1, 0.2], 24000)
    talk = conversation(script, {"Anna": VoiceInputs(ref_audio=clip)})
    assert talk.script == "Speaker 2: Hi there.\nSpeaker 1: Yo you.\nSpeaker 2: Me."
    assert talk.voices == (clip,)
    assert "left out are styles (1), pauses (1)" in caplog.text
    plain = conversation(script, {})
    assert plain.script.startswith("Speaker 1: Hi there.\nSpeaker 2: Yo") and not plain.voices


def test_vibevoice_needs_clips_or_its_own_voices(anna_folder):
    saved = anna_folder / "voices" / "anna.safetensors"
    for voice, line in (
        (VoiceInputs("calm"), "voice of Anna: it has instruct, and VibeVoice takes a clip"),
        (VoiceInputs("calm", ref_audio="clip.wav"), "voice of Anna: it has instruct"),
        (VoiceInputs(), "voice of Anna: it has nothing"),
        (VoiceInputs(voice=saved), "a voice for 'voxcpm2'"),
        (VoiceInputs(voice=Voice.load(saved)), "it was made for VoxCPM2"),
        (VoiceInputs(ref_audio="missing.wav"), "voice of Anna: ref_audio: "),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=line):
            conversation(SCRIPT, {"Anna": voice})


def test_vibevoices_saved_voices_are_read(tmp_path):
    voice = vibevoice.Voice(mx.ones((3, 4)), mx.ones((1, 4)))
    voice.save(tmp_path / "ben.safetensors")
    given = dialogue_voices(SCRIPT, {"Ben": tmp_path / "ben.safetensors", "Anna": voice})
    first, second = conversation(SCRIPT, given).voices
    assert first is voice and second.name == "ben" and second.mean.shape == (3, 4)


def test_vibevoice_has_four_speakers():
    script = parse_script("".join(f"{name}: Hi\n" for name in "Eve Ann Bob Cid Dan".split()))
    with pytest.raises(ValueError, match="line 5: Dan is one speaker too many, VibeVoice knows 4"):
        conversation(script, {})
