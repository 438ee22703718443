"""VibeVoice checkpoints in every layout, converted ones, and files that are refused."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest
import vibevoice_checkpoints as tiny
import vibevoice_configs
from hub_client import hub_client
from hub_stand_in import Hub
from mlx.utils import tree_flatten

from mlx_voxcpm2 import load_model, vibevoice
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.convert.model_card import write_card


@pytest.fixture(autouse=True)
def without_kernels(plain_kernels):
    """Without fused kernels, each of which takes g++ a second."""


def audio(model, dialogue) -> np.ndarray:
    """A short dialogue, the same for the same weights."""
    settings = {
        "noise": dialogue.noise,
        "inference_timesteps": 2,
        "sample": False,
        "cfg_value": 2.0,
    }
    return np.array(
        model.speak("Speaker 1: Hi.", dialogue.voices[:1], max_tokens=3, **settings).audio
    )


def change(folder, name: str, **changes) -> None:
    """Changes fields of an object in config.json, or of the whole if the name is empty."""
    file = folder / "config.json"
    data = json.loads(file.read_text())
    (data[name] if name else data).update(changes)
    file.write_text(json.dumps(data))


def test_transformers_layout_is_the_same_model(make_dialogue):
    for variant in tiny.VARIANTS:
        theirs, ours = make_dialogue(variant), make_dialogue(variant, "hf")
        assert np.array_equal(audio(ours.model, theirs), audio(theirs.model, theirs))
        assert ours.model.sampling.steps == tiny.STEPS  # of generation_config.json
        assert (theirs.model.sampling.steps, theirs.model.sampling.cfg_value) == (10, 1.3)


def test_a_draft_s_names_and_shards_without_marks_are_read(make_dialogue, tmp_path):
    source = make_dialogue("tiny", "hf")
    folder = shutil.copytree(source.folder, tmp_path / "sharded")
    tensors = mx.load(str(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    draft = {
        name.replace("timestep_proj.fc", "timestep_embedder.layer_"): value
        for name, value in tensors.items()
    }
    names, files = sorted(draft), {}
    for number in range(3):
        file = f"model-0000{number + 1}-of-00003.safetensors"
        part = {name: draft[name] for name in names[number::3]}
        mx.save_safetensors(str(folder / file), part)
        files |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    found = audio(vibevoice.load(folder, dtype="float32"), source)
    assert np.array_equal(found, audio(source.model, source))


def test_a_head_in_the_file_is_used_though_the_configuration_shares_it(make_dialogue, tmp_path):
    source = make_dialogue("wide")
    folder = shutil.copytree(source.folder, tmp_path / "tied")
    change(folder, "decoder_config", tie_word_embeddings=True)
    assert np.array_equal(
        audio(vibevoice.load(folder, dtype="float32"), source), audio(source.model, source)
    )


@pytest.mark.parametrize("layout", ["mlx-audio", "mlx-voxcpm2"])
@pytest.mark.parametrize("variant", list(tiny.VARIANTS))
def test_a_converted_checkpoint_is_the_same_model(make_dialogue, tmp_path, variant, layout):
    source = make_dialogue(variant, "hf")
    folder = convert(source.folder, tmp_path / "mlx", dtype="float32", layout=layout)
    model = vibevoice.load(folder)
    assert np.array_equal(audio(model, source), audio(source.model, source))
    assert model.sampling == source.model.sampling
    weights = mx.load(str(folder / "model.safetensors"))
    is_theirs = any("downsample_layers" in name for name in weights)
    assert is_theirs == (layout == "mlx-audio")


@pytest.mark.parametrize(("recipe", "bits"), [("8bit", 8), ("4bit", 4)])
def test_quantised_checkpoints_keep_the_codec_whole(make_dialogue, tmp_path, recipe, bits):
    source = make_dialogue("tiny")
    folder = convert(source.folder, tmp_path / recipe, recipe=recipe)
    model, other = vibevoice.load(folder), vibevoice.load(source.folder, quantize=recipe)
    assert np.array_equal(audio(model, source), audio(other, source))
    assert model.language_model.layers[0].mlp.up_proj.bits == bits
    assert model.prediction_head.layers[0].ffn.up_proj.bits == bits
    parts = model.acoustic_tokenizer, model.semantic_tokenizer
    types = {x.dtype for part in parts for _, x in tree_flatten(part.parameters())}
    assert types == {mx.float32}
    assert model.speech_scaling_factor.item() == pytest.approx(0.196, abs=1e-7)
    card = write_card(folder, "you/voice").read_text()
    assert (
        "license: mit" in card and f"{bits} bits" in card and 'vibevoice.load("you/voice")' in card
    )


def test_an_output_head_of_its_own_is_quantised_as_the_embedding(make_dialogue):
    """Generation reads four of its rows, which are the ones that the whole head would give."""
    source = make_dialogue("wide")
    model = vibevoice.load(source.folder, "float32", quantize="4bit")
    assert (model.lm_head.bits, model.language_model.embed_tokens.bits) == (8, 8)
    prompt = source.notes["wide"]["prompt"]
    whole = model.logits(prompt, source.features())[-1, mx.array(model.legal.ids)]
    [first] = model.steps(prompt, source.features(), noise=source.noise, max_steps=1)
    assert mx.abs(first.logits - whole).max() < 1e-4


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("", {"model_type": "vibevoice_streaming"}, "is another system"),
        ("", {"model_type": "vibevoice_asr"}, "is another system"),
        ("", {"model_type": "llama"}, "this package runs"),
        ("acoustic_tokenizer_config", {"causal": False}, "causal is False"),
        ("acoustic_tokenizer_config", {"conv_norm": "weight_norm"}, "conv_norm is"),
        ("semantic_tokenizer_config", {"layernorm": "LN"}, "layernorm is"),
        ("semantic_tokenizer_config", {"mixer_layer": "conv"}, "mixer_layer is"),
        ("acoustic_tokenizer_config", {"pad_mode": "reflect"}, "pad_mode is"),
        ("acoustic_tokenizer_config", {"disable_last_norm": False}, "disable_last_norm is"),
        ("acoustic_tokenizer_config", {"decoder_ratios": [2, 3, 2]}, "decoder_ratios is"),
        ("acoustic_tokenizer_config", {"encoder_depths": "1-x"}, "encoder_depths is"),
        ("acoustic_tokenizer_config", {"encoder_depths": "1-2"}, "depths is"),
        ("acoustic_tokenizer_config", {"vae_dim": "5"}, "vae_dim is"),
        ("semantic_tokenizer_config", {"encoder_ratios": [2, 3, 3]}, "ratios whose product is 12"),
        ("diffusion_head_config", {"prediction_type": "epsilon"}, "prediction_type is"),
        ("diffusion_head_config", {"latent_size": 6}, "the diffusion head's latent size is 6"),
        ("decoder_config", {"rope_scaling": {"type": "yarn"}}, "rope_scaling is given"),
        ("decoder_config", {"use_sliding_window": True}, "use_sliding_window is"),
        ("decoder_config", {"vocab_size": 300}, "tokens; take the tokenizer"),
        ("decoder_config", {"num_hidden_layers": None}, "num_hidden_layers is missing"),
    ],
)
def test_a_configuration_that_cannot_be_honoured_is_refused(
    dialogue_copy, section, changes, message
):
    change(dialogue_copy, section, **changes)
    with pytest.raises(ValueError, match=message) as error:
        vibevoice.load(dialogue_copy)
    assert "\n" not in str(error.value)


def rewrite(folder, function) -> None:
    """Replaces the tensors of a checkpoint."""
    file = str(folder / "model.safetensors")
    tensors = {name: mx.array(value) for name, value in mx.load(file).items()}
    function(tensors)
    mx.eval(tensors)
    mx.save_safetensors(file, tensors)


FACTOR, NORM = "model.speech_bias_factor", "model.language_model.norm.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop(FACTOR), "speech_bias_factor is missing"),
        (lambda t: t.update({FACTOR: mx.array(float("nan"))}), "speech_bias_factor is no finite"),
        (lambda t: t.update({FACTOR: mx.array(float("inf"))}), "speech_bias_factor is no finite"),
        (lambda t: t.pop(NORM), "missing tensor language_model.norm.weight"),
        (lambda t: t.update({"extra": mx.zeros(3)}), "unknown tensor extra"),
        (lambda t: t.update({NORM: mx.zeros(31)}), "mis-shaped tensor language_model.norm.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_named(dialogue_copy, damage, message):
    rewrite(dialogue_copy, damage)
    with pytest.raises(ValueError, match=message):
        vibevoice.load(dialogue_copy)


def test_the_tokenizer_may_be_given(make_dialogue, dialogue_copy):
    (dialogue_copy / "tokenizer.json").unlink()
    ids = make_dialogue("tiny").model.prompt("Speaker 1: Hi.")
    given = make_dialogue("wide").folder
    for tokenizer in (given, given / "tokenizer.json"):
        assert vibevoice.load(dialogue_copy, tokenizer=tokenizer).prompt("Speaker 1: Hi.") == ids
    (dialogue_copy / "preprocessor_config.json").write_text(
        json.dumps({"language_model_pretrained_name": "someone/else"})
    )
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json here; copy that of Qwen"):
        vibevoice.load(dialogue_copy)


def test_another_schedule_is_refused(dialogue_copy):
    schedule = {"noise_scheduler_config": {"prediction_type": "epsilon"}}
    (dialogue_copy / "generation_config.json").write_text(json.dumps(schedule))
    with pytest.raises(ValueError, match="prediction_type is 'epsilon'"):
        vibevoice.load(dialogue_copy)


def test_each_loader_names_the_other(make_dialogue, released):
    with pytest.raises(ValueError, match=r"load it by mlx_voxcpm2\.vibevoice\.load"):
        load_model(make_dialogue("tiny").folder)
    with pytest.raises(ValueError, match="a checkpoint of VoxCPM2, not of VibeVoice"):
        vibevoice.load(released.folder)


def test_both_configurations_say_the_same():
    from mlx_voxcpm2.models.vibevoice.config_files import read_config

    for variant in tiny.VARIANTS:
        ours = read_config(vibevoice_configs.microsoft_config(variant))
        assert ours == read_config(vibevoice_configs.hf_config(variant))


def test_microsoft_s_repository_gets_its_tokenizer_from_qwen_s(
    make_dialogue, dialogue_copy, tmp_path
):
    tokenizer = tmp_path / "qwen"
    tokenizer.mkdir()
    shutil.move(dialogue_copy / "tokenizer.json", tokenizer / "tokenizer.json")
    with Hub() as hub, hub_client(hub.environment(tmp_path / "cache")):
        hub.add("microsoft/VibeVoice-1.5B", dialogue_copy)
        hub.add("Qwen/Qwen2.5-1.5B", tokenizer)
        ids = vibevoice.load("microsoft/VibeVoice-1.5B", dtype="float32").prompt("Speaker 1: Hi.")
    assert ids == make_dialogue("tiny").model.prompt("Speaker 1: Hi.")
    fetched = hub.fetched()
    assert fetched.count("tokenizer.json") == 1
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} < {*fetched}
