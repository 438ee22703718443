"""Goals beside what `machine_report.py` found, and the report as JSON and as Markdown."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from machine_tables import table


@dataclass(frozen=True)
class Goal:
    """A number to be reached. digits: of what is shown, after the point; None for 1e-05."""

    name: str
    step: str
    value: Callable[[dict], float | None]
    """The number, of what the step found; None if it was not measured."""
    target: float
    is_least: bool = False
    """Whether larger numbers are better."""
    precisions: tuple[str, ...] | None = None
    """Precisions for which the goal holds; None for all."""
    digits: int | None = 2

    def shown(self, value: float) -> str:
        return f"{value:.1e}" if self.digits is None else f"{value:.{self.digits}f}"

    def judge(self, value: float | None) -> str:
        """Whether it is reached, or by how much it is missed."""
        if value is None:
            return "not measured"
        if value >= self.target if self.is_least else value <= self.target:
            return "reached"
        if not self.target:
            return f"missed by {self.shown(value)}"
        return f"missed by {100 * abs(value / self.target - 1):.0f} %"


def _peak(what: str) -> Callable[[dict], float]:
    return lambda found: found["first"][what]["mlx"] / found["first"]["weight_bytes"]


def _to_mlx_audio(found: dict) -> float | None:
    longest = list(found["spoken"].values())[-1]
    return longest["mlx_audio"]["to_ours"]["median"] if "mlx_audio" in longest else None


def _gain_of_eight(found: list[dict]) -> float | None:
    return next((row["gain"][0] for row in found if row["batch"] == 8), None)


GOALS = (
    Goal("tests that failed", "tests", lambda found: len(found["failed"]), 0, digits=0),
    Goal(
        "largest error of a waveform",
        "fidelity",
        lambda found: max(mode["error"] for mode in found.values()),
        2e-5,
        digits=None,
    ),
    Goal("times as fast as mlx-audio", "speed", _to_mlx_audio, 3, is_least=True),
    Goal("patches per second, batch 8 over batch 1", "batch", _gain_of_eight, 4, is_least=True),
    Goal(
        "a step of 16 rows that join and leave, over one of rows that stay",
        "joins",
        lambda found: statistics.median(found["ratios"]),
        1.15,
    ),
    *(
        Goal(
            f"MLX's peak of memory while {what}, over the weights",
            "load",
            _peak(what),
            1.1,
            precisions=("4bit",),  # larger weights hide what is in memory beside them
        )
        for what in ("loading", "speaking")
    ),
)


def evaluate(step: str, precision: str | None, found) -> list[dict]:
    """A row for each goal of a step: what was measured, and the verdict."""
    return [_row(goal, precision, goal.value(found)) for goal in _goals_of(step, precision)]


def unmeasured(step: str, precision: str | None) -> list[dict]:
    """The rows of a step that failed."""
    return [_row(goal, precision, None) for goal in _goals_of(step, precision)]


def _goals_of(step: str, precision: str | None) -> list[Goal]:
    of_step = [goal for goal in GOALS if goal.step == step]
    return [goal for goal in of_step if goal.precisions is None or precision in goal.precisions]


def _row(goal: Goal, precision: str | None, value: float | None) -> dict:
    return {
        "goal": goal.name,
        "precision": precision or "",
        "target": f"at {'least' if goal.is_least else 'most'} {goal.target:g}",
        "value": value,
        "measured": "" if value is None else goal.shown(value),
        "verdict": goal.judge(value),
    }


def to_json(report: dict) -> str:
    """The whole report, without the name of the user's home folder."""
    return _without_home(json.dumps(report, indent=2, ensure_ascii=False, default=str))


def _without_home(text: str) -> str:
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def to_markdown(report: dict) -> str:
    """The report to be read: goals, failed steps, and the tables of each step."""
    parts = [f"# Measured by machine_report.py, {report['started']}"]
    parts.append("; ".join(f"{name}: {value}" for name, value in report["settings"].items()))
    keys = ("goal", "precision", "target", "measured", "verdict")
    rows = [row for entry in report["steps"] for row in entry["goals"]]
    parts += ["## Goals", table(keys, ([row[key] for key in keys] for row in rows))]
    failed = [entry for entry in report["steps"] if entry["error"]]
    if failed:
        lines = (f"- {_title_of(entry)}: {entry['error']}" for entry in failed)
        parts += ["## Failed steps", "\n".join(lines)]
    for entry in report["steps"]:
        if not entry["error"]:
            parts += [
                f"## {_title_of(entry)}, {entry['seconds']:.0f} s",
                entry["markdown"],
            ]
    return _without_home("\n\n".join(parts) + "\n")


def _title_of(entry: dict) -> str:
    return title(entry["step"], entry["precision"])


def title(step: str, precision: str | None) -> str:
    """Name of a step, with its precision if it has one."""
    return f"{step} {precision or ''}".strip()
