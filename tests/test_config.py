"""config.json: what upstream reads is honoured or refused, what it does not read is reported."""

import copy

import checkpoints
import pytest
import vibevoice_configs

from mlx_voxcpm2.models.families import find_family
from mlx_voxcpm2.models.vibevoice.config_files import read_config as read_dialogue_config
from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config


def changed(path: str, value: object) -> dict:
    """The released structure with one field, such as "lm_config.hidden_size", changed."""
    data = copy.deepcopy(checkpoints.config("released"))
    *sections, name = path.split(".")
    section = data
    for key in sections:
        section = section[key]
    if value is None:
        section.pop(name, None)
    else:
        section[name] = value
    return data


REFUSED = [
    ("architecture", "voxcpm", r"VoxCPM 1\.x"),
    ("architecture", "llama", "'llama'"),
    ("lm_config", None, "lm_config is missing"),
    ("lm_config", [], "lm_config must be an object"),
    ("lm_config.hidden_size", None, "lm_config.hidden_size is missing"),
    ("lm_config.hidden_size", "64", "lm_config.hidden_size must be int"),
    ("lm_config.hidden_size", 64.5, "lm_config.hidden_size must be int"),
    ("lm_config.hidden_size", -64, "hidden_size is -64"),
    ("lm_config.use_mup", 1, "lm_config.use_mup must be bool"),
    ("lm_config.num_key_value_heads", 3, "num_attention_heads is 4"),
    ("lm_config.rope_scaling.type", "yarn", "rope_scaling.type is 'yarn'"),
    ("lm_config.rope_scaling.short_factor", [1.0], "rope_scaling.short_factor is '1 values'"),
    ("lm_config.rope_scaling.long_factor", 3, "long_factor must be a list"),
    ("encoder_config.kv_channels", 16, "12 values"),
    ("dit_config.hidden_dim", 2, "hidden_dim is 2"),
    ("dit_config.mean_mode", True, "mean_mode"),
    ("dit_config.dit_mean_mode", True, "dit_mean_mode"),
    ("dit_config.cfm_config.solver", "heun", "solver is 'heun'"),
    ("dit_config.cfm_config.t_scheduler", "cosine", "t_scheduler is 'cosine'"),
    ("audio_vae_config.use_noise_block", True, "use_noise_block"),
    ("audio_vae_config.cond_type", "concat", "cond_type is 'concat'"),
    ("audio_vae_config.cond_out_layer", True, "cond_out_layer"),
    ("audio_vae_config.encoder_rates", [2, 0], "encoder_rates"),
    ("audio_vae_config.decoder_rates", [], "decoder_rates"),
    ("audio_vae_config.decoder_dim", 32, "decoder_dim is 32"),
    ("feat_dim", 32, "feat_dim is 32"),
    ("patch_size", 0, "patch_size is 0"),
]


@pytest.mark.parametrize(("path", "value", "line"), REFUSED)
def test_unsupported_settings_are_refused_in_one_line(path, value, line):
    with pytest.raises(ValueError, match=line) as error:
        VoxCPM2Config.from_dict(changed(path, value))
    assert "\n" not in str(error.value)


def test_defaults_are_upstreams():
    data = checkpoints.config("released")
    for name in ("patch_size", "feat_dim", "residual_lm_no_rope", "max_length", "dtype"):
        data.pop(name)
    data["audio_vae_config"] = None
    data["lm_config"].pop("use_mup")
    data["feat_dim"] = 64
    config = VoxCPM2Config.from_dict(data)
    assert (config.patch_size, config.max_length, config.dtype) == (4, 8192, "bfloat16")
    assert config.residual_lm_no_rope is False
    assert config.lm_config.use_mup is True
    assert config.audio_vae_config.encoder_rates == (2, 5, 8, 8)
    assert config.audio_vae_config.decoder_rates == (8, 6, 5, 2, 2, 2)
    assert config.audio_vae_config.depthwise is True


def test_fields_that_upstream_does_not_read_are_reported(caplog):
    VoxCPM2Config.from_dict(changed("lm_config.rope_thata", 3.0))
    assert "lm_config.rope_thata" in caplog.text


def test_fields_of_the_hub_and_of_converters_are_not_reported(caplog):
    data = changed("model_type", "voxcpm2") | {
        "quantization": {"group_size": 64, "bits": 4},
        "transformers_version": "5.0",
    }
    VoxCPM2Config.from_dict(data)
    assert not caplog.records


def test_a_converted_file_may_name_the_model_type_only():
    data = changed("architecture", None) | {"model_type": "voxcpm2"}
    assert VoxCPM2Config.from_dict(data).patch_size == 4


@pytest.mark.parametrize("layout", ["microsoft", "hf"])
def test_voices_of_dialogues_are_drawn_with_the_usual_spread_unless_another_is_named(layout):
    section, name = {
        "microsoft": ("acoustic_tokenizer_config", "fix_std"),
        "hf": ("audio_config", "vae_std"),
    }[layout]
    data = getattr(vibevoice_configs, f"{layout}_config")("tiny")
    data[section].pop(name)
    assert read_dialogue_config(data).latent_std == 0.625
    data[section][name] = 0.25
    assert read_dialogue_config(data).latent_std == (0.25 if layout == "hf" else 0.25 / 0.8)


@pytest.mark.parametrize(
    ("config", "title"),
    [
        ({"architecture": "VoxCPM2"}, "VoxCPM2"),
        ({"model_type": "Voxtral"}, "Voxtral"),
        ({"architecture": "vibevoice", "model_type": "voxtral"}, "VibeVoice"),
        ({}, "VoxCPM2"),  # of VoxCPM 1.x, which its configuration refuses
    ],
)
def test_a_family_is_found_by_either_name_in_any_case(config, title):
    assert find_family(config).title == title
