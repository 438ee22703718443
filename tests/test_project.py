"""Structure of the package: import order, import time, packaging and the README's examples."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first: a room imports only from rooms before it, for type checkers too.
ORDER = """
interrupts errors activity file_names locks files peers schema documents settings layers models
trials text audio weights voices speech recognition model load vibevoice long_form dialogue
mlx_audio server training commands voxtral generate train app cli __main__
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


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("mlx_voxcpm2", "asyncio soundfile soxr tokenizers"),
        ("mlx_voxcpm2, mlx_voxcpm2.generate", ""),
    ],
)
def test_starting_imports_no_heavy_packages(modules, heavy):
    """mlx-lm and transformers need seconds, and PyTorch is never needed."""
    script = f"import {modules}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    heavy += " torch transformers mlx_lm huggingface_hub scipy librosa tqdm"
    assert not loaded & set(heavy.split())


DOCUMENTS = [ROOT / name for name in ("README.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


def fenced(document: Path, language: str) -> list[str]:
    """Contents of the fenced blocks of a language."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def code_spans(text: str) -> list[str]:
    """Contents of the inline code, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_blocks(text))]


def parsed(code: str) -> ast.Module | None:
    """Syntax tree, where `await` and `async for` may stand outside of functions."""
    try:
        return compile(code, "example", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return None


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """Flags by command."""
    from mlx_voxcpm2 import generate, train
    from mlx_voxcpm2.app import __main__ as app
    from mlx_voxcpm2.commands import (
        batch,
        benchmark,
        dialogue,
        doctor,
        serve,
        transcribe,
        voice,
    )
    from mlx_voxcpm2.convert import __main__ as convert

    parsers = {
        "generate": generate.build_parser(),
        "batch": batch.build_parser(),
        "dialogue": dialogue.build_parser(),
        "serve": serve.build_parser(),
        "app": app.build_parser(),
        "train": train.build_parser(),
        "convert": convert.build_parser("convert"),
        "doctor": doctor.build_parser(),
        "benchmark": benchmark.build_parser(),
        "transcribe": transcribe.build_parser(),
    }
    for name, target in {"design": "generate", "clone": "generate", "validate": "train"}.items():
        parsers[name] = parsers[target]  # voxcpm's names
    for action, parser in voice.build_parsers("voice")[1].items():
        parsers[f"voice {action}"] = parser
    return {name: set(parser._option_string_actions) for name, parser in parsers.items()}


def command_lines(document: Path) -> list[tuple[str, str]]:
    """Command and arguments of the package's command lines in the shell blocks."""
    start = r"^(?:python -m mlx_voxcpm2\.|mlx-voxcpm2 )(voice \w+|\w+)(.*(?:\\\n.*)*)"
    return [found for block in fenced(document, "sh") for found in re.findall(start, block, re.M)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_name_flags_that_their_commands_have(document, flags):
    for command, arguments in command_lines(document):
        if command != "mlx_audio":  # whose flags are mlx-audio's
            own = arguments.split(" | ")[0]
            for name in re.findall(r"(?<![\w-])--?[a-z][a-z_-]*", own):
                assert name in flags[command], f"{command} has no {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_flags_in_sentences_exist(document, flags):
    """Flags of other programs, in tables that compare them, count only if they are said to work."""
    text = document.read_text(encoding="utf-8")
    table = r"^\| (?:mlx-audio|voxcpm)\b.*\n(?:\|.*\n)*"
    text = re.sub(table, lambda found: promised(found.group()), text, flags=re.M)
    sources = (file.read_text(encoding="utf-8") for file in (ROOT / "benchmarks").rglob("*.py"))
    known = set.union(*flags.values(), *(declared_flags(source) for source in sources))
    for span in code_spans(text):
        for name in re.findall(r"(?<![^ ])--[a-z][a-z_-]*[a-z](?![a-z_])", span):
            assert name in known, f"{name} in {span!r}"


def promised(table: str) -> str:
    """Last cells of a table's rows, and the whole rows that say "work"."""
    cells = [(row, row.strip("|").rpartition("|")[2]) for row in table.splitlines()]
    return "\n".join(row if "work" in last else last for row, last in cells) + "\n"


def declared_flags(source: str) -> set[str]:
    """Flags that a script's source names: of `add_argument`, `shell.flag` or `graph_watch.main`."""
    plain = re.findall(r'"(--[a-z][a-z_-]*)"', source)
    names = re.findall(r'flag\(\w+, "(\w+)"', source)
    names += re.findall(r"(\w+)=", " ".join(re.findall(r"^    main\(__doc__.*", source, re.M)))
    return {*plain, *(f"--{name}" for name in names)}


def test_documents_show_the_commands_of_the_package():
    shown = {command for document in DOCUMENTS for command, _ in command_lines(document)}
    assert {"generate", "batch", "serve", "app", "train", "convert", "voice add"} <= shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_python_examples_parse_and_use_keywords_that_exist(document):
    import inspect

    import mlx_voxcpm2
    from mlx_voxcpm2 import VoxCPM2

    called = {name: getattr(mlx_voxcpm2, name) for name in mlx_voxcpm2.__all__}
    methods = "speak generate generate_batch request make_voice load_adapter encode_audio"
    called |= {name: getattr(VoxCPM2, name) for name in methods.split()}
    blocks = fenced(document, "python")
    trees = [parsed(block) for block in blocks]
    for block, tree in zip(blocks, trees, strict=True):
        assert tree is not None, block
    trees += [
        tree
        for span in code_spans(document.read_text(encoding="utf-8"))
        if (tree := parsed(span)) is not None
    ]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in called:
            known = inspect.signature(called[name]).parameters
            for keyword in node.keywords:
                assert keyword.arg is None or keyword.arg in known, f"{name}({keyword.arg}=)"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_of_documents_lead_somewhere(document):
    text = without_blocks(document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            assert anchor in {anchor_of(heading) for heading in headings}, target


def anchor_of(heading: str) -> str:
    """Anchor of a heading, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_the_readme_is_short_and_shows_how_to_begin():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 250
    assert any("--model english" in line for line in lines[:60])
    assert "python -m pytest" in lines
