"""Records one step of AdamW on an adapter of the tiny VibeVoice, by Microsoft's pieces.

Environment: see `record_vibevoice.py`. It runs from the folder `tests`, and writes
`vibevoice.training.safetensors`, float32:

    diff, ce            both losses of the batch of two dialogues
    norm                norm of the gradient before it is clipped to 1
    gradient.{path}.lora_A or .lora_B   clipped
    stepped.{path}.lora_A or .lora_B    after the step

Adapters are added to outputs by hooks. A frame's condition is the state before it. The draws are
numpy's, in the order in which the trainer takes them for each example: std of the clips, noise of
each clip, noise of the frames, timesteps.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import vibevoice.modular.modeling_vibevoice as training
import vibevoice_training as case
from golden.official_vibevoice import build
from golden.record_vibevoice import Case
from safetensors.torch import save_file
from vibevoice.processor.vibevoice_tokenizer_processor import AudioNormalizer

ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


def adapted(inner) -> dict[str, torch.nn.Linear]:
    """Layers that an adapter changes, by this package's paths."""
    found = {}
    for i, layer in enumerate(inner.language_model.layers):
        for name in ATTENTION:
            found[f"language_model.layers.{i}.self_attn.{name}"] = getattr(layer.self_attn, name)
        for name in MLP:
            found[f"language_model.layers.{i}.mlp.{name}"] = getattr(layer.mlp, name)
    head = inner.prediction_head
    for name in ("noisy_images_proj", "cond_proj"):
        found[f"prediction_head.{name}"] = getattr(head, name)
    for i, layer in enumerate(head.layers):
        for name in MLP:
            found[f"prediction_head.layers.{i}.ffn.{name}"] = getattr(layer.ffn, name)
        found[f"prediction_head.layers.{i}.modulation"] = layer.adaLN_modulation[1]
    found["prediction_head.final_layer.modulation"] = head.final_layer.adaLN_modulation[1]
    found["prediction_head.final_layer.linear"] = head.final_layer.linear
    for kind in ("acoustic", "semantic"):
        for name in ("fc1", "fc2"):
            connector = getattr(inner, f"{kind}_connector")
            found[f"{kind}_connector.{name}"] = getattr(connector, name)
    return found


def attach(inner) -> dict[str, torch.Tensor]:
    tensors = {}
    for path, layer in adapted(inner).items():
        a, b = (
            torch.from_numpy(x) for x in case.factors(path, layer.in_features, layer.out_features)
        )
        a.requires_grad_(), b.requires_grad_()

        def hook(_, given, out, a=a, b=b):
            return out + case.SCALE * (given[0] @ a.T) @ b.T

        layer.register_forward_hook(hook)
        tensors |= {f"{path}.lora_A": a, f"{path}.lora_B": b}
    return tensors


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        record(Path(scratch))


def record(scratch: Path) -> None:
    tiny_case = Case("tiny", scratch)
    model = build(training.VibeVoiceForConditionalGeneration, tiny_case.folder)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    inner, hop, size = model.model, tiny_case.hop, tiny_case.v["acoustic"]
    tensors, ids = attach(inner), tiny_case.ids
    order = np.random.default_rng([case.SEED, 0]).permutation(len(case.LINES))
    squares, entropies = [], []
    for index, place in enumerate(order):
        line, random = case.LINES[place], np.random.default_rng([case.SEED, 0, index])
        names = [*line.get("voices", ()), line["audio"]]
        means, semantic = [], []
        for name in names:
            samples = AudioNormalizer()(case.clip(name, hop))
            padded = torch.from_numpy(np.pad(samples, (0, -len(samples) % hop)))[None, None]
            means.append(inner.acoustic_tokenizer.encode(padded).mean[0])
            semantic.append(inner.semantic_tokenizer.encode(padded).mean[0])
        frames, count = [len(mean) for mean in means], len(means[-1])
        std = random.standard_normal(len(names))
        noises = [torch.from_numpy(random.standard_normal(mean.shape)) for mean in means]
        drawn = [m + 0.5 / 0.8 * s * n for m, s, n in zip(means, std, noises, strict=True)]
        noise = torch.from_numpy(random.standard_normal((count * case.MUL, size))).float()
        steps = torch.from_numpy(random.integers(0, 1000, count * case.MUL))
        features = torch.cat(drawn).float()
        features = (features + inner.speech_bias_factor) * inner.speech_scaling_factor
        prompt = tiny_case.prompt_of(line["text"], frames[:-1])
        at, tokens = len(prompt), torch.tensor([*prompt, *[ids["D"]] * count, ids["E"], ids["X"]])
        is_frame = tokens == ids["D"]
        x = model.get_input_embeddings()(tokens)
        sound = inner.acoustic_connector(features) + inner.semantic_connector(torch.cat(semantic))
        x = x.index_put((is_frame,), sound)
        hidden = inner.language_model(inputs_embeds=x[None]).last_hidden_state[0]
        clean = features[-count:].repeat_interleave(case.MUL, 0)
        condition = hidden[at - 1 : at - 1 + count].repeat_interleave(case.MUL, 0)
        noisy = inner.noise_scheduler.add_noise(clean, noise, steps)
        velocity = inner.noise_scheduler.get_velocity(clean, noise, steps)
        found = inner.prediction_head(noisy, steps.float(), condition=condition)
        squares.append((found - velocity).square().mean(-1))
        labels, entropy = (
            tokens[1:].masked_fill(is_frame[1:], -100),
            torch.nn.functional.cross_entropy,
        )
        each = entropy(model.lm_head(hidden)[:-1], labels, reduction="none")
        entropies.append(each[labels != -100])
    diff, ce = torch.cat(squares).mean(), torch.cat(entropies).mean()
    (case.WEIGHTS["diff"] * diff + case.WEIGHTS["ce"] * ce).backward()
    norm = torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
    golden = {"diff": diff.detach(), "ce": ce.detach(), "norm": norm}
    golden |= {f"gradient.{name}": x.grad.clone() for name, x in tensors.items()}
    torch.optim.AdamW(tensors.values(), lr=case.RATE, weight_decay=case.DECAY).step()
    golden |= {f"stepped.{name}": x.detach().clone() for name, x in tensors.items()}
    golden = {name: value.contiguous().float() for name, value in golden.items()}
    save_file(golden, Path(__file__).parent / "vibevoice.training.safetensors")


if __name__ == "__main__":
    main()
