"""Writing mono audio chunk by chunk: to a file of any format, a growing WAV file, or a pipe."""

import os
import tempfile
from typing import BinaryIO

import soundfile
from numpy.typing import ArrayLike

from ..files import atomic_file, write_all
from .formats import (
    WAV_HEADER,
    encode_blocks,
    libsndfile_errors,
    mono_samples,
    open_encoder,
    output_format,
    pcm16,
    wav_header,
)
from .writing import check_output, os_errors, target_path


class AudioStream:
    """Output for audio chunk by chunk: a file, a pipe or the loudspeaker; `with` closes it."""

    def write(self, chunk: ArrayLike) -> None:
        """Write the next samples (L,). Raises ValueError for no audio, OSError if writing fails."""
        raise NotImplementedError

    def close(self) -> None:
        """End the stream; closing twice does no harm."""

    def __enter__(self) -> "AudioStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _EncoderFile:
    """Output file for libsndfile, which can't pass on errors: they are stored until `check`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self._error = file, None
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def write(self, data: bytes) -> int:
        try:
            if self._error is None:
                write_all(self.file, data)
        except OSError as error:
            self._error = error
        return len(data)

    def check(self) -> None:
        if self._error is not None:
            raise self._error


class AtomicFile(AudioStream):
    """File of any format and length that is written chunk by chunk, so that memory stays small.

    It appears, or replaces an older one, when its `with` block succeeds; not at all if nothing was
    written. Raises at once what `check_output` raises, then what `write_audio` raises.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int) -> None:
        check_output(path)
        self._suffix, self._target = output_format(path), target_path(path)
        self._sample_rate = sample_rate
        self._encoder: soundfile.SoundFile | None = None
        self._data_bytes = 0
        # Without a name, so that nothing is left of it if the process is killed.
        with os_errors(self._target):
            self._file = _EncoderFile(tempfile.TemporaryFile(dir=self._target.parent, buffering=0))

    def write(self, chunk: ArrayLike) -> None:
        samples = mono_samples(chunk)
        self._data_bytes += 2 * len(samples)
        if self._suffix == ".wav":
            wav_header(self._sample_rate, self._data_bytes)  # refuses what a WAV file can't hold
        with os_errors(self._target), libsndfile_errors(self._suffix, self._sample_rate):
            if self._encoder is None:
                self._encoder = open_encoder(self._file, self._sample_rate, self._suffix)
            encode_blocks(self._encoder, samples)
            self._file.check()

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._file.file as written, os_errors(self._target):
            if self._encoder is None:
                return
            self._encoder.close()
            if kind is not None:
                return
            self._file.check()
            written.seek(0)
            with atomic_file(self._target) as file:
                while data := written.read(2**20):
                    write_all(file, data)


class GrowingFile(AudioStream):
    """WAV file that grows chunk by chunk, valid at every moment, even if the process is killed.

    The first chunk replaces an older file at `path`, later ones are appended; if a chunk cannot be
    written, those before it remain. Raises at once what `check_output` raises.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int) -> None:
        check_output(path, stream=True)
        self._target = target_path(path)
        self._sample_rate = sample_rate
        self._file: BinaryIO | None = None
        self._data_bytes = 0

    def write(self, chunk: ArrayLike) -> None:
        pcm = pcm16(mono_samples(chunk))
        header = wav_header(self._sample_rate, self._data_bytes + len(pcm))
        with os_errors(self._target):
            if self._file is None:
                with atomic_file(self._target) as file:
                    write_all(file, header + pcm)
                    # The same file, even if another one gets its name.
                    self._file = os.fdopen(os.dup(file.fileno()), "r+b", buffering=0)
            else:
                # Data first: readers stop where the header says, so a kill in between is harmless.
                self._file.seek(WAV_HEADER.size + self._data_bytes)
                write_all(self._file, pcm)
                self._file.seek(0)
                write_all(self._file, header)
        self._data_bytes += len(pcm)

    def close(self) -> None:
        if self._file is not None and not self._file.closed:
            with os_errors(self._target), self._file:
                self._file.truncate(WAV_HEADER.size + self._data_bytes)
                os.fsync(self._file.fileno())


class PipeStream(AudioStream):
    """WAV file of unknown length to a stream that cannot seek, such as standard output.

    Each chunk is flushed; the stream is left open. When the reader has closed it, `write` raises
    BrokenPipeError: end quietly then, with standard output redirected to `os.devnull`, lest Python
    complain when it flushes it at exit.
    """

    def __init__(self, stream: BinaryIO, sample_rate: int) -> None:
        self._stream = stream
        self._header = wav_header(sample_rate, None)

    def write(self, chunk: ArrayLike) -> None:
        write_all(self._stream, self._header + pcm16(mono_samples(chunk)))
        self._header = b""
        self._stream.flush()
