"""VibeVoice's names, for the code that all families share."""

from __future__ import annotations

from ..family import Family, Network
from .config import VibeVoiceConfig
from .config_files import read_config
from .layouts import has_mlx_audio_layout, sanitize, to_mlx_audio


def _network(config: VibeVoiceConfig) -> Network:
    from .network import VibeVoiceNetwork  # which refers to its family

    return VibeVoiceNetwork(config)


FAMILY = Family(
    title="VibeVoice",
    # The last ones are other systems, which the configuration refuses by name.
    architectures=("vibevoice", "vibepod", "vibevoice_streaming", "vibevoice_asr"),
    read_config=read_config,
    network=_network,
    loader="mlx_voxcpm2.vibevoice.load",
    rehearsal="mlx_voxcpm2.vibevoice.kernel_rehearsal",
    original="microsoft/VibeVoice-1.5B",
    sanitize=sanitize,
    has_mlx_audio_layout=has_mlx_audio_layout,
    to_mlx_audio=to_mlx_audio,
    reference_tensor="language_model.norm.weight",
    embedding="language_model.embed_tokens",
    output_head="lm_head",
    float32=("acoustic_tokenizer.", "semantic_tokenizer.", "speech_"),
    required_file="preprocessor_config.json",
    # Microsoft's checkpoints have no tokenizer.
    optional_files=("tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    diffusion=("prediction_head.",),
    parts={
        "language_model": "language model",
        "prediction_head": "diffusion head",
        "acoustic_tokenizer": "acoustic tokenizer",
        "semantic_tokenizer": "semantic tokenizer",
    },
    other_parts="connectors, output head, factors",
    main_parts=("language_model", "prediction_head"),
)
