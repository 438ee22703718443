"""The family of a model to be fine-tuned."""

from __future__ import annotations

from pathlib import Path

from ..weights.checkpoint import read_config
from ..weights.hub import local_checkpoint
from .recipe import Recipe


def find_recipe(model: str, revision: str | None = None) -> Recipe:
    """Recipe of a folder or hub repository; of one that is not here yet, by its name.

    Raises ValueError or FileNotFoundError for a folder of another family.
    """
    folder = local_checkpoint(model, revision)
    if folder is None:
        return _recipe("vibevoice" if "vibevoice" in model.lower() else "voxcpm2")
    return recipe_of(folder)


def recipe_of(folder: Path) -> Recipe:
    """Recipe of a checkpoint's folder. Raises ValueError or FileNotFoundError."""
    family = read_config(folder)[0]
    if "voxtral" in family.architectures:
        raise ValueError(f"{folder} is a recogniser, {family.title}; give a model that speaks")
    return _recipe("vibevoice" if "vibevoice" in family.architectures else "voxcpm2")


def _recipe(name: str) -> Recipe:
    if name == "vibevoice":
        from .vibevoice import VibeVoiceRecipe

        return VibeVoiceRecipe()
    from .voxcpm2 import VoxCPM2Recipe

    return VoxCPM2Recipe()
