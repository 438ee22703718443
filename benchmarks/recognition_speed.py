"""Compares the speed of Voxtral here with that of mlx-audio's port, on the same random weights.

    python benchmarks/recognition_speed.py [--rounds 5] [--dtype float32] [--released]

Needs mlx-audio (extra `asr`). By default the encoder has 6 layers of 320 and the decoder 8 of 512;
`--released` takes the released sizes, which need 20 GB for both models in bfloat16. Both networks
compute the same three things in turn, in one process and so with the same BLAS:

    chunk    30 s of log-mel spectrogram -> embeddings
    prefill  the logits behind a prompt of one chunk
    token    one more token, of `--tokens` in a row

Prints the median times, on a CPU of the processor (OPENBLAS_NUM_THREADS=1 keeps it from waiting),
and as the ratio the median over the rounds of theirs / ours, and its range. mlx-audio's front end,
which needs PyTorch and mistral-common, is left out.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from mlx_voxcpm2.layers import device  # before MLX: a fast BLAS is loaded
from mlx_voxcpm2.layers.compiled import FUSION
from mlx_voxcpm2.models.voxtral.config import VoxtralConfig
from mlx_voxcpm2.models.voxtral.network import VoxtralModel
from mlx_voxcpm2.recognition.voxtral.decoding import Decoded, Sampler, decode

import mlx.core as mx  # isort: skip
import numpy as np  # isort: skip
from mlx.utils import tree_flatten, tree_map  # isort: skip

SMALL = {
    "audio_config": {
        **{"hidden_size": 320, "num_hidden_layers": 6, "num_attention_heads": 5},
        "intermediate_size": 1280,
    },
    "text_config": {
        **{"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8},
        **{"num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 2048},
        "vocab_size": 32768,
    },
}
OLD_NAMES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
}
Part = Callable[[], object]


def build(data: dict, dtype: mx.Dtype) -> VoxtralModel:
    """The network with random weights."""
    network = VoxtralModel(VoxtralConfig.from_dict({"model_type": "voxtral", **data})).eval()
    network.update(tree_map(lambda value: value.astype(dtype), network.parameters()))
    mx.eval(network.parameters())
    return network


def build_theirs(data: dict, ours: VoxtralModel):
    """mlx-audio's network with the same weights."""
    from mlx_audio.stt.models.voxtral.config import ModelConfig
    from mlx_audio.stt.models.voxtral.voxtral import Model

    audio = data.get("audio_config", {})
    older = {OLD_NAMES[name]: value for name, value in audio.items()}
    sections = {"audio_config": {**audio, **older}, "text_config": data.get("text_config", {})}
    model = Model(ModelConfig.from_dict(sections))
    model.load_weights(tree_flatten(ours.parameters()), strict=True)
    return model.eval()


def parts_of_ours(network: VoxtralModel, mel: mx.array, ids: np.ndarray, count: int) -> list[Part]:
    def decoded(limit: int) -> list[int]:
        embedded = network.embed(ids, audio)
        return list(decode(network, embedded, limit, frozenset(), Sampler(), Decoded()))

    audio = network.embed_audio(mel)
    mx.eval(audio)
    return [
        lambda: mx.eval(network.embed_audio(mel)),
        lambda: decoded(1),
        lambda: decoded(count + 1),
    ]


def parts_of_theirs(model, mel: mx.array, ids: np.ndarray, count: int) -> list[Part]:
    from mlx_audio.lm.generate import generate_step

    def decoded(limit: int) -> list[int]:
        text = model.language_model.model.embed_tokens(mx.array(ids))
        text[mx.array(np.flatnonzero(ids == model.config.audio_token_id))] = audio
        steps = generate_step(
            mx.array([]), model.language_model, max_tokens=limit, input_embeddings=text
        )
        return [token for token, _ in steps]

    audio = model.get_audio_embeds(mel)
    mx.eval(audio)
    return [
        lambda: mx.eval(model.get_audio_embeds(mel)),
        lambda: decoded(1),
        lambda: decoded(count + 1),
    ]


def seconds(part: Part) -> float:
    clock = time.process_time if device.on_cpu() else time.perf_counter
    begin = clock()
    part()
    return clock() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype", default="float32", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--released", action="store_true")
    args = parser.parse_args()
    FUSION.is_on = True  # mlx-audio's functions are compiled too
    mx.random.seed(0)
    data = {} if args.released else SMALL
    ours = build(data, getattr(mx, args.dtype))
    theirs = build_theirs(data, ours)
    ours.prepare(mx.eval)
    mel = mx.random.normal((1, 3000, 128))
    ids = np.array([1, 3, 25, *[24] * 375, 4, 9909, 1058, 1262, 34], np.int32)
    both = [
        parts_of_ours(ours, mel, ids, args.tokens),
        parts_of_theirs(theirs, mel, ids, args.tokens),
    ]
    results = [[seconds(part) for part in parts] and parts[2]() for parts in both]
    assert results[0] == results[1], "the two write different tokens"
    times = [[[seconds(part) for part in parts] for parts in both] for _ in range(args.rounds)]
    for index, name in enumerate(("chunk", "prefill", "token")):
        pairs = []
        for one, two in times:
            pair = one[index], two[index]
            if name == "token":
                pair = tuple((each[2] - each[1]) / args.tokens for each in (one, two))
            pairs.append(pair)
        us, them = (1000 * statistics.median(each) for each in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        print(
            f"{name:8} here {us:8.1f} ms, mlx-audio {them:8.1f} ms, "
            f"{statistics.median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
