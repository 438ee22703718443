"""Audio streamed to the browser while it is generated, sample for sample.

Gradio's own streaming player needs ffmpeg, which a Mac does not have, and sends lossy AAC.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

# Streams that no browser reads, or that never begin, are dropped.
MAX_STREAMS = 20
TIMEOUT = 1800.0  # seconds


class LiveAudio:
    """Streams by tokens that browsers make up. Writer and reader may come in either order."""

    def __init__(self):
        self._streams: OrderedDict[str, queue.SimpleQueue] = OrderedDict()
        self._lock = threading.Lock()

    def _stream(self, token: str) -> queue.SimpleQueue:
        with self._lock:
            stream = self._streams.setdefault(token, queue.SimpleQueue())
            while len(self._streams) > MAX_STREAMS:
                self._streams.popitem(last=False)[1].put(None)
            return stream

    def write(self, token: str, samples: np.ndarray) -> None:
        """Add float32 samples (L,), nominally -1..1. Without a token ("") they are discarded."""
        if token:
            self._stream(token).put((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())

    def close(self, token: str) -> None:
        """End a stream."""
        if token:
            self._stream(token).put(None)

    def read(self, token: str) -> Iterator[bytes]:
        """Yields 16-bit little-endian samples of one channel until the stream is closed."""
        stream = self._stream(token)
        try:
            while (data := stream.get(timeout=TIMEOUT)) is not None:
                yield data
        except queue.Empty:
            return
        finally:
            with self._lock:
                self._streams.pop(token, None)
