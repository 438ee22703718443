"""The voice of a request: a description, clips, or a saved voice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ..errors import option
from ..settings import setting
from .saved import Voice

if TYPE_CHECKING:
    import mlx.core as mx

    from ..audio.reading import AudioSource
    from .clip_encoder import ClipEncoder


@dataclass(frozen=True, eq=False)
class VoiceInputs:
    """Voice to speak in; empty for one that the model makes up.

    instruct: description of a voice to design, or of the style; not with a prompt.
    ref_audio: clip of a voice to clone. prompt_audio with prompt_text, its transcript: speech to
    continue. Either clip may be the patches that `VoxCPM2.encode_audio` returned: padded on the
    right for ref_audio, on the left for prompt_audio.
    voice: instead of those, a `Voice`, or the name or file of a saved one.
    Raises ValueError for what no mode combines.
    """

    instruct: str | None = setting(None, "text", "description of the voice or of the style")
    ref_audio: AudioSource | mx.array | None = setting(
        None, "audio", "clip of a voice to clone", metavar="PATH"
    )
    prompt_audio: AudioSource | mx.array | None = setting(
        None, "audio", "speech to continue; with its transcript, prompt_text", metavar="PATH"
    )
    prompt_text: str | None = setting(None, "text", "transcript of prompt_audio")
    voice: str | Path | Voice | None = setting(
        None, "voice", "saved voice, instead of clips", metavar="NAME_OR_PATH"
    )

    def __post_init__(self):
        self._check_voice()
        self._check_prompt()
        instruct, prompt = self.instruct, self.prompt_audio
        if prompt is not None and isinstance(instruct, str) and instruct.strip():
            raise ValueError(
                f"{option('instruct')} does not work with a prompt, the model would ignore or "
                f"speak it; leave one of them out, or give the voice by {option('ref_audio')}"
            )

    def _check_voice(self) -> None:
        clips = [name for name in CLIP_FIELDS if getattr(self, name) is not None]
        if self.voice is not None and clips:
            raise ValueError(
                f"{option('voice')} and {option(clips[0])} are both given, and a voice has its own "
                "clip; leave one out"
            )

    def _check_prompt(self) -> None:
        words, audio = self.prompt_text, self.prompt_audio
        if (audio is None) != (words is None):
            clip, transcript = option("prompt_audio"), option("prompt_text")
            given, missing = (clip, transcript) if words is None else (transcript, clip)
            raise ValueError(
                f"{given} is given without {missing}; a prompt needs both, its sound and its words"
            )
        if words is not None and not isinstance(words, str):
            raise ValueError(
                f"{option('prompt_text')} is a {type(words).__name__}; it must be a string"
            )
        if words is not None and not words.strip():
            name, clip = option("prompt_text"), option("prompt_audio")
            raise ValueError(f"{name} is empty; give the words that {clip} speaks")

    @property
    def has_clip(self) -> bool:
        """Whether a clip or a saved voice decides the voice."""
        return any(getattr(self, name) is not None for name in (*CLIP_FIELDS, "voice"))

    @classmethod
    def of(cls, voice: Voice, instruct: str | None = None) -> VoiceInputs:
        """Inputs with the clips of a saved voice.

        With `instruct` only its reference, since a prompt can't be combined with an instruction.
        """
        if instruct and instruct.strip() and voice.reference is not None:
            return cls(instruct, voice.reference)
        return cls(instruct, voice.reference, voice.prompt, voice.prompt_text)

    def resolved(self, encoder: ClipEncoder) -> VoiceInputs:
        """Inputs with the clips of the saved voice in its place.

        Raises FileNotFoundError, or ValueError for a voice of another AudioVAE.
        """
        if self.voice is None:
            return self
        voice = self.voice if isinstance(self.voice, Voice) else Voice.load(self.voice)
        voice.check(encoder)
        return VoiceInputs.of(voice, self.instruct)

    def with_clips_read(self) -> VoiceInputs:
        """Inputs with each clip that is a file or its bytes as (samples, rate) instead.

        Raises what reading a clip raises.
        """
        from ..audio.reading import read_channels

        given = {name: getattr(self, name) for name in ("ref_audio", "prompt_audio")}
        read: dict[str, Any] = {
            name: read_channels(clip, option(name))
            for name, clip in given.items()
            if isinstance(clip, str | bytes | Path)
        }
        return replace(self, **read) if read else self

    def encoded(self, encoder: ClipEncoder) -> VoiceInputs:
        """Inputs with every clip as patches (N, P, D), encoded once for many requests.

        Raises what `resolved` and reading a clip raise.
        """
        voice = self.resolved(encoder)
        reference = encoder.prepare(voice.ref_audio, option("ref_audio"), "right").evaluated()
        prompt = encoder.prepare(voice.prompt_audio, option("prompt_audio"), "left").evaluated()
        return VoiceInputs(voice.instruct, reference, prompt, voice.prompt_text)

    def given(self) -> dict[str, Any]:
        """Fields that are not None, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def beside(cls, own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Fields `own` completed by `defaults`: a saved voice replaces default clips, and clips a
        default saved voice."""
        clips = {*CLIP_FIELDS}
        replaced = clips if "voice" in own else {"voice"} if clips & own.keys() else set()
        return {name: each for name, each in defaults.items() if name not in replaced} | dict(own)


CLIP_FIELDS = ("ref_audio", "prompt_audio", "prompt_text")
VOICE_FIELDS = tuple(each.name for each in fields(VoiceInputs))


class VoiceKeywords(TypedDict, total=False):
    """`VoiceInputs` as keyword arguments, for type checkers."""

    instruct: str | None
    ref_audio: AudioSource | mx.array | None
    prompt_audio: AudioSource | mx.array | None
    prompt_text: str | None
    voice: str | Path | Voice | None
