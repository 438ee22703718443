"""VibeVoice computes what Microsoft's package computes; the values are in golden/vibevoice.*."""

import mlx.core as mx
import numpy as np
import pytest
import vibevoice_checkpoints as tiny
from golden.vibevoice_cases import LEVELS, SOLVER_STEPS, TIMES, field, levelled

from mlx_voxcpm2 import vibevoice

MODULES, GENERATION = 1e-5, 1e-5
"""Largest differences from the goldens; a mistake of the least effect makes 2e-5 of the codec."""


@pytest.fixture(autouse=True)
def without_kernels(plain_kernels):
    """Without fused kernels, each of which takes g++ a second."""


def close(ours, theirs, most: float) -> bool:
    """Whether the shapes are equal and no number differs by more than `most`."""
    ours, theirs = np.array(ours, np.float64), np.array(theirs, np.float64)
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() <= most)


def codec_audio(dialogue) -> mx.array:
    hop = tiny.hop(dialogue.variant)
    return mx.array(tiny.sound("codec.audio", 10 * hop)).reshape(2, -1, 1)


def test_the_codec_encodes_and_decodes(dialogue):
    model, golden = dialogue.model, dialogue.golden
    latents = dialogue.given("codec.latents", 2, 5, dialogue.sizes["acoustic"])
    audio = codec_audio(dialogue)
    assert close(model.acoustic_tokenizer.encode(audio), golden["acoustic"], MODULES)
    assert close(model.semantic_tokenizer.encode(audio), golden["semantic"], MODULES)
    assert close(model.acoustic_tokenizer.decode(latents)[..., 0], golden["decoded"], MODULES)


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1), (2, 3), (1, 3, 1)])
def test_chunks_of_a_stream_are_the_whole(dialogue, cuts):
    model, hop = dialogue.model, dialogue.model.hop
    latents = dialogue.given("codec.latents", 2, 5, dialogue.sizes["acoustic"])
    for code, x, size in (
        (model.acoustic_tokenizer.encode, codec_audio(dialogue), hop),
        (model.semantic_tokenizer.encode, codec_audio(dialogue), hop),
        (model.acoustic_tokenizer.decode, latents, 1),
    ):
        state, chunks, end = vibevoice.State(), [], 0
        for count in cuts:
            start, end = end, end + count * size
            chunks.append(code(x[:, start:end], state))
        assert close(mx.concatenate(chunks, axis=1), code(x), 5e-6)


def test_latents_are_drawn_with_one_spread_per_clip(dialogue):
    mean = dialogue.golden["acoustic"]
    std, noise = dialogue.given("codec.std", 2), dialogue.given("codec.noise", *mean.shape)
    assert close(vibevoice.sample_latents(mean, std, noise), dialogue.golden["sampled"], 1e-6)


def test_connectors_and_head(dialogue):
    model, golden, latent = dialogue.model, dialogue.golden, dialogue.sizes["acoustic"]
    latents = dialogue.given("codec.latents", 2, 5, latent)
    acoustic, semantic = golden["connector.acoustic"], golden["connector.semantic"]
    assert close(model.acoustic_connector(latents), acoustic, 3e-6)
    assert close(model.semantic_connector(golden["semantic"]), semantic, 3e-6)
    x, condition = dialogue.given("head.x", 5, latent), dialogue.given("head.condition", 5, 32)
    found = model.prediction_head(x, mx.array(TIMES), condition)
    assert close(found, golden["head"], 2e-6)


def test_the_head_with_fused_projections_is_the_same(dialogue, monkeypatch):
    """As a GPU has it; what was fused is forgotten when a weight is replaced."""
    model, latent = dialogue.model, dialogue.sizes["acoustic"]
    x, condition = dialogue.given("head.x", 5, latent), dialogue.given("head.condition", 5, 32)
    ffn = model.prediction_head.layers[0].ffn
    with monkeypatch.context() as patch:
        patch.setattr("mlx_voxcpm2.layers.kernels.fuses_gate_and_up", lambda: True)
        model.prepare(mx.eval)
    assert len(ffn.project(mx.zeros((1, 32)))) == 1
    assert close(
        model.prediction_head(x, mx.array(TIMES), condition), dialogue.golden["head"], 2e-6
    )
    model.discard_prepared()
    assert len(ffn.project(mx.zeros((1, 32)))) == 2
    model.prepare(mx.eval)


def test_timesteps_of_every_number_of_steps(make_dialogue):
    for count, theirs in make_dialogue("tiny").notes["timesteps"].items():
        assert vibevoice.Solver(int(count)).timesteps == theirs


@pytest.mark.parametrize("count", SOLVER_STEPS)
def test_the_solver_follows_the_path(make_dialogue, count):
    golden = make_dialogue("tiny").golden[f"solver.{count}"]
    start = mx.array(tiny.uniform("solver.x", 3, 7))

    def velocity(x: mx.array, t: int) -> mx.array:
        return mx.array(field(np.array(x), float(t)))

    assert close(mx.stack(vibevoice.Solver(count).path(start, velocity)), golden, 2e-5)


@pytest.mark.parametrize("name", LEVELS)
def test_clips_are_levelled(make_dialogue, name):
    golden = make_dialogue("tiny").golden[f"loudness.{name}"]
    assert close(vibevoice.level(levelled(name)), golden, 1e-6)


def test_voices_are_heard_as_features(dialogue):
    assert close(mx.concatenate(dialogue.features()), dialogue.golden["voices"], MODULES)


def check_chain(dialogue, tag: str, steps) -> None:
    golden, spoken = dialogue.golden, [step for step in steps if step.latent is not None]
    logits, latents = [step.logits for step in steps], [step.latent for step in spoken]
    assert close(mx.stack(logits), golden[f"{tag}.logits"], 2 * GENERATION)
    assert close(mx.stack(latents), golden[f"{tag}.latents"], GENERATION)
    assert close(mx.stack([step.audio for step in spoken]), golden[f"{tag}.audio"], GENERATION)


def test_a_chain_of_several_segments(dialogue):
    forced = dialogue.sizes["forced"]
    steps = dialogue.steps(dialogue.notes[dialogue.variant]["prompt"], dialogue.features(), forced)
    check_chain(dialogue, "forced", steps)


def test_the_model_chooses_its_tokens(dialogue):
    notes = dialogue.notes[dialogue.variant]
    steps = dialogue.steps(notes["prompt"], dialogue.features())
    assert [step.token for step in steps] == notes["free"]
    check_chain(dialogue, "free", steps)
    assert steps[-1].finish_reason == "stop"


def test_without_guidance_there_is_no_negative_branch(dialogue):
    clip, rate = dialogue.voices[0]
    features = dialogue.features([(clip[: 2 * dialogue.model.hop], rate)])
    prompt = dialogue.notes[dialogue.variant]["prompts"][2]
    forced, noise = dialogue.sizes["forced"], dialogue.noise[::-1]
    check_chain(dialogue, "plain", dialogue.steps(prompt, features, forced, 1.0, noise))


def test_generate_speaks_the_steps(dialogue):
    result = dialogue.speak()
    assert close(result.audio, dialogue.golden["free.audio"].reshape(-1), GENERATION)
    assert (result.sample_rate, result.finish_reason) == (24000, "stop")


def losses(dialogue, is_sampled: bool) -> vibevoice.Losses:
    frames, latent = 3, dialogue.sizes["acoustic"]
    target = tiny.sound("train.target", frames * dialogue.model.hop)
    clips = [clip for clip, _ in dialogue.voices]
    most = max(len(features) for features in [*dialogue.features(), range(frames)])
    sample = dialogue.given("train.std", 3), dialogue.given("train.spread", 3, most, latent)
    return dialogue.model.loss(
        dialogue.notes[dialogue.variant]["prompt"],
        clips,
        target,
        noise=dialogue.given("train.noise", 4 * frames, latent),
        timesteps=mx.array(np.random.RandomState(5).randint(0, 1000, 4 * frames)),
        sample=sample if is_sampled else None,
    )


@pytest.mark.parametrize(("tag", "is_sampled"), [("train", False), ("train.sampled", True)])
def test_losses_of_training(dialogue, tag, is_sampled):
    found, golden = losses(dialogue, is_sampled), dialogue.golden
    assert close(found.diffusion, golden[f"{tag}.diffusion"], 3e-6)
    assert close(found.cross_entropy, golden[f"{tag}.cross_entropy"], 3e-5)
    assert close(found.target, golden[f"{tag}.target"], 3e-5)
