"""Structure of the package: import order, import time, packaging and the README's examples."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first: a room imports only from rooms before it, for type checkers too.
ORDER = """
errors files schema settings layers models text audio weights voices speech recognition model load
long_form mlx_audio server training commands generate train app cli
""".split()


def modules() -> dict[str, Path]:
    package = ROOT / "mlx_voxcpm2"
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in package.rglob("*.py")
    }


def imported_rooms(name: str, path: Path) -> set[str]:
    """The package's rooms (folders, or files at the top) that this module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = [*name.split(".")[: -node.level], *(node.module or "").split(".")]
            rooms = [target[0]] if target[0] else [alias.name for alias in node.names]
            found.update(room for room in rooms if room != "__version__")
    return found


@pytest.mark.parametrize("name", sorted(set(modules()) - {"__init__"}))
def test_imports_run_one_way(name):
    room = name.split(".")[0]
    for other in imported_rooms(name, modules()[name]) - {room}:
        assert ORDER.index(other) < ORDER.index(room), f"{name} imports {other}"


def test_networks_use_no_files_clocks_or_printing():
    for name, path in modules().items():
        if name.startswith("models.") and not name.endswith(".config"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {
                alias.name.split(".")[0]
                for node in ast.walk(tree)
                if isinstance(node, ast.Import)
                for alias in node.names
            }
            assert names <= {"math", "mlx", "numpy", "re"}, name
            called = {
                ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
            }
            assert not called & {"print", "open", "mx.eval", "mx.async_eval"}, name
            assert not [call for call in called if call.endswith(".item")], name


def test_all_packages_go_into_the_wheel():
    from setuptools import find_namespace_packages

    found = find_namespace_packages(str(ROOT), include=["mlx_voxcpm2*"])
    folders = {file.parent for file in (ROOT / "mlx_voxcpm2").rglob("*.py")}
    for folder in [*folders, ROOT / "mlx_voxcpm2" / "convert" / "model_cards"]:
        assert ".".join(folder.relative_to(ROOT).parts) in found


def test_starting_imports_no_heavy_packages():
    """mlx-lm and transformers need seconds, and PyTorch is never needed."""
    script = "import mlx_voxcpm2, mlx_voxcpm2.generate, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    heavy = "torch transformers mlx_lm huggingface_hub scipy librosa tqdm".split()
    assert not loaded & set(heavy)


def test_the_readmes_examples_name_existing_flags_and_keywords():
    import inspect
    import re

    from mlx_voxcpm2 import VoxCPM2, generate, train
    from mlx_voxcpm2.app import __main__ as page
    from mlx_voxcpm2.commands import batch as batch_command
    from mlx_voxcpm2.commands import serve, voice
    from mlx_voxcpm2.convert import __main__ as converting

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    known = set(generate.build_parser()._option_string_actions)
    known |= set(converting.build_parser("convert")._option_string_actions)
    for parser in voice.build_parsers("voice")[1].values():
        known |= set(parser._option_string_actions)
    known |= set(train.build_parser()._option_string_actions)
    known |= set(serve.build_parser()._option_string_actions)
    known |= set(batch_command.build_parser()._option_string_actions)
    known |= set(page.build_parser()._option_string_actions)
    known |= set("--upload_repo --help --version".split())
    commands = re.findall(r"^\s*(?:python -m mlx_voxcpm2|mlx-voxcpm2).*(?:\\\n.*)*", readme, re.M)
    assert commands
    for command in commands:
        for flag in re.findall(r"(?<![\w-])--[a-z_-]+", command):
            assert flag in known, flag
    keywords = inspect.signature(VoxCPM2.generate).parameters
    calls = re.findall(r"model\.generate\(([^)]*)\)", readme)
    assert calls
    for call in calls:
        for keyword in re.findall(r"(\w+)=", call):
            assert keyword in keywords, keyword
