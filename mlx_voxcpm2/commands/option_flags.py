"""The flags of `GenerationOptions`, under the names of its fields."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING

from .shell import Parser, flag

if TYPE_CHECKING:
    from ..speech.options import GenerationOptions


def add_option_flags(parser: Parser) -> None:
    draw = parser.add_argument_group("how it is drawn")
    flag(draw, "seed", type=int, help="make the same take again")
    flag(
        draw, "cfg_value", "cfg_scale", type=float, default=2.0,
        help="guidance, 0.1 to 10 (default %(default)s)",
    )  # fmt: skip
    flag(
        draw, "inference_timesteps", "ddpm_steps", type=int, default=10,
        help="solver steps per patch, 1 to 100 (default %(default)s)",
    )  # fmt: skip
    flag(
        draw, "solver", default="euler",
        help="euler (default), or adams, which may need fewer steps (not judged by ear yet)",
    )  # fmt: skip
    flag(draw, "temperature", type=float, default=1.0, help="0 to 2 (default %(default)s)")
    flag(
        draw, "min_tokens", "min_len", type=int, default=2,
        help="patches of 0.16 s before the speech may end (default %(default)s)",
    )  # fmt: skip
    flag(
        draw, "max_tokens", "max_len", type=int, default=4096,
        help="patches after which it must (default %(default)s)",
    )  # fmt: skip
    flag(
        draw, "normalize", action="store_true",
        help="say numbers, dates and units in words: English, Chinese, Japanese",
    )  # fmt: skip
    guards = parser.add_argument_group("guards against the model's known faults")
    flag(guards, "no_retry_badcase", action="store_true", help="keep a take that is far too long")
    flag(
        guards, "no_retry_by_ear", action="store_true",
        help="keep a take that is silent, mostly silent, or too short to be the text",
    )  # fmt: skip
    flag(
        guards, "silence_limit", type=float, default=10.0, metavar="SECONDS",
        help="end the speech after so much silence; 0 for no limit (default %(default)s)",
    )  # fmt: skip
    flag(
        guards, "fade_in", type=float, default=0.0, metavar="SECONDS",
        help="0.015 to 0.05 hide a click at the start (default 0)",
    )  # fmt: skip
    flag(
        guards, "trim_silence", action="store_true",
        help="cut silence off both ends, all but 0.2 s; what is streamed waits for its end",
    )  # fmt: skip


def chosen_options(args: argparse.Namespace) -> GenerationOptions:
    """Raises ValueError for a value out of range."""
    from ..speech.options import GenerationOptions

    return GenerationOptions(**option_values(args))


def option_values(args: argparse.Namespace) -> dict[str, object]:
    """By the names of the fields, not checked yet."""
    from ..speech.options import GenerationOptions

    values = {field.name: getattr(args, field.name, None) for field in fields(GenerationOptions)}
    for name in ("retry_badcase", "retry_by_ear"):
        values[name] = False if getattr(args, f"no_{name}") else None
    return values
