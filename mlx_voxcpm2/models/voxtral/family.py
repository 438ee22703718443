"""Voxtral's names, for the code that all families share."""

from __future__ import annotations

from ..family import Family, Network
from .config import VoxtralConfig
from .layouts import has_mlx_audio_layout, sanitize, to_mlx_audio


def _network(config: VoxtralConfig) -> Network:
    from .network import VoxtralModel  # which refers to its family

    return VoxtralModel(config)


FAMILY = Family(
    title="Voxtral",
    architectures=("voxtral",),
    read_config=VoxtralConfig.from_dict,
    network=_network,
    loader="mlx_voxcpm2.voxtral.load",
    original="mistralai/Voxtral-Mini-3B-2507",
    sanitize=sanitize,
    has_mlx_audio_layout=has_mlx_audio_layout,
    to_mlx_audio=to_mlx_audio,
    reference_tensor="language_model.model.norm.weight",
    embedding="language_model.model.embed_tokens",
    output_head="language_model.lm_head",
    # As mlx-audio's conversions: 1500 positions share the reading of a weight, so that fewer bits
    # would save memory and no time.
    unquantized=("audio_tower.",),
    # Whisper's sinusoids, which transformers adds in float32 too.
    float32=("audio_tower.embed_positions.",),
    required_file="tekken.json",
    optional_files=("generation_config.json", "preprocessor_config.json"),
    parts={
        "audio_tower": "encoder",
        "multi_modal_projector": "projector",
        "language_model": "decoder",
    },
    main_parts=("language_model",),
)
