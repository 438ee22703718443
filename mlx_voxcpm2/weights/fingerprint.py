"""Fingerprint of a checkpoint's or an adapter's weights, which tells whether they are the same.

What was made with weights belongs to these, wherever their folder lies: speech of a run that is
resumed, for one. Reads 16 MB of a large file.
"""

from __future__ import annotations

import fnmatch
import hashlib
from pathlib import Path

from ..documents import content_key
from .hub import ADAPTER_FILES, RECOGNISER_FILES, all_checkpoint_files


def fingerprint(path: Path) -> str:
    """Digest of the files that decide what a model, an adapter or a recogniser computes.

    path: its folder, or an adapter's file, which counts with its settings. Raises OSError.
    """
    if path.is_dir():
        names = sorted(file.name for file in path.iterdir())
        known = all_checkpoint_files() | {*ADAPTER_FILES, *RECOGNISER_FILES, "pytorch_model.bin"}
        names = [name for name in names if _matters(name, known)]
        files = [path / name for name in names if (path / name).is_file()]
    else:
        settings = path.with_name(ADAPTER_FILES[-1])
        files = [path, *([settings] if settings.is_file() else [])]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {content_key(file)}\n".encode())
    return digest.hexdigest()[:32]


def _matters(name: str, known: set[str]) -> bool:
    return not name.startswith(".") and any(fnmatch.fnmatchcase(name, each) for each in known)
