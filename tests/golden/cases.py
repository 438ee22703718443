"""What the golden values cover: the model variants, and the inputs that are put to each."""

BASE = {
    "architecture": "voxcpm2",
    "lm_config": {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": 64,
        "intermediate_size": 160,
        "max_position_embeddings": 512,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 512},
        "vocab_size": 400,
        "use_mup": False,
        "scale_emb": 12,
        "dim_model_base": 256,
        "scale_depth": 1.4,
    },
    "patch_size": 4,
    "feat_dim": 16,
    "scalar_quantization_latent_dim": 24,
    "scalar_quantization_scale": 9,
    "residual_lm_num_layers": 2,
    "residual_lm_no_rope": True,
    "encoder_config": {"hidden_dim": 48, "ffn_dim": 96, "num_heads": 4, "num_layers": 2},
    "dit_config": {
        "hidden_dim": 56,
        "ffn_dim": 112,
        "num_heads": 4,
        "num_layers": 2,
        "mean_mode": False,
        "cfm_config": {
            "sigma_min": 1e-6,
            "solver": "euler",
            "t_scheduler": "log-norm",
            "inference_cfg_rate": 2.0,
        },
    },
    "audio_vae_config": {
        "encoder_dim": 4,
        "latent_dim": 16,
        "decoder_dim": 64,
        "sample_rate": 16000,
        "sr_bin_boundaries": [20000, 30000, 40000],
        "out_sample_rate": 48000,
    },
    "max_length": 512,
    "device": "cpu",
    "dtype": "float32",
}

# What each variant changes, and what it is for. The VAE's rates of all but the first are short, so
# that their waveforms are small.
VARIANTS = {
    "released": {
        "purpose": "the structure of the released model with small widths",
        "lm_config": {"kv_channels": 24},
        "encoder_config": {"kv_channels": 24},
        "dit_config": {"kv_channels": 24},
        "audio_vae_config": {
            "encoder_rates": [2, 5, 8, 8],
            "decoder_rates": [8, 6, 5, 2, 2, 2],
        },
    },
    "long_rope": {
        "purpose": "long factors and their attention scale; other theta and sampling rates",
        "lm_config": {
            "kv_channels": 16,
            "max_position_embeddings": 2048,
            "rope_theta": 50000.0,
            "rms_norm_eps": 1e-6,
        },
        "encoder_config": {"kv_channels": 16, "num_layers": 1},
        "dit_config": {"kv_channels": 16, "num_heads": 2, "num_layers": 3},
        "scalar_quantization_latent_dim": 20,
        "max_length": 2048,
        "audio_vae_config": {
            "encoder_rates": [2, 3, 4],
            "decoder_rates": [4, 3, 3],
            "sample_rate": 8000,
            "out_sample_rate": 12000,
            "sr_bin_boundaries": [8000, 12000],
        },
    },
    "mup": {
        "purpose": "embedding and depth scales, coarser FSQ, an epsilon that shows, patches of two",
        "lm_config": {"kv_channels": 16, "use_mup": True, "rms_norm_eps": 0.02, "vocab_size": 420},
        "encoder_config": {"kv_channels": 16, "num_heads": 2},
        "dit_config": {"kv_channels": 16, "num_heads": 6},
        "patch_size": 2,
        "scalar_quantization_scale": 5,
        "audio_vae_config": {
            "encoder_rates": [3, 4],
            "decoder_rates": [4, 3, 2],
            "out_sample_rate": 32000,
            "sr_bin_boundaries": [16000, 30000],
            "cond_type": "scale_bias_init",
        },
    },
    "derived_head": {
        "purpose": "no kv_channels (a head is width / heads), RoPE in the residual LM, stride 1",
        "encoder_config": {"num_heads": 2, "hidden_dim": 32},
        "dit_config": {"num_heads": 6, "hidden_dim": 96},
        "residual_lm_no_rope": False,
        "audio_vae_config": {
            "encoder_rates": [1, 3, 5],
            "decoder_rates": [5, 1, 3, 3],
            "sr_bin_boundaries": [24000],
        },
    },
    "dense_vae": {
        "purpose": "full convolutions, kernels as wide as channels, odd strides, no rate condition",
        "lm_config": {"kv_channels": 8},
        "encoder_config": {"kv_channels": 8},
        "dit_config": {"kv_channels": 8},
        "patch_size": 3,
        "feat_dim": 7,
        "audio_vae_config": {
            "encoder_dim": 7,
            "encoder_rates": [3, 7],
            "latent_dim": 7,
            "decoder_dim": 28,
            "decoder_rates": [7, 3, 3],
            "sr_bin_boundaries": None,
            "depthwise": False,
        },
    },
}

# No golden values: small enough for the files that mlx-audio made of it to be kept beside them. It
# quantises widths that are multiples of 64, and tells the axes of a convolution by their lengths,
# so no kernel is as wide as its channels.
EXCHANGE = {
    "lm_config": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "vocab_size": 352,
    },
    "patch_size": 2,
    "feat_dim": 32,
    "scalar_quantization_latent_dim": 32,
    "residual_lm_num_layers": 1,
    "encoder_config": {"hidden_dim": 64, "ffn_dim": 32, "num_heads": 2, "num_layers": 1},
    "dit_config": {"hidden_dim": 64, "ffn_dim": 64, "num_heads": 2, "num_layers": 1},
    "audio_vae_config": {
        "encoder_dim": 6,
        "encoder_rates": [2, 5],
        "latent_dim": 32,
        "decoder_dim": 64,
        "decoder_rates": [5, 3, 2],
    },
}

# name: (length in patches, sampling rate or None for the model's own, channels)
WAVEFORMS = {
    "ref": (5.3, 44100, 1),
    "prompt": (4.6, 24000, 1),
    "short": (1.7, None, 1),
    "own": (3.4, None, 1),
    "whole": (3, None, 1),
    "stereo": (2.6, 48000, 2),
}

# The ways to ask for speech. With `instruct`, upstream is given "(instruct)text".
_PROMPT = {"prompt": "prompt", "prompt_text": "Hello world."}
_SHORT = {"prompt": "short", "prompt_text": "你好"}
MODES = {
    "zero_shot": {"text": "Hello world, this is a test."},
    "design": {"text": "Hello world. 小雨来了", "instruct": "A warm voice"},
    "reference": {"text": "你好世界 hello", "ref": "ref"},
    "continuation": {"text": " the quick brown fox.", **_PROMPT},
    "short_continuation": {"text": "世界 the fox.", **_SHORT},
    "combined": {"text": " jumps over 今天天气很好", "ref": "ref", **_PROMPT},
    "short_combined": {"text": " the lazy dog.", "ref": "ref", **_SHORT},
}

# name: (which `checkpoints.stop_head`, min_len). 212 would stop before the least length, too.
STOPS = {
    "always": ("always", 2),
    "from_start": ("always", 0),
    "never": ("never", 2),
    "early": (212, 0),
    "middle": (212, 2),
    "late": (35, 2),
}
STOP_TEXT, CAP_TEXT = "Hello world, this is a test.", "你好"

TEXTS = [
    "Hello world, this is a test.",
    "小雨来了",
    "你好",
    "(A warm voice)你好世界 hello",
    "你好，世界！ Hello, 今天天气 0123.",
    " leading space",
    "  two spaces  inside and behind  ",
    " 你好 天气",
    "emoji 🙂 é ñ",
    "龘靐 is not in the vocabulary",
    "（温柔的声音）今天天气很好",
    "the凤凰the",
    "a<|audio_start|>b</s>",
    "",
]

# Adapters: what the official package writes, with two scales, and what this project writes.
ADAPTER = {"enable_lm": True, "enable_dit": True, "enable_proj": True, "r": 4, "alpha": 4}
ADAPTER_ALPHAS = (4, 7)
OUR_ADAPTER = {"r": 3, "alpha": 6, "target_modules_dit": ("q_proj", "o_proj")}
