"""Speech recognition: audio -> transcript, by Voxtral, mlx-audio's recognisers or any other.

mlx-audio is imported, and a recogniser downloaded, only when one is loaded.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..activity import activity
from ..audio.reading import read_audio
from ..documents import read_json
from ..errors import one_line
from ..models.family import architecture_of
from ..models.voxtral.family import FAMILY
from ..weights.hub import find_recogniser, recogniser_config
from .protocols import Likelihood, Recogniser, TranscriptSegment
from .word_times import WordTime, WordTimer, segments_in, words_in

if TYPE_CHECKING:
    from ..audio.reading import AudioSource

__all__ = ["DEFAULT_RECOGNISER", "RATE", "Recogniser", "load_recogniser", "load_word_timer"]

logger = logging.getLogger("mlx_voxcpm2")

# It transcribes a hundred languages; 1.6 GB.
DEFAULT_RECOGNISER = "mlx-community/whisper-large-v3-turbo-asr-fp16"
RATE = 16_000
"""Sample rate in Hz of mlx-audio's recognisers."""
_NEEDS = "install 'mlx-voxcpm2[asr]'"


def check_recognition_installed(path_or_repo: str | Path = DEFAULT_RECOGNISER) -> None:
    """Raise ValueError if a library is missing that this recogniser needs.

    A repository that is not the default one is asked only when it is loaded.
    """
    if is_voxtral_folder(path_or_repo):
        return
    is_local = os.path.isdir(os.path.expanduser(path_or_repo))
    if (is_local or path_or_repo == DEFAULT_RECOGNISER) and find_spec("mlx_audio") is None:
        raise ValueError(f"speech recognition needs mlx-audio, or a Voxtral; {_NEEDS}")


def is_voxtral_folder(path_or_repo: str | Path) -> bool:
    """Whether this is a folder of a Voxtral checkpoint."""
    file = Path(os.path.expanduser(path_or_repo)) / "config.json"
    return file.is_file() and _is_voxtral(read_json(file, "download the file again"))


def _is_voxtral(config: Any) -> bool:
    return isinstance(config, dict) and architecture_of(config).lower() in FAMILY.architectures


def load_recogniser(
    path_or_repo: str | Path = DEFAULT_RECOGNISER, language: str | None = None
) -> LoadedRecogniser:
    """Load Voxtral, or a recogniser for mlx-audio, from a folder or by download from the hub.

    language: a code such as "de", for recognisers that take one; None lets them detect it.
    Raises ValueError if mlx-audio is needed and missing or nothing can be loaded from there, and
    FileNotFoundError if it does not exist.
    """
    if _is_voxtral(recogniser_config(path_or_repo)):
        from .voxtral.load import load
        from .voxtral.prompt import check_language

        check_language(_code(language))
        return VoxtralRecogniser(str(path_or_repo), language, load(path_or_repo))
    return MlxAudioRecogniser(str(path_or_repo), language, _loaded(path_or_repo))


def _no_times(name: str | Path) -> str:
    return f"{name}: this recogniser gives no times of words; give another, such as a Whisper"


def _code(language: str | None) -> str | None:
    """Language of a code such as "de-AT"."""
    return language and re.split("[-_]", language)[0].lower()


def load_word_timer(
    path_or_repo: str | Path = DEFAULT_RECOGNISER, language: str | None = None
) -> WordTimer:
    """Load a recogniser that tells when each word is spoken, such as Whisper.

    Arguments and errors: see `load_recogniser`, and ValueError for Voxtral. The result raises
    ValueError if another recogniser has no times of words.
    """
    if _is_voxtral(recogniser_config(path_or_repo)):
        raise ValueError(_no_times(path_or_repo))
    return load_recogniser(path_or_repo, language).words


@dataclass(frozen=True)
class LoadedRecogniser:
    """A recogniser as `load_recogniser` returns it: audio (samples,) and its rate -> transcript."""

    name: str
    """Folder or repository, for messages."""
    language: str | None
    model: Any

    longest_seconds = 600.0
    """Longest audio to give to it at once."""

    def __call__(self, audio: np.ndarray, sample_rate: int) -> str:
        raise NotImplementedError

    def with_language(self, language: str | None) -> LoadedRecogniser:
        """The same recogniser for another language."""
        return replace(self, language=language)

    def words(self, audio: np.ndarray, sample_rate: int) -> list[WordTime]:
        """Words in order, with their times. Raises ValueError if the recogniser has none."""
        raise ValueError(_no_times(self.name))


@dataclass(frozen=True)
class VoxtralRecogniser(LoadedRecogniser):
    """Voxtral for one language; it also scores texts."""

    longest_seconds = 1800.0

    def __call__(self, audio: np.ndarray, sample_rate: int) -> str:
        found = self.model.transcribe((audio, sample_rate), _code(self.language))
        if found.finish_reason == "length":
            logger.warning(
                "%s: the transcript of %.0f s of audio was cut at its limit, and is incomplete",
                self.name,
                len(audio) / sample_rate,
            )
        return found.text

    def score(
        self, audio: tuple[np.ndarray, int], text: str, language: str | None = None
    ) -> Likelihood:
        """How likely a text is, given audio; language: by default the recogniser's."""
        return self.model.score(audio, text, _code(language or self.language))


@dataclass(frozen=True)
class MlxAudioRecogniser(LoadedRecogniser):
    """A model of mlx-audio for one language."""

    def __call__(self, audio: np.ndarray, sample_rate: int) -> str:
        return self._output(audio, sample_rate).text.strip()

    def segments(self, audio: np.ndarray, sample_rate: int) -> list[TranscriptSegment] | None:
        """Parts of the transcript with their times; None if the model gives none."""
        return segments_in(self._output(audio, sample_rate))

    def words(self, audio: np.ndarray, sample_rate: int) -> list[WordTime]:
        known = inspect.signature(self.model.generate).parameters
        options = {"word_timestamps": True} if "word_timestamps" in known else {}
        words = words_in(self._output(audio, sample_rate, **options))
        return super().words(audio, sample_rate) if words is None else words

    def _output(self, audio: np.ndarray, sample_rate: int, **options: Any) -> Any:
        """Output of the model. Raises ValueError if it fails."""
        import mlx.core as mx

        takes_language = "language" in inspect.signature(self.model.generate).parameters
        if self.language and takes_language:
            options["language"] = _code(self.language)
        audio = read_audio((audio, sample_rate), RATE, "speech")
        try:
            return self.model.generate(mx.array(audio), **options)
        except Exception as error:
            raise ValueError(
                f"{self.name}: the recogniser fails ({one_line(error)}); give another"
            ) from None


def _loaded(path_or_repo: str | Path) -> Any:
    """A model of mlx-audio."""
    if find_spec("mlx_audio") is None:
        raise ValueError(f"{path_or_repo}: this recogniser needs mlx-audio; {_NEEDS}")
    folder = find_recogniser(path_or_repo)
    try:
        with activity(f"loading {path_or_repo}"):
            from mlx_audio.stt.utils import load_model

            return load_model(folder)
    except Exception as error:  # its own, of the file system, of transformers
        raise ValueError(
            f"{path_or_repo}: no recogniser that mlx-audio loads ({one_line(error)}); give another"
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
