"""What does quantising a checkpoint cost: which errors, for how many bytes?

    python benchmarks/quantisation.py SOURCE CHECKPOINT... [--texts FILE] [--patches 16]
        [--asr MODEL] [--ref_audio CLIP] [--sensitivity BITS] [--json FILE]

Compares checkpoints (this package's or mlx-audio's) with the 16-bit one that they were made from,
one after another. A recipe of `mlx_voxcpm2.convert` such as 4bit is applied to SOURCE in memory.
All are fed the patches that SOURCE speaks, and the same noise (see forced_pass.py); `free running`
is what they speak by themselves from that noise. Errors are relative, root mean square. The first
row is SOURCE computed in its own precision, which tells how much rounding alone does; all others
are computed in float32.

--sensitivity quantises one group of layers after another of SOURCE, all others left as they are.
--asr adds word error rate, by one of mlx-audio's recognisers, and the likeness of the voice, by its
ECAPA-TDNN: to CLIP, which is then cloned, or else to what SOURCE speaks. For those install
`mlx-audio jiwer` beside this package. FILE has one text per line.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forced_pass
from quantisation_report import BY_PATCH, markdown
from speech_quality import SpeechJudge

from mlx_voxcpm2 import VoxCPM2, __version__, load_model
from mlx_voxcpm2.commands.shell import Parser, flag, run
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.weights.checkpoint import read_checkpoint
from mlx_voxcpm2.weights.hub import find_checkpoint
from mlx_voxcpm2.weights.precision import Precision
from mlx_voxcpm2.weights.recipes import MODE_RECIPES, RECIPES

import mlx.core as mx  # isort: skip
import numpy as np  # isort: skip

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and then the dog gets up.",
    "Please call me back before nine o'clock on Thursday, the fourteenth of March.",
    "She asked whether six thin thistles would survive such a harsh winter.",
]


class Comparison:
    """Keeps what the source gives for each text, so that its weights need not stay in memory."""

    def __init__(self, source: VoxCPM2, texts: list[str], count: int, options: GenerationOptions):
        self.options, self.shapes = options, forced_pass.shapes(source)
        self.is_random = forced_pass.is_random(source)
        shape = count, source.config.patch_size, source.config.feat_dim
        self.forced, self.expected = [], []
        with forced_pass.float32(source):
            for index, text in enumerate(texts):
                noise = np.random.RandomState(index).standard_normal(shape).astype(np.float32)
                # A stop of random weights means nothing.
                patches = forced_pass.speak(source, text, noise, options, not self.is_random)
                words = source.tokenize(text)
                self.forced.append(forced_pass.Forced(text, words, patches, noise[: len(patches)]))
                outputs = forced_pass.module_outputs(source, self.forced[-1], options)
                self.expected.append(outputs | {"free running": patches})

    def outputs(self, model: VoxCPM2) -> list[dict]:
        """By text and module, fed the source's patches; errors add up from module to module."""
        return [forced_pass.module_outputs(model, x, self.options) for x in self.forced]

    def error(self, found: list[dict], name: str, part: slice = slice(None)) -> float:
        return forced_pass.relative_error(
            [outputs[name][part] for outputs in found],
            [outputs[name][part] for outputs in self.expected],
        )

    def flips(self, found: list[dict]) -> int:
        """Stop decisions that are not the source's."""
        pairs = zip(found, self.expected, strict=True)
        return int(sum(np.sum((a["stop margin"] > 0) != (b["stop margin"] > 0)) for a, b in pairs))

    def changed_codes(self, found: list[dict]) -> float:
        """The share of FSQ's codes that are not the source's."""
        pairs = zip(found, self.expected, strict=True)
        return float(np.mean([np.mean(a["FSQ codes"] != b["FSQ codes"]) for a, b in pairs]))

    def measure(self, model: VoxCPM2) -> dict:
        """Errors of a checkpoint by module, over all patches and by patch."""
        if forced_pass.shapes(model) != self.shapes:
            raise ValueError("its layers have other sizes than SOURCE's; give one made from it")
        given = zip(self.forced, self.expected, strict=True)
        alone = [forced_pass.module_outputs(model, x, self.options, y) for x, y in given]
        together = self.outputs(model)
        for forced, outputs in zip(self.forced, together, strict=True):
            speech = forced_pass.speak(model, forced.text, forced.noise, self.options)
            outputs["free running"] = speech
        patches = range(max(len(forced.patches) for forced in self.forced))
        return {
            "errors": {key: self.error(together, name) for key, name in BY_PATCH.items()},
            "by_patch": {
                key: [self.error(together, name, slice(i, i + 1)) for i in patches]
                for key, name in BY_PATCH.items()
            },
            "modules": {
                name: {"alone": self.error(alone, name), "together": self.error(together, name)}
                for name in alone[0]
                if name != "FSQ codes"
            },
            "stop_flips": self.flips(together),
            "stop_decisions": sum(len(forced.patches) for forced in self.forced),
            "codes_changed": self.changed_codes(together),
        }

    def sensitivity(self, source: VoxCPM2, bits: int, group_size: int = 64) -> Iterator[dict]:
        """Errors while one group of layers after another is quantised, and the bytes that saves."""
        settings = {"bits": bits, "group_size": group_size, "mode": "affine"}
        steps = self.options.inference_timesteps
        whole, per_patch = (
            forced_pass.weight_bytes(source),
            forced_pass.bytes_per_patch(source, steps),
        )
        for group in forced_pass.GROUPS:
            with forced_pass.quantised(source, forced_pass.group_alone(group, settings)):
                found = self.outputs(source)
                yield {
                    "group": group,
                    "errors": {
                        key: self.error(found, name)
                        for key, name in BY_PATCH.items()
                        if key != "free_running"
                    },
                    "codes_changed": self.changed_codes(found),
                    "megabytes_saved": (whole - forced_pass.weight_bytes(source)) / 1e6,
                    "megabytes_saved_per_patch": (
                        per_patch - forced_pass.bytes_per_patch(source, steps)
                    )
                    / 1e6,
                }
            mx.clear_cache()


def bytes_on_disk(path: str) -> int:
    kinds = {".safetensors", ".pth", ".bin"}
    return sum(f.stat().st_size for f in find_checkpoint(path).iterdir() if f.suffix in kinds)


def load(name: str, source: str) -> tuple[VoxCPM2, int]:
    """A checkpoint, or the source quantised by a recipe; and the bytes that its weights take.

    Computed in the type that it is stored in, as on a GPU, on a CPU too.
    """
    if name in {*RECIPES, *MODE_RECIPES} and not Path(name).exists():
        model = load_model(source, "bfloat16", quantize=name)
        return model, forced_pass.weight_bytes(model)
    stored = read_checkpoint(find_checkpoint(name), Precision())
    return load_model(name, stored.dtype), bytes_on_disk(name)


def read_texts(path: str | None) -> list[str]:
    lines = TEXTS if path is None else Path(path).read_text(encoding="utf-8").splitlines()
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ValueError(f"{path} is empty; it must have a text per line")
    return texts


def compare(args: argparse.Namespace) -> dict:
    """The whole report, but for its tables."""
    texts, steps, start = read_texts(args.texts), args.inference_timesteps, time.perf_counter()
    options = GenerationOptions(args.cfg_value, steps, seed=0)
    judge = SpeechJudge.from_mlx_audio(args.asr, texts, args.ref_audio) if args.asr else None

    def say(what: str) -> None:
        print(f"{time.perf_counter() - start:5.0f} s  {what}", file=sys.stderr)

    def entry(name: str, model: VoxCPM2, size: int, errors: dict) -> dict:
        return {
            "name": name,
            "gigabytes": size / 1e9,
            "gigabytes_per_patch": forced_pass.bytes_per_patch(model, steps) / 1e9,
            **errors,
            "speech": judge and judge(model),
        }

    say(f"{args.source} speaks")
    source, size = load(args.source, args.source)
    comparison = Comparison(source, texts, args.patches, options)
    precision = str(source.dtype).split(".")[-1]
    say(f"and again, in {precision}")
    name = f"{Path(args.source).name}, computed in {precision}"
    entries = [entry(name, source, size, comparison.measure(source))]
    groups = []
    if args.sensitivity:
        with forced_pass.float32(source):
            for group in comparison.sensitivity(source, args.sensitivity):
                say(f"{group['group']} quantised alone")
                groups.append(group)
    del source
    for path in args.checkpoints:
        mx.clear_cache()
        say(path)
        model, size = load(path, args.source)
        try:
            with forced_pass.float32(model):
                errors = comparison.measure(model)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        entries.append(entry(Path(path).name, model, size, errors))
        del model
    return circumstances(args) | {
        "random_weights": comparison.is_random,
        "texts": len(texts),
        "patches": entries[0]["stop_decisions"],
        "checkpoints": entries,
        "sensitivity": {"bits": args.sensitivity, "groups": groups} if groups else None,
    }


def circumstances(args: argparse.Namespace) -> dict:
    versions = {"mlx_voxcpm2": __version__, "mlx": mx.__version__}
    return {
        "command": shlex.join(["python", *sys.argv]),
        "versions": versions | {"python": platform.python_version()},
        "device": f"{mx.default_device()}, {platform.platform()}",
        "source": args.source,
        "inference_timesteps": args.inference_timesteps,
        "cfg_value": args.cfg_value,
    }


def report(args: argparse.Namespace) -> None:
    if args.patches < 2:
        raise ValueError(f"--patches is {args.patches}; it must be at least 2")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise FileNotFoundError(f"{Path(args.json).parent}: no such folder; create it first")
    found = compare(args)
    found["markdown"] = markdown(found)
    print(found["markdown"])
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="quantisation.py", description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("checkpoints", metavar="CHECKPOINT", nargs="*", help="or a recipe")
    flag(parser, "texts", metavar="FILE", help="a text per line")
    flag(parser, "patches", type=int, default=16, help="of 160 ms, at most, per text (16)")
    flag(parser, "cfg_value", type=float, default=2.0)
    flag(parser, "inference_timesteps", type=int, default=10)
    flag(parser, "sensitivity", type=int, choices=(2, 3, 4, 5, 6, 8), metavar="BITS")
    flag(parser, "asr", metavar="MODEL", help="a recogniser that mlx-audio loads")
    flag(parser, "ref_audio", metavar="CLIP", help="the voice to clone, with --asr")
    flag(parser, "json", metavar="FILE")
    return run(parser, report, argv)


if __name__ == "__main__":
    sys.exit(main())
