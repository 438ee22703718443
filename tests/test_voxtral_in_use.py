"""Voxtral, of random weights, where recognisers are used: transcripts, takes, checks."""

import json
from pathlib import Path

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
import soundfile
import voxtral_checkpoints as made

from mlx_voxcpm2 import BestOf, cli, load_recogniser, transcribe, voxtral
from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.recognition import recogniser as recognition
from mlx_voxcpm2.recognition.protocols import Scorer

GOLDEN = Path(__file__).parent / "golden"
QUICK = {"max_tokens": 3, "inference_timesteps": 2}
CLIP = made.sound(2.0), made.RATE


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Checkpoint whose transcripts end."""
    ranks = json.loads((GOLDEN / "voxtral.json").read_text(encoding="utf-8"))["ranks"]
    row = mx.load(str(GOLDEN / "voxtral.safetensors"))["own_head.end_row"]
    target = tmp_path_factory.mktemp("stt") / "voxtral"
    return made.write_checkpoint(target, "own_head", ranks, np.array(row))


@pytest.fixture(scope="module")
def stt(folder) -> voxtral.Voxtral:
    return voxtral.load(folder)


@pytest.fixture
def without_mlx_audio(monkeypatch):
    """As if only the package itself, and jiwer, were installed."""
    find = recognition.find_spec
    monkeypatch.setattr(
        recognition, "find_spec", lambda name: None if name == "mlx_audio" else find(name)
    )


def test_a_folder_of_voxtral_is_a_recogniser(folder, stt, without_mlx_audio):
    recogniser = load_recogniser(folder, "en")
    found = transcribe(CLIP, recogniser, language="de-AT")
    assert found.text == " ".join(stt.transcribe(CLIP, "de").text.split())
    with pytest.raises(ValueError, match="gives no times of words"):
        recognition.load_word_timer(folder)


def test_a_language_that_is_no_code_is_one_line_before_the_weights_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "voxtral"}')
    with pytest.raises(ValueError, match="language is 'english'; give two letters"):
        load_recogniser(tmp_path, "english")


def test_it_scores_in_its_language_and_as_it_is(folder, stt):
    recogniser = load_recogniser(folder, "de")
    assert isinstance(recogniser, Scorer) and isinstance(stt, Scorer)
    assert recogniser.score(CLIP, "Hello.").mean == stt.score(CLIP, "Hello.", "de").mean


def test_a_transcript_that_is_cut_at_its_limit_is_reported(folder, caplog):
    class Endless:
        def transcribe(self, audio, language):
            return voxtral.Transcript("and so on and", (1,), (0.0,), "length", language)

    recogniser = recognition.VoxtralRecogniser("folder", None, Endless())
    assert recogniser(*CLIP) == "and so on and"
    assert "folder: the transcript of 2 s of audio was cut" in caplog.text


def test_ten_minutes_and_more_are_heard_at_once():
    heard = []

    class Listener:
        def transcribe(self, audio, language):
            heard.append(len(audio[0]) / audio[1])
            return voxtral.Transcript("Long.", (1,), (0.0,), "stop", language)

    noise = made.uniform("noise", 620 * 1000, size=0.1)
    recogniser = recognition.VoxtralRecogniser("folder", None, Listener())
    assert transcribe((noise, 1000), recogniser, has_times=False).text == "Long."
    assert heard == [620.0]


def test_the_best_take_is_the_one_that_voxtral_finds_likeliest(released, stt):
    result = released.model.speak("Yes.", seed=1, best_of=BestOf(stt, 2), **QUICK)
    wanted = []
    for take in result.takes:
        alone = released.model.speak("Yes.", seed=take.seed, **QUICK)
        wanted.append(stt.score((np.array(alone.audio), alone.sample_rate), "Yes.").mean)
    assert [take.score for take in result.takes] == pytest.approx(wanted, abs=1e-3)
    assert len(set(wanted)) == 2 and result.seed == result.takes[int(np.argmax(wanted))].seed


@pytest.fixture
def run(released, folder, tmp_path, monkeypatch, run_command):
    """Runs a command in a folder with a clip, on the model that is loaded; status and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generate, "load", lambda choice: released.model)
    checkpoints.write_wav(Path("clip.wav"), *released.waveform("short"))
    quick = [f for name, value in QUICK.items() for f in (f"--{name}", value)]
    flags = ["--asr_model", folder, "--model", released.folder, "--seed", "7", *quick]

    def run(*arguments: str):
        status, _, err = run_command(
            cli.main, "generate", "Yes.", "--output", "a.wav", *arguments, *flags
        )
        return status, err

    return run


def test_the_command_transcribes_a_prompt_by_voxtral(run, stt, caplog, without_mlx_audio):
    status, _ = run("--prompt_audio", "clip.wav", "--transcribe")
    words = " ".join(stt.transcribe("clip.wav").text.split())
    assert status == 0 and f"prompt_audio says: {words} (if" in caplog.text


def test_the_command_chooses_and_verifies_by_voxtral(run, without_mlx_audio):
    flags = ["--best_of", "2", "--verify", "--verify_limit", "1", "--verify_retries", "0"]
    status, err = run(*flags, "--language", "en")
    assert status == 0 and "takes: -" in err and "recognised: " in err


def test_the_command_writes_subtitles_by_voxtral(folder, stt, tmp_path, run_command):
    soundfile.write(tmp_path / "a.wav", *CLIP)
    out = tmp_path / "a.srt"
    flags = ["--model", folder, "--output", out, "--language", "en"]
    status, _, err = run_command(cli.main, "transcribe", tmp_path / "a.wav", *flags)
    words = stt.transcribe(tmp_path / "a.wav", "en").text.split()
    assert status == 0, err
    text = out.read_text(encoding="utf-8")
    assert text.startswith("1\n00:00:00") and "".join(words)[:10] in "".join(text.split())


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("config.json", "{", "not valid JSON"),
        ("tekken.json", None, "no tekken.json"),
        ("model.safetensors", None, "no "),
    ],
)
def test_an_incomplete_folder_is_one_line(folder, tmp_path, run_command, file, content, line):
    copy = tmp_path / "copy"
    copy.mkdir()
    for each in folder.iterdir():
        (copy / each.name).symlink_to(each)
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    soundfile.write(tmp_path / "a.wav", *CLIP)
    status, _, err = run_command(cli.main, "transcribe", tmp_path / "a.wav", "--model", copy)
    assert status == 2 and line in err and err.count("\n") == 1
