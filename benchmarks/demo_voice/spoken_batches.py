"""The teacher's sentences with their speech, in batches on which the network is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from labels import reading
from speech_corpus import facts_of, latents_of
from spelling import Speller, is_spellable
from timing import PATCH, timing_of
from voices import TEACHER, VOICES

from mlx_voxcpm2.text.tokenizer import AUDIO_END, AUDIO_START, REFERENCE_END, REFERENCE_START

REFERRED, DESCRIBED = 0.4, 0.4
"""Fractions of examples with a reference, and of the teacher's others with a description."""
CONTINUED = 0.4
"""Fraction of examples of two sentences whose first one is given."""
UNFINISHED, CAPITALS = 0.15, 0.04
"""Fractions of texts without their final full stop, and in capitals, as in headings."""
SHORTEST, LONGEST = 8, 24
"""Patches of a reference."""


@dataclass(frozen=True)
class Spoken:
    """A text and its speech."""

    tokens: list[int]
    patches: np.ndarray
    """Latents (N, PATCH, D)."""
    phonemes: np.ndarray
    """(N, PATCH)."""
    reference: np.ndarray | None = None
    """Latents of a clip in the same voice (R, PATCH, D)."""
    given: int = 0
    """Number of first patches that are given, to be continued."""

    @property
    def positions(self) -> int:
        reference = 0 if self.reference is None else len(self.reference) + 2
        return reference + len(self.tokens) + 1 + len(self.patches) + 1


class SpokenBatch:
    """Batch of texts and speech, padded on the right.

    A row is [reference start, reference, reference end]? text, audio start, speech, audio end. N is
    the number of patches, M that of patches to be spoken.
    """

    def __init__(self, chosen: Sequence[Spoken]):
        shape = (len(chosen), max(each.positions for each in chosen))
        tokens = np.zeros(shape, np.int64)
        is_audio, is_target = np.zeros(shape, bool), np.zeros(shape, bool)
        patches = []
        for row, each in enumerate(chosen):
            begin = 0
            if each.reference is not None:
                begin = len(each.reference) + 2
                tokens[row, 0], tokens[row, begin - 1] = REFERENCE_START, REFERENCE_END
                is_audio[row, 1 : begin - 1] = True
                patches.append(each.reference)
            text, end = begin + len(each.tokens) + 1, each.positions - 1
            tokens[row, begin:text], tokens[row, end] = [*each.tokens, AUDIO_START], AUDIO_END
            is_audio[row, text:end] = is_target[row, text + each.given : end] = True
            patches.append(each.patches)
        numbers = np.cumsum(is_audio).reshape(shape) - 1
        is_first, is_last = is_target.copy(), is_target.copy()
        is_first[:, 1:] &= ~is_audio[:, :-1]
        is_last[:, :-1] &= ~is_target[:, 1:]
        self.tokens, self.is_audio = torch.from_numpy(tokens), torch.from_numpy(is_audio)
        self.patches = torch.from_numpy(np.concatenate(patches).astype(np.float32))
        """(N, PATCH, D)."""
        self.targets = torch.from_numpy(numbers[is_target])
        """Which of the N patches are to be spoken (M,)."""
        self.before = torch.from_numpy(np.flatnonzero(is_target) - 1)
        """Index among all positions of the one before each of them (M,)."""
        self.is_first = torch.from_numpy(is_first[is_target])
        """Whether it follows text, so that no patch is before it (M,)."""
        self.is_last = torch.from_numpy(is_last[is_target])
        self.phonemes = torch.from_numpy(
            np.concatenate([each.phonemes[each.given :] for each in chosen])
        ).long()
        """(M, PATCH)."""


class Corpus:
    """The teacher's sentences in some voices, from parts of the corpus."""

    def __init__(self, folder: Path, names: Sequence[str], speller: Speller, voices: Sequence[str]):
        self.speller, self.names, self.voices = speller, list(names), list(voices)
        self.facts = [facts for name in names for facts in facts_of(folder, name)]
        self.latents: dict[str, list[np.ndarray]] = {}
        for voice in {TEACHER, *voices}:
            self.latents[voice] = []
            for name in names:
                latents, ends = latents_of(folder, name, voice)
                self.latents[voice] += [latents[slice(*span)] for span in pairwise([0, *ends])]
        timing = timing_of(folder)
        self.phonemes = [
            reading(facts["text"], facts["phonemes"], facts["durations"], timing).phonemes
            for facts in self.facts
        ]
        self.order = sorted(
            (
                index
                for index, facts in enumerate(self.facts)
                if is_spellable(facts["text"]) and len(self.latents[TEACHER][index])
            ),
            key=lambda index: len(self.latents[TEACHER][index]),
        )
        """Sentences by their length."""

    def patches(self, index: int, voice: str = TEACHER) -> np.ndarray:
        """Latents of a sentence (N, PATCH, D)."""
        latents = self.latents[voice][index]
        return latents.reshape(-1, PATCH, latents.shape[1])

    def plain(self, *indices: int) -> Spoken:
        """Sentences in the teacher's voice, one after another."""
        return self._spoken(self._text(indices), indices, TEACHER)

    def varied(self, *indices: int, random: np.random.Generator) -> Spoken:
        """Sentences in one of the voices: alone, described, to continue, or with a reference.

        Some lack the final full stop, or are in capitals.
        """
        shares = [VOICES[name].share for name in self.voices]
        voice = self.voices[random.choice(len(shares), p=shares)]
        text, reference, given = self._text(indices), None, 0
        if random.random() < UNFINISHED:
            text = text.removesuffix(".")
        if random.random() < CAPITALS:
            text = text.upper()
        if len(indices) > 1 and random.random() < CONTINUED:
            given = len(self.patches(indices[0], voice))
        if random.random() < REFERRED:
            other = self.patches(int(random.choice(self.order)), voice)
            begin = random.integers(max(1, len(other) - SHORTEST + 1))
            reference = other[begin : begin + random.integers(SHORTEST, LONGEST + 1)]
        elif not given and (voice != TEACHER or random.random() < DESCRIBED):
            text = _description(voice, random) + text
        return self._spoken(text, indices, voice, reference, given)

    def described(self, index: int, voice: str, random: np.random.Generator) -> Spoken:
        """A sentence in a voice, with one of its descriptions."""
        text = _description(voice, random) + self._text([index])
        return self._spoken(text, [index], voice)

    def _text(self, indices: Sequence[int]) -> str:
        return " ".join(self.facts[index]["text"] for index in indices)

    def _spoken(
        self,
        text: str,
        indices: Sequence[int],
        voice: str,
        reference: np.ndarray | None = None,
        given: int = 0,
    ) -> Spoken:
        patches = np.concatenate([self.patches(index, voice) for index in indices])
        phonemes = np.concatenate([self.phonemes[index] for index in indices])
        return Spoken(self.speller(text)[0], patches, phonemes, reference, given)

    def scale(self) -> np.ndarray:
        """Standard deviation of each channel (D,)."""
        return np.concatenate(self.latents[TEACHER][::10]).std(0)


def _description(voice: str, random: np.random.Generator) -> str:
    return f"({random.choice(VOICES[voice].descriptions)})"
