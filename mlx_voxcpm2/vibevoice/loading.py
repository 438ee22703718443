"""Load VibeVoice from a folder or a hub repository, in any known layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..activity import activity
from ..documents import read_object
from ..layers import device
from ..models.vibevoice.config import VibeVoiceConfig
from ..models.vibevoice.family import FAMILY
from ..models.vibevoice.solver import MOST_STEPS
from ..schema import check_integer, check_number
from ..weights import adapters
from ..weights.adapter_files import read_adapter_if_given
from ..weights.checkpoint import Checkpoint, load_network, read_checkpoint
from ..weights.hub import find_checkpoint, find_tokenizer
from ..weights.precision import DtypeName, Precision, choose_precision
from .generation import Sampling
from .model import VibeVoice
from .options import CFG_VALUE, STEPS
from .script import Tokenizer

if TYPE_CHECKING:
    import mlx.core as mx

    from ..weights.quantization import Quantization

_TOKENIZERS = ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B")
"""Language models whose tokenizer Microsoft's checkpoints use, which hold none of their own."""

_SCHEDULE: dict[str, object] = {
    "prediction_type": "v_prediction",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
}
"""Of generation_config.json's noise_scheduler_config: what the solver computes."""


def load(
    path_or_repo: str | Path,
    dtype: DtypeName | mx.Dtype | None = None,
    revision: str | None = None,
    quantize: str | Quantization | None = None,
    tokenizer: str | Path | None = None,
    adapter: str | Path | None = None,
    adapter_strength: float | None = None,
) -> VibeVoice:
    """Loads a checkpoint from a folder, or from the Hugging Face hub (which keeps a cache).

    path_or_repo: "microsoft/VibeVoice-1.5B", "vibevoice/VibeVoice-1.5B-hf", their 7B siblings, or
    a converted one.
    dtype: "bfloat16", "float16" or "float32" for all but the codecs, which stay float32; the
    default is bfloat16, for an MLX converter's files their own type. On a CPU the default keeps the
    type of the matrices, which are large, and computes in float32.
    revision: a branch, tag or commit of a hub repository.
    quantize: a recipe ("8bit", "4bit" …, see `recipes.RECIPES`) or a `Quantization`.
    tokenizer: folder, file or hub repository of a tokenizer.json, where the checkpoint has none; by
    default that of the language model that it names.
    adapter, adapter_strength: a LoRA adapter to attach, see `VibeVoice.load_adapter`.

    Raises FileNotFoundError for a missing file and ValueError for an unsuitable or damaged one,
    each with one line that names the file or tensor and says what to do.
    """
    device.free_streams_at_thread_end()
    precision = choose_precision(dtype, quantize)
    stored = read_adapter_if_given(adapter, adapter_strength)
    folder = find_checkpoint(path_or_repo, revision)
    with activity(f"loading {path_or_repo}"):
        checkpoint = read_vibevoice(folder, precision, tokenizer)
        model = load_network(checkpoint, has_free_dtype=dtype is None)
    if stored is not None:
        adapters.attach(model, stored)
    return model


def read_vibevoice(
    folder: Path, precision: Precision, tokenizer: str | Path | None = None
) -> Checkpoint[VibeVoice]:
    """Reads a folder's checkpoint with its tokenizer. Raises the errors of `load`."""

    def build(config: VibeVoiceConfig) -> VibeVoice:
        return VibeVoice(config, Tokenizer(_tokenizer(folder, tokenizer)), _sampling(folder))

    return read_checkpoint(folder, precision, FAMILY, build)


def _tokenizer(folder: Path, given: str | Path | None) -> Path:
    """The file of the tokenizer: the given one, the folder's, or the language model's."""
    if given is not None:
        return find_tokenizer(given)
    file = folder / "tokenizer.json"
    if file.is_file():
        return file
    data = read_object(folder / FAMILY.required_file)
    name = data.get("language_model_pretrained_name", _TOKENIZERS[0])
    if name not in _TOKENIZERS:
        raise FileNotFoundError(
            f"{folder}: no tokenizer.json here; copy that of {_TOKENIZERS[0]} into it"
        )
    try:
        return find_tokenizer(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} has no tokenizer.json, and {error}; or copy one into it"
        ) from None


def _sampling(folder: Path) -> Sampling:
    """Steps and guidance by generation_config.json, else the usual ones."""
    file = folder / "generation_config.json"
    data = read_object(file)
    schedule = data.get("noise_scheduler_config")
    for name, value in _SCHEDULE.items():
        found = schedule.get(name, value) if isinstance(schedule, dict) else value
        if found != value:
            raise ValueError(f"{file}: {name} is {found!r}; only {value!r} is implemented")
    steps, cfg_value = data.get("num_diffusion_steps"), data.get("guidance_scale")
    steps = STEPS if steps is None else steps
    cfg_value = CFG_VALUE if cfg_value is None else cfg_value
    check_integer(f"{file}: num_diffusion_steps", steps, 1, MOST_STEPS)
    check_number(f"{file}: guidance_scale", cfg_value, 0, 100)
    return Sampling(steps, cfg_value)
