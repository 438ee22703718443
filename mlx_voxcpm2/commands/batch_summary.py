"""What was spoken into a folder: a JSON object per file, written as soon as the file is there.

Of several processes each has a summary of its own, and reads those of all.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

from ..errors import one_line
from ..speech.results import GenerationResult
from .batch_lines import Line

# In every fingerprint: another way of speaking needs another number.
_SPEAKING = "batch 1"


class Summary:
    """Which files are there; a file counts only if its last record has the same settings."""

    def __init__(self, folder: Path, process: int = 0):
        self.folder = folder
        self.path = folder / (f"summary.{process}.jsonl" if process else "summary.jsonl")
        self._records = self._read()

    def _read(self) -> dict[str, dict]:
        found = []
        for path in sorted(self.folder.glob("summary*.jsonl")):
            for line in path.read_bytes().splitlines():
                try:
                    record = json.loads(line)
                    found.append((float(record["time"]), str(record["audio"]), record))
                except (ValueError, KeyError, TypeError):
                    continue  # of a process that was killed while it wrote
        return {audio: record for _, audio, record in sorted(found, key=lambda each: each[0])}

    def has(self, line: Line, settings: str) -> bool:
        record = self._records.get(line.output.as_posix(), {})
        return record.get("settings") == settings and (self.folder / line.output).is_file()

    def add(self, line: Line, settings: str, result: GenerationResult) -> None:
        """The file has been written. `audio` and `text` make it a manifest to learn from, too."""
        record = {
            "audio": line.output.as_posix(), "text": line.text, "id": line.id, "line": line.number,
            "seconds": round(result.samples / result.sample_rate, 3), "seed": result.seed,
            "finish_reason": result.finish_reason, "guards": result.guards,
            "time": round(time.time(), 3), "settings": settings,
        }  # fmt: skip
        if result.heard is not None:
            record |= {"heard": result.heard, "error_rate": round(result.error_rate, 3)}
        data = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            with open(self.path, "ab+", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                    data = b"\n" + data  # after half a record
                file.write(data)
        except OSError as error:
            raise type(error)(
                f"{self.path}: cannot be written ({one_line(error)}); make room or write elsewhere"
            ) from None


def fingerprint(line: Line, model: dict[str, object], sources: dict[Path, str]) -> str:
    """Of all that decides how a line sounds. model: what chose the weights; sources: their hashes.

    A seed that nobody gave is no part of it: what was drawn once stays.
    """
    heard = {name: sources[path] for name, path in line.sources.items()}
    said = [line.text, line.instruct, line.prompt_text, asdict(line.options)]
    data = json.dumps([_SPEAKING, model, said, heard], sort_keys=True, default=str)
    return hashlib.sha256(data.encode()).hexdigest()[:16]
