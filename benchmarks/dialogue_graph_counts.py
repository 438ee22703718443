"""Counts the kernels, casts and host synchronisations of a VibeVoice frame at the released size.

    python benchmarks/dialogue_graph_counts.py [--dtype bfloat16] [--json]

Runs the real loop, which always chooses the next frame, as `graph_watch` says. A test calls
`count_frame`.
"""

from mlx_voxcpm2.layers.config import TransformerConfig  # before MLX: it finds a fast BLAS
from mlx_voxcpm2.models.vibevoice.config import CodecConfig, HeadConfig, VibeVoiceConfig
from mlx_voxcpm2.models.vibevoice.network import VibeVoiceNetwork
from mlx_voxcpm2.models.vibevoice.solver import Solver
from mlx_voxcpm2.vibevoice.script import LegalTokens
from mlx_voxcpm2.vibevoice.steps import Batch, Row

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

LEGAL = LegalTokens(151652, 151653, 151654, 151643)


def released_config() -> VibeVoiceConfig:
    """The configuration of VibeVoice 1.5B."""
    decoder = TransformerConfig(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=1024,  # 65536, which only sizes the RoPE tables
        rms_norm_eps=1e-6,
        vocab_size=151936,
        qkv_bias=True,
        rope_theta=1e6,
    )
    return VibeVoiceConfig(decoder, CodecConfig(64), CodecConfig(128), HeadConfig(64, 1536, 4608))


def always_a_frame(batch: Batch, choose: object) -> list[int]:
    """In place of `Batch._tokens`: reads the choices, as it does, and takes the next frame."""
    batch._choices.tolist()
    return [LEGAL.frame for _ in batch.rows]


def count_here(dtype: str, steps: int) -> dict:
    """`count_frame` in this process, which cannot use MLX for anything else afterwards."""
    behave_as_on_gpu()
    network = VibeVoiceNetwork(released_config())
    # The codecs' weights, which are float32, are not watched: their names are too many.
    full = network.family.float32
    counts = Counts(without_memory(network, dtype, lambda name: not name.startswith(full)))
    counts.watch_calls(network.language_model, "language model")
    for method, part in (("sample_latent", "diffusion head"), ("speak_frame", "codecs")):
        counts.watch_method(network, method, part)
    Batch._tokens = always_a_frame
    counts.watch_synchronisation()
    embeddings = leaf(mx.zeros((TEXT, 1536)), getattr(mx, dtype))
    noise = iter([leaf(mx.zeros((64,)))] * 2 * WARM_UP)
    row = Row(0, [5] * TEXT, embeddings, noise, 2 * WARM_UP)
    batch = Batch(network, LEGAL, [row], Solver(steps), 1.3)
    for frame in range(WARM_UP + 1):
        if frame == WARM_UP:
            counts.clear()
        ((_, step),) = batch.step()
        batch.submit(step.audio)
        mx.eval(step.audio)
    return counts.report()


def count_frame(dtype: str = "bfloat16", steps: int = 10) -> dict:
    """Counts for one frame, see `count_in_a_process`."""
    return count_in_a_process(__file__, dtype=dtype, steps=steps)


if __name__ == "__main__":
    main(__doc__.splitlines()[0], "frame", count_here, steps=10)
