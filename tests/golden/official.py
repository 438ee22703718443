"""The official model, as `record.py` runs it: loaded strictly, fed noise, and listened to."""

import importlib.machinery
import sys
import types
from pathlib import Path

import checkpoints
import numpy as np
import torch


def load_checkpoint(folder: Path) -> torch.nn.Module:
    """Upstream's VoxCPM2Model, in float32."""
    import transformers  # noqa: F401  (looks for torchaudio before there is a stand-in)

    if "torchaudio" not in sys.modules:  # imported for version 1 only
        stand_in = types.ModuleType("torchaudio")
        stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = stand_in
    from voxcpm.model.voxcpm2 import VoxCPM2Model

    return VoxCPM2Model.from_local(str(folder), optimize=False, device="cpu").float()


def load(variant: str, folder: Path) -> torch.nn.Module:
    """With the weights of `checkpoints`."""
    checkpoints.write_checkpoint(folder, variant)
    model = load_checkpoint(folder)
    # from_local does not load strictly
    tensors = checkpoints.tensors(checkpoints.config(variant), variant)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=True)
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), tensors[name]), name
    return model


class Noise:
    """Within it, `torch.randn` gives the supplied patches (P, D), or new ones drawn from a seed."""

    def __init__(self, supplied: list[np.ndarray] | None = None, seed: int = 0) -> None:
        self.supplied = supplied
        self.random = np.random.RandomState(seed)
        self.drawn: list[np.ndarray] = []

    def _randn(self, shape: tuple[int, int, int], **_) -> torch.Tensor:
        _, frame, length = shape
        if self.supplied is None:
            patch = self.random.standard_normal((length, frame)).astype(np.float32)
        else:
            patch = self.supplied[len(self.drawn)]
        self.drawn.append(patch)
        return torch.from_numpy(patch.T.copy())[None]

    def __enter__(self) -> "Noise":
        self.original, torch.randn = torch.randn, self._randn
        return self

    def __exit__(self, *_) -> None:
        torch.randn = self.original


class Listener:
    """Within it, keeps what passes inside the model, and how near its decisions are to a tie.

    tokens: ids of the prefill. hidden: the pair of hidden states (H,) behind every patch.
    rounding: the least distance to a tie in the FSQ, in steps. stopping: the same for the stop
    head, in logits. A value near a tie could fall on the other side in another implementation.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.tokens = np.zeros(0, np.int32)
        self.hidden: list[list[np.ndarray]] = [[], []]
        self.rounding = self.stopping = float("inf")

    def _embed(self, module, inputs, output) -> None:
        self.tokens = inputs[0][0].numpy().astype(np.int32)

    def _quantize(self, module, inputs, output) -> None:
        steps = torch.tanh(output) * self.model.fsq_layer.scale
        if output.ndim == 3:  # prefill, where only the results at audio positions are used
            steps = steps[0, self.tokens == 0]
        ties = (steps - steps.floor() - 0.5).abs()
        self.rounding = min([self.rounding, *ties.flatten().tolist()])

    def _stop(self, module, inputs, output) -> None:
        self.stopping = min(self.stopping, (output[0, 1] - output[0, 0]).abs().item())

    def __enter__(self) -> "Listener":
        model = self.model
        self.hooks = [
            model.base_lm.embed_tokens.register_forward_hook(self._embed),
            model.fsq_layer.in_proj.register_forward_hook(self._quantize),
            model.stop_head.register_forward_hook(self._stop),
        ]
        for kept, projection in zip(
            self.hidden, (model.lm_to_dit_proj, model.res_to_dit_proj), strict=True
        ):
            self.hooks.append(
                projection.register_forward_hook(
                    lambda module, inputs, output, kept=kept: kept.append(inputs[0][0].numpy())
                )
            )
        return self

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()
