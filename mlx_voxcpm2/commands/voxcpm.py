"""Commands of OpenBMB's `voxcpm`: design, clone, validate. (Its `batch` is the one here.)"""

from __future__ import annotations

from collections.abc import Sequence

from . import generate, train
from .generate_arguments import GenerateArguments


def design(argv: Sequence[str], prog: str) -> int:
    """`generate`, which refuses clips."""
    return generate.main(list(argv), prog, check=_require_no_clip)


def clone(argv: Sequence[str], prog: str) -> int:
    """`generate`, which requires a clip."""
    return generate.main(list(argv), prog, check=_require_clip)


def validate(argv: Sequence[str], prog: str) -> int:
    """`train --check`."""
    return train.main(["--check", *argv], prog)


def _require_no_clip(arguments: GenerateArguments) -> None:
    if arguments.voice.has_clip:
        raise ValueError("design makes up a voice; use clone, or generate, for that of a clip")


def _require_clip(arguments: GenerateArguments) -> None:
    if not arguments.voice.has_clip:
        raise ValueError(
            "clone needs a clip; give --ref_audio, or --prompt_audio and --prompt_text"
        )
