"""config.json as frozen dataclasses, in the spelling of transformers 5 and in the older one.

Defaults are those of transformers' `VoxtralConfig`: the sizes of Voxtral-Mini-3B-2507.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ...layers.config import TransformerConfig
from ...schema import MOST_LAYERS, read_dataclass, require, require_positive

DOWNSAMPLING = 4
"""Encoder states per embedding, which stand side by side in the projector's input."""
MEL_HOP = 160
"""Samples per frame of the log-mel spectrogram."""
SAMPLE_RATE = 16000

_OLD_AUDIO_NAMES = {
    "d_model": "hidden_size",
    "encoder_layers": "num_hidden_layers",
    "encoder_attention_heads": "num_attention_heads",
    "encoder_ffn_dim": "intermediate_size",
}
_TEXT_DEFAULTS = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "vocab_size": 131072,
}
_ROPE_THETA = 1e8
_LONGEST_CONTEXT = 32768
"""Positions of text and sound together that the model was trained for, whatever the limit of its
RoPE is: half an hour of sound, and the transcript."""


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of Whisper's encoder, by the names of transformers 5."""

    hidden_size: int = 1280
    num_hidden_layers: int = 32
    num_attention_heads: int = 20
    intermediate_size: int = 5120
    num_mel_bins: int = 128
    max_source_positions: int = 1500
    activation_function: str = "gelu"
    scale_embedding: bool = False

    def __post_init__(self):
        names = ("hidden_size", "num_attention_heads", "num_mel_bins", "max_source_positions")
        require_positive(self, *names)
        require_positive(self, "num_hidden_layers", most=MOST_LAYERS)
        width, heads = self.hidden_size, self.num_attention_heads
        require(width % heads == 0, "hidden_size", width, f"a multiple of the {heads} heads")
        inner = DOWNSAMPLING * width
        wanted = f"{inner}: {DOWNSAMPLING} states of {width}"
        require(
            self.intermediate_size == inner, "intermediate_size", self.intermediate_size, wanted
        )
        positions, wanted = self.max_source_positions, f"a multiple of {DOWNSAMPLING}"
        require(positions % DOWNSAMPLING == 0, "max_source_positions", positions, wanted)
        _require_gelu("activation_function", self.activation_function)
        require(not self.scale_embedding, "scale_embedding", True, "false: it is not implemented")

    @property
    def chunk_frames(self) -> int:
        """Frames of a chunk of the spectrogram."""
        return 2 * self.max_source_positions

    @property
    def chunk_samples(self) -> int:
        """Samples of a chunk."""
        return MEL_HOP * self.chunk_frames

    @property
    def chunk_embeddings(self) -> int:
        """Embeddings, and `[AUDIO]` tokens, per chunk."""
        return self.max_source_positions // DOWNSAMPLING


@dataclass(frozen=True)
class VoxtralConfig:
    """Configuration of the whole network."""

    audio_config: AudioConfig
    text_config: TransformerConfig
    audio_token_id: int = 24
    projector_hidden_act: str = "gelu"
    dtype: str = "bfloat16"

    def __post_init__(self):
        _require_gelu("projector_hidden_act", self.projector_hidden_act)
        is_token = 0 <= self.audio_token_id < self.text_config.vocab_size
        require(is_token, "audio_token_id", self.audio_token_id, "a token of the vocabulary")

    @property
    def context_length(self) -> int:
        """Number of positions that text and sound together may have."""
        return min(self.text_config.max_position_embeddings, _LONGEST_CONTEXT)

    @classmethod
    def from_dict(cls, data: dict) -> VoxtralConfig:
        """Reads config.json's object.

        Raises ValueError for another model and for any field that cannot be honoured.
        """
        try:
            return cls._read(data)
        except ValueError as error:
            raise ValueError(f"config.json: {error}") from None

    @classmethod
    def _read(cls, data: dict) -> VoxtralConfig:
        kind = data.get("model_type")
        require(kind == "voxtral", "model_type", kind, "'voxtral'")
        audio = _audio_fields(_section(data, "audio_config"))
        text = _text_fields(_section(data, "text_config"), data)
        own = {each.name for each in fields(cls)} - {"audio_config", "text_config", "dtype"}
        values = {name: data[name] for name in own if data.get(name) is not None}
        # Other fields are about training and generation, or repeat those that are read.
        ignored: list[str] = []
        sections = {"audio_config": audio, "text_config": text}
        values["dtype"] = data.get("dtype") or data.get("torch_dtype") or cls.dtype
        return read_dataclass(cls, values | sections, ignored)


def _section(data: dict, name: str) -> dict:
    section = data.get(name) or {}
    if not isinstance(section, dict):
        raise ValueError(f"{name} must be an object; take the released file")
    return section


def _audio_fields(section: dict) -> dict:
    """The encoder's fields by their new names. Raises ValueError if two spellings disagree."""
    result = dict(section)
    for old, new in _OLD_AUDIO_NAMES.items():
        if old in section and section.get(new, section[old]) != section[old]:
            both = f"{old} is {section[old]!r} and {new} is {section[new]!r}"
            raise ValueError(f"audio_config.{both}; they must agree")
        if old in section:
            result[new] = section[old]
    return {name: value for name, value in result.items() if value is not None}


def _text_fields(section: dict, data: dict) -> dict:
    """The decoder's fields for `TransformerConfig`."""
    for name in ("attention_bias", "mlp_bias"):
        require(not section.get(name), f"text_config.{name}", True, "false: it is not implemented")
    activation = section.get("hidden_act", "silu")
    require(activation == "silu", "text_config.hidden_act", activation, "'silu'")
    given = {name: section[name] for name in _TEXT_DEFAULTS if section.get(name) is not None}
    tied = (source.get("tie_word_embeddings") for source in (section, data))
    # Files of older releases have the field in one of the two places only.
    is_tied = next((value for value in tied if value is not None), False)
    return {**_TEXT_DEFAULTS, **given, "rope_theta": _rope_theta(section)} | {
        "tie_word_embeddings": is_tied
    }


def _rope_theta(section: dict) -> float:
    """RoPE's base, in either spelling. Raises ValueError for a scaled RoPE."""
    ropes = [section.get(name) or {} for name in ("rope_parameters", "rope_scaling")]
    for rope in ropes:
        if not isinstance(rope, dict):
            raise ValueError("text_config.rope_parameters must be an object")
        kind = rope.get("rope_type", rope.get("type", "default"))
        require(kind == "default", "text_config.rope_type", kind, "'default'")
    found = [rope["rope_theta"] for rope in [*ropes, section] if rope.get("rope_theta") is not None]
    if any(theta != found[0] for theta in found):
        raise ValueError(f"text_config.rope_theta is {found[0]!r} and {found[-1]!r}; choose one")
    return found[0] if found else _ROPE_THETA


def _require_gelu(name: str, activation: str) -> None:
    require(activation == "gelu", name, activation, "'gelu', the exact one")
