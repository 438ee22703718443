"""The names of a model family that loading, quantisation, adapters and model cards need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

Weights = dict[str, mx.array]
Export = Callable[[str, mx.array], tuple[str, mx.array]]
"""Name and value of one of the network's tensors -> name and value in a file."""


def architecture_of(config: dict) -> str:
    """Architecture that config.json's object names; the files of VoxCPM 1.x name none."""
    return str(config.get("architecture", config.get("model_type", "voxcpm")))


@dataclass(frozen=True)
class Family:
    """Names and functions of a model family, for the code that all families share.

    Prefixes are of the network's tensor names, such as "audio_vae.".
    """

    title: str
    """Name of the family, with which its files in `model_cards/` begin."""
    architectures: tuple[str, ...]
    """Values of `architecture_of`, in lower case; the first is written into converted
    checkpoints."""
    read_config: Callable[[dict], Any]
    """config.json's object -> the network's configuration, whose `dtype` names the original type.
    Raises ValueError for a field that cannot be honoured."""
    network: Callable[[Any], Network]
    """Configuration -> the network, with random weights."""
    loader: str
    """Public function that loads the family, for messages."""
    original: str
    """Hub repository of the original checkpoint."""

    sanitize: Callable[[Any, Weights, bool], Weights]
    """Network, tensors of any known layout, whether an MLX program wrote them -> the network's
    tensors."""
    has_mlx_audio_layout: Callable[[Weights], bool]
    """Whether tensors are in mlx-audio's layout rather than in this package's."""
    to_mlx_audio: Callable[[Any], Export]
    """Network -> the function that stores a tensor in mlx-audio's layout."""

    reference_tensor: str
    """Tensor that is never quantised; its type is that of the activations."""
    embedding: str
    """Path of the text embedding, which recipes quantise to 8 bits."""
    rehearsal: str | None = None
    """Module that compiles a CPU's kernels when it is run, see `speech.kernel_build`."""
    output_head: str | None = None
    """Path of an output head of its own, which recipes quantise as the embedding."""
    unquantized: tuple[str, ...] = ()
    """Prefixes of layers that recipes leave as they are."""
    float32: tuple[str, ...] = ()
    """Prefixes of tensors that stay float32 and are never quantised."""
    separate_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Prefix of a part that the original keeps in a file of its own -> names of that file, the
    preferred one first."""
    required_file: str = "tokenizer.json"
    """File beside config.json and the weights that every checkpoint has."""
    optional_files: tuple[str, ...] = ()
    """Files that a converted checkpoint has too, if the original has them."""
    diffusion: tuple[str, ...] = ()
    """Prefixes of the diffusion transformer's layers, see `Quantization.dit_bits`."""
    encoder: tuple[str, ...] = ()
    """Prefixes of the local encoder's layers, see `Quantization.encoder_bits`."""

    parts: Mapping[str, str] = field(default_factory=dict)
    """First component of a tensor's name -> name of that part in a model card."""
    other_parts: str = "others"
    """Name of all other tensors in a model card."""
    main_parts: tuple[str, ...] = ()
    """Keys of `parts` by whose bits a quantised checkpoint is called "4bit" or "8bit"."""

    @property
    def small_files(self) -> tuple[str, ...]:
        """All files of a checkpoint beside config.json and the weights."""
        return (self.required_file, *self.optional_files)


class Network(nn.Module):
    """Base class of the families' networks."""

    family: ClassVar[Family]

    def __init__(self):
        super().__init__()
        self.adapter: Any = None
        """The attached LoRA adapter, see `weights.adapters`."""

    def prepare(self, evaluate: Callable[..., None]) -> None:
        """Computes in advance what generation needs of the final weights alone.

        Without it generation is slower and otherwise the same. evaluate: `mx.eval`, or a stand-in.
        """

    def discard_prepared(self) -> None:
        """Undoes `prepare`, and discards compiled functions, which hold the weights too.

        To be called before a weight or layer is replaced by assignment; `update`, `update_modules`
        and what is built on them (`load_weights`, `apply`, `nn.quantize`) call it.
        """

    def update(self, parameters: dict, strict: bool = True) -> nn.Module:
        """Replaces parameters, see `nn.Module.update`, and calls `discard_prepared`."""
        self.discard_prepared()
        return super().update(parameters, strict)

    def update_modules(self, modules: dict, strict: bool = True) -> nn.Module:
        """Replaces layers, see `nn.Module.update_modules`, and calls `discard_prepared`."""
        self.discard_prepared()
        return super().update_modules(modules, strict)
