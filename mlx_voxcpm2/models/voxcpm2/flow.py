"""Flow matching: the schedule, guidance and solvers that turn noise into a patch of latents.

Upstream: modules/locdit/unified_cfm.py. Flow matching: Lipman et al. 2022, arXiv 2210.02747;
CFG-Zero*: Fan et al. 2025, arXiv 2503.18886; sway sampling: Chen et al. 2024, arXiv 2410.06885;
Adams-Bashforth: Hairer, Nørsett, Wanner 1993, Solving Ordinary Differential Equations I, III.5.

Upstream sets the velocity to zero in the first twenty-fifth of its grid, at least in one step. In
the limit of many steps the path therefore starts from the noise at `PATH_START`, 0.983, not at 1;
ten Euler steps start at 0.956, five at 0.909.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...layers.compiled import CompiledFunctions
from ...layers.kernels import map_rows
from .local_dit import LocalDiT

# The sway grid after a twenty-fifth of its steps.
PATH_START = 2 * 0.96 + math.cos(math.pi / 2 * 0.96) - 1


@dataclass(frozen=True)
class Schedule:
    """Steps from t = 1 (noise) to t = 0 (a patch), and the solver that takes them."""

    times: tuple[float, ...]
    sizes: tuple[float, ...]
    zero_steps: int
    """Number of first steps in which CFG-Zero* sets the velocity to zero.

    Each of the other steps costs one evaluation of the network.
    """
    solver: str = "euler"
    """A name in `SOLVERS`."""
    reuses_guidance: bool = False
    """Whether every other step takes the difference between the guided and the conditional velocity
    of the step before, rather than computing the unconditional one."""

    @classmethod
    def of(cls, solver: str, steps: int, reuses_guidance: bool = False) -> Schedule:
        """The grid of a solver: upstream's for Euler's, which is upstream's solver."""
        grid = cls.sway(steps) if solver == "euler" else cls.even(steps, solver)
        return replace(grid, reuses_guidance=reuses_guidance)

    def is_guided(self, step: int) -> bool:
        """Whether a step computes the unconditional velocity; the first two always do."""
        evaluation = step - self.zero_steps
        return not self.reuses_guidance or evaluation < 2 or evaluation % 2 == 0

    @classmethod
    def sway(cls, steps: int) -> Schedule:
        """Sway sampling: even steps, shifted towards the noise by a cosine.

        Rounded to float32 as upstream rounds, since the network's input is sinusoids of 1000 t.
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
        """A first step with zero velocity to `PATH_START`, then even steps."""
        grid = np.append(1, np.linspace(PATH_START, 0, steps)) if steps > 1 else np.array([1, 0])
        return cls(tuple(grid[:-1].tolist()), tuple((grid[:-1] - grid[1:]).tolist()), 1, solver)


def guide(velocities: mx.array, cfg_value: mx.array) -> mx.array:
    """Conditional and unconditional velocities (2, B, P, D) -> the guided ones (B, P, D).

    CFG-Zero*: extrapolates, by cfg_value (B, 1, 1), from the multiple of the unconditional velocity
    that is nearest to the conditional one.
    """
    conditional, unconditional = velocities
    flat = velocities.flatten(2)
    dot, norm = flat[:, :, None] @ flat[1, :, :, None]
    base = unconditional * (dot / (norm + 1e-8))
    return base + cfg_value * (conditional - base)


def _scalars(numbers: Sequence[float], dtype: mx.Dtype) -> list[mx.array]:
    """The numbers as arrays (1,), views of one array, where indexing would be a kernel each.

    As Python numbers they would become part of the kernels, and each step compile another one.
    """
    return mx.split(mx.array(numbers, dtype=dtype), len(numbers))


def solve_euler(
    velocity: Callable[[mx.array, int], mx.array], noise: mx.array, schedule: Schedule
) -> mx.array:
    """Euler's method: noise (B, P, D) -> the end of its path (B, P, D).

    velocity: a function of x (B, P, D) and the step's number -> the slope (B, P, D).
    """
    x, sizes = noise, _scalars(schedule.sizes, noise.dtype)
    for step in range(schedule.zero_steps, len(schedule.times)):
        x = x - sizes[step] * velocity(x, step)
    return x


def solve_adams(
    velocity: Callable[[mx.array, int], mx.array], noise: mx.array, schedule: Schedule
) -> mx.array:
    """The two-step Adams-Bashforth method: as `solve_euler`, but of second order at the same cost.

    A step takes the slope at its middle, extrapolated from this slope and the previous one. The
    first step, which has no previous slope, is Euler's.
    """
    x, previous, sizes = noise, None, _scalars(schedule.sizes, noise.dtype)
    halves = np.array(schedule.sizes[1:]) / schedule.sizes[:-1] / 2
    halves = _scalars([0.0, *halves.tolist()], noise.dtype)
    for step in range(schedule.zero_steps, len(schedule.times)):
        slope = velocity(x, step)
        middle = slope if previous is None else slope + halves[step] * (slope - previous)
        x = x - sizes[step] * middle
        previous = slope
    return x


SOLVERS = {"euler": solve_euler, "adams": solve_adams}


class FlowMatching(nn.Module):
    """Conditional flow matching, upstream's `UnifiedCFM`."""

    def __init__(self, estimator: LocalDiT):
        super().__init__()
        self.estimator = estimator
        self.compiled = CompiledFunctions()

    def time_tokens(self, schedule: Schedule) -> mx.array:
        """One token per step (steps, H), the same for every patch."""
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
        """mu (B, 2, H), cond and noise (B, P, D), cfg_value: a number or (B,) -> patches (B, P, D).

        The whole solver is one compiled graph.
        """
        if not isinstance(cfg_value, mx.array):
            cfg_value = mx.array(cfg_value)
        cfg_value = cfg_value.astype(noise.dtype).reshape(-1, 1, 1)
        solve = partial(self._solve, schedule)
        return self.compiled(schedule, solve, mu, cond, noise, time_tokens, cfg_value)

    def _solve(
        self,
        schedule: Schedule,
        mu: mx.array,
        cond: mx.array,
        noise: mx.array,
        time_tokens: mx.array,
        cfg_value: mx.array,
    ) -> mx.array:
        """Conditional and unconditional velocities are a batch of 2 B; unconditional mu is 0."""
        mu = mu * mx.array([1, 0], dtype=mu.dtype)[:, None, None, None]
        cond = self.estimator.cond_proj(cond)
        # The context of the noisy patch in all steps: one copy, not one for each step.
        cases = (len(schedule.times), *mu.shape[:2])
        contexts = mx.concatenate(
            [
                mx.broadcast_to(part, (*cases, *part.shape[-2:]))
                for part in (mu, time_tokens[:, None, None, None], cond)
            ],
            axis=-2,
        )
        steps = mx.split(contexts, len(schedule.times))

        guidance = mx.zeros_like(noise)

        def velocity(x: mx.array, step: int) -> mx.array:
            nonlocal guidance
            estimate, cases = partial(self.estimator.velocity, x), steps[step].squeeze(0)
            if not schedule.is_guided(step):
                return estimate(cases[:1]).squeeze(0) + guidance
            velocities = map_rows(estimate, cases)
            guided = guide(velocities, cfg_value)
            guidance = guided - velocities[0]
            return guided

        return SOLVERS[schedule.solver](velocity, noise, schedule)
