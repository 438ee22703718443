"""Settings of a training run: upstream's YAML, flags that override it, and one-line errors."""

import sys

import pytest
from training_runs import run

from mlx_voxcpm2.commands.train import TrainCommand, build_parser
from mlx_voxcpm2.models.voxcpm2.lora import LoRASettings
from mlx_voxcpm2.training.options import LossWeights, TrainingOptions, TrainingSettings

# The keys of upstream's conf/voxcpm_v2.
UPSTREAM = """
pretrained_path: /models/VoxCPM2/
train_manifest: train.jsonl
val_manifest: ""
sample_rate: 16000
out_sample_rate: 48000
batch_size: 4
grad_accum_steps: 2
num_workers: 8
num_iters: 300
log_interval: 5
valid_interval: 50
save_interval: 60
learning_rate: 0.0002
weight_decay: 0.02
warmup_steps: 20
max_steps: 300
max_batch_tokens: 4096
max_grad_norm: 0.5
save_path: out
tensorboard: ""
lambdas:
  loss/diff: 1.0
  loss/stop: 0.5
"""
LORA = """
lora:
  enable_lm: true
  enable_dit: false
  enable_proj: true
  r: 16
  alpha: 8
  dropout: 0.1
  target_modules_lm: ["q_proj", "v_proj"]
  target_modules_dit: ["q_proj"]
  target_proj_modules: ["lm_to_dit_proj"]
"""


@pytest.fixture
def parse_settings(tmp_path):
    """Function that parses a YAML file's text and flags."""

    def settings(text: str, *flags: str):
        file = tmp_path / "train.yaml"
        file.write_text(text)
        args = build_parser().parse_args(["--config", str(file), *flags])
        command = TrainCommand.parse(args)
        return command.settings, command.output

    return settings


@pytest.fixture
def error_line(tmp_path, capsys):
    """Function that returns the error line for a YAML file's text, without the file's name."""

    def refused(text: str, *flags: str) -> str:
        file = tmp_path / "train.yaml"
        file.write_text(text)
        paths = ["--train", "x.jsonl", "--output", str(tmp_path / "out")]
        assert run("--config", str(file), *paths, *flags) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not (tmp_path / "out").exists()
        return line.removeprefix(f"train: {file}: ")

    return refused


def test_upstreams_file_works_unchanged(parse_settings):
    found, output = parse_settings(UPSTREAM + LORA)
    paths = (found.model, found.train, found.validation, output)
    assert paths == ("/models/VoxCPM2/", "train.jsonl", None, "out")
    assert found.options == TrainingOptions(
        batch_size=4,
        grad_accum_steps=2,
        max_steps=300,
        log_interval=5,
        valid_interval=50,
        save_interval=60,
        learning_rate=2e-4,
        weight_decay=0.02,
        warmup_steps=20,
        max_batch_tokens=4096,
        max_grad_norm=0.5,
        lambdas=LossWeights(1.0, 0.5),
    )
    assert found.lora == LoRASettings(
        True, False, True, 16, 8, 0.1, ("q_proj", "v_proj"), ("q_proj",), ("lm_to_dit_proj",)
    )


def test_without_lora_upstreams_file_trains_all_weights(parse_settings):
    assert parse_settings(UPSTREAM)[0].lora is None
    assert parse_settings(UPSTREAM, "--lora")[0].lora == LoRASettings()


def test_the_default_is_an_adapter(parse_settings):
    here = ["--train", "x", "--output", "y"]
    found, _ = parse_settings("", *here)
    assert found.lora == LoRASettings() and found.options == TrainingOptions()
    found, _ = parse_settings(LORA, *here, "--full")
    assert found.lora is None and found.options.learning_rate == 1e-5
    assert parse_settings("learning_rate: 3e-5", *here, "--full")[0].options.learning_rate == 3e-5


def test_flags_override_the_file(parse_settings):
    flags = ["--train", "mine.jsonl", "--batch-size", "8", "--max_steps", "40", "--save_path", "z"]
    found, output = parse_settings(UPSTREAM, *flags, "--gradient_checkpointing")
    assert (found.train, found.options.batch_size, output) == ("mine.jsonl", 8, "z")
    assert found.options.max_steps == 40 and found.options.gradient_checkpointing


def test_flags_for_the_adapters_rank_the_precision_and_the_gradient(parse_settings):
    flags = ["--lora_rank", "3", "--precision", "bfloat16", "--max_grad_norm", "0"]
    found, _ = parse_settings("lora: {r: 8, alpha: 5}", "--train", "x", "--output", "y", *flags)
    assert (found.lora.r, found.lora.alpha) == (3, 5)
    assert (found.options.dtype, found.options.max_grad_norm) == ("bfloat16", 0)


@pytest.mark.parametrize(("is_cpu", "dtype"), [(True, "float32"), (False, "bfloat16")])
def test_the_default_precision_is_what_the_device_computes_fast(is_cpu, dtype, monkeypatch):
    monkeypatch.setattr("mlx_voxcpm2.layers.device.on_cpu", lambda: is_cpu)
    assert TrainingOptions().dtype == dtype
    assert TrainingSettings("model", "data").resume_key["precision"] == dtype


def test_help_shows_the_defaults(capsys):
    assert run("--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    for default in (
        "adapter (default 32)",
        "weights (default 1000)",
        "over all processes (default",
    ):
        assert default in said


def test_yaml_powers_of_ten_without_a_point_are_numbers(parse_settings):
    found, _ = parse_settings(UPSTREAM.replace("0.0002", "2e-4").replace("0.5", "5E-1"))
    assert found.options.learning_rate == 2e-4 and found.options.lambdas.stop == 0.5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("learning_rte: 1", "learning_rte: not known here; leave that out"),
        ("lora: {rank: 3}\nx: 1", "x, lora.rank: not known here; leave that out"),
        ("learning_rate: fast", "learning_rate must be float, not 'fast'"),
        ("max_steps: 2.5", "max_steps must be int, not 2.5"),
        ("lora: {r: many}", "lora.r must be int, not 'many'"),
        ("lora: 3", "lora must be an object, not 3"),
        ("lambdas: {loss/diff: -1}", "lambdas: loss/diff is -1.0; it must be 0 or more"),
        ("lambdas: {loss/dif: 1}", "lambdas.dif: not known here; leave that out"),
        ("model: 5", "model is 5; it must be a string"),
        ("validation_split: most", "validation_split is 'most'; it must be from 0 to 0.5"),
        ("batch_size: 0", "batch_size is 0; it must be at least 1"),
        ("precision: float16", "precision is 'float16'; it must be bfloat16 or float32"),
        ("num_iters: 10\nmax_steps: 20", "num_iters and max_steps differ; leave one out"),
        ("- a\n- b", "not a list of settings; write `key: value` lines"),
    ],
)
def test_invalid_settings_are_one_line_errors(text, line, error_line):
    assert error_line(text) == line


def test_broken_yaml_and_missing_files_are_one_line_errors(error_line, capsys, tmp_path):
    assert error_line("a: [").startswith("not a YAML file (")
    assert run("--config", str(tmp_path / "no.yaml")) == 2
    assert capsys.readouterr().err.endswith("no.yaml: no such file; check the path\n")
    assert run("--output", "x") == 2
    assert capsys.readouterr().err == "train: --train is missing; --help lists the flags\n"


def test_missing_pyyaml_is_an_error_that_names_the_package(error_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    line = "train: --config needs PyYAML, which is not installed; install 'mlx-voxcpm2[train]'"
    assert error_line("") == line
