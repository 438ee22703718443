"""Sound on its way to the browser while it is spoken, sample for sample.

Gradio's own streaming player needs ffmpeg, which a Mac has not, and hears AAC.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

# A browser that never comes for its sound, or whose take never begins, is forgotten.
MOST_STREAMS = 20
LONGEST_WAIT = 1800.0  # seconds


class LiveSounds:
    """Streams by the token that the browser made up. Either side may come first."""

    def __init__(self):
        self._streams: OrderedDict[str, queue.SimpleQueue] = OrderedDict()
        self._lock = threading.Lock()

    def _stream(self, token: str) -> queue.SimpleQueue:
        with self._lock:
            stream = self._streams.setdefault(token, queue.SimpleQueue())
            while len(self._streams) > MOST_STREAMS:
                self._streams.popitem(last=False)[1].put(None)
            return stream

    def write(self, token: str, samples: np.ndarray) -> None:
        """samples: float32 (L,), nominally -1..1. A token of "" is that of nobody."""
        if token:
            self._stream(token).put((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())

    def close(self, token: str) -> None:
        """Nothing more will come."""
        if token:
            self._stream(token).put(None)

    def read(self, token: str) -> Iterator[bytes]:
        """16-bit little-endian samples of one channel, until the stream is closed."""
        stream = self._stream(token)
        try:
            while (data := stream.get(timeout=LONGEST_WAIT)) is not None:
                yield data
        except queue.Empty:
            return
        finally:
            with self._lock:
                self._streams.pop(token, None)
