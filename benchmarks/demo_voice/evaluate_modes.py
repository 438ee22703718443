"""Measures the English voice in all modes and voices. Exit status 1 below the goals.

  python benchmarks/demo_voice/evaluate_modes.py CHECKPOINT FOLDER [--count N]
      [--quantize 8bit 4bit] [--json FILE]

FOLDER is speech_corpus.py's. Each voice is asked for by its description, by a reference, by a
prompt to continue, and by the last two together. The clips are other held-out sentences, made as
those of the training. Words are what Whisper tiny.en hears. Sentences, seeds and noise are the same
each time.
"""

from __future__ import annotations

import measures  # before MLX  # isort: skip

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import soxr
from acoustics import LATENT, SAMPLE_RATE
from measures import Clip, Measured, Spoken, Task, designed, same_voice
from speech import pitch
from speech_corpus import HELD, facts_of, latents_and_audio
from transcription import transcribe, word_error_rate
from voices import TEACHER, VOICES

from mlx_voxcpm2 import load_model

RIGHT_WORDS, RIGHT_VOICE, IN_TIME = 0.92, 0.90, 0.95
LONGER, SHORTER = 1.25, 0.8
"""Longest and shortest duration of a sentence that ends in time, over the teacher's."""
SHIFT = 7
"""Distance in the list from a sentence to the one of its clip."""


class HeldOut:
    """Held-out sentences of known words, in all voices."""

    def __init__(self, folder: Path):
        self.texts = [facts["text"] for facts in facts_of(folder, HELD)]
        self.audio: dict[str, list[np.ndarray]] = {}
        self.pitches = cache(self._pitches)  # of the same sentences in each mode and voice
        for voice in VOICES:
            _, audio, ends = latents_and_audio(folder, HELD, voice)
            spans = pairwise(LATENT * np.append(0, ends))
            self.audio[voice] = [audio[slice(*span)] / np.float32(32767) for span in spans]

    def clip(self, voice: str, index: int) -> Clip:
        return Clip(voice, self.texts[index].split(), self.audio[voice][index], SAMPLE_RATE)

    def _pitches(self, index: int) -> dict[str, float]:
        return {voice: pitch(audio[index], SAMPLE_RATE) for voice, audio in self.audio.items()}

    def tasks(self, mode: str, voice: str, count: int) -> list[Task]:
        """`count` sentences in a mode and voice."""
        found = []
        for index in range(count):
            clips = {
                "reference": {"reference": self.clip(voice, index + SHIFT)},
                "continuation": {"prompt": self.clip(voice, index + SHIFT)},
                "combined": {
                    "reference": self.clip(voice, index + 2 * SHIFT),
                    "prompt": self.clip(voice, index + SHIFT),
                },
                "design": {"instruct": VOICES[voice].descriptions[0]},
                "zero-shot": {},
            }
            words = self.texts[index].split()
            found.append(Task(words, pitches=self.pitches(index), **clips[mode]))
        return found


def word_accuracy(name: str, tasks: Sequence[Task], spoken: Sequence[Spoken]) -> Measured:
    """1 - Whisper's word error rate."""
    transcripts = [
        transcribe(" ".join(task.words), soxr.resample(each.sound, each.sample_rate, SAMPLE_RATE))
        for task, each in zip(tasks, spoken, strict=True)
    ]
    words = sum(each.words for each in transcripts)
    return Measured(f"{name}: words", 1 - word_error_rate(transcripts), RIGHT_WORDS, f"of {words}")


def ends_in_time(
    held_out: HeldOut, spoken: Sequence[Sequence[Spoken]], names: Sequence[str]
) -> Measured:
    """Whether each of the rows ends by the stop head after about the teacher's duration."""
    found = []
    for row in spoken:
        for index, each in enumerate(row):
            seconds = len(held_out.audio[TEACHER][index]) / SAMPLE_RATE
            ratio = len(each.sound) / each.sample_rate / seconds
            found.append(each.reason == "stop" and SHORTER <= ratio <= LONGER)
    detail = f"of {len(found)}, {', '.join(names)}"
    return Measured("ends in time", float(np.mean(found)), IN_TIME, detail)


def evaluate(
    speak: Callable[[list[Task]], list[Spoken]], held_out: HeldOut, count: int
) -> list[Measured]:
    tasks = {("zero-shot", TEACHER): held_out.tasks("zero-shot", TEACHER, count)}
    tasks |= {
        (mode, voice): held_out.tasks(mode, voice, count)
        for mode in ("design", "reference", "continuation", "combined")
        for voice in VOICES
    }
    spoken = {key: speak(each) for key, each in tasks.items()}
    rows = []
    for (mode, voice), each in spoken.items():
        name, wanted = f"{mode}, {voice}", tasks[mode, voice]
        rows.append(word_accuracy(name, wanted, each))
        if mode not in ("zero-shot", "design"):
            rows += same_voice(name, wanted, each, RIGHT_VOICE)
    low, high = spoken["design", "man"], spoken["design", "child"]
    rows.append(designed(low, high, RIGHT_VOICE))
    modes = sorted({mode for mode, _ in spoken})
    return [*rows, ends_in_time(held_out, list(spoken.values()), modes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=25, help="sentences in each mode and voice")
    parser.add_argument("--quantize", nargs="+", default=[], metavar="BITS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    # The clips are shorter than users' should be.
    logging.getLogger("mlx_voxcpm2").setLevel(logging.ERROR)
    held_out, found = HeldOut(arguments.folder), {}
    for bits in [None, *arguments.quantize]:
        model = load_model(arguments.checkpoint, "float32", quantize=bits)
        rows = evaluate(partial(measures.speak, model), held_out, arguments.count)
        found[bits or "float32"] = rows
        print(f"\n{bits or 'float32'}, {arguments.count} sentences each:\n")
        print(measures.table(rows), flush=True)
    if arguments.json:
        rows = {name: [vars(row) for row in each] for name, each in found.items()}
        arguments.json.write_text(json.dumps(rows, indent=1, default=float) + "\n")
    raise SystemExit(not all(row.is_met for rows in found.values() for row in rows))


if __name__ == "__main__":
    main()
