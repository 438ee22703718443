"""Widgets of the options that the page shows. Limits and defaults are those of the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import gradio

from ..settings import settings_of
from ..speech.options import GenerationOptions


@dataclass(frozen=True)
class Widget:
    """Look of one option. step: of a slider; high: its end, if the limit is too far away."""

    label: str
    info: str | None = None
    step: float | None = None
    high: float | None = None


WIDGETS = {
    "seed": Widget("Seed", "Makes the same speech again; empty: another one each time."),
    "cfg_value": Widget(
        "Guidance", "How closely the voice follows the text; 1.5 to 1.6 is steadier.", step=0.1
    ),
    "inference_timesteps": Widget("Solver steps", "More are slower; 10 are usual.", step=1),
    "temperature": Widget("Temperature", "How much results differ.", step=0.05),
    "fade_in": Widget(
        "Fade in (s)", "0.015 to 0.05 hide a click at the start.", step=0.005, high=0.1
    ),
    "trim_silence": Widget("Cut silence off both ends"),
}
SETTINGS = tuple(WIDGETS)
"""Names of the options that the page shows."""


def setting_widgets(options: Mapping[str, object]) -> list[gradio.components.Component]:
    """Widgets of SETTINGS, in order. options: initial values by name; None: the default."""
    given = {name: value for name, value in options.items() if value is not None}
    return [_widget(name, given.get(name, getattr(GenerationOptions, name))) for name in SETTINGS]


def _widget(name: str, value: object) -> gradio.components.Component:
    widget, setting = WIDGETS[name], settings_of(GenerationOptions)[name]
    shown = {"label": widget.label, "info": widget.info}
    if setting.kind == "switch":
        return gradio.Checkbox(bool(value), **shown)
    if widget.step is None:
        return gradio.Textbox("" if value is None else str(value), **shown)
    high = setting.high if widget.high is None else max(widget.high, value)
    return gradio.Slider(setting.low, high, value, step=widget.step, **shown)
