"""Measures how well a checkpoint's English is understood. Exit status 1 above the limits.

  python benchmarks/demo_voice/evaluate_speech.py CHECKPOINT [--count N] [--quantize 8bit 4bit]
      [--solvers adams fast] [--together 6] [--teacher] [--json FILE]

Word error rates of Whisper tiny.en on the held-out sentences, of known words and with unknown ones;
a sentence's errors count at most as its number of words. --together also measures texts of that
many sentences, split as long texts are by default. --teacher also measures the teacher, and
espeak-ng if it is installed. Sentences, seeds and noise are the same each time.
"""

from __future__ import annotations

from mlx_voxcpm2 import load_model, speak_long  # before MLX  # isort: skip

import argparse
import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from sentences import held_out
from transcription import transcribe, word_error_rate

from mlx_voxcpm2.speech.options import GenerationOptions

RATE, SEED = 16_000, 50_001
WORST = {"known words": 0.08, "unknown words": 0.15}
SOLVERS = {"adams": {"solver": "adams", "inference_timesteps": 7}, "fast": {"fast": True}}
"""Options with fewer evaluations of the network."""
Speak = Callable[[list[str]], list[np.ndarray]]
"""Function from texts to waveforms at RATE."""


@dataclass(frozen=True)
class Row:
    voice: str
    sentences: str
    word_error_rate: float
    sentences_right: float
    seconds_of_speech: float
    seconds: float


def by_model(checkpoint: str, quantize: str | None = None, **changes: Any) -> Speak:
    """changes: of the default options."""
    model = load_model(checkpoint, "float32", quantize=quantize)
    options = GenerationOptions(seed=SEED, **changes)

    def speak(texts: list[str]) -> list[np.ndarray]:
        results = model.generate_batch(texts, options=options, batch_size=16)
        waveforms = {result.sequence_idx: np.array(result.audio) for result in results}
        return [
            soxr.resample(waveforms[index], model.sample_rate, RATE) for index in range(len(texts))
        ]

    return speak


def by_segments(checkpoint: str) -> Speak:
    """Function that speaks texts in segments of the default length."""
    model = load_model(checkpoint, "float32")

    def speak(texts: list[str]) -> list[np.ndarray]:
        waveforms = []
        for text in texts:
            spoken = speak_long(model, text, seed=SEED, parallel=4)
            whole = np.concatenate([segment.audio for segment in spoken])
            waveforms.append(soxr.resample(whole, model.sample_rate, RATE))
        return waveforms

    return speak


def by_espeak(texts: list[str]) -> list[np.ndarray]:
    waveforms = []
    for text in texts:
        command = ["espeak-ng", "-v", "en-us", "--stdout", text]
        wav = subprocess.run(command, capture_output=True, check=True).stdout
        audio, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
        waveforms.append(soxr.resample(audio, rate, RATE))
    return waveforms


def by_teacher(texts: list[str]) -> list[np.ndarray]:
    from teacher import Teacher

    teacher = Teacher()
    phonemes = [teacher.phonemes(text) for text in texts]
    return [teacher.speak(each, teacher.durations(each)).audio for each in phonemes]


def measure(voice: str, speak: Speak, count: int | None, together: int = 1) -> list[Row]:
    """Rows of both lists of sentences. together: number of sentences in a text."""
    rows = []
    for name, sentences in zip(WORST, held_out(), strict=True):
        sentences, began = sentences[:count], time.perf_counter()
        begins = range(0, len(sentences), together)
        texts = [" ".join(sentences[begin : begin + together]) for begin in begins]
        waveforms = speak(texts)
        spent, length = time.perf_counter() - began, sum(map(len, waveforms)) / RATE
        transcripts = [
            transcribe(text, audio) for text, audio in zip(texts, waveforms, strict=True)
        ]
        right = float(np.mean([not each.errors for each in transcripts]))
        error = word_error_rate(transcripts)
        rows.append(Row(voice, name, error, right, length, spent))
        print(
            f"{voice}, {name}: word error rate {error:.1%}, {right:.0%} of the sentences right, "
            f"{spent / length:.2f} s for a second of speech",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--count", type=int, help="of each list's sentences")
    parser.add_argument("--quantize", nargs="+", default=[], metavar="BITS")
    parser.add_argument("--solvers", nargs="+", default=[], choices=SOLVERS)
    parser.add_argument("--together", type=int, default=1, help="sentences in a text, also")
    parser.add_argument("--teacher", action="store_true", help="also the teacher and espeak-ng")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = measure("float32", by_model(arguments.checkpoint), arguments.count)
    failed = any(row.word_error_rate > WORST[row.sentences] for row in rows)
    for bits in arguments.quantize:
        rows += measure(bits, by_model(arguments.checkpoint, bits), arguments.count)
    for name in arguments.solvers:
        speak = by_model(arguments.checkpoint, **SOLVERS[name])
        rows += measure(name, speak, arguments.count)
    if arguments.together > 1:
        name, speak = f"{arguments.together} sentences", by_segments(arguments.checkpoint)
        rows += measure(name, speak, arguments.count, arguments.together)
    if arguments.teacher:
        rows += measure("teacher", by_teacher, arguments.count)
        if shutil.which("espeak-ng"):
            rows += measure("espeak-ng", by_espeak, arguments.count)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
