"""From noise to a patch along a learned velocity: the schedule, guidance and the solvers.

Upstream: modules/locdit/unified_cfm.py. Flow matching: Lipman et al. 2022, arXiv 2210.02747;
CFG-Zero*: Fan et al. 2025, arXiv 2503.18886; sway sampling: Chen et al. 2024, arXiv 2410.06885;
Adams-Bashforth: Hairer, Nørsett, Wanner 1993, Solving Ordinary Differential Equations I, III.5.

What the solvers approach: upstream takes the velocity for zero in the first twenty-fifth of its
grid, and in one step at least. With ever more steps that is the path that starts with the noise at
`PATH_START`, 0.983, not at 1. Ten Euler steps start at 0.956, five at 0.909.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...layers.backend import multiplies_on_one_core, on_two_cores
from ...layers.compiled import CompiledGraphs
from .local_dit import LocalDiT

# The sway grid after a twenty-fifth of its steps.
PATH_START = 2 * 0.96 + math.cos(math.pi / 2 * 0.96) - 1


@dataclass(frozen=True)
class Schedule:
    """Steps from t = 1 (noise) to t = 0 (a patch), and the solver that takes them.

    Each step costs one evaluation of the network, but the first `zero_steps` none.
    """

    times: tuple[float, ...]
    sizes: tuple[float, ...]
    # During the first steps CFG-Zero* takes the velocity for zero.
    zero_steps: int
    solver: str = "euler"

    @classmethod
    def of(cls, solver: str, steps: int) -> Schedule:
        """The grid that goes with a solver of `SOLVERS`: upstream's with upstream's."""
        return cls.sway(steps) if solver == "euler" else cls.even(steps, solver)

    @classmethod
    def sway(cls, steps: int) -> Schedule:
        """Even steps, moved towards the noise by the cosine.

        Rounded to float32 where upstream rounds, since the network sees sinusoids of 1000 t.
        """
        index, size = np.arange(steps + 1), float(np.float32(-1 / steps))
        # torch.linspace counts from the nearer end.
        even = np.where(index < (steps + 1) // 2, 1 + size * index, -size * (steps - index))
        even = even.astype(np.float32)
        angle = np.float32(np.pi / 2) * even
        cosine = np.cos(angle, dtype=np.float64).astype(np.float32)
        grid = even + (cosine - np.float32(1) + even)
        times, sizes = [], []
        t = grid[0]
        for target in grid[1:]:
            size = t - target
            times.append(float(t))
            sizes.append(float(size))
            t = t - size
        return cls(tuple(times), tuple(sizes), max(1, int((steps + 1) * 0.04)))

    @classmethod
    def even(cls, steps: int, solver: str) -> Schedule:
        """A first step without velocity to `PATH_START`, then even ones."""
        grid = np.append(1, np.linspace(PATH_START, 0, steps)) if steps > 1 else np.array([1, 0])
        return cls(tuple(grid[:-1].tolist()), tuple((grid[:-1] - grid[1:]).tolist()), 1, solver)


def guide(velocities: mx.array, strength: mx.array) -> mx.array:
    """Velocities with the condition and without (2, B, P, D), strength (B, 1, 1) -> (B, P, D).

    Guided from the unconditional one's best multiple (CFG-Zero*).
    """
    conditional, unconditional = velocities
    flat = velocities.flatten(2)
    dot, norm = flat[:, :, None] @ flat[1, :, :, None]
    base = unconditional * (dot / (norm + 1e-8))
    return base + strength * (conditional - base)


def _each(numbers: Sequence[float], dtype: mx.Dtype) -> list[mx.array]:
    """As arrays (1,): a number would become part of a kernel, and each step another one to build.

    Views of one array, where an index would be a kernel each.
    """
    return mx.split(mx.array(numbers, dtype=dtype), len(numbers))


def solve_euler(
    velocity: Callable[[mx.array, int], mx.array], noise: mx.array, schedule: Schedule
) -> mx.array:
    """noise (B, P, D) -> the end of its path (B, P, D). `velocity(x, step)` gives the slope."""
    x, sizes = noise, _each(schedule.sizes, noise.dtype)
    for step in range(schedule.zero_steps, len(schedule.times)):
        x = x - sizes[step] * velocity(x, step)
    return x


def solve_adams(
    velocity: Callable[[mx.array, int], mx.array], noise: mx.array, schedule: Schedule
) -> mx.array:
    """As `solve_euler`, but of second order (Adams-Bashforth), at the same price.

    A step takes the slope of its middle, on the line through this slope and the one before. The
    first step has none before, and is Euler's.
    """
    x, before, sizes = noise, None, _each(schedule.sizes, noise.dtype)
    halves = np.array(schedule.sizes[1:]) / schedule.sizes[:-1] / 2
    halves = _each([0.0, *halves.tolist()], noise.dtype)
    for step in range(schedule.zero_steps, len(schedule.times)):
        slope = velocity(x, step)
        middle = slope if before is None else slope + halves[step] * (slope - before)
        x = x - sizes[step] * middle
        before = slope
    return x


SOLVERS = {"euler": solve_euler, "adams": solve_adams}


class FlowMatching(nn.Module):
    """Upstream's `UnifiedCFM`."""

    def __init__(self, estimator: LocalDiT):
        super().__init__()
        self.estimator = estimator
        self.compiled = CompiledGraphs(estimator)

    def time_tokens(self, schedule: Schedule) -> mx.array:
        """One token per step (steps, H): the same for every patch, so computed once."""
        times = mx.array(schedule.times, dtype=mx.float32)
        return self.estimator.time_tokens(times, mx.zeros_like(times))

    def __call__(
        self,
        mu: mx.array,
        cond: mx.array,
        noise: mx.array,
        schedule: Schedule,
        time_tokens: mx.array,
        cfg_value: float | mx.array,
    ) -> mx.array:
        """mu (B, 2, H), cond (B, P, D), noise (B, P, D), cfg_value () or (B,) -> patches (B, P, D).

        The whole solver is one compiled graph.
        """
        if not isinstance(cfg_value, mx.array):
            cfg_value = mx.array(cfg_value)
        strength = cfg_value.astype(noise.dtype).reshape(-1, 1, 1)
        solve = partial(self._solve, schedule)
        return self.compiled(schedule, solve, mu, cond, noise, time_tokens, strength)

    def _solve(
        self,
        schedule: Schedule,
        mu: mx.array,
        cond: mx.array,
        noise: mx.array,
        time_tokens: mx.array,
        strength: mx.array,
    ) -> mx.array:
        """Conditional and unconditional run as one batch of 2 B; without a condition mu is 0."""
        mu = mu * mx.array([1, 0], dtype=mu.dtype)[:, None, None, None]
        cond = self.estimator.cond_proj(cond)
        # All that the noisy patch sees, of all steps: one copy, not one for each step.
        cases = (len(schedule.times), *mu.shape[:2])
        contexts = mx.concatenate(
            [
                mx.broadcast_to(part, (*cases, *part.shape[-2:]))
                for part in (mu, time_tokens[:, None, None, None], cond)
            ],
            axis=-2,
        )
        steps = mx.split(contexts, len(schedule.times))
        shared = multiplies_on_one_core(noise.dtype)

        def velocity(x: mx.array, step: int) -> mx.array:
            both = steps[step].squeeze(0)
            estimate = partial(self.estimator.velocity, x)
            return guide(on_two_cores(estimate, both) if shared else estimate(both), strength)

        return SOLVERS[schedule.solver](velocity, noise, schedule)
