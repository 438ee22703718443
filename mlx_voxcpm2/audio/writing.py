"""Writing mono audio: whole files, growing files, standard output.

Audio is samples [L], nominally in [-1, 1]; what lies outside is clipped. WAV, FLAC and AIFF files
hold the 16-bit integers that `soundfile.write` makes of them.
"""

import io
import os
import secrets
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import ArrayLike

FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
}

# Others are broken until they are closed: where the writer was killed, libsndfile refuses a FLAC,
# finds no samples in an AIFF, and too few in Vorbis, Opus and MP3.
STREAM_FORMATS = (".wav",)

_WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_UNKNOWN = 0xFFFFFFFF


def mono_samples(audio: ArrayLike) -> np.ndarray:
    """Audio -> float32 samples [L] in [-1, 1]; ValueError for other shapes, NaN and infinity."""
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"output: audio of shape {samples.shape}; give one channel, [samples]")
    if not np.isfinite(samples).all():
        raise ValueError("output: some samples are NaN or infinite; nothing was written of them")
    return samples.clip(-1, 1)


def pcm16(samples: np.ndarray) -> bytes:
    """float32 samples [L] -> 2 L bytes, rounded as libsndfile rounds when it writes files."""
    pcm = io.BytesIO()
    soundfile.write(pcm, samples, 48_000, "PCM_16", "LITTLE", "RAW")  # any rate: unused
    return pcm.getvalue()


def _wav_header(sample_rate: int, data_bytes: int | None) -> bytes:
    """What precedes `data_bytes` of 16-bit samples, or an unknown number if None, in a WAV file."""
    if data_bytes is None:
        riff_bytes = data_bytes = _UNKNOWN
    else:
        riff_bytes = _WAV_HEADER.size - 8 + data_bytes
    if riff_bytes > 0xFFFFFFFF:
        raise ValueError("output: a WAV file ends at 4 GB; write a FLAC file, or several files")
    fmt = (b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return _WAV_HEADER.pack(b"RIFF", riff_bytes, b"WAVE", *fmt, b"data", data_bytes)


def _encoder(file: BinaryIO, sample_rate: int, suffix: str) -> soundfile.SoundFile:
    container, subtype = FORMATS[suffix]
    return soundfile.SoundFile(file, "w", sample_rate, 1, subtype, format=container)


def encode_blocks(encoder: soundfile.SoundFile, samples: np.ndarray) -> None:
    # In blocks: libsndfile puts all that it gets on the stack for Vorbis, and crashes.
    for start in range(0, len(samples), 16_384):
        encoder.write(samples[start : start + 16_384])


@contextmanager
def mendable(suffix: str, sample_rate: int) -> Iterator[None]:
    """libsndfile's errors become one line that says what to do."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"output: {suffix} at {sample_rate} Hz cannot be written ({error.error_string}); "
            "write a .wav file"
        ) from error


def encoded(audio: ArrayLike, sample_rate: int, suffix: str) -> bytes:
    """Samples [L] -> the bytes of a file of the format that `suffix` names."""
    samples = mono_samples(audio)
    if not len(samples):
        raise ValueError("output: there are no samples to write")
    if suffix == ".wav":
        pcm = pcm16(samples)
        return _wav_header(sample_rate, len(pcm)) + pcm
    file = io.BytesIO()
    with mendable(suffix, sample_rate), _encoder(file, sample_rate, suffix) as encoder:
        encode_blocks(encoder, samples)
    return file.getvalue()


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all of it, also where a call takes only a part: raw files, pipes under `python -u`."""
    rest = memoryview(data)
    while rest:
        written = stream.write(rest)
        if written is None:
            raise BlockingIOError("output: the stream does not block; make it blocking")
        rest = rest[written:]


def _target(path: str | os.PathLike) -> Path:
    """The file that is meant: `~` expanded, links followed, since renaming would replace a link."""
    return Path(os.path.realpath(os.path.expanduser(path)))


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Errors of the operating system become one line of the same type that names `target`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(
            f"output: {str(target)!r} cannot be written ({reason}); make room or write elsewhere"
        ) from error


@contextmanager
def _file_beside(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file and its path in the folder of `target`; removed at the end unless renamed."""
    path = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    with open(path, "xb", buffering=0) as file:
        try:
            yield file, path
        finally:
            path.unlink(missing_ok=True)


def output_format(path: str | os.PathLike) -> str:
    """The suffix of `path` in lower case, a key of `FORMATS`; ValueError if it is no such key."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        fault = f"{suffix} files cannot be written" if suffix else f"{str(path)!r} has no suffix"
        raise ValueError(f"output: {fault}; end the name in one of {', '.join(FORMATS)}")
    return suffix


def check_output(path: str | os.PathLike, stream: bool = False) -> None:
    """Find out before the work whether `write_audio`, or `AudioFileStream`, can write `path`.

    Creates and removes an empty file beside it. Raises ValueError, FileNotFoundError or another
    OSError in one line that says what is wrong and what to do.
    """
    suffix, target = output_format(path), _target(path)
    if stream and suffix not in STREAM_FORMATS:
        allowed = " or ".join(STREAM_FORMATS)
        raise ValueError(f"output: {suffix} files cannot be streamed; end the name in {allowed}")
    if not os.path.isdir(target.parent):
        raise FileNotFoundError(f"output: no folder {str(target.parent)!r}; create it first")
    if os.path.isdir(target):
        raise ValueError(f"output: {str(target)!r} is a folder; give the name of a file")
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"output: {str(target)!r} is a device or a pipe; give the name of a file")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise PermissionError(f"output: {str(target)!r} may not be changed; give another name")
    with _explained(target), _file_beside(target):
        pass


def write_audio(path: str | os.PathLike, audio: ArrayLike, sample_rate: int) -> None:
    """Write samples [L] at `sample_rate` Hz in the format that the suffix of `path` names.

    The file appears, or takes the place of an older one, only when it is complete. Raises
    ValueError for audio or a rate that the format cannot hold, OSError where writing fails.
    """
    data, target = encoded(audio, sample_rate, output_format(path)), _target(path)
    with _explained(target), _file_beside(target) as (file, temporary):
        _write_all(file, data)
        os.replace(temporary, target)


def write_audio_to(stream: BinaryIO, audio: ArrayLike, sample_rate: int) -> None:
    """Write samples [L] to an open stream, such as standard output, as one complete WAV file."""
    _write_all(stream, encoded(audio, sample_rate, ".wav"))
    stream.flush()


class AudioStream:
    """Takes audio chunk by chunk, for a file, a pipe or the loudspeaker; `with` closes it."""

    def write(self, chunk: ArrayLike) -> None:
        """Take the next samples [L]; ValueError if they are no audio, OSError if writing fails."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more will come; closing twice does no harm."""

    def __enter__(self) -> "AudioStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Written:
    """A file for libsndfile, through which no error passes: it waits until `check`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self._error = file, None
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def write(self, data: bytes) -> int:
        try:
            if self._error is None:
                _write_all(self.file, data)
        except OSError as error:
            self._error = error
        return len(data)

    def check(self) -> None:
        if self._error is not None:
            raise self._error


class WholeFile(AudioStream):
    """A file of any format and length that is written chunk by chunk, so that memory stays small.

    It appears, or takes the place of an older one, when its `with` block succeeds; not at all if
    nothing was written. Raises at once what `check_output` raises, then what `write_audio` raises.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int) -> None:
        check_output(path)
        self._suffix, self._target = output_format(path), _target(path)
        self._sample_rate = sample_rate
        self._encoder: soundfile.SoundFile | None = None
        self._data_bytes = 0
        # Without a name, so that nothing is left of it where the process is killed.
        with _explained(self._target):
            self._file = _Written(tempfile.TemporaryFile(dir=self._target.parent, buffering=0))

    def write(self, chunk: ArrayLike) -> None:
        samples = mono_samples(chunk)
        self._data_bytes += 2 * len(samples)
        if self._suffix == ".wav":
            _wav_header(self._sample_rate, self._data_bytes)  # refuses what a WAV file can't hold
        with _explained(self._target), mendable(self._suffix, self._sample_rate):
            if self._encoder is None:
                self._encoder = _encoder(self._file, self._sample_rate, self._suffix)
            encode_blocks(self._encoder, samples)
            self._file.check()

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._file.file as written, _explained(self._target):
            if self._encoder is None:
                return
            self._encoder.close()
            if kind is not None:
                return
            self._file.check()
            written.seek(0)
            with _file_beside(self._target) as (file, temporary):
                while data := written.read(2**20):
                    _write_all(file, data)
                os.replace(temporary, self._target)


class AudioFileStream(AudioStream):
    """A WAV file that grows, valid at every moment, even if the process is killed.

    The first chunk replaces an older file at `path`, each later one is appended; when a chunk
    cannot be written, those before it remain. Raises at once what `check_output` raises.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int) -> None:
        check_output(path, stream=True)
        self._target = _target(path)
        self._sample_rate = sample_rate
        self._file: BinaryIO | None = None
        self._data_bytes = 0

    def write(self, chunk: ArrayLike) -> None:
        pcm = pcm16(mono_samples(chunk))
        header = _wav_header(self._sample_rate, self._data_bytes + len(pcm))
        with _explained(self._target):
            if self._file is None:
                with _file_beside(self._target) as (file, temporary):
                    _write_all(file, header + pcm)
                    os.replace(temporary, self._target)
                self._file = open(self._target, "r+b", buffering=0)
            else:
                # Data first: readers stop where the header says, so a kill in between is harmless.
                self._file.seek(_WAV_HEADER.size + self._data_bytes)
                _write_all(self._file, pcm)
                self._file.seek(0)
                _write_all(self._file, header)
        self._data_bytes += len(pcm)

    def close(self) -> None:
        if self._file is not None and not self._file.closed:
            with _explained(self._target), self._file:
                self._file.truncate(_WAV_HEADER.size + self._data_bytes)


class PipeStream(AudioStream):
    """A WAV file of unknown length to a stream that cannot seek, such as standard output.

    Each chunk is flushed; the stream is left open. When the reader has gone, `write` raises
    BrokenPipeError: end quietly then, with standard output redirected to `os.devnull` lest Python
    complain when it flushes it at exit.
    """

    def __init__(self, stream: BinaryIO, sample_rate: int) -> None:
        self._stream = stream
        self._header = _wav_header(sample_rate, None)

    def write(self, chunk: ArrayLike) -> None:
        _write_all(self._stream, self._header + pcm16(mono_samples(chunk)))
        self._header = b""
        self._stream.flush()
