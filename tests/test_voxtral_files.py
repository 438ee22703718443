"""Voxtral's checkpoints: every known layout loads, anything else is refused in one line."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import voxtral_checkpoints as made
from conftest import GOLDEN, parameters, same

from mlx_voxcpm2 import load_model, voxtral
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.convert.model_card import card_text, read_contents
from mlx_voxcpm2.models.voxtral.config import VoxtralConfig

RANKS = json.loads((GOLDEN / "voxtral.json").read_text(encoding="utf-8"))["ranks"]
SOUND = (made.sound(1.0), made.RATE)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return made.write_checkpoint(tmp_path_factory.mktemp("voxtral") / "a", made.EXCHANGE, RANKS)


@pytest.fixture
def copy(original, tmp_path) -> Path:
    """Copy of the checkpoint, to be changed."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


@pytest.fixture(scope="module")
def weights(original) -> dict[str, mx.array]:
    """Parameters of the model as it is loaded."""
    return loaded(original)


def loaded(folder: Path) -> dict[str, mx.array]:
    return parameters(voxtral.load(folder, dtype="float32").network)


def tensors(folder: Path) -> dict[str, mx.array]:
    return dict(mx.load(str(folder / "model.safetensors")))


def save(folder: Path, weights: dict[str, mx.array], name: str = "model", **metadata: str) -> None:
    mx.save_safetensors(str(folder / f"{name}.safetensors"), weights, metadata)


def change_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


# Layouts.


def test_the_older_spelling_of_the_configuration_means_the_same():
    for variant in (*made.VARIANTS, made.EXCHANGE):
        new, old = (VoxtralConfig.from_dict(f(variant)) for f in (made.config, made.old_config))
        assert new == old


def test_sizes_that_are_left_out_are_those_of_the_released_model():
    config = VoxtralConfig.from_dict({"model_type": "voxtral"})
    audio, text = config.audio_config, config.text_config
    assert (audio.hidden_size, audio.num_hidden_layers, audio.num_attention_heads) == (1280, 32, 20)
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (3072, 30, 32)
    assert (text.num_key_value_heads, text.head_size, text.intermediate_size) == (8, 128, 8192)
    assert (text.vocab_size, text.rope_theta, text.rms_norm_eps) == (131072, 1e8, 1e-5)
    assert (config.audio_token_id, config.context_length) == (24, 32768)
    assert not text.tie_word_embeddings


def test_a_tied_head_may_be_told_in_either_place():
    data = made.config("tied")
    del data["text_config"]["tie_word_embeddings"]
    assert VoxtralConfig.from_dict(data).text_config.tie_word_embeddings
    data = made.config("own_head") | {"tie_word_embeddings": True}
    assert not VoxtralConfig.from_dict(data).text_config.tie_word_embeddings


def test_names_that_transformers_has_in_memory_are_the_same_tensors(copy, weights):
    def name(each: str) -> str:
        each = each.replace("language_model.model.", "language_model.")
        return "lm_head.weight" if "lm_head" in each else f"model.{each}"

    save(copy, {name(each): value for each, value in tensors(copy).items()})
    assert same(loaded(copy), weights)


def test_convolutions_that_mlx_s_converters_turned_are_told_by_their_shape(copy, weights):
    turned = {
        name: value.swapaxes(1, 2) if value.ndim == 3 else value
        for name, value in tensors(copy).items()
    }
    save(copy, turned)
    assert same(loaded(copy), weights)


@pytest.mark.parametrize("has_index", [True, False])
def test_shards_are_read_and_mistral_s_copy_is_not(copy, weights, has_index):
    whole = tensors(copy)
    (copy / "model.safetensors").unlink()
    save(copy, {"norm.weight": mx.zeros(3)}, "consolidated")
    names, index = sorted(whole), {}
    for number, part in enumerate((names[:30], names[30:]), start=1):
        file = f"model-{number:05}-of-00002"
        save(copy, {name: whole[name] for name in part}, file)
        index |= dict.fromkeys(part, f"{file}.safetensors")
    if has_index:
        text = json.dumps({"weight_map": index})
        (copy / "model.safetensors.index.json").write_text(text)
    assert same(loaded(copy), weights)


def quantised(folder: Path, bits_of, **entry: object) -> None:
    """Quantises a checkpoint's matrices as other converters do. bits_of: by path; 0 for none."""
    result = {}
    for name, value in tensors(folder).items():
        path = name.removesuffix(".weight")
        bits = bits_of(path) if value.ndim == 2 and "embed_positions" not in name else 0
        if not bits:
            result[name] = value.swapaxes(1, 2) if value.ndim == 3 else value
            continue
        parts = mx.quantize(value, group_size=32, bits=bits)
        result |= dict(zip((name, f"{path}.scales", f"{path}.biases"), parts, strict=True))
    save(folder, result, format="mlx")
    change_json(folder / "config.json", quantization=entry)


def test_mixed_recipes_of_other_converters_load(copy):
    own = "language_model.model.layers.0.self_attn.v_proj"
    bits = {own: 8, "language_model.lm_head": 0}
    quantised(
        copy,
        lambda path: bits.get(path, 0 if path.startswith("audio_tower") else 4),
        **{"group_size": 32, "bits": 4, own: {"group_size": 32, "bits": 8}},
        **{"language_model.lm_head": False},
    )
    network = voxtral.load(copy, dtype="float32").network
    layer = network.language_model.model.layers[0].self_attn
    assert (layer.q_proj.bits, layer.v_proj.bits) == (4, 8)
    assert type(network.language_model.lm_head) is nn.Linear
    assert type(network.audio_tower.layers[0].fc1) is nn.Linear
    assert type(network.multi_modal_projector.linear_1) is nn.QuantizedLinear


def test_a_group_size_that_is_left_out_is_64(copy):
    def bits(path: str) -> int:
        return 4 if path.endswith("q_proj") and "language" in path else 0

    entry = {"bits": 4}
    result = {}
    for name, value in tensors(copy).items():
        path = name.removesuffix(".weight")
        if bits(path):
            parts = mx.quantize(value, group_size=64, bits=4)
            result |= dict(zip((name, f"{path}.scales", f"{path}.biases"), parts, strict=True))
        else:
            result[name] = value
    save(copy, result)
    change_json(copy / "config.json", quantization_config=entry)
    network = voxtral.load(copy, dtype="float32").network
    assert network.language_model.model.layers[1].self_attn.q_proj.group_size == 64


# Conversion.


@pytest.mark.parametrize("recipe", ["bf16", "8bit", "4bit"])
def test_a_converted_checkpoint_is_the_model_quantised_in_memory(original, tmp_path, recipe):
    folder = convert(original, tmp_path / recipe, quantize=recipe)
    ours, wanted = voxtral.load(folder), voxtral.load(original, quantize=recipe)
    assert same(parameters(ours.network), parameters(wanted.network))
    assert ours.transcribe(SOUND, max_tokens=3).tokens
    if recipe != "bf16":
        bits, network = int(recipe[0]), ours.network
        assert network.language_model.model.layers[0].mlp.down_proj.bits == bits
        assert network.language_model.lm_head.bits == 8
        assert network.language_model.model.embed_tokens.bits == 8
        assert type(network.audio_tower.layers[0].fc1) is nn.Linear


def test_a_model_card_tells_what_the_checkpoint_is(original, tmp_path):
    folder = convert(original, tmp_path / "4bit", quantize="4bit")
    text = card_text(read_contents(folder), "me/voxtral-4bit", "mistralai/Voxtral", None)
    assert "# Voxtral in 4 bits for MLX" in text and "$" not in text
    assert "pipeline_tag: automatic-speech-recognition" in text
    assert 'voxtral.load("me/voxtral-4bit")' in text


def test_a_quantised_checkpoint_is_not_quantised_again(original, tmp_path):
    folder = convert(original, tmp_path / "4bit", quantize="4bit")
    with pytest.raises(ValueError, match="quantised already; take the original, such as mistralai"):
        voxtral.load(folder, quantize="8bit")


# Refused.

BAD_FIELDS = {
    "model_type is 'whisper'": {"model_type": "whisper"},
    "projector_hidden_act is 'relu'": {"projector_hidden_act": "relu"},
    "audio_token_id is 456": {"audio_token_id": 456},
    "activation_function is 'gelu_new'": {"audio_config": {"activation_function": "gelu_new"}},
    "scale_embedding is True": {"audio_config": {"scale_embedding": True}},
    "hidden_size is 32; it must be a multiple of the 5 heads": {
        "audio_config": {"num_attention_heads": 5}
    },
    "intermediate_size is 96; it must be 128": {"audio_config": {"intermediate_size": 96}},
    "max_source_positions is 10": {"audio_config": {"max_source_positions": 10}},
    "d_model is 64 and hidden_size is 32; they must agree": {"audio_config": {"d_model": 64}},
    "text_config.attention_bias is True": {"text_config": {"attention_bias": True}},
    "text_config.mlp_bias is True": {"text_config": {"mlp_bias": True}},
    "text_config.hidden_act is 'gelu'": {"text_config": {"hidden_act": "gelu"}},
    "text_config.rope_type is 'llama3'": {
        "text_config": {"rope_parameters": {"rope_type": "llama3"}}
    },
    "rope_theta is 1": {"text_config": {"rope_theta": 5.0}},
    "text_config must be an object": {"text_config": 5},
}


@pytest.mark.parametrize("message", BAD_FIELDS)
def test_a_field_that_is_not_honoured_is_refused(message):
    data = made.config(made.EXCHANGE)
    for name, value in BAD_FIELDS[message].items():
        is_section = isinstance(value, dict)
        data[name] = {**data[name], **value} if is_section else value
    with pytest.raises(ValueError, match=f"^config.json: .*{message}") as error:
        VoxtralConfig.from_dict(data)
    assert "\n" not in str(error.value)


NAME = "audio_tower.layers.0.fc1.bias"
K_BIAS = "audio_tower.layers.0.self_attn.k_proj.bias"
ZERO = "language_model.model.layers.1.mlp.down_proj.weight"
BAD_TENSORS = {
    f"missing tensor {NAME}": lambda w: w.pop(NAME),
    f"unknown tensor {K_BIAS}": lambda w: w.update({K_BIAS: mx.zeros(32)}),
    f"mis-shaped tensor {NAME}": lambda w: w.update({NAME: mx.zeros(3)}),
    "mis-shaped tensor audio_tower.conv1.weight": lambda w: w.update(
        {"audio_tower.conv1.weight": mx.zeros((32, 128))}
    ),
    f"tensor {ZERO} is zero": lambda w: w.update({ZERO: mx.zeros_like(w[ZERO])}),
    "mistral's own layout": lambda w: w.update({"mm_whisper_embeddings.x": mx.zeros(3)}),
}


@pytest.mark.parametrize("message", BAD_TENSORS)
def test_tensors_that_do_not_fit_are_named(copy, message):
    weights = tensors(copy)
    BAD_TENSORS[message](weights)
    save(copy, weights)
    with pytest.raises(ValueError, match=message) as error:
        voxtral.load(copy, dtype="float32")
    assert "\n" not in str(error.value)


def test_a_projection_with_few_rows_of_zeros_is_a_projection(copy):
    weights = tensors(copy)
    weights[ZERO][:20] = 0
    save(copy, weights)
    assert voxtral.load(copy, dtype="float32")


def test_a_quantised_projection_of_zeros_is_refused(copy):
    weights = tensors(copy)
    save(copy, weights | {ZERO: mx.zeros_like(weights[ZERO])})
    quantised(copy, lambda path: 4 if path == ZERO[:-7] else 0, group_size=32, bits=4)
    with pytest.raises(ValueError, match=f"tensor {ZERO} is zero"):
        voxtral.load(copy)


def test_files_that_are_missing_or_of_another_model_are_told(copy, make_case, tmp_path):
    with pytest.raises(FileNotFoundError, match="all: no such folder"):
        voxtral.load(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(ValueError, match="checkpoint of VoxCPM2, not of Voxtral; load it by"):
        voxtral.load(make_case("mup").folder)
    with pytest.raises(ValueError, match=r"of Voxtral, not of VoxCPM2; load it by .*voxtral.load"):
        load_model(copy)
    (copy / "tekken.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no tekken.json here; take it from mistralai/"):
        voxtral.load(copy)


def test_a_tokenizer_of_another_model_is_refused(copy):
    change_json(copy / "config.json", audio_token_id=25)
    with pytest.raises(ValueError, match=r"\[AUDIO\] at 24, config.json .* 25; take both"):
        voxtral.load(copy)


@pytest.mark.parametrize(("given", "stops"), [(7, {7, 4, 11}), ([2, 9], {2, 9, 4, 11})])
def test_the_end_tokens_are_those_of_the_generation_configuration(copy, given, stops):
    change_json(copy / "generation_config.json", eos_token_id=given)
    assert voxtral.load(copy, dtype="float32")._stops == stops
    (copy / "generation_config.json").unlink()
    assert 2 in voxtral.load(copy, dtype="float32")._stops


def test_a_generation_configuration_without_sense_is_refused(copy):
    change_json(copy / "generation_config.json", eos_token_id="end")
    with pytest.raises(ValueError, match="eos_token_id is no token; download it again"):
        voxtral.load(copy)


def test_the_default_computes_in_float32_on_a_cpu_from_bfloat16_matrices(original):
    network = voxtral.load(original).network
    assert network.dtype == mx.float32
    assert network.language_model.lm_head.weight.dtype == mx.bfloat16
    logits = network(network.embed(np.array([1, 3, 40])))
    exact = voxtral.load(original, dtype="float32").network
    assert logits.dtype == mx.float32
    assert mx.abs(logits - exact(exact.embed(np.array([1, 3, 40])))).max() < 0.2
