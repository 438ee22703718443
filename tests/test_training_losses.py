"""Batches, losses and gradients of training equal the official package's."""

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import GOLDEN, relative_error
from golden import training_cases
from mlx.utils import tree_flatten

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.models.voxcpm2.lora import LoRASettings
from mlx_voxcpm2.training.losses import Draws, losses
from mlx_voxcpm2.training.sequences import Example, Sequences
from mlx_voxcpm2.weights.adapters import add_lora

TOLERANCE = 1e-4


class Batch:
    """Inputs and results of the official package."""

    def __init__(self, variant: str):
        self.golden = {
            name: np.array(value)
            for name, value in mx.load(str(GOLDEN / f"training.{variant}.safetensors")).items()
        }
        rows = training_cases.examples(variant, int(self.golden["attempt"]))
        self.examples = [Example(**row) for row in rows]
        self.is_target = self.golden["packed.loss_mask"].reshape(-1) == 1

    def packed(self, name: str) -> np.ndarray:
        return self.golden[f"packed.{name}"]

    def draws(self, length: int = 0) -> Draws:
        """The official draws at targets; the padding's do not matter."""

        def chosen(name: str) -> mx.array:
            values = self.golden[f"draws.{name}"]
            others = values[~self.is_target][: max(0, length - self.is_target.sum())]
            return mx.array(np.concatenate([values[self.is_target], others]))

        return Draws(chosen("times"), chosen("noise"), chosen("keep"))


@pytest.fixture(params=training_cases.VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture
def batch(variant) -> Batch:
    return Batch(variant)


@pytest.fixture
def training_model(variant, make_case):
    """A model in training mode, with the VAE frozen."""
    model = load_model(make_case(variant).folder, dtype="float32").train()
    model.audio_vae.freeze()
    return model


def of_targets(draws: Draws, part: slice) -> Draws:
    return Draws(draws.times[part], draws.noise[part], draws.keep[part])


def losses_and_gradients(model, sequences: Sequences, draws: Draws, count: int | None = None):
    """Losses of the patches and of the stop head, and the gradients of their sum by name."""

    def total(model):
        diff, stop = losses(model, sequences, draws, count)
        return diff + stop, diff, stop

    (_, diff, stop), gradients = nn.value_and_grad(model, total)(model)
    return diff.item(), stop.item(), dict(tree_flatten(gradients))


def assert_matches_golden(golden: dict, kind: str, diff: float, stop: float, gradients: dict):
    """Compare losses and gradients with all golden values whose names begin with `kind`."""
    assert diff == pytest.approx(float(golden[f"{kind}.diff"]), rel=TOLERANCE)
    assert stop == pytest.approx(float(golden[f"{kind}.stop"]), rel=TOLERANCE)
    prefix = f"{kind}.gradient."
    wanted = {name[len(prefix) :]: golden[name] for name in golden if name.startswith(prefix)}
    assert gradients.keys() == wanted.keys()
    for name, theirs in wanted.items():
        ours = training_cases.excerpt(name, np.array(gradients[name]))
        assert ours[0] == pytest.approx(theirs[0], rel=TOLERANCE), name
        assert relative_error(ours[1:], theirs[1:]) < TOLERANCE, name


def assert_same(ours: dict, theirs: dict):
    """Compare gradients, some of which may be zero."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        difference = mx.linalg.norm(ours[name] - theirs[name])
        assert (difference <= TOLERANCE * mx.linalg.norm(theirs[name])).item(), name


def test_rows_equal_those_of_the_official_packer(batch):
    made, feats = Sequences.of(batch.examples), batch.packed("audio_feats")
    is_audio = batch.packed("audio_mask") == 1
    assert np.array_equal(made.tokens, batch.packed("text_tokens"))
    assert np.array_equal(made.is_audio, is_audio)
    assert np.array_equal(made.patches, feats[is_audio])
    lengths = (batch.packed("text_mask") + is_audio).sum(axis=1)
    assert [example.positions for example in batch.examples] == lengths.tolist()


def test_targets_equal_those_of_the_official_packer(batch):
    made, feats = Sequences.of(batch.examples), batch.packed("audio_feats")
    (places,) = np.nonzero(batch.is_target)
    assert np.array_equal(made.targets, places)
    assert np.array_equal(made.is_last, batch.packed("labels").reshape(-1)[places])
    assert np.array_equal(made.weights, np.ones(len(places)))
    trained = batch.packed("loss_mask").sum(axis=1)
    assert [example.targets for example in batch.examples] == trained.tolist()
    flat = feats.reshape(-1, *feats.shape[2:])
    patches, before = np.array(made.patches), np.array(made.previous_patch)
    assert np.array_equal(patches[np.array(made.target_patch)], flat[places])
    # There are zeros at text, in upstream's rows.
    earlier = np.where((before < 0)[:, None, None], 0, patches[before])
    assert np.array_equal(earlier, flat[places - 1])


@pytest.mark.parametrize("multiple", [1, 8])
def test_losses_and_gradients_are_the_official_ones(training_model, batch, multiple):
    """Padding of rows, patches and targets does not change them."""
    sequences = Sequences.of(batch.examples, multiple)
    trained = losses_and_gradients(training_model, sequences, batch.draws(len(sequences.targets)))
    assert_matches_golden(batch.golden, "plain", *trained)


def test_losses_and_gradients_of_an_adapter_are_the_official_ones(training_model, batch, variant):
    """mlx-lm stores both factors transposed."""
    rank, alpha = training_cases.RANK, training_cases.ALPHA
    add_lora(training_model, LoRASettings(enable_proj=True, r=rank, alpha=alpha))
    sides = {"lora_A": "lora_a", "lora_B": "lora_b"}
    weights = {}
    for name, value in training_cases.adapter(variant).items():
        layer, _, side = name.rpartition(".")
        weights[f"{layer}.{sides[side]}"] = mx.array(value.T)
    trained = dict(tree_flatten(training_model.trainable_parameters()))
    assert {name: value.shape for name, value in trained.items()} == {
        name: value.shape for name, value in weights.items()
    }
    training_model.load_weights(list(weights.items()), strict=False)
    diff, stop, gradients = losses_and_gradients(
        training_model, Sequences.of(batch.examples), batch.draws()
    )
    transposed = {}
    for name, value in gradients.items():
        layer, _, side = name.rpartition(".")
        transposed[f"{layer}.{side[:-1]}{side[-1].upper()}"] = value.T
    assert_matches_golden(batch.golden, "adapted", diff, stop, transposed)


@pytest.mark.parametrize("variant", ["released"], indirect=True)
def test_a_longer_row_in_the_batch_does_not_change_a_row(training_model, batch):
    """The batch's losses and gradients are the sums of those of its rows alone."""
    longer = replace(batch.examples[1], tokens=list(range(200, 240)))
    rows, draws = [batch.examples[0], longer], batch.draws()
    middle, end = rows[0].targets, rows[0].targets + rows[1].targets
    alone = [
        losses_and_gradients(
            training_model, Sequences.of([row]), of_targets(draws, part), count=end
        )
        for row, part in zip(rows, (slice(middle), slice(middle, end)), strict=True)
    ]
    diff, stop, gradients = losses_and_gradients(
        training_model, Sequences.of(rows), of_targets(draws, slice(end))
    )
    assert diff == pytest.approx(sum(part[0] for part in alone), rel=TOLERANCE)
    assert stop == pytest.approx(sum(part[1] for part in alone), rel=TOLERANCE)
    added = {name: alone[0][2][name] + alone[1][2][name] for name in gradients}
    assert_same(gradients, added)


@pytest.mark.parametrize("variant", ["released"], indirect=True)
def test_speech_of_one_patch_can_be_trained_on(training_model, batch):
    """Padding does not change it, and the encoder, compiled for one patch, still works."""
    row, draws = replace(batch.examples[0], patches=batch.examples[0].patches[:1]), batch.draws()
    one = mx.array(row.patches)[None]
    before = training_model.embed_patches(one)
    padded = Sequences.of([row], 2)
    diff, stop, gradients = losses_and_gradients(
        training_model, Sequences.of([row]), of_targets(draws, slice(1))
    )
    more = losses_and_gradients(
        training_model, padded, of_targets(draws, slice(len(padded.targets)))
    )
    assert (diff, stop) == pytest.approx(more[:2], rel=TOLERANCE)
    assert_same(gradients, more[2])
    assert relative_error(training_model.embed_patches(one), before) < TOLERANCE


@pytest.mark.parametrize("variant", ["released"], indirect=True)
@pytest.mark.parametrize("multiple", [1, 8])
def test_prompts_alone_have_no_loss_and_no_gradient(training_model, batch, multiple):
    prompt = batch.examples[2]
    assert prompt.is_prompt
    sequences = Sequences.of([prompt], multiple)
    size, length = prompt.patches.shape[1:], len(sequences.targets)
    draws = Draws.random([np.random.default_rng(0)], [0], size, padded_length=length)
    diff, stop, gradients = losses_and_gradients(training_model, sequences, draws)
    assert (diff, stop) == (0, 0)
    assert not any(mx.any(gradient != 0).item() for gradient in gradients.values())


@pytest.mark.parametrize("variant", ["released"], indirect=True)
def test_gradients_do_not_depend_on_an_earlier_step(training_model, batch):
    """Weights replaced by training are used, and afterwards the model speaks with its own."""
    sequences, draws = Sequences.of(batch.examples), batch.draws()
    before = losses_and_gradients(training_model, sequences, draws)
    weights = dict(tree_flatten(training_model.trainable_parameters()))
    moved = [(name, weight * 1.1) for name, weight in weights.items()]
    training_model.load_weights(moved, strict=False)
    other = losses_and_gradients(training_model, sequences, draws)
    assert abs(other[0] - before[0]) > 1e-3 * before[0]
    training_model.load_weights(list(weights.items()), strict=False)
    after = losses_and_gradients(training_model, sequences, draws)
    assert after[:2] == pytest.approx(before[:2], rel=1e-6)
    assert_same(after[2], before[2])


def test_random_draws_have_upstreams_distributions():
    """Times are sigmoid(N(-0.4, 1)), noise is normal, and a tenth of the targets has no mu."""
    draws = Draws.random([np.random.default_rng(0)], [20_000], (2, 3))
    times = np.array(draws.times, np.float64)
    logits = np.log(times / (1 - times))
    assert logits.mean() == pytest.approx(-0.4, abs=0.03)
    assert logits.std() == pytest.approx(1, abs=0.03)
    assert np.array(draws.noise).mean() == pytest.approx(0, abs=0.02)
    assert np.array(draws.noise).std() == pytest.approx(1, abs=0.02)
    assert 1 - np.array(draws.keep).mean() == pytest.approx(0.1, abs=0.01)
    assert set(np.array(draws.keep).tolist()) == {0.0, 1.0}


def test_times_have_the_distribution_in_the_config():
    draws = Draws.random([np.random.default_rng(0)], [20_000], (2, 3), t_scheduler="uniform")
    times = np.sort(np.array(draws.times, np.float64))
    assert np.abs(times - np.linspace(0, 1, 20_000)).max() < 0.02


def test_the_random_draws_of_a_row_do_not_depend_on_other_rows():
    """Neither do they depend on the length of the padding."""
    counts, shape = [3, 5, 2], (4, 6)

    def draw(rows: list[int], length: int | None = None) -> list[np.ndarray]:
        generators = [np.random.default_rng(row) for row in rows]
        drawn = Draws.random(generators, [counts[row] for row in rows], shape, 0.5, length)
        return [np.array(drawn.times), np.array(drawn.noise), np.array(drawn.keep)]

    together, padded = draw([0, 1, 2]), draw([2, 1], length=16)
    for whole, more, alone in zip(together, padded, draw([1]), strict=True):
        assert len(alone) == 5 and len(more) == 16
        assert np.array_equal(whole[3:8], alone)
        assert np.array_equal(more[2:7], alone)
