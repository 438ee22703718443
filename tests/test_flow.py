"""Solvers on paths with a known end and on the network's."""

import itertools
import math

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import GenerationOptions
from mlx_voxcpm2.layers import device
from mlx_voxcpm2.layers.compiled import CompiledFunctions
from mlx_voxcpm2.models.voxcpm2.flow import PATH_START, SOLVERS, Schedule, guide

NOISE = mx.array(np.random.RandomState(0).standard_normal((3, 2, 5)).astype(np.float32))


def uneven(steps: int, solver: str) -> Schedule:
    """Steps that shrink towards t = 0, from the same start as `Schedule.even`."""
    grid = [1.0, *(PATH_START * np.linspace(1, 0, steps) ** 1.5).tolist()]
    sizes = [a - b for a, b in itertools.pairwise(grid)]
    return Schedule(tuple(grid[:-1]), tuple(sizes), 1, solver)


def solve(schedule: Schedule, slope, noise: mx.array = NOISE) -> np.ndarray:
    """End of the path x' = slope(x, t)."""
    end = SOLVERS[schedule.solver](lambda x, step: slope(x, schedule.times[step]), noise, schedule)
    return np.array(end, dtype=np.float64)


@pytest.mark.parametrize("grid", [Schedule.even, uneven])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("adams", 2)])
def test_twice_the_steps_divide_the_error_by_the_order(grid, solver, order):
    """On x' = -x cos(3 t), whose end is known."""
    end = np.array(NOISE) * math.exp(math.sin(3 * PATH_START) / 3)
    errors = [
        relative_error(solve(grid(steps + 1, solver), lambda x, t: -x * math.cos(3 * t)), end)
        for steps in (20, 40, 80)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_straight_path_is_followed_exactly(solver):
    slope = mx.ones_like(NOISE) * 0.7
    for schedule in (Schedule.even(4, solver), uneven(7, solver)):
        end = solve(schedule, lambda x, t: slope)
        assert relative_error(end, np.array(NOISE) - PATH_START * 0.7) < 1e-6


@pytest.mark.parametrize("grid", [Schedule.even, uneven])
def test_adams_follows_a_parabola_but_for_its_first_step(grid):
    """With the slope 2 t, the end is the noise less the square of where the path starts."""
    schedule = grid(6, "adams")
    end = solve(schedule, lambda x, t: 2 * t * mx.ones_like(x))
    missed = -(schedule.sizes[1] ** 2)  # by one step of Euler
    assert relative_error(end, np.array(NOISE) - PATH_START**2 + missed) < 1e-6


def test_the_path_starts_at_the_limit_of_upstreams_grids():
    schedule = Schedule.sway(100_000)
    start = 1 - sum(schedule.sizes[: schedule.zero_steps])
    assert start == pytest.approx(PATH_START, abs=1e-4)


@pytest.mark.parametrize(("steps", "zero_steps"), [(1, 1), (10, 1), (48, 1), (49, 2), (99, 4)])
def test_the_first_twenty_fifth_of_upstreams_grid_has_zero_velocity(steps, zero_steps):
    assert Schedule.sway(steps).zero_steps == zero_steps


@pytest.mark.parametrize("steps", [1, 2, 6, 100])
def test_even_steps_reach_the_end(steps):
    schedule = Schedule.of("adams", steps)
    assert len(schedule.times) == len(schedule.sizes) == steps
    assert schedule.zero_steps == 1 and sum(schedule.sizes) == pytest.approx(1)
    assert np.allclose(schedule.sizes[1:], PATH_START / max(1, steps - 1))


def gaussian_slope(x: mx.array, t: float) -> mx.array:
    """The exact velocity from noise to a normal distribution about 1.3, 0.2 wide."""
    mean, deviation = 1.3, 0.2
    away = (x - (1 - t) * mean) / ((1 - t) ** 2 * deviation**2 + t**2)
    return t * away - mean - (1 - t) * deviation**2 * away


@pytest.mark.parametrize("evaluations", [5, 6])
def test_few_steps_of_adams_end_nearer_than_ten_of_euler(evaluations):
    wanted = solve(Schedule.of("euler", 100), gaussian_slope)
    euler = relative_error(solve(Schedule.of("euler", 10), gaussian_slope), wanted)
    adams = solve(Schedule.of("adams", evaluations + 1), gaussian_slope)
    assert relative_error(adams, wanted) < euler


@pytest.fixture
def given(released) -> tuple[mx.array, mx.array, mx.array]:
    """Inputs mu, cond and noise of a solve."""
    size = released.config["dit_config"]["hidden_dim"]
    patch = (1, released.config["patch_size"], released.config["feat_dim"])
    return (
        mx.array(checkpoints.module_input("solve.mu", (1, 2, size), released.variant)),
        released.given("solve.cond", *patch),
        released.given("solve.noise", *patch),
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_costs_one_evaluation_and_the_first_none(released, given, solver, monkeypatch):
    # Where a product uses one core, each half of an evaluation is a call of its own.
    monkeypatch.setattr(device, "multiplies_on_one_core", lambda dtype: False)
    decoder, calls = released.model.feat_decoder, []
    velocity = decoder.estimator.velocity
    monkeypatch.setattr(
        decoder.estimator, "velocity", lambda *inputs: calls.append(1) or velocity(*inputs)
    )
    for steps in (1, 6, 10):
        calls.clear()
        schedule = Schedule.of(solver, steps)
        decoder._solve(schedule, *given, decoder.time_tokens(schedule), mx.array(2.0))
        assert len(calls) == steps - 1


def test_reused_guidance_is_computed_in_the_first_two_steps_and_every_other_one(
    released, given, monkeypatch
):
    """The option `fast`: six evaluations, of which two have one row instead of two."""
    monkeypatch.setattr(device, "multiplies_on_one_core", lambda dtype: False)
    decoder, rows = released.model.feat_decoder, []
    velocity = decoder.estimator.velocity
    monkeypatch.setattr(
        decoder.estimator, "velocity", lambda x, case: rows.append(len(case)) or velocity(x, case)
    )
    schedule = Schedule.of(*GenerationOptions(fast=True).batch_key)
    decoder._solve(schedule, *given, decoder.time_tokens(schedule), mx.array(2.0))
    assert rows == [2, 2, 2, 1, 2, 1]


@pytest.mark.usefixtures("kernels", "nothing_compiled")
def test_the_compiled_solvers_are_the_ones_asked_for(released, given, monkeypatch):
    """Compares with each solver written out, also when the other one was compiled first.

    Functions are found again by their keys, for which none need be compiled.
    """
    decoder, (mu, cond, noise) = released.model.feat_decoder, given
    monkeypatch.setattr(decoder, "compiled", CompiledFunctions())

    def conditional(x: mx.array, t: float) -> mx.array:
        return decoder.estimator(x, mu.reshape(1, -1), mx.array([t]), cond, mx.zeros(1))

    def slope(x: mx.array, t: float) -> mx.array:
        nothing = mx.zeros((1, mu.size))
        without = decoder.estimator(x, nothing, mx.array([t]), cond, mx.zeros(1))
        return guide(mx.stack([conditional(x, t), without]), mx.array(2.0))

    for solver, reuses in (("euler", False), ("adams", False), ("adams", True), ("euler", False)):
        schedule = Schedule.of(solver, 7, reuses)
        x, before, guidance = noise, None, None
        steps = list(zip(schedule.times, schedule.sizes, strict=True))[1:]
        for number, (t, size) in enumerate(steps):
            here = slope(x, t)
            if reuses and number in (3, 5):
                here = conditional(x, t) + guidance
            else:
                guidance = here - conditional(x, t)
            ahead = 1.5 * here - 0.5 * before if solver == "adams" and before is not None else here
            x, before = x - size * ahead, here
        ours = decoder(mu, cond, noise, schedule, decoder.time_tokens(schedule), 2.0)
        assert relative_error(ours, x) < 1e-5
