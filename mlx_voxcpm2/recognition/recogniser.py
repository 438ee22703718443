"""Sound -> the words that are heard in it, by mlx-audio's recognisers or any other.

Nothing here runs, and nothing is downloaded, unless somebody asks what a sound says.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio.reading import read_audio
from ..errors import one_line
from ..weights.hub import find_recogniser

if TYPE_CHECKING:
    import mlx.nn as nn

    from ..audio.reading import AudioSource

Recogniser = Callable[[np.ndarray, int], str]
"""Sound (samples,), float32, -1..1, and its rate in Hz -> what it says."""

# Knows a hundred languages; 1.6 GB.
DEFAULT_RECOGNISER = "mlx-community/whisper-large-v3-turbo-asr-fp16"
RATE = 16000  # Hz, which mlx-audio's recognisers take


def check_recognition_installed() -> None:
    """Raises ValueError if the extra `asr` is missing."""
    if not all(map(find_spec, ("mlx_audio", "jiwer"))):
        raise ValueError(
            "hearing what is said needs mlx-audio and jiwer; install 'mlx-voxcpm2[asr]'"
        )


def load_recogniser(
    path_or_repo: str | Path = DEFAULT_RECOGNISER, language: str | None = None
) -> Recogniser:
    """A recogniser that mlx-audio can load: a folder, or a hub repository, which is downloaded.

    language: its code, such as "de", for recognisers that can be told; None lets them find out.
    Raises ValueError if the extra `asr` is missing or nothing can be loaded from there, and
    FileNotFoundError if it is nowhere.
    """
    check_recognition_installed()
    folder = find_recogniser(path_or_repo)
    from mlx_audio.stt.utils import load_model

    try:
        model = load_model(folder)
    except Exception as error:  # its own, of the file system, of transformers
        raise ValueError(
            f"{path_or_repo}: no recogniser that mlx-audio loads ({one_line(error)}); give another"
        ) from None
    return _recogniser(model, str(path_or_repo), language)


def _recogniser(model: nn.Module, name: str, language: str | None) -> Recogniser:
    import mlx.core as mx

    can_be_told = "language" in inspect.signature(model.generate).parameters
    told = {"language": re.split("[-_]", language)[0]} if language and can_be_told else {}

    def hear(sound: np.ndarray, sample_rate: int) -> str:
        sound = read_audio((sound, sample_rate), RATE, "speech")
        try:
            return model.generate(mx.array(sound), **told).text.strip()
        except Exception as error:
            raise ValueError(
                f"{name}: the recogniser fails ({one_line(error)}); give another"
            ) from None

    return hear


def words_of(audio: AudioSource, recogniser: Recogniser, name: str = "prompt_audio") -> str:
    """What a clip says, for `prompt_text`: read it, since what was misheard would be spoken.

    audio and name: see `read_audio`. Raises ValueError if nothing is heard, or as `read_audio`.
    """
    words = " ".join(recogniser(read_audio(audio, RATE, name), RATE).split())
    if not words:
        raise ValueError(f"{name}: no words are heard in it; give prompt_text, or another clip")
    return words
