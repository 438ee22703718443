"""config.json and the other small files of the tiny VibeVoice checkpoints, in both layouts."""

import json
from pathlib import Path

import vibevoice_checkpoints as tiny
from safetensors.numpy import save_file


def microsoft_config(variant: str) -> dict:
    v = tiny.VARIANTS[variant]
    codec = {
        "causal": True,
        "channels": 1,
        "conv_bias": True,
        "conv_norm": "none",
        "disable_last_norm": True,
        "encoder_depths": "-".join(map(str, v["depths"])),
        "encoder_n_filters": v["filters"],
        "encoder_ratios": list(v["ratios"][::-1]),
        "layernorm": "RMSNorm",
        "layernorm_eps": 1e-05,
        "mixer_layer": "depthwise_conv",
        "pad_mode": "constant",
    }
    decoder = {
        "decoder_depths": None,
        "decoder_n_filters": v["filters"],
        "decoder_ratios": list(v["ratios"][::-1]),
    }
    acoustic = {"vae_dim": v["acoustic"], "fix_std": 0.5, "std_dist_type": "gaussian"}
    semantic = {"vae_dim": v["semantic"], "fix_std": 0, "std_dist_type": "none"}
    return {
        "model_type": "vibevoice",
        "acoustic_vae_dim": v["acoustic"],
        "semantic_vae_dim": v["semantic"],
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": True,  # which is wrong for a head of its own, and not read
        "acoustic_tokenizer_config": codec | decoder | acoustic,
        "semantic_tokenizer_config": codec | semantic,
        "decoder_config": _decoder(v)
        | {"rope_theta": 1e6, "rope_scaling": None, "sliding_window": 4096},
        "diffusion_head_config": {
            "ddpm_beta_schedule": "cosine",
            "ddpm_num_steps": 1000,
            "head_ffn_ratio": 3.0,
            "head_layers": v["head_layers"],
            "hidden_size": tiny.HIDDEN,
            "latent_size": v["acoustic"],
            "prediction_type": "v_prediction",
            "rms_norm_eps": 1e-05,
        },
    }


def _decoder(v: dict) -> dict:
    return {
        "hidden_act": "silu",
        "hidden_size": tiny.HIDDEN,
        "intermediate_size": tiny.INNER,
        "max_position_embeddings": tiny.POSITIONS,
        "model_type": "qwen2",
        "num_attention_heads": v["heads"],
        "num_hidden_layers": v["layers"],
        "num_key_value_heads": v["kv_heads"],
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": v["tied"],
        "use_sliding_window": False,
        "vocab_size": tiny.VOCABULARY,
    }


def hf_config(variant: str) -> dict:
    v = tiny.VARIANTS[variant]
    codec = {
        "channels": 1,
        "depths": list(v["depths"]),
        "downsampling_ratios": list(v["ratios"]),
        "ffn_expansion": 4,
        "hidden_act": "gelu",
        "kernel_size": 7,
        "num_filters": v["filters"],
        "rms_norm_eps": 1e-05,
        "vae_std": 0.625,
    }
    return {
        "model_type": "vibevoice",
        "dtype": "bfloat16",
        "audio_config": codec | {"hidden_size": v["acoustic"]},
        "semantic_model_config": codec | {"hidden_size": v["semantic"]},
        "text_config": _decoder(v) | {"rope_parameters": {"rope_theta": 1e6}},
        "diffusion_head_config": {
            "diffusion_max_period": 10000,
            "frequency_embedding_size": 256,
            "hidden_size": tiny.HIDDEN,
            "intermediate_size": tiny.HEAD_INNER,
            "latent_size": v["acoustic"],
            "num_hidden_layers": v["head_layers"],
            "rms_norm_eps": 1e-05,
        },
    }


def _write(path: Path, data: dict) -> None:
    path.write_text(json.dumps(data, indent=1))


def write_checkpoint(folder: Path, variant: str, layout: str = "microsoft") -> Path:
    """Writes a checkpoint with its tokenizer; layout: "microsoft" or "hf"."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, preprocessor = tiny.write_tokenizer(folder), {"sampling_rate": 24000}
    tensors = tiny.weights(variant, ids)
    if layout == "hf":
        tensors = {tiny.hf_name(name): value for name, value in tensors.items()}
        _write(folder / "config.json", hf_config(variant))
        schedule = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
        generation = {"num_diffusion_steps": tiny.STEPS, "guidance_scale": tiny.CFG}
        _write(folder / "generation_config.json", generation | {"noise_scheduler_config": schedule})
    else:
        _write(folder / "config.json", microsoft_config(variant))
        preprocessor["language_model_pretrained_name"] = "Qwen/Qwen2.5-1.5B"
    _write(folder / "preprocessor_config.json", preprocessor)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
