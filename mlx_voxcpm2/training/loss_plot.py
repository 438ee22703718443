"""Plot of a training run: both losses and the learning rate, over the steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A loss that falls further is drawn on a logarithmic axis.
_LINEAR_RANGE = 10
# Steps of which the mean is drawn are this share of all.
_SMOOTHED = 1 / 25


def draw_plot(rows: Sequence[dict]) -> bytes:
    """Content of a PNG file that shows the rows of losses.jsonl."""
    from matplotlib.figure import Figure

    figure = Figure((13, 4), layout="constrained")
    losses, stops, rates = figure.subplots(1, 3)
    _draw_loss(losses, rows, "diff", "loss of the velocity")
    is_dialogue = any("loss/ce" in row for row in rows)
    second = ("ce", "loss of the tokens") if is_dialogue else ("stop", "loss of the stop head")
    _draw_loss(stops, rows, *second)
    rates.plot(*_points(rows, "lr"), color="tab:green")
    _choose_scale(rates, [0, *_points(rows, "lr")[1]])
    rates.set_title("learning rate")
    for axes in (losses, stops, rates):
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100, format="png")
    return picture.getvalue()


def _points(rows: Sequence[dict], key: str) -> tuple[list[int], list[float]]:
    """Steps that have a value, and the values."""
    found = [row for row in rows if key in row]
    return [row["step"] for row in found], [row[key] for row in found]


def _draw_loss(axes: Axes, rows: Sequence[dict], name: str, title: str) -> None:
    """Draws one loss: of each step, averaged over some steps, and of the validation."""
    steps, values = _points(rows, f"loss/{name}")
    width = round(len(values) * _SMOOTHED)
    is_smoothed = width > 1
    axes.plot(steps, values, color="tab:blue", alpha=0.35 if is_smoothed else 1, label="training")
    if is_smoothed:
        mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
        label = f"training, mean of {width} steps"
        axes.plot(steps[width - 1 :], mean, color="tab:blue", label=label)
    validated, of_validation = _points(rows, f"valid/{name}")
    if validated:
        axes.plot(validated, of_validation, "o-", ms=4, color="tab:orange", label="validation")
    _choose_scale(axes, [*values, *of_validation])
    axes.set_title(title)
    axes.legend(frameon=False)


def _plain(value: float) -> str:
    """A tick's label, without an exponent."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def _choose_scale(axes: Axes, values: list[float]) -> None:
    """A linear axis from 0 on, or a logarithmic one for a wide range; its labels are plain."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    least, most = min(values, default=0), max(values, default=0)
    if least > 0 and most > _LINEAR_RANGE * least:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.05 * most or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x)))
