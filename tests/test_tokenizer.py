"""Texts become the official token ids."""

import json

import checkpoints
import pytest

from mlx_voxcpm2.text.tokenizer import Tokenizer


@pytest.mark.parametrize("index", range(len(checkpoints.TEXTS)))
def test_texts_become_the_official_ids(released, index):
    text = checkpoints.TEXTS[index]
    assert released.model.tokenize(text) == released.golden[f"tokens.{index}"].tolist(), text


def test_the_error_names_a_broken_tokenizer(tmp_path):
    file = tmp_path / "tokenizer.json"
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        Tokenizer(file)
    file.write_text("{")
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokenizer(file)


def test_another_models_tokenizer_is_refused(released, tmp_path):
    data = json.loads((released.folder / "tokenizer.json").read_text())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] < 101]
    vocabulary = data["model"]["vocab"]
    data["model"]["vocab"] = {token: id for token, id in vocabulary.items() if id < 101}
    data["model"]["merges"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="no token 101"):
        Tokenizer(tmp_path / "tokenizer.json")
