"""What a client asks for: the JSON of POST /v1/audio/speech, checked.

OpenAI's fields, mlx-audio's, and the options of `GenerationOptions` by their names.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..audio.encoding import MEDIA_TYPES
from ..speech.options import GenerationOptions
from ..text.spoken import spoken_text

DEFAULT_FORMAT = "mp3"
STREAM_FORMATS = ("audio", "sse")

# One model is served. Programs that were written for OpenAI's service can't always name it.
OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")

# Spellings of other servers and of mlx-audio's command.
_OTHER_NAMES = {"instructions": "instruct", "cfg_scale": "cfg_value"}
_OTHER_NAMES |= {"ddpm_steps": "inference_timesteps"}
_OPTIONS = (
    "cfg_value", "inference_timesteps", "solver", "temperature", "min_tokens", "max_tokens", "seed",
)  # fmt: skip
_TEXTS = ("model", "input", "instruct", "response_format", "stream_format", "ref_audio", "ref_text")
# mlx-audio's, which other models understand and this one has no use for.
_UNUSED = (
    "gender", "pitch", "lang_code", "top_p", "top_k", "repetition_penalty", "verbose",
    "streaming_interval",
)  # fmt: skip
_KNOWN = {*_OPTIONS, *_TEXTS, *_UNUSED, "voice", "speed", "stream"}


@dataclass(frozen=True)
class Limits:
    """What clients may ask for."""

    model: str
    """Its name."""
    text_length: int
    """Characters, of text and instruction together."""
    options: GenerationOptions
    """Where a request says nothing. Its max_tokens is the most that one may say."""


@dataclass(frozen=True)
class SpeechOrder:
    text: str
    instruct: str | None
    voice: str | None
    """A name."""
    clip: bytes | None
    """A voice that the request brings along, an audio file's content."""
    clip_text: str | None
    """What it says."""
    format_name: str
    """One of MEDIA_TYPES."""
    stream: str | None
    """One of STREAM_FORMATS, or None for a whole file."""
    options: GenerationOptions

    @classmethod
    def read(cls, data: object, limits: Limits) -> SpeechOrder:
        """data: what the JSON holds. Raises ValueError for what can't be spoken."""
        fields = _known_fields(data)
        _check_model(fields.get("model"), limits.model)
        text, instruct = fields.get("input"), fields.get("instruct")
        length = len(text or "") + len(instruct or "")
        if length > limits.text_length:
            raise ValueError(
                f"the input has {length} characters, {limits.text_length} is the limit here; send "
                "it in parts"
            )
        spoken_text(text, instruct)
        if fields.get("speed", 1) != 1:
            raise ValueError(
                f"speed is {fields['speed']!r}; VoxCPM2 has none, say how fast in the instructions"
            )
        stream = _stream(fields)
        options = _options(fields, limits.options)
        if stream:
            options = options.without_retries()  # what was heard can't be taken back
        voice, clip = _voice(fields.get("voice")), fields.get("ref_audio")
        if clip is not None:
            voice = None  # clients that must name a voice do so beside it
        elif fields.get("ref_text") is not None:
            raise ValueError("ref_text is given without ref_audio, whose words it is; leave it out")
        return cls(
            text, instruct, voice, None if clip is None else _clip(clip), fields.get("ref_text"),
            _format(fields.get("response_format")), stream, options,
        )  # fmt: skip


def _known_fields(data: object) -> dict:
    if not isinstance(data, Mapping):
        raise ValueError("the body is no JSON object; send one, with input and voice")
    fields = {}
    for name, value in data.items():
        name = _OTHER_NAMES.get(name, name)
        if name not in _KNOWN:
            raise ValueError(f"{name[:100]!r} is not known here; leave it out")
        if value is not None:
            fields[name] = value
    for name in _TEXTS:
        if not isinstance(fields.get(name, ""), str):
            raise ValueError(f"{name} is {fields[name]!r:.100}; it must be a string")
    return fields


def _check_model(name: str | None, served: str) -> None:
    if name not in (None, served, *OPENAI_MODELS):
        raise ValueError(f"there is no model {name[:200]!r} here; there is: {served}")


def _stream(fields: Mapping) -> str | None:
    stream, kind = fields.get("stream", False), fields.get("stream_format")
    if not isinstance(stream, bool):
        raise ValueError(f"stream is {stream!r:.100}; it must be true or false")
    if kind is not None and kind not in STREAM_FORMATS:
        names = " or ".join(STREAM_FORMATS)
        raise ValueError(f"stream_format is {kind[:100]!r}; it must be {names}")
    return kind or ("audio" if stream else None)


def _options(fields: Mapping, defaults: GenerationOptions) -> GenerationOptions:
    options = replace(defaults, **{name: fields[name] for name in _OPTIONS if name in fields})
    if options.max_tokens > defaults.max_tokens:
        raise ValueError(
            f"max_tokens is {options.max_tokens}; {defaults.max_tokens} is the limit here"
        )
    return options


def _voice(voice: object) -> str | None:
    if isinstance(voice, Mapping):  # as OpenAI's service names voices that users have made
        voice = voice.get("id")
    if voice is not None and not isinstance(voice, str):
        raise ValueError(f"voice is {voice!r:.100}; give a name")
    return voice


def _clip(encoded: str) -> bytes:
    content = encoded.partition(",")[2] if encoded.startswith("data:") else encoded
    try:
        clip = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        clip = b""
    if not clip:
        raise ValueError(
            "ref_audio is no audio in base64; send the clip itself, no file of the server is read"
        )
    return clip


def _format(name: str | None) -> str:
    name = name or DEFAULT_FORMAT
    if name not in MEDIA_TYPES:
        raise ValueError(
            f"response_format is {name[:100]!r}; it must be one of {', '.join(MEDIA_TYPES)}"
        )
    return name
