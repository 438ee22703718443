"""Training runs: their files, how they are resumed, and their error lines."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import mlx.core as mx
import pytest
import soundfile
from conftest import parameters, same
from training_runs import SETTINGS, arguments, losses, run

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.commands import shell as command
from mlx_voxcpm2.commands import train
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.layers.fused_linear import FusedProjections
from mlx_voxcpm2.training import run as training
from mlx_voxcpm2.training.checkpoint import load_trainable, write_weights
from mlx_voxcpm2.training.loss_plot import draw_plot
from mlx_voxcpm2.training.options import TrainingSettings
from mlx_voxcpm2.training.run_folder import RunFolder
from mlx_voxcpm2.weights.checkpoint import read_checkpoint
from mlx_voxcpm2.weights.precision import Precision

# A run that kills itself, as `kill -9` does, in the middle of its second checkpoint.
KILLED_SAVING = """
import os, signal, sys
from mlx_voxcpm2.commands import train
from mlx_voxcpm2.training import run_folder
write = run_folder._write
def deadly(file, text):
    if "4" in text and file.name == "training_state.json":
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, text)
run_folder._write = deadly
train.main(sys.argv[1:])
"""

# A run that kills itself after its third step.
KILLED_BETWEEN = """
import os, signal, sys
from mlx_voxcpm2.commands import train
report = train.Progress.__call__
def deadly(self, step, validation):
    report(self, step, validation)
    if step.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
train.Progress.__call__ = deadly
train.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def uninterrupted(training_data, make_case, tmp_path_factory) -> dict[str, Path]:
    """Uninterrupted runs of each kind, from the first step to the last."""
    folder = tmp_path_factory.mktemp("unbroken")
    for kind in ("lora", "full"):
        flags = arguments(make_case("released").folder, training_data, folder / kind, f"--{kind}")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # such as an empty legend
            assert run(*flags, draws=True) == 0
    return {kind: folder / kind for kind in ("lora", "full")}


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Assert that losses and weights are bit-identical."""
    assert losses(ours) == losses(theirs) and len(losses(ours)) == 6
    for name in ("lora_weights.safetensors", "model.safetensors", "optimizer.safetensors"):
        files = [folder / "latest" / name for folder in (ours, theirs)]
        assert files[0].exists() == files[1].exists()
        if files[0].exists():
            assert same(*(mx.load(str(file)) for file in files)), name


def test_a_run_leaves_a_log_a_plot_and_checkpoints(uninterrupted):
    for kind, folder in uninterrupted.items():
        rows = losses(folder)
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert ["valid/diff" in row for row in rows] == [False, False, True] * 2
        assert all(row["loss/diff"] > 0 and row["loss/stop"] > 0 for row in rows)
        assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
        steps = sorted(path.name for path in folder.glob("step_*"))
        assert steps == ["step_0000002", "step_0000004", "step_0000006"], kind
        assert (folder / "latest").resolve() == folder / "step_0000006"
        left = {entry.name for entry in folder.iterdir() if entry.name.startswith(".")}
        assert left <= {".lock"}
        full = [step for step in steps if (folder / step / "optimizer.safetensors").exists()]
        assert full == ["step_0000006"]


def test_an_adapter_is_loaded_with_nothing_skipped(uninterrupted, released):
    model = load_model(released.folder, adapter=uninterrupted["lora"] / "latest")
    assert model.adapter.loaded == 64 and not model.adapter.skipped
    assert model.adapter.trained_scale == 2 and model.adapter.strength == 1
    tensors = mx.load(str(uninterrupted["lora"] / "latest" / "lora_weights.safetensors"))
    assert all(value.dtype == mx.float32 and mx.any(value) for value in tensors.values())


def test_a_trained_model_loads_and_speaks(uninterrupted, released):
    """All weights differ but the AudioVAE's, which are bit-identical."""
    first = parameters(released.model)
    model = load_model(uninterrupted["full"] / "latest", "float32")
    for name, value in parameters(model).items():
        assert mx.array_equal(value, first[name]) == name.startswith("audio_vae."), name
    (result,) = model.generate("Hello.", seed=0, max_tokens=3, inference_timesteps=2)
    assert mx.all(mx.isfinite(result.audio))
    names = {path.name for path in (uninterrupted["full"] / "latest").iterdir()}
    assert {path.name for path in released.folder.iterdir()} <= names
    configs = [
        folder / "config.json" for folder in (uninterrupted["full"] / "latest", released.folder)
    ]
    assert configs[0].read_text() == configs[1].read_text()


def test_training_a_whole_model_holds_its_weights_once(released, training_data):
    """Fused projections would hold a second copy."""
    settings = TrainingSettings(str(released.folder), str(training_data), lora=None)
    model = load_trainable(settings, released.folder, None)
    found = [module for module in model.modules() if isinstance(module, FusedProjections)]
    assert found and all(module.fused is None for module in found)


@pytest.mark.usefixtures("plain_kernels")
def test_kernels_are_compiled_for_a_run_that_repays_them(
    released, training_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "_steps", lambda *_: iter(()))
    flags = arguments(released.folder, training_data, tmp_path / "out")
    assert run(*flags) == 0
    assert not FUSION.is_on
    monkeypatch.setattr(training, "WORK_BEFORE_KERNELS", 10_000)  # a tenth of this run's
    assert run(*flags) == 0
    assert FUSION.is_on
    monkeypatch.setattr(training, "WORK_BEFORE_KERNELS", 10**12)
    for is_exact in (True, False):
        monkeypatch.setattr(FUSION, "is_on", False)
        monkeypatch.setattr(FUSION, "is_exact", is_exact)
        assert run(*flags) == 0
        assert FUSION.is_on is not is_exact


def test_a_converted_checkpoint_can_be_trained_and_loaded(released, training_data, tmp_path):
    source = convert(released.folder, tmp_path / "mlx", "float32")
    flags = arguments(source, training_data, tmp_path / "out", "--full", "--max_steps", "3")
    assert run(*flags) == 0
    ours = parameters(load_model(tmp_path / "out" / "latest"))
    theirs = parameters(load_model(source))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert mx.array_equal(value, theirs[name]) == name.startswith("audio_vae."), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_trained_model_has_the_precision_of_its_converted_source(
    released, training_data, tmp_path, dtype
):
    """The weights in its file are float32, so that the run can be resumed."""
    source = convert(released.folder, tmp_path / "mlx", dtype)
    settings = TrainingSettings(str(source), str(training_data), lora=None)
    for name in ("once", "twice"):  # the second run's source was trained itself
        folder = tmp_path / name
        folder.mkdir()
        write_weights(folder, load_trainable(settings, source, None), settings, source)
        stored = mx.load(str(folder / "model.safetensors"))
        assert stored["base_lm.norm.weight"].dtype == mx.float32
        checkpoint = read_checkpoint(folder, Precision())
        assert checkpoint.dtype == getattr(mx, dtype)
        assert checkpoint.weights["base_lm.norm.weight"].dtype == getattr(mx, dtype)
        source = folder
    converted = convert(source, tmp_path / "converted")
    assert read_checkpoint(converted, Precision()).dtype == getattr(mx, dtype)


def test_a_run_killed_while_saving_resumes_from_the_checkpoint_before(
    uninterrupted, released, training_data, tmp_path
):
    output = tmp_path / "out"
    flags = arguments(released.folder, training_data, output, "--lora")
    done = subprocess.run([sys.executable, "-c", KILLED_SAVING, *flags], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in output.glob("step_*")] == ["step_0000002"]
    assert list(output.glob(".step_0000004.*/optimizer.safetensors"))
    (output / "latents" / ".a.safetensors.0123abcd.unfinished").touch()
    with (output / "losses.jsonl").open("a") as log:
        log.write('{"step": 5, "loss/di')
    assert run(*flags) == 0
    assert_same_run(output, uninterrupted["lora"])
    assert not [*output.glob(".step_*"), *output.glob("latents/.*")]


def test_a_run_killed_between_checkpoints_resumes_bit_identically(
    uninterrupted, released, training_data, tmp_path
):
    output = tmp_path / "out"
    flags = arguments(released.folder, training_data, output, "--full")
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, *flags], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert run(*flags) == 0
    assert_same_run(output, uninterrupted["full"])


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_run_with_one_line(
    number, status, uninterrupted, released, training_data, tmp_path, monkeypatch, capsys
):
    """The run can be resumed from its last checkpoint."""
    monkeypatch.setattr(command, "_leave", lambda status: status)

    def progress(self, step, validation):
        if step.number == 3:
            signal.raise_signal(number)

    output = tmp_path / "out"
    flags = arguments(released.folder, training_data, output, "--lora")
    with monkeypatch.context() as patch:
        patch.setattr(train.Progress, "__call__", progress)
        assert run(*flags) == status
    counts, stopped = capsys.readouterr().err.splitlines()
    assert counts == "4 lines to learn, 1 for validation, 5 clips"
    assert stopped == f"train: stopped; the same command resumes from {output / 'step_0000002'}"
    if number == signal.SIGTERM:
        assert run(*flags) == 0
        assert_same_run(output, uninterrupted["lora"])


def test_a_finished_run_is_not_repeated(uninterrupted, released, training_data, tmp_path, capsys):
    output = shutil.copytree(uninterrupted["lora"], tmp_path / "out", symlinks=True)
    flags = arguments(released.folder, training_data, output, "--lora")
    assert run(*flags) == 0
    said = capsys.readouterr().err
    assert said.endswith(f"clips\n{output / 'step_0000006'}: trained for 6 steps\n")
    assert losses(output) == losses(uninterrupted["lora"])


def test_a_run_is_resumed_with_its_own_settings_only(
    uninterrupted, released, training_data, tmp_path, capsys
):
    output = shutil.copytree(uninterrupted["lora"], tmp_path / "out", symlinks=True)

    def refused(*flags) -> str:
        assert run(*arguments(released.folder, training_data, output, *flags)) == 2
        return capsys.readouterr().err

    line = f"train: {output}: the run here was started with {{}}; resume it with that, or choose "
    assert refused("--lora", "--seed", "3").startswith(line.format("seed 0, not 3"))
    assert refused("--full", "--learning_rate", "1e-3").startswith(
        line.format("kind 'lora', not 'full'")
    )
    flags = arguments(released.folder, training_data, output, "--lora", "--save_interval", "1")
    assert run(*flags) == 0


def test_the_output_folder_must_be_an_idle_runs(released, training_data, tmp_path, capsys):
    def refused(output: Path) -> str:
        assert run(*arguments(released.folder, training_data, output)) == 2
        return capsys.readouterr().err

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert "mine holds other things than a training run; choose another" in refused(
        tmp_path / "mine"
    )
    running = RunFolder(tmp_path / "running", {})
    assert "running: a run is under way here; wait for it, or" in refused(tmp_path / "running")
    assert "no run can be written here" in refused(tmp_path / "mine" / "thesis.txt")
    running.close()
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_checkpoint_that_cannot_be_written_is_a_one_line_error(
    uninterrupted, released, training_data, tmp_path, monkeypatch, capsys
):
    """Earlier checkpoints stay, and the run can be resumed."""
    output, save = tmp_path / "out", mx.save_safetensors
    flags = arguments(released.folder, training_data, output, "--lora")

    def full(file: str, arrays: dict, *more) -> None:
        if "step_0000004" in file:
            raise RuntimeError("[write] Unable to write 12 bytes")
        save(file, arrays, *more)

    with monkeypatch.context() as patch:
        patch.setattr(mx, "save_safetensors", full)
        assert run(*flags) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: {output}: checkpoint step_0000004 can't be written (")
    assert line.endswith("; make room, and run the same command again")
    assert [path.name for path in output.glob("*step_*")] == ["step_0000002"]
    (output / "step_0000002" / "optimizer.safetensors").write_bytes(b"123")
    assert run(*flags) == 2
    assert "step_0000002: can't resume from here (" in capsys.readouterr().err


def test_every_bad_line_is_listed_before_the_run_begins(released, training_data, tmp_path, capsys):
    """Lines that are too long for a batch are listed too."""
    lines = [
        {"audio": "0.wav", "text": "one"},
        {"audio": "nothing.wav", "text": "two"},
        {"audio": "1.wav"},
        {"audio": "1.wav", "text": "many words " * 20},
        {"audio": "1.wav", "text": "x", "ref_audio": "1.wav"},
    ]
    manifest = training_data.with_name("bad.jsonl")
    manifest.write_text("\n".join(map(json.dumps, lines)))
    config = training_data.with_name("train.yaml").read_text() + "max_batch_tokens: 40\n"
    (tmp_path / "train.yaml").write_text(config)
    output = tmp_path / "out"
    flags = arguments(released.folder, manifest, output, "--config", str(tmp_path / "train.yaml"))
    assert run(*flags) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1:3] for line in said[:-1]] == [
        ["error", "line 2"],
        ["error", "line 3"],
        ["error", "line 4"],
        ["warning", "line 5"],
    ]
    assert "more than the 20 that there is room for" in said[2]
    assert said[-1].endswith("(3 of 5 lines cannot be used)")
    assert not output.exists()
    assert run(*flags, "--check") == 2
    assert run(*arguments(released.folder, training_data, output), "--check") == 0
    assert "no line of the manifests has errors" in capsys.readouterr().err
    assert not output.exists()


def test_manifests_are_checked_without_a_model(training_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mlx_voxcpm2.weights.hub._download", None)
    assert run("--train", str(training_data), "--model", "some/body", "--check") == 0
    counts, unchecked = capsys.readouterr().err.splitlines()[-2:]
    assert counts.endswith("has errors: 5 lines to learn, 0 for validation, 5 clips")
    assert unchecked.startswith("not checked") and "some/body" in unchecked


def test_the_plot_shows_each_step_the_validation_and_the_rate(monkeypatch):
    import matplotlib.figure

    figures, made = [], matplotlib.figure.Figure
    monkeypatch.setattr(
        matplotlib.figure, "Figure", lambda *a, **k: figures.append(made(*a, **k)) or figures[-1]
    )
    rows = [
        {"step": step, "loss/diff": 1 / step, "loss/stop": 0.3, "lr": 2e-5 * step}
        for step in range(1, 21)
    ]
    rows[9] |= {"valid/diff": 0.5, "valid/stop": 0.4}
    assert draw_plot(rows).startswith(b"\x89PNG")
    diff, stop, rate = figures[0].axes
    assert len(diff.lines[0].get_xdata()) == 20
    assert list(diff.lines[-1].get_xydata()[0]) == [10, 0.5]
    assert list(rate.lines[0].get_ydata()) == [row["lr"] for row in rows]
    labels = [tick.get_text() for axes in (diff, stop, rate) for tick in axes.get_yticklabels()]
    assert any(labels) and not any({"e", "$"} & set(label) for label in labels)


def test_clips_are_read_once_to_be_checked_and_once_to_be_encoded(
    released, training_data, tmp_path, monkeypatch
):
    from mlx_voxcpm2.training import manifest

    read, checked = manifest.read_audio, []
    monkeypatch.setattr(
        manifest, "read_audio", lambda path, *more: checked.append(path.name) or read(path, *more)
    )
    flags = arguments(released.folder, training_data, tmp_path / "out", "--max_steps", "3")
    assert run(*flags) == 0
    assert sorted(checked) == [f"{number}.wav" for number in range(5)]


def test_samples_are_generated(released, training_data, tmp_path):
    config = tmp_path / "train.yaml"
    config.write_text(SETTINGS + "sample_interval: 2\nsample_texts: [Hello., 'Yes.']\n")
    flags = arguments(released.folder, training_data, tmp_path / "out", "--max_steps", "3")
    assert run(*flags, "--config", str(config)) == 0
    spoken = sorted(tmp_path.glob("out/samples/*/*.wav"))
    assert [str(path.relative_to(tmp_path / "out" / "samples")) for path in spoken] == [
        f"step_000000{step}/0{number}.wav" for step in (2, 3) for number in (1, 2)
    ]
    assert all(soundfile.info(path).samplerate == 48000 for path in spoken)
    assert soundfile.info(spoken[0]).frames > 7680


def test_a_sample_that_cannot_be_spoken_is_a_warning_and_the_run_goes_on(
    released, training_data, tmp_path, caplog
):
    config = tmp_path / "train.yaml"
    config.write_text(SETTINGS + "sample_interval: 3\nsample_texts: [(laughs), 'Yes.']\n")
    flags = arguments(released.folder, training_data, tmp_path / "out", "--max_steps", "3")
    for _ in range(2):  # the second one resumes
        caplog.clear()
        assert run(*flags, "--config", str(config)) == 0
        assert "no sample step_0000003/01.wav: text is empty" in caplog.text
    spoken = [path.name for path in tmp_path.glob("out/samples/*/*.wav")]
    assert spoken == ["02.wav"]


def test_samples_are_of_the_first_lines_with_words(released, training_data, tmp_path, caplog):
    lines = [json.loads(line) for line in training_data.read_text().splitlines()]
    manifest = training_data.with_name("laughs.jsonl")
    texts = ("(laughs)", "…", "Three.", "(calmly) Four.", "Five.")
    lines = [line | {"text": text} for line, text in zip(lines, texts, strict=True)]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    config = tmp_path / "train.yaml"
    config.write_text(SETTINGS.replace("validation_split: 0.2", "sample_interval: 3"))
    flags = arguments(released.folder, manifest, tmp_path / "out", "--max_steps", "3")
    assert run(*flags, "--config", str(config)) == 0
    assert len(list(tmp_path.glob("out/samples/step_0000003/*.wav"))) == 2
    assert "no sample" not in caplog.text


def test_only_an_adapter_can_be_trained_on_a_quantised_model(
    exchange, training_data, tmp_path, capsys
):
    source = convert(exchange, tmp_path / "quantised", quantize="4bit-dit8")
    # Its patches are short: with a reference a line has more of them than its context.
    lines = [line for line in training_data.read_text().splitlines() if "ref_audio" not in line]
    training_data = training_data.with_name("alone.jsonl")
    training_data.write_text("\n".join(lines))
    output = tmp_path / "out"
    assert run(*arguments(source, training_data, output, "--full")) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "is quantised, and rounded numbers can't be learnt; train an adapter" in line
    assert not list(output.glob("step_*"))
    shutil.rmtree(output)
    assert run(*arguments(source, training_data, output, "--max_steps", "3")) == 0
    model = load_model(source, adapter=output / "latest")
    assert model.adapter.loaded and not model.adapter.skipped


def test_missing_matplotlib_is_a_one_line_error_before_the_run_begins(
    released, training_data, tmp_path, monkeypatch, capsys
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        training, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    assert run(*arguments(released.folder, training_data, tmp_path / "out")) == 2
    said = capsys.readouterr().err
    line = "training needs matplotlib, which is not installed; install 'mlx-voxcpm2[train]'"
    assert said == f"train: {line}\n"
    assert not (tmp_path / "out").exists()
