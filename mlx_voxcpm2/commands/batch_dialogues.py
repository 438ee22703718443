"""Lines of a batch that hold a dialogue: `{"script": "Anna: Hello.", "voices": {"Anna": …}}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dialogue.options import TurnOptions
from ..dialogue.script import Script, parse_script
from ..dialogue.speak import dialogue_segments, speak_dialogue
from ..dialogue.voices import dialogue_voices, named
from ..errors import shown
from ..speech.results import GenerationResult, Stopwatch
from ..voices.inputs import VOICE_FIELDS, VoiceInputs

if TYPE_CHECKING:
    from ..long_form.speak import SpokenSegment
    from ..model import VoxCPM2
    from ..recognition.best_of import BestOf
    from ..recognition.verification import Verification
    from ..speech.options import GenerationOptions

DIALOGUE_FIELDS = ("script", "voices")


def read_dialogue(
    entry: Mapping[str, Any], folder: Path
) -> tuple[Script | None, dict[str, VoiceInputs]]:
    """Script and voices of a line's fields; None for a line without a script.

    folder: where the clips of relative paths are. Raises ValueError.
    """
    if "script" not in entry:
        if "voices" in entry:
            raise ValueError("voices are for a script; give script, or voice for a text")
        return None, {}
    if others := [name for name in ("text", *VOICE_FIELDS) if name in entry]:
        raise ValueError(f"{others[0]} is given beside script; leave it out, or use voices")
    voices = entry.get("voices", {})
    if not isinstance(voices, dict | list):
        raise ValueError("voices must be an object of voices by speaker, or a list of voices")
    script = parse_script(entry["script"], named(voices))
    dialogue_segments(script, TurnOptions())  # raises what can't be a pause
    for voice in voices.values() if isinstance(voices, dict) else voices:
        _check_voice(voice)
    try:
        return script, dialogue_voices(script, voices, folder)
    except (OSError, TypeError) as error:
        raise ValueError(str(error)) from None


def _check_voice(voice: object) -> None:
    """Raise ValueError for a voice that is neither text nor an object of texts."""
    texts = [*voice.values()] if isinstance(voice, dict) else [voice]
    for each in texts:
        if not isinstance(each, str):
            raise ValueError(
                f"a voice is {shown(each)}; give a name, a clip, design:DESCRIPTION, or an object "
                "of instruct, ref_audio and the like"
            )
        if not each.isprintable():
            raise ValueError(f"a voice holds characters that can't be read: {shown(each)}")


def dialogue_key(script: Script, voices: Mapping[str, VoiceInputs]) -> list[object]:
    """What decides a dialogue's audio, besides its options and the files of its voices."""
    turns = [[turn.speaker, turn.text, turn.style] for turn in script.turns]
    words = {name: [voice.instruct, voice.prompt_text] for name, voice in voices.items()}
    files = [[name, *voice.given()] for name, voice in voices.items()]
    how = TurnOptions()
    return [turns, words, files, how.turn_pause, how.paragraph_pause, how.segment_length]


def speak_line(
    model: VoxCPM2,
    script: Script,
    voices: Mapping[str, VoiceInputs],
    options: GenerationOptions,
    parallel: int,
    verify: Verification | None,
    best_of: BestOf | None,
    progress: Callable[[float], None],
) -> GenerationResult:
    """Speak a dialogue, several turns at once, into one result."""
    everyone = {name: voices.get(name, VoiceInputs()) for name in script.speakers}
    options, watch = options.with_seed(), Stopwatch(model.sample_rate)
    spoken = speak_dialogue(
        model,
        script,
        everyone,
        options=options,
        parallel=parallel,
        verify=verify,
        best_of=best_of,
        progress=progress,
    )
    return _joined(list(spoken), watch, options.seed)


def _joined(segments: list[SpokenSegment], watch: Stopwatch, seed: int | None) -> GenerationResult:
    """One result for the segments of a dialogue. Its guards begin with their times."""
    import mlx.core as mx

    audio = mx.array(np.concatenate([segment.audio for segment in segments]))
    reasons = [each.finish_reason for each in segments if each.finish_reason not in (None, "stop")]
    guards = [f"{each.start:.1f} s: {guard}" for each in segments for guard in each.guards]
    rates = [(each.error_rate, len(each.text)) for each in segments if each.error_rate is not None]
    letters = sum(length for _, length in rates)
    return watch.result(
        audio,
        0,
        seed=seed,
        finish_reason=reasons[0] if reasons else "stop",
        guards=tuple(guards),
        error_rate=sum(rate * length for rate, length in rates) / letters if letters else None,
    )
