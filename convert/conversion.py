"""A conversion from its arguments to the checkpoint, and to the hub: for Python and the command."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from mlx_voxcpm2.errors import option
from mlx_voxcpm2.peers.conversion import CONVERT
from mlx_voxcpm2.settings import check_settings, setting, unknown_name
from mlx_voxcpm2.weights.adapter_files import read_adapter_if_given
from mlx_voxcpm2.weights.precision import choose_precision
from mlx_voxcpm2.weights.quantization import Quantization
from mlx_voxcpm2.weights.recipes import MODE_RECIPES, RECIPES, find_recipe

from .checkpoint import LAYOUTS, Progress, write_checkpoint
from .publish import check_upload, publish

if TYPE_CHECKING:
    import mlx.core as mx
    from typing_extensions import Unpack

_RECIPE_NAMES = ", ".join((*RECIPES, *MODE_RECIPES))
_QUANTIZATION = ("q_bits", "q_group_size", "q_mode")


@dataclass(frozen=True)
class Conversion:
    """What to convert, how, and where to. Raises ValueError for what contradicts itself.

    hf_path: a checkpoint that `load_model` reads: a folder or a hub repository.
    dtype: of unquantised weights, see `load_model`.
    quantize: True for `q_bits` (4), `q_group_size` and `q_mode`, as mlx-lm's; or a recipe's name,
        or a `Quantization`. recipe: the same as a name there.
    dequantize: write a quantised source unquantised. Without it, and without quantize, a quantised
        source stays as it is.
    layout: "mlx-audio", which mlx-audio and this package read, or "mlx-voxcpm2", which has this
        package's names and axes, so that only this package reads it.
    overwrite: replace a checkpoint at `mlx_path`, once the new one is complete.
    adapter, adapter_strength: a LoRA adapter to fuse into the weights, before they are cast or
        quantised; see `adapter_files.read_adapter`.
    upload_repo, private, measured: see `publish`; None uploads nothing.
    """

    hf_path: str | Path
    mlx_path: str | Path = setting("mlx_model", "path", "folder to write", metavar="PATH")
    dtype: str | mx.Dtype | None = setting(
        None,
        "name",
        "bfloat16 (default), float16 or float32; of unquantised weights",
        metavar="TYPE",
    )
    revision: str | None = setting(None, "text", "branch, tag or commit of the hub repository")
    quantize: bool | str | Quantization | None = None
    recipe: str | None = setting(
        None, "text", f"quantise by a recipe: {_RECIPE_NAMES}", metavar="NAME"
    )
    q_bits: int | None = setting(None, "integer", "bits of a weight (default 4)", low=1)
    q_group_size: int | None = setting(None, "integer", "weights that share a scale", low=1)
    q_mode: str | None = setting(
        None, "text", "affine (default), mxfp4, mxfp8 or nvfp4", metavar="MODE"
    )
    dequantize: bool = setting(False, "switch", "write a quantised checkpoint unquantised")
    layout: str = setting(
        "mlx-audio",
        "choice",
        "mlx-audio, which mlx-audio reads too, or mlx-voxcpm2",
        choices=LAYOUTS,
        metavar="NAME",
    )
    overwrite: bool = setting(False, "switch", "replace an existing checkpoint")
    adapter: str | Path | None = setting(
        None, "path", "LoRA adapter to fuse into the weights", metavar="PATH[:SCALE]"
    )
    adapter_strength: float | None = None
    upload_repo: str | None = setting(
        None, "text", "write a model card and upload to the hub", metavar="OWNER/NAME"
    )
    private: bool = setting(False, "switch", "make the repository private")
    measured: str | Path | None = setting(
        None,
        "path",
        "output of benchmarks/quantisation.py, for the card",
        metavar="FILE",
    )

    def __post_init__(self):
        check_settings(self)
        self.quantization()
        if self.upload_repo is None and (self.private or self.measured is not None):
            idle = "private" if self.private else "measured"
            raise ValueError(f"{option(idle)} does nothing without {option('upload_repo')}")

    def quantization(self) -> str | Quantization | None:
        """How to quantise: what `load_model` takes as `quantize`. Raises ValueError."""
        given = {
            name: value for name in _QUANTIZATION if (value := getattr(self, name)) is not None
        }
        named = self.recipe if self.recipe is not None else self.quantize
        if named in (None, False):
            if given:
                name, missing = option(next(iter(given))), option("quantize")
                raise ValueError(f"{name} says how to quantise; give {missing} too")
            return None
        if self.dequantize:
            raise ValueError(
                f"{option('quantize')} and {option('dequantize')} are both given; leave one out"
            )
        if named is True:
            return Quantization(self.q_bits, self.q_group_size, self.q_mode or "affine")
        recipe = find_recipe(named)
        if recipe is None and (given or self.quantize is True):
            raise ValueError(f"recipe {named} quantises nothing; leave {option('quantize')} out")
        group_size = given.pop("q_group_size", None)
        if given:
            raise ValueError(f"recipe {named} says it; leave {option(next(iter(given)))} out")
        return named if group_size is None else replace(recipe, group_size=group_size)

    def write(self, progress: Progress | None = None) -> Path:
        """Write the checkpoint; returns its folder. Raises what `write_checkpoint` raises.

        If it is to be uploaded, whether that can succeed is checked first, not after an hour.
        """
        if self.upload_repo is not None:
            check_upload(self.upload_repo)
        return write_checkpoint(
            self.hf_path,
            self.mlx_path,
            replace(
                choose_precision(self.dtype, self.quantization()),
                dequantize=self.dequantize,
                adapter=read_adapter_if_given(self.adapter, self.adapter_strength),
            ),
            revision=self.revision,
            layout=self.layout,
            overwrite=self.overwrite,
            progress=progress,
        )

    def upload(self) -> str:
        """Upload the checkpoint at `mlx_path`; returns its address. Raises what `publish` does."""
        assert self.upload_repo is not None
        is_local = os.path.exists(os.path.expanduser(self.hf_path))
        base_model = None if is_local else str(self.hf_path)
        try:
            return publish(self.mlx_path, self.upload_repo, self.private, base_model, self.measured)
        except (ValueError, OSError) as error:
            hint = f"{self.mlx_path} is complete: without --hf_path the command only uploads it"
            raise OSError(f"{error}; {hint}") from None


class ConversionKeywords(TypedDict, total=False):
    """`Conversion` as keyword arguments, for type checkers."""

    dtype: str | mx.Dtype | None
    revision: str | None
    quantize: bool | str | Quantization | None
    recipe: str | None
    q_bits: int | None
    q_group_size: int | None
    q_mode: str | None
    dequantize: bool
    layout: str
    overwrite: bool
    adapter: str | Path | None
    adapter_strength: float | None
    upload_repo: str | None
    private: bool
    measured: str | Path | None


_NAMES = [each.name for each in fields(Conversion)]
_COUNTERPARTS = {each.name: each.ours for each in CONVERT.values() if each.effect == "alias"}
_ADVICE = {each.name: f"{each.text}; leave it out" for each in CONVERT.values() if each.text}


def convert(
    hf_path: str | Path,
    mlx_path: str | Path = "mlx_model",
    dtype: str | mx.Dtype | None = None,
    revision: str | None = None,
    *,
    progress: Progress | None = None,
    **settings: Unpack[ConversionKeywords],
) -> Path:
    """Convert a checkpoint that `load_model` reads; returns the folder that it wrote, `mlx_path`.

    Arguments: the fields of `Conversion`, which are also the flags of the command. progress:
    called with a stage ("writing", "checking"), the bytes done and all bytes of that stage.

        convert("openbmb/VoxCPM2", "VoxCPM2-8bit", quantize="8bit")

    Tensors are read, computed and written one by one, then read again and compared. If that is
    interrupted, nothing is left behind. Raises the errors of `load_model`, FileExistsError if
    `mlx_path` exists, OSError if it can't be written, TypeError for an unknown keyword.
    """
    for name in settings:
        if name not in _NAMES:
            raise TypeError(f"convert(): {unknown_name(name, _NAMES, _COUNTERPARTS, _ADVICE)}")
    conversion = Conversion(hf_path, mlx_path, dtype, revision, **settings)
    target = conversion.write(progress)
    if conversion.upload_repo is not None:
        conversion.upload()
    return target


def _signature() -> inspect.Signature:
    """Signature of `convert` with the fields of `Conversion`, for `help()`."""
    own = inspect.signature(convert).parameters
    shared = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default)
        for each in fields(Conversion)
        if each.name not in own
    ]
    shown = [each for each in own.values() if each.kind is not each.VAR_KEYWORD]
    return inspect.Signature([*shown, *shared])


convert.__signature__ = _signature()  # type: ignore[attr-defined]
