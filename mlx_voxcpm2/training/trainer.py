"""Steps down the losses' gradient, the same ones however many processes share a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from ..layers.transformer import MiniCPM
from ..models.voxcpm2.network import VoxCPM2Model
from .losses import Draws, losses
from .options import TrainingOptions
from .sequences import Example, Sequences

# Graphs of so many shapes are kept, at some megabytes each for the released model's layers.
GRAPHS = 128


@dataclass(frozen=True)
class Step:
    """What an update of the weights was made of."""

    number: int
    """From 1."""
    diff: float
    """The velocity's mean squared error, of all the step's targets alike within each batch."""
    stop: float
    """The stop head's cross entropy, likewise."""
    grad_norm: float
    """Before it was clipped."""
    learning_rate: float
    targets: int
    """Patches learnt."""
    seconds: float = field(compare=False)
    """That it took."""


class Trainer:
    """Trains what is not frozen in `model`, whose trainable weights are float32.

    All that chance decides follows from the seed and the number of the step, so that a run goes on
    from saved weights and `state` as if it had never stopped.

    group: the processes that share each batch, by default all that were launched together. Raises
    ValueError if there are more of them than examples in a batch.
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
        if options.batch_size < self.group.size():
            raise ValueError(
                f"batch_size is {options.batch_size} for {self.group.size()} processes; give each "
                "an example at least"
            )
        self.step = 0
        self.optimizer = optim.AdamW(
            schedule(options), weight_decay=options.weight_decay, bias_correction=True
        )
        self.optimizer.init(model.trainable_parameters())
        for module in model.modules():
            if isinstance(module, MiniCPM):
                module.recomputes = options.gradient_checkpointing
        self._orders: dict[int, np.ndarray] = {}
        self._move = mx.compile(self._moved)
        self._losses = mx.compile(self._computed_losses)
        self._shapes: set[tuple[int, int, int]] = set()
        self._compile()

    def _compile(self) -> None:
        """Anew, since MLX never forgets a graph by itself."""
        chance = [mx.random.state]  # dropout draws from it
        self._add = mx.compile(self._added, inputs=chance, outputs=chance)
        self._shapes.clear()

    @property
    def state(self) -> dict[str, mx.array]:
        """Of the optimizer, by name."""
        return dict(tree_flatten(self.optimizer.state))

    def resume(self, step: int, state: dict[str, mx.array]) -> None:
        """Goes on behind `step` with the optimizer's `state` of then; the model has its weights."""
        self.step = step
        self.optimizer.state = tree_unflatten(list(state.items()))

    def follow_first(self) -> None:
        """All processes take the first one's step and, unless it begins, its weights and state."""

        def of_first(value: mx.array) -> mx.array:
            value = value if self.group.rank() == 0 else mx.zeros_like(value)
            return mx.distributed.all_sum(value, group=self.group)

        if self.group.size() == 1 or not (step := of_first(mx.array(self.step)).item()):
            return
        weights = tree_map(of_first, self.model.trainable_parameters())
        self.model.update(weights)
        state = self.state
        # By name: where they were read from a file, their order is another.
        self.resume(step, {name: of_first(state[name]) for name in sorted(state)})
        mx.eval(weights, self.optimizer.state)

    def advance(self) -> Step:
        """One update, from `grad_accum_steps` batches. Raises ValueError if it is not finite."""
        model, options, began = self.model, self.options, time.perf_counter()
        model.train()
        parameters = model.trainable_parameters()
        sums = {"losses": mx.zeros(2), "gradients": tree_map(mx.zeros_like, parameters)}
        learnt, first = 0, self.step * options.grad_accum_steps
        for batch in range(first, first + options.grad_accum_steps):
            mx.random.seed(_mixed(options.seed, batch, self.group.rank()))
            rows, targets = self._share(batch)
            learnt += targets
            # `average_gradients` divides by the processes once more.
            count = max(targets, 1) * options.grad_accum_steps / self.group.size()
            arrays = self._arrays(rows, "training")
            self._shapes.add(tuple(arrays[0][name].size for name in ("tokens", "own", "patches")))
            if len(self._shapes) > GRAPHS:
                self._compile()
            sums = self._add(parameters, sums, *arrays, mx.array(count))
            mx.eval(sums)
        sums = nn.average_gradients(sums, self.group)
        # Nothing but the graph knows the old arrays when it is computed, so that each new one can
        # take the memory of an old one.
        parameters, self.optimizer.state, norm = self._move(
            sums.pop("gradients"), parameters, self.optimizer.state
        )
        model.update(parameters)
        mx.eval(parameters, self.optimizer.state, norm)
        self.step += 1
        (diff, stop), norm = sums["losses"].tolist(), norm.item()
        if not np.isfinite([diff, stop, norm]).all():
            raise ValueError(
                f"step {self.step}: losses {diff:g} and {stop:g}, gradient {norm:g}: not finite; "
                "begin again with a lower learning_rate, or with precision: float32"
            )
        rate, seconds = self.optimizer.learning_rate.item(), time.perf_counter() - began
        return Step(self.step, diff, stop, norm, rate, learnt, seconds)

    def validate(self, examples: Sequence[Example]) -> tuple[float, float]:
        """Both losses over all of the examples, with the same chance at each time."""
        self.model.eval()
        size, parameters = self.options.batch_size, self.model.trainable_parameters()
        totals, numbered = mx.zeros(2), list(enumerate(examples))
        firsts = range(0, len(examples), size)
        for first in firsts[self.group.rank() :: self.group.size()]:
            arrays = self._arrays(numbered[first : first + size], "validation")
            totals += mx.stack(self._losses(parameters, *arrays, mx.array(1.0)))
            mx.eval(totals)
        self.model.update(parameters)
        totals = mx.distributed.all_sum(totals, group=self.group)
        count = max(1, sum(example.targets for example in examples))
        return tuple((totals / count).tolist())

    # The following three are compiled. While they are traced the model holds no numbers; whoever
    # calls them gives it its weights back.

    def _computed_losses(
        self, parameters: dict, sequences: dict, draws: dict, count: mx.array
    ) -> tuple[mx.array, mx.array]:
        dtype = getattr(mx, self.options.precision)
        self.model.update(tree_map(lambda value: value.astype(dtype), parameters))
        return losses(self.model, Sequences(**sequences), Draws(**draws), count)

    def _added(
        self, parameters: dict, sums: dict, sequences: dict, draws: dict, count: mx.array
    ) -> dict:
        """To the sums of earlier batches, so that no second set of gradients is ever there."""
        lambdas = self.options.lambdas

        def weighted(parameters: dict) -> tuple[mx.array, mx.array]:
            diff, stop = self._computed_losses(parameters, sequences, draws, count)
            return lambdas.diff * diff + lambdas.stop * stop, mx.stack([diff, stop])

        (_, parts), gradients = mx.value_and_grad(weighted)(parameters)
        return tree_map(mx.add, sums, {"losses": parts, "gradients": gradients})

    def _moved(self, gradients: dict, parameters: dict, state: dict) -> tuple[dict, dict, mx.array]:
        gradients, norm = optim.clip_grad_norm(gradients, self.options.max_grad_norm)
        self.optimizer.state = state
        return self.optimizer.apply_gradients(gradients, parameters), self.optimizer.state, norm

    def _share(self, batch: int) -> tuple[list[tuple[int, Example]], int]:
        """This process's rows of a batch, and how many targets the whole batch has."""
        size = self.options.batch_size
        rows = [(place, self._at(place)) for place in range(batch * size, (batch + 1) * size)]
        targets = sum(example.targets for _, example in rows)
        return rows[self.group.rank() :: self.group.size()], targets

    def _at(self, place: int) -> Example:
        """Number `place` of endless ones: each pass has its own order."""
        epoch, index = divmod(place, len(self.examples))
        if epoch not in self._orders:
            random = np.random.default_rng([self.options.seed, epoch])
            self._orders = {epoch: random.permutation(len(self.examples))}
        return self.examples[self._orders[epoch][index]]

    def _arrays(self, rows: Sequence[tuple[int, Example]], purpose: str) -> tuple[dict, dict]:
        """Sequences and Draws, as the compiled functions take them."""
        examples = [example for _, example in rows]
        sequences = Sequences.of(examples, spacing(max(each.positions for each in examples)))
        salt = ("training", "validation").index(purpose)
        draws = Draws.random(
            [np.random.default_rng([self.options.seed, salt, place]) for place, _ in rows],
            [example.targets for example in examples],
            sequences.patches.shape[1:],
            self.options.condition_dropout,
            len(sequences.targets),
            self.model.config.dit_config.cfm_config.t_scheduler,
        )
        return vars(sequences), vars(draws)


def spacing(positions: int) -> int:
    """What lengths are filled up to multiples of, since a graph is traced for each shape.

    A power of 2 from 8 on, and less than an eighth of the longest row above 64.
    """
    return max(8, (1 << (positions - 1).bit_length()) >> 4)


def _mixed(*numbers: int) -> int:
    """One seed from several."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def schedule(options: TrainingOptions) -> Callable[[mx.array], mx.array]:
    """The learning rate of a step, from 0."""
    peak, warmup = options.learning_rate, options.warmup
    fall = optim.cosine_decay(peak, options.max_steps - warmup)
    if not warmup:
        return fall
    return optim.join_schedules([optim.linear_schedule(0, peak, warmup), fall], [warmup])
