"""config.json in Microsoft's layout and in transformers' (-hf): every field is used or refused.

Upstream: vibevoice 0.0.1, modular/configuration_vibevoice.py; transformers 5.23,
models/vibevoice/configuration_vibevoice.py.
"""

from __future__ import annotations

from typing import Any

from ...errors import shown
from ...layers.config import TransformerConfig
from ...schema import require
from ..family import architecture_of
from .config import CodecConfig, HeadConfig, VibeVoiceConfig

_REQUIRED = object()
_OTHER_SYSTEMS = ("vibevoice_streaming", "vibevoice_asr", "vibevoice_realtime")
# Fields of Microsoft's tokenizers that change what is computed -> the only value that is known.
_FIXED = {
    "causal": True,
    "channels": 1,
    "conv_bias": True,
    "conv_norm": "none",
    "disable_last_norm": True,
    "layernorm": "RMSNorm",
    "layernorm_elementwise_affine": True,
    "mixer_layer": "depthwise_conv",
    "pad_mode": "constant",
}


class Section:
    """Object of a configuration file; values are read by name, with their type checked."""

    def __init__(self, data: object, name: str):
        require(isinstance(data, dict), name, data, "an object")
        self.data: dict = data  # type: ignore[assignment]
        self.name = name

    def inner(self, *names: str) -> Section:
        """The object of the first of these names that is there. Raises ValueError for none."""
        for name in names:
            if self.data.get(name) is not None:
                return Section(self.data[name], name)
        raise ValueError(f"config.json: {names[0]} is missing; take the released file")

    def get(self, kind: type, *names: str, default: Any = _REQUIRED) -> Any:
        """Value of the first of these names that is there and not null, else the default."""
        for name in names:
            value = self.data.get(name)
            if value is None:
                continue
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            require(is_right, f"{self.name}.{name}", value, f"of type {kind.__name__}")
            return value
        if default is _REQUIRED:
            raise ValueError(
                f"config.json: {self.name}.{names[0]} is missing; take the released file"
            )
        return default

    def integers(self, name: str, default: Any = _REQUIRED) -> Any:
        """A list of whole numbers, or "3-3-8" as Microsoft's files write it, as a tuple."""
        value = self.data.get(name)
        if value is None:
            return self.get(list, name, default=default)
        if isinstance(value, str):
            value = [int(part) if part.isdigit() else part for part in value.split("-")]
        is_list = isinstance(value, list) and all(type(each) is int for each in value)
        require(is_list, f"{self.name}.{name}", value, "a list of whole numbers")
        return tuple(value)

    def refuse_others(self, wanted: dict[str, Any]) -> None:
        """Raise ValueError for a field that is there and has another value than the given one."""
        for name, value in wanted.items():
            found = self.data.get(name)
            allowed = value if isinstance(value, tuple) else (value,)
            if found is not None and found not in allowed:
                raise ValueError(
                    f"config.json: {self.name}.{name} is {shown(found)}; only {value!r} is "
                    "implemented"
                )


def read_config(data: dict) -> VibeVoiceConfig:
    """config.json of either layout -> the configuration. Raises ValueError."""
    kind = architecture_of(data).lower()
    if kind.startswith(_OTHER_SYSTEMS):
        raise ValueError(
            f"config.json is of {kind!r}, which is another system; take "
            "microsoft/VibeVoice-1.5B or its 7B sibling"
        )
    whole = Section(data, "config.json")
    is_microsoft = "decoder_config" in data
    decoder = whole.inner("decoder_config" if is_microsoft else "text_config")
    transformer = _decoder(decoder)
    read_codecs = _microsoft_codecs if is_microsoft else _hf_codecs
    acoustic, semantic, std = read_codecs(whole)
    head = _head(whole, transformer, acoustic.latent_dim)
    dtype = whole.get(str, "dtype", "torch_dtype", default=None)
    dtype = dtype or decoder.get(str, "dtype", "torch_dtype", default="bfloat16")
    return VibeVoiceConfig(transformer, acoustic, semantic, head, std, dtype=dtype)


def _decoder(section: Section) -> TransformerConfig:
    """Qwen2's configuration."""
    section.refuse_others(
        {"model_type": "qwen2", "hidden_act": "silu", "use_sliding_window": False}
    )
    rope = Section(section.data.get("rope_parameters") or {}, "rope_parameters")
    rope.refuse_others({"rope_type": "default", "type": "default"})
    if section.data.get("rope_scaling"):
        raise ValueError("config.json: rope_scaling is given; only plain RoPE is implemented")
    if any(kind != "full_attention" for kind in section.data.get("layer_types") or []):
        raise ValueError("config.json: layer_types has sliding windows; only full attention works")
    theta = section.get(float, "rope_theta", default=None)
    if theta is None:
        theta = rope.get(float, "rope_theta")
    heads = section.get(int, "num_attention_heads")
    return TransformerConfig(
        hidden_size=section.get(int, "hidden_size"),
        intermediate_size=section.get(int, "intermediate_size"),
        num_hidden_layers=section.get(int, "num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=section.get(int, "num_key_value_heads", default=heads),
        max_position_embeddings=section.get(int, "max_position_embeddings"),
        rms_norm_eps=section.get(float, "rms_norm_eps"),
        vocab_size=section.get(int, "vocab_size"),
        head_dim=section.get(int, "head_dim", default=None),
        qkv_bias=True,
        rope_theta=theta,
        # Only the decoder's own value counts: the one of the whole is wrong for 7B.
        tie_word_embeddings=section.get(bool, "tie_word_embeddings", default=False),
    )


def _microsoft_codecs(whole: Section) -> tuple[CodecConfig, CodecConfig, float]:
    acoustic = whole.inner("acoustic_tokenizer_config")
    semantic = whole.inner("semantic_tokenizer_config")
    std = acoustic.get(float, "fix_std", default=0.5) / 0.8
    if acoustic.get(str, "std_dist_type", default="gaussian") == "none":
        std = 0.0
    acoustic.refuse_others({"std_dist_type": ("gaussian", "none")})
    latent = whole.get(int, "acoustic_vae_dim", "acostic_vae_dim", default=None)
    semantic_dim = whole.get(int, "semantic_vae_dim", default=None)
    return (
        _microsoft_codec(acoustic, latent, has_decoder=True),
        _microsoft_codec(semantic, semantic_dim, has_decoder=False),
        std,
    )


def _microsoft_codec(section: Section, latent: int | None, has_decoder: bool) -> CodecConfig:
    """Ratios there are in the decoder's order."""
    section.refuse_others(_FIXED)
    filters = section.get(int, "encoder_n_filters", default=32)
    ratios = section.integers("encoder_ratios")
    if has_decoder:
        section.refuse_others({"decoder_n_filters": filters, "decoder_ratios": list(ratios)})
    default = _REQUIRED if latent is None else latent
    return CodecConfig(
        latent_dim=section.get(int, "vae_dim", default=default),
        filters=filters,
        ratios=ratios[::-1],
        depths=section.integers("encoder_depths"),
        decoder_depths=section.integers("decoder_depths", default=None) if has_decoder else None,
        eps=section.get(float, "layernorm_eps", default=1e-5),
    )


def _hf_codecs(whole: Section) -> tuple[CodecConfig, CodecConfig, float]:
    acoustic = whole.inner("audio_config", "acoustic_tokenizer_config")
    semantic = whole.inner("semantic_model_config", "semantic_tokenizer_encoder_config")
    std = acoustic.get(float, "vae_std", default=0.625)
    return _hf_codec(acoustic), _hf_codec(semantic), std


def _hf_codec(section: Section) -> CodecConfig:
    section.refuse_others({"channels": 1, "ffn_expansion": 4, "hidden_act": "gelu"})
    return CodecConfig(
        latent_dim=section.get(int, "hidden_size"),
        filters=section.get(int, "num_filters", default=32),
        ratios=section.integers("downsampling_ratios"),
        depths=section.integers("depths"),
        kernel=section.get(int, "kernel_size", default=7),
        eps=section.get(float, "rms_norm_eps", default=1e-5),
    )


def _head(whole: Section, decoder: TransformerConfig, latent: int) -> HeadConfig:
    """The head's section in any of three layouts; an early converter wrote none of its own."""
    section = Section(
        whole.data.get("diffusion_head_config") or whole.data, "diffusion_head_config"
    )
    section.refuse_others(
        {
            "prediction_type": "v_prediction",
            "ddpm_beta_schedule": ("cosine", "squaredcos_cap_v2"),
            "ddpm_num_steps": 1000,
            "diffusion_type": "ddpm",
            "mlp_bias": False,
            "hidden_act": "silu",
        }
    )
    hidden = section.get(int, "hidden_size", default=decoder.hidden_size)
    ratio = section.get(float, "head_ffn_ratio", default=3.0)
    return HeadConfig(
        latent_dim=section.get(int, "latent_size", "speech_vae_dim", default=latent),
        hidden_size=hidden,
        intermediate_size=section.get(int, "intermediate_size", default=int(hidden * ratio)),
        layers=section.get(int, "num_hidden_layers", "head_layers", default=4),
        eps=section.get(float, "rms_norm_eps", default=1e-5),
        frequency_size=section.get(int, "frequency_embedding_size", default=256),
        max_period=section.get(float, "diffusion_max_period", default=10000.0),
    )
