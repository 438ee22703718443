"""Every module against the official package, in float32, for each kind of configuration."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import parameters, relative_error
from mlx.utils import tree_unflatten

from mlx_voxcpm2.models.voxcpm2.flow import Schedule

MODULE_ERROR = 1e-5


def test_language_models_give_the_official_hidden_states(case):
    hidden = case.config["lm_config"]["hidden_size"]
    for name in ("base_lm", "residual_lm"):
        ours = getattr(case.model, name)(case.given(name, 1, 20, hidden))[0]
        assert relative_error(ours, case.golden[name]) < MODULE_ERROR, name


@pytest.mark.parametrize(
    ("variant", "length"), [("released", 300), ("long_rope", 300), ("long_rope", 1100)]
)
def test_far_positions_are_rotated_as_upstream_rotates_them(make_case, variant, length):
    case = make_case(variant)
    name = f"base_lm.{length}"
    x = case.given(name, 1, length, case.config["lm_config"]["hidden_size"])
    assert relative_error(case.model.base_lm(x)[0, -2:], case.golden[name]) < MODULE_ERROR


def test_a_step_over_the_cache_equals_the_whole_sequence(case):
    """Chunks, one of them longer than a block of the cache."""
    for stack in (case.model.base_lm, case.model.residual_lm):
        x = case.given("cache", 1, 280, case.config["lm_config"]["hidden_size"])
        cache, chunks = stack.make_cache(), []
        for start, end in ((0, 5), (5, 6), (6, 7), (7, 270), (270, 271), (271, 280)):
            chunks.append(stack(x[:, start:end], cache))
        assert relative_error(mx.concatenate(chunks, axis=1), stack(x)) < 1e-6


def test_local_encoder_gives_the_official_embeddings(case):
    patch, latents = case.config["patch_size"], case.config["feat_dim"]
    ours = case.model.feat_encoder(case.given("feat_encoder", 1, 3, patch, latents))[0]
    assert relative_error(ours, case.golden["feat_encoder"]) < MODULE_ERROR


@pytest.mark.parametrize(("name", "dt"), [("estimator", 0.0), ("estimator.dt", 0.21)])
def test_local_dit_gives_the_official_velocity(case, name, dt):
    patch, latents = case.config["patch_size"], case.config["feat_dim"]
    ours = case.model.feat_decoder.estimator(
        case.given("estimator.x", 1, patch, latents),
        case.given("estimator.mu", 2, case.config["dit_config"]["hidden_dim"]).reshape(1, -1),
        mx.array([0.37]),
        case.given("estimator.cond", 1, patch, latents),
        mx.array([dt]),
    )
    assert relative_error(ours[0], case.golden[name]) < MODULE_ERROR


@pytest.mark.parametrize(
    ("steps", "cfg_value", "temperature"), [(10, 2.0, 1.0), (26, 1.3, 0.7), (60, 1.3, 0.7)]
)
def test_the_solver_ends_where_the_official_one_does(case, steps, cfg_value, temperature):
    patch, latents = case.config["patch_size"], case.config["feat_dim"]
    decoder, schedule = case.model.feat_decoder, Schedule.sway(steps)
    ours = decoder(
        case.given("solve.mu", 2, case.config["dit_config"]["hidden_dim"])[None],
        case.given("solve.cond", 1, patch, latents),
        case.given("solve.noise", 1, patch, latents) * temperature,
        schedule,
        decoder.time_tokens(schedule),
        cfg_value,
    )
    assert relative_error(ours[0], case.golden[f"solve.{steps}"]) < MODULE_ERROR


@pytest.mark.parametrize(("steps", "zero"), [(1, 1), (10, 1), (48, 1), (49, 2), (99, 4)])
def test_the_first_steps_have_no_velocity(steps, zero):
    """A twenty-fifth of the grid's points, and one at least (upstream's `solve_euler`)."""
    schedule = Schedule.sway(steps)
    assert schedule.zero_steps == zero
    assert len(schedule.times) == len(schedule.sizes) == steps
    assert sum(schedule.sizes) == pytest.approx(1, abs=1e-6)


def test_scalar_quantisation_and_stop_head_are_the_official_ones(case):
    hidden = case.config["lm_config"]["hidden_size"]
    ours = case.model.fsq_layer(case.given("fsq_layer", 1, 8, hidden))[0]
    assert relative_error(ours, case.golden["fsq_layer"]) < MODULE_ERROR
    ours = case.model.stop_logits(case.given("stop", 20, hidden))
    assert relative_error(ours, case.golden["stop"]) < MODULE_ERROR


def test_recorded_audio_becomes_the_official_latents(case):
    for pad in ("left", "right"):
        ours = case.model.encode_audio(case.waveform("own"), pad)
        assert relative_error(ours, case.golden[f"vae.encode.{pad}"]) < MODULE_ERROR


@pytest.mark.parametrize("name", ["ref", "prompt", "short", "whole", "stereo"])
def test_audio_of_other_rates_and_lengths_becomes_the_official_latents(case, name):
    for pad in ("left", "right"):
        key = f"encode.{name}.{pad}"
        ours = case.model.encode_audio(case.waveform(name), pad)
        assert relative_error(ours, case.golden[key]) < MODULE_ERROR, key


def latents_for(case, name, length):
    """Golden latents come without patches, (L, D); `decode_latents` takes (N, P, D)."""
    return case.given(name, length, case.config["feat_dim"])[:, None]


def test_latents_become_the_official_audio(case):
    ours = case.model.decode_latents(latents_for(case, "vae.decode", 6))
    assert relative_error(ours, case.golden["vae.decode"]) < MODULE_ERROR


def test_sample_rates_condition_the_audio_as_upstream_does(case):
    """On a boundary, just above it, and elsewhere."""
    rates = [int(key.split(".")[-1]) for key in case.golden if key.startswith("vae.decode.")]
    assert bool(rates) == bool(case.config["audio_vae_config"]["sr_bin_boundaries"])
    latents = latents_for(case, "vae.decode.rates", 2)
    for rate in rates:
        ours = case.model.decode_latents(latents, rate)
        assert relative_error(ours, case.golden[f"vae.decode.{rate}"]) < MODULE_ERROR, rate


def test_chunks_of_latents_give_the_samples_of_the_whole(case):
    latents = case.given("stream", 1, 23, case.config["feat_dim"])
    whole = case.model.audio_vae.decode(latents)
    for sizes in ([1] * 23, [4] * 5 + [3], [20, 1, 2]):
        cache, chunks, start = case.model.audio_vae.make_cache(), [], 0
        for size in sizes:
            chunks.append(
                case.model.audio_vae.decode(latents[:, start : start + size], cache=cache)
            )
            start += size
        assert relative_error(mx.concatenate(chunks, axis=1), whole) < 1e-5


def test_fused_projections_are_the_separate_ones(case, as_on_a_gpu):
    """They share memory with the layers, whose names and values stay."""
    layer = as_on_a_gpu(case).base_lm.layers[0]
    x = case.given("joined", 1, 5, case.config["lm_config"]["hidden_size"])
    for part, names in (
        (layer.self_attn, ("q_proj", "k_proj", "v_proj")),
        (layer.mlp, ("gate_proj", "up_proj")),
    ):
        separate = mx.concatenate([part[name](x) for name in names], axis=-1)
        assert relative_error(part.fused()(x), separate) < 1e-6


def test_fused_gate_and_up_give_the_official_hidden_states(case, as_on_a_gpu):
    hidden = case.config["lm_config"]["hidden_size"]
    ours = as_on_a_gpu(case).base_lm(case.given("base_lm", 1, 20, hidden))[0]
    assert relative_error(ours, case.golden["base_lm"]) < MODULE_ERROR


def test_query_heads_stacked_or_not_give_the_official_embeddings(case, monkeypatch):
    patch, latents = case.config["patch_size"], case.config["feat_dim"]
    patches = case.given("feat_encoder", 1, 3, patch, latents)
    stacks = "mlx_voxcpm2.layers.kernels.stacks_query_heads"
    for stacked in (True, False):
        monkeypatch.setattr(stacks, lambda *_, stacked=stacked: stacked)
        ours = case.model.feat_encoder(patches)[0]
        assert relative_error(ours, case.golden["feat_encoder"]) < MODULE_ERROR


def assert_follows_its_weights(model, path: str, compute, prepare: bool) -> None:
    """Whether what `compute` gives changes with the parameter at `path`, and back again.

    prepare: whether the model is prepared anew for each of its weights.
    """
    before = compute()
    value = parameters(model)[path]
    for wanted in (value * 2, value):
        model.update(tree_unflatten([(path, wanted)]))
        if prepare or wanted is value:
            model.prepare(mx.eval)
        assert (relative_error(compute(), before) > 1e-3) == (wanted is not value), path
    assert mx.array_equal(compute(), before), path


@pytest.mark.parametrize("prepare", [False, True])
def test_replaced_weights_are_used_though_the_old_ones_were_fused(case, as_on_a_gpu, prepare):
    model = as_on_a_gpu(case)
    x = case.given("x", 1, 5, case.config["lm_config"]["hidden_size"])
    for name in ("self_attn.v_proj", "mlp.up_proj"):
        path = f"base_lm.layers.0.{name}.weight"
        assert_follows_its_weights(model, path, lambda: model.base_lm(x), prepare)


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("path", ["self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"])
def test_the_compiled_solver_uses_replaced_weights(released, as_on_a_gpu, path, prepare):
    model, schedule = as_on_a_gpu(released), Schedule.sway(4)
    arguments = (
        released.given("solve.mu", 1, 2, 56),
        released.given("solve.cond", 1, 4, 16),
        released.given("solve.noise", 1, 4, 16),
        schedule,
        model.feat_decoder.time_tokens(schedule),
        2.0,
    )
    assert model.feat_decoder.estimator.decoder.layers[0].mlp.fused is not None
    path = f"feat_decoder.estimator.decoder.layers.0.{path}.weight"
    assert_follows_its_weights(model, path, lambda: model.feat_decoder(*arguments), prepare)


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "decoder.model.8.alpha",
        "decoder.model.2.block.2.block.3.bias",
        "decoder.model.2.block.3.block.1.weight",
        "decoder.sr_cond_model.2.bias_embed.weight",
    ],
)
def test_the_compiled_stream_of_audio_uses_replaced_weights(released, as_on_a_gpu, path, prepare):
    model = as_on_a_gpu(released)
    patch = released.given("patch", 1, 1, 4, 16)[0]

    def audio() -> mx.array:
        cache, chunks = model.audio_vae.make_cache(), []
        for _ in range(3):
            chunks.append(model.audio_vae.decode(patch, cache=cache))
            mx.eval(chunks)  # as in generation: one chunk is computed before the next is compiled
        whole = model.audio_vae.decode(mx.tile(patch, (1, 3, 1)))  # which is not compiled
        assert relative_error(mx.concatenate(chunks, axis=1), whole) < 1e-5
        return mx.concatenate(chunks)

    assert_follows_its_weights(model, f"audio_vae.{path}", audio, prepare)


@pytest.mark.parametrize("prepare", [False, True])
def test_the_compiled_local_encoder_uses_replaced_weights(released, as_on_a_gpu, prepare):
    model, patch = as_on_a_gpu(released), released.given("patch", 1, 1, 4, 16)
    path = "feat_encoder.in_proj.weight"
    assert_follows_its_weights(model, path, lambda: model.feat_encoder(patch), prepare)


def test_every_way_to_replace_a_weight_discards_what_was_computed_of_it(released, as_on_a_gpu):
    def is_prepared(model) -> bool:
        return model.base_lm.layers[0].mlp.fused is not None

    for replace in (
        lambda model: model.load_weights(list(parameters(model).items())),
        lambda model: model.apply(lambda value: value),
        lambda model: model.update(model.parameters()),
        lambda model: nn.quantize(
            model, 32, class_predicate=lambda path, _: path == "base_lm.embed_tokens"
        ),
    ):
        model = as_on_a_gpu(released)
        assert is_prepared(model)
        replace(model)
        assert not is_prepared(model)


def test_both_rotations_are_the_same(case):
    """`mx.fast.rope` is used on a GPU only, and computes its angles in another order."""
    rope = case.model.base_lm.rope
    x = case.given("rope", 1, 2, 40, rope.size)
    other = mx.fast.rope(
        x, rope.size, traditional=False, base=None, scale=1.0, offset=7, freqs=rope.periods
    )
    assert relative_error(rope(x, 7), other) < 1e-5


def test_chunks_of_a_clip_are_the_whole(case):
    """Encoded and decoded a few patches at a time, in memory that does not grow with the clip."""
    model, vae = case.model, case.model.audio_vae
    samples = 19 * case.config["patch_size"] * vae.config.encoder_hop
    sound = case.given("pieces", samples) * 0.3
    patches = model.encode_audio((np.array(sound), vae.config.sample_rate))
    whole = vae.encode(sound[None])
    assert relative_error(patches.reshape(whole.shape), whole) < 1e-5
    spoken = vae.decode(whole)[0]
    assert relative_error(model.decode_latents(patches), spoken) < 1e-5


def test_the_length_of_a_clip_costs_no_memory(released):
    model, peaks = released.model, []
    for seconds in (3, 3, 12):
        sound = np.zeros(seconds * 16000, np.float32)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        patches = model.encode_audio((sound, 16000))
        model.decode_latents(patches)
        peaks.append(mx.get_peak_memory() - before)
    # What is returned grows: 4 bytes for each sample.
    assert peaks[2] < peaks[1] + 3 * 12 * 48000 * 4
