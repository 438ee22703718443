"""What every command of the package shares: spellings of flags, one-line errors, exit status."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler


class FirstSpelling(argparse.HelpFormatter):
    """Lists each flag once, as it was named first."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.dest == "help":
            return super()._format_action_invocation(action)
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        return action.option_strings[0] + value


class Parser(argparse.ArgumentParser):
    """Errors are one line; abbreviations are not guessed."""

    def __init__(self, **options: object):
        super().__init__(allow_abbrev=False, formatter_class=FirstSpelling, **options)

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")


def flag(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, *names: str, **options: object
) -> None:
    """Adds --NAME; further names are what others call it. Each in both spellings, _ and -."""
    spellings = [f"--{name}" for name in names]
    spellings += [f"--{name.replace('_', '-')}" for name in names if "_" in name]
    parser.add_argument(*spellings, dest=names[0], **options)


@contextmanager
def messages_on_success() -> Iterator[None]:
    """What the library says waits until the block has succeeded, since a failure is one line."""
    logger = logging.getLogger("mlx_voxcpm2")
    held = MemoryHandler(capacity=1000, flushLevel=logging.CRITICAL)
    logger.addHandler(held)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(held)
        logger.propagate = True
    for record in held.buffer:
        logger.handle(record)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (a closed terminal) raise in the block, so that it clears up."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], None],
    argv: list[str] | None,
) -> int:
    """Runs a command; the exit status. What the user can mend is one line and status 2."""
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    level = logging.INFO if getattr(args, "verbose", False) else logging.WARNING
    logging.getLogger("mlx_voxcpm2").setLevel(level)
    try:
        command(args)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return _leave(130)
    except SystemExit as end:  # a signal
        return _leave(end.code)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _leave(status: int) -> int:
    if threading.active_count() > 1:
        # Python would wait for a download that is under way; what it has is kept.
        os._exit(status)
    return status
