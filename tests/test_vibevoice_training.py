"""Fine-tuning of VibeVoice: its step by Microsoft's values, its runs, its adapters."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
import vibevoice_training as case
from conftest import GOLDEN
from mlx.utils import tree_flatten
from training_runs import losses, run

from mlx_voxcpm2 import vibevoice
from mlx_voxcpm2.commands import dialogue
from mlx_voxcpm2.layers.compiled import FUSION, Fusion
from mlx_voxcpm2.models.vibevoice.lora import DialogueLoRASettings
from mlx_voxcpm2.training import run as training
from mlx_voxcpm2.training.data import read_lines
from mlx_voxcpm2.training.options import TrainingOptions, TrainingSettings
from mlx_voxcpm2.training.trainer import Trainer
from mlx_voxcpm2.training.vibevoice import VibeVoiceRecipe
from mlx_voxcpm2.weights.adapters import add_lora
from mlx_voxcpm2.weights.lora_layers import set_factors

SETTINGS = """
lora: {r: 4, alpha: 8, dropout: 0.1}
learning_rate: 1e-2
max_steps: 6
batch_size: 2
grad_accum_steps: 1
warmup_steps: 0
save_interval: 3
log_interval: 1
precision: float32
"""


@pytest.fixture(autouse=True)
def without_kernels(plain_kernels, monkeypatch):
    """Without fused kernels, each of which takes g++ a second, in runs too."""
    monkeypatch.setattr(training, "FUSION", Fusion(False))


def write_data(folder: Path, hop: int) -> Path:
    """Manifest of two dialogues, with a configuration beside it."""
    manifest = case.write_data(folder, hop)
    manifest.with_name("train.yaml").write_text(SETTINGS)
    return manifest


@pytest.fixture
def data(make_dialogue, tmp_path) -> Path:
    return write_data(tmp_path / "data", make_dialogue("tiny").model.hop)


def train(folder, data, output, *flags: str) -> int:
    paths = {"model": folder, "train": data, "output": output}
    paths["config"] = data.with_name("train.yaml")
    return run(*(word for name, path in paths.items() for word in (f"--{name}", str(path))), *flags)


def make_trainer(dialogue_case, data, tmp_path, **changes) -> Trainer:
    recipe, model = VibeVoiceRecipe(), vibevoice.load(dialogue_case.folder, dtype="float32")
    options = TrainingOptions(
        **{
            "max_steps": 2,
            "grad_accum_steps": 1,
            "warmup_steps": 0,
            "learning_rate": case.RATE,
            "weight_decay": case.DECAY,
            "precision": "float32",
            "seed": case.SEED,
            **changes,
        }
    )
    settings = TrainingSettings(str(dialogue_case.folder), str(data), options=options)
    lines = read_lines(settings, dialogue_case.folder)
    latents = recipe.cache(tmp_path / "latents", model).fill(lines.clips)
    add_lora(model, DialogueLoRASettings(r=1, alpha=int(case.SCALE)))
    for path, layer in model.adapter.layers.items():
        (inputs, _), (_, outputs) = layer.lora_a.shape, layer.lora_b.shape
        set_factors(layer, *map(mx.array, case.factors(path, inputs, outputs)))
    return Trainer(model, recipe.examples(lines.training, model, latents), options, recipe=recipe)


def test_a_step_is_that_of_microsofts_pieces_and_torchs_adamw(make_dialogue, data, tmp_path):
    """Losses, gradients and updated weights of a batch of two dialogues."""
    golden = dict(mx.load(str(GOLDEN / "vibevoice.training.safetensors")))
    trainer = make_trainer(make_dialogue("tiny"), data, tmp_path)
    step = trainer.advance()
    assert step.losses["diff"] == pytest.approx(golden["diff"].item(), rel=1e-5)
    assert step.losses["ce"] == pytest.approx(golden["ce"].item(), rel=1e-5)
    assert step.grad_norm == pytest.approx(golden["norm"].item(), rel=1e-4)
    largest = max(float(mx.abs(x).max()) for name, x in golden.items() if "gradient" in name)
    layers = trainer.model.adapter.layers
    assert len(golden) == 3 + 4 * len(layers)
    for path, layer in layers.items():
        for kind, value in (("A", layer.lora_a), ("B", layer.lora_b)):
            first_moment = trainer.state[f"{path}.lora_{kind.lower()}.m"].T
            gradient = golden[f"gradient.{path}.lora_{kind}"]
            assert mx.abs(first_moment * 10 - gradient).max() < 1e-5 * largest, path
            stepped = golden[f"stepped.{path}.lora_{kind}"]
            assert mx.abs(value.T - stepped).max() < 1e-4, path


def test_a_batch_has_the_gradients_of_its_rows(make_dialogue, data, tmp_path):
    """Padding changes nothing: two rows at once are the mean over all frames, over all tokens."""
    trainer = make_trainer(make_dialogue("tiny"), data, tmp_path)
    together = trainer.validate(trainer.examples)
    trainer.options = TrainingOptions(batch_size=1, seed=case.SEED, precision="float32")
    alone = trainer.validate(trainer.examples)
    assert list(together) == ["diff", "ce"]
    assert together == pytest.approx(alone, rel=1e-5)


@pytest.fixture(scope="module")
def trained(make_dialogue, tmp_path_factory) -> Path:
    """Folder of a run of six steps."""
    dialogue_case, folder = make_dialogue("tiny"), tmp_path_factory.mktemp("trained")
    data = write_data(folder / "data", dialogue_case.model.hop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FUSION, "is_on", False)
        patch.setattr(training, "FUSION", Fusion(False))
        assert train(dialogue_case.folder, data, folder / "run") == 0
    return folder / "run"


def test_a_run_learns_and_its_adapter_speaks(make_dialogue, data, trained, monkeypatch):
    rows = losses(trained)
    assert [sorted(row) for row in rows[:1]] == [
        ["grad_norm", "loss/ce", "loss/diff", "lr", "patches", "step"]
    ]
    assert rows[0]["patches"] == 3 + 4
    saved = json.loads((trained / "latest" / "lora_config.json").read_text())["lora_config"]
    assert (saved["r"], saved["alpha"], saved["enable_proj"]) == (4, 8, True)
    source = make_dialogue("tiny").folder
    model = vibevoice.load(source, dtype="float32", adapter=trained / "latest")
    assert model.adapter.loaded == 2 * len(model.adapter.layers) == 60
    monkeypatch.chdir(data.parent)
    (data.parent / "script.txt").write_text("Speaker 1: Hi.\n")
    spoken = []
    for adapter in ([], ["--adapter", f"{trained / 'latest'}:0.5"]):
        flags = ["--engine", "vibevoice", "--model", str(source), "--dtype", "float32", *adapter]
        flags += ["--seed", "1", "--max_tokens", "4", "--output", f"{len(adapter)}.wav"]
        assert dialogue.main(["script.txt", *flags]) == 0
        spoken.append(soundfile.read(f"{len(adapter)}.wav")[0])
    assert len(spoken[0]) != len(spoken[1]) or np.abs(spoken[0] - spoken[1]).max() > 1e-4


def test_a_full_run_trains_all_but_the_codecs(make_dialogue, data, tmp_path):
    plain, output = make_dialogue("tiny"), tmp_path / "run"
    settings = SETTINGS.replace("lora: {r: 4, alpha: 8, dropout: 0.1}\n", "")
    data.with_name("train.yaml").write_text(settings.replace("max_steps: 6", "max_steps: 2"))
    assert train(plain.folder, data, output, "--full") == 0
    before = dict(tree_flatten(plain.model.parameters()))
    after = dict(tree_flatten(vibevoice.load(output / "latest", "float32").parameters()))
    assert after.keys() == before.keys()
    frozen = ("acoustic_tokenizer.", "semantic_tokenizer.", "speech_")
    for name, value in after.items():
        assert mx.array_equal(value, before[name]) == name.startswith(frozen), name


def test_the_loss_falls(make_dialogue, data, tmp_path):
    trainer = make_trainer(make_dialogue("tiny"), data, tmp_path, max_steps=30, learning_rate=2e-2)
    before = trainer.validate(trainer.examples)
    for _ in range(30):
        trainer.advance()
    after = trainer.validate(trainer.examples)
    assert after["diff"] < 0.8 * before["diff"] and after["ce"] < before["ce"]


def test_an_adapter_of_strength_0_is_the_model_without_it(make_dialogue, trained):
    plain = make_dialogue("tiny")
    model = vibevoice.load(plain.folder, "float32", adapter=trained / "latest")
    settings = {"seed": 1, "max_tokens": 8, "inference_timesteps": 2}
    base = np.array(plain.model.speak("Speaker 1: Hi.", **settings).audio)
    tuned = model.speak("Speaker 1: Hi.", **settings).audio
    assert len(tuned) != len(base) or np.abs(np.array(tuned) - base).max() > 1e-4
    model.set_adapter_strength(0)
    assert np.array_equal(np.array(model.speak("Speaker 1: Hi.", **settings).audio), base)


def test_a_resumed_run_is_an_uninterrupted_one(make_dialogue, data, trained, tmp_path):
    output = tmp_path / "resumed"
    folder = make_dialogue("tiny").folder
    stop = training.RunFolder.log

    def stopping(self, step, validation):
        stop(self, step, validation)
        if step.number == 5:
            raise ValueError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.RunFolder, "log", stopping)
        assert train(folder, data, output) == 2
    assert train(folder, data, output) == 0
    assert losses(output) == losses(trained)
    name = "latest/lora_weights.safetensors"
    ours, theirs = (mx.load(str(run_folder / name)) for run_folder in (output, trained))
    assert all(mx.array_equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"voices": "one.wav"}, "voices is of type str; give a list of clips"),
        ({"voices": ["one.wav", "two.wav"]}, "voices are 2 for 1 speakers; leave the others out"),
        ({"voices": ["none.wav"]}, "voices 'none.wav': no file"),
        ({"voices": ["one.wav"], "ref_audio": "two.wav"}, "ref_audio is given beside voices"),
        ({"script": "Speaker 1: Hi."}, "script is given beside text; leave one out"),
        ({"text": "Well.\nSpeaker 1: Hi."}, "text: the script begins with 'Well.'"),
        ({"text": "<|vision_pad|>"}, "the script holds <|vision_pad|>, a control token"),
        ({"text": "word " * 600}, "more than the 512 that there is room for"),
        ({"text": None}, "text is missing; every line needs audio and text"),
    ],
)
def test_check_names_the_line_and_the_field(make_dialogue, data, capsys, line, error):
    good = {"audio": "first.wav", "text": "Speaker 1: Hi.", "voices": ["one.wav"]}
    bad = {"audio": "first.wav", "text": "Speaker 1: Hi.", **line}
    data.write_text(json.dumps(good) + "\n" + json.dumps(bad))
    folder = str(make_dialogue("tiny").folder)
    assert run("--model", folder, "--train", str(data), "--check") == 2
    err = capsys.readouterr().err
    assert f"error: line 2: {error}" in err if error.startswith("v") else error in err
    assert "error: line 2: " in err and "Traceback" not in err


def test_a_manifest_of_voxcpm2_is_one_of_a_single_speaker(make_dialogue, data, capsys):
    line = {"audio": "first.wav", "text": "Hi.", "ref_audio": "one.wav"}
    data.write_text(json.dumps(line))
    folder = str(make_dialogue("tiny").folder)
    assert run("--model", folder, "--train", str(data), "--check") == 0
    assert "1 lines to learn, 0 for validation, 2 clips" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("lambdas: {stop: 1}", "lambdas: this model has no loss stop; it has diff and ce"),
        ("condition_dropout: 0.2", "condition_dropout: VibeVoice needs none"),
        (
            "lora: {target_modules_lm: [x]}",
            "the settings name 'x', and the model has no such layer",
        ),
    ],
)
def test_settings_that_vibevoice_lacks_are_refused(make_dialogue, data, capsys, config, error):
    data.with_name("train.yaml").write_text(config)
    assert train(make_dialogue("tiny").folder, data, data.parent / "out") == 2
    err = capsys.readouterr().err
    assert error in err and "Traceback" not in err
