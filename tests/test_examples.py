"""Every block of README.md and docs/ runs, on the demo in place of the released model.

It stops as soon as it may: what the blocks say is heard in other tests (`test_demo_voice.py`).
Blocks that need what a test has not, such as a loudspeaker, stand behind `<!-- not run: REASON -->`
and are parsed only (`test_project.py`).
"""

import asyncio
import inspect
import re
import shlex
import shutil
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
import soundfile
from demo_clips import read_clip
from sybil import Document, Example, Region
from sybil.parsers.markdown import CodeBlockParser
from test_project import DOCUMENTS

from mlx_voxcpm2 import cli, load_model
from mlx_voxcpm2.training import run_folder
from mlx_voxcpm2.weights import hub

MARK = re.compile(r"<!-- not run: [^\n]+ -->\n\n?$")
SHORTER = {
    "train": ["--max_steps", "1", "--batch_size", "1"],
    "benchmark": ["--patches", "2", "--rounds", "1"],
}
"""Flags that are added to a command, which would take minutes or hours."""
DEFAULTS = {"benchmark": ["--precisions", "as is", "--batch_sizes", "1"]}
"""Flags that a command has unless its line gives others, for the same reason."""
OTHER_PROGRAMS = ("eval", "pip", "ruff", "playwright", "MLX_AUDIO_PYTHON=PYTHON")


class Blocks(CodeBlockParser):
    """Blocks of one language that are not marked."""

    def __init__(self, language: str, evaluate):
        super().__init__(language, evaluate)

    def __call__(self, document: Document) -> Iterator[Region]:
        for region in super().__call__(document):
            if not MARK.search(document.text[: region.start]):
                yield region


def run_python(example: Example) -> None:
    """Execute a block, which continues the blocks of its document before it."""
    code = compile(
        example.parsed,
        f"{example.path}:{example.line}",
        "exec",
        PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, example.namespace))
    else:
        exec(code, example.namespace)


def run_shell(example: Example) -> None:
    """Run the lines that are ours in this process, and files that `echo` writes."""
    for line in example.parsed.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "echo":
            with open(words[-1], "a" if ">>" in words else "w") as file:
                file.write(words[1] + "\n")
        elif command := arguments_of(words):
            name, *flags = command
            flags = DEFAULTS.get(name, []) + flags + SHORTER.get(name, [])
            assert cli.main([name, *flags]) == 0, line
        else:
            assert words[0] in OTHER_PROGRAMS or words[1:3] == ["-m", "pytest"], line


def arguments_of(words: list[str]) -> list[str] | None:
    """What `mlx-voxcpm2` gets: both ways to call a command."""
    if words[0] == "mlx-voxcpm2":
        return words[1:]
    if words[:2] == ["python", "-m"] and words[2].startswith("mlx_voxcpm2."):
        return [words[2].removeprefix("mlx_voxcpm2."), *words[3:]]
    return None


def write_brief_demo(folder: Path) -> None:
    """Copy of the demo whose stop head always says stop."""
    shutil.copytree(hub.BUILT_IN["demo"], folder)
    weights, metadata = mx.load(str(folder / "model.safetensors"), return_metadata=True)
    weights["stop_proj.weight"] = mx.zeros_like(weights["stop_proj.weight"])
    weights["stop_proj.bias"] = mx.ones_like(weights["stop_proj.bias"])
    ones = mx.ones_like(weights["stop_head.weight"])
    weights["stop_head.weight"] = ones * mx.array([[-1], [1]], ones.dtype)
    mx.eval(weights)  # before the file that they are read from is written
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Folder with what the examples name: clips, texts, a voice, an adapter, recordings."""
    folder, clip = tmp_path_factory.mktemp("examples"), read_clip("alto")
    write_brief_demo(folder / "demo")
    soundfile.write(folder / "clip.wav", clip.sound, clip.sample_rate)
    (folder / "book.txt").write_text("one two.\n\nthree.")
    (folder / "lines.jsonl").write_text('{"text": "one"}\n')
    (folder / "data.jsonl").write_text('{"audio": "clip.wav", "text": "What it says."}\n')
    (folder / "folder").mkdir()
    line = '{"audio": "../clip.wav", "text": "What it says."}\n'
    (folder / "folder" / "train.jsonl").write_text(line)
    paths = ["--train", str(folder / "data.jsonl"), "--output", str(folder / "my_lora")]
    assert cli.main(["train", "--model", str(folder / "demo"), *paths, *SHORTER["train"]]) == 0
    shutil.copytree(folder / "my_lora" / "latest", folder / "another")
    voice = load_model(folder / "demo").make_voice(folder / "clip.wav", prompt_text="What it says.")
    voice.save(folder / "anna.safetensors")
    return folder


@pytest.fixture
def working_folder(files, tmp_path, monkeypatch, document) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    if "voice add anna" not in document.read_text(encoding="utf-8"):
        (tmp_path / "voices").mkdir()
        (tmp_path / "anna.safetensors").rename(tmp_path / "voices" / "anna.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "voices"))
    for name in hub.BUILT_IN:
        monkeypatch.setitem(hub.BUILT_IN, name, files / "demo")
    monkeypatch.setattr(run_folder, "draw_plot", lambda rows: bytes(len(rows)))
    monkeypatch.setattr(hub, "_snapshot", lambda name, revision: files / "demo")


@pytest.mark.usefixtures("working_folder", "nothing_compiled")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_the_examples_run(document):
    parsers = [Blocks("python", run_python), Blocks("sh", run_shell)]
    for example in Document.parse(str(document), *parsers).examples():
        example.evaluate()
