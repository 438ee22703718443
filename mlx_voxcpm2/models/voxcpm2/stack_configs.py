"""The transformers' entries in config.json; fields, names and defaults are upstream's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...layers.config import RopeScaling, TransformerConfig
from ...schema import require, require_positive


@dataclass(frozen=True)
class LanguageModelConfig:
    """`MiniCPM4Config`, from which the sizes of the other stacks derive too."""

    hidden_size: int
    intermediate_size: int
    max_position_embeddings: int
    num_attention_heads: int
    num_hidden_layers: int
    num_key_value_heads: int
    rms_norm_eps: float
    rope_scaling: RopeScaling
    vocab_size: int
    scale_emb: float
    dim_model_base: int
    scale_depth: float
    rope_theta: float
    bos_token_id: int
    eos_token_id: int
    use_mup: bool = True
    kv_channels: int | None = None
    no_rope: bool = False

    def __post_init__(self):
        if self.kv_channels is not None:
            require_positive(self, "kv_channels")
        self.transformer()

    def transformer(self) -> TransformerConfig:
        """The stack with these sizes. Raises ValueError for sizes that do not fit each other."""
        return TransformerConfig(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            max_position_embeddings=self.max_position_embeddings,
            rms_norm_eps=self.rms_norm_eps,
            vocab_size=self.vocab_size,
            head_dim=self.kv_channels,
            rope_theta=None if self.no_rope else self.rope_theta,
            rope_scaling=self.rope_scaling,
            embedding_scale=self.scale_emb if self.use_mup else 1.0,
            residual_scale=self._residual_scale,
        )

    @property
    def _residual_scale(self) -> float:
        return self.scale_depth / math.sqrt(self.num_hidden_layers) if self.use_mup else 1.0


@dataclass(frozen=True)
class EncoderConfig:
    """`VoxCPMEncoderConfig`: what the local encoder has of its own."""

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
        name, known = self.t_scheduler, ("log-norm", "uniform")
        require(name in known, "cfm_config.t_scheduler", name, f"one of {known}")


@dataclass(frozen=True)
class DiTConfig(EncoderConfig):
    """`VoxCPMDitConfig`."""

    mean_mode: bool = False
    """The released file's spelling of `dit_mean_mode`."""
    dit_mean_mode: bool = False
    cfm_config: FlowConfig = FlowConfig()

    def __post_init__(self):
        even = self.hidden_dim >= 4 and self.hidden_dim % 2 == 0
        require(even, "dit_config.hidden_dim", self.hidden_dim, "even, and 4 or more")
        for name in ("mean_mode", "dit_mean_mode"):
            is_used = getattr(self, name)
            require(not is_used, f"dit_config.{name}", True, "false: it is not implemented")
