"""The parser of a command: spellings of flags, errors of one line with a hint, short help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..settings import similar
from .help import Formatter, HelpAll, full_help, short_help


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line with a hint, and which does not guess abbreviations."""

    def __init__(
        self, common: Mapping[str, Sequence[str]] | None = None, examples: str = "", **options: Any
    ):
        """common: flags that --help shows, as headings -> names of values; by default all flags.

        examples: command lines for the help, with {prog} for the command.
        """
        if common:
            options.setdefault("epilog", "--help-all shows all flags, --version the version.")
        super().__init__(allow_abbrev=False, formatter_class=Formatter, **options)
        self.common, self.examples = common, examples
        self.translate: Callable[[argparse.Namespace], None] | None = None
        """Turns values of other programs' flags into those of our own, see `peer_flags`."""
        all_flags = ("--help-all", "--help_all")
        if common:
            self.add_argument(*all_flags, action=HelpAll, help="show all flags")
        else:  # --help shows them
            self.add_argument(*all_flags, action="help", help=argparse.SUPPRESS)
        version = f"mlx-voxcpm2 {__version__}"
        show = "show the version"
        self.add_argument("--version", action="version", version=version, help=show)

    def format_help(self) -> str:
        if self.common:
            return short_help(self, self.examples, self.common)
        return full_help(self, self.examples)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        if self.translate is not None:
            try:
                self.translate(found)
            except ValueError as error:
                self.error(str(error))
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            near = similar(str(value), known)
            hint = f"did you mean {near}?" if near else f"it must be {' or '.join(known)}"
            name = f"{action.option_strings[0]} " if action.option_strings else ""
            self.error(f"{name}{value!r} is not known; {hint}")

    def _unknown(self, arguments: list[str]) -> str:
        """Message for arguments that the command does not have."""
        name = next((each for each in arguments if each.startswith("-")), None)
        if name is None:
            return f"{arguments[0]!r} is one argument too many; put a text in quotes"
        name = name.partition("=")[0]
        shown = [each for each in self._actions if each.help is not argparse.SUPPRESS]
        known = {spelling: each for each in shown for spelling in each.option_strings}
        near = similar(name, known)
        hint = f"; did you mean {known[near].option_strings[0]}?" if near else ""
        return f"there is no flag {name}{hint}"

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"(--\w[\w-]*)(/--?\w[\w-]*)+", r"\1", message)  # one spelling of several
        if ";" not in message:
            message += "; --help-all lists the flags" if self.common else "; --help lists the flags"
        self.exit(2, f"{self.prog}: {message}\n")


def flag(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, *names: str, **options: Any
) -> None:
    """Add --NAME; further names are aliases. Each may be spelled with _ or -."""
    spelled = [spelling for name in names for spelling in spellings(name)]
    parser.add_argument(*spelled, **{"dest": names[0]} | options)


def spellings(name: str) -> list[str]:
    """Spellings of a flag with _ and with -; a short flag already has its dash."""
    if name.startswith("-"):
        return [name]
    return list(dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")))
