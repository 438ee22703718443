"""Flags of other converters: `mlx_lm.convert`, `mlx_audio.convert`.

mlx-lm 0.32: convert.py. mlx-audio 0.6.2: convert.py.
"""

from __future__ import annotations

from .names import MLX_AUDIO, MLX_LM, VOXCPM, alias, ignored, of_program, refused, same, table

_COMMON = [
    *same("hf_path mlx_path quantize q_group_size q_bits q_mode dtype upload_repo dequantize"),
    *alias("quantize", "-q"),
    *alias("dequantize", "-d"),
    *alias("recipe", "quant_predicate"),
]

CONVERT = table(
    of_program(
        MLX_LM,
        _COMMON,
        alias("hf_path", "model"),
        ignored("trust_remote_code", "no code of a checkpoint is run", has_value=False),
    ),
    of_program(
        MLX_AUDIO,
        _COMMON,
        same("revision"),
        refused("model_domain", "VoxCPM2 is a tts model; leave it out", neutral=("tts",)),
    ),
    of_program(VOXCPM, alias("adapter", "lora_path")),
)
