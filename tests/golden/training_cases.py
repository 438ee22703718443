"""What training is tried on: a batch, an adapter, and which of their gradients are kept."""

import math

import checkpoints
import numpy as np

VARIANTS = ("released", "mup")
RANK, ALPHA = 4, 8
# tokens of the text, patches of speech, patches of the reference, whether it is only a prompt
ROWS = ((6, 5, 0, False), (4, 4, 2, False), (5, 3, 0, True), (3, 2, 3, True))

_ADAPTED_STACKS = ("base_lm.", "residual_lm.", "feat_decoder.estimator.decoder.")
_ADAPTED_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj")
_ADAPTED_PROJECTIONS = (
    "enc_to_lm_proj",
    "lm_to_dit_proj",
    "res_to_dit_proj",
    "fusion_concat_proj",
)


def examples(variant: str, attempt: int) -> list[dict]:
    """Rows by the names of `sequences.Example`; an attempt's latents are its own."""
    config = checkpoints.config(variant)
    frame, vocabulary = config["feat_dim"], config["lm_config"]["vocab_size"]
    rows = []
    for row, (words, speech, reference, is_prompt) in enumerate(ROWS):
        name = f"training.{attempt}.{row}"
        draw = checkpoints.module_input(f"{name}.tokens", (words,), variant) / math.sqrt(3)
        # Above the ids that mark audio.
        tokens = 105 + (draw + 1) / 2 * (vocabulary - 105)
        size = (config["patch_size"], frame)
        rows.append(
            {
                "tokens": tokens.astype(int).tolist(),
                "patches": checkpoints.module_input(f"{name}.speech", (speech, *size), variant),
                "reference": checkpoints.module_input(
                    f"{name}.reference", (reference, *size), variant
                )
                if reference
                else None,
                "is_prompt": is_prompt,
            }
        )
    return rows


def adapted(name: str) -> bool:
    """Whether upstream's LoRA can be around this weight, of `checkpoints.tensors`."""
    layer, _, kind = name.rpartition(".")
    if kind != "weight":
        return False
    within = layer.startswith(_ADAPTED_STACKS) and layer.endswith(_ADAPTED_LAYERS)
    return within or layer in _ADAPTED_PROJECTIONS


def adapter(variant: str) -> dict[str, np.ndarray]:
    """Upstream's names, layer.lora_A (RANK, in) and layer.lora_B (out, RANK), none of them zero."""
    made = {}
    for name, weight in checkpoints.tensors(checkpoints.config(variant), variant).items():
        if adapted(name):
            outputs, inputs = weight.shape
            layer = name.removesuffix(".weight")
            for side, shape in (("lora_A", (RANK, inputs)), ("lora_B", (outputs, RANK))):
                key = f"{layer}.{side}"
                reach = 0.5 / math.sqrt(shape[1])
                made[key] = checkpoints.module_input(key, shape, variant) * np.float32(reach)
    return made


def excerpt(name: str, gradient: np.ndarray) -> np.ndarray:
    """The norm of the whole, then some 100 to 200 of its values, all there are of a small one."""
    flat = np.asarray(gradient, np.float32).reshape(-1)
    # An odd step visits every column. Of an embedding, one value of every row.
    step = gradient.shape[-1] if "embed_tokens" in name else max(1, flat.size // 100) | 1
    norm = np.linalg.norm(flat.astype(np.float64))
    return np.append(norm, flat[::step]).astype(np.float32)
