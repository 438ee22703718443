"""What the demo voice must do, as numbers: right words, the right voice, an end in time.

Tasks and what was spoken go in, rows with their goals come out; needs no espeak-ng.
"""

from __future__ import annotations

from recogniser import Heard, hear  # before MLX  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import jiwer
import numpy as np
from speech import join_words, pitch

from mlx_voxcpm2 import VoxCPM2
from mlx_voxcpm2.speech.generation import stream_audio
from mlx_voxcpm2.speech.options import GenerationOptions

NEAR = 0.15
"""How far a cloned voice's pitch may be from the speaker's, as a part of it."""
APART = 1.4
"""The high voice's pitch over the low voice's."""
LATEST = 0.5
"""Seconds from the end of the last word to the end of the sound."""
WORD_END = 0.4
"""A word ends at most this many seconds after the recogniser was surest of it."""
QUIET = 0.05
"""Of the loud frames' level, what is silence: -26 dB."""


@dataclass(frozen=True)
class Clip:
    """16 kHz sound (samples,) of a speaker saying words."""

    speaker: str
    words: list[str]
    sound: np.ndarray
    sample_rate: int


@dataclass(frozen=True)
class Task:
    """Words to speak, as described, in a clip's voice, or going on from a clip.

    pitches: the median of each speaker saying these words, in Hz.
    """

    words: list[str]
    instruct: str | None = None
    reference: Clip | None = None
    prompt: Clip | None = None
    pitches: dict[str, float] = field(default_factory=dict)

    @property
    def speaker(self) -> str:
        """Whose voice it is to be."""
        return (self.prompt or self.reference).speaker

    def arguments(self) -> dict:
        """`model.request`'s. A prompt's text and this one joined are one text, as trained."""
        found: dict = {"text": join_words(self.words), "instruct": self.instruct}
        if self.reference is not None:
            found["ref_audio"] = (self.reference.sound, self.reference.sample_rate)
        if self.prompt is not None:
            before = join_words(self.prompt.words)
            found["text"] = join_words([*self.prompt.words, *self.words])[len(before) :]
            found["prompt_text"] = before
            found["prompt_audio"] = (self.prompt.sound, self.prompt.sample_rate)
        return found


@dataclass(frozen=True)
class Spoken:
    """Sound (samples,), and why it ends: "stop" or "length"."""

    sound: np.ndarray
    sample_rate: int
    reason: str

    @cached_property
    def heard(self) -> list[Heard]:
        """Words that the recogniser hears, and when."""
        return hear(self.sound, self.sample_rate)

    @property
    def words(self) -> list[str]:
        return [heard.word for heard in self.heard]

    def tail(self, is_heard: bool) -> float:
        """Seconds of sound behind the last word. is_heard: whether the recogniser noticed it; else
        it ends where the sound was last loud."""
        hop = self.sample_rate // 100
        frames = self.sound[: len(self.sound) // hop * hop].reshape(-1, hop)
        levels = np.sqrt(np.mean(frames**2, axis=-1))
        loud = levels > QUIET * np.quantile(levels, 0.95)
        peak = int(100 * self.heard[-1].seconds) if is_heard else 0
        word = np.flatnonzero(loud[peak : peak + int(100 * WORD_END) if is_heard else None])
        end = peak + (word[-1] + 1 if len(word) else 0)
        return len(self.sound) / self.sample_rate - end / 100


@dataclass(frozen=True)
class Measured:
    """A row of the report; the goal is a least value, or None where there is none."""

    name: str
    value: float
    goal: float | None
    detail: str = ""

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.value >= self.goal  # not a number misses it


def speak(
    model: VoxCPM2,
    tasks: Sequence[Task],
    together: int = 32,
    options: GenerationOptions | None = None,
) -> list[Spoken]:
    """Each task by a seed of its own, always the same; `together` in one pass of the network."""
    options = options or GenerationOptions()
    spoken: list[Spoken] = []
    for start in range(0, len(tasks), together):
        group = tasks[start : start + together]
        requests = [
            model.request(**task.arguments(), options=replace(options, seed=start + index))
            for index, task in enumerate(group)
        ]
        sounds: list[list[np.ndarray]] = [[] for _ in group]
        reasons = [""] * len(group)
        for chunks in stream_audio(model, requests):
            for chunk in chunks:
                sounds[chunk.number].append(np.array(chunk.audio))
                reasons[chunk.number] = chunk.finish_reason or ""
        spoken += [
            Spoken(np.concatenate(sound), model.sample_rate, reason)
            for sound, reason in zip(sounds, reasons, strict=True)
        ]
    return spoken


def compare(said: list[list[str]], heard: list[list[str]]) -> jiwer.WordOutput:
    """Word errors of all sequences together; what is none of the words is an error too."""
    return jiwer.process_words([" ".join(row) for row in said], [" ".join(row) for row in heard])


def word_accuracy(
    name: str, tasks: list[Task], spoken: list[Spoken], goal: float | None
) -> Measured:
    """1 - word error rate."""
    out = compare([task.words for task in tasks], [each.words for each in spoken])
    counts = f"{out.substitutions} wrong, {out.deletions} missing, {out.insertions} added"
    words = sum(len(task.words) for task in tasks)
    return Measured(f"{name}: words", 1 - out.wer, goal, f"{counts}, of {words}")


def same_voice(
    name: str, tasks: list[Task], spoken: list[Spoken], goal: float | None
) -> list[Measured]:
    """Whether the pitch is the speaker's, and nobody else's: of the same words said by each."""
    near, nearest, errors = [], [], []
    for task, each in zip(tasks, spoken, strict=True):
        found = pitch(each.sound, each.sample_rate)
        off = {who: abs(np.log(found / own)) for who, own in task.pitches.items()}
        errors.append(abs(found / task.pitches[task.speaker] - 1))
        near.append(errors[-1] <= NEAR)
        nearest.append(off[task.speaker] == min(off.values()))
    detail = f"median {np.nanmedian(errors):.1%} off" if np.isfinite(errors).any() else "no pitch"
    cases = f"of {len(tasks)}"
    return [
        Measured(f"{name}: pitch within {NEAR:.0%}", np.mean(near), goal, f"{detail}, {cases}"),
        Measured(f"{name}: nearest to the own speaker's pitch", np.mean(nearest), goal, cases),
    ]


def designed(low: list[Spoken], high: list[Spoken], goal: float | None) -> Measured:
    """Whether "high voice" is higher than "low voice" for the same words."""
    pitches = [[pitch(each.sound, each.sample_rate) for each in side] for side in (low, high)]
    ratios = np.divide(*reversed(pitches))
    detail = f"median ratio {np.nanmedian(ratios):.2f}" if np.isfinite(ratios).any() else "no pitch"
    name = f"design: high over low by {APART - 1:.0%}"
    return Measured(name, np.mean(ratios >= APART), goal, f"{detail}, of {len(low)} pairs")


def ends_in_time(tasks: list[Task], spoken: list[Spoken], goal: float | None) -> Measured:
    """Whether the stop head ends it soon behind the last word, with nothing said in between."""
    stopped = np.array([each.reason == "stop" for each in spoken])
    out = compare([task.words for task in tasks], [each.words for each in spoken])
    ends = [row[-1].type for row in out.alignments]
    babble = np.array(ends) == "insert"
    tails = np.array(
        [each.tail(is_heard=end != "delete") for each, end in zip(spoken, ends, strict=True)]
    )
    detail = (
        f"{(~stopped).sum()} not by the stop head, {(tails > LATEST).sum()} late (median "
        f"{np.median(tails):.2f} s, longest {tails.max():.2f} s), {babble.sum()} with more words, "
        f"of {len(tasks)}"
    )
    in_time = stopped & (tails <= LATEST) & ~babble
    return Measured(f"ends within {LATEST} s of the last word", in_time.mean(), goal, detail)


def table(rows: list[Measured]) -> str:
    lines = ["| measure | goal | measured | |", "|---|---|---|---|"]
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:.0%}"
        verdict = "" if row.is_met else " **missed**"
        lines.append(f"| {row.name} | {goal} | {row.value:.1%}{verdict} | {row.detail} |")
    return "\n".join(lines)
