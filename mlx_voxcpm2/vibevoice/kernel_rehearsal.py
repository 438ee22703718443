"""The process that compiles a CPU's kernels for VibeVoice; see `speech.kernel_rehearsal`."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import mlx.core as mx

from ..layers.compiled import FUSION
from ..models.vibevoice.config import CodecConfig
from ..models.vibevoice.network import VibeVoiceNetwork
from ..models.vibevoice.solver import Solver
from ..speech.kernel_build import KernelUse
from ..speech.kernel_rehearsal import compile_kernels, prepared
from .options import CFG_VALUE, STEPS
from .script import LegalTokens
from .steps import Batch, Row

_LEGAL = LegalTokens(start=0, end=1, frame=2, stop=3)
_TOKENS = (_LEGAL.frame, _LEGAL.frame, _LEGAL.end, _LEGAL.start, _LEGAL.frame, _LEGAL.stop)


def small_network(use: KernelUse) -> VibeVoiceNetwork:
    """A network of the same widths, of random weights and as few layers as have all kernels."""
    config, small = use.config, {"num_hidden_layers": 2, "intermediate_size": 256}

    def shallow(codec: CodecConfig) -> CodecConfig:
        return replace(codec, depths=(1,) * len(codec.depths), decoder_depths=None)

    decoder = replace(config.decoder, **small, vocab_size=256, max_position_embeddings=512)
    config = replace(
        config,
        decoder=decoder,
        acoustic=shallow(config.acoustic),
        semantic=shallow(config.semantic),
        head=replace(config.head, intermediate_size=256),
    )
    return prepared(VibeVoiceNetwork(config), use)


def _choice(token: int, logits: mx.array) -> int:
    return token


def rehearse(use: KernelUse) -> None:
    """Generates with a small network, so that MLX compiles the kernels of speech."""
    FUSION.is_on = True
    network = small_network(use)
    size = use.config.acoustic.latent_dim
    for count in (1, 2):
        prompt = network.language_model.embed(mx.array([[5] * 20]))[0]
        rows = [
            Row(i, [5] * 20, prompt, itertools.repeat(mx.zeros((size,))), len(_TOKENS))
            for i in range(count)
        ]
        batch = Batch(network, _LEGAL, rows, Solver(STEPS), CFG_VALUE)
        for token in _TOKENS:
            found = batch.step(partial(_choice, token))
            mx.eval([step.audio for _, step in found if step.audio is not None])


if __name__ == "__main__":
    compile_kernels(rehearse)
