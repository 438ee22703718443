"""Flags of other programs that speak a text: upstream's `voxcpm`, `mlx_audio.tts.generate`.

Upstream: src/voxcpm/cli.py of 2.0.3 and of its main branch. mlx-audio 0.6.2: tts/generate.py.
"""

from __future__ import annotations

from .names import (
    MLX_AUDIO,
    VOXCPM,
    alias,
    built_in,
    ignored,
    of_program,
    refused,
    same,
    table,
    translated,
)

_NO_DENOISER = "there is no denoiser; clean the clip first"
_FROM_ADAPTER = "it is read from the adapter's lora_config.json"
_NO_DURATION = "VoxCPM2 predicts no duration; --speed makes the speech faster or slower"
_ONE = ("1", "1.0")

MODEL = of_program(
    VOXCPM,
    same("device cache_dir local_files_only"),
    alias("model", "model_path hf_model_id"),
    alias("adapter", "lora_path"),
    built_in("no_denoiser", "there is no denoiser to load", has_value=False),
    built_in("no_optimize", "nothing is compiled at loading", has_value=False),
    refused("zipenhancer_path", _NO_DENOISER),
    ignored("lora_r lora_alpha lora_dropout", _FROM_ADAPTER),
    ignored("lora_enable_proj", _FROM_ADAPTER, has_value=False),
    refused(
        "lora_disable_lm lora_disable_dit",
        "an adapter is attached with all layers that it was trained for; leave this out",
        has_value=False,
    ),
)
_VOICE = of_program(
    VOXCPM,
    alias("instruct", "control"),
    same("prompt_audio prompt_text prompt_file"),
    alias("prompt_audio", "-pa"),
    alias("prompt_text", "-pt"),
    alias("ref_audio", "reference_audio -ra"),
    refused("denoise", _NO_DENOISER, has_value=False),
)
OPTIONS = [
    *of_program(
        VOXCPM,
        same("cfg_value inference_timesteps normalize seed"),
        alias("min_tokens", "min_len"),
        alias("max_tokens", "max_len"),
    ),
    *of_program(
        MLX_AUDIO,
        same("temperature max_tokens speed"),
        alias("cfg_value", "cfg_scale"),
        alias("inference_timesteps", "ddpm_steps steps"),
    ),
]
_TIMESTAMPS = of_program(
    VOXCPM,
    same("timestamps"),
    refused(
        "timestamp_strict timestamps_strict",
        "words whose times are not found are not an error; leave it out",
        has_value=False,
    ),
    refused(
        "timestamp_output timestamp_level timestamp_backend timestamp_model timestamp_language "
        "timestamp_device timestamps_output timestamps_level timestamps_model timestamps_language "
        "timestamps_device",
        "--timestamps gives the words of --subtitles FILE.srt times, by --asr_model",
    ),
)
_MLX_AUDIO = of_program(
    MLX_AUDIO,
    same("model text voice instruct ref_audio verbose play stream"),
    alias("language", "lang_code"),
    alias("asr_model", "stt_model"),
    translated(
        "output_path file_prefix audio_format",
        "the file is OUTPUT_PATH/FILE_PREFIX_000.AUDIO_FORMAT, or with --join_audio "
        "FILE_PREFIX.AUDIO_FORMAT, as in mlx-audio; otherwise --output FILE",
    ),
    translated("join_audio", "long texts are one file in any case", has_value=False),
    translated(
        "ref_text",
        "transcript of --ref_audio, which is then cloned more closely; without effect beside "
        '--instruct, and if it is mlx-audio\'s "placeholder"',
    ),
    built_in("save", "--stream writes the file in any case", has_value=False),
    ignored("streaming_interval", "speech is streamed in steps of 0.16 s"),
    refused("gen_duration duration_multiplier", _NO_DURATION, neutral=_ONE),
    refused("pitch", "describe the pitch in --instruct", neutral=_ONE),
    refused("gender", "describe the voice in --instruct"),
    refused("exaggeration", "describe the expression in --instruct", neutral=("0.5",)),
    refused("prompt", "VoxCPM2 has no prefix; give --instruct, or --prompt_audio"),
    refused(
        "top_p top_k min_p repetition_penalty",
        "VoxCPM2 samples no tokens; --temperature scales its noise",
        neutral=("0", "0.0", *_ONE),
    ),
    refused("stg_scale stg_block rescale_scale sigma", "VoxCPM2 has no such setting; see --solver"),
    refused(
        "use_zero_spk_emb",
        "VoxCPM2 has no speaker embedding; leave the clip out for a new voice",
        has_value=False,
    ),
)

GENERATE = table(
    of_program(VOXCPM, same("text output"), alias("text", "-t"), alias("output", "-o")),
    of_program(
        VOXCPM,
        built_in("long_form", "long texts are split in any case", has_value=False),
    ),
    _VOICE,
    OPTIONS,
    MODEL,
    _TIMESTAMPS,
    _MLX_AUDIO,
)
BATCH = table(
    of_program(
        VOXCPM,
        same("input output_dir"),
        alias("input", "-i"),
        alias("output_dir", "-od"),
    ),
    _VOICE,
    OPTIONS,
    MODEL,
    of_program(
        VOXCPM,
        refused(
            "timestamps timestamp_strict",
            "words are not aligned; generate --subtitles writes the times of segments",
            has_value=False,
        ),
        refused(
            "timestamp_level timestamp_backend timestamp_model timestamp_language timestamp_device",
            "words are not aligned; generate --subtitles writes the times of segments",
        ),
    ),
    of_program(MLX_AUDIO, alias("format", "audio_format")),
)
VOICE_ADD = table(
    of_program(
        VOXCPM,
        same("prompt_audio prompt_text prompt_file"),
        alias("prompt_audio", "-pa"),
        alias("prompt_text", "-pt"),
        alias("ref_audio", "reference_audio -ra"),
        alias("model", "model_path hf_model_id"),
    ),
    of_program(
        MLX_AUDIO,
        same("ref_audio model"),
        alias("prompt_text", "ref_text"),
        alias("asr_model", "stt_model"),
    ),
)
