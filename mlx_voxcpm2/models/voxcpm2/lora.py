"""Settings of a LoRA adapter: which layers it changes, and how.

Upstream: `LoRAConfig` of model/voxcpm2.py, conf/voxcpm_v2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar

from ...schema import check_integer, check_number

_ATTENTION = ("q_proj", "v_proj", "k_proj", "o_proj")
_PROJECTIONS = ("enc_to_lm_proj", "lm_to_dit_proj", "res_to_dit_proj", "fusion_concat_proj")


@dataclass(frozen=True)
class LoRASettings:
    """Upstream's LoRAConfig, field by field.

    The defaults are those of upstream's recipe (conf/voxcpm_v2), not of its class (r 8, alpha 16,
    nothing enabled). Raises ValueError for a value out of range.

    enable_lm: layers of the language models (base_lm and residual_lm).
    enable_dit: layers of the diffusion transformer (feat_decoder.estimator).
    enable_proj: projections between the stacks.
    r: rank of B A, at least 1.
    alpha: integer, at least 1; as trained, alpha / r multiplies B A.
    dropout: 0 to 0.99, in training only: of a layer's input (upstream: of B A's output).
    target_modules_lm, target_modules_dit: names of layers; target_proj_modules: paths.
    """

    language_models: ClassVar[tuple[str, ...]] = ("base_lm.", "residual_lm.")
    """Prefixes of the language models' layers."""
    diffusion: ClassVar[tuple[str, ...]] = ("feat_decoder.estimator.",)
    """Prefix of the diffusion transformer's layers."""

    enable_lm: bool = True
    enable_dit: bool = True
    enable_proj: bool = False
    r: int = 32
    alpha: int = 32
    dropout: float = 0.0
    target_modules_lm: tuple[str, ...] = _ATTENTION
    target_modules_dit: tuple[str, ...] = _ATTENTION
    target_proj_modules: tuple[str, ...] = _PROJECTIONS

    def __post_init__(self):
        check_integer("r", self.r, 1, None)
        check_integer("alpha", self.alpha, 1, None)
        check_number("dropout", self.dropout, 0, 0.99)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("enable") and not isinstance(value, bool):
                raise ValueError(f"{field.name} is {value!r}; it must be true or false")
            if field.name.startswith("target"):
                if not isinstance(value, list | tuple) or {type(name) for name in value} - {str}:
                    raise ValueError(f"{field.name} is {value!r}; it must be a list of names")
                object.__setattr__(self, field.name, tuple(value))

    @property
    def scale(self) -> float:
        """Factor of B A, as trained."""
        return self.alpha / self.r

    def target_paths(self, paths: Iterable[str]) -> list[str]:
        """The network's linear layers -> those to change. Raises ValueError for an unknown name."""
        paths, chosen = list(paths), {}
        groups = (
            (self.enable_lm, self.target_modules_lm, self.language_models),
            (self.enable_dit, self.target_modules_dit, self.diffusion),
            (self.enable_proj, self.target_proj_modules, self.target_proj_modules),
        )
        for enabled, names, stacks in groups:
            for name in names if enabled else ():
                chosen.update(dict.fromkeys(_named(paths, name, stacks)))
        if not chosen:
            raise ValueError("no layer is to be changed; set enable_lm, enable_dit or enable_proj")
        return list(chosen)


def _named(paths: list[str], name: str, stacks: tuple[str, ...]) -> list[str]:
    """Paths of all layers of that name inside the stacks. Raises ValueError if there is none."""
    inside = [path for path in paths if path.startswith(stacks)]
    found = [path for path in inside if name in (path, path.rpartition(".")[2])]
    if not found:
        raise ValueError(f"the settings name {name!r}, and the model has no such layer")
    return found
