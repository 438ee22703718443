"""Report of a command that spoke, in two lines of a terminal's width."""

from __future__ import annotations

import sys
from collections.abc import Sequence

WIDTH = 80


def print_report(
    name: str,
    speech: float,
    seconds: float,
    details: Sequence[str],
    length: float | None = None,
) -> None:
    """Print on standard error how much speech was written where, and how fast.

    name: the output. speech: seconds of speech that were generated in `seconds`. details: what the
    second line says. length: seconds of the output, if an earlier run generated a part of it.
    """
    speed = f": {speech:.2f} s of speech in {seconds:.2f} s"
    if length is not None:
        speed = f": {length:.2f} s, {speech:.2f} s of it new, in {seconds:.2f} s"
    elif seconds > 0:
        speed += f", {speech / seconds:.2f} times as fast as real time"
    room = WIDTH - len(speed)
    if len(name) > room:
        name = "…" + name[len(name) - room + 1 :]
    print(f"{name}{speed}\n{'; '.join(details)}", file=sys.stderr)
