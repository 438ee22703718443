"""How near to the official package is each MLX port, on the same weights and the same noise?

    python benchmarks/parity.py [--mlx_audio PYTHON] [--json PATH]

Compares with what the official voxcpm 2.0.3 (PyTorch, float32) recorded for the tests, in every
mode, and prints the relative error of the waveform (root mean square) and its length. PYTHON is
the interpreter of an environment with `mlx[cpu] mlx-audio==0.6.2 torch`: mlx-audio needs PyTorch
to read upstream's AudioVAE. Set MLX_ENABLE_TF32=0 where the GPU has TF32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
VARIANT, STEPS = "released", 8
sys.path.insert(0, str(TESTS))


def arguments(mode: str, config: dict, folder: Path) -> dict:
    """`generate`'s arguments, audio as files."""
    import checkpoints

    wanted = checkpoints.MODES[mode]
    given = {key: wanted[key] for key in ("text", "instruct", "prompt_text") if key in wanted}
    for key, name in (("ref", "ref_audio"), ("prompt", "prompt_audio")):
        if key in wanted:
            samples, rate = checkpoints.waveform(wanted[key], config)
            given[name] = str(checkpoints.write_wav(folder / f"{wanted[key]}.wav", samples, rate))
    return given


def speak_here(source: Path, config: dict, golden: dict):
    """Yields (mode, waveform) from this package."""
    import checkpoints
    import numpy as np

    from mlx_voxcpm2 import load_model

    model = load_model(source, dtype="float32")
    for mode in checkpoints.MODES:
        noise = golden[f"gen.{mode}.noise"]
        (result,) = model.generate(
            **arguments(mode, config, source),
            noise=noise,
            inference_timesteps=STEPS,
            min_tokens=len(noise),
            max_tokens=len(noise),
        )
        yield mode, np.array(result.audio)


def speak_mlx_audio(source: Path, config: dict, golden: dict):
    """Yields (mode, waveform) from mlx-audio, whose random draws are replaced by the noise."""
    import checkpoints
    import mlx.core as mx
    import numpy as np
    import torch
    from mlx_audio.convert import convert
    from mlx_audio.tts.utils import load_model
    from safetensors.torch import load_file

    tensors = source / "audiovae.safetensors"
    torch.save({"state_dict": load_file(tensors)}, source / "audiovae.pth")
    tensors.unlink()
    convert(str(source), str(source / "converted"), dtype="float32", model_domain="tts")
    model = load_model(source / "converted")
    for mode in checkpoints.MODES:
        noise = golden[f"gen.{mode}.noise"]
        rows = iter(noise)
        mx.random.normal = lambda *_, rows=rows, **__: mx.array(next(rows).T[None])
        (result,) = model.generate(
            **arguments(mode, config, source),
            inference_timesteps=STEPS,
            min_tokens=len(noise),
            max_tokens=len(noise),
        )
        yield mode, np.array(result.audio)


def report(speak) -> dict[str, dict[str, float]]:
    """Prints and returns by mode the samples, those expected, and the relative error of both."""
    import checkpoints
    import numpy as np
    from safetensors.numpy import load_file

    golden, found = load_file(TESTS / "golden" / f"{VARIANT}.safetensors"), {}
    with tempfile.TemporaryDirectory() as temporary:
        source = checkpoints.write_checkpoint(Path(temporary), VARIANT)
        for mode, audio in speak(source, checkpoints.config(VARIANT), golden):
            expected = golden[f"gen.{mode}.audio"].astype(np.float64)
            length = min(len(audio), len(expected))
            error = np.sqrt(np.mean((audio[:length] - expected[:length]) ** 2))
            error /= np.sqrt(np.mean(expected[:length] ** 2))
            print(f"{mode:20} {len(audio):7} of {len(expected):7} samples, error {error:.1e}")
            found[mode] = {"samples": len(audio), "expected": len(expected), "error": float(error)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mlx_audio", metavar="PYTHON")
    parser.add_argument("--json", type=Path, metavar="PATH", help="for this package's errors")
    parser.add_argument("--inside_mlx_audio", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside_mlx_audio:
        report(speak_mlx_audio)
        return
    print("mlx_voxcpm2")
    found = report(speak_here)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    if args.mlx_audio:
        print("mlx-audio", flush=True)
        subprocess.run([args.mlx_audio, __file__, "--inside_mlx_audio"], check=True)


if __name__ == "__main__":
    main()
