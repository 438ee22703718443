"""Dialogues turn by turn: each turn is what its speaker says alone; pauses, styles, resuming."""

import logging

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error
from demo_clips import read_clip, slips
from speech import SPEAKERS, pitch, words_of

from mlx_voxcpm2 import GenerationOptions, Voice, load_model, speak_dialogue
from mlx_voxcpm2.dialogue.conversation import cues_of_turns
from mlx_voxcpm2.dialogue.options import TurnOptions
from mlx_voxcpm2.dialogue.script import Turn, parse_script
from mlx_voxcpm2.dialogue.speak import dialogue_segments
from mlx_voxcpm2.long_form.cache import SegmentCache
from mlx_voxcpm2.long_form.cues import Cue, cues_of
from mlx_voxcpm2.long_form.subtitles import subtitles
from mlx_voxcpm2.recognition.word_times import WordTime
from mlx_voxcpm2.text.segments import Segment
from mlx_voxcpm2.text.spoken import texts_to_speak

OPTIONS = GenerationOptions(seed=5, inference_timesteps=2, max_tokens=3)
SCRIPT = "Anna: Hello there.\nBen: Hi. [pause:0.8]\nAnna (sad): You.\nBen: Yes."
PATCHES = 3 * 7680


def speak(model, script=SCRIPT, voices=None, **settings):
    return list(speak_dialogue(model, script, voices, **{"options": OPTIONS, **settings}))


def whole(spoken) -> np.ndarray:
    return np.concatenate([segment.audio for segment in spoken])


def alone(model, text: str, index: int, **voice):
    """Speech of a text with the seed that the turn of this index has."""
    return model.speak(text, seed=5 + 3 * index, inference_timesteps=2, max_tokens=3, **voice).audio


def test_each_turn_is_what_its_speaker_says_alone(released):
    model = released.model
    first, second = released.waveform("ref"), released.waveform("short")
    saved = model.make_voice(second, as_is=True)
    spoken = speak(model, voices={"anna": first, "ben": saved}, parallel=3)
    assert [segment.speaker for segment in spoken] == ["Anna", "Ben", "Anna", "Ben"]
    assert [segment.text for segment in spoken] == ["Hello there.", "Hi.", "You.", "Yes."]
    voices = [{"ref_audio": first}, {"voice": saved}, {"ref_audio": first, "instruct": "sad"}]
    for index, voice in enumerate([*voices, {"voice": saved}]):
        wanted = alone(model, spoken[index].text, index, **voice)
        assert relative_error(spoken[index].audio[:PATCHES], wanted) < 1e-3, index


def test_pauses_are_exact_to_the_sample(released):
    spoken = speak(released.model, turn_pause=0.5)
    pauses = [24000, 38400, 24000, 0]
    assert [len(segment.audio) for segment in spoken] == [PATCHES + pause for pause in pauses]
    for segment in spoken:
        assert (segment.audio[PATCHES:] == 0).all() and segment.audio[PATCHES - 1] != 0
    starts = np.cumsum([0, *(PATCHES + pause for pause in pauses[:-1])])
    assert [round(segment.start * 48000) for segment in spoken] == list(starts)


def test_speed_changes_the_turns_and_not_the_pauses(released):
    spoken = speak(released.model, speed=2.0, turn_pause=0.5)
    assert [round(each.end - each.start, 2) for each in spoken] == [0.24] * 4
    pauses = [len(each.audio) / 48000 - (each.end - each.start) for each in spoken]
    np.testing.assert_allclose(pauses, [0.5, 0.8, 0.5, 0], atol=1e-4)


def test_segments_of_turns():
    script = parse_script(
        "Anna: [pause:1] One.\n\nTwo. [pause:0]\nBen (sad): " + "No, the the. " * 30 + "\nAnna: Me."
    )
    found = dialogue_segments(script, TurnOptions(turn_pause=0.3, paragraph_pause=0.7))
    assert found[:3] == [
        Segment("", 1.0, 0, "Anna"),
        Segment("One.", 0.7, 1, "Anna"),
        Segment("Two.", 0.0, 1, "Anna"),
    ]
    assert [(each.speaker, each.style, each.pause) for each in found[3:]] == [
        ("Ben", "sad", 0.0),
        ("Ben", "sad", 0.3),
        ("Anna", None, 0.0),
    ]
    with pytest.raises(ValueError, match=r"line 2: \[pause:long\] is no pause"):
        dialogue_segments(parse_script("A: Hi\nB: Yo [pause:long]"), TurnOptions())


def test_parentheses_inside_a_turn_are_spoken():
    script = "Anna: (sad) Hello.\n\n(I joke.) Bye. [pause:1] (Really.) [pause:1] No.\nBen: Yes."
    segments = dialogue_segments(parse_script(script), TurnOptions())
    spoken = texts_to_speak(segments).values()
    assert list(spoken) == ["Hello.", "I joke. Bye.", "Really.", "No.", "Yes."]


def test_a_speaker_without_a_voice_has_the_same_made_up_one_in_all_turns(released, caplog):
    model = released.model
    with caplog.at_level(logging.WARNING):
        spoken = speak(model, voices={"ben": "design: low voice"})
    assert "no voice is given for Anna (line 1); the model makes it up" in caplog.text
    anna, ben = alone(model, "Hello there.", 0), alone(model, "Yes.", 3, instruct="low voice")
    assert relative_error(spoken[0].audio[:PATCHES], anna) < 1e-3
    assert relative_error(spoken[3].audio[:PATCHES], ben) < 1e-3
    cloned = {"Anna": anna, "Ben": ben}
    for index, style in ((1, "low voice"), (2, "sad")):
        voice = model.encode_audio((np.array(cloned[spoken[index].speaker]), 48000))
        wanted = alone(model, spoken[index].text, index, ref_audio=voice, instruct=style)
        assert relative_error(spoken[index].audio[:PATCHES], wanted) < 1e-3


def test_the_voice_is_made_up_from_a_turn_without_a_style(released):
    """Else a whisper would be that speaker's voice throughout."""
    model = released.model
    spoken = speak(model, "Anna (whispering): Hello there, all of you.\nAnna: Hi.")
    first = alone(model, "Hi.", 1)
    assert relative_error(spoken[1].audio[:PATCHES], first) < 1e-3
    voice = model.encode_audio((np.array(first), 48000))
    wanted = alone(model, spoken[0].text, 0, ref_audio=voice, instruct="whispering")
    assert relative_error(spoken[0].audio[:PATCHES], wanted) < 1e-3


def test_a_style_uses_the_clip_of_a_prompt_as_the_reference(released):
    model, clip = released.model, released.waveform("prompt")
    voice = {"prompt_audio": clip, "prompt_text": "Good day."}
    spoken = speak(model, "Anna: Hello.\nAnna (sad): You.", {"Anna": voice})
    assert relative_error(spoken[0].audio[:PATCHES], alone(model, "Hello.", 0, **voice)) < 1e-3
    patches = model.encode_audio(clip, "left")
    wanted = alone(model, "You.", 1, ref_audio=patches, instruct="sad")
    assert relative_error(spoken[1].audio[:PATCHES], wanted) < 1e-3


def test_a_stopped_dialogue_resumes_with_the_same_result(released, tmp_path):
    model, voices = released.model, {"ben": released.waveform("short")}
    unbroken = speak(model, voices=voices, cache=SegmentCache(tmp_path / "a", "model"))
    cache = SegmentCache(tmp_path / "b", "model")
    run = speak_dialogue(model, SCRIPT, voices, options=OPTIONS, cache=cache)
    assert [next(run).was_cached for _ in range(2)] == [False, False]
    run.close()

    def again(script=SCRIPT, voices=voices):
        spoken = speak(model, script, voices, cache=SegmentCache(tmp_path / "b", "model"))
        return [segment.was_cached for segment in spoken], whole(spoken)

    found, audio = again()
    assert found == [True, True, False, False] and np.array_equal(audio, whole(unbroken))
    assert again()[0] == [True] * 4
    assert again(SCRIPT.replace("sad", "glad"))[0] == [True, True, False, True]
    assert again(SCRIPT.replace("Ben: Yes", "Ben: No"))[0] == [True, True, False, False]
    other = {"ben": released.waveform("ref")}
    assert again(voices=other)[0] == [True, False, True, False], "only Ben is spoken again"


def test_turns_are_continued_only_by_the_same_speaker(released, brief_model, monkeypatch):
    model = brief_model
    script = "Anna: Hi.\nAnna: You.\nBen: Yes.\nAnna: No."
    clip = released.waveform("short")
    prompts = []
    request = model.request

    def recording(text, **settings):
        prompts.append(settings.get("prompt_text"))
        return request(text, **settings)

    monkeypatch.setattr(model, "request", recording)
    options = GenerationOptions(seed=1, inference_timesteps=1)
    voices = {"Anna": clip, "Ben": clip}
    list(
        speak_dialogue(
            model, script, voices, options=options, continue_segments=True, turn_pause=0.0
        )
    )
    assert prompts == [None, "Hi. ", None, None]


def test_a_style_is_added_to_the_description_of_the_voice(released):
    model = released.model
    voice = {"ref_audio": released.waveform("short"), "instruct": "low"}
    spoken = speak(model, "Anna (sad): Hello.", {"Anna": voice})
    wanted = alone(model, "Hello.", 0, **voice | {"instruct": "low, sad"})
    assert relative_error(spoken[0].audio, wanted) < 1e-3


def test_numbers_become_words_turn_by_turn(released):
    spoken = speak(released.model, "Anna: It costs $5.\nBen (sad): **2** of them.", normalize=True)
    assert [segment.text for segment in spoken] == ["It costs five dollars.", "two of them."]


@pytest.mark.parametrize(
    ("script", "settings", "error"),
    [
        ("", {}, "the script has no words"),
        ("Anna: Hi", {"voices": {"Ben": "design: x"}}, "nobody speaks as Ben"),
        ("Anna: Hi", {"voices": {"Anna": "missing.wav"}}, "voice of Anna: missing.wav"),
        ("Anna: Hi", {"turn_pause": 99}, "turn_pause"),
        ("Anna: Hi", {"parallel": 0}, "parallel"),
    ],
)
def test_bad_input_is_refused_at_once(released, script, settings, error):
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        speak_dialogue(released.model, script, **settings)


def test_an_unknown_keyword_gets_a_hint(released):
    with pytest.raises(TypeError, match="turn_paus is not known; did you mean turn_pause"):
        speak_dialogue(released.model, "Anna: Hi", turn_paus=1)


def test_subtitles_name_the_speakers():
    long = "One two three four five six seven eight\nnine ten eleven twelve thirteen."
    cues = [Cue("Hi & you.", 0.0, 1.0, speaker="A & B"), Cue(long, 1.0, 2.0, speaker="Ben")]
    assert "\n<v A &amp; B>Hi &amp; you.\n" in subtitles(cues, ".vtt")
    assert f"\n<v Ben>{long}\n" in subtitles(cues, ".vtt")
    srt = subtitles(cues, ".srt")
    assert "\nA & B: Hi & you.\n" in srt
    lines = srt.split("\n\n")[1].splitlines()[2:]
    assert len(lines) == 2 and lines[0].startswith("Ben: One") and max(map(len, lines)) <= 42


def test_cues_have_room_for_the_speaker():
    """In SubRip a name stands in the lines: what fits them without it may need two cues."""
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    audio = np.ones(1000, np.float32)
    assert len(cues_of(text, audio, 100)) == 1
    cues = cues_of(text, audio, 100, speaker="Benjamin")
    lines = [line for cue in cues for line in cue.labelled.splitlines()]
    assert len(cues) == 2 and max(map(len, lines)) <= 42
    assert all(cue.labelled.startswith("Benjamin: ") for cue in cues)
    assert len(cues_of("One two.", audio, 100, speaker="A" * 50)) == 1


RATE = 1000
TURNS = [Turn("Anna", "One two. Three."), Turn("Ben", "Four five.")]


def test_cues_of_a_conversation_lie_between_its_pauses():
    def tone(seconds):
        return np.sin(np.arange(round(seconds * RATE))).astype(np.float32)

    silence = np.zeros(300, np.float32)
    audio = np.concatenate([tone(1.0), silence, tone(0.7), silence, tone(1.2)])
    cues = cues_of_turns(TURNS, audio, RATE)
    assert [(cue.speaker, cue.text) for cue in cues] == [
        ("Anna", "One two."),
        ("Anna", "Three."),
        ("Ben", "Four five."),
    ]
    times = [(cue.start, cue.end) for cue in cues]
    wanted = [(0, 1.0), (1.3, 2.0), (2.3, 3.5)]
    np.testing.assert_allclose(times, wanted, atol=0.05)
    words = "One two. Three. Four five.".split()
    heard = [WordTime(word, 0.5 * i, 0.5 * i + 0.4) for i, word in enumerate(words)]
    timed = cues_of_turns(TURNS, audio, RATE, words=heard, shows_speakers=False)
    np.testing.assert_allclose(
        [(cue.start, cue.end) for cue in timed], [(0, 0.9), (1.0, 1.4), (1.5, 2.4)], atol=1e-6
    )
    assert not any(cue.speaker for cue in timed)


def test_two_voices_of_the_demo_speak_a_dialogue(tmp_path):
    """Each turn has its words and the pitch of its speaker's clip."""
    model = load_model("demo")
    low, high = read_clip("tenor"), read_clip("alto")
    model.make_voice((high.sound, high.sample_rate)).save(tmp_path / "high.safetensors")
    voices = {"Anna": Voice.load(tmp_path / "high.safetensors"), "2": (low.sound, low.sample_rate)}
    script = "Anna: three one four\nSpeaker 2: good morning please\nAnna: red green blue"
    spoken = list(speak_dialogue(model, script, voices, seed=3, parallel=2))
    wrong = 0
    for segment, speaker in zip(spoken, ("alto", "tenor", "alto"), strict=True):
        audio = np.array(segment.audio)
        found = pitch(audio, model.sample_rate)
        assert found == pytest.approx(SPEAKERS[speaker].hertz, rel=0.15), segment.text
        wrong += slips(words_of(segment.text), audio, model.sample_rate)
    assert wrong <= 1
    mx.clear_cache()
