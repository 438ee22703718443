"""Sizes of the networks of the demo voice, and of the voice for any English text."""

from __future__ import annotations

HEAD, POSITIONS = 64, 2048
LARGEST = 40_000_000
"""Most bytes of the checkpoint of the voice for any English text."""

AUDIO_VAE = {
    "encoder_dim": 16,
    "encoder_rates": [8, 5, 4, 4],
    "latent_dim": 24,
    "decoder_dim": 256,
    "decoder_rates": [4, 4, 5, 8],
    "depthwise": False,
    "sr_bin_boundaries": [20000, 30000, 40000],
    "sample_rate": 16000,
    "out_sample_rate": 16000,
}

SPEECH_VAE = {
    "encoder_dim": 12,
    "encoder_rates": [5, 4, 4, 4, 2],
    "latent_dim": 40,
    "decoder_dim": 512,
    "decoder_rates": [2, 4, 4, 4, 5],
    "depthwise": False,
    "sr_bin_boundaries": [20000, 30000, 40000],
    "sample_rate": 16000,
    "out_sample_rate": 16000,
}
"""The AudioVAE of the voice for any English text: see acoustic_latents.py."""


def config(vocabulary: int) -> dict:
    """The contents of config.json."""
    rope = {
        "type": "longrope",
        "long_factor": [1.0] * (HEAD // 2),
        "short_factor": [1.0] * (HEAD // 2),
        "original_max_position_embeddings": POSITIONS,
    }
    return {
        "architecture": "voxcpm2",
        "lm_config": {
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_size": 192,
            "intermediate_size": 512,
            "max_position_embeddings": POSITIONS,
            "num_attention_heads": 2,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000,
            "kv_channels": HEAD,
            "rope_scaling": rope,
            "vocab_size": vocabulary,
            "use_mup": False,
            "scale_emb": 12,
            "dim_model_base": 256,
            "scale_depth": 1.4,
        },
        "patch_size": 4,
        "feat_dim": AUDIO_VAE["latent_dim"],
        "scalar_quantization_latent_dim": 64,
        "scalar_quantization_scale": 9,
        "residual_lm_num_layers": 2,
        "residual_lm_no_rope": True,
        "encoder_config": {
            "hidden_dim": 128,
            "ffn_dim": 256,
            "num_heads": 2,
            "num_layers": 2,
            "kv_channels": HEAD,
        },
        "dit_config": {
            "hidden_dim": 160,
            "ffn_dim": 448,
            "num_heads": 2,
            "num_layers": 3,
            "kv_channels": HEAD,
            "mean_mode": False,
            "cfm_config": {
                "sigma_min": 1e-6,
                "solver": "euler",
                "t_scheduler": "uniform",
                "inference_cfg_rate": 2.0,
            },
        },
        "audio_vae_config": AUDIO_VAE,
        "max_length": POSITIONS,
        "device": "cpu",
        "dtype": "float32",
    }


def speech_config(vocabulary: int) -> dict:
    """Contents of config.json of the voice for any English text."""
    settings = config(vocabulary)
    settings["lm_config"] |= {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_attention_heads": 4,
        "num_hidden_layers": 6,
        "num_key_value_heads": 4,
    }
    # The local stacks' heads are divided among the language model's number of key-value heads.
    settings["encoder_config"] |= {"hidden_dim": 192, "ffn_dim": 512, "num_heads": 4}
    sizes = {"hidden_dim": 256, "ffn_dim": 704, "num_heads": 4, "num_layers": 3}
    settings["dit_config"] |= sizes
    return settings | {"feat_dim": SPEECH_VAE["latent_dim"], "audio_vae_config": SPEECH_VAE}
