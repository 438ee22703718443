"""Voices of a task, learnt from its own speech where none is given. For the model's thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..long_form.speakers import anchor_index, cloned_voice, styled_voice
from ..text.segments import Segment
from ..voices.inputs import VoiceInputs

if TYPE_CHECKING:
    from ..model import VoxCPM2

ENOUGH_REFERENCE = 5.0
"""Seconds of generated speech that suffice as the reference of the later segments."""


class TaskVoices(Protocol):
    """Voices of the segments of a task."""

    def inputs(self, segment: Segment) -> VoiceInputs:
        """Voice to speak a segment in. Raises what encoding a clip raises."""
        ...

    def anchor(self, segment: Segment) -> int | None:
        """Index of the segment that must be spoken before this one; None for none."""
        ...

    def learn(self, index: int, audio: np.ndarray, is_end: bool, has_more: bool) -> None:
        """Take account of speech (samples,), at speed 1, of a segment.

        is_end: whether it is the last of the segment. has_more: whether other segments follow.
        """
        ...


class OneVoice:
    """Voice of a text. Without a clip, its first segments are the reference of the later ones."""

    def __init__(self, voice: VoiceInputs, model: VoxCPM2):
        self.model, self._given, self._voice = model, voice, voice
        self._is_known = voice.has_clip
        self._reference: list[np.ndarray] = []

    def inputs(self, segment: Segment) -> VoiceInputs:
        return self._voice

    def anchor(self, segment: Segment) -> int | None:
        return None

    def learn(self, index: int, audio: np.ndarray, is_end: bool, has_more: bool) -> None:
        if self._is_known or not has_more:
            return
        self._reference.append(audio)
        if is_end:
            rate, reference = self.model.sample_rate, np.concatenate(self._reference)
            patches = self.model.encode_audio((reference, rate))
            self._voice = VoiceInputs(self._given.instruct, patches)
            self._is_known = len(reference) >= ENOUGH_REFERENCE * rate


class SpeakerVoices:
    """Voices of the speakers of a dialogue.

    Of a speaker without a clip, one segment is spoken first and cloned in the others, as
    `speak_dialogue` does it.
    """

    def __init__(
        self, segments: Sequence[Segment], voices: Mapping[str, VoiceInputs], model: VoxCPM2
    ):
        """voices: by speaker; one that is missing is made up."""
        self.model = model
        counts = Counter(segment.speaker for segment in segments if segment.text)
        self._voices = {name: voices.get(name, VoiceInputs()) for name in counts}
        self._is_encoded: set[str] = set()
        self._anchors = {
            name: anchor_index(segments, name)
            for name, voice in self._voices.items()
            if counts[name] > 1 and not voice.has_clip
        }
        """Index of the segment to clone, of speakers whose voice is not known yet."""
        self._speech: dict[int, list[np.ndarray]] = {}

    def inputs(self, segment: Segment) -> VoiceInputs:
        name = segment.speaker
        if name not in self._is_encoded:
            self._voices[name] = self._voices[name].encoded(self.model.clip_encoder)
            self._is_encoded.add(name)
        return styled_voice(self._voices[name], segment.style)

    def anchor(self, segment: Segment) -> int | None:
        return self._anchors.get(segment.speaker)

    def learn(self, index: int, audio: np.ndarray, is_end: bool, has_more: bool) -> None:
        name = next((name for name, anchor in self._anchors.items() if anchor == index), None)
        if name is None:
            return
        self._speech.setdefault(index, []).append(audio)
        if is_end:
            speech = np.concatenate(self._speech.pop(index))
            self._voices[name] = cloned_voice(self.model, self._voices[name], speech)
            del self._anchors[name]
