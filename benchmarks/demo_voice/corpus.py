"""Clips, and the manifests that say what is learnt from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from speech import SAMPLE_RATE, SPEAKERS, draw_words, join_words, say_steadily

CLIPS, VALIDATION = 6096, 96
VAE_CLIPS = 2400
SHORTEST_REFERENCE = 2
"""Words of a clip to clone."""

MANNERS = ("alone", "described", "cloned")
"""How a voice is asked for."""
STAGES = ("words", "phrases", "sequences")
"""At first single words are learnt, then up to four of them, then all, and to clone. A network that
begins with long sequences learns their lengths and voices, and leaves their words to chance."""
LONGEST_PHRASE = 4
WORDS_AGAIN = 8
"""How often the first stage's manifest has each word in each voice."""


@dataclass(frozen=True)
class Utterance:
    number: int
    speaker: str
    words: list[str]

    @property
    def clip(self) -> str:
        return f"clips/{self.number:05d}.flac"

    def line(self, reference: Utterance | None = None, described: bool = False) -> str:
        """Of a manifest."""
        line = {"audio": self.clip, "text": join_words(self.words)}
        if described:
            line["text"] = f"({SPEAKERS[self.speaker].description}){line['text']}"
        if reference:
            line["ref_audio"] = reference.clip
        return json.dumps(line, ensure_ascii=False) + "\n"


def plan(clips: int = CLIPS) -> list[Utterance]:
    """What is said, the same at every call: each voice in turn."""
    random, names = np.random.default_rng(2026), list(SPEAKERS)
    return [
        Utterance(number, names[number % len(names)], draw_words(random)) for number in range(clips)
    ]


def write_corpus(folder: Path, clips: int = CLIPS) -> None:
    """Sound in `folder`/clips, and vae.npz and the manifests of each stage beside it."""
    utterances = plan(clips)
    with ProcessPoolExecutor() as workers:
        voices = [SPEAKERS[each.speaker] for each in utterances]
        words = [each.words for each in utterances]
        # In few pieces, since each process has to record each word itself.
        sounds = list(workers.map(say_steadily, voices, words, chunksize=1 + clips // 4))
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for each, sound in zip(utterances, sounds, strict=True):
        soundfile.write(folder / each.clip, sound, SAMPLE_RATE, subtype="PCM_16")
    for stage in STAGES:
        training, validation = manifests(stage, utterances)
        (folder / f"{stage}.jsonl").write_text("".join(training), encoding="utf-8")
        (folder / f"{stage}_validation.jsonl").write_text("".join(validation), encoding="utf-8")
    heard = sounds[:VAE_CLIPS]
    ends = np.cumsum([len(sound) for sound in heard])
    np.savez(folder / "vae.npz", x=np.concatenate(heard), ends=ends)


def manifests(stage: str, utterances: Sequence[Utterance]) -> tuple[list[str], list[str]]:
    """The lines to train on and to validate with."""
    if stage == "words":
        lines = _word_lines(utterances)
        return lines, lines[5::17]
    longest = LONGEST_PHRASE if stage == "phrases" else np.inf
    random = np.random.default_rng(2027)
    held, kept = utterances[:VALIDATION], utterances[VALIDATION:]
    return tuple(
        [
            _drawn_line(each, utterances, stage, random)
            for each in part
            if len(each.words) <= longest
        ]
        for part in (kept, held)
    )


def _word_lines(utterances: Sequence[Utterance]) -> list[str]:
    """Each word in each voice, mostly behind its description."""
    first = {(each.speaker, *each.words): each for each in utterances if len(each.words) == 1}
    return [
        each.line(described=number > 0) for each in first.values() for number in range(WORDS_AGAIN)
    ]


def _drawn_line(
    each: Utterance, utterances: Sequence[Utterance], stage: str, random: np.random.Generator
) -> str:
    """Alone, described, or behind a clip of the same voice."""
    speaker = SPEAKERS[each.speaker]
    chances = (0.25, 0.75, 0) if stage == "phrases" else speaker.manners
    manner, reference = random.choice(MANNERS, p=chances), None
    if manner == "cloned":
        while reference is None or not (
            reference.speaker == each.speaker
            and reference.words != each.words
            and len(reference.words) >= SHORTEST_REFERENCE
        ):
            reference = utterances[random.integers(len(utterances))]
    return each.line(reference, described=manner == "described")
