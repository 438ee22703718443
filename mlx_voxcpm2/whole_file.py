"""A file that is there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole_file(file: Path, content: bytes) -> None:
    """Under another name first: whenever it is interrupted, there is a whole file or none.

    Raises OSError as the system words it; whoever calls knows what is to be done.
    """
    unfinished = file.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
