"""Folder of a training run: checkpoints, the log of losses and their plot, samples.

settings.json           settings with which the run was started
losses.jsonl            one line per step
loss.png                plot of the losses and of the learning rate
step_0000100/           checkpoint, as upstream names it; written atomically
latest -> step_0000100
latents/                latents of the clips, see latents.py
samples/step_0000100/   speech after that step
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from ..documents import read_json
from ..errors import one_line
from ..file_names import check_file_name
from ..files import (
    atomic_folder,
    atomic_write,
    check_writable,
    discard_folder,
    remove_leftovers,
    sync_file,
    sync_folder,
)
from ..schema import check_integer
from ..weights.files import read_file
from .loss_plot import draw_plot
from .trainer import Step, Trainer

_OPTIMIZER, _STATE = "optimizer.safetensors", "training_state.json"
_SETTINGS = "settings.json"


def latest_checkpoint(path: str | os.PathLike) -> Path | None:
    """The newest checkpoint in a run's folder, if there is one."""
    states = Path(os.path.expanduser(path)).glob(f"step_*/{_STATE}")
    return max((file.parent for file in states), default=None)


def check_run_folder(path: str | os.PathLike) -> None:
    """Raise ValueError or OSError, in one line, for a folder that no run can be written to."""
    folder = _real(path)
    with _advised(folder):
        check_writable(folder / _SETTINGS)
    if folder.is_dir() and not (folder / _SETTINGS).exists():
        _check_empty(folder)


def _real(path: str | os.PathLike) -> Path:
    folder = Path(os.path.realpath(os.path.expanduser(path)))
    check_file_name(folder)
    return folder


@contextmanager
def _advised(folder: Path) -> Iterator[None]:
    """Adds to the system's errors what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{folder}: no run can be written here ({one_line(error)}); choose another --output"
        ) from None


def _check_empty(folder: Path) -> None:
    if any(entry for entry in folder.iterdir() if not entry.name.startswith(".")):
        raise ValueError(
            f"{folder} holds other things than a training run; choose another --output"
        )


class RunFolder:
    """Folder of a run, locked for this process until `close`.

    settings: `TrainingSettings.resume_key`, and "weights", the fingerprint of the model's.

    Raises OSError or ValueError, in one line, for a folder that can't be used.
    """

    def __init__(self, path: str | os.PathLike, settings: dict):
        self.path = _real(path)
        self._log = self.path / "losses.jsonl"
        with _advised(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{self.path}: a run is under way here; wait for it, or choose another --output"
            ) from None
        except OSError:
            pass  # a file system that has no locks
        file = self.path / _SETTINGS
        if file.exists():
            self._compare(file, settings)
        else:
            self._start(file, settings)
        remove_leftovers(self.path)  # by a killed run
        self._link_latest()

    def close(self) -> None:
        self._lock.close()

    def _start(self, file: Path, settings: dict) -> None:
        _check_empty(self.path)
        _write(file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")

    def _compare(self, file: Path, settings: dict) -> None:
        try:
            started = dict(read_json(file, "choose another --output"))
        except (ValueError, TypeError):
            raise ValueError(f"{file}: damaged; choose another --output") from None
        settings = json.loads(json.dumps(settings))
        weights = started.get("weights", settings["weights"]), settings["weights"]
        if weights[0] != weights[1]:
            raise ValueError(
                f"{self.path}: the run here was started from other weights than those of "
                f"{settings['model']}; take the same, or choose another --output"
            )
        # The weights decide, wherever their folder lies.
        places = {"weights", "model", "revision"} if "weights" in started else {"weights"}
        for name in sorted((started.keys() | settings.keys()) - places):
            before, now = started.get(name), settings.get(name)
            if before != now:
                raise ValueError(
                    f"{self.path}: the run here was started with {name} {before!r}, not {now!r}; "
                    "resume it with that, or choose another --output"
                )

    @property
    def latest(self) -> Path | None:
        """The newest checkpoint."""
        return latest_checkpoint(self.path)

    def save(self, trainer: Trainer, write_weights: Callable[[Path], None], keep: int) -> None:
        """Saves a checkpoint of this step, and deletes all but the `keep` latest (0 keeps all).

        Older ones lose the optimizer's state, which is twice as large as the trained weights.
        """
        name = f"step_{trainer.step:07d}"
        try:
            if self._log.exists():
                sync_file(self._log)
            with atomic_folder(self.path / name) as folder:
                write_weights(folder)
                mx.save_safetensors(str(folder / _OPTIMIZER), trainer.state)
                _write(folder / _STATE, json.dumps({"step": trainer.step}))
            self._link_latest()
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"{self.path}: checkpoint {name} can't be written ({one_line(error)}); make room, "
                "and run the same command again"
            ) from None
        self.prune(keep)

    def prune(self, keep: int) -> None:
        """Deletes all but the `keep` latest checkpoints (0 keeps all), and older optimizers."""
        *older, _ = sorted(self.path.glob("step_*")) or [None]
        for number, checkpoint in enumerate(reversed(older), start=1):
            if keep and number >= keep:
                discard_folder(checkpoint)
            else:
                (checkpoint / _OPTIMIZER).unlink(missing_ok=True)

    def _link_latest(self) -> None:
        """Lets `latest` lead to the newest checkpoint; a kill may have come before that."""
        checkpoint, link = self.latest, self.path / "latest"
        if checkpoint is None or (link.is_symlink() and os.readlink(link) == checkpoint.name):
            return
        unfinished = self.path / ".latest"
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(checkpoint.name)
        unfinished.replace(link)
        sync_folder(self.path)

    def resume(self, trainer: Trainer) -> None:
        """Restores step, optimizer and log of the newest checkpoint, if there is one.

        The trainer's model has its weights already.
        """
        checkpoint = self.latest
        if checkpoint is None:
            rows = []
        else:
            try:
                step = read_json(checkpoint / _STATE, "choose another --output")["step"]
                check_integer("step", step, 0, None)
                state = read_file(checkpoint / _OPTIMIZER)[0]
            except (ValueError, TypeError, KeyError, OSError) as error:
                raise ValueError(
                    f"{checkpoint}: can't resume from here ({one_line(error)}); choose another "
                    "--output"
                ) from None
            trainer.resume(step, state)
            rows = [row for row in self.losses() if row["step"] <= step]
        _write(self._log, "".join(json.dumps(row) + "\n" for row in rows))

    def log(self, step: Step, validation: dict[str, float] | None) -> None:
        """Appends a step and the validation's losses to the log."""
        row = {
            "step": step.number,
            **{f"loss/{name}": value for name, value in step.losses.items()},
            "grad_norm": step.grad_norm,
            "lr": step.learning_rate,
            "patches": step.targets,
            "seconds": round(step.seconds, 3),
        }
        if validation is not None:
            row |= {f"valid/{name}": value for name, value in validation.items()}
        try:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise self._full(self._log, error) from None

    def losses(self) -> list[dict]:
        """Rows of the log; a line that a kill has truncated is skipped."""
        rows = []
        if self._log.exists():
            for line in self._log.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    continue
        return rows

    def plot(self) -> None:
        """Writes loss.png from the log."""
        try:
            atomic_write(self.path / "loss.png", draw_plot(self.losses()))
        except OSError as error:
            raise self._full(self.path / "loss.png", error) from None

    def _full(self, file: Path, error: OSError) -> OSError:
        reason = f"can't be written ({one_line(error)}); make room, and run the same command again"
        return type(error)(f"{file}: {reason}")


def _write(file: Path, text: str) -> None:
    atomic_write(file, text.encode("utf-8"))
