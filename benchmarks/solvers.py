"""How near does each solver end to where 100 steps end, by evaluations of the network?

    python benchmarks/solvers.py PATH [--train 3000] [--texts ...] [--patches 8] [--cfg_value 2]

Prints the relative error (root mean square, float32) against upstream's 100 Euler steps, and in
brackets against the path that more and more steps approach (400 steps of second order). Euler's
10 steps cost 9 evaluations.

network: the guided velocity of the checkpoint, for the hidden states, patches and noises of real
    runs of `generate`. Of random weights it trembles: the network sees sinusoids of 1000 t, which
    only training makes it average away. What few steps miss there is noise, not curvature, and no
    solver of 6 evaluations can be much better than Euler's 9.
trained: the same network after `--train` steps on made-up patches (about each of 200 hidden states
    two modes with their own covariance), with upstream's loss: smooth in t, and still its own.
mixture: the exact guided velocity for 8 of 32 normal modes in 64 dimensions, 0.5 wide. Hard for
    even steps: which mode it will be is decided early, in a short time.

Solvers: `euler` on upstream's grid; `adams` as the package has it; the rest are candidates, on
even steps from `PATH_START`, or with "sway" on upstream's grid made to begin there.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from itertools import pairwise

from mlx_voxcpm2 import (
    GenerationOptions,
    VoxCPM2,
    load_model,
)  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.models.voxcpm2.flow import PATH_START, SOLVERS, Schedule, guide

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip
import mlx.optimizers as optimizers  # isort: skip
import numpy as np  # isort: skip

Velocity = Callable[[mx.array, float], mx.array]
EVALUATIONS = (4, 5, 6, 9)
TEXTS = (
    "Hello world, this is a test of the solvers.",
    "The quick brown fox jumps over the lazy dog, and then it sleeps until the morning.",
    "Speech is drawn patch by patch.",
)


def real_inputs(
    model: VoxCPM2, texts: list[str], patches: int
) -> tuple[mx.array, mx.array, mx.array]:
    """mu (B, 2, H), cond and noise (B, P, D) of every patch of some runs."""
    seen, decode = [], type(model.feat_decoder).__call__

    def spy(decoder, mu, cond, noise, *rest):
        seen.append((mu, cond, noise))
        return decode(decoder, mu, cond, noise, *rest)

    type(model.feat_decoder).__call__ = spy
    try:
        for seed, text in enumerate(texts):
            options = {"seed": seed, "min_tokens": patches, "max_tokens": patches}
            list(model.generate(text, retry_badcase=False, **options))
    finally:
        type(model.feat_decoder).__call__ = decode
    return tuple(mx.concatenate(arrays) for arrays in zip(*seen, strict=True))


def network(model: VoxCPM2, mu: mx.array, cond: mx.array, cfg_value: float) -> Velocity:
    """The guided velocity; the weights as they are now."""
    estimator, batch = model.feat_decoder.estimator, len(mu)
    mu, cond = mx.concatenate([mu, mx.zeros_like(mu)]), mx.concatenate([cond, cond])

    @mx.compile
    def velocity(x: mx.array, t: mx.array) -> mx.array:
        times = mx.broadcast_to(t, (2 * batch,))
        both = estimator(
            mx.concatenate([x, x]), mu.reshape(2 * batch, -1), times, cond, mx.zeros_like(times)
        )
        return guide(both.reshape(2, batch, *x.shape[1:]), mx.array(cfg_value))

    return lambda x, t: velocity(x, mx.array([t]))


def train(model: VoxCPM2, steps: int, batch: int = 128, kinds: int = 200) -> Callable:
    """Upstream's loss on made-up patches; returns what draws mu and cond of such patches."""
    estimator = model.feat_decoder.estimator
    patch, size = model.config.patch_size, model.config.feat_dim
    mx.random.seed(0)
    states = 0.46 * mx.random.normal((kinds, 2, model.config.dit_config.hidden_dim))
    means = 0.7 * mx.random.normal((kinds, patch, size))
    modes = 0.4 * mx.random.normal((kinds, patch, size))
    factors = 0.3 * mx.random.normal((kinds, 6, patch * size))

    def patches(kind: mx.array) -> mx.array:
        count = len(kind)
        sign = mx.where(mx.random.uniform(shape=(count, 1, 1)) < 0.5, -1.0, 1.0)
        spread = (mx.random.normal((count, 1, 6)) @ factors[kind]).reshape(count, patch, size)
        noise = 0.15 * mx.random.normal((count, patch, size))
        return means[kind] + sign * modes[kind] + spread + noise

    def draw(count: int) -> tuple[mx.array, mx.array, mx.array]:
        kind, before = mx.random.randint(0, kinds, (2, count))
        cond = patches(before)
        return states[kind], cond, patches(kind) + 0.4 * cond[:, -1:]

    def loss(estimator, mu, cond, data):
        t = mx.sigmoid(mx.random.normal((batch,)) - 0.4)
        noise = mx.random.normal(data.shape)
        mu = mu * (mx.random.uniform(shape=(batch, 1, 1)) > 0.1)
        x = (1 - t)[:, None, None] * data + t[:, None, None] * noise
        velocity = estimator(x, mu.reshape(batch, -1), t, cond, mx.zeros_like(t))
        return mx.mean((velocity - (noise - data)) ** 2)

    optimizer = optimizers.Adam(optimizers.cosine_decay(2e-3, steps))
    step = nn.value_and_grad(estimator, loss)
    for index in range(steps):
        value, gradients = step(estimator, *draw(batch))
        optimizer.update(estimator, gradients)
        mx.eval(estimator.parameters(), optimizer.state)
        if index % max(1, steps // 5) == 0 or index == steps - 1:
            print(f"training step {index + 1}: loss {value.item():.3f}", flush=True)
    return draw


def mixture(cfg_value: float, size: int = 64, width: float = 0.5) -> Velocity:
    """The exact velocity (B, 1, size) -> (B, 1, size); guided from all the modes to 8."""
    means = mx.random.normal((32, size), key=mx.random.key(1))

    def slope(x: mx.array, t: float, means: mx.array) -> mx.array:
        variance = (1 - t) ** 2 * width**2 + t**2
        away = x - (1 - t) * means
        weights = mx.softmax(-mx.sum(away**2, axis=-1) / (2 * variance), axis=-1)
        each = (t - (1 - t) * width**2) / variance * away - means
        return mx.sum(weights[..., None] * each, axis=1, keepdims=True)

    def guided(x: mx.array, t: float) -> mx.array:
        return guide(mx.stack([slope(x, t, means[:8]), slope(x, t, means)]), mx.array(cfg_value))

    return guided


def sway_from_path_start(steps: int) -> list[float]:
    even = np.linspace(0.96, 0, steps + 1)
    return (2 * even + np.cos(math.pi / 2 * even) - 1).tolist()


def packaged(schedule: Schedule, velocity: Velocity, noise: mx.array) -> mx.array:
    """The package's solver of a schedule."""
    solver = SOLVERS[schedule.solver]
    return solver(lambda x, step: computed(velocity(x, schedule.times[step])), noise, schedule)


def computed(array: mx.array) -> mx.array:
    mx.eval(array)  # else a path of hundreds of steps would be one graph
    return array


def adams(grid: list[float], order: int, velocity: Velocity, x: mx.array) -> mx.array:
    """Adams-Bashforth on any grid: the integral of the polynomial through the last slopes."""
    times, slopes = [], []
    for t, after in pairwise(grid):
        times, slopes = [t, *times][:order], [computed(velocity(x, t)), *slopes][:order]
        for index, slope in enumerate(slopes):
            others = [time - t for time in times if time != times[index]]
            basis = np.poly1d(others, r=True) / np.prod([times[index] - t - o for o in others])
            x = x + float(basis.integ()(after - t)) * slope
    return x


def two_stages(grid: list[float], stage: float, velocity: Velocity, x: mx.array) -> mx.array:
    """Runge-Kutta of second order with the second slope at this fraction of the step."""
    for t, after in pairwise(grid):
        size, first = after - t, computed(velocity(x, t))
        second = computed(velocity(x + stage * size * first, t + stage * size))
        x = x + size * ((1 - 0.5 / stage) * first + 0.5 / stage * second)
    return x


def dpm(grid: list[float], velocity: Velocity, x: mx.array) -> mx.array:
    """DPM-Solver++(2M), Lu et al. 2022: the patch foreseen, on a line in log((1 - t) / t)."""
    before, log_before = None, 0.0
    for t, after in pairwise(grid):
        patch = target = x - t * computed(velocity(x, t))
        here = math.log((1 - t) / t)
        if before is not None and after > 0:
            ratio = (math.log((1 - after) / after) - here) / (here - log_before)
            target = patch + ratio / 2 * (patch - before)
        x = after / t * x + (1 - after / t) * target
        before, log_before = patch, here
    return x


def candidates(evaluations: int) -> dict[str, Callable[[Velocity, mx.array], mx.array]]:
    even = np.linspace(PATH_START, 0, evaluations + 1).tolist()
    sway = sway_from_path_start(evaluations)

    def bind(solver, *arguments):
        return lambda velocity, noise: solver(*arguments, velocity, noise)

    found = {
        "euler": bind(packaged, Schedule.of("euler", evaluations + 1)),
        "adams": bind(packaged, Schedule.of("adams", evaluations + 1)),
        "euler, even": bind(adams, even, 1),
        "adams, sway": bind(adams, sway, 2),
        "adams of third order": bind(adams, even, 3),
        "adams of third order, sway": bind(adams, sway, 3),
        "dpm-solver++": bind(dpm, even),
        "dpm-solver++, sway": bind(dpm, sway),
    }
    if evaluations % 2 == 0:
        for name, stage in (("midpoint", 0.5), ("ralston", 2 / 3), ("heun", 1.0)):
            found[name] = bind(two_stages, even[::2], stage)
    return found


def error(ours: mx.array, wanted: mx.array) -> float:
    return math.sqrt(mx.mean((ours - wanted) ** 2).item() / mx.mean(wanted**2).item())


def without_late_guidance(guided: Velocity, unguided: Velocity) -> Velocity:
    """Guidance left out in the last two of six even steps."""
    return lambda x, t: (guided if t > 2.5 / 6 * PATH_START else unguided)(x, t)


def table(
    title: str, velocity: Velocity, noise: mx.array, fewer: Mapping[str, mx.array] | None = None
) -> None:
    """Prints each candidate's error. fewer: patches by how they were made without some guidance."""
    hundred = packaged(Schedule.of("euler", 100), velocity, noise)
    limit = packaged(Schedule.of("adams", 401), velocity, noise)

    def cell(end: mx.array) -> str:
        return f"{error(end, hundred):.4f} ({error(end, limit):.4f})"

    print(f"\n{title}: {len(noise)} patches; 100 steps are {error(hundred, limit):.4f} off")
    print(f"{'evaluations':27}" + "".join(f"{count:<17}" for count in EVALUATIONS))
    rows: dict[str, dict[int, str]] = {}
    for count in EVALUATIONS:
        for name, solver in candidates(count).items():
            rows.setdefault(name, {})[count] = cell(solver(velocity, noise))
    for name, cells in rows.items():
        line = "".join(f"{cells.get(count, ''):17}" for count in EVALUATIONS)
        print(f"{name:27}{line}".rstrip(), flush=True)
    for name, patches in (fewer or {}).items():
        print(f"{name}: {cell(patches)}", flush=True)


def patches_of_fast(
    model: VoxCPM2, mu: mx.array, cond: mx.array, noise: mx.array, cfg_value: float
) -> mx.array:
    schedule, decoder = Schedule.of(*GenerationOptions(fast=True).batch_key), model.feat_decoder
    return decoder(mu, cond, noise, schedule, decoder.time_tokens(schedule), cfg_value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--train", type=int, default=0, metavar="STEPS")
    parser.add_argument("--texts", nargs="+", default=TEXTS, help="that the model can say")
    parser.add_argument("--patches", type=int, default=8, help="of each text")
    parser.add_argument("--cfg_value", type=float, default=2.0)
    args = parser.parse_args()
    model = load_model(args.model, "float32")
    mu, cond, noise = real_inputs(model, args.texts, args.patches)
    guided, unguided = (network(model, mu, cond, value) for value in (args.cfg_value, 1.0))
    late = without_late_guidance(guided, unguided)
    fast = patches_of_fast(model, mu, cond, noise, args.cfg_value)
    fewer = {
        "fast: adams, 6 evaluations, the 4th and the 6th with the guidance before": fast,
        "adams, 6 evaluations, the 5th and the 6th without guidance": packaged(
            Schedule.of("adams", 7), late, noise
        ),
    }
    table("network", guided, noise, fewer)
    if args.train:
        draw = train(model, args.train)
        mu, cond, _ = draw(len(noise))
        table("trained", network(model, mu, cond, args.cfg_value), noise)
    points = mx.random.normal((200, 1, 64), key=mx.random.key(0))
    table("mixture", mixture(args.cfg_value), points)


if __name__ == "__main__":
    main()
