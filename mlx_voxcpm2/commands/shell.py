"""Parts that all commands share: their parser, one-line errors, messages, exit status."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler

from .. import interrupts
from ..activity import announcing
from ..documents import read_text
from ..errors import one_line, option, options_spelled
from .environment import apply_environment
from .parser import Parser, flag

__all__ = [
    "Parser",
    "flag",
    "given_text",
    "messages_on_success",
    "run",
    "standard_input",
    "stopped_by_signals",
]


def given_text(name: str, text: str | None, file: str | None) -> str | None:
    """The text of a flag, or the content of the UTF-8 file of another; None if neither is given.

    The file "-" is standard input. Raises ValueError or OSError, in one line.
    """
    if text is not None and file is not None:
        raise ValueError(f"{option(name)} and a file with it are both given; leave one out")
    if file is None:
        return text
    return standard_input(name, option(name)) if file == "-" else read_text(file).strip()


def standard_input(name: str, argument: str, *, strips: bool = True) -> str:
    """UTF-8 text of standard input. name: what it is; argument: what gives it otherwise.

    strips: whether to leave out white space around it; a script's lines would lose their numbers.

    Raises ValueError, in one line.
    """
    if sys.stdin is None:
        raise ValueError(f"no {name}; give {argument}")
    if sys.stdin.isatty():
        print(f"Type the {name}, then Ctrl-D:", file=sys.stderr)
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"standard input is not UTF-8 text; give {argument}") from None
    return text.strip() if strips else text


@contextmanager
def messages_on_success() -> Iterator[None]:
    """Hold log messages until the block has succeeded, since a failure is one line."""
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
    """Raise SystemExit in the block on SIGTERM and SIGHUP (a closed terminal), for its clean-up."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], int | None],
    argv: list[str] | None,
) -> int:
    """Run a command and return the exit status: errors that a user can fix are one line, status 2.

    command: called with the parsed arguments, which it turns into dataclasses first of all; it may
    return a status of its own.
    """
    offer_completion(parser)
    _open_standard_streams()
    _log_to_standard_error()
    with interrupts.raised():
        args = parser.parse_args(argv)
        with options_spelled(_flags(parser, args)):
            return _run(parser.prog, command, args)


def _flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Callable[[str], str]:
    """How the command spells an option: by its flag, if it has one."""
    parsers, flags = [parser], dict[str, str]()
    for each in parsers:
        for action in each._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers.append(action.choices[getattr(args, action.dest)])
            elif action.option_strings:
                flags[action.dest] = action.option_strings[0]
    return lambda name: flags.get(name, name)


def _run(prog: str, command: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    for note in vars(args).get("notes", ()):
        print(f"{prog}: {note}", file=sys.stderr)
    if vars(args).get("verbose", False):
        logging.getLogger("mlx_voxcpm2").setLevel(logging.INFO)
    announced = (lambda _: None) if vars(args).get("quiet", False) else _announce
    try:
        apply_environment(vars(args))
        with announcing(announced):
            status = command(args) or 0
        _flush_output()
        return status
    except BrokenPipeError:  # the reader of our output has left
        _discard_unwritable_output()
        return 0
    except KeyboardInterrupt:
        print(f"{prog}: stopped", file=sys.stderr)
        return _leave(130)
    except SystemExit as end:  # a signal
        return _leave(end.code)
    except (ValueError, OSError) as error:
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        _discard_unwritable_output()
        return 2
    except RuntimeError as error:  # MLX's
        if "temp_directory_path" not in str(error):
            raise
        place = os.environ.get("TMPDIR", "/tmp")
        print(f"{prog}: TMPDIR is {place}, no usable folder; set it to one", file=sys.stderr)
        return 2


def _flush_output() -> None:
    """Write what is left of standard output, while its errors can still be one line."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(
            f"standard output can't be written to ({one_line(error)}); send it to another place"
        ) from None


def _discard_unwritable_output() -> None:
    """Let standard output lead nowhere if it can't be written, since Python flushes it at exit."""
    try:
        _flush_output()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard_streams() -> None:
    """Let closed streams (`2>&-`) lead nowhere, lest a file that is opened takes their number.

    A closed standard output stays None, so that the command can say that it can't write to it. In
    a locale without Unicode, characters that it lacks are written as escapes.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def _announce(description: str) -> None:
    """Say what is going on, in a line of its own above a progress bar."""
    from tqdm import tqdm

    tqdm.write(f"{description} …", file=sys.stderr)


class LinesAboveBars(logging.StreamHandler):
    """Writes messages above the progress bars that are shown, as lines of their own."""

    def emit(self, record: logging.LogRecord) -> None:
        if (tqdm := sys.modules.get("tqdm")) is None:  # no bar was shown yet
            super().emit(record)
        else:
            tqdm.tqdm.write(self.format(record), file=self.stream)


def _log_to_standard_error() -> None:
    logging.basicConfig(format="%(message)s", handlers=[LinesAboveBars(sys.stderr)])
    logging.getLogger("mlx_voxcpm2").setLevel(logging.WARNING)


def offer_completion(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that completes the command line, if argcomplete is there; never returns then.

    Without such a shell nothing is imported.
    """
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        sys.exit(1)
    argcomplete.autocomplete(parser)


def _leave(status: int) -> int:
    if threading.active_count() > 1:
        # Python would wait for a download in progress, whose finished part is in the cache.
        os._exit(status)
    return status
