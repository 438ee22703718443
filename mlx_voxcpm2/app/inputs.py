"""What the page sends with a text: the voice, and settings. Checked, each error with its field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..dialogue.options import TurnOptions
from ..server.limits import check_pauses
from ..server.tasks import SpeechTask
from ..settings import settings_of
from ..speech.options import GenerationOptions
from ..text.normalization import check_normalize, normalized
from ..text.segments import Segment, is_one_segment, split_text
from ..text.spoken import check_text
from ..voices.folder import check_name, list_voices
from ..voices.inputs import VoiceInputs
from .warnings import logged_warnings

LONGEST_TEXT = 200_000
"""Characters of a text, with what is written of its voices: four hours of speech."""

VoiceKind = Literal["any", "described", "clip", "saved"]

MISSING = {
    "description": "Say what the voice is like, such as “an old man, slow and hoarse”.",
    "clip": "Record the voice, or choose a file.",
    "words": "Write what the clip says, word for word.",
    "voice": "Choose a voice. To have one, keep the voice of a take or of a clip.",
    "text": "Write the words to speak.",
    "script": "Write what the speakers say, in lines such as “Anna: Hello.”",
}

# The page's names for arguments that the library's messages name.
PLAIN_WORDS = {
    "ref_audio": "the clip",
    "prompt_audio": "the clip to continue",
    "prompt_text": "the clip's words",
    " (as_is leaves it)": "",
    "text is empty; give the words to speak": MISSING["text"],
}

LONG_FORM = ("paragraph_pause", "turn_pause", "language")
"""Settings of `TurnOptions` that the page has."""

ClipOf = Callable[[str], tuple[Any, int]]
"""Gives the decoded clip of an id, as (samples, rate). Raises KeyError."""


class FieldError(ValueError):
    """An error in one of the page's fields. field: its name, or "" for none."""

    def __init__(self, field: str, message: str):
        super().__init__(in_plain_words(message))
        self.field = field


def in_plain_words(message: str) -> str:
    for name, words in PLAIN_WORDS.items():
        message = message.replace(name, words)
    return message


@dataclass(frozen=True, eq=False)
class VoiceChoice:
    """The voice as the page sends it. Fields that its kind does not use are ignored.

    style: how to speak, for a clip or a saved voice. continues: the speech continues the clip,
    whose words are then needed; `clones` tells whether the clip is also the reference. other_clip:
    the clip to continue, if it is not the same.
    """

    kind: VoiceKind = "any"
    description: str = ""
    style: str = ""
    clip: str = ""
    continues: bool = False
    clones: bool = True
    words: str = ""
    other_clip: str = ""
    voice: str = ""

    @classmethod
    def parse(cls, given: object) -> VoiceChoice:
        """Parse decoded JSON. Raises FieldError for a value of another type."""
        if not isinstance(given, Mapping):
            raise FieldError("", "the voice is not a JSON object; reload the page")
        values: dict[str, Any] = {}
        for name, value in given.items():
            default = cls.__dataclass_fields__.get(name)
            if default is None:
                raise FieldError("", f"the voice has no {str(name)[:40]!r}; reload the page")
            if type(value) is not type(default.default):
                raise FieldError(name, f"{name} is {value!r:.60}; reload the page")
            values[name] = value.strip() if isinstance(value, str) else value
        if values.get("kind", "any") not in KINDS:
            raise FieldError("kind", f"kind is {values['kind'][:40]!r}; reload the page")
        return cls(**values)

    @property
    def mode(self) -> str:
        """The model's mode, by upstream's word."""
        if self.kind == "clip" and self.continues:
            return "combined" if self.clones else "continuation"
        return {
            "any": "zero-shot",
            "described": "design",
            "clip": "reference",
            "saved": "voice",
        }[self.kind]

    @property
    def label(self) -> str:
        """The voice in a few words."""
        if self.kind == "saved":
            return self.voice
        if self.kind == "described":
            return self.description
        return {"any": "any voice", "clip": "from a clip"}[self.kind]

    def inputs(self, clips: ClipOf) -> VoiceInputs:
        """Voice for the model. clips: the decoded clip of an id; raises KeyError.

        Raises FieldError.
        """
        if self.kind == "any":
            return VoiceInputs()
        if self.kind == "described":
            return VoiceInputs(instruct=self._needed("description"))
        if self.kind == "saved":
            name = self._needed("voice")
            if name not in list_voices():  # a path would read any file of this machine
                raise FieldError("voice", f"There is no voice {name[:60]!r} any more.")
            return VoiceInputs(instruct=self.style or None, voice=name)
        return self._clip_inputs(clips)

    def _clip_inputs(self, clips: ClipOf) -> VoiceInputs:
        clip = self._clip("clip", clips)
        if not self.continues:
            return VoiceInputs(instruct=self.style or None, ref_audio=clip)
        words = self._needed("words")
        prompt = self._clip("other_clip", clips) if self.other_clip and self.clones else clip
        return VoiceInputs(
            ref_audio=clip if self.clones else None, prompt_audio=prompt, prompt_text=words
        )

    def _clip(self, name: str, clips: ClipOf) -> tuple[Any, int]:
        try:
            return clips(self._needed(name))
        except KeyError:
            raise FieldError(name, "The clip is not here any more; give it again.") from None

    def _needed(self, name: str) -> str:
        if not (value := getattr(self, name)):
            raise FieldError(name, MISSING[name])
        return value


KINDS = ("any", "described", "clip", "saved")


@dataclass(frozen=True, eq=False)
class PageRequest:
    """Checked request of the page."""

    text: str
    choice: VoiceChoice
    voice: VoiceInputs = field(default_factory=VoiceInputs)
    options: GenerationOptions = field(default_factory=GenerationOptions)
    long_form: TurnOptions = field(default_factory=TurnOptions)
    segments: tuple[Segment, ...] = ()
    """The text as it is spoken, in words if the options say so."""
    is_streamed: bool = True
    """Whether speech is final as it is generated, so that nothing is generated again."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Settings as the page sent them, to be shown again."""

    notes: tuple[str, ...] = ()
    """Warnings about the text."""

    @property
    def language(self) -> str | None:
        return self.options.language or self.long_form.language

    def task(self) -> SpeechTask:
        """For the model's thread: a short text as it is, a long one in segments."""
        options = replace(self.options, normalize=False)
        if self.is_streamed:
            options = options.without_retries()
        return SpeechTask(self.segments, options, self.voice)

    @property
    def words(self) -> str:
        """All that is said."""
        return self.text

    @property
    def mode(self) -> str:
        """The model's mode, in a word."""
        return self.choice.mode

    @property
    def shows_speakers(self) -> bool:
        """Whether subtitles name who speaks."""
        return False

    def as_json(self) -> dict[str, object]:
        """What the page shows of it, and sends to make it again."""
        return {
            "text": self.text,
            "voice": asdict(self.choice),
            "voice_label": self.choice.label,
            "mode": self.mode,
            "settings": dict(self.settings),
            "stream": self.is_streamed,
        }

    def without_clips(self) -> PageRequest:
        """The request as its take keeps it, without the clips' samples."""
        return replace(self, voice=VoiceInputs(self.voice.instruct), segments=())

    @classmethod
    def parse(
        cls,
        body: object,
        clips: ClipOf,
        defaults: Mapping[str, object] | None = None,
    ) -> PageRequest:
        """Check decoded JSON. Raises FieldError.

        clips: see `VoiceChoice.inputs`. defaults: values of settings that the page does not send.
        """
        text, form = form_of(body, "text")
        settings = form["settings"]
        choice = VoiceChoice.parse(form.get("voice", {}))
        voice = choice.inputs(clips)
        check_length("text", text, [voice])
        options, long_form = parse_settings({**(defaults or {}), **settings})
        with logged_warnings() as notes:
            segments = segments_of(text, options, long_form)
        return cls(
            text.strip(),
            choice,
            voice,
            options,
            long_form,
            segments,
            form.get("stream") is not False,
            dict(settings),
            tuple(notes),
        )


def form_of(body: object, name: str, needs_words: bool = True) -> tuple[str, Mapping[str, Any]]:
    """Text of a request's field of this name, and its fields, `settings` among them.

    Raises FieldError.
    """
    if not isinstance(body, Mapping):
        raise FieldError("", "the body is not a JSON object; reload the page")
    text, settings = body.get(name), body.get("settings", {})
    if not isinstance(text, str) or not isinstance(settings, Mapping):
        raise FieldError("", f"the request has no {name} or no settings; reload the page")
    if len(text) > LONGEST_TEXT:
        raise FieldError(
            name, f"The {name} has {len(text)} characters; {LONGEST_TEXT} are the limit."
        )
    if needs_words and not text.strip():
        raise FieldError(name, MISSING[name])
    return text, {**body, "settings": settings}


def check_length(name: str, text: str, voices: Iterable[VoiceInputs]) -> None:
    """Raise FieldError for a text that is too long with its descriptions and words of clips."""
    more = sum(len(each.instruct or "") + len(each.prompt_text or "") for each in voices)
    if len(text) + more > LONGEST_TEXT:
        raise FieldError(
            name,
            f"The {name} has {len(text)} characters, what is written of the voice {more}; "
            f"{LONGEST_TEXT} in all are the limit.",
        )


def segments_of(
    text: str, options: GenerationOptions, long_form: TurnOptions
) -> tuple[Segment, ...]:
    """The text's segments; one that is short stays as it is. Raises FieldError."""
    try:
        if options.normalize:
            text = normalized(text, options.language or long_form.language)
        check_text(text)
        if is_one_segment(text, long_form.segment_length):
            return (Segment(text.strip()),)
        pause, language = long_form.paragraph_pause, long_form.language
        segments = tuple(split_text(text, long_form.segment_length, pause, language))
        check_pauses(segments)
        return segments
    except ValueError as error:
        raise FieldError("text", str(error)) from None


def parse_settings(given: Mapping[str, object]) -> tuple[GenerationOptions, TurnOptions]:
    """Options by name, of both classes, as a browser gives them: text for numbers, "" for none.

    Raises FieldError for an unknown name or a value out of range.
    """
    rest = dict(given)

    def made(cls: Any, names: Collection[str]) -> Any:
        values = {}
        for name in names:
            value = _value(name, settings_of(cls)[name].kind, rest.pop(name, None))
            if value is not None:
                values[name] = value
        return _checked(cls, values)

    options = made(GenerationOptions, settings_of(GenerationOptions))
    long_form = made(TurnOptions, LONG_FORM)
    if rest:
        raise FieldError("", f"there is no setting {str(next(iter(rest)))[:40]!r}; reload the page")
    try:
        check_normalize(options.normalize, long_form.language)
    except ValueError as error:
        raise FieldError("language", str(error)) from None
    return options, long_form


def _checked(cls: Any, values: dict[str, object]) -> Any:
    """Instance of the values. Raises FieldError, with the setting that is wrong by itself."""
    for name, value in values.items():
        try:
            cls(**{name: value})
        except (ValueError, TypeError) as error:
            raise FieldError(name, str(error)) from None
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise FieldError("", str(error)) from None


def _value(name: str, kind: str, value: object) -> object:
    """The value of a field; None for an empty one."""
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
    if kind == "integer":
        return _integer(name, value)
    if kind == "number" and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise FieldError(name, f"{name} is {value[:40]!r}; give a number") from None
    return value


def _integer(name: str, value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        raise FieldError(
            name, f"{name} is {value[:40]!r}; give a whole number, or leave it empty"
        ) from None


def new_voice_name(text: object) -> str:
    """Name for a voice, never a path, since visitors must not choose files of this machine.

    Raises FieldError.
    """
    name = text.strip() if isinstance(text, str) else ""
    if not name:
        raise FieldError("name", "Give the voice a name.")
    if name.lower().endswith(".safetensors"):
        raise FieldError("name", f"{name[:60]!r} is a file's name; give the voice a plain name.")
    try:
        return check_name(name)
    except ValueError as error:
        message = str(error).split(", or a path")[0]
        raise FieldError("name", message) from None
