"""What belongs to one visitor: takes, clips and the speech under way. All of it is bounded."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .speaker import SpeechJob
    from .takes import Take

MOST_TAKES = 30
MOST_CLIPS = 6
MOST_JOBS = 2
"""Requests for speech of one visitor at once."""
MOST_JOBS_IN_ALL = 16
MOST_VISITORS = 200
MOST_CLIP_BYTES = 512 * 2**20
"""Memory for the clips of all visitors."""

_ID = re.compile(r"[0-9a-f]{32}")


def new_visitor_id() -> str:
    """An id of 128 random bits: who knows a visitor's id has the visitor's takes."""
    return secrets.token_hex(16)


def is_visitor_id(text: str) -> bool:
    """Whether a text has the form of `new_visitor_id`."""
    return _ID.fullmatch(text) is not None


class Busy(Exception):
    """There is no place for another request now. The message is for the visitor."""


@dataclass(frozen=True, eq=False)
class StoredClip:
    """Clip at the model's rate. samples: float32 (L,)."""

    samples: np.ndarray
    sample_rate: int
    name: str
    """Name of the file, or of the recording."""
    problems: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "name": self.name,
            "seconds": round(len(self.samples) / self.sample_rate, 1),
            "problems": list(self.problems),
        }


@dataclass(eq=False)
class Visitor:
    """One browser."""

    id: str
    takes: OrderedDict[str, Take] = field(default_factory=OrderedDict)
    """By id, oldest first."""
    clips: OrderedDict[str, StoredClip] = field(default_factory=OrderedDict)
    jobs: dict[str, SpeechJob] = field(default_factory=dict)

    def add_take(self, take: Take) -> None:
        """Add a take; the oldest goes if there are too many."""
        self.takes[take.id] = take
        while len(self.takes) > MOST_TAKES:
            self.takes.popitem(last=False)[1].remove()

    def remove_take(self, take_id: str) -> None:
        """Raises KeyError."""
        self.takes.pop(take_id).remove()

    def add_clip(self, clip: StoredClip) -> None:
        self.clips[clip.id] = clip
        while len(self.clips) > MOST_CLIPS:
            self.clips.popitem(last=False)

    def clip(self, clip_id: str) -> tuple[np.ndarray, int]:
        """Samples and rate of a clip, which thereby is the last to go. Raises KeyError."""
        self.clips.move_to_end(clip_id)
        clip = self.clips[clip_id]
        return clip.samples, clip.sample_rate

    def leave(self) -> None:
        """Stop the jobs and delete the files."""
        for job in self.jobs.values():
            job.stop()
        for take in self.takes.values():
            take.remove()

    @property
    def clip_bytes(self) -> int:
        return sum(clip.samples.nbytes for clip in self.clips.values())


class Visitors:
    """Visitors by the id in their cookie. Those who were not here for the longest go first."""

    def __init__(self) -> None:
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()

    def find_or_add(self, visitor_id: str) -> Visitor:
        """The visitor of an id; a new one, without takes, where the id is unknown.

        The id of a browser is unknown at its first request, and again after a restart.
        """
        if visitor_id in self._visitors:
            self._visitors.move_to_end(visitor_id)
            return self._visitors[visitor_id]
        visitor = self._visitors[visitor_id] = Visitor(visitor_id)
        while len(self._visitors) > MOST_VISITORS:
            idle = next((each for each in self._visitors.values() if not each.jobs), None)
            (self._visitors.pop(idle.id) if idle else self._visitors.popitem(last=False)[1]).leave()
        return visitor

    def check_place(self, visitor: Visitor) -> None:
        """Raise Busy if the visitor may not ask for more speech now."""
        if len(visitor.jobs) >= MOST_JOBS:
            raise Busy("You have speech under way already; stop it, or wait for its end.")
        if self.jobs >= MOST_JOBS_IN_ALL:
            raise Busy("Too many people speak just now; try again in a moment.")

    @property
    def jobs(self) -> int:
        """Number of requests for speech of all visitors."""
        return sum(len(each.jobs) for each in self._visitors.values())

    def make_room(self, new_bytes: int) -> None:
        """Drop the clips of those who were not here for the longest until there is room."""
        used = new_bytes + sum(each.clip_bytes for each in self._visitors.values())
        for visitor in self._visitors.values():
            while used > MOST_CLIP_BYTES and visitor.clips:
                used -= visitor.clips.popitem(last=False)[1].samples.nbytes
