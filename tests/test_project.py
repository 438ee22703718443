"""The house keeps its shape: imports run one way, starting is quick, nothing is left unpackaged."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up: a module imports only what stands before it.
ORDER = """
blas backend errors whole_file json_lines schema config
models.compiled models.conv models.audio_vae models.rope models.joined_linear models.kv_cache
models.minicpm models.local_encoder models.local_dit models.flow models.voxcpm2
audio clips audio_output loudspeaker tokenizer
torch_file weight_files hub recognition known_words whole_folder
normalization options segments adapter_files lora_layers adapters
results prompt noise batch guards streams generation verification voice_files voices
joins subtitles parts segment_reader long_form model
 live_batch
quantization layouts load
training.manifest training.latents training.sequences training.losses training.options
training.processes training.trainer training.run_folder training.run
__init__ command hearing option_flags long_command sinks generate
app.inputs app.takes app.live_sound app.speaker app.events app.page app.__main__
batch_lines batch_summary batch_job batch_command
offered_voices sound_encoder speech_order speech_jobs mlx_audio server serve
voice
train
cli
""".split()
ANYWHERE = {"app.__init__", "models.__init__", "training.__init__"}


def modules() -> dict[str, Path]:
    package = ROOT / "mlx_voxcpm2"
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in package.rglob("*.py")
    }


def imported(name: str, path: Path) -> list[str]:
    """The package's own modules that this one imports when it runs (not for type checkers)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = [
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    ]
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or node in hidden:
            continue
        parts = name.split(".")[: -node.level]
        target = ".".join([*parts, *(node.module or "").split(".")]).strip(".")
        known = modules()
        found += (
            [target]
            if target in known
            else [f"{target}.{alias.name}".strip(".") for alias in node.names]
        )
    return found


def test_every_module_has_its_place():
    assert set(modules()) - ANYWHERE == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_one_way(name):
    for other in imported(name, modules()[name]):
        if other == "__version__":
            continue
        assert ORDER.index(other) < ORDER.index(name), f"{name} imports {other}"


def test_networks_know_no_files_clocks_or_printing():
    for name, path in modules().items():
        if name.startswith("models."):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {
                alias.name.split(".")[0]
                for node in ast.walk(tree)
                if isinstance(node, ast.Import)
                for alias in node.names
            }
            assert names <= {"math", "mlx", "numpy"}, name
            called = {
                ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
            }
            assert not called & {"print", "open", "mx.eval", "mx.async_eval"}, name
            assert not [call for call in called if call.endswith(".item")], name


def test_all_packages_are_listed_for_the_wheel():
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in [ROOT / "mlx_voxcpm2", *(ROOT / "mlx_voxcpm2").rglob("__init__.py")]:
        folder = path if path.is_dir() else path.parent
        name = ".".join(folder.relative_to(ROOT).parts)
        assert f'"{name}"' in listed, name


def test_starting_imports_nothing_heavy():
    """mlx-lm and transformers take seconds, PyTorch is never needed."""
    script = "import mlx_voxcpm2, mlx_voxcpm2.generate, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "torch", "transformers", "mlx_lm", "huggingface_hub", "scipy", "librosa", "tqdm",
    }  # fmt: skip


def test_the_readmes_examples_name_what_exists():
    """Every flag and every keyword that the README shows."""
    import inspect
    import re

    from mlx_voxcpm2.convert import __main__ as converting

    from mlx_voxcpm2 import VoxCPM2, batch_command, generate, serve, train, voice
    from mlx_voxcpm2.app import __main__ as page

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
