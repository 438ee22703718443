"""Helpers of the tests of training runs: clips with a manifest, the command, its log."""

import json
from pathlib import Path

import checkpoints
import numpy as np
import pytest

from mlx_voxcpm2.commands import train
from mlx_voxcpm2.training import run_folder

# Small, with everything on that a run must repeat: dropout, both orders of an epoch, validation.
SETTINGS = """
lora: {r: 4, alpha: 8, dropout: 0.2, enable_proj: true}
learning_rate: 1e-3
max_steps: 6
grad_accum_steps: 2
warmup_steps: 2
log_interval: 1
save_interval: 2
validation_split: 0.2
valid_interval: 3
precision: float32
"""


def write_data(folder: Path) -> Path:
    """Write five clips of less than half a second, two with a reference; returns their manifest."""
    random, lines = np.random.default_rng(0), []
    for number, text in enumerate(("One.", "Two of", "Number three.", "4", "Five, at last.")):
        samples = (0.3 * random.standard_normal(5000 + 600 * number)).astype(np.float32)
        checkpoints.write_wav(folder / f"{number}.wav", samples, 16000)
        line = {"audio": f"{number}.wav", "text": text}
        lines.append(line | ({"ref_audio": f"{number - 1}.wav"} if number % 2 else {}))
    manifest = folder / "data.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    (folder / "train.yaml").write_text(SETTINGS)
    return manifest


def arguments(model: Path, data: Path, output: Path, *flags: str) -> list[str]:
    """Arguments of the command for a model, a manifest and an output folder."""
    config = data.with_name("train.yaml")
    paths = {"model": model, "train": data, "output": output, "config": config}
    return [word for name in paths for word in (f"--{name}", str(paths[name]))] + list(flags)


def run(*arguments: str, draws: bool = False) -> int:
    """Run the command in this process; returns its exit status.

    draws: whether the plot is drawn at each checkpoint, which takes longer than the checkpoint.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not draws:
            patch.setattr(run_folder, "draw_plot", lambda rows: bytes(len(rows)))
        try:
            return train.main(list(arguments), prog="train")
        except SystemExit as end:
            return end.code


def losses(output: Path) -> list[dict]:
    """Rows of the log, without the seconds."""
    rows = [json.loads(line) for line in (output / "losses.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]
