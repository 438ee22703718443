"""config.json as frozen dataclasses: every field that upstream reads is honoured or refused.

Fields, names and defaults follow the official package (`MiniCPM4Config`, `CfmConfig`,
`VoxCPMEncoderConfig`, `VoxCPMDitConfig`, `AudioVAEConfig`, `VoxCPMConfig`).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

from ...layers.config import TransformerConfig
from ...schema import MOST_LAYERS, read_dataclass, require, require_positive, require_sizes
from ..family import architecture_of
from .stack_configs import DiTConfig, EncoderConfig, LanguageModelConfig

logger = logging.getLogger("mlx_voxcpm2")

# Fields that the hub's libraries and MLX converters add to upstream's; load.py reads the
# quantisation, the others do not concern the network.
_FOREIGN_FIELDS = {
    "_name_or_path",
    "architecture",
    "architectures",
    "auto_map",
    "model_type",
    "quantization",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
}


@dataclass(frozen=True)
class AudioVAEConfig:
    """Channels double with each encoder rate and halve with each decoder rate."""

    encoder_dim: int = 128
    encoder_rates: tuple[int, ...] = (2, 5, 8, 8)
    latent_dim: int | None = 64
    decoder_dim: int = 2048
    decoder_rates: tuple[int, ...] = (8, 6, 5, 2, 2, 2)
    depthwise: bool = True
    sample_rate: int = 16000
    out_sample_rate: int = 48000
    use_noise_block: bool = False
    sr_bin_boundaries: tuple[int, ...] | None = (20000, 30000, 40000)
    cond_type: str = "scale_bias"
    cond_dim: int = 128
    cond_out_layer: bool = False

    def __post_init__(self):
        require_positive(self, "encoder_dim", "decoder_dim", "sample_rate", "out_sample_rate")
        require_positive(self, "cond_dim")
        require((self.latent_dim or 0) >= 0, "latent_dim", self.latent_dim, "0 or more")
        for name in ("encoder_rates", "decoder_rates"):
            require_sizes(name, getattr(self, name), most=1000, count=12)
        if self.sr_bin_boundaries is not None:
            require(len(self.sr_bin_boundaries) <= 64, "sr_bin_boundaries", "a long list", "short")
        channels, smallest = self.decoder_dim, 2 ** len(self.decoder_rates)
        wanted = f"{smallest} or more, since it is halved once per rate"
        require(channels >= smallest, "decoder_dim", channels, wanted)
        require(not self.use_noise_block, "use_noise_block", True, "false: it is not implemented")
        if self.sr_bin_boundaries is not None:
            # "…_init" differs from "scale_bias" in how training starts, not in what it computes.
            known = ("scale_bias", "scale_bias_init")
            require(self.cond_type in known, "cond_type", self.cond_type, f"one of {known}")
            require(not self.cond_out_layer, "cond_out_layer", True, "false: it is not implemented")

    @property
    def latent_channels(self) -> int:
        """Channels of a latent, D."""
        return self.latent_dim or self.encoder_dim * 2 ** len(self.encoder_rates)

    @property
    def encoder_hop(self) -> int:
        """Samples at `sample_rate` per latent."""
        return math.prod(self.encoder_rates)

    @property
    def decoder_hop(self) -> int:
        """Samples at `out_sample_rate` per latent."""
        return math.prod(self.decoder_rates)


@dataclass(frozen=True)
class VoxCPM2Config:
    """`VoxCPMConfig`, the whole of config.json."""

    lm_config: LanguageModelConfig
    encoder_config: EncoderConfig
    dit_config: DiTConfig
    audio_vae_config: AudioVAEConfig = AudioVAEConfig()
    patch_size: int = 4
    feat_dim: int = 64
    residual_lm_num_layers: int = 8
    residual_lm_no_rope: bool = False
    scalar_quantization_latent_dim: int = 512
    scalar_quantization_scale: int = 9
    max_length: int = 8192
    # PyTorch's placement. MLX has one device, and `load_model` decides the precision.
    device: str = "cuda"
    dtype: str = "bfloat16"

    def __post_init__(self):
        require_positive(self, "feat_dim", "max_length")
        require_positive(self, "patch_size", most=64)  # no tensor has it, so that none would miss
        require_positive(self, "residual_lm_num_layers", most=MOST_LAYERS)
        require_positive(self, "scalar_quantization_latent_dim", "scalar_quantization_scale")
        latents = self.audio_vae_config.latent_channels
        wanted = f"{latents}, the AudioVAE's latent_dim"
        require(self.feat_dim == latents, "feat_dim", self.feat_dim, wanted)
        # Each checks its sizes when it is made.
        _ = self.residual_config, self.local_encoder_config, self.local_dit_config

    @property
    def context_length(self) -> int:
        """Number of positions: upstream's cache ends at one limit, its RoPE at the other."""
        return min(self.max_length, self.lm_config.max_position_embeddings)

    @property
    def base_config(self) -> TransformerConfig:
        """Sizes of the base language model."""
        return self.lm_config.transformer()

    @property
    def residual_config(self) -> TransformerConfig:
        """Sizes of the residual language model."""
        layers, no_rope = self.residual_lm_num_layers, self.residual_lm_no_rope
        changes = {"num_hidden_layers": layers, "vocab_size": 0, "no_rope": no_rope}
        return replace(self.lm_config, **changes).transformer()

    @property
    def local_encoder_config(self) -> TransformerConfig:
        """Sizes of the local encoder's stack."""
        return self._local(self.encoder_config)

    @property
    def local_dit_config(self) -> TransformerConfig:
        """Sizes of the local diffusion transformer's stack."""
        return self._local(self.dit_config)

    def _local(self, local: EncoderConfig) -> TransformerConfig:
        """Sizes of a local stack; the others are the language model's, as upstream copies them."""
        changed = replace(
            self.lm_config,
            hidden_size=local.hidden_dim,
            intermediate_size=local.ffn_dim,
            num_attention_heads=local.num_heads,
            num_hidden_layers=local.num_layers,
            kv_channels=local.kv_channels,
            vocab_size=0,
        )
        return changed.transformer()

    @classmethod
    def from_dict(cls, data: dict) -> VoxCPM2Config:
        """Reads config.json's object.

        Raises ValueError for another architecture and for any field that cannot be honoured.
        """
        architecture = architecture_of(data).lower()
        if architecture == "voxcpm":
            raise ValueError(
                "config.json: this is a VoxCPM 1.x checkpoint; take a VoxCPM2 one, such as "
                "openbmb/VoxCPM2"
            )
        if architecture != "voxcpm2":
            raise ValueError(
                f"config.json: architecture is {architecture!r}; this package runs 'voxcpm2' only"
            )
        unknown: list[str] = []
        try:
            config = read_dataclass(cls, data, unknown)
        except ValueError as error:
            raise ValueError(f"config.json: {error}") from None
        unknown = [name for name in unknown if name not in _FOREIGN_FIELDS]
        if unknown:
            logger.warning("config.json: not fields of VoxCPM2, not used: %s", ", ".join(unknown))
        return config
