"""What the fields of the page mean: each mode and the inputs that it uses."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..speech.options import GenerationOptions
from ..text.segments import SEGMENT_LENGTH, is_one_segment
from ..text.spoken import spoken_text
from ..voices.folder import check_name, voice_files
from ..voices.inputs import VoiceInputs


@dataclass(frozen=True)
class Mode:
    """A way to speak. labels: of each input that it uses, by `generate`'s name for it."""

    name: str
    title: str
    advice: str
    labels: dict[str, str]
    optional: tuple[str, ...] = ()

    @property
    def takes_a_clip(self) -> bool:
        return "ref_audio" in self.labels or "prompt_audio" in self.labels


MANNER = "The manner, such as: sad, whispering (may be empty)"
WORDS = "What that clip says, word for word"
VOICE_CLIP = "The voice: 5 to 30 s of clear speech"

MODES = {
    mode.name: mode
    for mode in (
        Mode("zero-shot", "Zero-shot: any voice", "Every seed gives another voice.", {}),
        Mode(
            "design", "Design: by description", "The voice is made up from your description.",
            {"instruct": "The voice, such as: an old man, slow and hoarse"},
        ),
        Mode(
            "reference", "Reference: a clip's voice", "The voice is cloned; a manner may be given.",
            {"ref_audio": VOICE_CLIP, "instruct": MANNER}, ("instruct",),
        ),
        Mode(
            "continuation", "Continuation: go on from a clip",
            "Voice, manner and room go on from the clip; a description can't be followed here.",
            {"prompt_audio": "The speech to go on from", "prompt_text": WORDS},
        ),
        Mode(
            "combined", "Combined: both",
            "Cloned the most closely. Without a second clip the first one is gone on from, too.",
            {
                "ref_audio": VOICE_CLIP,
                "prompt_audio": "The speech to go on from (may be empty)",
                "prompt_text": "What the clip to go on from says, word for word",
            },
            ("prompt_audio",),
        ),
        Mode(
            "voice", "A kept voice", "With a manner it is steered, and cloned less closely.",
            {"voice": "Kept voices", "instruct": MANNER}, ("instruct",),
        ),
    )
}  # fmt: skip

FIELDS = ("instruct", "ref_audio", "prompt_audio", "prompt_text", "voice")
"""Inputs that only some modes use. Those of the other modes are hidden, and count for nothing."""

MISSING = {
    "instruct": "no description; say what the voice is like",
    "ref_audio": "no clip; record the voice or choose a file",
    "prompt_audio": "no clip; record the speech to go on from or choose a file",
    "prompt_text": "the clip's words are missing; write what it says",
    "voice": "no voice; keep one first, or choose another mode",
}

# The library's messages name its arguments; the page has other names for them.
PLAIN_WORDS = {
    "ref_audio": "the voice's clip", "prompt_audio": "the clip to go on from",
    "prompt_text": "that clip's words", " (as_is leaves it)": "",
}  # fmt: skip


def in_plain_words(message: str) -> str:
    for name, words in PLAIN_WORDS.items():
        message = message.replace(name, words)
    return message


@dataclass(frozen=True)
class Speech:
    """What shall be spoken. clips: `generate`'s arguments of those that FIELDS names."""

    mode: str
    text: str
    clips: dict[str, str]
    options: GenerationOptions
    is_streamed: bool = False

    @property
    def is_long(self) -> bool:
        """Whether it is spoken segment by segment."""
        return not is_one_segment(self.text, SEGMENT_LENGTH)


def used_inputs(mode: str, given: dict[str, str | None]) -> dict[str, str]:
    """Of what the fields hold, what this mode uses. Raises ValueError for what it misses."""
    wanted, used = MODES[mode], {}
    for name in wanted.labels:
        value = (given.get(name) or "").strip()
        if value:
            used[name] = value
        elif name not in wanted.optional:
            raise ValueError(MISSING[name])
    if mode == "combined":
        used.setdefault("prompt_audio", used["ref_audio"])
    return used


def asked_speech(
    mode: str,
    text: str,
    given: dict[str, str | None],
    settings: dict[str, object],
    is_streamed: bool,
) -> Speech:
    """What the page asks for. given: FIELDS -> text, path or name; settings: as in
    `checked_options`. Raises ValueError, in one line."""
    clips = used_inputs(mode, given)
    spoken_text(text, clips.get("instruct"))
    VoiceInputs(**clips)  # raises what can't be combined
    if "voice" in clips and clips["voice"] not in kept_voices():
        raise ValueError(f"no voice {clips['voice']!r} is kept any more; choose another")
    return Speech(mode, text.strip(), clips, checked_options(settings), is_streamed)


def checked_options(settings: dict[str, object]) -> GenerationOptions:
    """Numbers as a page gives them (3.0 for 3, text for a seed, None for an emptied field)."""
    values = dict(settings)
    for field in fields(GenerationOptions):
        if values.get(field.name) is None:
            values.pop(field.name, None)  # its default
    values["seed"] = seed_of(settings.get("seed"))
    for name in ("inference_timesteps", "min_tokens", "max_tokens"):
        value = values.get(name)
        if isinstance(value, float) and value.is_integer():
            values[name] = int(value)
    return GenerationOptions(**values)


def seed_of(value: object) -> int | None:
    """None, where nothing is written, is another one each time."""
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"seed is {text[:40]!r}; give a whole number, or nothing for another each time"
        ) from None


def kept_voices() -> list[str]:
    """Names, for the list; what lies elsewhere is not for the page."""
    return [file.stem for file in voice_files()]


def new_voice_name(text: str | None) -> str:
    """The name, never a path: whoever sees the page must not choose files of this machine.

    Raises ValueError.
    """
    name = (text or "").strip()
    if not name:
        raise ValueError("the voice has no name yet; write one")
    if name.lower().endswith(".safetensors"):
        raise ValueError(f"{name[:60]!r} is a file's name; give the voice a plain name")
    return check_name(name)
