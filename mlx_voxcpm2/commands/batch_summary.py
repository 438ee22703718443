"""Summary of a batch's folder: a JSON object per audio file, written right after it.

Each of several processes has a summary of its own, and reads those of all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..documents import content_key
from ..errors import one_line
from ..files import write_all
from ..schema import check_integer, parse_json
from ..speech.results import GenerationResult
from ..voices.inputs import VOICE_FIELDS
from .batch_dialogues import dialogue_key
from .batch_lines import SOURCES, Line
from .report import print_report

logger = logging.getLogger("mlx_voxcpm2")

# Version of the fingerprints. Increase it when generated audio changes.
_VERSION = "batch 1"


class Summary:
    """Files that were written. A file counts only if its last record has the same fingerprint."""

    def __init__(self, folder: Path, process: int = 0):
        self.folder = folder
        self.path = folder / (f"summary.{process}.jsonl" if process else "summary.jsonl")
        found = sorted(self._read(), key=lambda record: record["run"])
        self._records = {record["audio"]: record for record in found}
        self._run = 1 + max((record["run"] for record in found), default=0)
        """Number of this run. Clocks are set back, so that no time tells which record is last."""

    def _read(self) -> Iterator[dict]:
        """Records in the order of their file."""
        for path in sorted(self.folder.glob("summary*.jsonl")):
            for line in path.read_bytes().splitlines():
                try:
                    record = parse_json(line)
                    check_integer("run", record["run"], 0, None)
                    record["audio"] = str(record["audio"])
                except (ValueError, KeyError, TypeError):
                    continue  # half a record, of a process that was killed
                yield record

    def has(self, line: Line, fingerprint: str) -> bool:
        """Whether the line's file is there, as it was written with these settings.

        A file that was replaced just before a kill has no record of its own yet.
        """
        record = self._records.get(line.output.as_posix(), {})
        if record.get("settings") != fingerprint:
            return False
        try:
            return record.get("content") == _content(self.folder / line.output)
        except OSError:
            return False

    def add(self, line: Line, fingerprint: str, result: GenerationResult) -> None:
        """Record a written file. `audio` and `text` make the summary a training manifest, too."""
        record = {
            "audio": line.output.as_posix(),
            "text": line.text,
            "id": line.id,
            "line": line.number,
            "seconds": round(result.duration, 3),
            "seed": result.seed,
            "finish_reason": result.finish_reason,
            "guards": result.guards,
            "run": self._run,
            "settings": fingerprint,
            "content": _content(self.folder / line.output),
        }
        if result.heard is not None:
            record["heard"] = result.heard
        if result.error_rate is not None:
            record["error_rate"] = round(result.error_rate, 3)
        if len(result.takes) > 1:
            takes = [{"seed": take.seed, "score": round(take.score, 4)} for take in result.takes]
            record |= {"score": round(result.score or 0.0, 4), "takes": takes}
        data = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            with open(self.path, "ab+", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                    data = b"\n" + data  # after half a record
                write_all(file, data)
                os.fsync(file.fileno())
        except OSError as error:
            raise type(error)(
                f"{self.path}: cannot be written ({one_line(error)}); make room or write elsewhere"
            ) from None


def _content(file: Path) -> str:
    """Digest of an audio file. Raises OSError."""
    return content_key(file, whole=2**18, samples=8)


def fingerprint(line: Line, model: dict[str, object], hashes: dict[Path, str]) -> str:
    """Hash of everything that decides a line's audio. model: what chose the weights.

    hashes: of the voices' files. A seed that was drawn is no part of it: the file stays valid.
    """
    voice: object = {name: hashes[path] for name, path in line.sources}
    words = [getattr(line.voice, name) for name in VOICE_FIELDS if name not in SOURCES]
    request = [line.text, *words, line.options.fingerprint_values]
    if line.script is not None:
        voice = [hashes[path] for _, path in line.sources]
        request += dialogue_key(line.script, line.voices)
    data = json.dumps([_VERSION, model, request, voice], sort_keys=True, default=str)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


@dataclass
class Totals:
    """Totals of the files that a run wrote."""

    texts: int = 0
    incomplete: int = 0
    guarded: int = 0
    seconds: float = 0
    """Duration of the speech."""
    memory: float = 0
    """Peak in GB."""

    def add(self, result: GenerationResult) -> None:
        self.texts += 1
        self.incomplete += result.finish_reason != "stop"
        self.guarded += bool(result.guards)
        self.seconds += result.duration
        self.memory = result.peak_memory_usage

    def report(self, folder: Path, finished: int, summary: Path, elapsed: float) -> None:
        """Print the totals. finished: files of earlier runs. elapsed: seconds of this one."""
        counted = f"{self.texts} texts; {finished} were there already"
        memory = f"peak memory {self.memory:.2f} GB"
        print_report(str(folder), self.seconds, elapsed, [counted, memory])
        if self.guarded:
            print(
                f'guards: acted on {self.guarded} texts; see "guards" in {summary}', file=sys.stderr
            )
        if self.incomplete:
            logger.warning(
                "%d of them were cut at their limit or fell silent, and may be incomplete: those "
                'whose finish_reason is not "stop" in %s',
                self.incomplete,
                summary,
            )
