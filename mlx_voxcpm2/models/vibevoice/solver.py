"""DPM-Solver++(2M) for v-prediction on the cosine schedule; and the noising of training.

Lu et al. 2022, arXiv 2211.01095; Nichol and Dhariwal 2021, arXiv 2102.09672; velocity: Salimans and
Ho 2022, arXiv 2202.00512. Upstream: vibevoice 0.0.1, schedule/dpm_solver.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx
import numpy as np

from ...layers.compiled import fused
from ...schema import check_integer

TRAIN_STEPS = 1000
MOST_STEPS = 100


@lru_cache(maxsize=1)
def _signal_shares() -> np.ndarray:
    """Cumulative product of 1 - beta, (1000,), in float32 as upstream: the end is near zero."""
    u = np.arange(TRAIN_STEPS + 1) / TRAIN_STEPS
    curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - curve[1:] / curve[:-1], 0.999).astype(np.float32)
    return np.cumprod(np.float32(1) - betas, dtype=np.float32)


def signal_and_noise(t: mx.array) -> tuple[mx.array, mx.array]:
    """Factors alpha and sigma of signal and noise at timesteps t (N,) of 0..999, float32."""
    shares = _signal_shares()
    alpha, sigma = mx.array(np.sqrt(shares)), mx.array(np.sqrt(np.float32(1) - shares))
    return alpha[t], sigma[t]


@dataclass(frozen=True)
class Step:
    """Numbers of one step, with which it is linear in x, v and the x0 of the step before.

    x0 = signal x - noise v; then x' = keep x + new x0 + old (x0 of the step before).
    """

    signal: float
    noise: float
    keep: float
    new: float
    old: float


@fused
def _advance(
    x: mx.array, v: mx.array, before: mx.array, numbers: list[mx.array]
) -> tuple[mx.array, mx.array]:
    signal, noise, keep, new, old = numbers
    x0 = signal * x - noise * v
    return keep * x + new * x0 + old * before, x0


class Solver:
    """DPM-Solver++ of second order (midpoint) in `steps` steps, 1 to 100.

    timesteps: those at which the network is evaluated, from 999 down. Raises ValueError.
    """

    def __init__(self, steps: int):
        check_integer("inference_timesteps", steps, 1, MOST_STEPS)
        grid = np.linspace(0, TRAIN_STEPS - 1, int(steps) + 1).round()[::-1][:-1]
        self.timesteps: list[int] = [int(t) for t in grid]
        self.steps = self._table()

    def _table(self) -> list[Step]:
        shares = _signal_shares()[self.timesteps].astype(np.float64)
        ratios = np.append(np.sqrt((1 - shares) / shares), 0.0)  # sigma / alpha
        alphas = 1 / np.sqrt(1 + ratios**2)
        sigmas = ratios * alphas
        with np.errstate(divide="ignore"):
            sizes = np.log(ratios[:-1]) - np.log(ratios[1:])
        table = []
        for k, size in enumerate(sizes):
            signal, noise = alphas[k], sigmas[k]
            new, old = alphas[k + 1] * -np.expm1(-size), 0.0
            is_second_order = 0 < k < len(sizes) - 1
            if is_second_order:
                half = 0.5 * size / sizes[k - 1] * new
                new, old = new + half, -half
            keep = sigmas[k + 1] / sigmas[k]
            table.append(Step(*(float(n) for n in (signal, noise, keep, new, old))))
        return table

    def solve(self, x: mx.array, velocity: Callable[[mx.array, int], mx.array]) -> list[mx.array]:
        """x after each step, from noise x (B, D), float32. velocity: of x and the step's number."""
        path, before = [x], mx.zeros_like(x)
        rows = mx.split(
            mx.array([list(vars(step).values()) for step in self.steps]), len(self.steps)
        )
        for k, row in enumerate(rows):
            numbers = mx.split(row.reshape(-1), 5)
            x, before = _advance(x, velocity(x, k), before, numbers)
            path.append(x)
        return path

    def path(self, x: mx.array, velocity: Callable[[mx.array, int], mx.array]) -> list[mx.array]:
        """[x0 .. xn], float32, from noise x0. velocity: a function of x and the timestep."""
        return self.solve(x.astype(mx.float32), lambda x, k: velocity(x, self.timesteps[k]))
