"""What clips say, and whether speech is understood: on the command line, and by mlx-audio."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
from hub_client import hub_client
from hub_stand_in import Hub

from mlx_voxcpm2 import Voice, cli
from mlx_voxcpm2.audio.reading import read_audio
from mlx_voxcpm2.commands import batch as batch_command
from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.recognition import recogniser as recognition
from mlx_voxcpm2.recognition.recogniser import DEFAULT_RECOGNISER, load_recogniser, load_word_timer

QUICK = ["--inference_timesteps", "2", "--max_tokens", "3", "--seed", "7"]


@pytest.fixture
def asked(monkeypatch) -> list:
    """A recogniser that hears "Hi there." in clips and "hello" in speech is loaded for whatever
    is asked for, which is noted."""
    names = []

    def load(name, language=None):
        names.append((name, language))
        return lambda sound, rate: "Hi there." if rate == recognition.RATE else "hello"

    monkeypatch.setattr(recognition, "load_recogniser", load)
    monkeypatch.setattr(recognition, "check_recognition_installed", lambda _: None)
    return names


@pytest.fixture
def run(released, tmp_path, monkeypatch, run_command):
    """Runs a command in a folder with a clip, on the model that is loaded; status and errors."""
    monkeypatch.chdir(tmp_path)
    for module in (generate, batch_command):
        monkeypatch.setattr(module, "load", lambda args: released.model)
    checkpoints.write_wav(Path("clip.wav"), *released.waveform("short"))

    def run(command: str, *arguments: str):
        quick = [] if command == "voice" else QUICK
        status, _, err = run_command(
            cli.main, command, *arguments, "--model", str(released.folder), *quick
        )
        return status, err

    return run


SAY = ["--text", "Hello.", "--output"]
PROMPT = ["--prompt_audio", "clip.wav"]


def test_the_prompt_is_transcribed_and_reported(run, asked, caplog):
    status, _ = run("generate", *SAY, "a.wav", *PROMPT, "--transcribe")
    assert status == 0 and asked == [(DEFAULT_RECOGNISER, None)]
    assert "prompt_audio says: Hi there." in caplog.text and "--prompt_text" in caplog.text
    assert run("generate", *SAY, "b.wav", *PROMPT, "--prompt_text", "Hi there.")[0] == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_a_given_transcript_needs_no_recogniser(run, asked):
    flags = [*PROMPT, "--prompt_text", "Ho there."]
    assert run("generate", *SAY, "a.wav", *flags, "--transcribe")[0] == 0
    assert run("generate", *SAY, "b.wav", *flags)[0] == 0
    assert asked == [] and Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_no_recogniser_is_loaded_unasked(run, asked):
    status, err = run("generate", *SAY, "a.wav", *PROMPT)
    assert status == 2 and "--transcribe" in err and err.count("\n") == 1
    assert run("generate", *SAY, "a.wav", "--ref_audio", "clip.wav")[0] == 0
    assert asked == []


def test_a_voice_is_saved_with_its_transcript(run, asked, caplog):
    flags = ["--ref_audio", "clip.wav", "--asr_model", "some/recogniser"]
    status, _ = run("voice", "add", "./anna.safetensors", *flags, "--transcribe")
    assert status == 0 and "ref_audio says: Hi there." in caplog.text
    assert Voice.load("anna.safetensors").prompt_text == "Hi there."
    assert asked == [("some/recogniser", None)]
    assert run("voice", "add", "./bob.safetensors", "--ref_audio", "clip.wav")[0] == 0
    assert Voice.load("bob.safetensors").prompt_text is None


def test_speech_is_verified_and_its_transcript_reported(run, asked):
    status, err = run("generate", *SAY, "a.wav", "--verify", "--language", "en")
    assert status == 0 and "recognised: hello (0% wrong)" in err and "retry" not in err
    assert asked == [(DEFAULT_RECOGNISER, "en")]
    flags = ["--verify", "--verify_retries", "1", "--verify_limit", "0.4"]
    status, err = run("generate", "--text", "Good bye.", "--output", "b.wav", *flags)
    assert status == 0 and "recognised: hello (100% wrong)" in err
    assert "retry: seed 7 was heard as 'hello', 100% wrong" in err and "gave up" in err
    text = "Hello. [pause:0.1] Good bye."
    status, err = run("generate", "--text", text, "--output", "c.wav", *flags)
    assert status == 0 and "recognised: 60% of it wrong, at most 100% of a segment, at 0.6 s" in err


def test_each_line_of_a_batch_is_verified(run, asked):
    Path("lines.jsonl").write_text('{"text": "Hello."}\n{"text": "Bye."}\n', encoding="utf-8")
    flags = ["--input", "lines.jsonl", "--output_dir", "out"]
    assert run("batch", *flags, "--verify", "--verify_retries", "1")[0] == 0
    first, second = map(json.loads, Path("out/summary.jsonl").read_text().splitlines())
    if first["line"] == 2:
        first, second = second, first
    assert (first["heard"], first["error_rate"], first["guards"]) == ("hello", 0, [])
    assert (second["heard"], second["error_rate"], len(second["guards"])) == ("hello", 1, 2)
    assert "already" in run("batch", *flags, "--verify", "--verify_retries", "1")[1]
    assert len(asked) == 1, "nothing is loaded where nothing is left to be spoken"
    run("batch", *flags, "--verify", "--verify_retries", "0")
    assert len(asked) == 2, "what is there was checked otherwise"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--transcribe"], "--transcribe is given without a clip"),
        (["--asr_model", "some/model"], "add --transcribe or --verify"),
        (["--verify", "--verify_limit", "2"], "verify_limit is 2"),
        (["--verify", "--verify_retries", "-1"], "verify_retries is -1"),
        (["--verify", "--stream"], "leave out --stream"),
        (["--verify", "--asr_model", "./nothing"], "./nothing: no such folder"),
        (["--verify", "--asr_model", "clip.wav"], "is no recogniser"),
        ([*PROMPT, "--transcribe", "--instruct", "calm"], "instruct does not work"),
    ],
)
def test_bad_flags_are_one_line_before_anything_is_loaded(run, asked, flags, line):
    status, err = run("generate", *SAY, "a.wav", *flags)
    assert status == 2 and line in err and err.count("\n") == 1
    assert asked == [] and os.listdir() == ["clip.wav"]


@pytest.mark.parametrize("flags", [["--verify"], [*PROMPT, "--transcribe"]])
def test_a_missing_library_is_one_line(run, monkeypatch, flags):
    monkeypatch.setattr(recognition, "find_spec", lambda name: None)
    status, err = run("generate", *SAY, "a.wav", *flags)
    assert status == 2 and "mlx-voxcpm2[asr]" in err and err.count("\n") == 1


class Ears:
    """What mlx-audio loads, so far as it matters."""

    def generate(self, audio: mx.array, *, language: str | None = None, verbose: bool = False):
        self.audio, self.language = audio, language
        return SimpleNamespace(text=" Hello. ")


def test_recognisers_get_16_khz_and_the_language():
    ears, time = Ears(), np.arange(48000, dtype=np.float32) / 48000
    hear = recognition.MlxAudioRecogniser("ears", "de-AT", ears)
    assert hear(np.sin(2 * np.pi * 440 * time), 48000) == "Hello."
    assert ears.audio.shape == (16000,) and ears.language == "de"
    wanted = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(np.array(ears.audio)[500:-500], wanted[500:-500], atol=1e-2)


# From here on mlx-audio itself.


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    """A Whisper of a few neurons, in the layout of mlx-audio's repositories."""
    pytest.importorskip("mlx_audio", reason="the extra asr is not installed")
    from mlx.utils import tree_flatten
    from mlx_audio.stt.models.whisper.whisper import Model, ModelDimensions
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    folder = tmp_path_factory.mktemp("whisper")
    special = "endoftext startoftranscript en transcribe translate startoflm startofprev nospeech"
    names = [f"<|{name}|>" for name in [*special.split(), "notimestamps"]]
    names += [f"<|{index / 50:.2f}|>" for index in range(1501)]
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, *names])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    extractor = WhisperFeatureExtractor(feature_size=80)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    sizes = {
        "n_mels": 80,
        "n_vocab": len(vocabulary),
        "n_audio_ctx": 1500,
        "n_text_ctx": 16,
        **{f"n_{part}_state": 16 for part in ("audio", "text")},
        **{f"n_{part}_{what}": 1 for part in ("audio", "text") for what in ("head", "layer")},
    }
    mx.random.seed(3)
    model = Model(ModelDimensions(**sizes), mx.float32)
    weights = {
        name: 0.5 * mx.random.normal(value.shape)
        for name, value in tree_flatten(model.parameters())
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", **sizes}))
    return folder


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, int]:
    random = np.random.default_rng(0)
    return 0.1 * random.standard_normal(48000).astype(np.float32), 48000


def test_a_recogniser_gives_the_transcript_of_mlx_audio(whisper, speech):
    from mlx_audio.stt.utils import load_model

    heard = load_recogniser(whisper)(*speech)
    wanted = load_model(whisper).generate(mx.array(read_audio(speech, 16000))).text.strip()
    assert heard == wanted and heard


def test_a_recogniser_gives_the_times_of_words_of_mlx_audio(whisper, speech):
    from mlx_audio.stt.utils import load_model

    audio = mx.array(read_audio(speech, 16000))
    segments = load_model(whisper).generate(audio, word_timestamps=True).segments
    wanted = [(word["word"], word["start"]) for each in segments for word in each["words"]]
    words = load_word_timer(whisper)(*speech)
    assert [(word.text, word.start) for word in words] == wanted
    assert all(0 <= word.start <= word.end for word in words)


def test_a_recogniser_without_times_of_words_is_one_line():
    ears = SimpleNamespace(generate=lambda audio: SimpleNamespace(text="Hi", segments=None))
    recogniser = recognition.MlxAudioRecogniser("ears", None, ears)
    with pytest.raises(ValueError, match="ears: this recogniser gives no times of words"):
        recogniser.words(np.zeros(16000, np.float32), 16000)


def test_a_recogniser_comes_from_the_hub_as_models_do(whisper, speech, tmp_path):
    with Hub() as hub, hub_client(hub.environment(tmp_path / "cache")):
        hub.add("some/whisper", whisper)
        downloaded = load_recogniser("some/whisper")
    assert downloaded(*speech) == load_recogniser(whisper)(*speech)


def test_an_unloadable_recogniser_is_one_line(whisper, tmp_path):
    with pytest.raises(ValueError, match="no recogniser that mlx-audio loads"):
        load_recogniser(tmp_path)
    (tmp_path / "config.json").write_bytes((whisper / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((whisper / "model.safetensors").read_bytes())
    with pytest.warns(UserWarning, match="WhisperProcessor"):
        recogniser = load_recogniser(tmp_path)
    with pytest.raises(ValueError, match="the recogniser fails") as caught:
        recogniser(np.zeros(16000, np.float32), 16000)
    assert "\n" not in str(caught.value)


def test_the_command_verifies_by_mlx_audio(run, whisper):
    flags = ["--verify", "--asr_model", str(whisper), "--verify_retries", "1"]
    status, err = run("generate", *SAY, "a.wav", *flags)
    assert status == 0 and "recognised: " in err and "retry: seed 7" in err
