"""Which custom kernels a loaded model uses."""

from __future__ import annotations

import logging
import os

import mlx.core as mx

from ..activity import activity
from ..errors import one_line
from ..layers import device
from ..layers.custom.few_rows import FewRows
from ..layers.custom.kernel import CHOICES, Operation
from ..models.voxcpm2.flow import Schedule
from ..models.voxcpm2.network import VoxCPM2Model
from .trial import Trial, Verdict
from .verdicts import Verdicts

logger = logging.getLogger("mlx_voxcpm2")

SWITCH = "MLX_VOXCPM2_KERNELS"
"""Environment variable: 0, off, no or false for no custom kernels."""

# Numbers of texts at once. Most kernels are the same for all, and have only to be timed; those of
# products are compiled for a number of rows, which in a batch are soon too many for them.
_BATCHES = (1, 2, 4, 8, 16)


def are_switched_off() -> bool:
    """Whether the user wants no custom kernels."""
    return os.environ.get(SWITCH, "").strip().lower() in ("0", "off", "no", "false")


def prove(model: VoxCPM2Model, trial: Trial | None = None) -> None:
    """Tries the model's operations where no verdict is known, and has the winners used.

    On a CPU there are no custom kernels. Compiles every variant at the first load on a machine. The
    kernels are optional: if something fails here, the plain graph is used.
    """
    if device.on_cpu():  # where none is asked for; a model on the GPU keeps its own
        return
    if are_switched_off():
        # Choices are the process's, not a model's: those of a model loaded before end, too.
        CHOICES.variants.clear()
        return
    try:
        _prove(model, trial or Trial())
    except Exception as error:
        logger.info("custom kernels could not be tried: %s", one_line(error))


def _prove(model: VoxCPM2Model, trial: Trial) -> None:
    known = Verdicts()
    faults: dict[str, str] = {}
    used = 0
    operations = sorted(operations_of(model), key=repr)
    with activity("trying kernels on this GPU, once"):
        for operation in operations:
            verdict = _known(trial, known, operation) or _try(trial, known, operation)
            if verdict.variant is not None:
                CHOICES.variants[operation] = verdict.variant
                used += 1
            elif verdict.fault:
                faults.setdefault(operation.kernel.name, verdict.fault)
    mx.clear_cache()  # of the trials' memory
    known.save()
    logger.info("custom kernels: used for %d of %d operations", used, len(operations))
    for name, fault in faults.items():
        logger.info("custom kernel %s is not used where it fails: %s", name, fault)


def _known(trial: Trial, known: Verdicts, operation: Operation) -> Verdict | None:
    """The verdict of an earlier trial, None if there has to be another one."""
    verdict = known.find(operation)
    if verdict is None or verdict.variant is None or operation in CHOICES.variants:
        return verdict
    return verdict if trial.runs(operation, verdict.variant) else None


def _try(trial: Trial, known: Verdicts, operation: Operation) -> Verdict:
    verdict = trial.verdict(operation)
    known.add(operation, verdict)
    return verdict


def operations_of(model: VoxCPM2Model) -> set[Operation]:
    """Operations of a patch for which there are kernels; nothing is computed."""
    found: set[Operation] = set()
    for texts in _BATCHES:
        before, CHOICES.noted = CHOICES.noted, set()
        try:
            _build_patch(model, texts)
            noted = CHOICES.noted
        finally:
            CHOICES.noted = before
            for part in (model.feat_encoder, model.feat_decoder, model.audio_vae):
                part.compiled.clear()  # traces without the kernels
        found |= {each for each in noted if texts == 1 or not isinstance(each, FewRows)}
    return found


def _build_patch(model: VoxCPM2Model, texts: int) -> None:
    """The graph of a patch after the first one, for so many texts."""
    patch_size, latents = model.config.patch_size, model.config.feat_dim
    patch = mx.zeros((texts, patch_size, latents), dtype=model.dtype)
    schedule = Schedule.of("euler", 5, reuses_guidance=True)  # steps with and without guidance
    hidden, residual = model(model.embed_patches(patch[:, None]), cache=model.make_cache())
    times = model.feat_decoder.time_tokens(schedule)
    state = hidden[:, -1], residual[:, -1]
    patch = model.sample_patch(*state, patch, patch, schedule, times, cfg_value=2.0)
    stream = model.audio_vae.make_cache()
    for _ in range(2):
        model.audio_vae.decode(patch, cache=stream)
