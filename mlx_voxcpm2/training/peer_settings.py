"""Settings of other trainers as settings of this one: names by `peers.training`, values here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..peers.training import TRAIN
from .options import TrainingOptions

Settings = dict[str, Any]


def own_settings(given: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Settings by this package's names, and remarks on those that have no effect.

    `max_seq_length` stays until `with_batch_tokens`, since it needs the size of a batch.
    Raises ValueError for one that asks for what there is not, or for two that differ.
    """
    found: Settings = {}
    sources: dict[str, str] = {}
    notes: list[str] = []
    for name, value in given.items():
        if _is_left_out(name, value):
            continue
        for ours, own in _translated(name, value, given, notes).items():
            if found.setdefault(ours, own) != own:
                raise ValueError(f"{sources[ours]} and {name} differ; leave one out")
            sources[ours] = name
    return found, notes


def _is_left_out(name: str, value: object) -> bool:
    """Whether a key has no value, or one that asks for nothing."""
    each = TRAIN.get(name)
    if value is None or value == "" or (each is not None and each.ours == "config"):
        return True
    if name == "train" and isinstance(value, bool):  # mlx-lm's switch
        return True
    if name == "max_steps" and value == 0:  # upstream's "as num_iters"
        return True
    return each is not None and str(value) in each.neutral


def _translated(name: str, value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    """Settings that one key stands for; a remark is added to `notes`."""
    each = TRAIN.get(name)
    effect = "same" if each is None else each.effect
    if effect == "translated":
        return _TRANSLATIONS[name](value, given, notes)
    if effect in ("same", "alias"):
        return {name if each is None else each.ours: value}
    if each is not None and value is not False:
        if effect == "refused":
            raise ValueError(f"{name}: {each.text}")
        if effect == "ignored":
            notes.append(f"{name} has no effect: {each.text}")
    return {}


def with_batch_tokens(settings: Settings) -> Settings:
    """Settings with `max_batch_tokens` in place of `max_seq_length`. Raises ValueError."""
    if "max_seq_length" not in settings:
        return settings
    if "max_batch_tokens" in settings:
        raise ValueError("max_seq_length and max_batch_tokens are both given; leave one out")
    rest = {name: value for name, value in settings.items() if name != "max_seq_length"}
    length, size = settings["max_seq_length"], rest.get("batch_size", TrainingOptions.batch_size)
    if type(length) is not int or type(size) is not int:
        raise ValueError(f"max_seq_length is {length!r}; it must be a whole number")
    return rest | {"max_batch_tokens": length * size}


def parsed(text: object) -> object:
    """Value of a flag as YAML would read it: a number, true or false, or the text itself."""
    if not isinstance(text, str):
        return text
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _data(value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    folder = Path(os.path.expanduser(str(value)))
    if not folder.is_dir():
        raise ValueError(
            f"data: {value} is no folder here; give one with train.jsonl in it, or --train FILE"
        )
    if not (folder / "train.jsonl").is_file():
        raise ValueError(f"data: there is no train.jsonl in {folder}; or give --train FILE")
    found = {"train": str(folder / "train.jsonl")}
    if (folder / "valid.jsonl").is_file():
        found["validation"] = str(folder / "valid.jsonl")
    return found


def _fine_tune_type(value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    if value not in ("lora", "full"):
        raise ValueError(f"fine_tune_type is {value!r}; it must be lora or full")
    return {"full": value == "full"}


def _optimizer(value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    if value not in ("adam", "adamw"):
        raise ValueError(f"optimizer is {value!r}; it must be adamw, or adam: no weight decay")
    return {"weight_decay": 0.0} if value == "adam" else {}


def _optimizer_config(value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    chosen = given.get("optimizer") or "adamw"
    own = value.get(chosen) if isinstance(value, dict) else None
    if not isinstance(own, dict):
        return {}
    notes += [
        f"optimizer_config: {name} has no effect: AdamW's own is used"
        for name in own
        if name != "weight_decay"
    ]
    return {name: own[name] for name in ("weight_decay",) if name in own}


def _max_seq_length(value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    return {"max_seq_length": value}


def _lora_parameters(value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    if not isinstance(value, dict):
        raise ValueError(f"lora_parameters is {json.dumps(value)}; it must have rank and scale")
    if keys := value.get("keys"):
        raise ValueError(
            f"lora_parameters: keys {json.dumps(keys)}: give lora: target_modules_lm and "
            "target_modules_dit instead"
        )
    found = {
        ours: value[name] for name, ours in (("rank", "r"), ("dropout", "dropout")) if name in value
    }
    if "scale" in value:
        rank = found.setdefault("r", 8)  # of mlx-lm's default lora_parameters
        alpha = value["scale"] * rank
        if alpha != int(alpha) or alpha < 1:
            raise ValueError(
                f"lora_parameters: scale x rank is {alpha:g}; it must be a whole number"
            )
        found["alpha"] = int(alpha)
    return {"lora": found}


def _lr_schedule(value: object, given: Mapping[str, Any], notes: list[str]) -> Settings:
    schedule = value if isinstance(value, dict) else {}
    arguments = schedule.get("arguments") or []
    if schedule.get("name") != "cosine_decay" or not arguments:
        raise ValueError(
            "lr_schedule: only cosine_decay is here, from learning_rate to 0 at the last step"
        )
    if arguments[1:]:
        notes.append("lr_schedule: the rate decays to 0 at the last step, whatever it names")
    return {"learning_rate": parsed(arguments[0]), "warmup_steps": schedule.get("warmup", 0)}


_TRANSLATIONS: dict[str, Callable[[object, Mapping[str, Any], list[str]], Settings]] = {
    "data": _data,
    "fine_tune_type": _fine_tune_type,
    "optimizer": _optimizer,
    "optimizer_config": _optimizer_config,
    "max_seq_length": _max_seq_length,
    "lora_parameters": _lora_parameters,
    "lr_schedule": _lr_schedule,
}
