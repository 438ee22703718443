"""Configuration of a training run in YAML, with this package's keys, upstream's or mlx-lm's."""

from __future__ import annotations

import logging
import re

from ..documents import read_text
from ..errors import one_line
from ..schema import check_plain
from .peer_settings import own_settings

logger = logging.getLogger("mlx_voxcpm2")

_LONGEST = 2**16
"""Characters of a configuration."""
_NESTED = re.compile(r"([\[{?-][ \t]*){33}")


def read_config_file(path: str) -> dict:
    """Settings by this package's names; logs which keys have no effect.

    Raises ValueError or FileNotFoundError, in one line.
    """
    data = _read_yaml(path)
    try:
        settings, notes = own_settings(
            {str(name): _parse_exponents(value) for name, value in data.items()}
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for note in notes:
        logger.warning("%s: %s", path, note)
    if isinstance(lambdas := settings.get("lambdas"), dict):
        settings["lambdas"] = {str(k).removeprefix("loss/"): v for k, v in lambdas.items()}
    if "pretrained_path" in data and "lora" not in settings:
        settings["full"] = True  # as upstream without a lora section
    return settings


def _read_yaml(path: str) -> dict:
    try:
        import yaml
    except ImportError:
        raise ValueError(
            "--config needs PyYAML, which is not installed; install 'mlx-voxcpm2[train]'"
        ) from None
    text = read_text(path, "give a YAML file")
    try:
        # PyYAML takes seconds for some thousands of them.
        if len(text) > _LONGEST or _NESTED.search(text):
            raise ValueError("it is too long or nested too deeply")
        # References multiply: a few lines of them fill the memory.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("references such as *name; write the values out")
        data = yaml.safe_load(text)
        check_plain(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise ValueError(f"{path}: not a YAML file ({reason}); write `key: value` lines") from None
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ValueError(f"{path}: not a list of settings; write `key: value` lines")
    return data


def _parse_exponents(value: object) -> object:
    """Converts texts such as 1e-4 to numbers: YAML 1.1 requires 1.0e-4."""
    if isinstance(value, dict):
        return {name: _parse_exponents(item) for name, item in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value
