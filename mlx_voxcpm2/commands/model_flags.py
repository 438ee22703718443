"""The flags that choose a model and its options, and the model that they choose."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from ..settings import setting
from ..speech.options import GenerationOptions
from .environment import add_device_flag, add_hub_flags
from .setting_flags import add_grouped_flags, add_setting_flags
from .shell import Parser, flag

if TYPE_CHECKING:
    from ..model import VoxCPM2

DEFAULT_MODEL = "openbmb/VoxCPM2"

logger = logging.getLogger("mlx_voxcpm2")


class AdapterSettings(TypedDict):
    """An adapter's path and strength, None without one."""

    adapter: str | None
    adapter_strength: float | None


@dataclass(frozen=True)
class ModelChoice:
    """Model to load, and how. See `load_model`."""

    model: str = setting(
        DEFAULT_MODEL,
        "text",
        "folder or hub repository",
        metavar="PATH_OR_REPO",
    )
    revision: str | None = setting(None, "text", "branch, tag or commit of the hub repository")
    dtype: str | None = setting(
        None, "text", "bfloat16 (default; a CPU computes in float32), float16 or float32"
    )
    quantize: str | None = setting(
        None, "text", "quantise in memory, such as 8bit or 4bit; as convert would", metavar="RECIPE"
    )
    adapter: str | None = setting(
        None,
        "text",
        "LoRA adapter: folder or repository, at scale 1 unless another is given",
        metavar="PATH[:SCALE]",
    )

    @property
    def adapter_settings(self) -> AdapterSettings:
        """Path and strength of the adapter, as the functions that load models take them."""
        from ..weights.adapter_files import split_strength

        path, scale = (None, None) if self.adapter is None else split_strength(self.adapter)
        return {"adapter": path, "adapter_strength": scale}

    def cache_key(self) -> dict[str, object]:
        """What decides the weights: fingerprints of their files, wherever they lie, and settings.

        Downloads what is missing. Raises FileNotFoundError or ValueError.
        """
        from ..weights.adapter_files import split_strength
        from ..weights.fingerprint import fingerprint
        from ..weights.hub import find_adapter, find_checkpoint

        found: dict[str, object] = {"dtype": self.dtype, "quantize": self.quantize}
        found["weights"] = fingerprint(find_checkpoint(self.model, self.revision))
        if self.adapter is not None:
            path, scale = split_strength(self.adapter)
            found["adapter"] = [fingerprint(find_adapter(path)), scale]
        return found


def add_model_flags(parser: Parser) -> None:
    """Add the flags of `ModelChoice` and of `GenerationOptions`."""
    model = parser.add_argument_group("model")
    add_setting_flags(model, ModelChoice)
    add_device_flag(model)
    add_hub_flags(model)
    flag(model, "verbose", action="store_true", help="report what is loaded and done")
    add_grouped_flags(parser, GenerationOptions)


def load(choice: ModelChoice) -> VoxCPM2:
    """Load the model. Raises what `load_model` raises."""
    import mlx.core as mx

    from ..load import load_model

    begin = time.perf_counter()
    model = load_model(
        choice.model, choice.dtype, choice.revision, choice.quantize, **choice.adapter_settings
    )
    dtype = str(model.dtype).split(".")[-1]
    seconds = time.perf_counter() - begin
    device = mx.default_device()
    logger.info("%s: %s on %s, loaded in %.1f s", choice.model, dtype, device, seconds)
    return model
