"""One engine of `speed.py`, in a process and an environment of its own.

Started with its settings as JSON it loads the model, then answers each line of JSON on the
standard input, {"do": ..., "patches": N, "save": PATH or null}, by one on the standard output:

    describe: versions, device, BLAS and its speed, and the bytes of our weights
    speak: seconds until all sound is in numpy     begin: seconds until the first sound is
    parts: as speak, and seconds by part, evaluation being forced after each
    floor: of ours, what `floor.py` measures: bytes a second, and seconds of a patch's products

With every answer comes the memory in bytes; one with "error" is the last. The engine "convert"
only writes what mlx-audio reads.
"""

import ctypes
import importlib.machinery
import importlib.metadata
import json
import os
import resource
import shutil
import signal
import sys
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROWS, WIDTH, PRODUCTS = 22, 1024, 50


class Parts:
    """Seconds by part, from when a part's inputs are computed until its results are."""

    def __init__(self, wait: Callable):
        self.wait = wait
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: object, part: str, method: str, has_prefill: bool = False) -> None:
        """Times a method; with `has_prefill`, calls of many positions are the prefill's."""
        function, kind = getattr(owner, method), type(owner)

        def timed(*args, **kwargs):
            self.wait(args, kwargs)
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            self.wait(result)
            first = next(a for a in (*args, *kwargs.values()) if hasattr(a, "ndim"))
            is_prefill = has_prefill and first.ndim > 2 and first.shape[1] > 1
            self.seconds["prefill" if is_prefill else part] += time.perf_counter() - begin
            return result

        if method != "__call__":
            return setattr(owner, method, timed)
        # Python looks this one up in the class.
        owner.__class__ = type(kind.__name__, (kind,), {method: lambda _, *a, **k: timed(*a, **k)})

    def watch_upstreams(self, model: object, call: str) -> None:
        """Times the modules that upstream's loop calls, and mlx-audio's after it."""
        for part, names in (
            ("local encoder", ("feat_encoder", "enc_to_lm_proj")),
            ("language models", ("base_lm", "residual_lm", "fsq_layer", "fusion_concat_proj")),
            ("DiT solve", ("lm_to_dit_proj", "res_to_dit_proj")),
        ):
            for name in names:
                self.watch(getattr(model, name), part, call, has_prefill=True)
        self.watch(model.audio_vae, "AudioVAE", "decode")


class Engine:
    """A model with what it is to speak; `speak` and `watch` are each engine's own."""

    def __init__(self, settings: dict, model: object, wait: Callable, tensor: Callable):
        self.model, self.wait, self.tensor = model, wait, tensor
        self.text, self.rows = settings["text"], iter(())
        self.solver = {"inference_timesteps": settings["steps"], "cfg_value": settings["cfg"]}

    def describe(self) -> dict:
        name = f"{self.package} {importlib.metadata.version(self.package)}"
        return {"engine": name, **self.runs_on, "gflops": self.gflops()}

    def gflops(self) -> float:
        """Billions of operations a second in products of a solver step's kind."""
        x, w = (self.tensor(np.full((n, WIDTH), 1 / WIDTH, np.float32)) for n in (ROWS, WIDTH))
        seconds = []
        for _ in range(20):
            begin, y = time.perf_counter(), x
            for _ in range(PRODUCTS):
                y = y @ w.T
            self.wait(y)
            seconds.append(time.perf_counter() - begin)
        return 2 * ROWS * WIDTH * WIDTH * PRODUCTS / min(seconds) / 1e9


class MLXEngine(Engine):
    def __init__(self, settings: dict, model: object):
        import mlx.core as mx

        super().__init__(settings, model, mx.eval, mx.array)
        self.mx, self.device_peak = mx, mx.get_peak_memory
        device, chip = mx.default_device().type.name, mx.device_info()["device_name"]
        loaded, blas = ctypes.CDLL(None), "MLX's"
        if hasattr(loaded, "openblas_get_corename"):
            loaded.openblas_get_corename.restype = ctypes.c_char_p
            blas = f"OpenBLAS, {loaded.openblas_get_corename().decode()}"
        elif hasattr(loaded, "mkl_get_version"):
            blas = "MKL"
        self.runs_on = {"backend": f"mlx {mx.__version__}", "device": f"{device}, {chip}"}
        self.runs_on["blas"] = blas


class Ours(MLXEngine):
    package = "mlx-voxcpm2"

    def __init__(self, settings: dict):
        if settings["blas"] == "mlx":
            import mlx.core  # noqa: F401  before the package, which would find a faster one
        from mlx_voxcpm2 import load_model
        from mlx_voxcpm2.layers.compiled import FUSION
        from mlx_voxcpm2.layers.custom.kernel import CHOICES

        FUSION.is_on = True  # the speed of long speech, which a CPU's kernels are compiled for
        super().__init__(settings, load_model(settings["folder"], settings["dtype"]))
        self.kernels = dict(CHOICES.variants)

    def describe(self) -> dict:
        from mlx.utils import tree_flatten

        weights = {name: value.nbytes for name, value in tree_flatten(self.model.parameters())}
        kernels = len(self.kernels)
        return super().describe() | {"weights": weights, "custom_kernels": kernels}

    def use_kernels(self, wanted: bool, noise: np.ndarray) -> None:
        """Switches the custom kernels on or off, and builds the graphs anew, untimed."""
        from mlx_voxcpm2.layers.custom.kernel import CHOICES

        if bool(CHOICES.variants) == wanted:
            return
        CHOICES.variants = dict(self.kernels) if wanted else {}
        for part in (self.model.feat_encoder, self.model.feat_decoder, self.model.audio_vae):
            part.compiled.clear()
        for stream in (True, False):
            list(self.speak(noise[:2], stream))

    def speak(self, noise: np.ndarray, stream: bool) -> Iterator[np.ndarray]:
        options = {"min_tokens": len(noise), "max_tokens": len(noise), **self.solver}
        for result in self.model.generate(self.text, noise=noise, stream=stream, **options):
            yield np.array(result.audio)

    def floor(self, noise: np.ndarray) -> dict:
        import floor

        seconds = floor.products_seconds(self.model, lambda: list(self.speak(noise, stream=False)))
        return {"bandwidth": floor.bandwidth(), "products": seconds}

    def watch(self, parts: Parts) -> None:
        parts.watch(self.model, "language models", "__call__", has_prefill=True)
        parts.watch(self.model, "local encoder", "embed_patches", has_prefill=True)
        parts.watch(self.model, "DiT solve", "sample_patch")
        parts.watch(self.model.audio_vae, "AudioVAE", "decode")


class MLXAudio(MLXEngine):
    package = "mlx-audio"

    def __init__(self, settings: dict):
        from mlx_audio.tts.utils import load_model

        super().__init__(settings, load_model(Path(settings["converted"])))
        self.mx.random.normal = lambda *_, **__: self.tensor(next(self.rows).T[None])

    def speak(self, noise: np.ndarray, stream: bool) -> Iterator[np.ndarray]:
        """All at once: it does not stream."""
        self.rows, options = iter(noise), {"min_tokens": len(noise), "max_tokens": len(noise)}
        for result in self.model.generate(self.text, **options, **self.solver):
            yield np.array(result.audio)

    def watch(self, parts: Parts) -> None:
        parts.watch_upstreams(self.model, "__call__")
        parts.watch(self.model.feat_decoder, "DiT solve", "sample")


class Official(Engine):
    package = "voxcpm"

    def __init__(self, settings: dict):
        import torch
        import transformers  # noqa: F401  looks for torchaudio before there is a stand-in

        stand_in = types.ModuleType("torchaudio")  # imported for version 1 only
        stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = stand_in
        from voxcpm.model.voxcpm2 import VoxCPM2Model

        model = VoxCPM2Model.from_local(settings["folder"])
        is_cpu, cuda = model.device == "cpu", torch.cuda
        super().__init__(
            settings,
            model,
            wait=lambda *_: None if is_cpu else torch.accelerator.synchronize(),
            tensor=lambda x: torch.from_numpy(np.ascontiguousarray(x)).to(model.device),
        )
        self.device_peak = lambda: cuda.max_memory_allocated() if cuda.is_available() else 0
        torch.randn = lambda *_, dtype, **__: self.tensor(next(self.rows).T[None]).to(dtype)
        self.runs_on = {
            "backend": f"torch {torch.__version__}",
            "device": model.device,
            "blas": "MKL" if torch.backends.mkl.is_available() else "torch's",
        }

    def speak(self, noise: np.ndarray, stream: bool) -> Iterator[np.ndarray]:
        self.rows, options = iter(noise), {"min_len": len(noise), "max_len": len(noise)}
        name = "generate_with_prompt_cache_streaming" if stream else "generate_with_prompt_cache"
        found = getattr(self.model, name)(self.text, None, **options, **self.solver)
        for audio, *_ in found if stream else [found]:
            yield audio.numpy().reshape(-1)

    def watch(self, parts: Parts) -> None:
        parts.watch_upstreams(self.model, "forward")
        for module in (self.model.base_lm, self.model.residual_lm):
            parts.watch(module, "language models", "forward_step")
        parts.watch(self.model.feat_decoder, "DiT solve", "forward")


def convert(settings: dict) -> None:
    """Writes what mlx-audio reads; it takes upstream's AudioVAE as a .pth only."""
    import torch
    from mlx_audio.convert import convert
    from safetensors.torch import load_file

    source = Path(settings["folder"])
    tensors = source / "audiovae.safetensors"
    if tensors.exists():
        source = source.with_name("with_pth")
        shutil.copytree(tensors.parent, source, True, shutil.ignore_patterns(tensors.name))
        torch.save({"state_dict": load_file(tensors)}, source / "audiovae.pth")
    convert(str(source), settings["converted"], dtype=settings["dtype"], model_domain="tts")


def answer(engine: Engine, request: dict, parts: Parts, noise: np.ndarray) -> dict:
    if request["do"] == "describe":
        return engine.describe()
    if request["do"] == "floor":
        return engine.floor(noise[: request["patches"]])
    if "kernels" in request:
        engine.use_kernels(request["kernels"], noise)
    if request["do"] == "parts" and not parts.seconds:
        engine.watch(parts)
    parts.seconds.clear()
    begin = time.perf_counter()
    audio = next(engine.speak(noise[: request["patches"]], stream=request["do"] == "begin"))
    seconds = time.perf_counter() - begin
    if request["save"]:
        np.save(request["save"], audio)
    return {"seconds": seconds, "parts": dict(parts.seconds)}


def main() -> None:
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # `speed.py` ends its workers
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print on the standard output
    try:
        if settings["engine"] == "convert":
            convert(settings)
            return print("{}", file=answers)
        kinds = {"ours": Ours, "mlx_audio": MLXAudio, "official": Official}
        engine = kinds[settings["engine"]](settings)
        parts, noise = Parts(engine.wait), np.load(settings["noise"])
        for line in sys.stdin:
            found = answer(engine, json.loads(line), parts, noise)
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            found["resident"] = resident * (1 if sys.platform == "darwin" else 1024)
            found["device_peak"] = engine.device_peak()
            print(json.dumps(found), file=answers)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)
        raise


if __name__ == "__main__":
    main()
