"""VoxCPM2's names, for the code that all families share."""

from __future__ import annotations

from ...file_names import CHARACTERS_FILE, DESCRIPTIONS_FILE, WORDS_FILE
from ..family import Family, Network
from .config import VoxCPM2Config
from .layouts import has_mlx_audio_layout, sanitize, to_mlx_audio


def _network(config: VoxCPM2Config) -> Network:
    from .network import VoxCPM2Model  # which refers to its family

    return VoxCPM2Model(config)


FAMILY = Family(
    title="VoxCPM2",
    # "voxcpm" are VoxCPM 1.x, and files that name no architecture: the config refuses them.
    architectures=("voxcpm2", "voxcpm"),
    read_config=VoxCPM2Config.from_dict,
    network=_network,
    loader="mlx_voxcpm2.load_model",
    rehearsal="mlx_voxcpm2.speech.kernel_rehearsal",
    original="openbmb/VoxCPM2",
    sanitize=sanitize,
    has_mlx_audio_layout=has_mlx_audio_layout,
    to_mlx_audio=to_mlx_audio,
    reference_tensor="base_lm.norm.weight",
    embedding="base_lm.embed_tokens",
    float32=("audio_vae.",),
    required_file="tokenizer.json",
    optional_files=("tokenizer_config.json", WORDS_FILE, CHARACTERS_FILE, DESCRIPTIONS_FILE),
    separate_files={"audio_vae.": ("audiovae.safetensors", "audiovae.pth")},
    diffusion=("feat_decoder.estimator.",),
    encoder=("feat_encoder.",),
    parts={
        "base_lm": "language model",
        "residual_lm": "residual language model",
        "feat_encoder": "local encoder",
        "feat_decoder": "diffusion transformer",
        "audio_vae": "AudioVAE",
    },
    other_parts="scalar quantiser, projections, stop head",
    main_parts=("base_lm", "feat_decoder"),
)
