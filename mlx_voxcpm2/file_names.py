"""Names of files: which ones a system can have, hidden ones that belong to others, caches."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

WORDS_FILE, CHARACTERS_FILE = "words.txt", "characters.txt"
DESCRIPTIONS_FILE = "descriptions.txt"
"""Vocabulary of a small voice: see `text.vocabulary`."""
_LONGEST_NAME = 180
"""Bytes of a name that a hidden name repeats; file systems allow 255."""
_OF_SYSTEMS = (".DS_Store", "._*", ".gitattributes")


def cache_folder() -> Path:
    """Folder of what can be made again: in the platform's place for caches. It may not exist yet.

    Raises RuntimeError if there is no home folder.
    """
    if sys.platform == "darwin":
        cache = Path("~/Library/Caches").expanduser()
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "mlx-voxcpm2"


def hidden(target: Path, ending: str) -> Path:
    """Path of a hidden file that belongs to `target`, beside it; a long name becomes a hash."""
    name = os.fsencode(target.name)
    shown = target.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()
    return target.with_name(f".{shown}{ending}")


def check_file_name(path: str | os.PathLike, prefix: str = "") -> None:
    """Raise ValueError for a path that no file can have, or whose name is not UTF-8.

    MLX, and the formats that hold names, can't take those that are not. prefix: what the message
    begins with.
    """
    name = os.fsencode(path)
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{prefix}{os.fspath(path)!a}: the name is not UTF-8; rename it") from None
    longest = max(map(len, name.split(b"/")))
    if longest > 255 or len(name) > 4000:
        raise ValueError(
            f"{prefix}{str(path)[:60]!r}…: the name has {longest} bytes; shorten it to 255"
        )
    if b"\0" in name:
        raise ValueError(
            f"{prefix}{os.fspath(path)!r}: a name can't hold a null character; leave it out"
        )


def is_folder_of(folder: Path, patterns: Iterable[str]) -> bool:
    """Whether a folder holds files of these names or patterns only, and hidden ones of a system."""
    if not folder.is_dir():
        return False
    allowed = (*patterns, *_OF_SYSTEMS)
    return all(
        entry.is_file() and any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in allowed)
        for entry in os.scandir(folder)
    )
