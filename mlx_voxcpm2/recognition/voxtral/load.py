"""Load Voxtral from a folder or a hub repository, in any known layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...activity import activity
from ...documents import read_json
from ...layers import device
from ...models.voxtral.family import FAMILY
from ...text.tekken import Tekken
from ...weights.checkpoint import load_network, read_checkpoint
from ...weights.files import check_projections
from ...weights.hub import find_checkpoint
from ...weights.precision import choose_precision
from .model import Voxtral

if TYPE_CHECKING:
    import mlx.core as mx

    from ...weights.precision import DtypeName
    from ...weights.quantization import Quantization

_EOS = 2
"""`</s>`, where generation_config.json does not say it."""


def load(
    path_or_repo: str | Path,
    dtype: DtypeName | mx.Dtype | None = None,
    revision: str | None = None,
    quantize: str | Quantization | None = None,
) -> Voxtral:
    """Loads a checkpoint from a folder, or from the Hugging Face hub (which keeps a cache).

    dtype: "bfloat16" (the default), "float16" or "float32"; the default of an MLX converter's
    files is their own type, and a CPU computes in float32. revision: a branch, tag or commit of a
    hub repository. quantize: a recipe ("8bit", "4bit" …) or a `Quantization`: the same model as
    from the converted checkpoint, made in memory.

        stt = load("mistralai/Voxtral-Mini-3B-2507", quantize="8bit")
        print(stt.transcribe("meeting.m4a", language="en").text)

    Raises FileNotFoundError for a missing file and ValueError for an unsuitable or damaged one,
    each with one line that names the file or tensor and says what to do.
    """
    device.free_streams_at_thread_end()
    precision = choose_precision(dtype, quantize)
    folder = find_checkpoint(path_or_repo, revision)
    with activity(f"loading {path_or_repo}"):
        checkpoint = read_checkpoint(folder, precision, FAMILY)
        tokenizer = Tekken(folder / FAMILY.required_file, FAMILY.original)
        network = load_network(checkpoint, has_free_dtype=dtype is None)
        check_projections(network, folder)
    return Voxtral(network, tokenizer, _end_tokens(folder))


def _end_tokens(folder: Path) -> list[int]:
    """Ids of the tokens that end a text, by generation_config.json if it is there."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return [_EOS]
    data = read_json(file, "download it again")
    found = data.get("eos_token_id", _EOS) if isinstance(data, dict) else None
    given = found if isinstance(found, list) else [found]
    ids = [each for each in given if type(each) is int]
    if not ids or len(ids) < len(given):
        raise ValueError(f"{file}: eos_token_id is no token; download it again")
    return ids
