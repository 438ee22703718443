"""A language model that reads: text -> the phonemes of the next patch.

At each patch its input is an embedding of the previous patch's phonemes, in place of the local
encoder's. One head of one layer is trained to attend to the tokens that are read during the next
patch (guided attention: Tachibana et al. 2017, arXiv 1710.08969).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from labels import PHONEMES, Reading, joined, phonemes_of, read_labels
from spelling import Speller, is_spellable
from timing import PATCH
from torch import Tensor, nn
from torch.nn import functional
from voice_torch import Transformer, draw_weights

from mlx_voxcpm2.models.voxcpm2.config import VoxCPM2Config
from mlx_voxcpm2.text.tokenizer import AUDIO_START

GUIDED_LAYER, GUIDE_WEIGHT = 2, 0.5
REPLACED = 0.15
"""Fraction of input patches replaced at random, so that the text is not ignored."""
CASES = {"lower": 0.15, "upper": 0.03, "title": 0.05}
VARIED = 0.25
"""Fraction of texts whose words are spelt in smaller parts."""
WORD_SEQUENCES = 0.3
"""Fraction of batches that are sequences of words instead of sentences."""
JOINED = {1: 0.5, 2: 0.15, 4: 0.2, 8: 0.15}
"""Fractions of batches by the number of sentences in a row: texts of up to 400 letters."""
LONGEST, CODE = 12, 20
"""Phonemes of a word that its embedding begins with, and numbers per phoneme."""


class Reader(nn.Module):
    def __init__(self, config: VoxCPM2Config):
        super().__init__()
        hidden = config.lm_config.hidden_size
        self.base_lm = Transformer(config.base_config, config.context_length)
        self.sounds = nn.Embedding(PATCH * PHONEMES, hidden)
        self.head = nn.Linear(hidden, PATCH * PHONEMES)
        draw_weights(self)
        with torch.no_grad():
            self.sounds.weight.mul_(PATCH**-0.5)

    @torch.no_grad()
    def pronounce(self, words: Mapping[int, Sequence[int]]) -> None:
        """Begins the embeddings of tokens with their phonemes, each in a place of its own.

        Without that, each word's pronunciation has to be learnt from sentences that contain it.
        """
        codes = torch.randn(PHONEMES, CODE, generator=torch.Generator().manual_seed(0))
        for token, phonemes in words.items():
            code = codes[torch.tensor(phonemes[:LONGEST], dtype=torch.long)].flatten()
            self.base_lm.embed_tokens.weight[token, : len(code)] = code
            self.base_lm.embed_tokens.weight[token, len(code) : LONGEST * CODE] = 0

    def embed_phonemes(self, phonemes: Tensor) -> Tensor:
        """Embeds phonemes (..., PATCH) -> (..., H)."""
        return self.sounds(phonemes + PHONEMES * torch.arange(PATCH)).sum(-2)

    def forward(self, tokens: Tensor, is_audio: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, PATCH, PHONEMES), and the guided head's attention scores (B, T, T).

        tokens, is_audio (B, T), previous (B, T, PATCH): phonemes of audio positions.
        """
        lm = self.base_lm
        x = lm.embed_tokens(tokens)
        x = torch.where(is_audio[..., None], self.embed_phonemes(previous), x)
        for index, layer in enumerate(lm.layers):
            if index == GUIDED_LAYER:
                scores = layer.self_attn.scores(layer.input_layernorm(x), lm.rope)
            x = layer(x, lm.rope, causal=True)
        logits = self.head(lm.norm(x))
        return logits.unflatten(-1, (PATCH, PHONEMES)), scores

    @torch.no_grad()
    def read_aloud(
        self, texts: Sequence[Sequence[int]], patches: Sequence[int]
    ) -> list[np.ndarray]:
        """Greedy phonemes (N, PATCH) of each text's tokens, N of `patches`."""
        ends = torch.tensor([len(text) for text in texts])
        length = int(max(ends)) + 1 + max(patches)
        tokens = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens[row, : len(text) + 1] = torch.tensor([*text, AUDIO_START])
        is_audio = torch.arange(length)[None] > ends[:, None]
        found = torch.zeros(len(texts), length, PATCH, dtype=torch.long)
        rows = torch.arange(len(texts))
        for patch in range(max(patches)):
            upto = int(max(ends)) + 1 + patch
            logits, _ = self(tokens[:, :upto], is_audio[:, :upto], found[:, :upto])
            found[rows, ends + 1 + patch] = logits[rows, ends + patch].argmax(-1)
        return [
            found[row, ends[row] + 1 : ends[row] + 1 + count].numpy()
            for row, count in enumerate(patches)
        ]


class Batch:
    """Batch of readings, padded on the right."""

    def __init__(
        self,
        readings: Sequence[Reading],
        speller: Speller,
        random: np.random.Generator | None = None,
    ):
        """random: for training; varies case and spelling, and replaces some input phonemes."""
        spelt = [_spelt(each.text, speller, random) for each in readings]
        longest = max(
            len(ids) + 1 + len(each.phonemes)
            for (ids, _), each in zip(spelt, readings, strict=True)
        )
        shape = (len(readings), longest)
        tokens, is_audio = np.zeros(shape, np.int64), np.zeros(shape, bool)
        previous, wanted = np.zeros((*shape, PATCH), np.int64), np.zeros((*shape, PATCH), np.int64)
        weights, guided = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        read = np.zeros((*shape, longest), bool)
        for row, ((ids, places), each) in enumerate(zip(spelt, readings, strict=True)):
            text, end = len(ids), len(ids) + len(each.phonemes)
            tokens[row, : text + 1] = [*ids, AUDIO_START]
            is_audio[row, text + 1 : end + 1] = True
            previous[row, text + 1 : end + 1] = each.phonemes
            wanted[row, text:end], weights[row, text:end] = each.phonemes, 1
            if each.read is not None:
                guided[row, text:end] = 1
                (begins, ends), (first, behind) = np.array(places).T, each.read.T[..., None]
                read[row, text:end, :text] = (ends > first) & (begins < behind)
        if random is not None:
            replaced = random.random(shape) < REPLACED
            previous[replaced] = random.integers(PHONEMES, size=previous[replaced].shape)
        self.inputs = tuple(map(torch.from_numpy, (tokens, is_audio, previous)))
        self.wanted, self.weights = torch.from_numpy(wanted), torch.from_numpy(weights)
        self.read, self.guided = torch.from_numpy(read), torch.from_numpy(guided)


class Readings:
    """Readings of FOLDER's sentences and sequences of words, in batches of similar length."""

    def __init__(self, folder: Path, speller: Speller):
        self._speller = speller
        self._sentences, self._sequences = (
            sorted(
                (each for each in read_labels(folder, name) if is_spellable(each.text)),
                key=lambda each: len(each.text) + 2 * len(each.phonemes),
            )
            for name in ("sentences", "words")
        )

    def batch(self, size: int, random: np.random.Generator) -> Batch:
        is_words = random.random() < WORD_SEQUENCES
        readings = self._sequences if is_words else self._sentences
        rows = draw_rows(random, len(readings), size)
        chosen = [joined([readings[index] for index in row]) for row in rows]
        return Batch(chosen, self._speller, random)


def batch_size(text: str) -> int:
    """Number of sentences of a batch. Raises ArgumentTypeError for one that makes no full rows."""
    size, most = int(text), max(JOINED)
    if size < 1 or size % most:
        raise argparse.ArgumentTypeError(f"{size} is no multiple of {most}, the most in a row")
    return size


def draw_rows(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Indices (rows, sentences in a row) of a batch, of `count` sentences in order of length.

    Single sentences are of similar length; those of a longer row are any. size: sentences of the
    batch, a multiple of the most in a row.
    """
    together = int(random.choice(list(JOINED), p=list(JOINED.values())))
    if together == 1:
        return random.integers(count - size) + np.arange(size)[:, None]
    return random.choice(count, size, replace=False).reshape(-1, together)


def _spelt(text: str, speller: Speller, random: np.random.Generator | None):
    if random is None:
        return speller(text)
    names = [*CASES, "as it is"]
    name = random.choice(names, p=[*CASES.values(), 1 - sum(CASES.values())])
    text = text if name == names[-1] else getattr(text, name)()
    return speller(text, varied=random.random() < VARIED)


def loss_of(reader: Reader, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss, and its parts: of the phonemes, of the guided head, and the phonemes' accuracy."""
    logits, scores = reader(*batch.inputs)

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum() / weights.sum().clamp(min=1)

    error = functional.cross_entropy(logits.movedim(-1, 1), batch.wanted, reduction="none")
    phonemes = mean(error.mean(-1), batch.weights)
    right = mean((logits.argmax(-1) == batch.wanted).float().mean(-1), batch.weights)
    mass = guide_error(scores, batch.read)
    guide = mean(mass, batch.guided)
    return phonemes + GUIDE_WEIGHT * guide, torch.stack([phonemes, guide, right]).detach()


def guide_error(scores: Tensor, read: Tensor) -> Tensor:
    """Negative logarithm of the attention (B, T) on the tokens that are read, at most 20."""
    wanted = scores.masked_fill(~read, -1e9).logsumexp(-1)
    return (scores.logsumexp(-1) - wanted).clamp(max=20)


def phoneme_error_rate(reader: Reader, speller: Speller, readings: Sequence[Reading]) -> float:
    """Phoneme error rate of free-running reading."""
    texts = [speller(each.text)[0] for each in readings]
    read = reader.read_aloud(texts, [len(each.phonemes) for each in readings])
    pairs = [
        (phonemes_of(each.phonemes), phonemes_of(found))
        for each, found in zip(readings, read, strict=True)
    ]
    return sum(edits(*pair) for pair in pairs) / sum(len(wanted) for wanted, _ in pairs)


def edits(wanted: Sequence[int], got: Sequence[int]) -> int:
    """Edit distance (Levenshtein 1966)."""
    row = list(range(len(got) + 1))
    for number, one in enumerate(wanted, 1):
        above, row = row, [number]
        for index, other in enumerate(got):
            row.append(min(above[index] + (one != other), above[index + 1] + 1, row[-1] + 1))
    return row[-1]
