"""Tiny Voxtral checkpoints of random weights, in the released layout, and sounds.

Everything is made by numpy from names, so that the golden values need hold neither weights nor
inputs: `golden/record_voxtral.py` and the tests call this file and get the same arrays.
"""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

RATE = 16000
SPECIALS, RANKS, AUDIO = 36, 420, 24
# Head sizes are not width / heads, head counts are odd; "tied" has no head of its own.
# "brief" has chunks of 1.2 s, for tests of what does not depend on their length; all layers of
# "exchange" can be quantised.
_OWN_HEAD = {
    **{"positions": 1500, "width": 40, "heads": 5, "layers": 2, "hidden": 48, "text_heads": 6},
    **{"kv_heads": 2, "head_dim": 12, "text_layers": 2, "inner": 80, "theta": 1e8, "tied": False},
}
VARIANTS = {
    "own_head": _OWN_HEAD,
    "tied": {
        **{"positions": 1500, "width": 24, "heads": 3, "layers": 1, "hidden": 54, "text_heads": 9},
        **{"kv_heads": 3, "head_dim": 10, "text_layers": 3, "inner": 72, "theta": 1e6},
        "tied": True,
    },
}
BRIEF, EXCHANGE = "brief", "exchange"
_WITHOUT_GOLDENS = {
    BRIEF: {**_OWN_HEAD, "positions": 60},
    EXCHANGE: {
        **{**_OWN_HEAD, "positions": 8, "width": 32, "heads": 4, "hidden": 64, "text_heads": 4},
        **{"head_dim": 32, "inner": 96},
    },
}


def sizes(variant: str) -> dict:
    """Sizes of a variant."""
    return _WITHOUT_GOLDENS.get(variant) or VARIANTS[variant]


# Those that mistral-common asks for; the released file has the same ids for them.
NAMES = dict(enumerate((
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] "
    "[/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] "
    "[SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
).split())) | {AUDIO: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}  # fmt: skip
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def uniform(name: str, *shape: int, size: float = 1.0) -> np.ndarray:
    """Numbers of a standard deviation, by name: uniform, whose stream numpy has frozen."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return ((2 * random.random_sample(shape) - 1) * size * 3**0.5).astype(np.float32)


def sound(seconds: float, name: str = "sound") -> np.ndarray:
    """A triangle wave that glides, with pauses, in noise: without functions that may round."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = (150 * time + 40 * time * time / (1 + time)) % 1
    loud = np.where((3 * time) % 2 < 1.5, 0.4, 0.0)
    wave = loud * (4 * np.abs(phase - 0.5) - 1)
    return (wave + uniform(name, len(time), size=0.02)).astype(np.float32)


def quiet_beginning() -> np.ndarray:
    """31 s whose loudest second is in the second chunk, so that it sets the floor of the first."""
    samples = sound(31.0)
    samples[: 30 * RATE] *= np.float32(1e-3)
    return samples


def short_mel() -> np.ndarray:
    """Numbers for a spectrogram of 4 s, (1, 400, 128)."""
    return uniform("mel", 1, 400, 128, size=0.5)


def config(variant: str) -> dict:
    """Contents of config.json, as transformers 5 writes it."""
    v = sizes(variant)
    return {
        "model_type": "voxtral", "audio_token_id": AUDIO, "projector_hidden_act": "gelu",
        "dtype": "float32", "tie_word_embeddings": v["tied"],
        "audio_config": {
            "model_type": "voxtral_encoder", "hidden_size": v["width"],
            "intermediate_size": 4 * v["width"], "num_hidden_layers": v["layers"],
            "num_attention_heads": v["heads"], "num_mel_bins": 128,
            "max_source_positions": v["positions"],
            "activation_function": "gelu", "vocab_size": 51866,
        },
        "text_config": {
            "model_type": "llama", "vocab_size": SPECIALS + RANKS, "hidden_size": v["hidden"],
            "intermediate_size": v["inner"], "num_hidden_layers": v["text_layers"],
            "num_attention_heads": v["text_heads"], "num_key_value_heads": v["kv_heads"],
            "head_dim": v["head_dim"], "rms_norm_eps": 1e-5, "max_position_embeddings": 131072,
            "rope_parameters": {"rope_type": "default", "rope_theta": v["theta"]},
            "tie_word_embeddings": v["tied"], "hidden_act": "silu",
        },
    }  # fmt: skip


def old_config(variant: str) -> dict:
    """The same contents in the spelling of older releases."""
    data = config(variant)
    audio, text = data["audio_config"], data["text_config"]
    for old, new in {
        "d_model": "hidden_size",
        "encoder_layers": "num_hidden_layers",
        "encoder_attention_heads": "num_attention_heads",
        "encoder_ffn_dim": "intermediate_size",
    }.items():
        audio[old] = audio.pop(new)
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    return data | {"torch_dtype": data.pop("dtype")}


def shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors in PyTorch's axes, by their names in the released files."""
    v = sizes(variant)
    width, hidden, inner, size = v["width"], v["hidden"], v["inner"], v["head_dim"]
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = (outputs, inputs)
        if bias:
            found[f"{name}.bias"] = (outputs,)

    tower, decoder = "audio_tower", "language_model.model"
    for conv, inputs in (("conv1", 128), ("conv2", width)):
        found[f"{tower}.{conv}.weight"] = (width, inputs, 3)
        found[f"{tower}.{conv}.bias"] = (width,)
    linear(f"{tower}.embed_positions", v["positions"], width, bias=False)
    for i in range(v["layers"]):
        layer = f"{tower}.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{layer}.self_attn.{name}", width, width, bias=name != "k_proj")
        linear(f"{layer}.fc1", 4 * width, width)
        linear(f"{layer}.fc2", width, 4 * width)
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            found |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
    found |= {f"{tower}.layer_norm.weight": (width,), f"{tower}.layer_norm.bias": (width,)}
    linear("multi_modal_projector.linear_1", hidden, 4 * width, bias=False)
    linear("multi_modal_projector.linear_2", hidden, hidden, bias=False)
    linear(f"{decoder}.embed_tokens", SPECIALS + RANKS, hidden, bias=False)
    for i in range(v["text_layers"]):
        layer = f"{decoder}.layers.{i}"
        heads, kv = v["text_heads"] * size, v["kv_heads"] * size
        for name, rows in (("q_proj", heads), ("k_proj", kv), ("v_proj", kv)):
            linear(f"{layer}.self_attn.{name}", rows, hidden, bias=False)
        linear(f"{layer}.self_attn.o_proj", hidden, heads, bias=False)
        linear(f"{layer}.mlp.gate_proj", inner, hidden, bias=False)
        linear(f"{layer}.mlp.up_proj", inner, hidden, bias=False)
        linear(f"{layer}.mlp.down_proj", hidden, inner, bias=False)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}.{norm}.weight"] = (hidden,)
    found[f"{decoder}.norm.weight"] = (hidden,)
    if not v["tied"]:
        linear("language_model.lm_head", SPECIALS + RANKS, hidden, bias=False)
    return found


def tensors(variant: str) -> dict[str, np.ndarray]:
    """All tensors by name: no norm is 1, no bias 0."""
    made = {}
    for name, shape in shapes(variant).items():
        size = 1.3 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
        if name.endswith(("embed_tokens.weight", "embed_positions.weight")):
            size = 0.7
        made[name] = uniform(f"{variant}/{name}", *shape, size=size)
        if "norm" in name and name.endswith(".weight"):
            made[name] += 1
    return made


def write_tekken(file: Path, ranks: list[str]) -> None:
    """tekken.json of tokens in base64, by rank."""
    data = {
        "config": {
            "pattern": PATTERN, "num_vocab_tokens": len(ranks), "version": "v7",
            "default_vocab_size": SPECIALS + RANKS, "default_num_special_tokens": SPECIALS,
        },
        "vocab": [
            {"rank": i, "token_bytes": each,
             "token_str": base64.b64decode(each).decode(errors="replace")}
            for i, each in enumerate(ranks)
        ],
        "special_tokens": [
            {"rank": i, "token_str": NAMES.get(i, f"<SPECIAL_{i}>"), "is_control": True}
            for i in range(35)
        ],
        "audio": {
            "sampling_rate": RATE, "frame_rate": 12.5, "chunk_length_s": 30.0,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
        },
    }  # fmt: skip
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def write_checkpoint(
    folder: Path, variant: str, ranks: list[str], end_row: np.ndarray | None = None
) -> Path:
    """Writes a checkpoint. end_row: the output head's row of `</s>`, in place of a random one."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = tensors(variant)
    if end_row is not None:
        weights["language_model.lm_head.weight"][2] = end_row
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_tekken(folder / "tekken.json", ranks)
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 11}
    files = {"config": config(variant), "generation_config": generation}
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder
