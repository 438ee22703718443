"""Build the demo voice from nothing: its data, its AudioVAE, its training, its files, its marks.

  python benchmarks/demo_voice/build.py FOLDER --official PYTHON [--processes N]

Needs espeak-ng, and a PYTHON that has torch and voxcpm 2.0.3 for the AudioVAE. What a stage has
finished in FOLDER is not done again, so a killed build goes on where it was. The result replaces
mlx_voxcpm2/demo, and is measured by evaluate.py.
"""

from __future__ import annotations

from mlx_voxcpm2.convert import convert  # before MLX  # isort: skip

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from corpus import write_corpus
from speech import CHINESE_DIGITS, DIGITS, WORDS
from untrained import write_untrained

HERE = Path(__file__).parent
DEMO = HERE.parent.parent / "mlx_voxcpm2" / "demo"


def run(*command: str | Path, environments: list[dict] | None = None) -> None:
    """Once for each environment, side by side; raises CalledProcessError if one fails."""
    words = [str(word) for word in command]
    running = [subprocess.Popen(words, env=os.environ | more) for more in environments or [{}]]
    try:
        for process in running:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, words)
    finally:
        for process in running:
            process.kill()


def train(folder: Path, processes: int) -> None:
    """Processes of one thread each: most of a small network's work can't use two."""
    addresses = [[f"127.0.0.1:{32500 + rank}"] for rank in range(processes)]
    (folder / "hosts.json").write_text(json.dumps(addresses))
    one = {"OPENBLAS_NUM_THREADS": "1"}
    several = {**one, "MLX_HOSTFILE": str(folder / "hosts.json")}
    run(
        sys.executable, "-m", "mlx_voxcpm2.train", "--full", "--model", folder / "untrained",
        "--train", folder / "train.jsonl", "--validation", folder / "validation.jsonl",
        "--output", folder / "run", "--config", HERE / "train.yaml",
        environments=[{**several, "MLX_RANK": str(rank)} for rank in range(processes)]
        if processes > 1 else [one],
    )  # fmt: skip


def export(folder: Path) -> None:
    """The last checkpoint at 16 bits, and the words it knows, into the package."""
    convert(folder / "run" / "latest", DEMO, "bfloat16", layout="mlx-voxcpm2", overwrite=True)
    lines = [" ".join(DIGITS), " ".join(WORDS), " ".join(CHINESE_DIGITS)]
    (DEMO / "words.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--official", required=True, metavar="PYTHON")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.time()
    if not (folder / "vae.npz").exists():
        write_corpus(folder)
    if not (folder / "vae.pth").exists():
        run(args.official, HERE / "train_vae.py", folder / "vae.npz", folder / "vae.pth")
    if not (folder / "untrained").exists():
        write_untrained(folder / "untrained", folder / "vae.pth")
    train(folder, args.processes)
    export(folder)
    print(f"built in {(time.time() - began) / 60:.0f} minutes", flush=True)
    run(sys.executable, HERE / "evaluate.py", "demo", "--exclude", folder / "train.jsonl",
        "--quantize", "8bit", "4bit")  # fmt: skip


if __name__ == "__main__":
    main()
