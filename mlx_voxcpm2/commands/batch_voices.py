"""Voices of a batch's lines: each clip and saved voice is read once, and encoded once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..audio.reading import read_channels
from ..voices.saved import Voice
from .batch_lines import SOURCES, Line, Problem

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np

    from ..model import VoxCPM2
    from ..voices.clip_encoder import Padding
    from ..voices.inputs import VoiceInputs

    Source = tuple[str, Path]
    """Field and file."""

PADDING: dict[str, Padding] = {"ref_audio": "right", "prompt_audio": "left"}

CACHE_BYTES = 2**30
"""Decoded clips beyond this are read again when they are encoded."""


class LineVoices:
    """Voices of lines. `read` before a model is loaded, then `encoded` once per line."""

    def __init__(self, lines: Sequence[Line]):
        self._uses = Counter(source for line in lines for source in line.sources)
        """Lines that still need each source."""
        self._voices: dict[Path, Voice] = {}
        self._clips: dict[Path, tuple[np.ndarray, int]] = {}
        """Samples (L, channels) and rate in Hz; the same for all fields."""
        self._encoded: dict[Source, mx.array] = {}

    def read(self, lines: Iterable[Line]) -> list[Problem]:
        """Read every source. Returns the lines that need one that can't be read."""
        from tqdm import tqdm

        faults: dict[Source, str] = {}
        settings = {"unit": "voice", "disable": None, "file": sys.stderr, "leave": False}
        for name, path in tqdm(list(self._uses), desc="reading voices", **settings):
            try:
                if name == "voice":
                    self._voice(path)
                else:
                    self._clip(name, path)
            except (ValueError, OSError) as error:
                faults[name, path] = str(error)
        return [
            Problem(line.number, faults[source])
            for line in lines
            for source in line.sources
            if source in faults
        ]

    def encoded(self, line: Line, model: VoxCPM2) -> VoiceInputs:
        """The line's voice with encoded clips, which are freed after the last line of theirs."""
        return self._encoded_voice(line.voice, model)

    def encoded_speakers(self, line: Line, model: VoxCPM2) -> dict[str, VoiceInputs]:
        """The same for the voices of a dialogue's speakers."""
        return {name: self._encoded_voice(voice, model) for name, voice in line.voices.items()}

    def _encoded_voice(self, voice: VoiceInputs, model: VoxCPM2) -> VoiceInputs:
        given = voice.given()
        found = {
            name: self._voice(given[name])
            if name == "voice"
            else self._encode(name, given[name], model)
            for name in SOURCES
            if name in given
        }
        return replace(voice, **found)

    def _voice(self, path: Path) -> Voice:
        if path not in self._voices:
            self._voices[path] = Voice.load(path)
        return self._voices[path]

    def _encode(self, name: str, path: Path, model: VoxCPM2) -> mx.array:
        source = name, path
        if source not in self._encoded:
            self._encoded[source] = model.encode_audio(self._clip(name, path), PADDING[name])
            others = [(other, path) for other in PADDING if other != name]
            if not any(self._uses[other] and other not in self._encoded for other in others):
                self._clips.pop(path, None)
        self._uses[source] -= 1
        return self._encoded[source] if self._uses[source] else self._encoded.pop(source)

    def _clip(self, name: str, path: Path) -> tuple[np.ndarray, int]:
        """A decoded clip, from memory if it is there."""
        if path in self._clips:
            return self._clips[path]
        clip = read_channels(path, name)
        if sum(samples.nbytes for samples, _ in [*self._clips.values(), clip]) <= CACHE_BYTES:
            self._clips[path] = clip
        return clip
