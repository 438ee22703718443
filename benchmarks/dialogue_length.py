"""Seconds of computing and memory per frame along ten minutes of a dialogue, on a tiny model.

    python benchmarks/dialogue_length.py [--frames 4500] [--block 500]

The model is of random weights and made to ask for frame after frame. Printed are, for each block of
frames, the processor's milliseconds per frame, the memory in use, and how much of it the caches of
keys and values have.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

from mlx_voxcpm2 import vibevoice  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.vibevoice.generation import embed_prompt
from mlx_voxcpm2.vibevoice.steps import Batch, Row

import mlx.core as mx  # isort: skip

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import vibevoice_configs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=4500)
    parser.add_argument("--block", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = vibevoice_configs.write_checkpoint(Path(scratch), "wide")
        data = json.loads((folder / "config.json").read_text())
        data["decoder_config"]["max_position_embeddings"] = args.frames + 1000
        (folder / "config.json").write_text(json.dumps(data))
        model = vibevoice.load(folder, dtype="float32")
    ids = model.prompt("Speaker 1: A long story.")
    x = embed_prompt(model, model.legal, ids, [])
    noise = itertools.repeat(mx.zeros((7,)))
    batch = Batch(
        model, model.legal, [Row(0, ids, x, noise, args.frames)], vibevoice.Solver(2), 1.3
    )
    for start in range(0, args.frames, args.block):
        begin = time.process_time()
        for _ in range(args.block):
            ((_, step),) = batch.step(lambda _: model.legal.frame)
            if step.finish_reason is None:
                batch.submit(step.audio)
        mx.eval(step.audio)
        spent = 1000 * (time.process_time() - begin) / args.block
        cache = sum(layer.keys.nbytes + layer.values.nbytes for layer in batch._cache)
        memory = mx.get_active_memory()
        print(
            f"frames {start:5}-{start + args.block:5}: {spent:6.2f} ms, "
            f"{memory / 1e6:.2f} MB, {cache / 1e6:.2f} MB of it caches",
            flush=True,
        )


if __name__ == "__main__":
    main()
