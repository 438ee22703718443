"""Tiny VoxCPM2 checkpoints of random weights, in the layout that upstream publishes.

Everything is made by numpy from names, so the golden values need hold neither weights nor inputs:
`golden/record.py` and the tests call this file and get the same arrays. Weights and inputs use
`RandomState`, whose stream numpy has frozen, and only its uniform numbers, which need no function
of the C library that could round differently on another machine.
"""

import copy
import json
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from golden.cases import (
    BASE,
    CAP_TEXT,
    EXCHANGE,
    MODES,
    STOP_TEXT,
    STOPS,
    TEXTS,
    VARIANTS,
    WAVEFORMS,
)
from golden.tokenizer import write_tokenizer
from safetensors.numpy import save_file

__all__ = ["CAP_TEXT", "MODES", "STOPS", "STOP_TEXT", "TEXTS", "VARIANTS", "WAVEFORMS"]

Range = tuple[str, tuple[int, ...], float, float]
"""A tensor to make: its name, its shape, its least and its greatest value."""


def config(variant: str) -> dict:
    """Contents of config.json."""
    settings = copy.deepcopy(BASE)
    changes = EXCHANGE if variant == "exchange" else VARIANTS[variant]
    for key, value in changes.items():
        if isinstance(value, dict):
            settings[key].update(copy.deepcopy(value))
        elif key != "purpose":
            settings[key] = value
    lm = settings["lm_config"]
    head = lm.get("kv_channels") or lm["hidden_size"] // lm["num_attention_heads"]
    lm["rope_scaling"]["short_factor"] = [1.0 + 0.1 * i for i in range(head // 2)]
    lm["rope_scaling"]["long_factor"] = [1.0 + 0.35 * i for i in range(head // 2)]
    return settings


def _random(*names: str) -> np.random.RandomState:
    """Random stream of a name, so that no array depends on the order in which they are made."""
    return np.random.RandomState(zlib.crc32("/".join(names).encode()))


def _uniform(random: np.random.RandomState, shape: tuple, low: float, high: float) -> np.ndarray:
    return (low + (high - low) * random.random_sample(shape)).astype(np.float32)


def _linear(name: str, outputs: int, inputs: int, gain=1.0, bias=0.2) -> Iterator[Range]:
    reach = gain * math.sqrt(3 / inputs)
    yield f"{name}.weight", (outputs, inputs), -reach, reach
    if bias:
        yield f"{name}.bias", (outputs,), -bias, bias


def _stack(name: str, config: dict, part: dict, gain: float) -> Iterator[Range]:
    """Tensors of a MiniCPM stack.

    part: hidden_dim, ffn_dim, num_heads, num_layers and maybe kv_channels.
    """
    width, ffn, heads = part["hidden_dim"], part["ffn_dim"], part["num_heads"]
    head = part.get("kv_channels") or width // heads
    kv_heads = config["lm_config"]["num_key_value_heads"]
    for i in range(part["num_layers"]):
        layer = f"{name}.layers.{i}"
        yield from _linear(f"{layer}.self_attn.q_proj", heads * head, width, gain, bias=0)
        yield from _linear(f"{layer}.self_attn.k_proj", kv_heads * head, width, gain, bias=0)
        yield from _linear(f"{layer}.self_attn.v_proj", kv_heads * head, width, gain, bias=0)
        yield from _linear(f"{layer}.self_attn.o_proj", width, heads * head, gain, bias=0)
        yield from _linear(f"{layer}.mlp.gate_proj", ffn, width, gain, bias=0)
        yield from _linear(f"{layer}.mlp.up_proj", ffn, width, gain, bias=0)
        yield from _linear(f"{layer}.mlp.down_proj", width, ffn, gain, bias=0)
        yield f"{layer}.input_layernorm.weight", (width,), 0.7, 1.3
        yield f"{layer}.post_attention_layernorm.weight", (width,), 0.7, 1.3
    yield f"{name}.norm.weight", (width,), 0.7, 1.3


def _language_model(config: dict) -> Iterator[Range]:
    """Tensors outside the VAE."""
    lm, encoder, dit = config["lm_config"], config["encoder_config"], config["dit_config"]
    width, local, frame = lm["hidden_size"], encoder["hidden_dim"], config["feat_dim"]
    part = {
        "hidden_dim": width,
        "ffn_dim": lm["intermediate_size"],
        "num_heads": lm["num_attention_heads"],
        "kv_channels": lm.get("kv_channels"),
    }
    yield "base_lm.embed_tokens.weight", (lm["vocab_size"], width), -1.0, 1.0
    yield from _stack("base_lm", config, part | {"num_layers": lm["num_hidden_layers"]}, 1.2)
    layers = {"num_layers": config["residual_lm_num_layers"]}
    yield from _stack("residual_lm", config, part | layers, 1.2)

    yield "feat_encoder.special_token", (1, 1, 1, local), -1.7, 1.7
    yield from _linear("feat_encoder.in_proj", local, frame)
    yield from _stack("feat_encoder.encoder", config, encoder, 1.2)

    hidden, estimator = dit["hidden_dim"], "feat_decoder.estimator"
    yield from _linear(f"{estimator}.in_proj", hidden, frame, 1.2)
    yield from _linear(f"{estimator}.cond_proj", hidden, frame, 1.2)
    yield from _linear(f"{estimator}.out_proj", frame, hidden, 1.2)
    for name in ("time_mlp", "delta_time_mlp"):
        yield from _linear(f"{estimator}.{name}.linear_1", hidden, hidden, 1.2)
        yield from _linear(f"{estimator}.{name}.linear_2", hidden, hidden, 1.2)
    yield from _stack(f"{estimator}.decoder", config, dit, 1.2)

    levels = config["scalar_quantization_latent_dim"]
    yield from _linear("fsq_layer.in_proj", levels, width)
    yield from _linear("fsq_layer.out_proj", width, levels)
    yield from _linear("enc_to_lm_proj", width, local)
    yield from _linear("lm_to_dit_proj", hidden, width)
    yield from _linear("res_to_dit_proj", hidden, width)
    yield from _linear("fusion_concat_proj", width, 2 * width)
    yield from _linear("stop_proj", width, width)
    yield from _linear("stop_head", 2, width, bias=0)


def _convolution(name: str, shape: tuple, gain: float, transposed=False) -> Iterator[Range]:
    """Tensors of a convolution; shape: (outputs, inputs, kernel), or (inputs, outputs, kernel) when
    transposed.
    """
    yield f"{name}.weight_g", (shape[0], 1, 1), 0.7 * gain, 1.3 * gain
    yield f"{name}.weight_v", shape, -1.0, 1.0
    yield f"{name}.bias", (shape[1] if transposed else shape[0],), -0.1, 0.1


def _residual_units(name: str, first: int, channels: int, depthwise: bool) -> Iterator[Range]:
    for unit in (first, first + 1, first + 2):
        block = f"{name}.block.{unit}.block"
        yield f"{block}.0.alpha", (1, channels, 1), 0.5, 1.5
        inputs = 1 if depthwise else channels
        yield from _convolution(f"{block}.1", (channels, inputs, 7), 1.0)
        yield f"{block}.2.alpha", (1, channels, 1), 0.5, 1.5
        yield from _convolution(f"{block}.3", (channels, channels, 1), 0.3)


def _vae_encoder(vae: dict, depthwise: bool) -> Iterator[Range]:
    channels, name = vae["encoder_dim"], "encoder.block"
    yield from _convolution(f"{name}.0", (channels, 1, 7), 2.0)
    for i, rate in enumerate(vae["encoder_rates"], start=1):
        yield from _residual_units(f"{name}.{i}", 0, channels, depthwise)
        yield f"{name}.{i}.block.3.alpha", (1, channels, 1), 0.5, 1.5
        shape = (2 * channels, channels, 2 * rate)
        yield from _convolution(f"{name}.{i}.block.4", shape, 0.8)
        channels *= 2
    for head in ("fc_mu", "fc_logvar"):
        yield from _convolution(f"encoder.{head}", (vae["latent_dim"], channels, 3), 3.0)


def _vae_decoder(vae: dict, depthwise: bool) -> Iterator[Range]:
    channels, latent, name = vae["decoder_dim"], vae["latent_dim"], "decoder.model"
    if depthwise:
        yield from _convolution(f"{name}.0", (latent, 1, 7), 1.0)
        yield from _convolution(f"{name}.1", (channels, latent, 1), 1.0)
    else:
        yield from _convolution(f"{name}.0", (channels, latent, 7), 1.0)
    start = 2 if depthwise else 1
    for i, rate in enumerate(vae["decoder_rates"]):
        inputs, outputs = channels // 2**i, channels // 2 ** (i + 1)
        block = f"{name}.{start + i}"
        yield f"{block}.block.0.alpha", (1, inputs, 1), 0.5, 1.5
        # weight_g belongs to an input here, and each output sample takes two taps of every input
        gain = 0.7 * math.sqrt(rate * outputs / inputs)
        yield from _convolution(f"{block}.block.1", (inputs, outputs, 2 * rate), gain, True)
        yield from _residual_units(block, 2, outputs, depthwise)
        if boundaries := vae["sr_bin_boundaries"]:
            shape, condition = (len(boundaries) + 1, inputs), f"decoder.sr_cond_model.{start + i}"
            yield f"{condition}.scale_embed.weight", shape, 0.6, 1.4
            yield f"{condition}.bias_embed.weight", shape, -0.2, 0.2
    last = start + len(vae["decoder_rates"])
    yield f"{name}.{last}.alpha", (1, outputs, 1), 0.5, 1.5
    yield from _convolution(f"{name}.{last + 1}", (1, outputs, 7), 0.25)


def ranges(config: dict) -> Iterator[Range]:
    """Floating-point tensors of a checkpoint, the VAE's with the prefix "audio_vae."."""
    vae = config["audio_vae_config"]
    depthwise = vae.get("depthwise", True)
    yield from _language_model(config)
    for part in (_vae_encoder(vae, depthwise), _vae_decoder(vae, depthwise)):
        yield from ((f"audio_vae.{name}", *rest) for name, *rest in part)


def tensors(config: dict, seed: str = "") -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by upstream's names, the VAE's with the prefix "audio_vae."."""
    made = {
        name: _uniform(_random("weights", seed, name), shape, low, high)
        for name, shape, low, high in ranges(config)
    }
    if boundaries := config["audio_vae_config"]["sr_bin_boundaries"]:
        made["audio_vae.decoder.sr_bin_boundaries"] = np.array(boundaries, np.int32)
    return made


def stop_head(which: str | int, config: dict) -> np.ndarray:
    """Another stop_head.weight (2, H): one by which "never" or "always" wins, or a random one."""
    width = config["lm_config"]["hidden_size"]
    if isinstance(which, int):
        reach = math.sqrt(3 / width)
        return _uniform(_random("stop_head", str(which)), (2, width), -reach, reach)
    # SiLU's outputs have a positive sum
    return np.outer([1, -1] if which == "never" else [-1, 1], np.ones(width)).astype(np.float32)


def module_input(name: str, shape: tuple[int, ...], variant: str) -> np.ndarray:
    """Uniform numbers of unit variance."""
    reach = math.sqrt(3)
    return _uniform(_random("input", variant, name), shape, -reach, reach)


def waveform(name: str, config: dict) -> tuple[np.ndarray, int]:
    """A buzz of six gliding tones in noise, (L,) or (L, 2), and its sampling rate."""
    vae = config["audio_vae_config"]
    patches, rate, channels = WAVEFORMS[name]
    patch = config["patch_size"] * math.prod(vae["encoder_rates"]) / vae["sample_rate"]
    rate = rate or vae["sample_rate"]
    random, time = _random("waveform", name), np.arange(round(patches * patch * rate)) / rate
    voices = []
    for _ in range(channels):
        glide = time + 0.005 * np.sin(6 * np.pi * time)
        pitches = enumerate(random.uniform(90, 900, 6), start=1)
        tones = sum(np.sin(2 * np.pi * pitch * glide) / k for k, pitch in pitches)
        hiss = random.uniform(-0.1, 0.1, time.size)
        voices.append(0.25 * tones * (0.6 + 0.4 * np.sin(5 * np.pi * time)) + hiss)
    return np.stack(voices, axis=-1).squeeze().astype(np.float32), rate


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Write samples (L,) or (L, C) as 32-bit floats."""
    data, channels = samples.astype("<f4").tobytes(), 1 if samples.ndim == 1 else samples.shape[1]
    form = struct.pack("<HHIIHH", 3, channels, rate, 4 * channels * rate, 4 * channels, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def write_checkpoint(folder: Path, variant: str, vae: str = "safetensors") -> Path:
    """Write the files that upstream publishes, without the VAE's if `vae` is "none"."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = config(variant)
    files = {"model.safetensors": {}, "audiovae.safetensors": {}}
    for name, tensor in tensors(settings, variant).items():
        kind = "audiovae" if name.startswith("audio_vae.") else "model"
        files[f"{kind}.safetensors"][name.removeprefix("audio_vae.")] = tensor
    if vae == "none":
        del files["audiovae.safetensors"]
    for file, contents in files.items():
        save_file(contents, folder / file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    write_tokenizer(folder)
    return folder
