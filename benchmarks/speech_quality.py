"""Is a checkpoint understood, and does it keep the voice? Both as other networks hear it."""

from __future__ import annotations

from collections.abc import Callable

from mlx_voxcpm2 import VoxCPM2  # before MLX: on Linux it finds a fast BLAS
from mlx_voxcpm2.audio.reading import AudioSource, read_audio
from mlx_voxcpm2.errors import one_line

import mlx.core as mx  # isort: skip
import numpy as np  # isort: skip

RATE = 16000  # Hz, which recognisers and voice embeddings take


class SpeechJudge:
    """Word error rate and likeness of the voice of what a checkpoint speaks, always by one seed.

    transcribe: sound (samples,) at 16 kHz -> words. embed: the same -> a voice, any vector.
    clip: a voice to clone and to compare with. Without one the voices of the first checkpoint
    that is judged, the source, are compared with.
    """

    def __init__(
        self,
        transcribe: Callable[[mx.array], str],
        embed: Callable[[mx.array], mx.array],
        texts: list[str],
        clip: AudioSource | None = None,
    ):
        self.transcribe, self.embed, self.texts, self.clip = transcribe, embed, texts, clip
        self.voices: list[np.ndarray] = []
        if clip is not None:
            heard = mx.array(read_audio(clip, RATE, "ref_audio"))
            self.voices = [self._voice(heard)] * len(texts)

    @classmethod
    def from_mlx_audio(
        cls, recogniser: str, texts: list[str], clip: AudioSource | None = None
    ) -> SpeechJudge:
        """With a recogniser that mlx-audio loads by this name, and its ECAPA-TDNN for voices."""
        try:
            import jiwer  # noqa: F401  # needed at the end of long work
            from mlx_audio.codec import EcapaSpeakerEmbeddingExtractor
            from mlx_audio.stt.utils import load_model
        except ImportError as error:
            raise ValueError(
                f"--asr needs {error.name}: pip install mlx-audio jiwer beside this package"
            ) from None
        try:
            model, voices = load_model(recogniser), EcapaSpeakerEmbeddingExtractor.from_pretrained()
        except Exception as error:  # the hub's, the file system's, its own
            raise ValueError(f"mlx-audio can't load {recogniser}: {one_line(error)}") from None
        return cls(lambda sound: model.generate(sound).text, voices.encode, texts, clip)

    def _voice(self, sound: mx.array) -> np.ndarray:
        vector = np.array(self.embed(sound), dtype=np.float64).ravel()
        return vector / np.linalg.norm(vector)

    def __call__(self, model: VoxCPM2) -> dict[str, float]:
        sounds = []
        for text in self.texts:
            (result,) = model.generate(text, ref_audio=self.clip, seed=0)
            speech = np.array(result.audio), result.sample_rate
            sounds.append(mx.array(read_audio(speech, RATE, "speech")))
        voices = [self._voice(sound) for sound in sounds]
        self.voices = self.voices or voices
        likeness = [a @ b for a, b in zip(voices, self.voices, strict=True)]
        return {
            "word_error_rate": word_error_rate(self.texts, [self.transcribe(x) for x in sounds]),
            "speaker_similarity": float(np.mean(likeness)),
        }


def word_error_rate(texts: list[str], heard: list[str]) -> float:
    """Of all words together; capitals and punctuation do not count."""
    import jiwer

    words = jiwer.Compose(
        [
            jiwer.ToLowerCase(),
            jiwer.RemovePunctuation(),
            jiwer.RemoveMultipleSpaces(),
            jiwer.Strip(),
            jiwer.ReduceToListOfListOfWords(),
        ]
    )
    return float(jiwer.wer(texts, heard, reference_transform=words, hypothesis_transform=words))
