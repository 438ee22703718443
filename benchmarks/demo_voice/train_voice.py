"""Trains the whole network except the AudioVAE.

  python benchmarks/demo_voice/train_voice.py FOLDER [--steps N] [--rate R] [--voices]

FOLDER has speech_corpus.py's speech and train_reader.py's reader, whose language model is the
initial one, unless the package has the voice already. FOLDER/voice.state is written every 100
steps; the same command resumes from it.

First the local encoder alone learns to embed a patch of speech as the reader embeds its phonemes.
Then the whole network learns the flow and the stop head, and from labels: two discarded layers
predict the phonemes and the mean of the next patch from the diffusion transformer's condition, and
the language model goes on reading aloud without sound. Last, the patches that it continues are its
own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from labels import PHONEMES, read_labels
from reader import Reader, Readings, batch_size, draw_rows, loss_of, phoneme_error_rate
from safetensors.torch import load_file
from sizes import speech_config
from speech_corpus import HELD, TRAINED, part_names
from spelling import VOCABULARY, Speller
from spoken_batches import Corpus, SpokenBatch
from timing import PATCH
from torch import Tensor, nn
from torch.nn import functional
from train_reader import load_reader
from training_torch import (
    Run,
    fast_products,
    fill,
    optimizers_of,
)
from voice_torch import Network, draw_weights
from voices import VOICES

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.weights.hub import BUILT_IN

LABEL_WEIGHT, MEAN_WEIGHT, STOP_WEIGHT = 0.3, 1.0, 0.1
LISTENING, IMITATING = 300, 1000
"""Steps in which only the local encoder learns, and up to which all speech is the teacher's."""
READING = 0.4
"""Fraction of steps that also have a batch without sound."""
CONTEXT_NOISE = 0.2
"""Noise added to the context, per standard deviation of a channel, so that the text is not ignored
and the network corrects its own errors."""
UNCONDITIONAL = 0.1
VARIATION = 0.5
"""Part of a patch's deviation from its mean that the flow learns. Much of the rest is a small
network's uncertainty, and makes the speech unclear."""
RATE, READER_RATE, WARM_UP = 0.02, 0.5, 100
EVERY, LOGGED = 100, 25
PACKAGED = BUILT_IN["english"] / "model.safetensors"
HEADS = TRAINED / "heads.safetensors"
"""Layers that the package's voice lacks and its training needs, at 16 bits."""


class Speaker(nn.Module):
    """The network, the reader of the same language model, and two layers for the labels."""

    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        condition = 2 * config.dit_config.hidden_dim
        self.network = Network(config)
        self.reader = Reader(config)
        self.names = nn.Linear(condition, PATCH * PHONEMES)
        self.means = nn.Linear(condition, PATCH * config.feat_dim)
        self.reader.base_lm = self.network.base_lm
        draw_weights(self)

    def heads(self) -> dict[str, Tensor]:
        """Weights that are discarded after training."""
        shared = ("network.", "reader.base_lm.")
        weights = self.state_dict().items()
        return {name: value for name, value in weights if not name.startswith(shared)}

    def mean_patches(self, mu: Tensor) -> Tensor:
        """Means of all patches that are likely under conditions (M, 2, H) -> (M, PATCH, D)."""
        return self.means(mu.flatten(1)).float().unflatten(-1, (PATCH, -1))


def listening_loss(speaker: Speaker, batch: SpokenBatch, noise: Tensor) -> Tensor:
    """Relative error of the embeddings of speech, for those of its phonemes."""
    wanted = speaker.reader.embed_phonemes(batch.phonemes).detach()
    found = speaker.network.embed_patches((batch.patches + noise)[batch.targets])
    return (found - wanted).square().mean() / wanted.square().mean()


@dataclass(frozen=True)
class Draws:
    """Random numbers of a loss, for M patches to be spoken and N patches in all."""

    times: Tensor
    """(M,) times of the flow, from 0, the patch, to 1, noise."""
    noise: Tensor
    """(M, PATCH, D)."""
    keep: Tensor
    """(M,) 1 or 0: whether the condition is kept; guidance needs the velocity without it."""
    context_noise: Tensor
    """(N, PATCH, D)."""

    @classmethod
    def random(cls, batch: SpokenBatch, seed: int, scale: Tensor) -> Draws:
        """scale: standard deviation of the context's noise, per channel (D,)."""
        random = torch.Generator().manual_seed(seed)
        count = len(batch.targets)
        return cls(
            torch.sigmoid(0.5 + 1.3 * torch.randn(count, generator=random)),
            torch.randn((count, *batch.patches.shape[1:]), generator=random),
            (torch.rand(count, generator=random) >= UNCONDITIONAL).float(),
            torch.randn(batch.patches.shape, generator=random) * scale,
        )


def speech_loss(
    speaker: Speaker, batch: SpokenBatch, draws: Draws, variation: float = VARIATION
) -> tuple[Tensor, Tensor]:
    """Loss, and its parts: flow, stop head, phonemes, means, and the phonemes' accuracy.

    With a variation below 1, the patches to be spoken are also in the context as the network would
    have spoken them: it has to continue its own speech.
    """
    network, patches = speaker.network, batch.patches[batch.targets]
    context, wanted = batch.patches + draws.context_noise, patches
    if variation < 1:
        with torch.no_grad():
            mean = speaker.mean_patches(conditions(network, batch, context)[1])
        own = variation * (patches - mean)
        wanted = mean + own
        # Deviations of other patches, since its own would tell what comes.
        context[batch.targets] = mean + own.roll(1, 0) + draws.context_noise[batch.targets]
    hidden, mu, cond = conditions(network, batch, context)
    t, keep = draws.times[:, None, None], draws.keep[:, None, None]
    noisy = (1 - t) * wanted + t * draws.noise
    found = network.velocity(noisy, mu * keep, draws.times, cond)
    flow = (found - (draws.noise - wanted)).square().mean()
    stop = functional.cross_entropy(network.stop_logits(hidden), batch.is_last.long())
    logits = speaker.names(mu.flatten(1)).unflatten(-1, (PATCH, PHONEMES)).flatten(0, 1)
    phonemes = functional.cross_entropy(logits, batch.phonemes.flatten())
    right = (logits.argmax(-1) == batch.phonemes.flatten()).float().mean()
    means = (speaker.mean_patches(mu) - patches).square().mean()
    total = flow + STOP_WEIGHT * stop + LABEL_WEIGHT * phonemes + MEAN_WEIGHT * means
    return total, torch.stack([flow, stop, phonemes, means, right]).detach()


def conditions(
    network: Network, batch: SpokenBatch, context: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Language model's state (M, H) before each patch to be spoken, and the flow's conditions.

    context: the batch's N patches. The conditions are (M, 2, H) and the patch before (M, PATCH, D).
    """
    hidden, residual = (
        states.flatten(0, 1)[batch.before]
        for states in network(batch.tokens, batch.is_audio, context)
    )
    cond = torch.where(batch.is_first[:, None, None], 0, context[batch.targets - 1])
    return hidden, network.conditions(hidden, residual), cond


def slow(name: str) -> float:
    """Factor on the rate of the weights that the reader has learnt."""
    return READER_RATE if "reader." in name or "base_lm." in name else 1.0


class Training:
    def __init__(self, folder: Path, steps: int, rate: float, voices: Sequence[str]):
        torch.manual_seed(0)
        self.folder, self.speller = folder, Speller(folder)
        self.speaker = Speaker(VoxCPM2Config.from_dict(speech_config(VOCABULARY)))
        state = folder / "voice.state"
        first_step = 0 if state.exists() else self.begin()
        rates = optimizers_of(self.speaker, rate, slow)
        self.run = Run(self.speaker, state, rates, steps, WARM_UP, first_step)
        self.corpus = Corpus(folder, part_names(folder), self.speller, voices)
        self.scale = torch.from_numpy(CONTEXT_NOISE * self.corpus.scale()).float()
        self.readings = Readings(folder, self.speller)
        labels = read_labels(folder, HELD)
        self.held_out_readings = {"known words": labels[:50], "unknown words": labels[-50:]}
        held_out = Corpus(folder, [HELD], self.speller, ())
        self.held_out = [held_out.plain(index) for index in held_out.order]

    def begin(self) -> int:
        """Loads the package's weights, if there are any, else the reader.

        Returns the first step: the package's weights need none of the first phases.
        """
        if PACKAGED.exists():
            self.speaker.network.load_state_dict(load_file(PACKAGED))
            self.speaker.load_state_dict(load_file(HEADS), strict=False)
            return IMITATING
        self.speaker.reader.load_state_dict(load_reader(self.folder).state_dict())
        return 0

    def read_parts(self) -> None:
        """Reads the parts of the corpus that were written since."""
        if (names := part_names(self.folder)) != self.corpus.names:
            self.corpus = Corpus(self.folder, names, self.speller, self.corpus.voices)

    def compile(self) -> None:
        """Compiles the parts whose sizes change least; takes five minutes and needs g++."""
        torch._dynamo.config.recompile_limit = 64  # with and without gradients, and all parts
        network = self.speaker.network
        parts = [network.base_lm, network.residual_lm, network.feat_encoder, self.speaker.reader]
        for part in (*parts, network.feat_decoder["estimator"]):
            part.compile(dynamic=True)

    def loss(self, random: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        corpus = self.corpus
        batch = SpokenBatch(
            [
                corpus.varied(*indices, random=random) if corpus.voices else corpus.plain(*indices)
                for indices in np.array(corpus.order)[draw_rows(random, len(corpus.order), size)]
            ]
        )
        draws = Draws.random(batch, int(random.integers(2**31)), self.scale)
        if self.run.step < LISTENING:
            loss = listening_loss(self.speaker, batch, draws.context_noise)
            return loss, loss.detach()[None]
        variation = 1 if self.run.step < IMITATING else VARIATION
        loss, parts = speech_loss(self.speaker, batch, draws, variation)
        if random.random() < READING:
            loss = loss + loss_of(self.speaker.reader, self.readings.batch(size, random))[0]
        return loss, parts

    def phoneme_error_rates(self, speaker: Speaker) -> dict[str, float]:
        """Phoneme error rates of reading held-out sentences without sound."""
        return {
            name: round(phoneme_error_rate(speaker.reader, self.speller, readings), 3)
            for name, readings in self.held_out_readings.items()
        }

    def held_out_loss(self, speaker: Speaker) -> list[float]:
        parts = []
        for at in range(0, 100, 25):
            batch = SpokenBatch(self.held_out[at : at + 25])
            draws = Draws.random(batch, at, self.scale)
            with fast_products():
                parts.append(speech_loss(speaker, batch, draws)[1])
        return torch.stack(parts).mean(0).numpy().round(3).tolist()


NAMES = ("flow", "stop", "labels", "means", "right")


def train(folder: Path, steps: int, size: int, rate: float, voices: Sequence[str]) -> None:
    training = Training(folder, steps, rate, voices)
    training.compile()
    run, began, found = training.run, time.time(), []
    while run.step < steps:
        with fast_products():
            loss, parts = training.loss(np.random.default_rng(run.step), size)
        run.learn(loss)
        found.append(parts.numpy())
        if run.step % LOGGED == 0:
            row = {"step": run.step, "seconds": round(time.time() - began)}
            row |= {"cpu": round(time.process_time())}
            values = np.mean(found, 0).round(3).tolist()
            names = NAMES if len(values) > 1 else ["listening"]
            print(json.dumps(row | dict(zip(names, values, strict=True))), flush=True)
            found = []
        if run.step % EVERY == 0 or run.step == steps:
            run.save()
            training.read_parts()
            held = dict(zip(NAMES, run.averaged(training.held_out_loss), strict=True))
            print(json.dumps({"step": run.step, "held": held}), flush=True)
    print(json.dumps(run.averaged(training.phoneme_error_rates)), flush=True)


def load_speaker(folder: Path) -> Speaker:
    """Speaker with its averaged weights of FOLDER."""
    speaker = Speaker(VoxCPM2Config.from_dict(speech_config(VOCABULARY))).eval()
    fill(speaker, torch.load(folder / "voice.state")["average"])
    return speaker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=batch_size, default=32)
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate; less to go on")
    parser.add_argument("--voices", action="store_true", help="all voices, not the teacher's alone")
    arguments = parser.parse_args()
    voices = list(VOICES) if arguments.voices else []
    train(arguments.folder, arguments.steps, arguments.batch, arguments.rate, voices)


if __name__ == "__main__":
    main()
