"""The layouts of VibeVoice's tensors in files: Microsoft's, transformers' (-hf), mlx-audio's, ours.

Names and axes are changed by name, never by shape: a kernel may be as wide as its channels.
Microsoft's and transformers' names begin with "model." and have PyTorch's axes; mlx-audio's are
Microsoft's without it and store convolutions as (out, kernel, in).
"""

from __future__ import annotations

import re

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...layers.conv import CausalConv1d, CausalDepthwiseConv1d, CausalTransposeConv1d
from ..family import Export, Network, Weights

FACTORS = ("speech_scaling_factor", "speech_bias_factor")

_CONVOLUTIONS = (CausalConv1d, CausalDepthwiseConv1d, CausalTransposeConv1d)
_UNUSED = re.compile(r"\.rotary_emb\.inv_freq$|\.fix_std$")

# Names in transformers' layout, and in a draft of its converter -> this package's, in this order.
_FROM_HF = (
    (r"^audio_tower\.", "acoustic_tokenizer."),
    (r"^semantic_tokenizer_encoder\.", "semantic_tokenizer.encoder."),
    (r"(?<=coder)\.stem\.conv\.conv\.", ".stem.conv."),
    (r"(\.conv_layers\.\d+)\.(conv\.conv|convtr\.convtr)\.", r"\1.conv."),
    (r"\.mixer\.conv\.", ".mixer."),
    (r"(?<=coder)\.head\.conv\.", ".head."),
    (r"^diffusion_head\.", "prediction_head."),
    (r"\.timestep_proj\.", ".t_embedder."),
    (r"\.timestep_embedder\.layer_(\d)\.", r".t_embedder.fc\1."),
    (r"^(prediction_head\.layers\.\d+)\.linear\.", r"\1.modulation."),
    (r"\.final_layer\.linear_1\.", ".final_layer.modulation."),
    (r"\.final_layer\.linear_2\.", ".final_layer.linear."),
    (r"^multi_modal_projector\.", "acoustic_connector."),
    (r"(?<=_connector)\.linear_(\d)\.", r".fc\1."),
    (r"(?<=_connector)\.act\.", ".norm."),
    (r"^latent_(\w+_factor)$", r"speech_\1"),
)
# The same for Microsoft's names, and mlx-audio's.
_FROM_MICROSOFT = (
    (r"\.(?:down|up)sample_layers\.0\.0\.conv\.conv\.", ".stem.conv."),
    (
        r"\.(?:down|up)sample_layers\.(\d+)\.0\.(?:conv\.conv|convtr\.convtr)\.",
        ".conv_layers.#1.conv.",
    ),
    (r"\.stages\.0\.", ".stem.stage."),
    (r"\.stages\.(\d+)\.", ".conv_layers.#1.stage."),
    (r"\.mixer\.conv\.conv\.conv\.", ".mixer."),
    (r"(?<=coder)\.head\.conv\.conv\.", ".head."),
    (r"\.t_embedder\.mlp\.(?:layers\.)?0\.", ".t_embedder.fc1."),
    (r"\.t_embedder\.mlp\.(?:layers\.)?2\.", ".t_embedder.fc2."),
    (r"\.adaLN_modulation\.(?:layers\.)?1\.", ".modulation."),
)


def our_name(name: str) -> str:
    """Name of a tensor in any layout -> its name in the network."""
    name = name.removeprefix("model.")
    for pattern, ours in (*_FROM_MICROSOFT, *_FROM_HF):
        prefix, _, suffix = ours.partition("#1")
        if suffix and (found := re.search(pattern, name)):
            # Microsoft counts the stem as the first stage.
            ours = f"{prefix}{int(found[1]) - 1}{suffix}"
        name = re.sub(pattern, ours, name)
    return name


def has_mlx_audio_layout(weights: Weights) -> bool:
    """Whether these are mlx-audio's names."""
    return "acoustic_tokenizer.encoder.downsample_layers.0.0.conv.conv.weight" in weights


def sanitize(model: Network, weights: Weights, written_by_mlx: bool) -> Weights:
    """Tensors of any layout -> by this package's names and axes.

    A head in the file is used even if the configuration shares the embedding's. Raises ValueError
    for scaling or bias factors that are missing or no numbers.
    """
    has_torch_axes = any(name.startswith("model.") for name in weights)
    is_mlx_audio = has_mlx_audio_layout(weights)
    renamed = {our_name(name): x for name, x in weights.items() if not _UNUSED.search(name)}
    if "lm_head.weight" in renamed and "lm_head" not in model:
        hidden, vocabulary = model.config.decoder.hidden_size, model.config.decoder.vocab_size
        model.lm_head = nn.Linear(hidden, vocabulary, bias=False)
    for path, module in model.named_modules():
        name = f"{path}.weight"
        if isinstance(module, _CONVOLUTIONS) and name in renamed and renamed[name].ndim == 3:
            if is_mlx_audio:
                renamed[name] = renamed[name].transpose(*_torch_axes(module))
            if is_mlx_audio or has_torch_axes:
                renamed[name] = module.from_torch(renamed[name])
    _check_factors(renamed)
    return renamed


def _torch_axes(module: nn.Module) -> tuple[int, int, int]:
    """Order of the axes of (out, kernel, in) that PyTorch has."""
    return (2, 0, 1) if isinstance(module, CausalTransposeConv1d) else (0, 2, 1)


def _check_factors(weights: Weights) -> None:
    for name in FACTORS:
        if name not in weights:
            raise ValueError(f"tensor {name} is missing; download the whole checkpoint")
        value = weights[name]
        if value.size != 1 or not np.isfinite(np.array(value.astype(mx.float32))).all():
            raise ValueError(f"tensor {name} is no finite number; download the checkpoint again")
        weights[name] = value.reshape(())


def to_mlx_audio(model: Network) -> Export:
    """The function that gives a tensor the name and axes of mlx-audio's layout."""
    modules = dict(model.named_modules())

    def export(name: str, value: mx.array) -> tuple[str, mx.array]:
        module = modules.get(name.rpartition(".")[0])
        if isinstance(module, _CONVOLUTIONS) and name.endswith(".weight"):
            is_transposed = isinstance(module, CausalTransposeConv1d)
            value = module.to_torch(value).transpose(*((1, 2, 0) if is_transposed else (0, 2, 1)))
        return _mlx_audio_name(name), value

    return export


def _mlx_audio_name(name: str) -> str:
    """This package's name of a tensor -> mlx-audio's."""
    part = re.match(r"\w+_tokenizer\.(encoder|decoder)\.", name)
    if part:
        layers, conv = {"encoder": ("down", "conv"), "decoder": ("up", "convtr")}[part[1]]
        name = re.sub(r"\.stem\.conv\.", f".{layers}sample_layers.0.0.conv.conv.", name)
        name = name.replace(".stem.stage.", ".stages.0.")
        name = re.sub(
            r"\.conv_layers\.(\d+)\.conv\.",
            lambda m: f".{layers}sample_layers.{int(m[1]) + 1}.0.{conv}.{conv}.",
            name,
        )
        name = re.sub(r"\.conv_layers\.(\d+)\.stage\.", lambda m: f".stages.{int(m[1]) + 1}.", name)
        return name.replace(".mixer.", ".mixer.conv.conv.conv.").replace(
            ".head.", ".head.conv.conv."
        )
    name = name.replace(".t_embedder.fc1.", ".t_embedder.mlp.layers.0.")
    name = name.replace(".t_embedder.fc2.", ".t_embedder.mlp.layers.2.")
    return name.replace(".modulation.", ".adaLN_modulation.layers.1.")
