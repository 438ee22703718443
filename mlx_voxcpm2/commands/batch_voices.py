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
from .batch_lines import Line, Problem

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np

    from ..model import VoxCPM2
    from ..voices.clip_encoder import Padding
    from ..voices.inputs import VoiceInputs

    Source = tuple[str, Path]
    """Field and file."""
    Content = Voice | tuple[np.ndarray, int]
    """Saved voice, or the samples (L, channels) of a clip with their rate in Hz."""

PADDING: dict[str, Padding] = {"ref_audio": "right", "prompt_audio": "left"}

CACHE_BYTES = 2**30
"""Decoded clips beyond this are read again when they are encoded."""


class LineVoices:
    """Voices of lines. `read` before a model is loaded, then `encoded` once per line."""

    def __init__(self, lines: Sequence[Line]):
        self._uses = Counter(source for line in lines for source in line.sources.items())
        """Lines that still need each source."""
        self._contents: dict[Source, Content] = {}
        self._encoded: dict[Source, mx.array | Voice] = {}
        self._bytes = 0

    def read(self, lines: Iterable[Line]) -> list[Problem]:
        """Read every source. Returns the lines that need one that can't be read."""
        from tqdm import tqdm

        faults: dict[Source, str] = {}
        settings = {"unit": "voice", "disable": None, "file": sys.stderr, "leave": False}
        for source in tqdm(list(self._uses), desc="reading voices", **settings):
            try:
                self._content(source)
            except (ValueError, OSError) as error:
                faults[source] = str(error)
        return [
            Problem(line.number, faults[source])
            for line in lines
            for source in line.sources.items()
            if source in faults
        ]

    def encoded(self, line: Line, model: VoxCPM2) -> VoiceInputs:
        """The line's voice with encoded clips, which are freed after the last line of theirs."""
        found = {source[0]: self._encode(source, model) for source in line.sources.items()}
        return replace(line.voice, **found)

    def _encode(self, source: Source, model: VoxCPM2) -> mx.array | Voice:
        if source not in self._encoded:
            content = self._content(source)
            if not isinstance(content, Voice):
                content = model.encode_audio(content, PADDING[source[0]])
                self._forget(source)
            self._encoded[source] = content
        self._uses[source] -= 1
        return self._encoded[source] if self._uses[source] else self._encoded.pop(source)

    def _content(self, source: Source) -> Content:
        """The source's content, from memory if it was read before."""
        key = self._key(source)
        if key in self._contents:
            return self._contents[key]
        name, path = source
        if name == "voice":
            content = Voice.load(path)
        else:
            content = read_channels(path, name)
            if self._bytes + content[0].nbytes > CACHE_BYTES:
                return content
            self._bytes += content[0].nbytes
        self._contents[key] = content
        return content

    def _forget(self, source: Source) -> None:
        """Free a decoded clip unless another field needs it, too."""
        name, path = source
        others = [(field, path) for field in PADDING if field != name]
        if any(self._uses[other] and other not in self._encoded for other in others):
            return
        samples, _ = self._contents.pop(self._key(source), (None, 0))
        self._bytes -= 0 if samples is None else samples.nbytes

    @staticmethod
    def _key(source: Source) -> Source:
        """Clips are decoded in the same way for all fields."""
        name, path = source
        return ("voice" if name == "voice" else "clip"), path
