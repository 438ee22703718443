"""One run of a command reads each clip once, makes its options once and checks a text once."""

import ast
import json
import sys
from collections import Counter
from pathlib import Path

import checkpoints
import pytest

import mlx_voxcpm2
from mlx_voxcpm2 import GenerationOptions, Voice
from mlx_voxcpm2.audio import reading
from mlx_voxcpm2.commands import batch, generate, voice
from mlx_voxcpm2.recognition import recogniser as recognition
from mlx_voxcpm2.text.spoken import check_text, spoken_text

QUICK = ["--inference_timesteps", "1", "--max_tokens", "2", "--seed", "3"]
PACKAGE = Path(mlx_voxcpm2.__file__).parent


@pytest.fixture
def calls(monkeypatch):
    """Number of calls: of decodings by file, of new options, of texts that are checked."""
    counted = Counter()

    def count(original, key):
        def wrapped(*arguments, **settings):
            counted[key] += 1
            return original(*arguments, **settings)

        return wrapped

    for function in (spoken_text, check_text):
        name = function.__name__
        for module in list(sys.modules.values()):
            if getattr(module, name, None) is function and module.__name__ != __name__:
                monkeypatch.setattr(module, name, count(function, name))
    monkeypatch.setattr(reading, "decode", count(reading.decode, "decode"))
    monkeypatch.setattr(Voice, "load", count(Voice.load, "load voice"))
    make = GenerationOptions.__init__

    def init(self, *arguments, **settings):
        # Options that are derived from others, with a drawn seed for one, are not new.
        if sys._getframe(1).f_globals["__name__"] != "dataclasses":
            counted["options"] += 1
        make(self, *arguments, **settings)

    monkeypatch.setattr(GenerationOptions, "__init__", init)
    return counted


@pytest.fixture
def run(released, tmp_path, monkeypatch):
    """Runs a command in a folder with a clip, on the model that is loaded."""
    monkeypatch.chdir(tmp_path)
    for module in (generate, batch):
        monkeypatch.setattr(module, "load", lambda choice: released.model)
    checkpoints.write_wav(Path("clip.wav"), *released.waveform("short"))
    released.model.make_voice("clip.wav", as_is=True).save("./anna.safetensors")

    def run(command, *arguments: str) -> None:
        flags = [] if command is voice else QUICK
        assert command.main([*arguments, "--model", str(released.folder), *flags]) == 0

    return run


ONE_TEXT = {"options": 1, "spoken_text": 1}
CLIP = ["--ref_audio", "clip.wav"]
PROMPT = ["--prompt_audio", "clip.wav", "--prompt_text", "Hi."]
LONG = ["--segment_length", "20", "--text", "Hello there, all of you. Good bye then, all."]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ([], {}),
        (CLIP, {"decode": 1}),
        (PROMPT, {"decode": 1}),
        ([*CLIP, *PROMPT], {"decode": 2}),
        (["--voice", "./anna.safetensors"], {"load voice": 1}),
        ([*CLIP, "--stream", "--output", "a.wav"], {"decode": 1}),
    ],
    ids=["plain", "ref_audio", "prompt", "both", "voice", "stream"],
)
def test_generate_does_everything_once(run, calls, flags, wanted):
    run(generate, "--text", "Hello.", *flags)
    # Before the model is loaded, and when it is spoken.
    assert calls.pop("check_text") == 2
    assert calls == ONE_TEXT | wanted


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [([], {}), (CLIP, {"decode": 1}), (["--voice", "./anna.safetensors"], {"load voice": 1})],
    ids=["plain", "ref_audio", "voice"],
)
def test_generate_of_a_long_text_does_everything_once(run, calls, flags, wanted):
    run(generate, *LONG, *flags)
    calls.pop("check_text")
    assert calls == {"options": 1, "spoken_text": 3} | wanted, "three segments"


def test_a_transcribed_clip_is_read_once(run, calls, monkeypatch):
    monkeypatch.setattr(recognition, "check_recognition_installed", lambda _: None)
    monkeypatch.setattr(recognition, "load_recogniser", lambda *_: lambda audio, rate: "Hi there.")
    run(generate, "--text", "Hello.", "--prompt_audio", "clip.wav", "--transcribe")
    assert calls["decode"] == 1
    calls.clear()
    run(voice, "add", "./ben.safetensors", *CLIP, "--transcribe")
    assert calls["decode"] == 1


def write_lines(*lines: dict) -> list[str]:
    Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["--input", "lines.jsonl", "--output_dir", "out"]


def test_a_batch_reads_each_clip_and_voice_once(run, calls):
    flags = write_lines(
        {"text": "One.", "ref_audio": "clip.wav"},
        {"text": "Two.", "ref_audio": "clip.wav", "seed": 5},
        {"text": "Three.", "prompt_audio": "clip.wav", "prompt_text": "Hi."},
        {"text": "Four.", "voice": "./anna.safetensors"},
        {"text": "Five.", "voice": "./anna.safetensors"},
    )
    run(batch, *flags)
    calls.pop("check_text")
    assert calls == {"options": 1, "spoken_text": 5, "decode": 1, "load voice": 1}


def test_a_batch_reads_clips_again_that_memory_cannot_hold(run, calls, monkeypatch):
    monkeypatch.setattr("mlx_voxcpm2.commands.batch_voices.CACHE_BYTES", 0)
    run(batch, *write_lines({"text": "One.", "ref_audio": "clip.wav"}))
    assert calls["decode"] == 2


def functions_of_parsed_arguments() -> set[tuple[str, str]]:
    """File and name of each function that takes an `argparse.Namespace`."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and "Namespace" in ast.unparse(node.args):
                found.add((path.relative_to(PACKAGE).as_posix(), node.name))
    return found


def test_parsed_arguments_become_dataclasses_at_once():
    """Only these functions read them, or hand them to one that does."""
    found = {each for each in functions_of_parsed_arguments() if "train.py" not in each[0]}
    assert {each for each in found if not each[0].startswith("convert/")} == {
        ("app/__main__.py", "read_arguments"),
        ("commands/asr_flags.py", "read_recogniser"),
        ("commands/batch.py", "read_arguments"),
        ("commands/benchmark.py", "read_arguments"),
        ("commands/dialogue_arguments.py", "read_arguments"),
        ("commands/generate.py", "command"),
        ("commands/shell.py", "_flags"),
        ("commands/generate_arguments.py", "_typed_text"),
        ("commands/generate_arguments.py", "read_arguments"),
        ("commands/peer_flags.py", "_translate_generate"),
        ("commands/peer_flags.py", "_use_reference_text"),
        ("commands/serve.py", "read_arguments"),
        ("commands/setting_flags.py", "read_settings"),
        ("commands/shell.py", "_run"),
        ("commands/shell.py", "run"),
        ("commands/transcribe.py", "read_arguments"),
        ("commands/voice.py", "perform"),
        ("commands/voice.py", "read_add_arguments"),
        ("commands/voice_flags.py", "read_voice"),
    }
