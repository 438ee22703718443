"""The guards on the command line: each has its flag, and what they did is said."""

import json
from pathlib import Path

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.commands import batch as batch_command
from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.commands.setting_flags import read_settings

QUICK = ["--inference_timesteps", "1", "--seed", "3", "--dtype", "float32"]


@pytest.fixture
def model(released, monkeypatch, tmp_path):
    """It never ends by itself, and is silent from its third patch on."""
    model, decode = released.model, released.model.audio_vae.decode
    monkeypatch.setitem(
        model.stop_head, "weight", mx.array(checkpoints.stop_head("never", released.config))
    )
    heard: dict[int, list] = {}
    """Of each stream its cache, as often as it was used: none is freed, so that no number is used
    for two."""

    def falls_silent(latents, *arguments, cache=None):
        uses = heard.setdefault(id(cache), [])
        uses.append(cache)
        return decode(latents, *arguments, cache=cache) * (len(uses) <= 2)

    monkeypatch.setattr(model.audio_vae, "decode", falls_silent)
    for command in (generate, batch_command):
        monkeypatch.setattr(command, "load", lambda args: model)
    monkeypatch.chdir(tmp_path)
    return model


@pytest.fixture
def run(released, model, run_command):
    def run(command, *arguments: str) -> tuple[int, str]:
        status, _, err = run_command(
            command.main, "--model", str(released.folder), *QUICK, *arguments
        )
        return status, err

    return run


GUARDS = ["--silence_limit", "0.3", "--fade-in", "0.02", "--trim_silence", "--no_retry_by_ear"]


def test_each_flag_is_the_librarys_option():
    parser = generate.build_parser()
    plain, guarded = (
        read_settings(GenerationOptions, parser.parse_args(arguments))
        for arguments in ([], [*GUARDS, "--no-retry-badcase"])
    )
    assert plain == GenerationOptions()
    assert guarded == GenerationOptions(
        silence_limit=0.3, fade_in=0.02, trim_silence=True, retry_by_ear=False, retry_badcase=False
    )


@pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["whole", "streamed"])
def test_guards_that_acted_are_reported(run, caplog, stream):
    text = ["--text", "Hello there, all of you.", "--output", "a.wav"]
    status, err = run(generate, *text, *GUARDS, *stream)
    assert status == 0
    line = "guards: fade_in: 0.02 s; silence_limit: 0.3 s of silence ended it; trim_silence: 0.28 s"
    assert line in err and "fell silent" in caplog.text
    audio, _ = soundfile.read("a.wav")
    assert len(audio) == 2 * 7680 + 9600 and not audio[-9600:].any()
    assert "guards" not in run(generate, *text, "--max_tokens", "2")[1]


def test_retries_are_reported(run):
    status, err = run(generate, "--text", "Hello there, you.", "--silence_limit", "0.3")
    assert status == 0
    assert "guards: retry: seed 3 gave silence after 0.3 s; retry: seed 4 gave" in err
    assert "gave up: seed 5 gave silence after 0.3 s" in err and "seed 5\n" in err


def test_a_batch_has_guards_for_all_and_for_single_lines(run):
    own = {"text": "Hello there.", "silence_limit": 0.5, "trim_silence": False}
    lines = [{"text": "Hello."}, own, {"text": "Hi.", "max_tokens": 1, "fade_in": 0}]
    Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ["--input", "lines.jsonl", "--output_dir", "out", *GUARDS]
    status, err = run(batch_command, *flags)
    assert status == 0 and 'guards: acted on 2 texts; see "guards" in' in err
    records = [json.loads(line) for line in Path("out/summary.jsonl").read_text().splitlines()]
    done = {record["line"]: record["guards"] for record in records}
    assert done[1][1] == "silence_limit: 0.3 s of silence ended it" and len(done[1]) == 3
    assert done[2] == ["fade_in: 0.02 s", "silence_limit: 0.5 s of silence ended it"]
    assert done[3] == []
    audio, _ = soundfile.read("out/00002.wav")
    assert len(audio) == 7 * 7680
    assert "3 texts are there already" in run(batch_command, *flags)[1]
    assert "2 were there already" not in run(batch_command, *flags, "--fade_in", "0.05")[1]


def test_a_long_text_reports_where_guards_acted(run):
    text = ["--text", "Hello there.\n\nHi you. [pause:1] Yes.", "--output", "a.wav"]
    status, err = run(generate, *text, *GUARDS)
    assert status == 0
    for start in ("0.0", "1.0", "2.5"):
        assert f"guards at {start} s: fade_in: 0.02 s; silence_limit" in err
    audio, _ = soundfile.read("a.wav", dtype="float32")
    segment = 2 * 7680 + 9600
    assert len(audio) == 3 * segment + 24000 + 48000
    assert audio[0] == audio[segment + 24000] == 0 and np.abs(audio[100:1000]).max() > 0


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--silence_limit", "-1"], "silence_limit"),
        (["--silence_limit", "long"], "silence_limit"),
        (["--fade_in", "20"], "fade_in is 20.0; it must be a number from 0 to 1"),
        (["--fade_in", "nan"], "fade_in"),
        (["--trim_silence", "yes"], "yes"),
        (["--continue_segments", "--parallel", "2"], "leave one of them out"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(run, flags, line, tmp_path):
    status, err = run(generate, "--text", "Hello.", *flags)
    assert status == 2 and line in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bad_line_of_a_batch_is_listed(run):
    Path("lines.jsonl").write_text('{"text": "a", "trim_silence": "yes"}\n')
    status, err = run(batch_command, "--input", "lines.jsonl", "--output_dir", "out")
    assert status == 2 and "trim_silence is 'yes'; it must be true or false" in err
