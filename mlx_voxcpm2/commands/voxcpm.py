"""Commands of OpenBMB's `voxcpm`: design, clone, validate. (Its `batch` is the one here.)"""

from __future__ import annotations

from collections.abc import Sequence

from . import generate, train
from .generate_arguments import GenerateArguments

_DESIGN = """
{prog} "Hello." --instruct "a calm, low voice"
{prog} --text_file book.txt --instruct "an old man, slow" --output a.mp3
"""
_CLONE = """
{prog} "Hello." --ref_audio clip.wav
{prog} "Hello." --prompt_audio clip.wav --prompt_text "What the clip says."
"""
_VALIDATE = """
{prog} --train data.jsonl
"""


def design(argv: Sequence[str], prog: str) -> int:
    """`generate`, which refuses clips."""
    return generate.main(list(argv), prog, check=_require_no_clip, examples=_DESIGN)


def clone(argv: Sequence[str], prog: str) -> int:
    """`generate`, which requires a clip."""
    return generate.main(list(argv), prog, check=_require_clip, examples=_CLONE)


def validate(argv: Sequence[str], prog: str) -> int:
    """`train --check`."""
    return train.main(["--check", *argv], prog, _VALIDATE)


def _require_no_clip(arguments: GenerateArguments) -> None:
    if arguments.voice.has_clip:
        raise ValueError("design makes up a voice; use clone, or generate, for that of a clip")


def _require_clip(arguments: GenerateArguments) -> None:
    if not arguments.voice.has_clip:
        raise ValueError(
            "clone needs a clip; give --ref_audio, or --prompt_audio and --prompt_text"
        )
