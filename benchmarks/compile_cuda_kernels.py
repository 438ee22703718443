"""Compiles the custom kernels' CUDA sources at the released size, which needs no GPU.

    python benchmarks/compile_cuda_kernels.py [--nvcc nvcc] [--architecture sm_90] [--kernel NAME]

Every variant of every operation of a patch, in bfloat16 and float16, is put into the function that
MLX generates around a source, and compiled by CUDA's compiler. Prints registers, spilled bytes and
shared memory of each. What the kernels compute is tested elsewhere: `tests/test_custom_kernels.py`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from graph_counts import build_model
from graph_watch import behave_as_on_gpu, without_memory

from mlx_voxcpm2.layers.custom.add_norm import AddNorm
from mlx_voxcpm2.layers.custom.kernel import Operation
from mlx_voxcpm2.trials.prove import operations_of

import mlx.core as mx  # isort: skip

TYPES = {
    mx.bfloat16: "__nv_bfloat16",
    mx.float16: "__half",
    mx.float32: "float",
    mx.int32: "int32_t",
}
INCLUDES = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cooperative_groups.h>
"""


def constant(name: str, value: object) -> str:
    """A template argument as MLX writes it."""
    if isinstance(value, bool):
        return f"constexpr bool {name} = {str(value).lower()};"
    if isinstance(value, int):
        return f"constexpr int {name} = {value};"
    return f"using {name} = {TYPES[value]};"


def write_source(settings: dict, launch: dict) -> str:
    """The file that MLX compiles for a launch."""
    names = [*settings["input_names"], *settings["output_names"]]
    types = [f"const {TYPES[array.dtype]}" for array in launch["inputs"]]
    types += [TYPES[dtype] for dtype in launch["output_dtypes"]]
    parameters = [f"    {kind}* {name}" for kind, name in zip(types, names, strict=True)]
    constants = "\n".join(constant(*each) for each in launch["template"])
    listed = ",\n".join(parameters)
    return (
        f"{INCLUDES}{settings['header']}namespace mlx::core::cu {{\n"
        f"__global__ void run(\n{listed}) {{\n{constants}\n"
        f"{settings['source']}\n}}\n}}\n"
    )


def sources(operations: list[Operation]) -> dict[str, str]:
    """Sources of all variants by kernel and template, each once."""
    found = {}

    def cuda_kernel(**settings):
        def launch(**launched) -> list[mx.array]:
            template = ", ".join(f"{name} {value}" for name, value in launched["template"])
            found[f"{settings['name']}: {template}"] = write_source(settings, launched)
            pairs = zip(launched["output_shapes"], launched["output_dtypes"], strict=True)
            return [mx.zeros(shape, dtype) for shape, dtype in pairs]

        return launch

    mx.fast.cuda_kernel = cuda_kernel
    for operation in operations:
        for variant in operation.variants:
            operation.custom(variant, *operation.example())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--kernel", default="", help="only those with this in their name")
    args = parser.parse_args()
    behave_as_on_gpu()
    operations, failed = [], 0
    for dtype in ("bfloat16", "float16"):
        model = build_model()
        without_memory(model, dtype, lambda name: True)
        operations += operations_of(model)
    # Of quantized layers, which these models have not.
    operations += [AddNorm(22, 1024, 1.0, 1e-5, dtype) for dtype in (mx.bfloat16, mx.float16)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cu"
        for name, source in sorted(sources(operations).items()):
            if args.kernel not in name:
                continue
            file.write_text(source, encoding="utf-8")
            command = [args.nvcc, "-std=c++17", f"-arch={args.architecture}", "-cubin"]
            command += ["-Xptxas", "-v", "-o", str(file.with_suffix(".cubin")), str(file)]
            result = subprocess.run(command, capture_output=True, text=True)
            used = re.findall(r"Used (\d+) registers.*?(\d+) bytes smem", result.stderr)
            spilled = re.findall(r"(\d+) bytes spill stores", result.stderr)
            print(name, "registers, shared bytes:", *used, "spilled:", *spilled, flush=True)
            if result.returncode:
                failed += 1
                print(result.stderr, file=sys.stderr)
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
