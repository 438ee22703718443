"""The layouts of Voxtral's tensors in files: transformers' and those of MLX's converters.

All have the released names. MLX's converters store convolutions as MLX computes with them, and so
does this package, so that one file is for all. mistral's own names are refused.
"""

from __future__ import annotations

import mlx.core as mx

from ..family import Export, Network, Weights

_CONVOLUTIONS = ("audio_tower.conv1", "audio_tower.conv2")
_MISTRAL = ("mm_whisper_embeddings.", "mm_streams_embeddings.", "tok_embeddings.")
"""First parts of names in mistral's files, whose queries and keys have another order of rows."""


def has_mlx_audio_layout(weights: Weights) -> bool:
    """Always: mlx-audio's layout of this family is the only one that is written."""
    return True


def to_mlx_audio(model: Network) -> Export:
    """The function that stores a tensor in mlx-audio's layout, which is also this package's."""
    return lambda name, value: (name, value)


def sanitize(model: Network, weights: Weights, written_by_mlx: bool) -> Weights:
    """Tensors of any known layout -> by this package's names and axes.

    Raises ValueError for mistral's own layout, and for a projection of zeros.
    """
    if any(name.startswith(_MISTRAL) for name in weights):
        raise ValueError(
            "these are the weights in mistral's own layout; take model-0000?-of-0000?.safetensors "
            "of the same repository, with model.safetensors.index.json"
        )
    weights = {_released_name(name): value for name, value in weights.items()}
    for path in _CONVOLUTIONS:
        name = f"{path}.weight"
        expected = model.audio_tower[path.rpartition(".")[2]].weight.shape
        if name in weights and weights[name].shape != expected:  # PyTorch's: (out, in, kernel)
            weights[name] = mx.swapaxes(weights[name], -1, -2)
    return weights


def _released_name(name: str) -> str:
    """Name in a released file; transformers 5 has another one in memory, which some files keep."""
    inner = name.removeprefix("model.")
    if inner.startswith(("audio_tower.", "multi_modal_projector.")):
        return inner
    if inner.startswith("language_model.") and inner != name:
        return f"language_model.model.{inner.removeprefix('language_model.')}"
    return f"language_model.{name}" if name.startswith("lm_head.") else name
