"""Voices of a dialogue's speakers: `anna`, `ben.wav` or `design: an old man` for each."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import option, shown
from ..settings import similar, unknown_name
from ..voices.folder import SUFFIX, existing_voice
from ..voices.inputs import VOICE_FIELDS, VoiceInputs
from ..voices.saved import Voice
from .labels import speaker_key

if TYPE_CHECKING:
    from ..audio.reading import AudioSource
    from .script import Script

    VoiceSource = str | Path | Voice | VoiceInputs | Mapping[str, Any] | AudioSource
    """A voice: in the notation of the command line, or any part of `VoiceInputs`."""

logger = logging.getLogger("mlx_voxcpm2")

_DESIGN = re.compile(r"design\s*:", re.IGNORECASE)


def voice_inputs(value: VoiceSource, folder: Path = Path()) -> VoiceInputs:
    """Voice of one speaker; its files exist, and are not read yet.

    value: the name or file of a saved voice, the file of a clip, `design: DESCRIPTION`; or a
    `Voice`, a clip as (samples, rate), `VoiceInputs`, or a mapping of its fields. folder: where
    relative paths are looked for first.

    Raises ValueError or FileNotFoundError, in one line.
    """
    if isinstance(value, VoiceInputs):
        return value
    if isinstance(value, Voice):
        return VoiceInputs(voice=value)
    if isinstance(value, Mapping):
        return _from_fields(value, folder)
    if isinstance(value, str) and (description := described_by(value)):
        return VoiceInputs(description)
    if isinstance(value, str | os.PathLike):
        return _from_name(os.fspath(value), folder)
    return VoiceInputs(ref_audio=value)


def described_by(value: str) -> str | None:
    """Description of a voice that is given as `design: DESCRIPTION`, else None.

    Raises ValueError for an empty one.
    """
    mark = _DESIGN.match(value)
    if mark is None:
        return None
    if not (description := value[mark.end() :].strip()):
        raise ValueError(f"{value!r} describes no voice; write design: an old man, or the like")
    return description


def _from_fields(given: Mapping[str, Any], folder: Path) -> VoiceInputs:
    """Voice of fields such as ref_audio and instruct."""
    found = dict(given)
    for name in found:
        if name not in VOICE_FIELDS:
            raise ValueError(unknown_name(str(name), VOICE_FIELDS))
    for name in ("ref_audio", "prompt_audio"):
        if isinstance(found.get(name), str):
            found[name] = _existing(found[name], folder)
    if isinstance(found.get("voice"), str):
        found["voice"] = _saved(found["voice"], folder)
    if not any(each is not None for each in found.values()):
        raise ValueError("a voice has no field; give instruct, ref_audio or voice")
    return VoiceInputs(**found)


def _from_name(text: str, folder: Path) -> VoiceInputs:
    """Voice by the name or path of a saved one, or the path of a clip."""
    if not text.strip():
        raise ValueError("it is empty; give a saved voice, a clip, or design: DESCRIPTION")
    if text.lower().endswith(SUFFIX):
        return VoiceInputs(voice=_saved(text, folder))
    path = _path(text, folder)
    if path.is_file():
        return VoiceInputs(ref_audio=path)
    if re.search(r"[/\\]|\.\w{2,5}$", text):
        raise FileNotFoundError(f"{text}: no such clip; check the path")
    try:
        return VoiceInputs(voice=existing_voice(text))
    except (ValueError, FileNotFoundError) as error:  # perhaps a description
        example = shown(f"design: {text}")
        raise type(error)(f"{error}; a description begins with design:, as {example}") from None


def _saved(text: str, folder: Path) -> Path:
    is_path = text.lower().endswith(SUFFIX)
    return existing_voice(_path(text, folder) if is_path else text)


def _existing(text: str, folder: Path) -> Path:
    path = _path(text, folder)
    if not path.is_file():
        raise FileNotFoundError(f"{text}: no such clip; check the path")
    return path


def _path(text: str, folder: Path) -> Path:
    """A file, looked for in the folder and then in the working directory."""
    path = folder / os.path.expanduser(text)
    return Path(text) if not path.exists() and Path(text).exists() else path


def dialogue_voices(
    script: Script,
    voices: Mapping[str, VoiceSource] | Sequence[VoiceSource] | None,
    folder: Path = Path(),
) -> dict[str, VoiceInputs]:
    """Voice of each speaker for whom one is given. Raises what the parts below raise."""
    found = {}
    for speaker, voice in voices_by_speaker(script, voices).items():
        try:
            found[speaker] = voice_inputs(voice, folder)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"voice of {speaker}: {error}") from None
    return found


def split_voices(items: Sequence[str]) -> dict[str, str] | list[str]:
    """Voices of `SPEAKER=VOICE` by speaker; or, where no item names one, in the speakers' order.

    Raises ValueError for a mixture, and for a speaker who is named twice.
    """
    found: dict[str, str] = {}
    bare = [each for each in items if not re.match(r"[^=/\\:]+=", each)]
    if len(bare) == len(items):
        return list(items)
    if bare:
        raise ValueError(
            f"voices: {bare[0]!r} names no speaker; write SPEAKER=VOICE for each, and "
            "the script before them"
        )
    for each in items:
        name, _, value = each.partition("=")
        if speaker_key(name) in map(speaker_key, found):
            raise ValueError(f"voices: {name} is given twice; leave one out")
        found[name.strip()] = value.strip()
    return found


def named(voices: Mapping[str, Any] | Sequence[Any] | None) -> tuple[str, ...]:
    """Speakers that voices name."""
    return tuple(map(str, voices)) if isinstance(voices, Mapping) else ()


def voices_by_speaker(
    script: Script, voices: Mapping[str, Any] | Sequence[Any] | None
) -> dict[str, Any]:
    """The voice that is given for each of a script's speakers, of those that have one.

    voices: by speaker, where 1 is "Speaker 1" and case does not matter; or in the speakers' order.
    Raises ValueError for a voice that nobody speaks in, and for a speaker without one whose name
    is probably misspelt.
    """
    speakers = script.speakers
    if isinstance(voices, str | bytes):
        raise ValueError("voices is a single voice; give a mapping from speakers, or a list")
    given = _in_order(voices, speakers) if not isinstance(voices, Mapping) else dict(voices)
    keys = {speaker_key(name): name for name in speakers}
    found: dict[str, Any] = {}
    for name, voice in given.items():
        speaker = keys.get(speaker_key(str(name)))
        if speaker is None:
            near = similar(speaker_key(str(name)), keys)
            hint = f"did you mean {keys[near]}?" if near else f"the speakers are {_list(speakers)}"
            raise ValueError(f"voices: nobody speaks as {name}; {hint}")
        if speaker in found:
            raise ValueError(f"voices: {speaker} is given twice; leave one out")
        found[speaker] = voice
    _check_spelling(script, [name for name in speakers if name not in found], found)
    return found


def report_made_up(script: Script, voices: Mapping[str, Any]) -> None:
    """Log which speakers have no voice, if the script names its speakers.

    Also which names are spoken as words, since only a voice makes a name alone on its line a
    speaker.
    """
    if script.names_alone:
        given = " ".join(f"{shlex.quote(name)}=VOICE" for name in script.names_alone[:4])
        logger.warning(
            "%s: alone on their lines, spoken as words; if they are speakers, give each a voice, "
            "as in %s %s",
            _list(script.names_alone),
            option("voices"),
            given,
        )
    lines = script.first_lines
    lacking = [f"{name} (line {lines[name]})" for name in script.speakers if name not in voices]
    if lacking and script.is_labelled:
        logger.warning("no voice is given for %s; the model makes it up", _list(lacking))


def _check_spelling(script: Script, lacking: Sequence[str], found: Mapping[str, Any]) -> None:
    keys = {speaker_key(name): name for name in found}
    for name in lacking:
        near = None if speaker_key(name).isdecimal() else similar(speaker_key(name), keys)
        if near:
            raise ValueError(
                f"line {script.first_lines[name]}: {name} has no voice; did you mean {keys[near]}? "
                f"Else give one, as in {name}=design:…"
            )


def _in_order(voices: Sequence[Any] | None, speakers: Sequence[str]) -> dict[str, Any]:
    given = list(voices or ())
    if len(given) > len(speakers):
        raise ValueError(
            f"voices: {len(given)} are given, and the script has {len(speakers)} speakers: "
            f"{_list(speakers)}; leave some out"
        )
    return dict(zip(speakers, given, strict=False))


def _list(names: Sequence[str]) -> str:
    """Names in a sentence."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
