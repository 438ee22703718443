"""Writing complete mono audio files, and checks that a file can be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from numpy.typing import ArrayLike

from ..errors import option, output_error
from ..file_names import check_file_name
from ..files import atomic_write, check_writable, write_all
from .formats import STREAM_FORMATS, encoded, output_format


def check_output(path: str | os.PathLike, stream: bool = False) -> None:
    """Check before the work that `write_audio`, or with `stream` `GrowingFile`, can write `path`.

    Creates and removes an empty file beside it. Raises ValueError, FileNotFoundError or another
    OSError in one line that says what is wrong and what to do.
    """
    suffix = output_format(path)
    if stream and suffix not in STREAM_FORMATS:
        allowed = " or ".join(STREAM_FORMATS)
        raise output_error(f"{suffix} files cannot be streamed; end the name in {allowed}")
    check_target(path)


def check_target(path: str | os.PathLike, name: str = "output") -> None:
    """Raise, in one line, unless a file of any format can be written or replaced at `path`.

    name: what the message begins with. Raises what `check_output` raises.
    """
    target, name = target_path(path), option(name)
    check_file_name(target, f"{name}: ")
    if not os.path.isdir(target.parent):
        raise FileNotFoundError(f"{name}: no folder {str(target.parent)!r}; create it first")
    if os.path.isdir(target):
        raise ValueError(f"{name}: {str(target)!r} is a folder; give the name of a file")
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"{name}: {str(target)!r} is a device or a pipe; give the name of a file")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise PermissionError(f"{name}: {str(target)!r} may not be changed; give another name")
    with os_errors(target, name):
        check_writable(target)


def write_audio(path: str | os.PathLike, audio: ArrayLike, sample_rate: int) -> None:
    """Write audio (L,) at `sample_rate` Hz in the format that the suffix of `path` names.

    The file appears, or replaces an older one, only when it is complete. Raises ValueError for
    audio or a rate that the format cannot hold, OSError if writing fails.
    """
    data, target = encoded(audio, sample_rate, output_format(path)), target_path(path)
    with os_errors(target):
        atomic_write(target, data)


def write_audio_to(stream: BinaryIO, audio: ArrayLike, sample_rate: int) -> None:
    """Write audio (L,) to an open stream, such as standard output, as one complete WAV file."""
    write_all(stream, encoded(audio, sample_rate, ".wav"))
    stream.flush()


def target_path(path: str | os.PathLike) -> Path:
    """Real path of a file: `~` expanded, links followed, since renaming would replace a link."""
    return Path(os.path.realpath(os.path.expanduser(path)))


@contextmanager
def os_errors(target: Path, name: str = "output") -> Iterator[None]:
    """Turn errors of the operating system into one line of the same type that names `target`."""
    try:
        yield
    except OSError as error:
        reason, name = error.strerror or error, option(name)
        raise type(error)(
            f"{name}: {str(target)!r} cannot be written ({reason}); make room or write elsewhere"
        ) from error
