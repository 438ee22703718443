"""Tiny VibeVoice checkpoints of random weights, in Microsoft's layout and in transformers'.

Everything is made by numpy from names, so that the golden values need hold neither weights nor
inputs: `golden/record_vibevoice.py` and the tests call this file and get the same arrays.
"""

import re
import zlib
from math import prod
from pathlib import Path

import numpy as np

SCRIPT = "Speaker 1: Hello there.\nSpeaker 2: Well, 你好! It's 5 o'clock.\nSpeaker 1: Bye"
NAMES = {"S": "vision_start", "E": "vision_end", "D": "vision_pad", "X": "endoftext"}
STEPS, CFG = 7, 1.6
# Ratios and depths are no palindromes. "wide" has kernels as wide as its channels, a head of its
# own and three segments; `rows` chooses the legal tokens' rows, so that they make a chain.
_WIDTHS = {"heads": (4, 8), "kv_heads": (2, 1), "layers": (2, 1), "head_layers": (2, 1)}
_CODECS = {"filters": (5, 7), "ratios": ((2, 2, 3), (3, 2)), "depths": ((1, 2, 1, 3), (2, 1, 2))}
_CODECS |= {"acoustic": (5, 7), "semantic": (9, 7), "scale": (0.196, 0.31), "bias": (-0.049, 0.07)}
_CASES = {"tied": (True, False), "voices": ((64, 84), (30, 61)), "rows": (295, 25)}
_CASES |= {"forced": ("DDDESDDEX", "DDESEDDSDX")}
VARIANTS = {
    name: {key: values[i] for key, values in (_WIDTHS | _CODECS | _CASES).items()}
    for i, name in enumerate(("tiny", "wide"))
}
HIDDEN, INNER, HEAD_INNER, POSITIONS, VOCABULARY = 32, 64, 96, 512, 337


def uniform(name: str, *shape: int, size: float = 1.0) -> np.ndarray:
    """Numbers of a standard deviation, by name: uniform, whose stream numpy has frozen."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return ((2 * random.random_sample(shape) - 1) * size * 3**0.5).astype(np.float32)


def sound(name: str, samples: int) -> np.ndarray:
    """Something like sound, of a middle level."""
    return np.clip(uniform(name, samples, size=0.2), -1, 1)


def hop(variant: str) -> int:
    return prod(VARIANTS[variant]["ratios"])


def voices(variant: str) -> list[np.ndarray]:
    """The speakers' clips, which end within a frame."""
    return [sound(f"voice {i}", n) for i, n in enumerate(VARIANTS[variant]["voices"])]


def legal(tokenizer_ids: dict[str, int]) -> dict[str, int]:
    """Ids of start, end, frame and stop by their letters."""
    return {letter: tokenizer_ids[f"<|{name}|>"] for letter, name in NAMES.items()}


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Byte-level BPE with Qwen2's splitting and few merges; returns its special tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as pre

    letters = sorted(pre.ByteLevel.alphabet())
    merges = [("H", "e"), ("l", "l"), ("Ġ", "S"), ("e", "r"), ("Ġ", "t"), ("o", ":")]
    tokens = [*letters, *("".join(pair) for pair in merges)]
    padding = [f"unused{i}" for i in range(330 - len(tokens))]
    vocabulary = {token: i for i, token in enumerate([*tokens, *padding])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.normalizer = normalizers.NFC()
    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    level = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre.Sequence([pre.Split(Regex(split), "isolated"), level])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["endoftext", "im_start", "im_end", *list(NAMES.values())[:3], "image_pad"]
    added = [AddedToken(f"<|{name}|>", special=True, normalized=False) for name in special]
    tokenizer.add_special_tokens(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    return {f"<|{name}|>": tokenizer.token_to_id(f"<|{name}|>") for name in special}


def _codec_shapes(v: dict, kind: str) -> dict[str, tuple[int, ...]]:
    latent = v["acoustic" if kind.startswith("acoustic") else "semantic"]
    is_encoder = kind.endswith("encoder")
    ratios = v["ratios"] if is_encoder else v["ratios"][::-1]
    depths = v["depths"] if is_encoder else v["depths"][::-1]
    n = v["filters"]
    width = n if is_encoder else n * 2 ** len(ratios)
    first = (width, 1, 7) if is_encoder else (width, latent, 7)
    layers = "downsample_layers" if is_encoder else "upsample_layers"
    inner = "conv.conv" if is_encoder else "convtr.convtr"
    shapes = {f"{layers}.0.0.conv.conv.weight": first, f"{layers}.0.0.conv.conv.bias": (width,)}
    for stage, depth in enumerate(depths):
        if stage:
            before, width = width, width * 2 if is_encoder else width // 2
            pair = (width, before) if is_encoder else (before, width)
            name = f"{layers}.{stage}.0.{inner}"
            shapes[f"{name}.weight"] = (*pair, 2 * ratios[stage - 1])
            shapes[f"{name}.bias"] = (width,)
        for block in range(depth):
            name, four = f"stages.{stage}.{block}", 4 * width
            shapes |= {f"{name}.{x}": (width,) for x in ("gamma", "ffn_gamma", "norm.weight")}
            shapes |= {f"{name}.ffn_norm.weight": (width,), f"{name}.ffn.linear1.bias": (four,)}
            shapes |= {f"{name}.mixer.conv.conv.conv.weight": (width, 1, 7)}
            shapes |= {f"{name}.mixer.conv.conv.conv.bias": (width,)}
            shapes |= {f"{name}.ffn.linear1.weight": (four, width)}
            shapes |= {f"{name}.ffn.linear2.weight": (width, four)}
            shapes |= {f"{name}.ffn.linear2.bias": (width,)}
    last = (latent, width, 7) if is_encoder else (1, width, 7)
    shapes |= {"head.conv.conv.weight": last, "head.conv.conv.bias": last[:1]}
    return {f"model.{kind}.{name}": shape for name, shape in shapes.items()}


def _shapes(v: dict) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by Microsoft's names."""
    found: dict[str, tuple[int, ...]] = {}
    for kind in ("acoustic_tokenizer.encoder", "acoustic_tokenizer.decoder"):
        found |= _codec_shapes(v, kind)
    found |= _codec_shapes(v, "semantic_tokenizer.encoder")
    for kind in ("acoustic", "semantic"):
        name = f"model.{kind}_connector"
        found |= {f"{name}.fc1.weight": (HIDDEN, v[kind]), f"{name}.fc2.weight": (HIDDEN, HIDDEN)}
        found |= {f"{name}.{x}": (HIDDEN,) for x in ("fc1.bias", "fc2.bias", "norm.weight")}
    head = "model.prediction_head"
    found |= {
        f"{head}.noisy_images_proj.weight": (HIDDEN, v["acoustic"]),
        f"{head}.cond_proj.weight": (HIDDEN, HIDDEN),
        f"{head}.t_embedder.mlp.0.weight": (HIDDEN, 256),
        f"{head}.t_embedder.mlp.2.weight": (HIDDEN, HIDDEN),
        f"{head}.final_layer.adaLN_modulation.1.weight": (2 * HIDDEN, HIDDEN),
        f"{head}.final_layer.linear.weight": (v["acoustic"], HIDDEN),
    }
    for layer in range(v["head_layers"]):
        name = f"{head}.layers.{layer}"
        found |= {f"{name}.ffn.{x}_proj.weight": (HEAD_INNER, HIDDEN) for x in ("gate", "up")}
        found |= {f"{name}.ffn.down_proj.weight": (HIDDEN, HEAD_INNER)}
        found |= {f"{name}.norm.weight": (HIDDEN,)}
        found |= {f"{name}.adaLN_modulation.1.weight": (3 * HIDDEN, HIDDEN)}
    size = HIDDEN // v["heads"]
    lm = "model.language_model"
    found |= {f"{lm}.embed_tokens.weight": (VOCABULARY, HIDDEN), f"{lm}.norm.weight": (HIDDEN,)}
    for layer in range(v["layers"]):
        name = f"{lm}.layers.{layer}"
        for part, heads in (("q", v["heads"]), ("k", v["kv_heads"]), ("v", v["kv_heads"])):
            found |= {f"{name}.self_attn.{part}_proj.weight": (heads * size, HIDDEN)}
            found |= {f"{name}.self_attn.{part}_proj.bias": (heads * size,)}
        found |= {f"{name}.self_attn.o_proj.weight": (HIDDEN, HIDDEN)}
        found |= {f"{name}.mlp.{x}_proj.weight": (INNER, HIDDEN) for x in ("gate", "up")}
        found |= {f"{name}.mlp.down_proj.weight": (HIDDEN, INNER)}
        norms = ("input_layernorm", "post_attention_layernorm")
        found |= {f"{name}.{norm}.weight": (HIDDEN,) for norm in norms}
    if not v["tied"]:
        found["lm_head.weight"] = (VOCABULARY, HIDDEN)
    return found


def weights(variant: str, ids: dict[str, int]) -> dict[str, np.ndarray]:
    """All tensors by Microsoft's names. Nothing is at an initial value that hides a mistake."""
    v = VARIANTS[variant]
    made = {name: _values(f"{variant}/{name}", shape) for name, shape in _shapes(v).items()}
    # Small rows of S and E: what is fed last is else what wins, if the head is tied.
    sizes = {"S": 0.1, "E": 0.35, "D": 0.8, "X": 0.8}
    name = "model.language_model.embed_tokens.weight" if v["tied"] else "lm_head.weight"
    for letter, token in legal(ids).items():
        row = uniform(f"{variant}/{letter}/{v['rows']}", HIDDEN, size=sizes[letter])
        made[name][token] = row
    made["model.speech_scaling_factor"] = np.array(v["scale"], np.float32)
    made["model.speech_bias_factor"] = np.array(v["bias"], np.float32)
    return made


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if "gamma" in name:
        return uniform(name, *shape, size=0.4)
    if "norm" in name:
        return 1 + uniform(name, *shape, size=0.2)
    if len(shape) == 1:
        return uniform(name, *shape, size=0.2)
    if "embed_tokens" in name or "lm_head" in name:
        return uniform(name, *shape, size=0.6)
    fan = (shape[0] if "convtr" in name else shape[1]) * prod(shape[2:])
    # A steeper diffusion head makes sampling chaotic.
    return uniform(name, *shape, size=(0.55 if "prediction_head" in name else 1.1) / fan**0.5)


def hf_name(name: str) -> str:
    """Microsoft's name of a tensor -> transformers'."""
    name = re.sub(r"\.(down|up)sample_layers\.0\.0\.", ".stem.", name)
    shift = r"\.(?:(?:down|up)sample_layers\.(\d+)\.0|stages\.(\d+))\."

    def conv_layer(found: re.Match) -> str:
        stage = int(found[1] or found[2]) - 1
        inner = "." if found[1] else ".stage."
        return f".stem{inner}" if stage < 0 else f".conv_layers.{stage}{inner}"

    name = re.sub(shift, conv_layer, name).replace(".mixer.conv.conv.conv.", ".mixer.conv.")
    for ours, theirs in (
        ("coder.head.conv.conv.", "coder.head.conv."),
        ("acoustic_tokenizer.", "audio_tower."),
        ("semantic_tokenizer.encoder.", "semantic_tokenizer_encoder."),
        ("prediction_head.", "diffusion_head."),
        ("t_embedder.mlp.0.", "timestep_proj.fc1."),
        ("t_embedder.mlp.2.", "timestep_proj.fc2."),
        ("final_layer.adaLN_modulation.1.", "final_layer.linear_1."),
        ("final_layer.linear.", "final_layer.linear_2."),
        ("adaLN_modulation.1.", "linear."),
        ("speech_", "latent_"),
    ):
        name = name.replace(ours, theirs)
    if "_connector." in name:
        for ours, theirs in (("fc1", "linear_1"), ("norm", "act"), ("fc2", "linear_2")):
            name = name.replace(f".{ours}.", f".{theirs}.")
    return name.replace("acoustic_connector.", "multi_modal_projector.")
