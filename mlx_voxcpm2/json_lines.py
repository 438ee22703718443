"""Files of JSON lines, as manifests and `batch` read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .errors import one_line


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1; a byte-order mark is no part of one.

    Raises at once, in one line, an OSError or ValueError for what is no file that can be read.
    """
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; give a file of JSON lines") from None
    except OSError as error:
        raise type(error)(f"{path}: cannot be read ({one_line(error)}); give another") from None
    lines = enumerate(contents.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1)
    return ((number, line) for number, line in lines if line.strip())
