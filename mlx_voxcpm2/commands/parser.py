"""The parser of a command: spellings of flags, errors of one line with a hint, short help."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..settings import similar
from .help import Formatter, HelpAll, full_help, short_help

# Argparse's message, in all its spellings.
_LACKING = re.compile(r"argument (--?\w[\w-]*)(?:/\S+)?: expected (?:one|at least one) argument")


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
        self._given: list[str] = []
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
        self._given = sys.argv[1:] if args is None else list(args)
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
        if near := similar(name, known):
            return f"there is no flag {name}; did you mean {known[near].option_strings[0]}?"
        if "--text" in known and not name.startswith("--"):
            return f"there is no flag {name}; {_hyphen_advice('text', '--text', name)}"
        return f"there is no flag {name}"

    def _unknown_given(self) -> str | None:
        """Message for a flag that does not exist, where an argument is missing, too."""
        known = self._option_string_actions
        unknown = [
            each
            for each in self._given
            if each.startswith("-") and each != "-" and each.partition("=")[0] not in known
        ]
        return self._unknown(unknown) if unknown else None

    def _missing_value(self, flag: str) -> str:
        """Message for a flag whose value is missing, or begins with a hyphen."""
        spelled = self._option_string_actions[flag].option_strings
        places = [index for index, each in enumerate(self._given) if each in spelled]
        for place in places:
            following = self._given[place + 1 : place + 2]
            if following and following[0].startswith("-"):
                value = following[0]
                is_flag = value.partition("=")[0] in self._option_string_actions
                advice = "give one" if is_flag else _hyphen_advice("value", flag, value)
                return f"{flag} has no value before {value}; {advice}"
        return f"{flag} has no value; give one"

    def error(self, message: str) -> NoReturn:
        if lacking := _LACKING.match(message):
            message = self._missing_value(lacking[1])
        elif message.startswith("the following arguments are required"):
            message = self._unknown_given() or message
        message = re.sub(r"(--\w[\w-]*)(/--?\w[\w-]*)+", r"\1", message)  # one spelling of several
        if ";" not in message:
            message += "; --help-all lists the flags" if self.common else "; --help lists the flags"
        self.exit(2, f"{self.prog}: {message}\n")


def _hyphen_advice(noun: str, flag: str, value: str) -> str:
    """How a value is given that looks like a flag."""
    argument = shlex.quote(f"{flag}={textwrap.shorten(value, 40, placeholder='…')}")
    return f"a {noun} that begins with a hyphen is given as {argument}"


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
