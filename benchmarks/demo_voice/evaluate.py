"""Does a demo voice speak the right words in the right voice, and stop? Exit status 1 if not.

  python benchmarks/demo_voice/evaluate.py PATH_OR_demo [--count N] [--exclude train.jsonl]
      [--quantize 8bit 4bit] [--fast] [--solver adams --inference_timesteps 7]
      [--json FILE]

Needs espeak-ng and pyworld: their renderings are the references, the prompts, and the pitches to
compare with. `espeak` for the path judges espeak-ng itself: what the measures can show at best.
Sequences, seeds and noise are the same each time. --exclude takes the manifest of the training, a
JSON object with "text" a line, and leaves out the sequences in it. Quantised versions, made in
memory, must only keep their words (8 bits 95 %, fewer 90 %); the rest is told.
"""

from __future__ import annotations

import measures  # before MLX  # isort: skip

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import speech
from measures import Clip, Measured, Spoken, Task, designed, ends_in_time, same_voice, word_accuracy
from speech import SAMPLE_RATE, SPEAKERS, join_words, pitch
from speech import say_steadily as say

from mlx_voxcpm2 import __version__, load_model
from mlx_voxcpm2.models.voxcpm2.flow import SOLVERS
from mlx_voxcpm2.speech.options import GenerationOptions

SEED = 50_001
RIGHT_WORDS, RIGHT_VOICE, EVERY = 0.95, 0.90, 1.0
FEWER_BITS = 0.90
ESPEAK = "espeak"
LOW, HIGH = (SPEAKERS[name].description for name in ("bass", "soprano"))

Speak = Callable[[list[Task]], list[Spoken]]


class Tasks:
    """What is to be spoken in each mode, drawn from unseen sequences."""

    def __init__(self, count: int, excluded: set[str] = frozenset()):
        """count: of sequences in each mode. excluded: texts as `join_words` writes them."""
        self.random, self.excluded = np.random.default_rng(SEED), excluded
        self.zero_shot = [Task(self._words(1)) for _ in range(count)]
        voices = [list(SPEAKERS)[index % len(SPEAKERS)] for index in range(count)]
        self.reference = [self._cloned(voice) for voice in voices]
        self.continuation = [self._continued(voice) for voice in voices]
        words = [self._words(1) for _ in range(count)]
        self.low = [Task(each, instruct=LOW) for each in words]
        self.high = [Task(each, instruct=HIGH) for each in words]

    def _words(self, shortest: int) -> list[str]:
        while True:
            words = speech.draw_words(self.random)
            if len(words) >= shortest and join_words(words) not in self.excluded:
                return words

    def _cloned(self, speaker: str) -> Task:
        """A reference of other words in the same language."""
        words = self._words(1)
        while True:
            other = self._words(2)
            if is_chinese(other) == is_chinese(words) and other != words:
                break
        return Task(words, reference=clip(speaker, other), pitches=pitches_of(words))

    def _continued(self, speaker: str) -> Task:
        """An unseen sequence cut in two: none that was learnt is longer than `speech.LONGEST`."""
        whole = self._words(speech.LONGEST // 2)
        cut = self.random.integers(2, len(whole) - 1)
        words = whole[cut:]
        return Task(words, prompt=clip(speaker, whole[:cut]), pitches=pitches_of(words))


def is_chinese(words: list[str]) -> bool:
    return words[0] in speech.CHINESE_DIGITS


def clip(speaker: str, words: list[str]) -> Clip:
    return Clip(speaker, words, say(SPEAKERS[speaker], words), SAMPLE_RATE)


def pitches_of(words: list[str]) -> dict[str, float]:
    return {name: pitch(say(each, words), SAMPLE_RATE) for name, each in SPEAKERS.items()}


def espeak(tasks: list[Task]) -> list[Spoken]:
    """What a perfect demo voice would speak."""
    described = {each.description: name for name, each in SPEAKERS.items() if each.description}
    names = [
        task.speaker if task.reference or task.prompt else described.get(task.instruct, "alto")
        for task in tasks
    ]
    sounds = [say(SPEAKERS[name], task.words) for name, task in zip(names, tasks, strict=True)]
    return [Spoken(sound, SAMPLE_RATE, "stop") for sound in sounds]


def evaluate(speak: Speak, tasks: Tasks) -> list[Measured]:
    """A row for each measure of each mode."""
    zero_shot, reference = speak(tasks.zero_shot), speak(tasks.reference)
    continuation, low, high = speak(tasks.continuation), speak(tasks.low), speak(tasks.high)
    all_tasks = [*tasks.zero_shot, *tasks.reference, *tasks.continuation, *tasks.low, *tasks.high]
    return [
        word_accuracy("zero-shot", tasks.zero_shot, zero_shot, RIGHT_WORDS),
        word_accuracy("reference", tasks.reference, reference, RIGHT_WORDS),
        *same_voice("reference", tasks.reference, reference, RIGHT_VOICE),
        word_accuracy("continuation", tasks.continuation, continuation, RIGHT_WORDS),
        *same_voice("continuation", tasks.continuation, continuation, RIGHT_VOICE),
        word_accuracy("design", [*tasks.low, *tasks.high], [*low, *high], RIGHT_WORDS),
        designed(low, high, RIGHT_VOICE),
        ends_in_time(all_tasks, [*zero_shot, *reference, *continuation, *low, *high], EVERY),
    ]


def for_quantised(rows: list[Measured], recipe: str) -> list[Measured]:
    """The same rows with the goals of a quantised version: only the words count, zero-shot."""
    goal = RIGHT_WORDS if recipe.startswith("8bit") else FEWER_BITS
    return [replace(rows[0], goal=goal), *(replace(row, goal=None) for row in rows[1:])]


def read_texts(manifest: Path) -> set[str]:
    """The sequences that a training manifest names, without descriptions."""
    found = set()
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.add(join_words(speech.words_of(json.loads(line)["text"])))
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(
                f'{manifest}: line {number} is no JSON object with a "text"; give the manifest '
                "that the voice was trained on"
            ) from None
    return found


def measure_all(arguments: argparse.Namespace) -> dict[str, list[Measured]]:
    """The rows of each version; raises ValueError or OSError for what can't be read."""
    excluded = read_texts(arguments.exclude) if arguments.exclude else set()
    is_espeak = arguments.model == ESPEAK
    options = GenerationOptions(
        solver=arguments.solver,
        inference_timesteps=arguments.inference_timesteps,
        fast=arguments.fast,
    )
    # First, so that a wrong path is told before the minutes of drawing.
    model = None if is_espeak else load_model(arguments.model, "float32")
    tasks, found = Tasks(arguments.count, excluded), {}
    for recipe in [None, *arguments.quantize]:
        if recipe:
            model = load_model(arguments.model, "float32", quantize=recipe)
        began = time.time()
        speak = espeak if is_espeak else partial(measures.speak, model, options=options)
        rows = evaluate(speak, tasks)
        name = ESPEAK if is_espeak else recipe or "float32"
        found[name] = for_quantised(rows, recipe) if recipe else rows
        print(f"\n{name}, {arguments.count} sequences a mode, {time.time() - began:.0f} s:\n")
        print(measures.table(found[name]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="PATH_OR_demo", help=f"or {ESPEAK}")
    parser.add_argument("--count", type=int, default=100, help="sequences in each mode")
    parser.add_argument("--exclude", type=Path, metavar="train.jsonl")
    parser.add_argument("--quantize", nargs="+", default=[], metavar="RECIPE")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--solver", default=GenerationOptions.solver, choices=SOLVERS)
    parser.add_argument(
        "--inference_timesteps", type=int, default=GenerationOptions.inference_timesteps
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    # The clips are short and as loud as espeak-ng makes them.
    logging.getLogger("mlx_voxcpm2").setLevel(logging.ERROR)
    if arguments.count < 1:
        parser.error("--count must be 1 or more")
    if arguments.model == ESPEAK and arguments.quantize:
        parser.error("espeak-ng can't be quantised; leave out --quantize")
    if shutil.which("espeak-ng") is None:
        parser.error("espeak-ng is missing; install the package of that name")
    try:
        found = measure_all(arguments)
    except (ValueError, OSError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        sys.exit(2)
    if arguments.json:
        versions = {
            name: [{**vars(row), "is_met": bool(row.is_met)} for row in rows]
            for name, rows in found.items()
        }
        report = {
            "model": arguments.model,
            "count": arguments.count,
            "seed": SEED,
            "mlx_voxcpm2": __version__,
            "versions": versions,
        }
        arguments.json.write_text(json.dumps(report, indent=2, default=float), encoding="utf-8")
    sys.exit(0 if all(row.is_met for rows in found.values() for row in rows) else 1)


if __name__ == "__main__":
    main()
