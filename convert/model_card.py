"""A converted checkpoint's model card: a template of `model_cards/` and what its files say."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from string import Template

import mlx.core as mx

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.weights.files import read_weights
from mlx_voxcpm2.weights.layouts import is_mlx_audio
from mlx_voxcpm2.weights.quantization import quantization_entry, settings_of

MEASURED = ("<!-- measured -->", "<!-- /measured -->")
"""What benchmarks/quantisation.py found stands between these, in its output and in the card."""

_WRITTEN_HERE = "<!-- Written by mlx_voxcpm2.convert"

_PARTS = {
    "base_lm": "language model",
    "residual_lm": "residual language model",
    "feat_encoder": "local encoder",
    "feat_decoder": "diffusion transformer",
    "audio_vae": "AudioVAE",
}
_OTHERS = "scalar quantiser, projections, stop head"


@dataclass(frozen=True)
class Contents:
    """What the files of a converted checkpoint hold."""

    forms: dict[str, Counter[str]]
    """Part -> how its numbers are stored ("bfloat16", "4 bits in groups of 64") -> bytes."""
    bits: frozenset[int]
    """Those of most quantised layers of the language model and of the diffusion transformer, 16
    for one that has none; empty if nothing is quantised."""
    layout: str
    """As `--layout` names it."""

    @property
    def size(self) -> int:
        return sum(sum(forms.values()) for forms in self.forms.values())


def read_contents(folder: Path) -> Contents:
    """Reads the names and types of all tensors in the folder, not the numbers."""
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no {name} here; give a converted checkpoint")
    weights, written_by_mlx = read_weights(folder)
    if not written_by_mlx:
        raise ValueError(f"{folder} is not converted yet; give it as --hf_path")
    _, config = VoxCPM2Config.from_file(folder / "config.json")
    quantization = quantization_entry(config)
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    bits: dict[str, Counter[int]] = defaultdict(Counter)
    for name, value in weights.items():
        part, layer = _PARTS.get(name.partition(".")[0], _OTHERS), name.rpartition(".")[0]
        if f"{layer}.scales" in weights and not name.endswith(".bias"):
            settings = settings_of(layer, quantization)
            form = "{bits} bits ({mode}) in groups of {group_size}".format(**settings)
            bits[part][settings["bits"]] += 1
        elif mx.issubdtype(value.dtype, mx.floating):  # the AudioVAE's table of rates is no weight
            form = str(value.dtype).removeprefix("mlx.core.")
        else:
            continue
        forms[part][form] += value.nbytes
    most = frozenset()
    if bits:
        main = [bits[_PARTS[name]] or Counter([16]) for name in ("base_lm", "feat_decoder")]
        most = frozenset(counts.most_common(1)[0][0] for counts in main)
    layout = "mlx-audio" if is_mlx_audio(weights) else "mlx-voxcpm2"
    return Contents(forms, most, layout)


def write_card(
    folder: Path, repo: str, base_model: str | None = None, measured: Path | None = None
) -> Path:
    """Writes README.md into the folder of a converted checkpoint that will be `repo` on the hub.

    A README.md without our mark is its owner's and stays as it is. One that we wrote is written
    anew; the base model and the measurements that it names are kept where none are given.
    base_model: the hub repository that was converted, openbmb/VoxCPM2 by default.
    measured: what `benchmarks/quantisation.py` printed for this checkpoint.
    """
    contents, card = read_contents(folder), folder / "README.md"
    table = None if measured is None else _measurements(measured)
    # Ours is UTF-8; whatever else there is, the owner wrote.
    before = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if before and _WRITTEN_HERE not in before:
        if table is not None:
            raise ValueError(f"{card} is your own text; put the measurements in it yourself")
        return card
    if base_model is None:
        named = re.search(r"^base_model: (\S+)$", before, re.MULTILINE)
        base_model = named[1] if named else "openbmb/VoxCPM2"
    text = card_text(contents, repo, base_model, table or _between_marks(before))
    card.write_text(text, encoding="utf-8")
    return card


def card_text(contents: Contents, repo: str, base_model: str, measured: str | None) -> str:
    """The card, as Markdown with the metadata that the hub reads."""
    known = {frozenset(): "bf16", frozenset({8}): "8bit", frozenset({4}): "4bit"}
    recipe = known.get(contents.bits, "other")
    names = {"repo": repo, "base_model": base_model}
    section = ["", "## What was measured", "", MEASURED[0], measured, MEASURED[1], ""]
    return _template("template").substitute(
        names,
        about=_template(f"VoxCPM2-{recipe}").substitute(names).strip(),
        relation="\nbase_model_relation: quantized" if contents.bits else "",
        bits="".join(f", {bits}-bit" for bits in sorted(contents.bits - {16})),
        layout=_template(f"layout-{contents.layout}").substitute(names).strip(),
        size=_size(contents.size),
        parts=_table(contents),
        measured="\n".join(section) if measured else "",
    )


def _template(name: str) -> Template:
    file = Path(__file__).parent / "model_cards" / f"{name}.md"
    return Template(file.read_text(encoding="utf-8"))


def _table(contents: Contents) -> str:
    lines = ["| part | stored as | size |", "|---|---|---|"]
    for part in [*_PARTS.values(), _OTHERS]:
        if forms := contents.forms.get(part):
            each = [f"{form}: {_size(size)}" for form, size in forms.most_common()]
            stored = ", ".join(each if len(forms) > 1 else forms)
            lines.append(f"| {part} | {stored} | {_size(sum(forms.values()))} |")
    return "\n".join(lines)


def _size(count: int) -> str:
    """Bytes in the unit that shows three digits: 4.96 GB, 730 MB, 12.3 kB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * scale:
            return f"{count / scale:#.3g}".rstrip(".") + f" {unit}"
    return f"{count} bytes"


def _measurements(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise FileNotFoundError(f"{file} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not text; give what quantisation.py printed") from None
    found = _between_marks(text)
    if not found:
        raise ValueError(f"{file} has nothing between {' and '.join(MEASURED)}")
    return found


def _between_marks(text: str) -> str | None:
    start, end = map(re.escape, MEASURED)
    found = re.search(f"{start}(.*?){end}", text, re.DOTALL)
    return found[1].strip() or None if found else None
