"""Train the recogniser of the demo voice's words, and measure it on speech that it never heard.

  python benchmarks/demo_voice/train_recogniser.py [--output FILE]
  python benchmarks/demo_voice/train_recogniser.py --test [--count N]

Needs espeak-ng. --test only measures the recogniser that is there.
"""

from __future__ import annotations

from recogniser import (  # before MLX  # isort: skip
    OTHER,
    SAMPLE_RATE,
    VOCABULARY,
    WEIGHTS,
    Network,
    cepstra,
    hear,
    stack,
)

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import jiwer
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from measures import compare
from recogniser_data import band_limited, damaged, noisy, others, smeared, utterance, with_others
from speech import SPEAKERS, draw_words, say

TRAINING_SEED, TEST_SEED = 70_001, 90_001
Example = tuple[np.ndarray, list[int]]
"""Features and the numbers of the words."""


def examples(count: int) -> list[Example]:
    """Each utterance as it is, and damaged twice."""
    random, made = np.random.default_rng(TRAINING_SEED), []
    for _ in range(count):
        sound, words = utterance(random)
        labels = [VOCABULARY.index(word) + 1 for word in words]
        takes = [sound, damaged(sound, random), damaged(sound, random)]
        made += [(cepstra(take), labels) for take in takes]
    return made


def occupancy(logs: np.ndarray, lengths: np.ndarray, labels: list[list[int]]) -> np.ndarray:
    """log probabilities (B, T, words) -> how probably each step is which word, given all labels.

    The forward-backward algorithm over blank, label, blank ...; cross entropy against the result
    has the gradient of the CTC loss.
    """
    batch, steps, words = logs.shape
    states = 2 * max(map(len, labels)) + 1
    path = np.zeros((batch, states), dtype=int)
    ends = np.array([2 * len(row) for row in labels])
    for row, each in zip(path, labels, strict=True):
        row[1 : 2 * len(each) : 2] = each
    emitted = np.take_along_axis(logs, path[:, None, :].repeat(steps, 1), 2).astype(np.float64)
    emitted[np.arange(states) > ends[:, None, None].repeat(steps, 1)] = -np.inf
    skips = np.zeros((batch, states), dtype=bool)
    skips[:, 2:] = (path[:, 2:] != 0) & (path[:, 2:] != path[:, :-2])
    forward = np.full((batch, steps, states), -np.inf)
    forward[:, 0, :2] = emitted[:, 0, :2]
    for t in range(1, steps):
        forward[:, t] = emitted[:, t] + _arrive(forward[:, t - 1], skips)
    backward = np.full((batch, steps, states), -np.inf)
    rows, late = np.arange(batch), np.full((batch, states), -np.inf)
    late[rows, ends] = 0
    late[rows, np.maximum(ends - 1, 0)] = 0
    skips = np.pad(skips[:, 2:], ((0, 0), (0, 2)))[:, ::-1]
    for t in range(steps - 1, -1, -1):
        last = (lengths - 1 == t)[:, None]
        if t < steps - 1:
            after = (backward[:, t + 1] + emitted[:, t + 1])[:, ::-1]
            backward[:, t] = _arrive(after, skips)[:, ::-1]
        backward[:, t] = np.where(last, late, backward[:, t])
        backward[:, t][lengths - 1 < t] = -np.inf
    joint = forward + backward
    inside = np.arange(steps) < lengths[:, None]
    peak = np.where(np.isfinite(joint), joint, -np.inf).max(-1, keepdims=True)
    weights = np.exp(joint - np.where(np.isfinite(peak), peak, 0))
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-30)
    targets = np.zeros((batch * steps, words))
    index = path[:, None, :].repeat(steps, 1).reshape(batch * steps, states)
    np.add.at(targets, (np.arange(batch * steps)[:, None], index), weights.reshape(-1, states))
    return (targets.reshape(batch, steps, words) * inside[..., None]).astype(np.float32)


def _arrive(before: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """The log sum over the states (B, S) that lead here: the same, the last, and the last label."""
    one = np.pad(before[:, :-1], ((0, 0), (1, 0)), constant_values=-np.inf)
    two = np.pad(before[:, :-2], ((0, 0), (2, 0)), constant_values=-np.inf)
    return np.logaddexp(np.logaddexp(before, one), np.where(skips, two, -np.inf))


def batches(made: list[Example], size: int, random: np.random.Generator) -> list[list[Example]]:
    """All of them, in batches of about the same length."""
    order = sorted(random.permutation(len(made)), key=lambda index: len(made[index][0]) // 8)
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    return [[made[index] for index in groups[group]] for group in random.permutation(len(groups))]


def train(made: list[Example], epochs: int, size: int = 32) -> Network:
    mx.random.seed(0)
    random, network = np.random.default_rng(TRAINING_SEED), Network()
    steps = epochs * math.ceil(len(made) / size)
    first = steps // 10
    rate = optim.join_schedules(
        [optim.linear_schedule(0, 3e-3, first), optim.cosine_decay(3e-3, steps - first)], [first]
    )
    optimizer = optim.AdamW(rate, weight_decay=0.01)

    def loss(features: mx.array, mask: mx.array, targets: mx.array) -> mx.array:
        logs = nn.log_softmax(network(features, mask))
        return -(targets * logs).sum() / mask.sum()

    step = nn.value_and_grad(network, loss)
    began = time.time()
    for epoch in range(epochs):
        total = []
        for group in batches(made, size, random):
            features, mask = stack([each for each, _ in group])
            # Other levels and timbres each time.
            shape = (len(group), 1, features.shape[-1])
            features = features + mx.array(0.1 * random.standard_normal(shape), mx.float32)
            features = features + mx.array(0.1 * random.standard_normal(features.shape), mx.float32)
            logs = np.array(nn.log_softmax(network(features, mask)))
            lengths = np.array(mask.sum((1, 2))).astype(int)
            targets = occupancy(logs, lengths, [labels for _, labels in group])
            value, gradient = step(features, mask, mx.array(targets))
            gradient, _ = optim.clip_grad_norm(gradient, 1.0)
            optimizer.update(network, gradient)
            mx.eval(network.parameters(), optimizer.state)
            total.append(value.item())
        print(f"epoch {epoch + 1}: {np.mean(total):.4f}, {time.time() - began:.0f} s", flush=True)
    return network


DAMAGE: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "as espeak-ng says them": lambda sound, random: sound,
    "random phases": smeared,
    "random phases, magnitudes off by 3 dB": lambda sound, random: smeared(sound, random, 1, 0.35),
    "white noise at 20 dB": lambda sound, random: noisy(sound, random, 20),
    "200 Hz to 3.4 kHz only": lambda sound, random: band_limited(sound, 200, 3400),
    "random phases, noise, 6 kHz": lambda sound, random: band_limited(
        noisy(smeared(sound, random), random, 20), 0, 6000
    ),
}


def test(network: Network, count: int) -> None:
    """Prints how well `count` sequences of each speaker are heard, and what is no known word."""
    random = np.random.default_rng(TEST_SEED)
    said = [(name, draw_words(random)) for _ in range(count) for name in SPEAKERS]
    sounds = [say(SPEAKERS[name], words) for name, words in said]
    words = [row for _, row in said]
    print(f"\n{len(said)} sequences, {sum(map(len, words))} words\n")
    print("| speech | word accuracy | substituted, missed, added |\n|---|---|---|")
    for name, damage in DAMAGE.items():
        heard = [_words(network, damage(sound, random)) for sound in sounds]
        _row(name, compare(words, heard))
        if damage is DAMAGE["as espeak-ng says them"]:
            for speaker in SPEAKERS:
                own = [index for index, (who, _) in enumerate(said) if who == speaker]
                pairs = [words[index] for index in own], [heard[index] for index in own]
                _row(f"- {speaker}", compare(*pairs))
    _test_others(network, count, random)


def _words(network: Network, sound: np.ndarray) -> list[str]:
    return [heard.word for heard in hear(sound, SAMPLE_RATE, network)]


def _row(name: str, out: jiwer.WordOutput) -> None:
    counts = f"{out.substitutions}, {out.deletions}, {out.insertions}"
    print(f"| {name} | {100 * (1 - out.wer):.2f} % | {counts} |", flush=True)


def _test_others(network: Network, count: int, random: np.random.Generator) -> None:
    """Unknown words among the known ones, behind them, and speech backwards."""
    said, heard, behind, backwards, cases = [], [], [], [], 5 * count
    for case in range(cases):
        speaker = list(SPEAKERS.values())[case % len(SPEAKERS)]
        words = draw_words(random)
        spoken, expected = with_others(words, random, unheard=True)
        said.append(expected)
        heard.append(_words(network, say(speaker, spoken)))
        more = [*words, *others(words[:1], random, unheard=True)]
        behind.append(_words(network, say(speaker, more))[-1:] != words[-1:])
        backwards.append(bool(_words(network, say(speaker, words)[::-1])))
    out, found = compare(said, heard), {"equal": 0, "substitute": 0, "delete": 0}
    for row, chunks in zip(said, out.alignments, strict=True):
        for chunk in chunks:
            for index in range(chunk.ref_start_idx, chunk.ref_end_idx):
                found[chunk.type] += row[index] == OTHER
    _row("with unknown words among them", out)
    total = sum(found.values())
    print(
        f"\nOf {total} unknown words or runs of them {found['equal']} were noticed, "
        f"{found['substitute']} taken for a word, {found['delete']} not heard. "
        f"An unknown word behind the last one was noticed in {sum(behind)} of {cases} cases, "
        f"speech played backwards in {sum(backwards)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=3500)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--count", type=int, default=60, help="sequences of each speaker")
    arguments = parser.parse_args()
    if not arguments.test:
        began = time.time()
        made = examples(arguments.utterances)
        print(f"{len(made)} examples in {time.time() - began:.0f} s", flush=True)
        train(made, arguments.epochs).save(arguments.output)
    test(Network.load(arguments.output), arguments.count)


if __name__ == "__main__":
    main()
