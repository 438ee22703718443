"""What is left to speak of a file of lines, and by this process; all checks before the model."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..audio.reading import read_audio
from ..audio.writing import output_format
from ..errors import one_line
from ..voices.inputs import VoiceInputs
from ..voices.saved import Voice
from .asr_flags import verification_settings
from .batch_lines import FIELDS, VOICE, Line, Problem, read_lines
from .batch_summary import Summary, fingerprint
from .model_flags import chosen_weights
from .option_flags import option_values

if TYPE_CHECKING:
    import mlx.core as mx

logger = logging.getLogger("mlx_voxcpm2")


@dataclass(frozen=True)
class Job:
    folder: Path
    lines: list[Line]
    """That have to be spoken, in the order of the file."""
    skipped: int
    """Of this process's share, those that are there already."""
    settings: dict[int, str]
    """Fingerprints by number of the line."""
    summary: Summary


def plan(args: argparse.Namespace) -> Job:
    """The share of this process; under `mlx.launch` every nth line, of n processes.

    Lists every line that can't be used on standard error, and raises ValueError in all processes;
    FileNotFoundError or another OSError for what can't be read at all. Nothing is written.
    """
    import mlx.core as mx

    try:
        group = mx.distributed.init()
    except RuntimeError as error:
        raise ValueError(f"the processes can't meet: {one_line(error)}") from None
    fault, job = None, None
    try:
        job = _plan(args, group.rank(), group.size())
    except (ValueError, OSError) as error:
        fault = error
    _agree(fault, group)
    return job


def _agree(fault: Exception | None, group: mx.distributed.Group) -> None:
    """Raises it here, and in the others that there is one."""
    import mlx.core as mx

    faults = mx.distributed.all_sum(mx.array(fault is not None, dtype=mx.int32), group=group)
    if faults.item():
        raise fault or ValueError("another process found faults; nothing was spoken")


def _plan(args: argparse.Namespace, rank: int, processes: int) -> Job:
    folder = Path(os.path.expanduser(args.output_dir))
    _check_folder(folder)
    if args.voice is not None:
        VoiceInputs(None, args.ref_audio, args.prompt_audio, args.prompt_text, args.voice)
    defaults = {name: getattr(args, name, None) for name in VOICE} | option_values(args)
    suffix = output_format(f"a.{args.format}")
    lines, problems, unused = read_lines(args.input, defaults, suffix)
    if unused and not rank:
        names, known = ", ".join(sorted(unused)), ", ".join(FIELDS)
        logger.warning("%s: nothing is done with %s; the fields are %s", args.input, names, known)
    share, problems = lines[rank::processes], [] if rank else problems  # else all would list them
    hashes, faults = _hashes(share)
    problems += faults + [problem for line in share for problem in _leads_out(line, folder)]
    _refuse(problems, args.input)
    weights, summary = chosen_weights(args), Summary(folder, rank)
    if verified := verification_settings(args):
        weights["verify"] = verified
    settings = {line.number: fingerprint(line, weights, hashes) for line in share}
    left = [line for line in share if not summary.has(line, settings[line.number])]
    _refuse(_unreadable(left), args.input)
    return Job(folder, left, len(share) - len(left), settings, summary)


def _check_folder(folder: Path) -> None:
    """Raises ValueError or PermissionError if files can't be made there; makes none."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"{there} is a file; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{there}: nothing may be written here; choose another folder")


def _refuse(problems: list[Problem], source: str) -> None:
    """Lists them all and raises ValueError, if there are any."""
    for problem in sorted(problems, key=lambda problem: problem.number):
        print(f"{source}: {problem}", file=sys.stderr)
    if count := len({problem.number for problem in problems}):
        lines = "1 line" if count == 1 else f"{count} lines"
        raise ValueError(f"{source}: {lines} cannot be used; nothing was spoken")


def _hashes(lines: list[Line]) -> tuple[dict[Path, str], list[Problem]]:
    """Of what the files of voices hold; of those that can't be read, the lines that want them."""
    found, problems = {}, []
    for line in lines:
        for name, path in line.sources.items():
            try:
                if path not in found:
                    found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                fault = f"{name}: {str(path)!r} cannot be read ({one_line(error)}); check the path"
                problems.append(Problem(line.number, fault))
    return found, problems


def _leads_out(line: Line, folder: Path) -> list[Problem]:
    target = Path(os.path.realpath(folder / line.output))
    if target.is_relative_to(os.path.realpath(folder)):
        return []
    fault = f"output {str(line.output)!r} leads out of {folder} by a link; give another name"
    return [Problem(line.number, fault)]


def _unreadable(lines: list[Line]) -> list[Problem]:
    """Reads every source of a voice once; of those that are none, the lines that want them."""
    from tqdm import tqdm

    faults: dict[tuple[str, Path], str] = {}
    for name, path in tqdm(
        dict.fromkeys(source for line in lines for source in line.sources.items()),
        desc="checking voices", unit="voice", disable=None, file=sys.stderr, leave=False,
    ):  # fmt: skip
        try:
            if name == "voice":
                Voice.load(path)
            else:
                # Its own rate does not matter: this only finds out whether it can be read.
                read_audio(path, 16000, name)
        except (ValueError, OSError) as error:
            faults[name, path] = str(error)
    return [
        Problem(line.number, faults[source])
        for line in lines
        for source in line.sources.items()
        if source in faults
    ]
