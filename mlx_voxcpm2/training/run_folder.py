"""The folder of a training run: checkpoints, the log of losses and their plot, samples.

settings.json           what the run was begun with
losses.jsonl            a line per logged step
loss.png                both losses
step_0000100/           as upstream names them; written whole or not at all
latest -> step_0000100
samples/step_0000100/   what the model said then
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from ..errors import one_line
from .trainer import Step, Trainer


class RunFolder:
    """Raises OSError or ValueError, in one line, for a folder that can't be used."""

    def __init__(self, path: str | os.PathLike, settings: dict, writes: bool = True):
        """settings: JSON of all that decides what the run does; a begun run needs the same.

        writes: whether this process is the one that writes here.
        """
        self.path = Path(os.path.realpath(os.path.expanduser(path)))
        self.settings = settings
        if not writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"{self.path}: can't be made ({one_line(error)}); choose another --output"
            ) from None
        self._begin()

    def _begin(self) -> None:
        file = self.path / "settings.json"
        if not file.exists():
            if any(entry for entry in self.path.iterdir() if not entry.name.startswith(".")):
                raise ValueError(
                    f"{self.path} holds other things than a training run; choose another --output"
                )
            self._write(file, json.dumps(self.settings, indent=2, ensure_ascii=False) + "\n")
            return
        try:
            begun = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            begun = {}
        names = sorted(begun.keys() | self.settings.keys())
        changed = [name for name in names if begun.get(name) != self.settings.get(name)]
        if changed:
            was, now = begun.get(changed[0]), self.settings.get(changed[0])
            raise ValueError(
                f"{self.path}: a run with other settings was begun here ({changed[0]} was {was!r}, "
                f"now {now!r}); use the same ones to go on, or choose another --output"
            )

    @property
    def latest(self) -> Path | None:
        """The newest checkpoint."""
        steps = sorted(path for path in self.path.glob("step_*") if path.is_dir())
        return steps[-1] if steps else None

    def save(self, trainer: Trainer, write_weights: Callable[[Path], None], keep: int) -> None:
        """A checkpoint of this step; older ones go, but for `keep` (0 keeps all).

        write_weights makes the folder that it is given.
        """
        name = f"step_{trainer.step:07d}"
        unfinished = Path(tempfile.mkdtemp(dir=self.path, prefix=f".{name}."))
        try:
            checkpoint = unfinished / name
            write_weights(checkpoint)
            mx.save_safetensors(str(checkpoint / "optimizer.safetensors"), trainer.state)
            self._write(checkpoint / "training_state.json", json.dumps({"step": trainer.step}))
            shutil.rmtree(self.path / name, ignore_errors=True)
            checkpoint.rename(self.path / name)
        except OSError as error:
            raise OSError(
                f"{self.path}: checkpoint {name} can't be written ({one_line(error)}); make room, "
                "and run the same command again"
            ) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        link = self.path / ".latest"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        link.replace(self.path / "latest")
        for old in sorted(self.path.glob("step_*"))[: -keep or None] if keep else []:
            shutil.rmtree(old, ignore_errors=True)

    def resume(self, trainer: Trainer, writes: bool = True) -> None:
        """Goes on behind the newest checkpoint, whose weights the trainer's model has."""
        state = json.loads((self.latest / "training_state.json").read_text())
        trainer.resume(state["step"], mx.load(str(self.latest / "optimizer.safetensors")))
        if not writes:
            return
        kept = [row for row in self.losses() if row["step"] <= trainer.step]
        self._write(self._log, "".join(json.dumps(row) + "\n" for row in kept))

    @property
    def _log(self) -> Path:
        return self.path / "losses.jsonl"

    def log(self, step: Step, validation: tuple[float, float] | None, seconds: float) -> None:
        row = {
            "step": step.number, "loss/diff": step.diff, "loss/stop": step.stop,
            "grad_norm": step.grad_norm, "lr": step.learning_rate, "patches": step.targets,
            "seconds": round(seconds, 3),
        }  # fmt: skip
        if validation is not None:
            row |= {"valid/diff": validation[0], "valid/stop": validation[1]}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def losses(self) -> list[dict]:
        """The log; a line that a kill cut short is left out."""
        rows = []
        if self._log.exists():
            for line in self._log.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    continue
        return rows

    def plot(self) -> None:
        """loss.png, from the log."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        rows = self.losses()
        figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
        for axis, name, title in zip(
            axes, ("diff", "stop"), ("velocity", "stop head"), strict=True
        ):  # fmt: skip
            for kind, label in (("loss", "training"), ("valid", "validation")):
                key = f"{kind}/{name}"
                points = [(row["step"], row[key]) for row in rows if key in row]
                if points:
                    axis.plot(*zip(*points, strict=True), label=label)
            axis.set(title=title, xlabel="step", ylabel="loss", yscale="log")
            axis.legend()
        figure.savefig(self.path / ".loss.png", dpi=100)
        pyplot.close(figure)
        (self.path / ".loss.png").replace(self.path / "loss.png")

    @staticmethod
    def _write(file: Path, text: str) -> None:
        unfinished = file.with_name(f".{file.name}")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
