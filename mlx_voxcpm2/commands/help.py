"""Help texts: one screen of the flags that people use, and with --help-all every flag."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence

_EXAMPLES = "examples:\n"


class Formatter(argparse.HelpFormatter):
    """Help that lists each flag once, under its first name, and keeps the lines of examples."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=27)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.dest == "help":
            return super()._format_action_invocation(action)
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        return action.option_strings[0] + value

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_EXAMPLES):
            return text
        return super()._fill_text(text, width, indent)


class ShortFormatter(Formatter):
    """Help of the first clause only; what stands in parentheses is one."""

    def _expand_help(self, action: argparse.Action) -> str:
        return re.split(r"[;:](?![^(]*\))", super()._expand_help(action))[0]


class HelpAll(argparse.Action):
    """--help-all: help with every flag."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        hidden = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
        super().__init__(option_strings, nargs=0, help=help, **hidden)

    def __call__(self, parser, namespace, values, option_string=None):
        print(full_help(parser, parser.examples), end="")
        parser.exit()


Sections = Iterable[tuple[str | None, str | None, Iterable[argparse.Action]]]
"""Titles, descriptions and flags."""


def full_help(parser: argparse.ArgumentParser, examples: str) -> str:
    """Help with all flags, under the headings under which they were added, argparse's own last."""
    own, added = parser._action_groups[:2], parser._action_groups[2:]
    sections = [(each.title, each.description, each._group_actions) for each in (*added, *own)]
    return _help(parser, Formatter(parser.prog), examples, sections)


def short_help(
    parser: argparse.ArgumentParser, examples: str, common: Mapping[str, Sequence[str]]
) -> str:
    """Help with the flags of `common`: headings -> names of their values."""
    actions = {each.dest: each for each in parser._actions}
    sections = [(title, None, [actions[name] for name in names]) for title, names in common.items()]
    return _help(parser, ShortFormatter(parser.prog), examples, sections)


def _help(
    parser: argparse.ArgumentParser,
    formatter: argparse.HelpFormatter,
    examples: str,
    sections: Sections,
) -> str:
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    formatter.add_text(parser.description)
    if examples:
        lines = [f"  {line.format(prog=parser.prog)}" for line in examples.strip().splitlines()]
        formatter.add_text(_EXAMPLES + "\n".join(lines))
    for title, description, actions in sections:
        shown = [each for each in actions if each.help is not argparse.SUPPRESS]
        if shown:
            formatter.start_section(title)
            formatter.add_text(description)
            formatter.add_arguments(shown)
            formatter.end_section()
    formatter.add_text(parser.epilog)
    return formatter.format_help()
