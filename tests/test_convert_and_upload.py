"""Conversion and upload by one command, and the flags of both."""

import os

import pytest
from hub_client import hub_client
from hub_uploads import READER, WRITER

from mlx_voxcpm2.convert import __main__ as command

NAME = "you/VoxCPM2-bf16"
FILES = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def convert_and_upload(hub, make_case, tmp_path, run_command):
    """Function that converts and uploads: status and standard error."""

    def run(name: str, token: str) -> tuple[int, str]:
        words = ["--hf_path", make_case("mup").folder, "--mlx_path", tmp_path / "new"]
        with hub_client(hub.environment(tmp_path / "home") | {"HF_TOKEN": token}):
            status, _, said = run_command(command.main, *words, "--upload_repo", name)
        return status, said

    return run


def test_one_command_converts_and_uploads(hub, convert_and_upload, tmp_path):
    assert convert_and_upload("org/voice", WRITER)[0] == 0
    assert sorted(hub.published("org/voice")) == FILES == sorted(os.listdir(tmp_path / "new"))


def test_conversion_is_refused_if_the_upload_would_be(convert_and_upload, tmp_path):
    status, said = convert_and_upload(NAME, READER)
    assert status == 2 and "may not write" in said
    assert not (tmp_path / "new").exists()


def test_a_conversion_whose_upload_fails_is_complete_and_reported(
    hub, convert_and_upload, tmp_path
):
    hub.statuses["/api/repos/create"] = 503
    status, said = convert_and_upload(NAME, WRITER)
    assert status == 2
    assert said.endswith("new is complete: without --hf_path the command only uploads it\n")
    assert (tmp_path / "new" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "flags, line",
    [
        ([], "--hf_path is missing"),
        (["--hf_path", "x", "--private"], "--private does nothing without --upload_repo"),
        (
            ["--upload_repo", "you/x", "--dtype", "float16"],
            "--dtype does nothing without --hf_path",
        ),
    ],
)
def test_flags_without_effect_are_refused(flags, line, tmp_path, capfd):
    assert command.main(["--mlx_path", str(tmp_path / "x"), *flags]) == 2
    said = capfd.readouterr().err
    assert line in said and said.count("\n") == 1
