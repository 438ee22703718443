"""Speech recognition: audio -> transcript, by mlx-audio's recognisers or any other.

mlx-audio is imported, and a recogniser downloaded, only when one is loaded.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..activity import activity
from ..audio.reading import read_audio
from ..errors import one_line
from ..weights.hub import find_recogniser
from .word_times import WordTime, WordTimer, words_in

if TYPE_CHECKING:
    from ..audio.reading import AudioSource

Recogniser = Callable[[np.ndarray, int], str]
"""Audio (samples,), float32, -1..1, and its sample rate in Hz -> transcript."""

# It transcribes a hundred languages; 1.6 GB.
DEFAULT_RECOGNISER = "mlx-community/whisper-large-v3-turbo-asr-fp16"
RATE = 16000  # Hz, the sample rate of mlx-audio's recognisers


def check_recognition_installed() -> None:
    """Raise ValueError if the extra `asr` is missing."""
    if not all(map(find_spec, ("mlx_audio", "jiwer"))):
        raise ValueError("speech recognition needs mlx-audio and jiwer; install 'mlx-voxcpm2[asr]'")


def load_recogniser(
    path_or_repo: str | Path = DEFAULT_RECOGNISER, language: str | None = None
) -> Recogniser:
    """Load a recogniser for mlx-audio from a folder, or from a hub repository by downloading it.

    language: a code such as "de", for recognisers that take one; None lets them detect it.
    Raises ValueError if the extra `asr` is missing or nothing can be loaded from there, and
    FileNotFoundError if it does not exist.
    """
    return _recogniser(_loaded(path_or_repo), str(path_or_repo), language)


def load_word_timer(
    path_or_repo: str | Path = DEFAULT_RECOGNISER, language: str | None = None
) -> WordTimer:
    """Load a recogniser that tells when each word is spoken, such as Whisper.

    Arguments and errors: see `load_recogniser`. The result raises ValueError if the recogniser has
    no times of words.
    """
    model, name = _loaded(path_or_repo), str(path_or_repo)
    known = inspect.signature(model.generate).parameters
    options = {"word_timestamps": True} if "word_timestamps" in known else {}

    def time_words(audio: np.ndarray, sample_rate: int) -> list[WordTime]:
        words = words_in(_generated(model, name, language, audio, sample_rate, **options))
        if words is None:
            raise ValueError(f"{name}: this recogniser gives no times of words; give another")
        return words

    return time_words


def _loaded(path_or_repo: str | Path) -> Any:
    """A model of mlx-audio."""
    check_recognition_installed()
    folder = find_recogniser(path_or_repo)
    try:
        with activity(f"loading {path_or_repo}"):
            from mlx_audio.stt.utils import load_model

            return load_model(folder)
    except Exception as error:  # its own, of the file system, of transformers
        raise ValueError(
            f"{path_or_repo}: no recogniser that mlx-audio loads ({one_line(error)}); give another"
        ) from None


def _recogniser(model: Any, name: str, language: str | None) -> Recogniser:
    return lambda audio, rate: _generated(model, name, language, audio, rate).text.strip()


def _generated(
    model: Any, name: str, language: str | None, audio: np.ndarray, sample_rate: int, **options: Any
) -> Any:
    """Output of a model of mlx-audio. Raises ValueError if it fails."""
    import mlx.core as mx

    if language and "language" in inspect.signature(model.generate).parameters:
        options["language"] = re.split("[-_]", language)[0]
    audio = read_audio((audio, sample_rate), RATE, "speech")
    try:
        return model.generate(mx.array(audio), **options)
    except Exception as error:
        raise ValueError(
            f"{name}: the recogniser fails ({one_line(error)}); give another"
        ) from None


def transcript_of(audio: AudioSource, recogniser: Recogniser, name: str = "prompt_audio") -> str:
    """Transcript of a clip, for `prompt_text`. Read it: errors in it would be spoken.

    audio and name: see `read_audio`. Raises what `read_audio` raises, and ValueError for a clip
    without words.
    """
    words = " ".join(recogniser(read_audio(audio, RATE, name), RATE).split())
    if not words:
        raise ValueError(
            f"{name}: no words were recognised in it; give prompt_text, or another clip"
        )
    return words
