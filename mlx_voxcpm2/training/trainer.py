"""Optimisation steps, identical for any number of processes that share a batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from ..layers.compiled import compiled_graph
from ..layers.transformer import Transformer
from ..models.family import Network
from .options import TrainingOptions
from .recipe import Arrays, Example, Recipe
from .voxcpm2 import VoxCPM2Recipe

GRAPHS = 128
"""Maximum number of compiled graphs, one per shape of a batch; some megabytes each."""


@dataclass(frozen=True)
class Step:
    """Losses and measures of one update of the weights."""

    number: int
    """Number of the step, from 1."""
    losses: dict[str, float]
    """Each loss by its name in `Recipe.losses`: "diff", the mean squared error of the velocity, and
    "stop" or "ce", a cross entropy; of each batch's terms, averaged over the batches."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    learning_rate: float
    targets: int
    """Number of patches or frames learnt."""
    seconds: float = field(compare=False)
    """Duration of the step."""


class Trainer:
    """Trains the weights of `model` that are not frozen; they are float32.

    All random numbers follow from the seed and the number of the step, so that a run resumed from
    saved weights and `state` is identical to an uninterrupted one.

    group: the processes that share each batch, by default all that were launched together. Raises
    ValueError if there are more of them than examples in a batch. recipe: of the model's family, by
    default VoxCPM2's.
    """

    def __init__(
        self,
        model: Network,
        examples: Sequence[Example],
        options: TrainingOptions,
        group: mx.distributed.Group | None = None,
        recipe: Recipe | None = None,
    ):
        self.model, self.examples, self.options = model, examples, options
        self.recipe = recipe or VoxCPM2Recipe()
        self._weights = options.lambdas.of(self.recipe.losses)
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
            if isinstance(module, Transformer):
                module.recomputes = options.gradient_checkpointing
        self._orders: dict[int, np.ndarray] = {}
        self._apply = compiled_graph(self._apply_update)
        self._losses = compiled_graph(self._losses_of)
        self._shapes: set[tuple[tuple[int, ...], ...]] = set()
        self._compile()

    def _compile(self) -> None:
        """Compiles again, without the old graphs, which MLX would never discard."""
        state = [mx.random.state]  # of dropout
        self._add = compiled_graph(self._accumulate, state)
        self._shapes.clear()

    @property
    def state(self) -> dict[str, mx.array]:
        """State of the optimizer, by name."""
        return dict(tree_flatten(self.optimizer.state))

    def resume(self, step: int, state: dict[str, mx.array]) -> None:
        """Continues after `step` with its `state`; the model has its weights already."""
        self.step = step
        self.optimizer.state = tree_unflatten(list(state.items()))

    def follow_first(self) -> None:
        """Copies the first process's step, and if it is not 0 its weights and state, to all."""

        def of_first(value: mx.array) -> mx.array:
            value = value if self.group.rank() == 0 else mx.zeros_like(value)
            return mx.distributed.all_sum(value, group=self.group)

        if self.group.size() == 1 or not (step := of_first(mx.array(self.step)).item()):
            return
        weights = tree_map(of_first, self.model.trainable_parameters())
        self.model.update(weights)
        state = self.state
        # Sorted, since arrays read from a file are in another order.
        self.resume(step, {name: of_first(state[name]) for name in sorted(state)})
        mx.eval(weights, self.optimizer.state)

    def advance(self) -> Step:
        """One update, from `grad_accum_steps` batches. Raises ValueError if it is not finite."""
        model, options, began = self.model, self.options, time.perf_counter()
        model.train()
        parameters = model.trainable_parameters()
        sums = {"losses": mx.zeros(2), "gradients": tree_map(mx.zeros_like, parameters)}
        learnt, first = np.zeros(2), self.step * options.grad_accum_steps
        for batch in range(first, first + options.grad_accum_steps):
            mx.random.seed(_mixed(options.seed, batch, self.group.rank()))
            rows, counts = self._share(batch)
            learnt += counts
            # `average_gradients` divides by the number of processes too.
            counts = np.maximum(counts, 1) * options.grad_accum_steps / self.group.size()
            inputs = self._inputs(rows, "training")
            self._shapes.add(tuple(array.shape for array in inputs.values()))
            if len(self._shapes) > GRAPHS:
                self._compile()
            sums = self._add(parameters, sums, inputs, mx.array(counts.astype(np.float32)))
            mx.eval(sums)
        sums = nn.average_gradients(sums, self.group)
        # Only the graph refers to the old arrays when it is evaluated, so that each new one can
        # reuse the memory of an old one.
        parameters, self.optimizer.state, norm = self._apply(
            sums.pop("gradients"), parameters, self.optimizer.state
        )
        model.update(parameters)
        mx.eval(parameters, self.optimizer.state, norm)
        self.step += 1
        (first_loss, second), norm = sums["losses"].tolist(), norm.item()
        if not np.isfinite([first_loss, second, norm]).all():
            raise ValueError(
                f"step {self.step}: losses {first_loss:g} and {second:g}, gradient {norm:g}: not "
                "finite; "
                "begin again with a lower --learning_rate, or with --precision float32"
            )
        rate, seconds = self.optimizer.learning_rate.item(), time.perf_counter() - began
        losses = dict(zip(self._weights, (first_loss, second), strict=True))
        return Step(self.step, losses, norm, rate, int(learnt[0]), seconds)

    def validate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Mean losses over all examples, by name, with the same random numbers each time."""
        self.model.eval()
        size, parameters = self.options.batch_size, self.model.trainable_parameters()
        totals, numbered = mx.zeros(2), list(enumerate(examples))
        firsts = range(0, len(examples), size)
        for first in firsts[self.group.rank() :: self.group.size()]:
            inputs = self._inputs(numbered[first : first + size], "validation")
            totals += mx.stack(self._losses(parameters, inputs, mx.ones(2)))
            mx.eval(totals)
        self.model.update(parameters)
        totals = mx.distributed.all_sum(totals, group=self.group)
        counts = np.sum([example.counts for example in examples], axis=0)
        means = np.array(totals) / np.maximum(counts, 1)
        return dict(zip(self._weights, means.tolist(), strict=True))

    # The following three are compiled. While they are traced the model holds placeholders; the
    # caller restores its weights.

    def _losses_of(
        self, parameters: dict, inputs: Arrays, counts: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Losses with these parameters, computed in the run's precision."""
        dtype = getattr(mx, self.options.dtype)
        self.model.update(tree_map(lambda value: value.astype(dtype), parameters))
        return self.recipe.compute_losses(self.model, inputs, counts)

    def _accumulate(self, parameters: dict, sums: dict, inputs: Arrays, counts: mx.array) -> dict:
        """Sums with a batch added; there is never a second set of gradients in memory."""
        first_weight, second_weight = self._weights.values()

        def weighted(parameters: dict) -> tuple[mx.array, mx.array]:
            first, second = self._losses_of(parameters, inputs, counts)
            return first_weight * first + second_weight * second, mx.stack([first, second])

        (_, parts), gradients = mx.value_and_grad(weighted)(parameters)
        return tree_map(mx.add, sums, {"losses": parts, "gradients": gradients})

    def _apply_update(
        self, gradients: dict, parameters: dict, state: dict
    ) -> tuple[dict, dict, mx.array]:
        """New parameters and optimizer state, and the norm of the gradients before clipping."""
        most = self.options.max_grad_norm or math.inf
        gradients, norm = optim.clip_grad_norm(gradients, most)
        self.optimizer.state = state
        return self.optimizer.apply_gradients(gradients, parameters), self.optimizer.state, norm

    def _share(self, batch: int) -> tuple[list[tuple[int, Example]], np.ndarray]:
        """Rows of a batch for this process, and `Example.counts` of the whole batch."""
        size = self.options.batch_size
        rows = [(index, self._at(index)) for index in range(batch * size, (batch + 1) * size)]
        counts = np.sum([example.counts for _, example in rows], axis=0)
        return rows[self.group.rank() :: self.group.size()], counts

    def _at(self, index: int) -> Example:
        """Example `index` of an endless series of epochs, each in its own order."""
        epoch, index = divmod(index, len(self.examples))
        if epoch not in self._orders:
            random = np.random.default_rng([self.options.seed, epoch])
            self._orders = {epoch: random.permutation(len(self.examples))}
        return self.examples[self._orders[epoch][index]]

    def _inputs(self, rows: Sequence[tuple[int, Example]], purpose: str) -> Arrays:
        """Arrays of a batch, the inputs of the compiled functions."""
        salt = ("training", "validation").index(purpose)
        generators = [np.random.default_rng([self.options.seed, salt, index]) for index, _ in rows]
        examples = [example for _, example in rows]
        return self.recipe.inputs(self.model, examples, generators, self.options)


def _mixed(*numbers: int) -> int:
    """Seed derived from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def schedule(options: TrainingOptions) -> Callable[[mx.array], mx.array]:
    """Learning rate by step, from 0: linear warm-up, then cosine decay."""
    peak, warmup = options.learning_rate, options.warmup
    decay = optim.cosine_decay(peak, options.max_steps - warmup)
    if not warmup:
        return decay
    return optim.join_schedules([optim.linear_schedule(0, peak, warmup), decay], [warmup])
