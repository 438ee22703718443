"""Build the demo voice from nothing: its data, its AudioVAE, its training, its files, its marks.

  python benchmarks/demo_voice/build.py FOLDER --official PYTHON

Needs espeak-ng, pyworld, the extra `train`, and a PYTHON that has torch and voxcpm 2.0.3 for the
AudioVAE. What is finished in FOLDER is not done again: a killed build goes on where it was. The
result replaces mlx_voxcpm2/demo, and is measured by evaluate.py.

One run from nothing, interrupted twice, took two hours on two cores of a server's CPU (Zen 4): 24
minutes for the AudioVAE, 12 for words, 20 for phrases, 12 for reading, 51 for sequences. Of 50
sequences in each mode that voice said 98.6 % of the words right in zero-shot, 93.2 % from a
reference, 94.6 % in continuation and 96.9 % by design; its voices and its ends were all right.

The voice in the package was made by the same steps, but not in one run, and is a little better
(docs/benchmarks.md). Its AudioVAE had learnt from gliding sentences in five voices before: 2,800
steps, and 8,000 of the decoder; then 3,000 steps from this corpus, and 9,000 of the decoder. Its
sequences, with references of two to four words, were learnt in two runs, of 1,400 steps and, once
single words had four patches, of 2,600. On the same two cores that took some five hours.
"""

from __future__ import annotations

from mlx_voxcpm2.weights.torch_file import load_torch_file  # before MLX  # isort: skip

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
from corpus import STAGES, write_corpus
from speech import CHINESE_DIGITS, DIGITS, SPEAKERS, WORDS
from untrained import write_untrained

HERE = Path(__file__).parent
STEPS = {
    "words": "--max_steps 1600 --batch_size 64 --learning_rate 0.0015",
    "phrases": "--max_steps 1500 --batch_size 40 --learning_rate 0.001",
    "sequences": "--max_steps 4000 --batch_size 24 --learning_rate 0.0004",
}
DEMO = HERE.parent.parent / "mlx_voxcpm2" / "demo"


def start(*command: str | Path, threads: int = 1) -> subprocess.Popen:
    """With one thread, since most of so small a network's work can't use two. And without giving
    memory back to the system at each step, which takes as long as the work."""
    keep = {"MALLOC_MMAP_THRESHOLD_": str(2**31 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
    few = {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen([str(word) for word in command], env=os.environ | keep | few)


def wait(process: subprocess.Popen) -> None:
    """Raises CalledProcessError if it fails."""
    try:
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)
    finally:
        process.kill()


def learn(folder: Path, official: str) -> None:
    """The AudioVAE's decoder goes on learning from the same latents while the rest learns them."""
    tuning = start(
        official,
        HERE / "train_vae.py",
        folder / "vae.npz",
        folder / "decoder.pth",
        "--decoder_of",
        folder / "vae.pth",
        "--steps",
        "9000",
        "--rate",
        "0.001",
    )
    try:
        model = folder / "untrained"
        for stage in STAGES:
            if stage == STAGES[-1]:
                model = pretrained(folder, model)
            model = trained(folder, model, stage)
        wait(tuning)
    finally:
        tuning.kill()


def trained(folder: Path, model: Path, stage: str) -> Path:
    made = folder / f"after_{stage}"
    if not made.exists():
        wait(
            start(
                sys.executable,
                "-m",
                "mlx_voxcpm2.train",
                "--full",
                "--model",
                model,
                "--train",
                folder / f"{stage}.jsonl",
                "--validation",
                folder / f"{stage}_validation.jsonl",
                "--output",
                folder / stage,
                "--config",
                HERE / "train.yaml",
                *STEPS[stage].split(),
            )
        )
        shutil.copytree(folder / stage / "latest", made)
    return made


def pretrained(folder: Path, model: Path) -> Path:
    """Sequences need a language model that reads: see pretrain.py."""
    made = folder / "pretrained"
    if not made.exists():
        wait(
            start(
                sys.executable,
                HERE / "pretrain.py",
                model,
                made,
                folder / "sequences.jsonl",
                "--latents",
                folder / STAGES[-1] / "latents",
            )
        )
    return made


def export(folder: Path, demo: Path) -> None:
    """The last checkpoint at 16 bits with the last decoder, in upstream's layout, and the words
    and descriptions that it knows."""
    learnt, new = folder / f"after_{STAGES[-1]}", demo.with_name("demo.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(learnt / name, new)
    weights = mx.load(str(learnt / "model.safetensors"))
    halves = {name: value.astype(mx.float16) for name, value in weights.items()}
    mx.save_safetensors(str(new / "model.safetensors"), halves)
    mx.save_safetensors(str(new / "audiovae.safetensors"), load_torch_file(folder / "decoder.pth"))
    lines = [" ".join(DIGITS), " ".join(WORDS), " ".join(CHINESE_DIGITS)]
    (new / "words.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    described = [speaker.description for speaker in SPEAKERS.values()]
    (new / "descriptions.txt").write_text("\n".join(described) + "\n", encoding="utf-8")
    shutil.rmtree(demo, ignore_errors=True)
    new.rename(demo)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--official", required=True, metavar="PYTHON")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.time()
    if not (folder / "vae.npz").exists():
        write_corpus(folder)
    if not (folder / "vae.pth").exists():
        vae = (HERE / "train_vae.py", folder / "vae.npz", folder / "vae.pth")
        wait(start(args.official, *vae, threads=2))
    if not (folder / "untrained").exists():
        write_untrained(folder / "untrained", folder / "vae.pth")
    learn(folder, args.official)
    export(folder, DEMO)
    print(f"built in {(time.time() - began) / 60:.0f} minutes", flush=True)
    wait(
        start(
            sys.executable,
            HERE / "evaluate.py",
            "demo",
            "--exclude",
            folder / "sequences.jsonl",
            "--quantize",
            "8bit",
            "4bit",
        )
    )


if __name__ == "__main__":
    main()
