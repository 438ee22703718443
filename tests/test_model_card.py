"""Model cards describe the files in words and in the metadata that the hub reads."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from huggingface_hub import ModelCard
from mlx.utils import tree_flatten

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.commands import generate
from mlx_voxcpm2.convert import LAYOUTS, convert
from mlx_voxcpm2.convert.model_card import Contents, card_text, write_card
from mlx_voxcpm2.models.voxcpm2.family import FAMILY as VOXCPM2

ROOT = Path(__file__).parent.parent
REPO = "you/voice"
TABLE = "| | latents |\n|---|---|\n| voice | 0.0123 |"
LANGUAGES = """ar my zh da nl en fi fr de el he hi id it ja km ko lo ms no pl pt ru es sw sv tl th
tr vi""".split()


@pytest.fixture
def quantised(converted_copy):
    """Function that quantises the language model and the diffusion transformer to given bits."""

    def write(lm: int, dit: int) -> Path:
        model = load_model(converted_copy, "bfloat16")
        settings = {"group_size": 32, "bits": lm, "mode": "affine"}
        layers = [f"feat_decoder.{path}" for path in quantise(model.feat_decoder, dit)]
        quantise(model.base_lm, lm)
        config = json.loads((converted_copy / "config.json").read_text())
        config["quantization"] = settings | {layer: settings | {"bits": dit} for layer in layers}
        (converted_copy / "config.json").write_text(json.dumps(config))
        weights = dict(tree_flatten(model.parameters()))
        mx.save_safetensors(str(converted_copy / "model.safetensors"), weights, {"format": "mlx"})
        load_model(converted_copy, "bfloat16")
        return converted_copy

    def quantise(module: nn.Module, bits: int) -> list[str]:
        def fits(_: str, layer: nn.Module) -> bool:
            return isinstance(layer, nn.Linear) and layer.weight.shape[-1] % 32 == 0

        nn.quantize(module, group_size=32, bits=bits, class_predicate=fits)
        found = module.named_modules()
        return [path for path, layer in found if isinstance(layer, nn.QuantizedLinear)]

    return write


def card(folder: Path, **options: object) -> str:
    return write_card(folder, REPO, **options).read_text(encoding="utf-8")


def sizes(text: str) -> list[float]:
    """Sizes in the card in bytes, as far as they are written: all weights, then the parts."""
    units = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
    found = re.findall(r"(?:^|\| )([\d.]+) ([GMk]B)(?: of weights| \|$)", text, re.MULTILINE)
    return [float(number) * units[unit] for number, unit in found]


def test_the_hub_reads_the_cards_metadata(converted_copy):
    data = ModelCard(card(converted_copy)).data
    named = (data.license, data.library_name, data.pipeline_tag)
    assert named == ("apache-2.0", "mlx", "text-to-speech")
    assert data.language == LANGUAGES and len(LANGUAGES) == 30
    assert data.base_model == "openbmb/VoxCPM2" and "mlx" in data.tags
    assert "base_model_relation" not in data.to_dict()
    assert not [tag for tag in data.tags if tag.endswith("-bit")]


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_a_quantised_checkpoint_is_described_as_quantised(quantised, bits):
    text = card(quantised(bits, bits))
    data = ModelCard(text).data
    assert data.base_model_relation == "quantized"
    assert [tag for tag in data.tags if tag.endswith("-bit")] == [f"{bits}-bit"]
    title = "VoxCPM2, quantised," if bits == 6 else f"VoxCPM2 in {bits} bits"
    assert f"# {title} for MLX" in text
    assert f"{bits} bits (affine) in groups of 32" in text


def test_the_card_of_a_mixed_checkpoint_lists_each_part(quantised):
    text = card(quantised(4, 8))
    assert {"4-bit", "8-bit"} < set(ModelCard(text).data.tags)
    assert "# VoxCPM2, quantised, for MLX" in text
    row = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    forms = {part: line.split(" | ")[1] for part, line in row.items()}
    assert "4 bits (affine)" in forms["| language model"] and "8 b" not in forms["| language model"]
    assert "8 bits (affine)" in forms["| diffusion transformer"]
    assert "4 bits" not in forms["| diffusion transformer"]
    assert (forms["| local encoder"], forms["| AudioVAE"]) == ("bfloat16", "float32")


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_sizes_are_those_of_the_file(converted_copy, quantised, bits):
    if bits:
        quantised(bits, bits)
    whole, *parts = sizes(card(converted_copy))
    tensors = mx.load(str(converted_copy / "model.safetensors")).values()
    assert abs(sum(value.nbytes for value in tensors) - whole) < 0.006 * whole
    assert len(parts) == 6 and abs(sum(parts) - whole) < 0.01 * whole


@pytest.mark.parametrize(
    "count, text",
    [
        (4_958_123_456, "4.96 GB"),
        (999_400_000, "999 MB"),
        (999_700_000, "1.00 GB"),
        (12_340, "12.3 kB"),
        (9_996, "10.0 kB"),
        (12, "12 bytes"),
    ],
)
def test_a_size_has_three_digits(count, text):
    forms = {"AudioVAE": Counter({"float32": count})}
    contents = Contents(VOXCPM2, forms, frozenset(), "mlx-audio")
    assert f"\n{text} of weights:\n" in card_text(contents, REPO, "org/base", None)


def test_examples_are_right(converted_copy):
    text = card(converted_copy)
    (command,) = re.findall(r"^python -m mlx_voxcpm2.generate (.+)$", text, re.MULTILINE)
    args = generate.build_parser("").parse_args(shlex.split(command))
    assert (args.model, args.text) == (REPO, "Hello.")
    (example,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    compile(example, "card", "exec")
    assert f'load_model("{REPO}")' in example


def test_mlx_audio_is_named_only_for_its_layout(make_case, tmp_path):
    command = f"python -m mlx_audio.tts.generate --model {REPO}"
    for layout in LAYOUTS:
        text = card(convert(make_case("mup").folder, tmp_path / layout, layout=layout))
        assert (command in text) == (layout == "mlx-audio")
        assert ("--layout mlx-audio" in text) == (layout == "mlx-voxcpm2")


def test_errors_are_the_measured_ones(converted_copy, tmp_path):
    text = card(converted_copy)
    assert "measured" not in text and not re.search(r"error|relative", text)
    output = tmp_path / "output.md"
    output.write_text(f"A long report.\n<!-- measured -->\n{TABLE}\n<!-- /measured -->\nAnd more.")
    text = card(converted_copy, measured=output)
    assert f"## What was measured\n\n<!-- measured -->\n{TABLE}\n<!-- /measured -->\n" in text
    assert "A long report" not in text and "And more" not in text
    assert card(converted_copy) == text


@pytest.mark.parametrize("output", [None, "no table", "<!-- measured -->\n<!-- /measured -->"])
def test_a_file_without_measurements_is_refused(converted_copy, tmp_path, output):
    file = tmp_path / "output.md"
    if output is not None:
        file.write_text(output)
    with pytest.raises((ValueError, FileNotFoundError), match=r"output\.md (has|can't)"):
        card(converted_copy, measured=file)
    assert not (converted_copy / "README.md").exists()


def test_the_base_model_is_read_from_the_checkpoint(converted_copy):
    first = card(converted_copy, base_model="org/finetuned")
    assert ModelCard(first).data.base_model == "org/finetuned"
    assert "https://huggingface.co/org/finetuned" in first
    assert card(converted_copy) == first


def test_an_owners_text_is_not_replaced(converted_copy, tmp_path):
    (converted_copy / "README.md").write_text("My own.")
    assert card(converted_copy) == "My own."
    (tmp_path / "output.md").write_text(f"<!-- measured -->{TABLE}<!-- /measured -->")
    with pytest.raises(ValueError, match="your own text"):
        card(converted_copy, measured=tmp_path / "output.md")


def test_an_owners_undecodable_file_is_not_replaced(converted_copy):
    (converted_copy / "README.md").write_bytes(b"\xff\xfe")
    write_card(converted_copy, REPO)
    assert (converted_copy / "README.md").read_bytes() == b"\xff\xfe"


@pytest.mark.parametrize("content", ["[]", "{", '{"quantization": 4}'])
def test_an_invalid_config_is_a_one_line_error(converted_copy, content):
    if "quantization" in content:
        config = json.loads((converted_copy / "config.json").read_text())
        content = json.dumps(config | json.loads(content))
    (converted_copy / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: .+; (take|download|convert) "):
        card(converted_copy)


def test_every_card_is_in_the_wheel(tmp_path):
    """The wheel is built as an installer builds it, from the repository's files."""
    pytest.importorskip("setuptools", minversion="77")
    for name in ("mlx_voxcpm2", "convert", "model_cards"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    cards = installed / "mlx_voxcpm2" / "convert" / "model_cards"
    assert sorted(p.name for p in cards.iterdir()) == sorted(
        path.name for path in (ROOT / "model_cards").iterdir()
    )
