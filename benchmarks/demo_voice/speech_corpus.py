"""Writes the teacher's speech as acoustics and as latents; the latents' audio when it is needed.

  python benchmarks/demo_voice/speech_corpus.py FOLDER [--parts N]

Writes FOLDER/acoustics/NAME.npz, 200 sentences each, the held-out ones as "held". Some 2,900
sentences are two hours of speech and take 6 minutes on one thread. Parts that exist are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from acoustic_latents import Basis
from acoustics import LATENT, POINTS, SAMPLE_RATE, Acoustics
from sentences import held_out, training_sentences
from teacher import own_teacher, teachers
from timing import Timing, timing_of
from voices import TEACHER, VOICES, in_voice
from whole_cycles import cycles_of

SENTENCES = 200
"""Sentences per part."""
HELD = "held"
TRAINED = Path(__file__).parent / "trained"
"""Folder of the basis, and of the layers that training needs and the checkpoint lacks."""
_BASIS_PARTS = 3
SILENT = 0.01
"""Highest amplitude of audio that is silent."""
LEVEL = 1.6
"""Gain, since the teacher's speech is quiet."""


def write_acoustics(folder: Path, parts: int) -> None:
    sentences = training_sentences()
    wanted = {HELD: [each for part in held_out() for each in part]}
    for number in range(parts):
        wanted[f"{number:04d}"] = sentences[number * SENTENCES : (number + 1) * SENTENCES]
    paths = {name: folder / "acoustics" / f"{name}.npz" for name in wanted}
    missing = [name for name, path in paths.items() if not path.exists()]
    (folder / "acoustics").mkdir(parents=True, exist_ok=True)
    write = partial(_write_part, timing_of(folder))
    with teachers() as processes:
        said = processes.map(
            write, [paths[name] for name in missing], [wanted[name] for name in missing]
        )
        for name, seconds in zip(missing, said, strict=True):
            print(f"{name}: {seconds / 60:.1f} minutes", flush=True)


def _write_part(timing: Timing, path: Path, texts: list[str]) -> float:
    """Writes the acoustics of the teacher's speech in a timing, and returns its seconds."""
    facts, spoken = [], []
    for seed, text in enumerate(texts):
        phonemes = own_teacher().phonemes(text)
        if phonemes is None:
            continue
        durations = timing.durations(phonemes, own_teacher().durations(phonemes))
        said = own_teacher().speak(phonemes, durations, seed)
        if np.abs(said.audio).max() < SILENT:
            continue
        spoken.append(said.spectra.acoustics(said.audio, timing.seconds(phonemes, durations)))
        facts.append({"text": text, "phonemes": phonemes, "durations": durations})
    arrays = {
        name: np.concatenate([getattr(each, name) for each in spoken], dtype=np.float16)
        for name in ("envelope", "aperiodicity", "pitch")
    }
    ends = np.cumsum([len(each.pitch) // POINTS for each in spoken])
    save(path, ends=ends, facts=json.dumps(facts), **arrays)
    return ends[-1] * LATENT / SAMPLE_RATE


def save(path: Path, **arrays: np.ndarray | str) -> None:
    """Writes a file atomically."""
    part = path.with_suffix(f".part{os.getpid()}.npz")
    np.savez(part, **arrays)
    part.rename(path)


def part_names(folder: Path) -> list[str]:
    """Names of the training parts that exist."""
    return sorted(
        path.stem for path in (folder / "acoustics").glob("[0-9]*.npz") if path.stem.isdigit()
    )


def facts_of(folder: Path, name: str) -> list[dict]:
    """Text, phonemes and durations of each utterance."""
    return json.loads(str(np.load(folder / "acoustics" / f"{name}.npz")["facts"]))


def spoken(folder: Path, name: str) -> list[Acoustics]:
    """Acoustics of each utterance."""
    file = np.load(folder / "acoustics" / f"{name}.npz")
    arrays = [file[key].astype(np.float64) for key in ("envelope", "aperiodicity", "pitch")]
    edges = POINTS * np.append(0, file["ends"])
    return [Acoustics(*(array[begin:end] for array in arrays)) for begin, end in pairwise(edges)]


def basis_of(folder: Path) -> Basis:
    """The latents' definition: the one of the trained decoder, if there is one."""
    path = folder / "basis.npz"
    if not path.exists() and (TRAINED / path.name).exists():
        shutil.copy(TRAINED / path.name, path)
    if not path.exists():
        names = part_names(folder)[:_BASIS_PARTS]
        Basis.of([each for name in names for each in spoken(folder, name)]).save(path)
    return Basis.load(path)


def latents_of(folder: Path, name: str, voice: str = TEACHER) -> tuple[np.ndarray, np.ndarray]:
    """Latents (L, D) float32 in a voice, and the utterances' ends in latents."""
    path = folder / "latents" / voice / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        basis = basis_of(folder)
        said = [in_voice(each, VOICES[voice]) for each in spoken(folder, name)]
        latents = [basis.latents(each, cycles_of(each.pitch)) for each in said]
        ends = np.cumsum([len(each) for each in latents])
        save(path, latents=np.concatenate(latents), ends=ends)
    file = np.load(path)
    return file["latents"], file["ends"]


def latents_and_audio(
    folder: Path, name: str, voice: str = TEACHER
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents (L, D) float32, audio (L * LATENT,) int16, and the utterances' ends in latents."""
    latents, ends = latents_of(folder, name, voice)
    path = folder / "sound" / voice / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        basis, spans = basis_of(folder), pairwise([0, *ends])
        audio = [basis.audio(latents[begin:end]) * LEVEL for begin, end in spans]
        audio = (np.concatenate(audio).clip(-1, 1) * 32767).astype(np.int16)
        save(path, sound=audio)
    return latents, np.load(path)["sound"], ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=40)
    arguments = parser.parse_args()
    write_acoustics(arguments.folder, arguments.parts)
    for name in (HELD, *part_names(arguments.folder)):
        latents_of(arguments.folder, name)


if __name__ == "__main__":
    main()
