"""LoRA adapters on a model: attached, scaled, fused and detached."""

import json
import logging
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import GOLDEN, parameters, relative_error, same
from golden.cases import ADAPTER_ALPHAS
from golden.make_adapter import values
from mlx.utils import tree_flatten

from mlx_voxcpm2 import GenerationOptions, load_model
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.models.voxcpm2.lora import LoRASettings
from mlx_voxcpm2.models.voxcpm2.network import VoxCPM2Model
from mlx_voxcpm2.weights.adapter_files import read_adapter, save_adapter
from mlx_voxcpm2.weights.adapters import add_lora, lora_tensors

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from graph_nodes import count_nodes

OFFICIAL, OURS = GOLDEN / "adapters" / "official", GOLDEN / "adapters" / "ours"
MODULE_ERROR, LATENT_ERROR = 1e-5, 1e-4
SPEAK = {"seed": 1, "min_tokens": 3, "max_tokens": 3, "inference_timesteps": 3}


@pytest.fixture
def model(released):
    """A float32 model for one test."""
    return load_model(released.folder, dtype="float32")


@pytest.fixture(scope="module")
def golden() -> dict[str, mx.array]:
    return dict(mx.load(str(GOLDEN / "adapters" / "official.safetensors")))


@pytest.fixture(scope="module")
def wide_adapter(exchange, tmp_path_factory) -> Path:
    """One for the checkpoint whose layers can all be quantised."""
    return written_for(load_model(exchange), tmp_path_factory.mktemp("wide") / "adapter")


def written_for(model: VoxCPM2Model, folder: Path, **settings) -> Path:
    """A random adapter's folder."""
    chosen = LoRASettings(**{"r": 4, "alpha": 4, "enable_proj": True, **settings})
    mx.random.seed(3)
    for layer in add_lora(model, chosen).layers.values():
        layer.lora_b = mx.random.uniform(-0.3, 0.3, layer.lora_b.shape)
    return save_adapter(folder, lora_tensors(model), chosen)


def with_alpha(alpha: int, folder: Path) -> Path:
    """The official adapter, as if trained with another alpha."""
    shutil.copytree(OFFICIAL, folder)
    data = json.loads((folder / "lora_config.json").read_text())
    data["lora_config"]["alpha"] = alpha
    (folder / "lora_config.json").write_text(json.dumps(data))
    return folder


def latents(model, golden: dict[str, mx.array], alpha: int = 4) -> mx.array:
    """Latents of speech from the official package's noise."""
    noise = golden[f"{alpha}.noise"]
    options = GenerationOptions(2.0, 8, len(noise), len(noise))
    return mx.stack(list(model.generate_patches("Hello.", options=options, noise=noise)))


def everything(model) -> dict[str, mx.array]:
    """Hidden states, a velocity and, through the compiled solver, sound."""
    (result,) = model.generate("Hello.", **SPEAK)
    return {**values(model), "sound": result.audio}


def near(model, golden: dict[str, mx.array], alpha: int) -> None:
    for name, value in values(model).items():
        assert relative_error(value, golden[f"{alpha}.{name}"]) < MODULE_ERROR, name
    assert relative_error(latents(model, golden, alpha), golden[f"{alpha}.latents"]) < LATENT_ERROR


@pytest.mark.parametrize("alpha", ADAPTER_ALPHAS)
def test_an_official_adapter_gives_what_it_gives_there(alpha, released, golden, tmp_path):
    adapter = with_alpha(alpha, tmp_path / "adapter")
    model = load_model(released.folder, dtype="float32", adapter=adapter)
    near(model, golden, alpha)
    assert model.adapter.strength == 1 and model.adapter.trained_scale == alpha / 4
    assert model.adapter.loaded == 64 and not model.adapter.skipped
    for name, value in values(released.model).items():
        assert relative_error(value, golden[f"{alpha}.{name}"]) > 0.01, name


@pytest.mark.slow
@pytest.mark.usefixtures("kernels")
def test_strength_multiplies_what_was_trained(model, golden):
    """Also after the solver was compiled with another one."""
    model.load_adapter(OFFICIAL)
    near(model, golden, 4)
    model.set_adapter_strength(7 / 4)
    near(model, golden, 7)
    model.set_adapter_strength(1)
    near(model, golden, 4)


def test_a_strength_can_be_given_at_once(released, golden, tmp_path):
    model = load_model(released.folder, "float32", adapter=OFFICIAL, adapter_strength=7 / 4)
    near(model, golden, 7)
    assert model.adapter.strength == 7 / 4
    minus, plus = -1, with_alpha(1, tmp_path / "weak")
    model.load_adapter(plus, 4 * minus)
    weakened = values(model)
    model.load_adapter(OFFICIAL, minus)
    for name, value in values(model).items():
        assert relative_error(weakened[name], value) < 1e-6, name


@pytest.mark.parametrize("quantize", [None, "8bit"])
def test_strength_0_and_no_adapter_are_the_base_to_the_last_bit(exchange, wide_adapter, quantize):
    model = load_model(exchange, quantize=quantize)
    base = {**parameters(model), **everything(model)}
    attention = model.base_lm.layers[0].self_attn
    assert attention.fused is not None
    model.load_adapter(wide_adapter)
    assert attention.fused is None
    changed = everything(model)
    assert all(relative_error(changed[name], base[name]) > 0.01 for name in changed)
    model.set_adapter_strength(0)
    assert attention.fused is not None and type(attention.o_proj) is type(attention.q_proj)
    assert same({**parameters(model), **everything(model)}, base)
    model.set_adapter_strength(1)
    assert same(everything(model), changed)
    model.remove_adapter()
    assert same({**parameters(model), **everything(model)}, base)
    model.remove_adapter()
    model.load_adapter(wide_adapter, 0)
    assert same({**parameters(model), **everything(model)}, base)


def test_another_adapter_takes_the_place_of_the_one_before(model):
    """The second one changes fewer layers; the others become the base's again."""
    alone = everything(load_model_with(model, OURS))
    model.load_adapter(OFFICIAL)
    report = model.load_adapter(OURS)
    assert same(everything(model), alone)
    assert report is model.adapter and report.loaded == 48


def load_model_with(model, adapter: Path):
    model.load_adapter(adapter)
    return model


def test_an_adapter_that_does_not_fit_leaves_the_one_before(model, tmp_path):
    model.load_adapter(OFFICIAL)
    before = everything(model)
    shutil.copytree(OFFICIAL, tmp_path / "other")
    mx.save_safetensors(
        str(tmp_path / "other" / "lora_weights.safetensors"), {"x.lora_A": mx.ones((4, 4))}
    )
    with pytest.raises(ValueError, match=r"no tensor fits this model \(x.lora_A: the model has no"):
        model.load_adapter(tmp_path / "other")
    assert same(everything(model), before)


def test_on_a_quantised_base_the_adapter_stays_what_it_is(exchange, wide_adapter):
    """The reference is a model with the dequantised weights, for several numbers of bits."""
    for recipe in ("4bit-dit8", "6bit", "mxfp4"):
        model = load_model(exchange, "float32", quantize=recipe, adapter=wide_adapter)
        ours = values(model)
        plain = load_model(exchange, "float32", quantize=recipe)
        for _, module in plain.named_modules():
            for name, layer in module.children().items():
                if isinstance(layer, nn.QuantizedLinear):
                    module[name] = dequantised(layer)
        quantised = values(plain)
        plain.load_adapter(wide_adapter)
        for name, value in values(plain).items():
            assert relative_error(ours[name], value) < MODULE_ERROR, (recipe, name)
            assert relative_error(quantised[name], value) > 0.01, (recipe, name)


def dequantised(layer: nn.QuantizedLinear) -> nn.Linear:
    weight = mx.dequantize(
        layer.weight, layer.scales, layer.get("biases"), layer.group_size, layer.bits, layer.mode
    )
    plain = nn.Linear(*weight.shape[::-1], bias=False)
    plain.weight = weight.astype(mx.float32)
    return plain


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_no_weight_of_the_base_is_cast(released, dtype):
    """mlx-lm's layers compute in float32 with the adapter, but not with the base."""
    model = load_model(released.folder, dtype, adapter=OFFICIAL)
    weights = {name: x for name, x in parameters(model).items() if ".lora_" not in name}
    x = released.given("base_lm", 1, 20, 64).astype(model.dtype)
    hidden = model.base_lm(x)
    patch = released.given("estimator.x", 1, 4, 16).astype(model.dtype)
    time = mx.array([0.37])
    mu = released.given("estimator.mu", 1, 112).astype(model.dtype)
    slope = model.feat_decoder.estimator(patch, mu, time, patch, time)
    assert hidden.dtype == slope.dtype == model.dtype
    counts = count_nodes([hidden, slope], weights)
    assert counts["casts"] and not [name for name in counts if name.startswith("weight ")]


@pytest.mark.parametrize("as_gpu", [False, True])
def test_fused_it_is_the_same_and_costs_nothing(released, as_on_a_gpu, golden, as_gpu):
    model = as_on_a_gpu(released) if as_gpu else load_model(released.folder, "float32")
    names = parameters(model).keys()
    near(load_model_with(model, OFFICIAL), golden, 4)
    model.set_adapter_strength(7 / 4)
    model.fuse_adapter()
    near(model, golden, 7)
    assert model.adapter is None and parameters(model).keys() == names
    layer = model.base_lm.layers[0]
    assert layer.self_attn.fused is not None and (layer.mlp.fused is not None) == as_gpu


def test_fusing_rounds_once_and_keeps_the_type(released):
    """The result is the nearest bfloat16 to the sum, within half a unit in the last place."""
    model, tensors = load_model(released.folder, "bfloat16"), read_adapter(OFFICIAL).tensors
    base = parameters(model)
    model.load_adapter(OFFICIAL, 0.5)
    model.fuse_adapter()
    for name, value in parameters(model).items():
        path = name.removesuffix(".weight")
        if f"{path}.lora_A" not in tensors or path == name:
            assert value is base[name] or mx.array_equal(value, base[name]), name
            continue
        a, b, before, after = (
            np.array(array.astype(mx.float32), np.float64)
            for array in (tensors[f"{path}.lora_A"], tensors[f"{path}.lora_B"], base[name], value)
        )
        exact = before + 0.5 * b @ a
        assert value.dtype == mx.bfloat16
        assert (np.abs(after - exact) <= 2.0 ** (np.frexp(exact)[1] - 9) + 1e-6).all(), name


def cast(weights: dict[str, mx.array], dtype: mx.Dtype) -> dict[str, mx.array]:
    """Casts weights like `load_model`, which leaves the AudioVAE's as they are."""
    return {
        name: value if name.startswith("audio_vae.") else value.astype(dtype)
        for name, value in weights.items()
    }


def test_quantised_layers_are_not_fused(exchange, wide_adapter):
    model = load_model(exchange, quantize="8bit-dit16", adapter=wide_adapter)
    before = everything(model)
    with pytest.raises(ValueError, match=r"q_proj is quantised and would round"):
        model.fuse_adapter()
    assert same(everything(model), before)


def test_without_an_adapter_there_is_no_strength(model):
    for call in (lambda: model.set_adapter_strength(1), model.fuse_adapter):
        with pytest.raises(ValueError, match="the model has no adapter; load one first"):
            call()


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), "1", True, None])
def test_a_strength_is_a_finite_number(model, strength):
    model.load_adapter(OFFICIAL)
    before = everything(model)
    with pytest.raises(ValueError, match=r"strength is .*; it must be a finite number"):
        model.set_adapter_strength(strength)
    assert same(everything(model), before) and model.adapter.strength == 1


def test_what_the_model_has_no_use_for_is_counted_and_said(model, tmp_path, caplog):
    folder = with_alpha(4, tmp_path / "adapter")
    tensors = mx.load(str(OFFICIAL / "lora_weights.safetensors"))
    tensors["base_lm.layers.9.self_attn.q_proj.lora_A"] = mx.zeros((4, 64))
    name = "lm_to_dit_proj.lora_A"
    tensors[name] = tensors[name][:, :5]
    del tensors["res_to_dit_proj.lora_B"]
    mx.save_safetensors(str(folder / "lora_weights.safetensors"), tensors)
    with caplog.at_level(logging.WARNING, "mlx_voxcpm2"):
        report = model.load_adapter(folder)
    assert report.loaded == 60
    assert report.skipped == {
        "base_lm.layers.9.self_attn.q_proj.lora_A": "the model has no such layer",
        name: "A (4, 5) and B (56, 4) instead of (4, 64) and (56, 4)",
        "lm_to_dit_proj.lora_B": "A (4, 5) and B (56, 4) instead of (4, 64) and (56, 4)",
        "res_to_dit_proj.lora_A": "it needs both A and B",
    }
    (record,) = caplog.records
    assert "loaded 60 tensors, skipped 4: " in record.getMessage()
    caplog.clear()
    model.load_adapter(OFFICIAL)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_rank_other_than_the_files_is_no_fit(model, tmp_path):
    """Another rank would make another alpha / r than the trained one."""
    folder = with_alpha(4, tmp_path / "adapter")
    text = (folder / "lora_config.json").read_text()
    (folder / "lora_config.json").write_text(text.replace('"r": 4', '"r": 8'))
    with pytest.raises(ValueError, match=r"A \(4, \d+\) and B \(\d+, 4\) instead of \(8, "):
        model.load_adapter(folder)


def test_a_strength_without_an_adapter_is_a_mistake(released, tmp_path):
    with pytest.raises(ValueError, match="adapter_strength is given and no adapter"):
        load_model(released.folder, adapter_strength=0.5)
    with pytest.raises(ValueError, match="adapter_strength is given and no adapter"):
        convert(released.folder, tmp_path / "new", adapter_strength=0.5)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_converted_model_has_the_adapter_in_it(released, tmp_path, dtype):
    """Rounded once, from the source's own numbers."""
    target = convert(
        released.folder, tmp_path / "new", dtype, adapter=OFFICIAL, adapter_strength=0.5
    )
    fused = load_model(released.folder, "float32", adapter=OFFICIAL, adapter_strength=0.5)
    fused.fuse_adapter()
    wanted = cast(parameters(fused), getattr(mx, dtype))
    assert same(parameters(load_model(target, dtype)), wanted)


def test_it_is_quantised_after_it_was_fused(exchange, wide_adapter, tmp_path):
    at_once = convert(exchange, tmp_path / "one", quantize="4bit", adapter=wide_adapter)
    fused = convert(exchange, tmp_path / "fused", "float32", adapter=wide_adapter)
    later = convert(fused, tmp_path / "two", "bfloat16", quantize="4bit")
    assert same(parameters(load_model(at_once)), parameters(load_model(later)))
    plain = convert(exchange, tmp_path / "plain", quantize="4bit")
    assert not same(parameters(load_model(at_once)), parameters(load_model(plain)))


def test_a_quantised_source_is_not_fused(exchange, wide_adapter, tmp_path):
    quantised = convert(exchange, tmp_path / "quantised", quantize="8bit")
    with pytest.raises(ValueError, match="is quantised already; take the original"):
        convert(quantised, tmp_path / "new", adapter=wide_adapter)
    assert not (tmp_path / "new").exists()


def test_fresh_layers_change_nothing_and_are_all_that_is_trained(model, released):
    base = everything(model)
    settings = LoRASettings(r=5, alpha=10, enable_proj=True)
    mx.random.seed(0)
    adapter = add_lora(model, settings)
    for name, value in everything(model).items():
        assert relative_error(value, base[name]) < LATENT_ERROR, name
    trained = dict(tree_flatten(model.trainable_parameters()))
    assert set(trained) == {f"{path}.lora_{x}" for path in adapter.layers for x in "ab"}
    assert len(adapter.layers) == 4 * (3 + 2 + 2) + 4
    assert all(value.dtype == mx.float32 for value in trained.values())
    for name, value in lora_tensors(model).items():
        if name.endswith("lora_B"):
            assert not value.any()
        else:
            assert len(value) == 5
            bound = value.shape[1] ** -0.5
            assert bound * 0.9 < mx.abs(value).max() <= bound
    for layer in adapter.layers.values():
        layer.lora_b = mx.ones_like(layer.lora_b) * 0.1
        assert layer.scale == 2
    assert relative_error(everything(model)["sound"], base["sound"]) > 0.01
    model.set_adapter_strength(0)  # to hear the difference while it is trained
    assert same(everything(model), base)
    model.set_adapter_strength(1)
    assert dict(tree_flatten(model.trainable_parameters())).keys() == trained.keys()


def test_training_continues_from_a_stored_adapter(model):
    stored = read_adapter(OURS)
    add_lora(model, stored.settings, stored)
    assert same(lora_tensors(model), stored.tensors)
    wanted = mx.load(str(OURS) + ".safetensors")
    for name, value in values(model).items():
        assert relative_error(value, wanted[name]) < MODULE_ERROR


def test_settings_and_stored_adapter_must_agree(model):
    stored = read_adapter(OURS)
    with pytest.raises(ValueError, match="has other settings; take those it was trained with"):
        add_lora(model, LoRASettings(r=3, alpha=6), stored)
    assert model.adapter is None and same(parameters(model), parameters(model.unfreeze()))


def test_what_can_be_trained_must_be_there(model):
    for settings, message in (
        ({"target_modules_lm": ["q_proj", "nothing"]}, "name 'nothing', and the model has no such"),
        ({"enable_lm": False, "enable_dit": False}, "no layer is to be changed"),
        ({"enable_proj": True, "target_proj_modules": ["q_proj"]}, "name 'q_proj', and"),
    ):
        with pytest.raises(ValueError, match=message):
            add_lora(model, LoRASettings(**settings))
    assert model.adapter is None and len(tree_flatten(model.trainable_parameters())) > 100
    add_lora(model, LoRASettings(target_modules_dit=("out_proj", "gate_proj")))
    assert "feat_decoder.estimator.out_proj" in model.adapter.layers
    assert not np.isnan(np.array(next(iter(model.generate("Hi.", **SPEAK))).audio)).any()
    with pytest.raises(ValueError, match="the model has an adapter; remove or fuse it"):
        add_lora(model, LoRASettings())
