"""Voices of the speakers of segments: which segment gives a made-up one, and their styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..text.segments import Segment, anchor_of
from ..voices.inputs import VoiceInputs

if TYPE_CHECKING:
    import numpy as np

    from ..model import VoxCPM2

LONGEST_CLIP = 30.0
"""Seconds of a segment that others clone or continue, at most: as for any clip."""


def anchor_index(segments: Sequence[Segment], speaker: str) -> int:
    """Index of the segment that gives a speaker's voice: one without a style, if there is any."""
    own = [i for i, each in enumerate(segments) if each.speaker == speaker and each.text]
    plain = [index for index in own if not segments[index].style] or own
    return plain[anchor_of([segments[index] for index in plain])]


def cloned_voice(model: VoxCPM2, voice: VoiceInputs, speech: np.ndarray) -> VoiceInputs:
    """The voice that spoke an anchor. speech: the anchor's, float32 (samples,), at speed 1."""
    rate = model.sample_rate
    reference = model.encode_audio((speech[: round(LONGEST_CLIP * rate)], rate))
    return VoiceInputs(voice.instruct, ref_audio=reference)


def styled_voice(voice: VoiceInputs, style: str | None) -> VoiceInputs:
    """A voice that speaks in a style. A prompt becomes a reference, since it sets its own style.

    voice: with its clips as such, not a saved voice.
    """
    if not style:
        return voice
    instruct = f"{voice.instruct}, {style}" if voice.instruct else style
    clip = voice.prompt_audio if voice.ref_audio is None else voice.ref_audio
    return VoiceInputs(instruct, ref_audio=clip)
