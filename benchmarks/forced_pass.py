"""Outputs of each module of a checkpoint, under teacher forcing with the same patches and noise.

The patches that the source generated are fed to every checkpoint, so that errors do not grow from
patch to patch. Products are computed in float32 whatever type the weights are stored in, so that
two checkpoints differ by their weights alone and not by a machine's rounding.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mlx_voxcpm2 import VoxCPM2  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.models.voxcpm2.flow import Schedule, guide
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.speech.prompt import Prompt

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip
import numpy as np  # isort: skip
from mlx.utils import tree_flatten, tree_unflatten  # isort: skip

ATTENTION, MLP = r"layers\.\d+\.self_attn", r"layers\.\d+\.mlp"
DIT = r"feat_decoder\.estimator"
STACKS = {
    "base LM": "base_lm",
    "residual LM": "residual_lm",
    "local encoder": r"feat_encoder\.encoder",
    "DiT": rf"{DIT}\.decoder",
}
PROJECTIONS = {
    "q, k, v": rf"{ATTENTION}\.[qkv]_proj",
    "o": rf"{ATTENTION}\.o_proj",
    "gate, up": rf"{MLP}\.(gate|up)_proj",
    "down": rf"{MLP}\.down_proj",
}
GROUPS = {
    f"{name}: {kind}": rf"{stack}\.{layers}"
    for name, stack in STACKS.items()
    for kind, layers in PROJECTIONS.items()
} | {
    "base LM: text embeddings": r"base_lm\.embed_tokens",
    "local encoder: in": r"feat_encoder\.in_proj",
    "encoder to LM": "enc_to_lm_proj",
    "FSQ": r"fsq_layer\.(in|out)_proj",
    "fusion": "fusion_concat_proj",
    "LM to DiT, residual to DiT": "(lm|res)_to_dit_proj",
    "stop": "stop_(proj|head)",
    "DiT: in": rf"{DIT}\.in_proj",
    "DiT: condition": rf"{DIT}\.cond_proj",
    "DiT: out": rf"{DIT}\.out_proj",
    "DiT: time": rf"{DIT}\.(delta_)?time_mlp\.linear_[12]",
}
"""Layers that are quantised together, by name: a pattern of their paths."""


@dataclass(frozen=True)
class Forced:
    """Inputs of a teacher-forced pass."""

    text: str
    words: list[int]
    """Token ids of the text."""
    patches: np.ndarray
    """Patches to feed, (N, P, D)."""
    noise: np.ndarray
    """Noise that the solver starts from, (N, P, D)."""


def relative_error(ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray]) -> float:
    """Root mean square of all differences over that of `theirs`."""
    pairs = [(a.astype(np.float64), b) for a, b in zip(ours, theirs, strict=True)]
    wrong = sum(np.sum((a - b) ** 2) for a, b in pairs)
    return float(np.sqrt(wrong / sum(np.sum(b.astype(np.float64) ** 2) for _, b in pairs)))


@contextmanager
def float32(model: VoxCPM2) -> Iterator[None]:
    """Has the model compute in float32, with its matrices as stored and widened at each use.

    On a CPU that is also 60 times as fast as MLX's own product of a quantised matrix.
    """
    before = [
        (name, value)
        for name, value in tree_flatten(model.parameters())
        if mx.issubdtype(value.dtype, mx.floating) and value.ndim != 2
    ]
    product = mx.quantized_matmul

    def widened(x, weight, scales, biases=None, transpose=True, **settings):
        # Scales in bfloat16 would round the weights; those of other modes are codes.
        if biases is not None:
            scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        matrix = mx.dequantize(weight, scales, biases, **settings)
        return x @ (matrix.T if transpose else matrix)

    # The activations have the type of the norms and biases.
    model.load_weights([(name, value.astype(mx.float32)) for name, value in before], strict=False)
    mx.quantized_matmul = widened
    try:
        yield
    finally:
        mx.quantized_matmul = product
        model.load_weights(before, strict=False)


@contextmanager
def quantised(model: VoxCPM2, choose: Callable[[str, nn.Module], bool | dict]) -> Iterator[None]:
    """Has some of the model's layers quantised. choose: `class_predicate` of nn.quantize."""

    def fits(path: str, layer: nn.Module) -> bool | dict:
        settings = hasattr(layer, "to_quantized") and choose(path, layer)
        return settings and not layer.weight.shape[-1] % settings["group_size"] and settings

    before = tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module)
    nn.quantize(model, class_predicate=fits)
    try:
        yield
    finally:
        model.update_modules(tree_unflatten(before))


def group_alone(group: str, settings: dict) -> Callable[[str, nn.Module], bool | dict]:
    """The `choose` of `quantised` for the layers of one of GROUPS alone."""
    return lambda path, _: bool(re.fullmatch(GROUPS[group], path)) and settings


def speak(
    model: VoxCPM2, text: str, noise: np.ndarray, options: GenerationOptions, may_stop: bool = False
) -> np.ndarray:
    """Generates patches (N, P, D) without forcing, one per row of noise.

    may_stop: whether the stop head may end them earlier.
    """
    least = options.min_tokens if may_stop else len(noise)
    options = replace(options, min_tokens=least, max_tokens=len(noise))
    patches = model.generate_patches(text, options=options, noise=mx.array(noise))
    return np.stack([np.array(patch.astype(mx.float32)) for patch in patches])


def velocities(
    model: VoxCPM2, mu: mx.array, cond: mx.array, forced: Forced, schedule: Schedule, cfg: float
) -> mx.array:
    """mu (N, 2 H), cond (N, P, D) -> guided velocities (N, steps, P, D).

    They are computed on the straight path from the noise to each patch, at the solver's times.
    """
    times = mx.array(schedule.times[schedule.zero_steps :])
    count, steps, (length, size) = len(mu), len(times), cond.shape[1:]
    t = times[None, :, None, None]
    x = t * mx.array(forced.noise)[:, None] + (1 - t) * mx.array(forced.patches)[:, None]
    x = x.reshape(-1, length, size).astype(model.dtype)
    mu, cond = mx.repeat(mu, steps, axis=0), mx.repeat(cond, steps, axis=0)
    t = mx.tile(times, 2 * count)
    x, cond = mx.concatenate([x, x]), mx.concatenate([cond, cond])
    mu = mx.concatenate([mu, mx.zeros_like(mu)])
    both = model.feat_decoder.estimator(x, mu, t, cond, mx.zeros_like(t))
    both = both.reshape(2, -1, length, size)
    found = guide(both, mx.array(cfg, dtype=model.dtype))
    return found.reshape(count, steps, length, size)


def module_outputs(
    model: VoxCPM2, forced: Forced, options: GenerationOptions, given: dict | None = None
) -> dict[str, np.ndarray]:
    """Outputs of every module by name; from "LM to DiT" on they have a row per patch.

    given: outputs that each module gets as its inputs, so that its error is its own. By default
    they are those of the modules before it, so that errors add up; only then there are latents.
    """
    found: dict[str, np.ndarray] = {}

    def output(name: str, value: mx.array) -> mx.array:
        found[name] = np.array(value.astype(mx.float32))
        return mx.array((given or found)[name]).astype(model.dtype)

    schedule, cfg = Schedule.sway(options.inference_timesteps), options.cfg_value
    prompt = Prompt.build(forced.words, prompt=mx.array(forced.patches[:-1]))
    is_audio = mx.array([prompt.is_audio])[..., None]

    text = output("text embeddings", model.base_lm.embed(mx.array([prompt.tokens])))
    local = output("local encoder", model.feat_encoder(prompt.patches[None].astype(model.dtype)))
    audio = output("encoder to LM", model.enc_to_lm_proj(local))
    audio = mx.concatenate([mx.zeros_like(text[:, audio.shape[1] :]), audio], axis=1)
    hidden = output("base LM", model.base_lm(mx.where(is_audio, audio, text)))
    output("FSQ codes", mx.round(mx.tanh(model.fsq_layer.in_proj(hidden)) * model.fsq_layer.levels))
    hidden = mx.where(is_audio, output("FSQ", model.fsq_layer(hidden)), hidden)
    fused = output("fusion", model.fusion_concat_proj(mx.concatenate([hidden, audio], axis=-1)))
    residual = output("residual LM", model.residual_lm(fused))

    count = len(forced.patches)
    hidden, residual = hidden[0, -count:], residual[0, -count:]
    mu = [
        output("LM to DiT", model.lm_to_dit_proj(hidden)),
        output("residual to DiT", model.res_to_dit_proj(residual)),
    ]
    times = output("DiT time", model.feat_decoder.time_tokens(schedule))
    cond = mx.array(np.roll(forced.patches, 1, axis=0)).at[0].multiply(0).astype(model.dtype)
    output("velocity", velocities(model, mx.concatenate(mu, axis=-1), cond, forced, schedule, cfg))
    logits = model.stop_logits(hidden)
    output("stop margin", logits[:, 1] - logits[:, 0])
    if given is None:
        noise = mx.array(forced.noise).astype(model.dtype)
        patches = model.sample_patch(hidden, residual, cond, noise, schedule, times, cfg)
        output("latents", patches)
    return found


def shapes(model: VoxCPM2) -> tuple:
    """Sizes that two checkpoints must share to be compared."""
    config = model.config
    return config.patch_size, config.feat_dim, config.lm_config, config.local_dit_config


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters."""
    return sum(value.nbytes for _, value in tree_flatten(model.parameters()))


def bytes_per_patch(model: VoxCPM2, steps: int) -> int:
    """Bytes of weights that generating one patch reads, counted once per use."""
    schedule = Schedule.sway(steps)
    solver_steps = len(schedule.times) - schedule.zero_steps

    def uses(name: str) -> int:
        # Text and times are embedded before the first patch; no audio is encoded.
        if re.match(r".*(embed_tokens|time_mlp)\.|audio_vae\.encoder\.", name):
            return 0
        once = not name.startswith("feat_decoder.") or ".cond_proj." in name
        return 1 if once else solver_steps

    return sum(uses(name) * value.nbytes for name, value in tree_flatten(model.parameters()))


def is_random(model: VoxCPM2) -> bool:
    """Whether the weights look untrained: every matrix is uniform or normal.

    Their kurtosis is 1.8 or 3; training gives some matrices longer tails.
    """
    for path, layer in model.named_modules():
        if re.fullmatch(rf"(base_lm|{STACKS['DiT']})\.layers\.0\..*_proj", path):
            values = np.array(layer.weight.astype(mx.float32)).ravel()
            values = values - values.mean()
            kurtosis = np.mean(values**4) / np.mean(values**2) ** 2
            if min(abs(kurtosis - 1.8), abs(kurtosis - 3)) > 0.02 + 25 / np.sqrt(values.size):
                return False
    return True
