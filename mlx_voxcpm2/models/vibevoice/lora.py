"""Settings of a LoRA adapter of VibeVoice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..voxcpm2.lora import LoRASettings

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_HEAD = ("noisy_images_proj", "cond_proj", *_MLP, "modulation", "linear")
_CONNECTORS = tuple(f"{kind}_connector.fc{i}" for kind in ("acoustic", "semantic") for i in (1, 2))


@dataclass(frozen=True)
class DialogueLoRASettings(LoRASettings):
    """`LoRASettings`, with other layers: the decoder, the diffusion head and the connectors.

    Head and connectors have low-rank changes too, where a community recipe trains all their
    weights: an adapter then is one small file that can be scaled, fused and detached, and fits
    quantised weights; at the released size the head alone has 123 million weights.
    """

    language_models: ClassVar[tuple[str, ...]] = ("language_model.",)
    diffusion: ClassVar[tuple[str, ...]] = ("prediction_head.",)

    enable_proj: bool = True
    target_modules_lm: tuple[str, ...] = (*_ATTENTION, *_MLP)
    target_modules_dit: tuple[str, ...] = _HEAD
    target_proj_modules: tuple[str, ...] = _CONNECTORS
