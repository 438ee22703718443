"""Recipes: which layers they quantise, to how many bits, in memory as in a file."""

import json
import logging
import shutil
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import GOLDEN, parameters, relative_error, same

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.models.family import Network
from mlx_voxcpm2.models.voxcpm2.family import FAMILY as VOXCPM2
from mlx_voxcpm2.weights.quantization import Quantization
from mlx_voxcpm2.weights.recipes import RECIPES

SPEAK = {"seed": 1, "min_tokens": 3, "max_tokens": 3, "inference_timesteps": 3}
STACKS = ("base_lm", "residual_lm", "feat_encoder.encoder", "feat_decoder.estimator.decoder")


@pytest.fixture(scope="module")
def original(exchange):
    return load_model(exchange, dtype="bfloat16")


def speech(model) -> np.ndarray:
    (result,) = model.generate("Hello world.", **SPEAK)
    return np.array(result.audio)


# recipe: bits of the language models, of their down_proj, of the local encoder, of the DiT.
BITS = {
    "8bit": (8, 8, 8, 8),
    "8bit-dit16": (8, 8, 8, 16),
    "6bit": (6, 6, 6, 6),
    "4bit": (4, 4, 4, 4),
    "4bit-dit8": (4, 4, 8, 8),
    "4bit-dit16": (4, 4, 8, 16),
    "4bit-down6-dit8": (4, 6, 8, 8),
    "mxfp4": (4, 4, 4, 4),
    "mxfp8": (8, 8, 8, 8),
    "nvfp4": (4, 4, 4, 4),
}
# bits: how far the weights are from the original at most.
ERRORS = {8: 0.007, 6: 0.02, 4: 0.08}


def test_every_recipe_is_tested():
    assert set(RECIPES) - {"bf16"} <= set(BITS)


@pytest.mark.parametrize("recipe", BITS)
def test_a_recipe_quantises_the_stacks_and_the_embedding_only(recipe, exchange, original):
    """Norms, FSQ, stop predictor, projections and time embeddings stay as they are."""
    model = load_model(exchange, "bfloat16", quantize=recipe)
    before, found = parameters(original), {}
    for path, module in model.named_modules():
        if not isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            continue
        found[path] = module.bits
        biases = module.get("biases")
        weight = mx.dequantize(
            module.weight, module.scales, biases, module.group_size, module.bits, module.mode
        )
        bound = ERRORS[module.bits] if module.mode == "affine" else ERRORS[4] * 2.2
        wanted = before.pop(f"{path}.weight").astype(mx.float32)
        assert relative_error(weight.astype(mx.float32), wanted) < bound, path
    rest = {name: value for name, value in parameters(model).items() if name in before}
    assert same(rest, before)
    bits, down, encoder, dit = BITS[recipe]
    own = {"feat_encoder.encoder": (encoder, encoder), "feat_decoder.estimator.decoder": (dit, dit)}
    expected = {"base_lm.embed_tokens": 8}
    for stack in STACKS:
        common, last = own.get(stack, (bits, down))
        for kind in ("q", "k", "v", "o"):
            expected[f"{stack}.layers.0.self_attn.{kind}_proj"] = common
        for kind in ("gate", "up"):
            expected[f"{stack}.layers.0.mlp.{kind}_proj"] = common
        expected[f"{stack}.layers.0.mlp.down_proj"] = last
    assert found == {path: number for path, number in expected.items() if number != 16}


@pytest.mark.parametrize("layout", ["mlx-audio", "mlx-voxcpm2"])
@pytest.mark.parametrize("recipe", ["8bit", "4bit-down6-dit8", "nvfp4"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_in_memory_it_is_what_the_converted_file_holds(exchange, tmp_path, recipe, layout, dtype):
    target = convert(exchange, tmp_path / "converted", dtype, quantize=recipe, layout=layout)
    filed, direct = load_model(target, dtype), load_model(exchange, dtype, quantize=recipe)
    assert same(parameters(filed), parameters(direct))
    assert np.array_equal(speech(filed), speech(direct))


def test_projections_of_one_input_stay_one_product(exchange, original, monkeypatch):
    """Recipes give them the same bits, so that they can be fused, as on a GPU."""
    monkeypatch.setattr("mlx_voxcpm2.layers.kernels.fuses_gate_and_up", lambda: True)
    x = mx.random.normal((1, 3, 64), key=mx.random.key(0)).astype(mx.bfloat16)
    for recipe in ("4bit-down6-dit8", "mxfp4"):
        layer = load_model(exchange, quantize=recipe).base_lm.layers[0]
        assert layer.self_attn.fused and layer.mlp.fused
        separate = mx.concatenate([layer.mlp.gate_proj(x), layer.mlp.up_proj(x)], axis=-1)
        fused = layer.mlp.fused()(x)
        assert relative_error(fused.astype(mx.float32), separate.astype(mx.float32)) < 1e-2


def test_eight_bits_speak_nearly_the_same(exchange, original):
    noise = np.random.RandomState(0).standard_normal((3, 2, 32))
    options = {"noise": noise, "min_tokens": 3, "max_tokens": 3, "inference_timesteps": 4}
    (wanted,) = original.generate("Hi.", **options)
    error = {}
    for recipe in ("8bit", "4bit"):
        (spoken,) = load_model(exchange, quantize=recipe).generate("Hi.", **options)
        error[recipe] = relative_error(spoken.audio, wanted.audio)
    assert error["8bit"] < 0.1 and error["8bit"] < error["4bit"] < 1.2


def test_settings_of_ones_own(exchange):
    model = load_model(exchange, quantize=Quantization(bits=3, group_size=32))
    layer = model.residual_lm.layers[0].mlp.up_proj
    assert (layer.bits, layer.group_size, layer.mode) == (3, 32, "affine")


def test_the_encoder_has_down_bits_unless_it_has_bits_of_its_own(exchange):
    path = "feat_encoder.encoder.layers.0.mlp.down_proj"
    assert Quantization(4, down_bits=6).bits_of(path, VOXCPM2) == 6
    assert Quantization(4, down_bits=6, encoder_bits=16).bits_of(path, VOXCPM2) == 16
    model = load_model(exchange, quantize=Quantization(4, encoder_bits=16))
    layer = model.feat_encoder.encoder.layers[0]
    assert isinstance(layer.mlp.down_proj, nn.Linear)
    assert model.base_lm.layers[0].mlp.down_proj.bits == 4


class Dialogues(Network):
    """A network of another family, with names of its own."""

    family = replace(
        VOXCPM2, embedding="decoder.tokens", float32=("codec.",), diffusion=("head.",), encoder=()
    )

    def __init__(self):
        super().__init__()
        self.codec = {"layers": [nn.Linear(64, 64)]}
        self.decoder = {"tokens": nn.Embedding(9, 64), "layers": [nn.Linear(64, 64)]}
        self.head = {"layers": [nn.Linear(64, 64)], "out": nn.Linear(64, 2)}


def test_another_familys_layers_are_chosen_by_its_names():
    entry = RECIPES["4bit-dit8"].entry(Dialogues())
    common = {"group_size": 64, "mode": "affine"}
    assert entry == common | {
        "bits": 4,
        "decoder.tokens": common | {"bits": 8},
        "head.layers.0": common | {"bits": 8},
        "head.out": False,
    }


def test_the_group_size_is_the_largest_that_suits_all_layers(make_case, exchange, caplog):
    """Layers that none suits stay as they are, which is said."""
    assert Quantization(4).entry(load_model(exchange, "float32"))["group_size"] == 32
    released = make_case("released")
    with caplog.at_level(logging.WARNING):
        model = load_model(released.folder, "float32", quantize="4bit")
    assert "22 layers stay as they are: their inputs are no multiple of 32" in caplog.text
    assert isinstance(model.base_lm.layers[0].mlp.down_proj, nn.QuantizedLinear)  # of 160
    assert isinstance(model.feat_encoder.encoder.layers[0].mlp.up_proj, nn.Linear)  # of 48
    assert np.isfinite(speech(model)).all()


WRONG = {
    "recipe is '5bit'; it must be one of bf16, 8bit": {"quantize": "5bit"},
    "recipe is 4; it must": {"quantize": 4},
    "is quantised already": {"quantize": "bf16", "source": "quantised"},
    "is quantised already; take the original": {"quantize": "4bit", "source": "quantised"},
    "'bf16' is bfloat16; leave": {"quantize": "bf16", "dtype": "float32"},
    "group size 64 does not divide the 32 inputs of feat_encoder.*down_proj; choose 32": {
        "quantize": Quantization(4, 64)
    },
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_quantised_is_one_line(exchange, tmp_path, line):
    options = dict(WRONG[line])
    source = exchange
    if options.pop("source", None):
        source = shutil.copytree(exchange, tmp_path / "quantised")
        shutil.copy(GOLDEN / "mlx_audio_4bit.safetensors", source / "model.safetensors")
        shutil.copy(GOLDEN / "mlx_audio_4bit.json", source / "config.json")
    with pytest.raises(ValueError, match=line) as error:
        load_model(source, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"bits": 7}, "MLX .* can't quantise so: .*number of bits 7.*supported bits are"),
        ({"bits": 16}, "number of bits 16"),
        ({"bits": 0}, "number of bits is 0; it must be a positive integer"),
        ({"group_size": 0}, "group size is 0; it must be a positive integer"),
        ({"group_size": "64"}, "group size is '64'"),
        ({"group_size": 10**12}, "can't quantise so"),
        ({"bits": 4.0}, "number of bits is 4.0"),
        ({"group_size": 48}, "group size 48.*supported group sizes are"),
        ({"group_size": 64, "mode": "mxfp4"}, "mxfp4 quantization requires group size 32"),
        ({"bits": 4, "mode": "mxfp8"}, "can't quantise so"),
        ({"bits": 4, "dit_bits": 9}, "number of bits 9"),
        ({"bits": 4, "down_bits": 7}, "number of bits 7"),
        ({"bits": 4, "encoder_bits": 0}, "number of bits is 0"),
        ({"mode": "q4_0"}, "mode is 'q4_0'; it must be one of affine, mxfp4, mxfp8, nvfp4"),
    ],
)
def test_what_mlx_does_not_offer_is_refused_at_once(settings, line):
    with pytest.raises(ValueError, match=line) as error:
        Quantization(**settings)
    assert "\n" not in str(error.value)


def test_a_mode_that_this_mlx_lacks_is_one_line(monkeypatch):
    def older(*_, mode):
        raise ValueError(f"[quantize] Invalid quantization mode '{mode}'.")

    monkeypatch.setattr(mx, "quantize", older)
    with pytest.raises(ValueError, match=r"MLX .* can't quantise so: Invalid .*'mxfp8'"):
        Quantization(mode="mxfp8")


def test_the_choice_is_written_as_mlx_lm_writes_it(exchange, tmp_path):
    target = convert(exchange, tmp_path / "converted", quantize="4bit-dit8")
    config = json.loads((target / "config.json").read_text())
    entry = config["quantization"]
    common = {key: entry[key] for key in ("group_size", "bits", "mode")}
    assert common == {"group_size": 32, "bits": 4, "mode": "affine"}
    assert entry["stop_head"] is False and entry["fsq_layer.in_proj"] is False
    dit = entry["feat_decoder.estimator.decoder.layers.0.mlp.up_proj"]
    assert dit == {"group_size": 32, "bits": 8, "mode": "affine"}
    assert "base_lm.layers.0.mlp.up_proj" not in entry
    assert config["quantization_config"] == entry
