"""Microsoft's VibeVoice with a checkpoint's weights, and with the draws that a test knows."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from vibevoice.modular.configuration_vibevoice import VibeVoiceConfig


def build(kind, folder: Path):
    data = json.loads((folder / "config.json").read_text())
    data["tie_word_embeddings"] = data["decoder_config"]["tie_word_embeddings"]
    config = VibeVoiceConfig(**data)
    config.decoder_config._attn_implementation = "eager"
    model = kind(config).eval().float()
    missing, extra = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert not extra and set(missing) <= {"lm_head.weight"}, (missing, extra)
    if missing:
        model.lm_head.weight = model.model.language_model.embed_tokens.weight
    return model


class Draws:
    """torch.randn, randn_like and multinomial give what is queued."""

    def __init__(self, *queued):
        self.queued = list(queued)

    def __enter__(self):
        self.saved = torch.randn, torch.randn_like, torch.multinomial
        torch.randn = torch.randn_like = lambda *_, **__: self.queued.pop(0)
        torch.multinomial = lambda *_, **__: self.queued.pop(0)

    def __exit__(self, *_):
        torch.randn, torch.randn_like, torch.multinomial = self.saved
