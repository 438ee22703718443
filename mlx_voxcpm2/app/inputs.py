"""Modes of speaking that the page offers, and what its fields hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..settings import settings_of
from ..speech.options import GenerationOptions
from ..text.segments import SEGMENT_LENGTH, is_one_segment
from ..text.spoken import spoken_text
from ..voices.folder import check_name, list_voices
from ..voices.inputs import VOICE_FIELDS, VoiceInputs

FIELDS = VOICE_FIELDS
"""Fields that only some modes use. Other modes hide them and ignore what they hold."""


@dataclass(frozen=True)
class Mode:
    """Mode of speaking. labels: labels of the fields that it uses, by name."""

    name: str
    title: str
    advice: str
    labels: Mapping[str, str]
    optional: tuple[str, ...] = ()

    @property
    def has_clip(self) -> bool:
        return "ref_audio" in self.labels or "prompt_audio" in self.labels


VOICE_CLIP = "The voice: 5 to 30 s of clear speech"
STYLE = "The style, such as: sad, whispering (may be empty)"

_MODES = (
    Mode("zero-shot", "Zero-shot: any voice", "Every seed gives another voice.", {}),
    Mode(
        "design",
        "Design: by description",
        "The voice is made up from your description.",
        {"instruct": "The voice, such as: an old man, slow and hoarse"},
    ),
    Mode(
        "reference",
        "Reference: a clip's voice",
        "The voice is cloned; a style may be given.",
        {"ref_audio": VOICE_CLIP, "instruct": STYLE},
        optional=("instruct",),
    ),
    Mode(
        "continuation",
        "Continuation: continue a clip",
        "Continues the clip's voice, style and room; a description has no effect here.",
        {
            "prompt_audio": "The speech to continue",
            "prompt_text": "Transcript of that clip, word for word",
        },
    ),
    Mode(
        "combined",
        "Combined: both",
        "Clones the most closely. Without a second clip the first one is continued, too.",
        {
            "ref_audio": VOICE_CLIP,
            "prompt_audio": "The speech to continue (may be empty)",
            "prompt_text": "Transcript of the clip to continue, word for word",
        },
        optional=("prompt_audio",),
    ),
    Mode(
        "voice",
        "Saved voice",
        "With a style the voice is cloned less closely.",
        {"voice": "Saved voices", "instruct": STYLE},
        optional=("instruct",),
    ),
)
MODES = {mode.name: mode for mode in _MODES}

MISSING = {
    "instruct": "no description; say what the voice is like",
    "ref_audio": "no clip; record the voice or choose a file",
    "prompt_audio": "no clip; record the speech to continue or choose a file",
    "prompt_text": "the clip's transcript is missing; write what it says",
    "voice": "no voice; save one first, or choose another mode",
}

# The page's names for arguments that the library's messages name.
PLAIN_WORDS = {
    "ref_audio": "the voice's clip",
    "prompt_audio": "the clip to continue",
    "prompt_text": "that clip's transcript",
    " (as_is leaves it)": "",
}


def in_plain_words(message: str) -> str:
    for name, words in PLAIN_WORDS.items():
        message = message.replace(name, words)
    return message


@dataclass(frozen=True)
class PageRequest:
    """Checked request of the page."""

    mode: str
    text: str
    voice: VoiceInputs
    options: GenerationOptions
    is_streamed: bool = False

    @property
    def is_long(self) -> bool:
        """Whether the text is spoken segment by segment."""
        return not is_one_segment(self.text, SEGMENT_LENGTH)

    @classmethod
    def parse(
        cls,
        mode: str,
        text: str,
        given: Mapping[str, str | None],
        settings: Mapping[str, object],
        is_streamed: bool,
    ) -> PageRequest:
        """Check the page's fields. Raises ValueError, in one line.

        given: text, path or name by FIELDS. settings: see `parse_options`.
        """
        voice = parse_voice(mode, given)
        spoken_text(text, voice.instruct)  # raises for an empty text
        if voice.voice is not None and voice.voice not in list_voices():
            raise ValueError(f"there is no saved voice {voice.voice!r} any more; choose another")
        return cls(mode, text.strip(), voice, parse_options(settings), is_streamed)


def parse_voice(mode: str, given: Mapping[str, str | None]) -> VoiceInputs:
    """Voice of the fields that the mode uses. Raises ValueError for what is missing."""
    chosen, used = MODES[mode], {}
    for name in chosen.labels:
        value = (given.get(name) or "").strip()
        if value:
            used[name] = value
        elif name not in chosen.optional:
            raise ValueError(MISSING[name])
    if mode == "combined":
        used.setdefault("prompt_audio", used["ref_audio"])
    return VoiceInputs(**used)


def parse_options(settings: Mapping[str, object]) -> GenerationOptions:
    """Options by name, as Gradio gives them: 3.0 for 3, text for a seed, None for an empty field.

    Raises ValueError for a value out of range.
    """
    values = dict(settings)
    for name, described in settings_of(GenerationOptions).items():
        if described.kind == "integer":
            values[name] = _integer(name, values.get(name))
    return GenerationOptions(**{name: each for name, each in values.items() if each is not None})


def _integer(name: str, value: object) -> object:
    """Integer for the text or float of a field, None for an empty one, other values as they are."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    try:
        return int(value) if value.strip() else None
    except ValueError:
        shown = value.strip()[:40]
        raise ValueError(f"{name} is {shown!r}; give a whole number, or leave it empty") from None


def new_voice_name(text: str | None) -> str:
    """Name for a new voice, never a path, since visitors must not choose files of this machine.

    Raises ValueError.
    """
    name = (text or "").strip()
    if not name:
        raise ValueError("the voice has no name yet; write one")
    if name.lower().endswith(".safetensors"):
        raise ValueError(f"{name[:60]!r} is a file's name; give the voice a plain name")
    return check_name(name)
