"""Settings that the page shows. Limits and defaults are those of the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..dialogue.options import TurnOptions
from ..settings import settings_of
from ..speech.options import GenerationOptions
from ..text.normalization import LANGUAGES, is_normalize_installed
from .inputs import LONG_FORM


@dataclass(frozen=True)
class Widget:
    """Look of one setting. step: of a slider; low, high: its ends, if the limits are too far."""

    label: str
    info: str = ""
    group: str = "Sound"
    step: float | None = None
    low: float | None = None
    high: float | None = None


SOUND, MODEL, LONG, CHECKS = "Sound", "Model", "Long texts", "Checks"
GROUPS = (SOUND, LONG, CHECKS, MODEL)

WIDGETS = {
    "speed": Widget("Speed", "1 is as the model speaks; the pitch stays.", SOUND, 0.05, 0.5, 2),
    "normalize": Widget("Numbers and dates in words", "“$5” is read as “five dollars”.", SOUND),
    "trim_silence": Widget("Cut silence off both ends", "", SOUND),
    "fade_in": Widget(
        "Fade in (s)", "0.015 to 0.05 hide a click at the start.", SOUND, 0.005, 0, 0.1
    ),
    "seed": Widget(
        "Seed", "The same seed makes the same speech again; empty: another each time.", MODEL
    ),
    "cfg_value": Widget(
        "Guidance", "How closely the voice follows the text; 1.5 to 1.6 is steadier.", MODEL, 0.1
    ),
    "inference_timesteps": Widget("Solver steps", "More are slower; 10 are usual.", MODEL, 1),
    "fast": Widget("Fewer evaluations", "Nearly the same sound with 10/18 of the work.", MODEL),
    "solver": Widget("Solver", "“adams” may need fewer steps.", MODEL),
    "temperature": Widget("Temperature", "How much results differ.", MODEL, 0.05),
    "paragraph_pause": Widget(
        "Pause after a paragraph (s)", "[pause:2] in the text makes others.", LONG, 0.1, 0, 5
    ),
    "turn_pause": Widget("Pause between speakers (s)", "In dialogues.", LONG, 0.05, 0, 5),
    "language": Widget("Language of the text", "A code such as de, for abbreviations.", LONG),
    "silence_limit": Widget("End after so much silence (s)", "0: never.", CHECKS, 1, 0, 60),
}


def shown_settings(options: Mapping[str, object]) -> list[dict[str, Any]]:
    """Descriptions of the settings for the page, in order. options: initial values by name."""
    described = {
        name: (each, getattr(cls, name))
        for cls in (GenerationOptions, TurnOptions)
        for name, each in settings_of(cls).items()
        if cls is GenerationOptions or name in LONG_FORM
    }
    shown = []
    for name, widget in WIDGETS.items():
        if name not in described:
            continue
        setting, default = described[name]
        value = options.get(name)
        value = default if value is None else value
        shown.append(
            {
                "name": name,
                "label": widget.label,
                "info": widget.info,
                "group": widget.group,
                "default": value,
                **_input(name, widget, setting, value),
            }
        )
    return shown


def _input(name: str, widget: Widget, setting: Any, value: Any) -> dict[str, Any]:
    """Kind of the input field, and its limits or choices."""
    if name == "normalize":
        return _languages()
    if setting.kind == "choice":
        return {"kind": "choice", "choices": [[each, each] for each in setting.choices]}
    if setting.kind == "switch":
        return {"kind": "switch"}
    if widget.step is None:
        return {"kind": "number" if setting.kind == "integer" else "text"}
    low = setting.low if widget.low is None else min(widget.low, value)
    high = setting.high if widget.high is None else max(widget.high, value)
    return {"kind": "slider", "low": low, "high": high, "step": widget.step}


def _languages() -> dict[str, Any]:
    """Choices of `normalize`; none where its library is missing."""
    choices: list[list[Any]] = [[False, "No"]]
    if is_normalize_installed():
        choices += [[True, "Yes, by the script"]]
        choices += [[code, language] for code, language in LANGUAGES.items()]
        return {"kind": "choice", "choices": choices}
    missing = "Needs: pip install 'mlx-voxcpm2[normalize]'."
    return {"kind": "choice", "choices": choices, "info": missing, "disabled": True}
