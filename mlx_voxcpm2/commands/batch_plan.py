"""Plan of a batch: the lines that this process has to speak; all checks before the model."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..audio.writing import output_format
from ..errors import one_line, options_spelled
from ..files import check_folder, claimed, remove_leftovers
from .asr_flags import RecogniserChoice
from .batch_lines import FIELDS, Defaults, Line, Problem, read_lines
from .batch_summary import Summary, fingerprint
from .batch_voices import LineVoices
from .model_flags import ModelChoice

if TYPE_CHECKING:
    import mlx.core as mx

logger = logging.getLogger("mlx_voxcpm2")


@dataclass(frozen=True)
class BatchArguments:
    """Lines to speak, and how. Paths are as they were typed."""

    input: str
    output_dir: str
    format: str
    """Suffix of outputs without one, such as wav."""
    batch_size: int
    defaults: Defaults
    model: ModelChoice
    recogniser: RecogniserChoice


@dataclass(frozen=True)
class Plan:
    """Lines to be spoken by this process."""

    folder: Path
    lines: list[Line]
    """Lines to speak, in the order of the file."""
    voices: LineVoices
    """Voices of those lines, already read."""
    finished: int
    """Number of lines of this process that an earlier run has spoken."""
    fingerprints: dict[int, str]
    """Fingerprints by line number."""
    summary: Summary
    is_first: bool
    """Whether this is the only process, or the first of several."""

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Own the folder while the block runs, so that no two runs mix their files.

        Makes the folder, and removes it again if nothing came into it. Raises ValueError or
        OSError, in one line.
        """
        if not self.is_first:  # the first one owns it for all
            yield
            return
        is_new = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"{self.folder}: can't make this folder ({one_line(error)}); choose another place"
            ) from None
        try:
            with claimed(self.folder, "choose another --output_dir"):
                for place in {(self.folder / line.output).parent for line in self.lines}:
                    remove_leftovers(place)
                yield
        finally:
            with suppress(OSError):
                if is_new:
                    self.folder.rmdir()


def make_plan(arguments: BatchArguments) -> Plan:
    """The share of this process; under `mlx.launch` every nth line, of n processes.

    Lists every unusable line on standard error, and raises ValueError in all processes;
    FileNotFoundError or another OSError for files that can't be read. Nothing is written.
    """
    import mlx.core as mx

    try:
        group = mx.distributed.init()
    except RuntimeError as error:
        raise ValueError(f"the processes can't connect: {one_line(error)}") from None
    fault, plan = None, None
    try:
        plan = _plan(arguments, group.rank(), group.size())
    except (ValueError, OSError) as error:
        fault = error
    _agree(fault, group)
    assert plan is not None
    return plan


def _agree(fault: Exception | None, group: mx.distributed.Group) -> None:
    """Raise the fault in its process, and an error that there is one in the others."""
    import mlx.core as mx

    faults = mx.distributed.all_sum(mx.array(fault is not None, dtype=mx.int32), group=group)
    if faults.item():
        raise fault or ValueError("another process found faults; nothing was spoken")


def _plan(arguments: BatchArguments, rank: int, processes: int) -> Plan:
    source, folder = arguments.input, Path(os.path.expanduser(arguments.output_dir))
    check_folder(folder)
    suffix = output_format(f"a.{arguments.format}")
    lines, problems, unused = read_lines(source, arguments.defaults, suffix)
    if unused and not rank:
        names, known = ", ".join(sorted(unused)), ", ".join(FIELDS)
        logger.warning("%s: unknown fields are ignored: %s; known are %s", source, names, known)
    share, problems = lines[rank::processes], [] if rank else problems  # else all would list them
    hashes, faults = _hashes(share)
    problems += faults + [problem for line in share for problem in _links_out(line, folder)]
    _refuse(problems, source)
    weights, summary = arguments.model.cache_key(), Summary(folder, rank)
    arguments.recogniser.check_used(by_lines=any(line.best_of > 1 for line in lines))
    if verified := arguments.recogniser.cache_key():
        weights["verify"] = verified
    takes = _takes(arguments.recogniser, share)
    fingerprints = {
        line.number: fingerprint(line, weights | takes[line.best_of], hashes) for line in share
    }
    left = [line for line in share if not summary.has(line, fingerprints[line.number])]
    voices = LineVoices(left)
    with options_spelled():  # they are the lines' fields
        problems = voices.read(left)
    _refuse(problems, source)
    finished = len(share) - len(left)
    return Plan(folder, left, voices, finished, fingerprints, summary, is_first=not rank)


def _takes(recogniser: RecogniserChoice, lines: list[Line]) -> dict[int, dict[str, object]]:
    """What decides which take is used, by the number of takes.

    Raises ValueError if there are several and a library is missing that chooses among them.
    """
    counts = {line.best_of for line in lines}
    if counts <= {1}:
        return {1: {}}
    recogniser.check_installed()
    key = recogniser.recogniser_key()
    return {count: {"best_of": [count, key]} if count > 1 else {} for count in counts}


def _refuse(problems: list[Problem], source: str) -> None:
    """List all problems and raise ValueError, if there are any."""
    for problem in sorted(problems, key=lambda problem: problem.number):
        print(f"{source}: {problem}", file=sys.stderr)
    if count := len({problem.number for problem in problems}):
        lines = "1 line" if count == 1 else f"{count} lines"
        raise ValueError(f"{source}: {lines} cannot be used; nothing was spoken")


def _hashes(lines: list[Line]) -> tuple[dict[Path, str], list[Problem]]:
    """SHA-256 of the voices' files, and the lines that need a file that can't be read."""
    found, problems = {}, []
    for line in lines:
        for name, path in line.sources:
            try:
                if path not in found:
                    found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            except (OSError, ValueError) as error:  # a name with a null byte is the latter
                fault = f"{name}: {str(path)!r} cannot be read ({one_line(error)}); check the path"
                problems.append(Problem(line.number, fault))
    return found, problems


def _links_out(line: Line, folder: Path) -> list[Problem]:
    target = Path(os.path.realpath(folder / line.output))
    if target.is_relative_to(os.path.realpath(folder)):
        return []
    fault = f"output {str(line.output)!r} leads out of {folder} by a link; give another name"
    return [Problem(line.number, fault)]
