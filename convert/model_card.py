"""Model card of a converted checkpoint: a template of `model_cards/`, filled from its files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from string import Template

from mlx_voxcpm2.models.family import Family
from mlx_voxcpm2.weights.checkpoint import read_config
from mlx_voxcpm2.weights.files import is_float, read_weights
from mlx_voxcpm2.weights.quantization import quantization_entry, settings_of

MEASURED = ("<!-- measured -->", "<!-- /measured -->")
"""Marks around the results of benchmarks/quantisation.py, in its output and in the card."""

_WRITTEN_HERE = "<!-- Written by mlx_voxcpm2.convert"


@dataclass(frozen=True)
class Contents:
    """Sizes and formats of a converted checkpoint."""

    family: Family
    forms: dict[str, Counter[str]]
    """Bytes by part, and by the format of its numbers ("4 bits (affine) in groups of 64")."""
    bits: frozenset[int]
    """Number of bits of most quantised layers, of each main part of the family, 16 for a part
    that has none; empty if nothing is quantised."""
    layout: str
    """One of `convert.LAYOUTS`."""

    @property
    def size(self) -> int:
        """Size of all weights in bytes."""
        return sum(sum(forms.values()) for forms in self.forms.values())


def read_contents(folder: Path) -> Contents:
    """Reads the names and types of all tensors in the folder, not their values."""
    family, config = read_config(folder)
    name = family.required_file
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder}: no {name} here; give a converted checkpoint")
    weights, metadata_of_mlx = read_weights(folder, family)
    if not metadata_of_mlx:
        raise ValueError(f"{folder} is not converted yet; give it as --hf_path")
    family.read_config(config)  # which refuses a damaged one
    quantization = quantization_entry(config)
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    bits: dict[str, Counter[int]] = defaultdict(Counter)
    for name, value in weights.items():
        part = family.parts.get(name.partition(".")[0], family.other_parts)
        layer = name.rpartition(".")[0]
        if f"{layer}.scales" in weights and not name.endswith(".bias"):
            settings = settings_of(layer, quantization)
            form = "{bits} bits ({mode}) in groups of {group_size}".format(**settings)
            bits[part][settings["bits"]] += 1
        elif is_float(value):  # integers are tables, not weights
            form = str(value.dtype).removeprefix("mlx.core.")
        else:
            continue
        forms[part][form] += value.nbytes
    most = frozenset()
    if bits:
        main = [bits[family.parts[name]] or Counter([16]) for name in family.main_parts]
        most = frozenset(counts.most_common(1)[0][0] for counts in main)
    layout = "mlx-audio" if family.has_mlx_audio_layout(weights) else "mlx-voxcpm2"
    return Contents(family, forms, most, layout)


def write_card(
    folder: Path, repo: str, base_model: str | None = None, measured: Path | None = None
) -> Path:
    """Writes README.md into the folder of a converted checkpoint, for the hub repository `repo`.

    A README.md without this program's mark is the owner's own text and is not changed. Otherwise
    it is replaced, keeping its base model and measurements if none are given.
    base_model: the hub repository that was converted, by default the family's original.
    measured: output of `benchmarks/quantisation.py` for this checkpoint.
    """
    contents, card = read_contents(folder), folder / "README.md"
    table = None if measured is None else _measurements(measured)
    # This program writes UTF-8; any other bytes are the owner's.
    before = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if before and _WRITTEN_HERE not in before:
        if table is not None:
            raise ValueError(f"{card} is your own text; put the measurements in it yourself")
        return card
    if base_model is None:
        named = re.search(r"^base_model: (\S+)$", before, re.MULTILINE)
        base_model = named[1] if named else contents.family.original
    text = card_text(contents, repo, base_model, table or _between_marks(before))
    card.write_text(text, encoding="utf-8")
    return card


def card_text(contents: Contents, repo: str, base_model: str, measured: str | None) -> str:
    """Text of the card: Markdown, with the metadata that the hub reads."""
    known = {frozenset(): "bf16", frozenset({8}): "8bit", frozenset({4}): "4bit"}
    recipe = known.get(contents.bits, "other")
    title, names = contents.family.title, {"repo": repo, "base_model": base_model}
    section = ["", "## What was measured", "", MEASURED[0], measured, MEASURED[1], ""]
    layout = _template(f"{title}-layout-{contents.layout}").substitute(names).strip()
    return _template(title).substitute(
        names,
        about=_template(f"{title}-{recipe}").substitute(names).strip(),
        relation="\nbase_model_relation: quantized" if contents.bits else "",
        bits="".join(f", {bits}-bit" for bits in sorted(contents.bits - {16})),
        layout=layout,
        size=_size(contents.size),
        parts=_table(contents),
        measured="\n".join(section) if measured else "",
    )


def _template(name: str) -> Template:
    file = Path(__file__).parent / "model_cards" / f"{name}.md"
    return Template(file.read_text(encoding="utf-8"))


def _table(contents: Contents) -> str:
    lines = ["| part | stored as | size |", "|---|---|---|"]
    for part in [*contents.family.parts.values(), contents.family.other_parts]:
        if forms := contents.forms.get(part):
            each = [f"{form}: {_size(size)}" for form, size in forms.most_common()]
            stored = ", ".join(each if len(forms) > 1 else forms)
            lines.append(f"| {part} | {stored} | {_size(sum(forms.values()))} |")
    return "\n".join(lines)


def _size(count: int) -> str:
    """Number of bytes with three significant digits: 4.96 GB, 730 MB, 12.3 kB."""
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
        raise ValueError(f"{file} is not text; give the output of quantisation.py") from None
    found = _between_marks(text)
    if not found:
        raise ValueError(f"{file} has nothing between {' and '.join(MEASURED)}")
    return found


def _between_marks(text: str) -> str | None:
    start, end = map(re.escape, MEASURED)
    found = re.search(f"{start}(.*?){end}", text, re.DOTALL)
    return found[1].strip() or None if found else None
