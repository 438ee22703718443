"""Playing audio on the default device while it is generated."""

from __future__ import annotations

import queue
import threading

import numpy as np
from numpy.typing import ArrayLike

from ..errors import one_line
from .formats import mono_samples
from .streams import AudioStream

_CHUNKS_AHEAD = 64
_BLOCK = 4_800  # samples between two checks whether to stop
_TAIL = 0.3  # seconds of silence at the end, beyond the latency of the device


class Loudspeaker(AudioStream):
    """Default audio device, by the package sounddevice (the extra `play`).

    A thread feeds the device, whose buffer is shorter than a chunk: a late chunk leaves a gap only
    after all earlier ones have been played. `write` waits while 64 chunks are queued, `close` until
    everything has been played; an error inside `with` and Ctrl-C stop it at once. Raises ValueError
    if sounddevice, its library PortAudio or a device is missing, OSError if playing fails.
    """

    def __init__(self, sample_rate: int) -> None:
        try:
            import sounddevice
        except ImportError:
            raise ValueError(
                "loudspeaker: playing needs sounddevice; pip install 'mlx-voxcpm2[play]'"
            ) from None
        except OSError:
            raise ValueError(
                "loudspeaker: the library PortAudio is missing; install it (brew install "
                "portaudio, apt install libportaudio2) or write to a file"
            ) from None
        try:
            self._device = sounddevice.OutputStream(sample_rate, channels=1, dtype="float32")
            self._device.start()
        except sounddevice.PortAudioError as error:
            raise ValueError(
                f"loudspeaker: no device plays {sample_rate} Hz ({one_line(error)}); write a file"
            ) from None
        # On Linux, PortAudio drops what the device still holds when it is stopped: that should be
        # silence, more than the device can hold.
        self._tail = np.zeros(int((self._device.latency + _TAIL) * sample_rate), np.float32)
        self._chunks: queue.Queue[np.ndarray | None] = queue.Queue(_CHUNKS_AHEAD)
        self._stopped = threading.Event()
        self._error: Exception | None = None
        self._finished = threading.Event()  # waiting for it survives Ctrl-C, Thread.join does not
        threading.Thread(target=self._play, daemon=True).start()

    def _play(self) -> None:
        """Play the queued chunks up to None; once stopped, discard them."""
        while (chunk := self._chunks.get()) is not None:
            self._play_chunk(chunk)
        self._play_chunk(self._tail)
        self._finished.set()

    def _play_chunk(self, chunk: np.ndarray) -> None:
        """Play samples (L,); an error is stored for the thread that writes."""
        try:
            for start in range(0, len(chunk), _BLOCK):
                if self._stopped.is_set():
                    return
                self._device.write(chunk[start : start + _BLOCK, None])
        except Exception as error:
            self._error = error
            self._stopped.set()

    def _check(self) -> None:
        if self._error is not None:
            message = f"loudspeaker: playing failed ({one_line(self._error)}); write to a file"
            raise OSError(message) from self._error

    def write(self, chunk: ArrayLike) -> None:
        self._check()
        self._chunks.put(mono_samples(chunk))

    def close(self) -> None:
        if self._device.closed:
            return
        try:
            self._chunks.put(None)
            self._finished.wait()
        except KeyboardInterrupt:
            self._stopped.set()
            self._chunks.put(None)
            self._finished.wait()
            raise
        finally:
            self._device.stop()
            self._device.close()
        self._check()

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self._stopped.set()
        self.close()
