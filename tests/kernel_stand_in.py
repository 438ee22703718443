"""Runs kernels for Metal and CUDA on a CPU: their sources compiled as C++, thread by thread.

`StandIn.metal_kernel` and `cuda_kernel` take the arguments of MLX's functions of these names and
generate the same functions around the sources. Launches are noted first, in `noting`, then all are
compiled at once, and after that they can be run.
"""

from __future__ import annotations

import ctypes
import subprocess
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

HERE = Path(__file__).parent
TYPES = {
    "metal": {mx.bfloat16: "bfloat16_t", mx.float16: "float16_t", mx.float32: "float"},
    "cuda": {mx.bfloat16: "__nv_bfloat16", mx.float16: "__half", mx.float32: "float"},
}
for _names in TYPES.values():
    _names[mx.int32] = "int"


def _signature(backend: str, names: list[str], arrays: list[tuple], outputs: bool) -> list[str]:
    """Parameters for inputs or outputs, as MLX declares them."""
    found = []
    for name, (shape, dtype) in zip(names, arrays, strict=True):
        place = ("constant " if np.prod(shape) < 8 else "device ") if backend == "metal" else ""
        mark = ("device " if backend == "metal" else "") if outputs else f"const {place}"
        found.append(f"{mark}{TYPES[backend][dtype]}* {name}")
    return found


def _constants(backend: str, template: list[tuple]) -> str:
    """Template arguments as constants of a function."""
    lines = []
    for name, value in template:
        if isinstance(value, bool):
            lines.append(f"constexpr bool {name} = {str(value).lower()};")
        elif isinstance(value, int):
            lines.append(f"constexpr int {name} = {value};")
        else:
            lines.append(f"using {name} = {TYPES[backend][value]};")
    return "\n".join(lines)


def _function(number: int, backend: str, header: str, parameters: tuple[str], body: str) -> str:
    """C++ of a kernel, and the function that runs it for all threads."""
    space = f"{backend}_kernels"
    types = [each.rsplit(maxsplit=1)[0] for each in parameters]
    arguments = ", ".join(f"({kind})buffers[{i}]" for i, kind in enumerate(types))
    return f"""
namespace {space} {{ namespace number_{number} {{
{header.replace("#include", "//")}
void run({", ".join(parameters)}) {{
{body}
}} }} }}
extern "C" int kernel_{number}(void** buffers, const int* grid, const int* size, unsigned seed) {{
    return stand_in::run(grid, size, seed, [=] {{ {space}::number_{number}::run({arguments}); }});
}}
"""


class StandIn:
    """Compiled kernels by their source, and the functions that stand for MLX's."""

    def __init__(self, folder: Path):
        self.folder, self.sources, self.is_noting = folder, {}, False
        self.named: dict[tuple, tuple] = {}
        """Sources by what MLX calls them; before 0.32.1 two of one name got in each other's way."""
        self.library: ctypes.CDLL | None = None
        self.seed = 0

    @contextmanager
    def noting(self):
        """Launches give zeros meanwhile; at the end all that were made are compiled."""
        self.is_noting = True
        yield
        self.is_noting = False
        files = []
        for backend in TYPES:
            functions = [
                _function(number, *source)
                for source, number in self.sources.items()
                if source[0] == backend
            ]
            file = self.folder / f"{backend}.cpp"
            include = f'#include "{backend}_stand_in.h"\n'
            file.write_text(include + "".join(functions), encoding="utf-8")
            files.append(str(file))
        target = str(self.folder / "kernels.so")
        command = ["g++", "-std=c++20", "-O1", "-w", "-shared", "-fPIC", f"-I{HERE}", "-o", target]
        subprocess.run([*command, *files], check=True)
        self.library = ctypes.CDLL(target)

    def metal_kernel(self, **settings):
        return partial(self._launch, "metal", settings)

    def cuda_kernel(self, **settings):
        return partial(self._launch, "cuda", settings)

    def _launch(
        self, backend, settings, inputs, template, grid, threadgroup, output_shapes, output_dtypes
    ):
        outputs = list(zip(output_shapes, output_dtypes, strict=True))
        given = [(array.shape, array.dtype) for array in inputs]
        parameters = _signature(backend, settings["input_names"], given, outputs=False)
        parameters += _signature(backend, settings["output_names"], outputs, outputs=True)
        body = _constants(backend, template) + settings["source"]
        source = backend, settings["header"], tuple(parameters), body
        if source not in self.sources and not self.is_noting:
            raise KeyError(f"{settings['name']} was not noted: {template}")
        name = backend, settings["name"], tuple(template)
        assert self.named.setdefault(name, source) == source, "another source of the same name"
        number = self.sources.setdefault(source, len(self.sources))
        if self.is_noting:
            return [mx.zeros(shape, dtype) for shape, dtype in outputs]
        return self._run(number, inputs, outputs, grid, threadgroup)

    def _run(self, number, inputs, outputs, grid, threadgroup) -> list[mx.array]:
        buffers = [_Buffer(_bits(array)) for array in inputs]
        for shape, dtype in outputs:  # what a kernel forgets to write is no number
            buffers.append(_Buffer(np.full(shape, _NO_NUMBER[dtype.size])))
        pointers = (ctypes.c_void_p * len(buffers))(*(each.address for each in buffers))
        groups = [-(-all_ // part) for all_, part in zip(grid, threadgroup, strict=True)]
        ints = ctypes.c_int * 3
        self.seed += 1
        status = self.library[f"kernel_{number}"](
            pointers, ints(*groups), ints(*threadgroup), self.seed
        )
        assert status == 0, "some threads never reached a barrier"
        assert all(each.is_intact() for each in buffers), "written outside of an array"
        found = buffers[len(inputs) :]
        return [
            mx.array(each.content).view(dtype)
            for each, (_, dtype) in zip(found, outputs, strict=True)
        ]


_NO_NUMBER = {2: np.uint16(0x7FFF), 4: np.uint32(0x7FC00000)}
_MARGIN = 4096


def _bits(array: mx.array) -> np.ndarray:
    return np.array(array.view(mx.uint16 if array.dtype.size == 2 else mx.uint32))


class _Buffer:
    """An array between margins of no numbers, which nothing may write and no result contain."""

    def __init__(self, content: np.ndarray):
        blank = _NO_NUMBER[content.itemsize]
        self.whole = np.full(content.size + 2 * _MARGIN, blank)
        self.content = self.whole[_MARGIN : _MARGIN + content.size].reshape(content.shape)
        self.content[...] = content
        self.address = self.content.ctypes.data

    def is_intact(self) -> bool:
        ends = self.whole[:_MARGIN], self.whole[-_MARGIN:]
        return all((end == _NO_NUMBER[self.whole.itemsize]).all() for end in ends)
