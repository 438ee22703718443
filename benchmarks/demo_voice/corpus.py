"""Clips, and the manifests that say what is learnt from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from speech import CHINESE_DIGITS, LONGEST, SAMPLE_RATE, SPEAKERS, draw_words, join_words
from speech import say_steadily as say

CLIPS, JOINED, VALIDATION = 6000, 1500, 100
REFERENCE_WORDS = range(2, 6)


@dataclass(frozen=True)
class Utterance:
    number: int
    speaker: str
    words: list[str]
    parts: tuple[int, ...] = ()
    """Two utterances that this one is, one after the other: what a continuation sounds like."""

    @property
    def clip(self) -> str:
        return f"clips/{self.number:05d}.flac"

    @property
    def is_chinese(self) -> bool:
        return self.words[0] in CHINESE_DIGITS


def plan(clips: int = CLIPS, joined: int = JOINED) -> list[Utterance]:
    """What is said, the same at every call."""
    random = np.random.default_rng(2026)
    found = [
        Utterance(number, list(SPEAKERS)[number % len(SPEAKERS)], draw_words(random, LONGEST))
        for number in range(clips)
    ]
    while len(found) < clips + joined:
        one, two = (found[index] for index in random.integers(clips, size=2))
        alike = one.speaker == two.speaker and one.is_chinese == two.is_chinese
        if alike and len(one.words) + len(two.words) <= LONGEST:
            parts = (one.number, two.number)
            found.append(Utterance(len(found), one.speaker, one.words + two.words, parts))
    return found


def write_corpus(folder: Path, clips: int = CLIPS, joined: int = JOINED) -> None:
    """Sound in `folder`/clips, and train.jsonl, validation.jsonl and vae.npz beside it."""
    utterances = plan(clips, joined)
    with ProcessPoolExecutor() as workers:
        voices = [SPEAKERS[each.speaker] for each in utterances[:clips]]
        words = [each.words for each in utterances[:clips]]
        sounds = list(workers.map(say, voices, words, chunksize=50))
    sounds += [np.concatenate([sounds[part] for part in each.parts]) for each in utterances[clips:]]
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for each, sound in zip(utterances, sounds, strict=True):
        soundfile.write(folder / each.clip, sound, SAMPLE_RATE, subtype="PCM_16")
    write_manifests(folder, utterances)
    ends = np.cumsum([len(sound) for sound in sounds[:clips]])
    np.savez(folder / "vae.npz", x=np.concatenate(sounds[:clips]), ends=ends)


def write_manifests(folder: Path, utterances: Sequence[Utterance]) -> None:
    """Each utterance stands alone, behind a clip of the same voice, or behind its description."""
    random = np.random.default_rng(2027)
    references: dict[str, list[Utterance]] = {name: [] for name in SPEAKERS}
    for each in utterances:
        if len(each.words) in REFERENCE_WORDS and not each.parts:
            references[each.speaker].append(each)
    lines = []
    for each in utterances:
        line = {"audio": each.clip, "text": join_words(each.words)}
        description = SPEAKERS[each.speaker].description
        manner = random.choice(["alone", "described", "cloned"], p=[0.35, 0.3, 0.35])
        if manner == "described" and description:
            line["text"] = f"({description}){line['text']}"
        elif manner != "alone":
            others = references[each.speaker]
            line["ref_audio"] = others[random.integers(len(others))].clip
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    (folder / "validation.jsonl").write_text("".join(lines[:VALIDATION]), encoding="utf-8")
    (folder / "train.jsonl").write_text("".join(lines[VALIDATION:]), encoding="utf-8")
