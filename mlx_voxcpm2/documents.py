"""Reading text, JSON and JSON lines that people give, of a bounded size: `/dev/zero` ends too."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import one_line
from .schema import parse_json

MOST_BYTES = 2**28
"""Size of a text or manifest that is read at most."""
MOST_JSON_BYTES = 2**26
"""Size of a JSON or YAML file that is read at most."""


def read_bytes(path: Path, advice: str, most: int = MOST_BYTES) -> bytes:
    """Content of a file. advice: what to give instead of a folder, for the message.

    Raises FileNotFoundError, ValueError or another OSError, in one line.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; {advice}") from None
    except OSError as error:
        raise type(error)(f"{path}: cannot be read ({one_line(error)}); give another") from None
    except ValueError as error:  # a null character
        raise ValueError(f"{str(path)!r} is no path ({one_line(error)}); check it") from None
    if len(content) > most:
        raise ValueError(f"{path} has more than {most >> 20} MB, or no end; {advice}")
    return content


def read_text(path: str | os.PathLike, advice: str = "give a text file") -> str:
    """Text of a UTF-8 file, without a byte-order mark. Raises what `read_bytes` raises."""
    try:
        content = read_bytes(Path(os.path.expanduser(path)), advice)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save it as UTF-8") from None


def read_json(file: Path, advice: str) -> Any:
    """Value of a JSON file, within the limits of `schema`.

    advice: what to do about a file that is damaged. Raises what `read_bytes` raises.
    """
    content = read_bytes(file, advice, MOST_JSON_BYTES)
    try:
        return parse_json(content)
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error}); {advice}") from None


def read_object(file: Path) -> dict[str, Any]:
    """Object of a JSON file of a checkpoint, {} without one. Raises what `read_bytes` raises."""
    if not file.is_file():
        return {}
    data = read_json(file, "download the file again")
    if not isinstance(data, dict):
        raise ValueError(f"{file}: not a JSON object; download the file again")
    return data


def content_key(file: Path, whole: int = 2**26, samples: int = 1024) -> str:
    """Digest that tells files apart: of all bytes, or of the size and `samples` parts of 16 kB.

    whole: size in bytes up to which all are read. Raises OSError.
    """
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        size = os.fstat(content.fileno()).st_size
        digest.update(str(size).encode())
        if size <= whole:
            while block := content.read(2**20):
                digest.update(block)
        else:
            for number in range(samples):
                content.seek((size - 2**14) * number // (samples - 1))
                digest.update(content.read(2**14))
    return digest.hexdigest()[:32]


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1, without a byte-order mark.

    Raises OSError or ValueError, at once and in one line, if the file cannot be read.
    """
    contents = read_bytes(path, "give a file of JSON lines")
    lines = enumerate(contents.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1)
    return ((number, line) for number, line in lines if line.strip())
