"""A take on its way to its file: memory stays small, however long the text."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio.streams import GrowingFile
from ..text.segments import is_better_sample
from .takes import Excerpt, Passage, Take

if TYPE_CHECKING:
    from ..server.tasks import SpeechAudio, SpokenPart
    from .inputs import PageRequest

PEAKS = 72
"""Number of bars in a take's picture."""
_BLOCK_SECONDS = 0.02


class TakeWriter:
    """Writes audio to a new WAV file in `folder`, and keeps what a `Take` has beside it."""

    def __init__(self, folder: Path, sample_rate: int):
        self.file = folder / f"take-{secrets.token_hex(8)}.wav"
        self.sample_rate = sample_rate
        self._output = GrowingFile(self.file, sample_rate)
        self._samples = 0
        self._levels: list[float] = []
        self._part: list[np.ndarray] = []
        """Audio of the part that is spoken now, as a voice is made of it; no pauses before it."""
        self._part_start = 0
        self._passages: list[Passage] = []
        self._excerpt: Excerpt | None = None
        self._notes: list[str] = []
        self._seed: int | None = None

    @property
    def has_audio(self) -> bool:
        return self._samples > 0

    def write(self, spoken: SpeechAudio) -> None:
        """Add the next audio of a task. Raises OSError."""
        audio, unstretched = spoken.audio, spoken.unstretched
        if not len(audio):
            return
        self._output.write(audio)
        self._samples += len(audio)
        block = max(1, round(_BLOCK_SECONDS * self.sample_rate))
        starts = range(0, len(audio), block)
        self._levels += [float(np.abs(audio[i : i + block]).max()) for i in starts]
        if spoken.is_pause:
            self._part_start = self._samples
            return
        self._part.append(audio if unstretched is None else unstretched)
        if spoken.part is not None:
            self._end_part(spoken.part, is_stretched=unstretched is not None)

    def _end_part(self, part: SpokenPart, is_stretched: bool) -> None:
        start = self._part_start / self.sample_rate
        self._passages.append(Passage(part.text, start, start + part.seconds, part.speaker))
        speech = np.concatenate(self._part)
        if not is_stretched:  # else it has no pause after it
            speech = speech[: round(part.seconds * self.sample_rate)]
        self._keep_excerpt(Excerpt(part.text, speech, part.finish_reason))
        self._part, self._part_start = [], self._samples
        self._notes += part.guards
        if self._seed is None:
            self._seed = part.seed

    def _keep_excerpt(self, found: Excerpt) -> None:
        """The first part that is long enough for a voice, else the longest: see `anchor_of`."""
        if self._excerpt is None or is_better_sample(found.text, self._excerpt.text):
            self._excerpt = found

    def take(self, request: PageRequest, finish_reason: str, seconds: float) -> Take:
        """The take of all that was written. seconds: of the work."""
        if self._excerpt is None:  # its only part was stopped
            speech = np.concatenate([np.zeros(0, np.float32), *self._part])
            self._excerpt = Excerpt(request.text, speech, "length")
            start, end = self._part_start / self.sample_rate, self._samples / self.sample_rate
            self._passages = [Passage(request.text, start, end)]
        is_long = len(self._passages) > 1
        seed = request.options.seed if is_long or self._seed is None else self._seed
        return Take(
            request.without_clips(),
            self.file,
            self._excerpt,
            int(seed or 0),
            self._samples / self.sample_rate,
            finish_reason,
            tuple(dict.fromkeys([*request.notes, *self._notes])),
            seconds,
            tuple(self._passages),
            peaks_of(self._levels),
        )

    def close(self, is_kept: bool) -> None:
        """End the file, and delete it unless it is kept."""
        self._output.close()
        if not is_kept:
            self.file.unlink(missing_ok=True)


def peaks_of(levels: list[float], count: int = PEAKS) -> tuple[float, ...]:
    """Highest of as many equal parts of the levels, relative to the highest of all: 0..1."""
    parts = np.array_split(np.array(levels), count)
    peaks = [float(part.max(initial=0)) for part in parts]
    highest = max(*peaks, 1e-4)
    return tuple(round(peak / highest, 3) for peak in peaks)
