"""config.json as frozen dataclasses: every field that upstream reads is honoured or refused.

Fields, names and defaults follow the official package (`MiniCPM4Config`, `CfmConfig`,
`VoxCPMEncoderConfig`, `VoxCPMDitConfig`, `AudioVAEConfig`, `VoxCPMConfig`).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

from ...layers.config import TransformerConfig
from ...schema import read_dataclass, require, require_positive

logger = logging.getLogger("mlx_voxcpm2")

# Written beside upstream's fields by the hub's libraries and by MLX converters; load.py reads
# the quantisation, the rest says nothing about the network.
_FOREIGN_FIELDS = {
    "_name_or_path", "architecture", "architectures", "auto_map", "model_type", "quantization",
    "quantization_config", "torch_dtype", "transformers_version",
}  # fmt: skip


@dataclass(frozen=True)
class EncoderConfig:
    hidden_dim: int = 1024
    ffn_dim: int = 4096
    num_heads: int = 16
    num_layers: int = 4
    kv_channels: int | None = None


@dataclass(frozen=True)
class FlowConfig:
    """`CfmConfig`. Upstream solves with Euler whatever `solver` says; the rest is for training."""

    sigma_min: float = 1e-6
    solver: str = "euler"
    t_scheduler: str = "log-norm"
    training_cfg_rate: float = 0.1
    inference_cfg_rate: float = 1.0
    reg_loss_type: str = "l1"
    ratio_r_neq_t_range: tuple[float, ...] = (0.25, 0.75)
    noise_cond_prob_range: tuple[float, ...] = (0.0, 0.0)
    noise_cond_scale: float = 0.0

    def __post_init__(self):
        require(self.solver == "euler", "cfm_config.solver", self.solver, "'euler'")
        known = ("log-norm", "uniform")
        require(
            self.t_scheduler in known, "cfm_config.t_scheduler", self.t_scheduler, f"one of {known}"
        )


@dataclass(frozen=True)
class DiTConfig(EncoderConfig):
    # The released file spells the first, upstream reads the second.
    mean_mode: bool = False
    dit_mean_mode: bool = False
    cfm_config: FlowConfig = FlowConfig()

    def __post_init__(self):
        even = self.hidden_dim >= 4 and self.hidden_dim % 2 == 0
        require(even, "dit_config.hidden_dim", self.hidden_dim, "even, and 4 or more")
        require(not self.mean_mode, "dit_config.mean_mode", True, "false: it is not implemented")
        require(
            not self.dit_mean_mode, "dit_config.dit_mean_mode", True, "false: it is not implemented"
        )


@dataclass(frozen=True)
class AudioVAEConfig:
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
        for name in ("encoder_rates", "decoder_rates"):
            rates = getattr(self, name)
            require(bool(rates) and min(rates) > 0, name, list(rates), "positive integers")
        smallest = 2 ** len(self.decoder_rates)
        require(
            self.decoder_dim >= smallest, "decoder_dim", self.decoder_dim,
            f"{smallest} or more, since it is halved once per rate",
        )  # fmt: skip
        require(not self.use_noise_block, "use_noise_block", True, "false: it is not implemented")
        if self.sr_bin_boundaries is not None:
            # "…_init" differs from "scale_bias" in how training starts, not in what it computes.
            known = ("scale_bias", "scale_bias_init")
            require(self.cond_type in known, "cond_type", self.cond_type, f"one of {known}")
            require(not self.cond_out_layer, "cond_out_layer", True, "false: it is not implemented")

    @property
    def latent_channels(self) -> int:
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
    lm_config: TransformerConfig
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
        require_positive(
            self, "patch_size", "feat_dim", "residual_lm_num_layers", "max_length",
            "scalar_quantization_latent_dim", "scalar_quantization_scale",
        )  # fmt: skip
        latents = self.audio_vae_config.latent_channels
        require(
            self.feat_dim == latents, "feat_dim", self.feat_dim,
            f"{latents}, the AudioVAE's latent_dim",
        )  # fmt: skip
        for stack in (self.residual_config, self.local_encoder_config, self.local_dit_config):
            if not stack.no_rope:
                stack._check_rope()

    @property
    def context_length(self) -> int:
        """Positions there are: upstream's cache ends at one limit, its RoPE at the other."""
        return min(self.max_length, self.lm_config.max_position_embeddings)

    @property
    def residual_config(self) -> TransformerConfig:
        return replace(
            self.lm_config, num_hidden_layers=self.residual_lm_num_layers,
            vocab_size=0, no_rope=self.residual_lm_no_rope,
        )  # fmt: skip

    @property
    def local_encoder_config(self) -> TransformerConfig:
        return self._local(self.encoder_config)

    @property
    def local_dit_config(self) -> TransformerConfig:
        return self._local(self.dit_config)

    def _local(self, local: EncoderConfig) -> TransformerConfig:
        """Key-value heads, RoPE and muP are the language model's, as upstream copies them."""
        return replace(
            self.lm_config, hidden_size=local.hidden_dim, intermediate_size=local.ffn_dim,
            num_attention_heads=local.num_heads, num_hidden_layers=local.num_layers,
            kv_channels=local.kv_channels, vocab_size=0,
        )  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict) -> VoxCPM2Config:
        """Raises ValueError for another architecture and for any field that cannot be honoured."""
        architecture = str(data.get("architecture", data.get("model_type", "voxcpm"))).lower()
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
