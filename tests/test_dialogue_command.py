"""`mlx-voxcpm2 dialogue`, and dialogues among the lines of `batch`."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile
from conftest import relative_error

from mlx_voxcpm2 import cli, speak_dialogue, vibevoice
from mlx_voxcpm2.commands import batch, dialogue, model_flags
from mlx_voxcpm2.dialogue.conversation import speak_conversation
from mlx_voxcpm2.speech.results import SpeechIterator, Stopwatch

SCRIPT = "Anna: Hello there, all.\nBen (sad): Hi. [pause:0.8]\nAnna: You & me.\n(They go.)\n"
QUICK = ["--inference_timesteps", "2", "--max_tokens", "3"]
SPEECH = ["--seed", "3", "--dtype", "float32", *QUICK]
VOICES = ["--voices", "anna=clip.wav", "ben=design: low"]
PATCHES = 3 * 7680


@pytest.fixture
def run(released, tmp_path, monkeypatch, run_command):
    """Runs the command in a folder with a script and a clip, on the model that is loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "voices"))
    monkeypatch.setattr(dialogue, "load", lambda choice: released.model)
    Path("script.txt").write_text(SCRIPT, encoding="utf-8")
    checkpoints.write_wav(Path("clip.wav"), *released.waveform("short"))

    def run(*arguments: str, script: str | None = "script.txt"):
        model = ["--model", str(released.folder), *SPEECH]
        given = [script] if script else []
        return run_command(dialogue.main, *given, *model, *arguments)

    return run


def test_a_script_becomes_a_file_with_subtitles(run, released):
    status, _, err = run(*VOICES, "--output", "a.wav", "--subtitles", "a.vtt", "--parallel", "2")
    assert status == 0 and err.count("\n") == 2
    assert "a.wav: 1.44 s of speech" in err and "3 segments" in err and "seed 3" in err
    audio, rate = soundfile.read("a.wav", dtype="float32")
    assert rate == 48000 and len(audio) == 3 * PATCHES + 12000 + 38400
    voices = {"Anna": "clip.wav", "Ben": "design: low"}
    options = {"seed": 3, "inference_timesteps": 2, "max_tokens": 3}
    spoken = speak_dialogue(released.model, SCRIPT, voices, **options)
    wanted = np.concatenate([segment.audio for segment in spoken])
    np.testing.assert_allclose(audio, wanted, atol=3e-3)
    text = Path("a.vtt").read_text(encoding="utf-8")
    names = [line.partition(">")[0] for line in text.splitlines() if line.startswith("<v ")]
    assert names == ["<v Anna", "<v Ben", "<v Anna"] and "<v Anna>You &amp; me." in text
    assert "00:00:00.730 -->" in text, "the second turn begins after the first and a pause"
    assert run(*VOICES, "--output", "b.flac", "--subtitles", "b.srt")[0] == 0
    assert "\nBen: Hi.\n" in Path("b.srt").read_text(encoding="utf-8")
    assert not list(Path().glob("*.parts"))


def test_a_script_without_labels_is_spoken_by_one_without_names(run):
    Path("script.txt").write_text("Hello there.\n\nYou.", encoding="utf-8")
    flags = ["--output", "a.wav", "--subtitles", "a.srt", "--voices", "1=clip.wav"]
    status, _, err = run(*flags)
    assert status == 0 and "no voice" not in err
    assert "\nHello there.\n" in Path("a.srt").read_text(encoding="utf-8")


def test_the_script_may_come_from_standard_input(run, monkeypatch):
    for script in ("-", None):
        monkeypatch.setattr(
            sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"A: Hi\nB: Yo"), isatty=bool)
        )
        status, out, _ = run("--check", script=script)
        assert status == 0 and "2 turns, 2 speakers" in out


def test_lines_of_standard_input_are_counted_from_its_beginning(run, monkeypatch):
    content = io.BytesIO(b"\n\n# remark\nA: Hi\nB:\nA: Yo\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=content, isatty=bool))
    status, _, err = run("--check", script="-")
    assert status == 2 and "standard input: line 5: B says nothing" in err


def test_check_needs_no_place_for_the_speech(run):
    """The default output can't be written: a folder has its name."""
    Path("speech.wav").mkdir()
    status, out, err = run("--check")
    assert status == 0 and "3 turns" in out and err == ""
    assert run("--check", "--output", "none/a.wav", "--subtitles", "none/a.srt")[0] == 0
    status, _, err = run()
    assert status == 2 and "speech.wav" in err


def test_check_shows_how_a_script_is_read(run):
    status, out, err = run("--check", "--voices", "anna=clip.wav")
    assert status == 0 and err == ""
    assert out.splitlines() == [
        "line 1: Anna: Hello there, all.",
        "line 2: Ben (sad): Hi. [pause:0.8]",
        "line 3: Anna: You & me.",
        "line 4: left out: (They go.)",
        "3 turns, 2 speakers, about 2 s",
        "Anna: ref_audio clip.wav",
        "Ben: a voice that the model makes up",
    ]
    assert not Path("speech.wav").exists()


def test_a_killed_dialogue_is_resumed_and_becomes_the_same_file(run, released, tmp_path):
    flags = ["script.txt", "--model", str(released.folder), *SPEECH, *VOICES]
    assert run(*VOICES, "--output", "unbroken.wav")[0] == 0
    # It waits after each segment, so that it is killed between them.
    script = (
        "import sys, time; import mlx_voxcpm2.long_form.cache as parts\n"
        "from mlx_voxcpm2 import cli\n"
        "write = parts.SegmentCache.write\n"
        "def slow(*a):\n    write(*a); time.sleep(1)\n"
        "parts.SegmentCache.write = slow; sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "dialogue", *flags, "--output", "a.wav"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    kept = tmp_path / "a.wav.parts"
    while len(list(kept.glob("*.safetensors"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("a.wav").exists()
    status, _, err = run(*VOICES, "--output", "a.wav")
    assert status == 0 and "2 of them from an earlier run" in err
    assert Path("a.wav").read_bytes() == Path("unbroken.wav").read_bytes()
    assert not kept.exists()


@pytest.mark.parametrize(
    ("script", "flags", "line"),
    [
        ("", [], "script.txt: the script has no words to speak"),
        ("A: Hi\nB:\nA: Yo", [], "script.txt: line 2: B says nothing"),
        ("Title\nA: Hi\nA: Yo", [], "script.txt: line 1: 'Title' has no speaker"),
        (SCRIPT, ["--voices", "clara=clip.wav"], "nobody speaks as clara; the speakers are Anna"),
        (SCRIPT, ["--voices", "anna=missing.wav"], "voice of Anna: missing.wav: no such clip"),
        (SCRIPT, ["--voices", "anna=clara"], "voice of Anna: no voice 'clara'"),
        (SCRIPT, ["--voices", "anna=script.txt"], "voice of Anna: ref_audio"),
        (SCRIPT, ["--voices", "anna=clip.wav", "clip.wav"], "write SPEAKER=VOICE for each"),
        (SCRIPT + "Ana: Hi", ["--voices", "anna=clip.wav"], "line 5: Ana has no voice; did you"),
        ("A: Hi [pause:x]", [], "line 1: [pause:x] is no pause"),
        (SCRIPT, ["--engine", "vibevoic"], "did you mean vibevoice?"),
        (SCRIPT, ["--subtitles", "a.txt"], ".srt or .vtt"),
        (SCRIPT, ["--timestamps"], "add --subtitles"),
        (SCRIPT, ["--turn_pause", "-1"], "turn_pause"),
        (SCRIPT, ["--voice", "anna"], "did you mean --voices?"),
        (SCRIPT, ["--output", "a.xyz"], ".xyz files cannot be written"),
        (SCRIPT, ["--normalize", "--language", "xx"], "does not know the language 'xx'"),
        (SCRIPT, ["--normalize", "--language", "xx", "--check"], "the language 'xx'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, script, flags, line):
    Path("script.txt").write_text(script, encoding="utf-8")
    status, out, err = run(*flags)
    assert status == 2 and out == "" and err.count("\n") == 1 and line in err
    assert sorted(os.listdir()) == ["clip.wav", "script.txt"]


def test_a_missing_script_is_one_line(run):
    status, _, err = run(script="missing.txt")
    assert status == 2 and "missing.txt: no such file" in err and err.count("\n") == 1


def test_the_help_fits_one_screen(run_command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run_command(cli.main, "dialogue", "--help")
    assert status == 0 and len(out.splitlines()) <= 45 and max(map(len, out.splitlines())) <= 80
    assert "dialogue script.txt --voices" in out
    assert "--crossfade" in run_command(cli.main, "dialogue", "--help-all")[1]


class StandIn:
    """A model with VibeVoice's interface, which speaks a tone of a second in ten pieces."""

    sample_rate = 24000

    def __init__(self):
        self.calls = []

    def load(self, path, *settings, adapter, adapter_strength):
        self.path, self.adapter = path, (adapter, adapter_strength)
        return self

    def generate(self, script, voices=(), *, options, stream, progress, names):
        self.calls.append((script, voices, options))
        self.names = names
        return SpeechIterator(lambda closed: self._results(progress))

    def _results(self, progress):
        watch, seconds = Stopwatch(24000), np.arange(24000) / 24000
        for number, piece in enumerate(np.split(np.sin(440 * seconds) / 2, 10)):
            reason = "length" if number == 9 else None
            progress((number + 1) / 10)
            yield watch.result(mx.array(piece, mx.float32), 1, finish_reason=reason)


@pytest.fixture
def stand_in(monkeypatch) -> StandIn:
    model = StandIn()
    monkeypatch.setattr(vibevoice, "load", model.load)
    return model


def speak_as_one(run_command, *flags: str):
    return run_command(dialogue.main, "script.txt", "--engine", "vibevoice", *flags)


def test_vibevoice_speaks_the_conversation_as_one(run, stand_in, run_command, caplog):
    flags = ["--voices", "ben=clip.wav", "--output", "a.wav", "--subtitles", "a.srt", "--seed", "4"]
    flags += ["--adapter", "tuned:0.5"]
    status, _, err = speak_as_one(run_command, *flags, "--inference_timesteps", "5")
    assert status == 0 and "1.00 s of speech" in err and "seed 4" in err and "3 turns" in err
    for said in ("no voice is given for Anna", "styles (1), pauses (1)", "cut after 1.00 s"):
        assert said in caplog.text
    ((script, voices, options),) = stand_in.calls
    assert script == "Speaker 2: Hello there, all.\nSpeaker 1: Hi.\nSpeaker 2: You & me."
    assert len(voices) == 1 and stand_in.path == "microsoft/VibeVoice-1.5B"
    assert stand_in.adapter == ("tuned", 0.5) and stand_in.names == ("voice of Ben",)
    assert options == vibevoice.DialogueOptions(inference_timesteps=5, seed=4)
    audio, rate = soundfile.read("a.wav", dtype="float32")
    assert rate == 24000 and len(audio) == 24000
    text = Path("a.srt").read_text(encoding="utf-8")
    assert text.count("-->") == 3 and "\nBen: Hi.\n" in text


@pytest.mark.usefixtures("plain_kernels")
def test_a_checkpoint_of_vibevoice_speaks_what_its_own_script_says(
    run, run_command, make_dialogue, caplog
):
    """Ben has a clip, so that he is the first speaker there."""
    tiny = make_dialogue("tiny")
    checkpoints.write_wav(Path("ben.wav"), *tiny.voices[0])
    flags = ["--model", tiny.folder, "--dtype", "float32", "--voices", "Ben=ben.wav"]
    flags += [
        "--output",
        "a.wav",
        "--max_tokens",
        "12",
        "--seed",
        "3",
        "--inference_timesteps",
        "2",
    ]
    status, _, err = run_command(dialogue.main, "script.txt", "--engine", "vibevoice", *flags)
    assert status == 0, err
    assert "voice of Ben holds only" in caplog.text
    script = "Speaker 2: Hello there, all.\nSpeaker 1: Hi.\nSpeaker 2: You & me."
    options = {"seed": 3, "max_tokens": 12, "inference_timesteps": 2}
    wanted = np.array(tiny.model.speak(script, ["ben.wav"], **options).audio)
    audio, rate = soundfile.read("a.wav", dtype="float32")
    assert rate == 24000
    np.testing.assert_allclose(audio, np.clip(wanted, -1, 1), atol=1e-4)
    voices = {"ben": "ben.wav"}
    again = speak_conversation(tiny.model, SCRIPT, voices, **options).whole()
    np.testing.assert_allclose(np.array(again.audio), wanted, atol=1e-4)


def test_the_other_engine_is_named_for_its_checkpoint(run, make_dialogue, run_command, monkeypatch):
    monkeypatch.setattr(dialogue, "load", model_flags.load)
    flags = ["--voices", "ben=clip.wav", "--output", "a.wav"]
    wrong = {
        "vibevoice": ("demo", "VoxCPM2"),
        "voxcpm2": (make_dialogue("tiny").folder, "VibeVoice"),
    }
    for engine, (model, title) in wrong.items():
        named = ["--engine", engine, "--model", model]
        status, _, err = run_command(dialogue.main, "script.txt", *named, *flags)
        said = f"{model} is a checkpoint of {title}, which --engine {engine} does not speak with"
        assert status == 2 and f"{said}; give --engine {title.lower()}, or --model" in err
        assert err.count("\n") == 1 and not Path("a.wav").exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--parallel", "2"], "--parallel works with --engine voxcpm2 only"),
        (["--temperature", "1"], "--temperature works with --engine voxcpm2 only"),
        (["--verify"], "--verify works with --engine voxcpm2 only"),
        (["--voices", "anna=design: x"], "voice of Anna: it has instruct, and VibeVoice takes"),
        (["--cfg_value", "999"], "cfg_value"),
        (
            ["--voices", "anna=./anna.safetensors"],
            "anna.safetensors is a voice for 'voxcpm2'",
        ),
    ],
)
def test_what_vibevoice_lacks_is_refused(
    run, released, stand_in, run_command, monkeypatch, flags, line
):
    monkeypatch.setattr(
        "mlx_voxcpm2.recognition.recogniser.check_recognition_installed", lambda: None
    )
    released.model.make_voice("clip.wav", as_is=True).save("./anna.safetensors")
    status, _, err = speak_as_one(run_command, *flags)
    assert status == 2 and line in err and err.count("\n") == 1 and not stand_in.calls


@pytest.fixture
def run_batch(run, released, monkeypatch, run_command):
    """Runs `batch` on lines in the folder of `run`."""
    monkeypatch.setattr(batch, "load", lambda choice: released.model)

    def run_batch(*lines: dict, flags=()):
        Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        given = ["--input", "lines.jsonl", "--output_dir", "out", "--model", released.folder]
        return run_command(batch.main, *given, "--dtype", "float32", *QUICK, *flags)

    return run_batch


def records() -> dict[str, dict]:
    lines = Path("out/summary.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["audio"]: record for record in map(json.loads, lines)}


def test_a_batch_speaks_dialogues_beside_texts(run_batch, released):
    voices = {"anna": "clip.wav", "Ben": {"ref_audio": "clip.wav", "instruct": "low"}}
    line = {"script": SCRIPT, "voices": voices, "id": "talk", "seed": 3}
    lines = [line, {"text": "Hello.", "seed": 7}]
    status, _, err = run_batch(*lines)
    assert status == 0 and "2 texts; 0 were there already" in err
    audio, _ = soundfile.read("out/talk.wav", dtype="float32")
    options = {"seed": 3, "inference_timesteps": 2, "max_tokens": 3}
    spoken = speak_dialogue(released.model, SCRIPT, voices, **options)
    wanted = np.concatenate([segment.audio for segment in spoken])
    np.testing.assert_allclose(audio, wanted, atol=3e-3)
    plain, _ = soundfile.read("out/00002.wav", dtype="float32")
    alone = released.model.speak("Hello.", **options | {"seed": 7}).audio
    assert relative_error(plain, alone) < 1e-2
    record = records()["talk.wav"]
    assert record["text"] == "Hello there, all. Hi. You & me." and record["seed"] == 3
    assert record["seconds"] == pytest.approx(len(audio) / 48000, abs=1e-3)
    assert record["finish_reason"] == "length" and "error_rate" not in record
    assert "all 2 texts are there already" in run_batch(*lines)[2]
    lines[0]["script"] = SCRIPT.replace("sad", "glad")
    assert "1 texts; 1 were there already" in run_batch(*lines)[2]
    lines[0]["voices"] = voices | {"Ben": "design: low"}
    assert "1 texts; 1 were there already" in run_batch(*lines)[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"script": SCRIPT, "text": "Hi."}, "text is given beside script"),
        ({"script": SCRIPT, "voice": "anna"}, "voice is given beside script"),
        ({"text": "Hi.", "voices": {}}, "voices are for a script"),
        ({"script": ""}, "the script has no words to speak"),
        ({"script": 5}, "script is of type int"),
        ({"script": SCRIPT, "voices": "anna"}, "voices must be an object"),
        ({"script": SCRIPT, "voices": {"anna": 5}}, "a voice is 5; give a name"),
        ({"script": SCRIPT, "voices": {"anna": "missing.wav"}}, "missing.wav: no such clip"),
        ({"script": SCRIPT, "voices": {"anna": "script.txt"}}, "script.txt"),
        ({"script": SCRIPT, "voices": {"Clara": "clip.wav"}}, "nobody speaks as Clara"),
        ({"script": "A: Hi [pause:x]"}, "[pause:x] is no pause"),
    ],
)
def test_an_unusable_dialogue_is_listed_and_nothing_is_spoken(run_batch, line, message):
    status, _, err = run_batch({"text": "Hello."}, line)
    assert status == 2 and "line 2: " in err and message in err and err.count("\n") == 2
    assert not Path("out").exists()
