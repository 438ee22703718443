"""Training steps: updates, memory and reproducibility."""

import gc
import math

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.models.voxcpm2.lora import LoRASettings
from mlx_voxcpm2.training import trainer as module
from mlx_voxcpm2.training.options import TrainingOptions
from mlx_voxcpm2.training.sequences import Example, padding_multiple
from mlx_voxcpm2.training.trainer import Trainer
from mlx_voxcpm2.weights.adapters import add_lora

QUICK = {"precision": "float32", "batch_size": 1, "grad_accum_steps": 1, "warmup_steps": 0}


def example(model, patches: int, seed: int = 0, **changes) -> Example:
    shape = (patches, model.config.patch_size, model.config.feat_dim)
    latents = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return Example([5, 6, 7], latents, **changes)


@pytest.fixture
def adapter_model(released):
    """Model with an adapter to train."""
    mx.random.seed(0)
    model = load_model(released.folder, "float32")
    add_lora(model, LoRASettings(r=4, alpha=4))
    return model


@pytest.fixture
def whole_model(released):
    """Model whose own weights are trained."""
    model = load_model(released.folder, "float32")
    model.audio_vae.freeze()
    return model


def weights(model) -> dict[str, np.ndarray]:
    return {name: np.array(x) for name, x in tree_flatten(model.trainable_parameters())}


def test_the_first_step_is_adams(whole_model):
    """Weights move by the learning rate against the gradient, and decay; frozen ones stay."""
    rate, decay = 1e-3, 0.1
    options = TrainingOptions(**QUICK, max_steps=2, learning_rate=rate, weight_decay=decay)
    before = weights(whole_model)
    vae = dict(tree_flatten(whole_model.audio_vae.parameters()))
    Trainer(whole_model, [example(whole_model, 3)], options).advance()
    after = weights(whole_model)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == np.float32
        moved = np.abs(after[name] - value * (1 - rate * decay))
        assert moved.max() <= rate * 1.001, name
    big = "base_lm.layers.0.self_attn.q_proj.weight"
    assert np.median(np.abs(after[big] - before[big] * (1 - rate * decay))) > 0.9 * rate
    now = dict(tree_flatten(whole_model.audio_vae.parameters()))
    assert all(mx.array_equal(vae[name], now[name]) for name in vae)


def test_the_rate_rises_then_falls_as_a_cosine(adapter_model):
    options = TrainingOptions(**QUICK | {"warmup_steps": 2}, max_steps=6, learning_rate=0.01)
    trainer = Trainer(adapter_model, [example(adapter_model, 2)], options)
    rates = [trainer.advance().learning_rate for _ in range(6)]
    falling = [0.01 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == pytest.approx([0, 0.005, *falling], rel=1e-3)


def test_every_epoch_has_each_example_once_in_another_order(adapter_model):
    examples = [example(adapter_model, patches) for patches in (1, 2, 3, 4, 5)]
    trainer = Trainer(adapter_model, examples, TrainingOptions(**QUICK, max_steps=15))
    targets = [trainer.advance().targets for _ in range(15)]
    passes = [targets[:5], targets[5:10], targets[10:]]
    assert all(sorted(one) == [1, 2, 3, 4, 5] for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_a_large_gradient_is_clipped(adapter_model):
    """The bound does not shorten Adam's first step; the reported norm is that before clipping."""
    norms = []
    for bound in (1e-9, 1e9):
        adapter = {name: mx.array(value) for name, value in weights(adapter_model).items()}
        options = TrainingOptions(**QUICK, max_steps=2, max_grad_norm=bound)
        trainer = Trainer(adapter_model, [example(adapter_model, 3)], options)
        norms.append(trainer.advance().grad_norm)
        first = next(
            iter(trainer.state[name] for name in trainer.state if name.endswith("lora_b.m"))
        )
        assert (mx.abs(first).max() < 1e-9) == (bound < 1)
        adapter_model.load_weights(list(adapter.items()), strict=False)
    assert norms[0] == pytest.approx(norms[1]) and norms[0] > 1e-6


def test_a_bound_of_zero_leaves_the_gradient_as_it_is(adapter_model):
    first = []
    adapter = {name: mx.array(value) for name, value in weights(adapter_model).items()}
    for bound in (0, 1e9):
        options = TrainingOptions(**QUICK, max_steps=2, max_grad_norm=bound)
        trainer = Trainer(adapter_model, [example(adapter_model, 3)], options)
        trainer.advance()
        first.append({name: mx.array(value) for name, value in trainer.state.items()})
        adapter_model.load_weights(list(adapter.items()), strict=False)
    moments = [name for name in first[0] if name.endswith("lora_b.m")]
    assert all(mx.array_equal(first[0][name], first[1][name]) for name in moments)


def test_a_batch_of_prompts_has_no_loss_and_leaves_weights_finite(adapter_model):
    examples = [example(adapter_model, 3, is_prompt=True)]
    step = Trainer(adapter_model, examples, TrainingOptions(**QUICK, max_steps=2)).advance()
    assert (*step.losses.values(), step.grad_norm, step.targets) == (0, 0, 0, 0)
    assert all(np.isfinite(value).all() for value in weights(adapter_model).values())


def test_a_loss_that_is_not_finite_is_a_one_line_error(adapter_model):
    broken = example(adapter_model, 2)
    broken.patches[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"step 1: .*: not finite; begin again with a lower"):
        Trainer(adapter_model, [broken], TrainingOptions(**QUICK, max_steps=2)).advance()


@pytest.mark.slow
def test_compiling_and_dropping_graphs_does_not_change_the_losses(released, monkeypatch):
    told = []
    for is_on, graphs in ((False, 128), (True, 128), (True, 1)):
        monkeypatch.setattr(FUSION, "is_on", is_on)
        monkeypatch.setattr(module, "GRAPHS", graphs)
        mx.random.seed(0)
        model = load_model(released.folder, "float32")
        add_lora(model, LoRASettings(r=4, alpha=4, dropout=0.3))
        examples = [example(model, patches) for patches in (2, 20)]
        trainer = Trainer(model, examples, TrainingOptions(**QUICK, max_steps=4))
        told.append([trainer.advance() for _ in range(4)])
    assert told[1] == told[2]
    for ours, theirs in zip(told[0], told[1], strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)


@pytest.mark.parametrize("kind", ["adapter_model", "whole_model"])
def test_gradient_checkpointing_gives_the_same_updates_with_less_memory(kind, request, released):
    examples = [example(request.getfixturevalue(kind), 440)]
    told, peaks, moved = [], [], []
    for recomputes in (False, True):
        mx.random.seed(0)
        model = load_model(released.folder, "float32")
        if kind == "adapter_model":
            add_lora(model, LoRASettings(r=4, alpha=4))
        else:
            model.audio_vae.freeze()
        options = TrainingOptions(**QUICK, max_steps=2, gradient_checkpointing=recomputes)
        trainer = Trainer(model, examples, options)
        gc.collect()  # garbage of other tests must not be freed meanwhile
        mx.clear_cache()
        mx.reset_peak_memory()
        base = mx.get_active_memory()
        told.append(trainer.advance())
        peaks.append(mx.get_peak_memory() - base)
        moved.append(weights(model))
    assert [*told[1].losses.values(), told[1].grad_norm] == pytest.approx(
        [*told[0].losses.values(), told[0].grad_norm], rel=1e-5
    )
    assert peaks[1] < 0.8 * peaks[0]
    for name, value in moved[0].items():
        # Adam's first step is only the sign of a gradient that is almost zero.
        assert np.quantile(np.abs(value - moved[1][name]), 0.9) < 1e-6, name


def test_an_update_needs_no_second_copy_of_the_weights(whole_model, monkeypatch):
    """Weights, both averages and gradients are four times the model already.

    Only the update is compiled, as a run that is worth it has it: the loss has many more kernels.
    """
    options = TrainingOptions(**QUICK, max_steps=9)
    trainer = Trainer(whole_model, [example(whole_model, 1)], options)
    size = sum(value.nbytes for value in weights(whole_model).values())
    trainer.advance()
    apply, before = trainer._apply, []

    def measured(*arrays: dict) -> tuple:
        mx.reset_peak_memory()
        before.append(mx.get_active_memory())
        with monkeypatch.context() as patch:
            patch.setattr(FUSION, "is_on", True)
            return apply(*arrays)

    monkeypatch.setattr(trainer, "_apply", measured)
    trainer.advance()
    # A copy of all would be three times the size; small arrays need more memory than their size.
    assert mx.get_peak_memory() - before[0] < 2 * size
    assert mx.get_active_memory() < before[0]


def test_an_adapter_trained_in_bfloat16_stays_float32(released):
    model = load_model(released.folder, "bfloat16")
    add_lora(model, LoRASettings(r=4, alpha=4))
    options = TrainingOptions(**QUICK | {"precision": "bfloat16"}, max_steps=2)
    trainer = Trainer(model, [example(model, 3)], options)
    steps = [trainer.advance() for _ in range(2)]
    valid = trainer.validate([example(model, 3), example(model, 4)])
    assert {value.dtype for value in weights(model).values()} == {np.dtype(np.float32)}
    assert (
        np.isfinite([*steps[1].losses.values(), *valid.values()]).all() and steps[1].grad_norm > 0
    )


def test_validation_is_the_mean_over_targets_for_any_batch_size(adapter_model):
    examples = [example(adapter_model, patches, patches) for patches in (1, 4, 6)]
    found = []
    for size in (1, 3):
        options = TrainingOptions(**QUICK | {"batch_size": size}, max_steps=2)
        trainer = Trainer(adapter_model, examples, options)
        found.append(trainer.validate(examples))
        assert found[-1] == trainer.validate(examples)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_more_processes_than_examples_in_a_batch_are_refused(adapter_model):
    class Group:
        def size(self) -> int:
            return 3

    options = TrainingOptions(**QUICK | {"batch_size": 2}, max_steps=2)
    with pytest.raises(ValueError, match="batch_size is 2 for 3 processes; give each an example"):
        Trainer(adapter_model, [example(adapter_model, 3)], options, Group())


def test_lengths_are_padded_to_few_shapes_by_less_than_an_eighth():
    def padded(length: int) -> int:
        multiple = padding_multiple(length)
        return -(-length // multiple) * multiple

    assert len({padded(length) for length in range(64, 4096)}) < 60
    for length in range(65, 4096):
        assert padded(length) < length * 9 / 8


def test_the_warm_up_is_a_tenth_of_a_short_run():
    assert TrainingOptions().warmup == 100
    assert TrainingOptions(max_steps=50).warmup == 5
    assert TrainingOptions(max_steps=1).warmup == 0
    assert TrainingOptions(max_steps=50, warmup_steps=20).warmup == 20
    with pytest.raises(ValueError, match=r"warmup_steps is 50; it must be .*less than max_steps"):
        TrainingOptions(max_steps=50, warmup_steps=50)
