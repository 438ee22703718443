"""JSON body of POST /v1/audio/speech: parsing and checks.

Its fields are OpenAI's, mlx-audio's, and the settings of `GenerationOptions` by name or alias.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..audio.encoding import MEDIA_TYPES
from ..settings import accepted_names, unknown_name
from ..speech.keywords import ADVICE, COUNTERPARTS
from ..speech.options import RETRIES, GenerationOptions
from ..text.spoken import spoken_text
from ..voices.inputs import VoiceInputs

DEFAULT_FORMAT = "mp3"
STREAM_FORMATS = ("audio", "sse")

# One model is served. Programs that were written for OpenAI's service can't always name it.
OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")

_OPTIONS = accepted_names(GenerationOptions)
_ALIASES = {"instructions": "instruct", **_OPTIONS}
_TEXTS = ("model", "input", "instruct", "response_format", "stream_format", "ref_audio", "ref_text")

# Fields of mlx-audio that other models use; accepted without effect.
_UNUSED = {"gender", "pitch", "lang_code", "top_p", "top_k", "repetition_penalty", "verbose"}
_UNUSED |= {"streaming_interval"}

FIELDS = tuple(sorted({*_ALIASES, *_ALIASES.values(), *_TEXTS, *_UNUSED, "voice", "stream"}))
"""Names of the fields that a body may have."""

_COUNTERPARTS = {other: name for other, name in COUNTERPARTS.items() if name in FIELDS}


@dataclass(frozen=True)
class Limits:
    """Limits and defaults of requests."""

    model: str
    """Name of the model."""
    text_length: int
    """Maximum number of characters of text and instruction together."""
    options: GenerationOptions
    """Defaults of requests. Its max_tokens is also the maximum."""


@dataclass(frozen=True)
class SpeechRequest:
    """Checked request for speech."""

    text: str
    voice: VoiceInputs
    """Voice by its name in the `VoiceRegistry`, never by a path, or a clip: at first its bytes."""
    options: GenerationOptions
    """Options with a seed."""
    format_name: str
    """One of MEDIA_TYPES."""
    stream: Literal["audio", "sse"] | None
    """Form of the stream, or None for a complete file."""

    @classmethod
    def parse(cls, body: object, limits: Limits) -> SpeechRequest:
        """Parse decoded JSON. Raises ValueError, in one line, for what can't be spoken."""
        fields = _known_fields(body)
        _check_model(fields.get("model"), limits.model)
        text, instruct = fields.get("input"), fields.get("instruct")
        length = len(text or "") + len(instruct or "")
        if length > limits.text_length:
            raise ValueError(
                f"the input has {length} characters, {limits.text_length} is the limit here; send "
                "it in parts"
            )
        spoken_text(text, instruct)  # raises for an empty text
        stream = _stream(fields)
        options = _options(fields, limits.options, stream is not None)
        return cls(text, _voice(fields), options, _format(fields.get("response_format")), stream)

    def with_clip_read(self, sample_rate: int) -> SpeechRequest:
        """The request with its clip decoded, at the model's sample rate for clips.

        Takes time, and belongs to a thread that does not run the model. Raises ValueError.
        """
        clip = self.voice.ref_audio
        if clip is None:
            return self
        from ..audio.clips import read_clip

        audio = read_clip(clip, sample_rate, "ref_audio").samples, sample_rate
        prompt = None if self.voice.prompt_audio is None else audio
        return replace(self, voice=replace(self.voice, ref_audio=audio, prompt_audio=prompt))


def _known_fields(body: object) -> dict:
    """Fields that are not null, by name. Raises ValueError for an unknown one."""
    if not isinstance(body, Mapping):
        raise ValueError("the body is not a JSON object; send one, with input and voice")
    fields = {}
    for name, value in body.items():
        if name not in FIELDS:
            raise ValueError(unknown_name(name[:100], FIELDS, _COUNTERPARTS, ADVICE))
        if value is not None:
            fields[_ALIASES.get(name, name)] = value
    for name in _TEXTS:
        if not isinstance(fields.get(name, ""), str):
            raise ValueError(f"{name} is {fields[name]!r:.100}; it must be a string")
    return fields


def _check_model(name: str | None, served: str) -> None:
    if name not in (None, served, *OPENAI_MODELS):
        raise ValueError(f"there is no model {name[:200]!r} here; there is: {served}")


def _stream(fields: Mapping) -> Literal["audio", "sse"] | None:
    stream, stream_format = fields.get("stream", False), fields.get("stream_format")
    if not isinstance(stream, bool):
        raise ValueError(f"stream is {stream!r:.100}; it must be true or false")
    if stream_format is not None and stream_format not in STREAM_FORMATS:
        names = " or ".join(STREAM_FORMATS)
        raise ValueError(f"stream_format is {stream_format[:100]!r}; it must be {names}")
    return stream_format or ("audio" if stream else None)


def _options(fields: Mapping, defaults: GenerationOptions, is_stream: bool) -> GenerationOptions:
    """Options of a request. A stream has no retries: audio that was sent can't be taken back."""
    given = {name: fields[name] for name in set(_OPTIONS.values()) & fields.keys()}
    options = replace(defaults, **given)
    if options.max_tokens > defaults.max_tokens:
        raise ValueError(
            f"max_tokens is {options.max_tokens}; {defaults.max_tokens} is the limit here"
        )
    if not is_stream:
        return options.with_seed()
    for name in RETRIES:
        if given.get(name):
            raise ValueError(f"{name} has no effect on a stream; leave it out, or stream")
    return options.without_retries().with_seed()


def _voice(fields: Mapping) -> VoiceInputs:
    """Voice of a request. Clients that must name a voice may do so beside a clip, which wins."""
    name, instruct = _voice_name(fields.get("voice")), fields.get("instruct")
    clip, transcript = fields.get("ref_audio"), fields.get("ref_text")
    if clip is None:
        if transcript is not None:
            raise ValueError("ref_text is given without ref_audio, its clip; leave it out")
        return VoiceInputs(instruct, voice=name)
    audio = _decoded(clip)
    if transcript is None or (instruct or "").strip():  # a prompt can't follow an instruction
        return VoiceInputs(instruct, audio)
    return VoiceInputs(instruct, audio, audio, transcript)


def _voice_name(voice: object) -> str | None:
    if isinstance(voice, Mapping):  # OpenAI's form for voices that users have made
        voice = voice.get("id")
    if voice is not None and not isinstance(voice, str):
        raise ValueError(f"voice is {voice!r:.100}; give a name")
    return voice


def _decoded(encoded: str) -> bytes:
    """Bytes of a clip in base64, or of a data URL."""
    content = encoded.partition(",")[2] if encoded.startswith("data:") else encoded
    try:
        clip = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        clip = b""
    if not clip:
        raise ValueError(
            "ref_audio is not audio in base64; send the clip itself, no file of the server is read"
        )
    return clip


def _format(name: str | None) -> str:
    name = name or DEFAULT_FORMAT
    if name not in MEDIA_TYPES:
        raise ValueError(
            f"response_format is {name[:100]!r}; it must be one of {', '.join(MEDIA_TYPES)}"
        )
    return name
