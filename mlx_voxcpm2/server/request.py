"""Checked requests for speech."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..audio.encoding import MEDIA_TYPES
from ..errors import shown
from ..long_form.options import LongFormOptions
from ..settings import settings_of
from ..speech.options import RETRIES, GenerationOptions
from ..text.normalization import check_normalize, normalized
from ..text.segments import Segment, is_one_segment, split_text
from ..text.spoken import check_text, spoken_text, texts_to_speak
from ..voices.inputs import VoiceInputs
from .body import LONG_FORM, SPEECH, SUBTITLES
from .limits import check_length, check_pauses

DEFAULT_FORMAT = "mp3"
STREAM_FORMATS = ("audio", "sse")


class UnknownModel(ValueError):
    """A strict server has no model of this name."""


@dataclass(frozen=True)
class Limits:
    """Limits and defaults of requests."""

    model: str
    """Name of the model."""
    text_length: int
    """Maximum number of characters of text, descriptions and transcripts together."""
    options: GenerationOptions
    """Defaults of requests. Its max_tokens is also the maximum."""
    is_strict: bool = False
    """Whether unknown fields and models are refused."""


@dataclass(frozen=True)
class SpeechRequest:
    """Checked request for speech."""

    text: str
    voice: VoiceInputs
    """Voice by its name among the server's, never by a path, or clips: at first their bytes."""
    options: GenerationOptions
    """Options with a seed; without retries if the sound is sent as it is made."""
    format_name: str
    """One of MEDIA_TYPES."""
    is_stream: bool
    """Whether the sound is sent as it is made."""
    is_events: bool = False
    """Whether it is sent as server-sent events."""
    adapter: str | None = None
    subtitles: str | None = None
    """One of SUBTITLES."""
    long_form: LongFormOptions = field(default_factory=LongFormOptions)
    """Its `language` is the text's; how long texts are split."""
    has_own_split: bool = False
    """Whether the request says how its text is split."""
    ignored: tuple[str, ...] = ()
    """Fields that are not known."""

    @classmethod
    def parse(cls, body: object, limits: Limits, needs_text: bool = True) -> SpeechRequest:
        """Parse decoded JSON. Raises ValueError, in one line, for what can't be spoken."""
        fields, ignored = SPEECH.read(body, limits.is_strict)
        shared = cls.shared(fields, limits)
        text = shared["text"]
        if needs_text and not text.strip():
            raise ValueError("input is empty; give the words to speak")
        if needs_text:
            check_text(text, shared["options"].normalize)
        return cls(**shared, ignored=ignored)

    @staticmethod
    def shared(fields: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """What all requests have, by the names of this class. Raises ValueError."""
        _check_model(fields.get("model"), limits)
        text = fields["input"]
        others = [fields.get(name) for name in ("instruct", "ref_text", "prompt_text")]
        check_length(text, others, limits.text_length)
        long_form = {name: fields[name] for name in LONG_FORM if name in fields}
        is_stream, is_events = _stream(fields)
        options = _options(fields, limits.options, is_stream)
        check_normalize(options.normalize, long_form.get("language"))
        return {
            "text": text,
            "voice": _voice(fields),
            "options": options,
            "format_name": _format(fields.get("response_format")),
            "is_stream": is_stream,
            "is_events": is_events,
            "adapter": fields.get("adapter") or None,
            "subtitles": _subtitles(fields.get("subtitles")),
            "long_form": LongFormOptions(**long_form),
            "has_own_split": bool({*long_form} - {"language"}),
        }

    def segments(self, text: str | None = None) -> tuple[Segment, ...]:
        """Segments to speak, in words if the options normalize; of all the text, or of a part.

        Takes time, and belongs to a thread. Raises ValueError for what has nothing to say, and for
        pauses that are too long together.
        """
        text, long_form = self.text if text is None else text, self.long_form
        if self.options.normalize:
            text = normalized(text, self.options.language or long_form.language)
            check_text(text)
        if is_one_segment(text) and not self.has_own_split:
            segments = [Segment(text)]
        else:
            segments = split_text(
                text, long_form.segment_length, long_form.paragraph_pause, long_form.language
            )
        for spoken in texts_to_speak(segments).values():
            spoken_text(spoken, self.voice.instruct)  # raises before the first byte
        check_pauses(segments)
        return tuple(segments)

    @property
    def shows_speakers(self) -> bool:
        """Whether subtitles name who speaks."""
        return False

    @property
    def has_clips(self) -> bool:
        return self.voice.ref_audio is not None or self.voice.prompt_audio is not None

    def with_clips_read(self, sample_rate: int) -> SpeechRequest:
        """The request with its clips decoded, at the model's sample rate for clips.

        Takes time, and belongs to a thread that does not run the model. Raises ValueError.
        """
        from ..audio.clips import read_clip

        voice = self.voice
        read: dict[bytes, Any] = {}
        for name in ("ref_audio", "prompt_audio"):
            clip = getattr(voice, name)
            if isinstance(clip, bytes) and clip not in read:
                read[clip] = read_clip(clip, sample_rate, name).samples, sample_rate
        clips = {
            name: read[clip]
            for name in ("ref_audio", "prompt_audio")
            if isinstance(clip := getattr(voice, name), bytes)
        }
        return replace(self, voice=replace(voice, **clips)) if clips else self


def _check_model(name: str | None, limits: Limits) -> None:
    if limits.is_strict and name not in (None, "", limits.model):
        raise UnknownModel(f"there is no model {name[:200]!r} here; there is: {limits.model}")


def _stream(fields: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the sound is sent as it is made, and whether as events.

    Retries need the whole sound, so who asks for them without `stream` gets it whole.
    """
    stream, stream_format = fields.get("stream"), fields.get("stream_format")
    stream_format = stream_format.lower() if stream_format else None
    if stream_format not in (None, *STREAM_FORMATS):
        names = " or ".join(STREAM_FORMATS)
        raise ValueError(f"stream_format is {stream_format[:100]!r}; it must be {names}")
    if stream is None:
        stream = not any(fields.get(name) for name in ("retry", *RETRIES))
    return stream, stream_format == "sse"


def _options(
    fields: Mapping[str, Any], defaults: GenerationOptions, is_stream: bool
) -> GenerationOptions:
    """Options of a request. A stream has no retries: audio that was sent can't be taken back."""
    given = {name: fields[name] for name in settings_of(GenerationOptions) if name in fields}
    if "retry" in fields:
        given = dict.fromkeys(RETRIES, fields["retry"]) | given
    options = replace(defaults, **given)
    if options.max_tokens > defaults.max_tokens:
        raise ValueError(
            f"max_tokens is {options.max_tokens}; {defaults.max_tokens} is the limit here"
        )
    if is_stream:
        for name in RETRIES:
            if given.get(name):
                raise ValueError(f"{name} has no effect on a stream; leave it out, or stream")
    return options.with_retries_unless(is_stream).with_seed()


def _voice(fields: Mapping[str, Any]) -> VoiceInputs:
    """Voice of a request. Clients that must name a voice may do so beside a clip, which wins."""
    name, instruct = voice_name(fields.get("voice")), fields.get("instruct")
    clips = {
        each: _decoded(each, fields[each])
        for each in ("ref_audio", "prompt_audio")
        if fields.get(each)
    }
    transcript = (fields.get("ref_text") or "").strip() or None
    if transcript and "ref_audio" not in clips:
        raise ValueError("ref_text is given without ref_audio, its clip; leave it out")
    if "prompt_audio" in clips or fields.get("prompt_text"):
        return VoiceInputs(
            instruct, clips.get("ref_audio"), clips.get("prompt_audio"), fields.get("prompt_text")
        )
    if not clips:
        return VoiceInputs(instruct, voice=name)
    audio = clips["ref_audio"]
    if transcript is None or (instruct or "").strip():  # a prompt can't follow an instruction
        return VoiceInputs(instruct, audio)
    return VoiceInputs(instruct, audio, audio, transcript)


def voice_name(voice: object) -> str | None:
    """Name of a voice, as a string or in OpenAI's form; None for none. Raises ValueError."""
    if isinstance(voice, Mapping):  # OpenAI's form for voices that users have made
        voice = voice.get("id") or voice.get("name")
    if voice is not None and not isinstance(voice, str):
        raise ValueError(f"voice is {shown(voice)}; give a name")
    return voice.strip() or None if voice else None


def _decoded(name: str, encoded: str) -> bytes:
    """Bytes of a clip in base64, or of a data URL."""
    content = encoded.partition(",")[2] if encoded.startswith("data:") else encoded
    try:
        clip = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        clip = b""
    if not clip:
        raise ValueError(
            f"{name} is not audio in base64; send the clip itself, no file of the server is read"
        )
    return clip


def _format(name: str | None) -> str:
    name = (name or DEFAULT_FORMAT).lower()
    if name not in MEDIA_TYPES:
        raise ValueError(
            f"response_format is {name[:100]!r}; it must be one of {', '.join(MEDIA_TYPES)}"
        )
    return name


def _subtitles(name: str | None) -> str | None:
    name = name.lower() if name else None
    if name not in (None, *SUBTITLES):
        raise ValueError(f"subtitles is {name[:100]!r}; it must be {' or '.join(SUBTITLES)}")
    return name
