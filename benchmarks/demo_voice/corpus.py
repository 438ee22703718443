"""Clips, and the manifests that say what is learnt from them."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from speech import LONGEST, SAMPLE_RATE, SPEAKERS, draw_words, join_words, say_steadily

CLIPS, VALIDATION = 6000, 100
REFERENCE_WORDS = range(2, 6)


def write_corpus(folder: Path, clips: int = CLIPS) -> None:
    """Sound in `folder`/clips, and train.jsonl, validation.jsonl and vae.npz beside it.

    The same at every call. A clip is spoken plainly, after a clip of the same voice, or, where its
    voice has one, behind its description.
    """
    random = np.random.default_rng(2026)
    speakers = [list(SPEAKERS)[number % len(SPEAKERS)] for number in range(clips)]
    sentences = [draw_words(random, LONGEST) for _ in range(clips)]
    with ProcessPoolExecutor() as workers:
        voices = [SPEAKERS[name] for name in speakers]
        sounds = list(workers.map(say_steadily, voices, sentences, chunksize=50))
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for number, sound in enumerate(sounds):
        soundfile.write(_clip(folder, number), sound, SAMPLE_RATE, subtype="PCM_16")
    lines = [_line(number, speakers, sentences, random) for number in range(clips)]
    for name, part in (("train", lines[:-VALIDATION]), ("validation", lines[-VALIDATION:])):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    ends = np.cumsum([len(sound) for sound in sounds])
    np.savez(folder / "vae.npz", x=np.concatenate(sounds), ends=ends)


def _clip(folder: Path, number: int) -> Path:
    return folder / "clips" / f"{number:05d}.flac"


def _line(
    number: int, speakers: list[str], sentences: list[list[str]], random: np.random.Generator
) -> dict:
    name, text = speakers[number], join_words(sentences[number])
    line = {"audio": f"clips/{number:05d}.flac", "text": text}
    description = SPEAKERS[name].description
    manner = random.choice(["plain", "described", "cloned"], p=[0.35, 0.3, 0.35])
    if manner == "described" and description:
        line["text"] = f"({description}){text}"
    elif manner != "plain":
        others = [
            other
            for other, speaker in enumerate(speakers)
            if speaker == name and other != number and len(sentences[other]) in REFERENCE_WORDS
        ]
        line["ref_audio"] = f"clips/{random.choice(others):05d}.flac"
    return line
