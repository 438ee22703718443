"""Counts the kernels, casts and host synchronisations of one token of Voxtral, released size.

    python benchmarks/recognition_graph_counts.py [--dtype bfloat16] [--json]

Runs the real loop as `graph_watch` says. A test calls `count_token`.
"""

from mlx_voxcpm2.models.voxtral.config import VoxtralConfig  # before MLX: it finds a fast BLAS
from mlx_voxcpm2.models.voxtral.network import VoxtralModel
from mlx_voxcpm2.recognition.voxtral.decoding import Decoded, Sampler, decode

import mlx.core as mx  # isort: skip
from graph_nodes import leaf  # isort: skip
from graph_watch import (  # isort: skip
    TEXT,
    WARM_UP,
    Counts,
    behave_as_on_gpu,
    count_in_a_process,
    main,
    without_memory,
)


def build_network() -> VoxtralModel:
    """The network, with one layer of the encoder, which has no part in a token."""
    config = {"model_type": "voxtral", "audio_config": {"num_hidden_layers": 1}}
    return VoxtralModel(VoxtralConfig.from_dict(config))


def count_here(dtype: str, temperature: float) -> dict:
    """`count_token` in this process, which cannot use MLX for anything else afterwards."""
    behave_as_on_gpu()
    network = build_network()
    decoder = network.language_model
    counts = Counts(without_memory(network, dtype, lambda n: n.startswith("language_model.")))
    counts.watch_calls(decoder.model, "layers")
    counts.watch_method(decoder, "logits", "head")
    counts.watch_synchronisation()
    hidden = network.config.text_config.hidden_size
    embeddings = leaf(mx.zeros((1, TEXT, hidden)), getattr(mx, dtype))
    sampler = Sampler(temperature, top_p=0.95 if temperature else 1.0, seed=0)
    tokens = decode(network, embeddings, 2 * WARM_UP, frozenset(), sampler, Decoded())
    for _ in range(WARM_UP):
        next(tokens)
    counts.clear()
    next(tokens)
    return counts.report()


def count_token(dtype: str = "bfloat16", temperature: float = 0.0) -> dict:
    """Counts for one token, see `count_in_a_process`."""
    return count_in_a_process(__file__, dtype=dtype, temperature=temperature)


if __name__ == "__main__":
    main(__doc__.splitlines()[0], "token", count_here, temperature=0.0)
