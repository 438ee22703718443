"""Where the command line's speech goes, and the bar that is seen meanwhile."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Sinks:
    """Where the sound goes: a file or standard output, as it comes or at the end; a loudspeaker."""

    def __init__(self, output: str | None, stream: bool, play: bool):
        from ..audio.writing import check_output

        self.output, self.stream, self.play = output, stream, play
        if output not in (None, "-"):
            check_output(output, stream)

    @contextlib.contextmanager
    def open(self, sample_rate: int) -> Iterator:
        """Yields what takes chunks (samples,); a whole file is written when all went well."""
        import numpy as np

        from ..audio.streams import AtomicFile, GrowingFile, PipeStream
        from ..audio.writing import write_audio_to

        chunks: list = []
        with ExitStack() as stack:
            takers = []
            if self.play:
                from ..audio.playback import Loudspeaker

                takers.append(stack.enter_context(Loudspeaker(sample_rate)).write)
            if self.stream and self.output == "-":
                takers.append(stack.enter_context(PipeStream(sys.stdout.buffer, sample_rate)).write)
            elif self.output == "-":
                takers.append(chunks.append)
            elif self.output is not None:
                file = (GrowingFile if self.stream else AtomicFile)(self.output, sample_rate)
                takers.append(stack.enter_context(file).write)

            def take(chunk: np.ndarray) -> None:
                for taker in takers:
                    taker(chunk)

            yield take
            if chunks:
                write_audio_to(sys.stdout.buffer, np.concatenate(chunks), sample_rate)


class Progress:
    """A bar in seconds of speech, and when the first of it was there."""

    def __init__(self):
        from tqdm import tqdm

        self._bar = tqdm(
            unit="s", disable=None, file=sys.stderr, leave=False,
            bar_format="{desc}{n:.1f} s of speech in {elapsed}",
        )  # fmt: skip
        self._start = time.perf_counter()
        self.first: float | None = None

    def __call__(self, seconds: float) -> None:
        if self.first is None:
            self.first = time.perf_counter() - self._start
        self._bar.n = seconds
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()
