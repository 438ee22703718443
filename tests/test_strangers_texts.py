"""Texts from strangers: configurations, JSON, YAML, lines, tokenizers and names of files."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strangers import ODD, fuzzed, paths, refused_or_read, with_value

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.commands.batch_lines import Defaults, read_lines
from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.schema import check_integer, check_number, parse_json
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.text.tokenizer import Tokenizer
from mlx_voxcpm2.training.config_file import read_config_file
from mlx_voxcpm2.weights.checkpoint import read_checkpoint
from mlx_voxcpm2.weights.precision import Precision


def test_odd_values_in_a_configuration(released):
    data = json.loads((released.folder / "config.json").read_text())
    for path in paths(data):
        for value in ODD:
            refused_or_read(VoxCPM2Config.from_dict, with_value(data, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("lm_config", "num_hidden_layers"), 10**9),
        (("lm_config", "vocab_size"), 10**9),
        (("lm_config", "hidden_size"), 2**24),
        (("audio_vae_config", "decoder_rates"), [10**9] * 4),
        (("audio_vae_config", "sr_bin_boundaries"), list(range(10**5))),
        (("patch_size",), 2**24),
        (("max_length",), 10**400),
    ],
)
def test_absurd_sizes_are_refused_before_they_take_memory(checkpoint_copy, path, value):
    file = checkpoint_copy / "config.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(with_value(data, path, value)))
    with pytest.raises(ValueError) as caught:
        read_checkpoint(checkpoint_copy, Precision())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_json_is_bounded():
    for text, words in {
        "[" * 100_000 + "]" * 100_000: "nested",
        "[" * 40 + "]" * 40: "nested more than 32 deep",
        "1" * 5000: "thousands of digits",
        '{"a": 1' + "0" * 400 + "}": "too large",
        "[" + "0," * 1_000_001 + "0]": "more than 1000000 values",
        "{": "Expecting",
    }.items():
        with pytest.raises(ValueError, match=words):
            parse_json(text)
    assert parse_json(b'\xef\xbb\xbf{"seed": 18446744073709551615}') == {"seed": 2**64 - 1}


def test_numbers_beyond_any_range_are_one_line():
    for value in (10**400, 10**5000, float("nan"), float("inf"), -(10**400)):
        with pytest.raises(ValueError, match="it must be a number"):
            check_number("x", value, 0, None)
    for value in (10**400, 10**5000, 2**63):
        with pytest.raises(ValueError, match="it must be a whole number from 0 to"):
            check_integer("x", value, 0, None)
        with pytest.raises(ValueError):
            GenerationOptions(max_tokens=value)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1" + "0" * 400,
        "a: 1" + "0" * 5000,
        "a: &x [1]\nb: *x",
        "a: &a {b: 1}\nc: {<<: [*a, *a]}",
        "[" * 2000,
        "? [1]\n: 2",
        "1: 2",
        "a: 2024-99-99",
        "a: \t{",
        "- 1",
    ],
)
def test_yaml_is_bounded(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:
        read_config_file(str(tmp_path / "a.yaml"))
    assert "\n" not in str(caught.value)


@fuzzed
@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
    | st.sampled_from(ODD[:2] + ODD[3:]).map(lambda value: json.dumps(value).encode())
)
def test_lines_of_a_batch(tmp_path_factory, value):
    """Every problem is a sentence of ours, not a library's about bytes or its own types."""
    file = tmp_path_factory.getbasetemp() / "lines.jsonl"
    file.write_bytes(b'{"text": "Hi.", "seed": ' + value + b"}\n" + value + b"\n")
    _, problems, _ = read_lines(file, Defaults({}, GenerationOptions()), ".wav")
    for problem in problems:
        assert "\n" not in problem.message and "codec" not in problem.message


def test_a_tokenizer_does_not_pad(released, tmp_path):
    data = json.loads((released.folder / "tokenizer.json").read_text())
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None}
    data["padding"] = padding | {"pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}
    data["truncation"] = {"max_length": 1, "strategy": "LongestFirst", "stride": 0}
    data["truncation"]["direction"] = "Right"
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    shutil.copy(released.folder / "tokenizer_config.json", tmp_path)
    assert Tokenizer(tmp_path / "tokenizer.json")("One two.") == released.model.tokenize("One two.")


def test_a_name_that_is_no_utf8_is_refused_at_once(tmp_path):
    folder = str(tmp_path / "mod") + "\udcff"
    Path(folder).mkdir()
    with pytest.raises(ValueError, match="the name is not UTF-8; rename it"):
        load_model(folder)
