"""Training in PyTorch: optimizers, their rate, the weights' moving average, and the state file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

AVERAGED = 0.995
"""Decay of the weights' moving average, which is what is exported."""


PRECISION = torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32
"""Type of matrix products in training: bfloat16 where the CPU multiplies it fast."""


def fast_products() -> torch.autocast:
    """Context in which layers multiply in `PRECISION`."""
    return torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == torch.bfloat16)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), in `PRECISION`."""

    def __init__(self, weights: list[dict] | list[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(weight.shape, []).append(weight)
            for weights in by_shape.values():
                updates = orthogonal(torch.stack([self._nesterov(group, each) for each in weights]))
                size = max(1.0, weights[0].shape[0] / weights[0].shape[1]) ** 0.5
                for weight, update in zip(weights, updates, strict=True):
                    weight.add_(update, alpha=-group["lr"] * size)

    def _nesterov(self, group: dict, weight: nn.Parameter) -> Tensor:
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
        mean = state["mean"].lerp_(weight.grad, 1 - group["momentum"])
        return weight.grad.lerp(mean, group["momentum"])


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (N, rows, columns) with their singular values near 1 (Newton-Schulz iteration)."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.transpose(1, 2) if is_tall else matrices).to(PRECISION)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445
        )
    return (x.transpose(1, 2) if is_tall else x).to(matrices.dtype)


def optimizers_of(
    module: nn.Module, rate: float, slow: Callable[[str], float] = lambda name: 1.0
) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest.

    rate: Muon's; AdamW's is a tenth. slow: factor on a weight's rate, by its name.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, weight in module.named_parameters():
        kind = ".layers." in name and weight.ndim == 2, slow(name)
        groups.setdefault(kind, []).append(weight)
    matrices, others = (
        [
            {"params": weights, "lr": part * factor}
            for (is_matrix, factor), weights in groups.items()
            if is_matrix is wanted
        ]
        for wanted, part in ((True, rate), (False, rate / 10))
    )
    return [
        Muon(matrices, lr=rate),
        torch.optim.AdamW(others, lr=rate / 10, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Run:
    """Training state: weights, their average, the optimizers and the step.

    The learning rate warms up and falls along a cosine until `steps`. Where the state was reached
    with another number of steps, both begin anew at its step.
    """

    def __init__(
        self,
        module: nn.Module,
        state: Path,
        optimizers: Sequence[torch.optim.Optimizer],
        steps: int,
        warm_up: int = 100,
        first: int = 0,
    ):
        """first: step at which a run without a state file begins."""
        self.module, self.state, self.optimizers = module, state, optimizers
        self.steps, self.warm_up = steps, warm_up
        self.average = [weight.detach().clone() for weight in module.parameters()]
        self.step = self.first = first
        rates = [group["lr"] for group in self._groups]
        if state.exists():
            stored = torch.load(state)
            module.load_state_dict(stored["module"])
            for each, values in zip(optimizers, stored["optimizers"], strict=True):
                each.load_state_dict(values)
            self.average, self.step = stored["average"], stored["step"]
            self.first = stored["first"] if stored["steps"] == steps else self.step
        # The rates of this command, not of the one that began.
        for group, rate in zip(self._groups, rates, strict=True):
            group["highest"] = rate

    @property
    def _groups(self) -> list[dict]:
        return [group for each in self.optimizers for group in each.param_groups]

    def learn(self, loss: Tensor) -> None:
        """Takes a step down the loss. Raises ValueError if its gradient is not finite."""
        done = self.step - self.first
        progress = min(1.0, done / (self.steps - self.first))
        decay = 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
        for group in self._groups:
            group["lr"] = group["highest"] * min(1, (done + 1) / self.warm_up) * decay
        for each in self.optimizers:
            each.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise ValueError(f"step {self.step}: the gradient is not finite")
        for each in self.optimizers:
            each.step()
        self.step += 1
        momentum = min(AVERAGED, (self.step + 1) / (self.step + 10))
        weights = [weight.detach() for weight in self.module.parameters()]
        torch._foreach_lerp_(self.average, weights, 1 - momentum)

    @torch.no_grad()
    def averaged(self, function: Callable[[nn.Module], object]) -> object:
        """Value of a function at the averaged weights."""
        weights = [weight.detach().clone() for weight in self.module.parameters()]
        fill(self.module, self.average)
        self.module.eval()
        found = function(self.module)
        self.module.train()
        fill(self.module, weights)
        return found

    def save(self) -> None:
        part = self.state.with_suffix(".part")
        stored = {
            "module": self.module.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "average": self.average,
            "step": self.step,
            "first": self.first,
            "steps": self.steps,
        }
        torch.save(stored, part)
        os.replace(part, self.state)


def store_at_16_bits(weights: Mapping[str, Tensor], path: Path) -> None:
    """Writes weights in float16, which has three bits more than bfloat16."""
    save_file({name: value.half() for name, value in weights.items()}, path)


@torch.no_grad()
def fill(module: nn.Module, values: Sequence[Tensor]) -> None:
    for weight, value in zip(module.parameters(), values, strict=True):
        weight.copy_(value)
