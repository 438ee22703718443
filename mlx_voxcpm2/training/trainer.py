"""Steps down the losses' gradient, the same ones however many processes share a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from ..models.voxcpm2 import VoxCPM2Model
from .losses import Draws, losses
from .options import TrainingOptions
from .sequences import Example, Sequences

# Lengths are filled up to multiples of this: a graph is compiled for each shape.
MULTIPLE = 8


@dataclass(frozen=True)
class Step:
    """What an update of the weights was made of."""

    number: int
    """From 1."""
    diff: float
    stop: float
    grad_norm: float
    learning_rate: float
    targets: int
    """Patches learnt."""


class Trainer:
    """Trains what is not frozen in `model`, whose trainable weights are float32.

    Everything that chance decides follows from the seed and the number of the step, so that a run
    goes on from saved weights and `state` as if it had never stopped.
    """

    def __init__(
        self,
        model: VoxCPM2Model,
        examples: Sequence[Example],
        options: TrainingOptions,
        group: mx.distributed.Group | None = None,
    ):
        self.model, self.examples, self.options = model, examples, options
        self.group = group or mx.distributed.init()
        self.step = 0
        self.optimizer = optim.AdamW(
            schedule(options), weight_decay=options.weight_decay, bias_correction=True
        )
        self.optimizer.init(model.trainable_parameters())
        # Dropout draws from the global state.
        chance = [mx.random.state]
        gradient = mx.value_and_grad(self._weighted_loss)
        self._gradient = mx.compile(gradient, inputs=chance, outputs=chance)
        self._update = mx.compile(self._apply)

    @property
    def state(self) -> dict[str, mx.array]:
        """Of the optimizer, by name."""
        return dict(tree_flatten(self.optimizer.state))

    def resume(self, step: int, state: dict[str, mx.array]) -> None:
        """Goes on behind `step` with the optimizer's `state` of then; the model has its weights."""
        self.step = step
        self.optimizer.state = tree_unflatten(list(state.items()))

    def advance(self) -> Step:
        """One update, from `grad_accum_steps` batches."""
        model, options = self.model, self.options
        model.train()
        parameters = model.trainable_parameters()
        totals, gradients, learnt = mx.zeros(2), None, 0
        for number in range(options.grad_accum_steps):
            batch = self.step * options.grad_accum_steps + number
            mx.random.seed(_mixed(options.seed, batch, self.group.rank()))  # for dropout
            sequences, draws, count = self._share(batch)
            learnt += count
            if sequences is None:
                continue
            (_, parts), more = self._gradient(parameters, sequences, draws, mx.array(float(count)))
            totals = totals + mx.stack(parts)
            gradients = more if gradients is None else tree_map(mx.add, gradients, more)
            mx.eval(totals, gradients)
        if gradients is None:
            gradients = tree_map(mx.zeros_like, parameters)
        totals, gradients = self._over_processes(totals, gradients)
        parameters, state, norm = self._update(
            gradients, parameters, self.optimizer.state, options.grad_accum_steps
        )
        model.update(parameters)
        self.optimizer.state = state
        mx.eval(parameters, state, norm, totals)
        self.step += 1
        diff, stop = (totals / options.grad_accum_steps).tolist()
        rate = self.optimizer.learning_rate.item()
        return Step(self.step, diff, stop, norm.item(), rate, learnt)

    def validate(self, examples: Sequence[Example]) -> tuple[float, float]:
        """Both losses over all of the examples, with the same chance at each time."""
        self.model.eval()
        size = self.options.batch_size
        totals = mx.zeros(2)
        for first in range(0, len(examples), size):
            if first // size % self.group.size() != self.group.rank():
                continue
            rows = list(enumerate(examples))[first : first + size]
            sequences, draws = self._arrays(rows, "validation")
            totals += mx.stack(losses(self.model, sequences, draws, 1))
            mx.eval(totals)
        totals = mx.distributed.all_sum(totals, group=self.group)
        count = max(1, sum(example.targets for example in examples))
        return tuple((totals / count).tolist())

    def _weighted_loss(
        self, parameters: dict, sequences: dict, draws: dict, count: mx.array
    ) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        lambdas = self.options.lambdas
        self.model.update(_computed(parameters, self.options.precision))
        diff, stop = losses(self.model, Sequences(**sequences), Draws(**draws), count)
        return lambdas.diff * diff + lambdas.stop * stop, (diff, stop)

    def _apply(
        self, gradients: dict, parameters: dict, state: dict, batches: int
    ) -> tuple[dict, dict, mx.array]:
        gradients = tree_map(lambda gradient: gradient / batches, gradients)
        gradients, norm = optim.clip_grad_norm(gradients, self.options.max_grad_norm)
        self.optimizer.state = state
        return self.optimizer.apply_gradients(gradients, parameters), self.optimizer.state, norm

    def _share(self, batch: int) -> tuple[dict | None, dict | None, int]:
        """This process's rows of a batch, and how many targets the whole batch has."""
        size = self.options.batch_size
        places = range(batch * size, (batch + 1) * size)
        rows = [(place, self.examples[self._at(place)]) for place in places]
        count = sum(example.targets for _, example in rows)
        mine = rows[self.group.rank() :: self.group.size()]
        if not mine:
            return None, None, count
        sequences, draws = self._arrays(mine, "training")
        return vars(sequences), vars(draws), count

    def _at(self, place: int) -> int:
        """Example number `place` of endless ones: each pass has its own order."""
        epoch, index = divmod(place, len(self.examples))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            random = np.random.default_rng([self.options.seed, epoch])
            self._order = random.permutation(len(self.examples))
        return int(self._order[index])

    def _arrays(self, rows: Sequence[tuple[int, Example]], purpose: str) -> tuple[Sequences, Draws]:
        sequences = Sequences.of([example for _, example in rows], MULTIPLE)
        salt = ("training", "validation").index(purpose)
        draws = Draws.random(
            [np.random.default_rng([self.options.seed, salt, place]) for place, _ in rows],
            [example.targets for _, example in rows],
            sequences.patches.shape[1:],
            self.options.condition_dropout,
            len(sequences.targets),
        )
        return sequences, draws

    def _over_processes(self, totals: mx.array, gradients: dict) -> tuple[mx.array, dict]:
        """Summed: each process divided by the targets of all."""
        if self.group.size() == 1:
            return totals, gradients
        flat = tree_flatten(gradients)
        # One message: each takes a round trip, however short.
        joined = mx.concatenate([totals, *(gradient.reshape(-1) for _, gradient in flat)])
        joined = mx.distributed.all_sum(joined, group=self.group)
        ends = np.cumsum([2, *(gradient.size for _, gradient in flat)]).tolist()
        totals, *parts = mx.split(joined, ends[:-1])
        summed = [
            (name, part.reshape(gradient.shape))
            for (name, gradient), part in zip(flat, parts, strict=True)
        ]
        return totals, tree_unflatten(summed)


def _computed(parameters: dict, precision: str) -> dict:
    """What is computed with; gradients go back to float32."""
    dtype = getattr(mx, precision)
    return tree_map(lambda value: value.astype(dtype), parameters)


def _mixed(*numbers: int) -> int:
    """One seed from several."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def schedule(options: TrainingOptions) -> Callable[[mx.array], mx.array]:
    """The learning rate of a step, from 0."""
    peak, warmup = options.learning_rate, options.warmup_steps
    fall = optim.cosine_decay(peak, options.max_steps - warmup)
    if not warmup:
        return fall
    return optim.join_schedules([optim.linear_schedule(0, peak, warmup), fall], [warmup])
