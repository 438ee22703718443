"""The teacher: hibari (PyPI hibari-tts, Apache-2.0), distilled from Kokoro-82M (Apache-2.0).

Its network gives phonemes' durations and, for any durations, the spectra of the speech.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from spectra import Spectra

UNIT = 0.025
"""Unit of the durations in seconds."""
_DURATIONS = "/Clip_output_0"
_SPECTRA = ["lh", "theta", "ln", "lr", "phi", "f0"]


@dataclass(frozen=True)
class Utterance:
    audio: np.ndarray
    """Audio at SAMPLE_RATE, with the silence around the speech."""
    spectra: Spectra


class Teacher:
    def __init__(self):
        import hibari

        self.voice = hibari.Hibari()
        source = Path(hibari.__file__).parent / "assets" / "hibari.onnx"
        self._durations = _part_of(source, ["ids", "speed"], [_DURATIONS])
        self._spectra = _part_of(source, ["ids", _DURATIONS], _SPECTRA)

    def phonemes(self, text: str) -> list[int] | None:
        """Phoneme ids with 0 around them; None if the text is not a single sentence."""
        normalised = self.voice.phonemize(text)
        return self.voice.ids(normalised[0]) if len(normalised) == 1 else None

    def durations(self, phonemes: list[int]) -> list[int]:
        """Duration of each phoneme in units of UNIT."""
        given = {"ids": np.array([phonemes], np.int64), "speed": np.ones(1, np.float32)}
        return self._durations.run(None, given)[0].reshape(-1).astype(int).tolist()

    def speak(self, phonemes: list[int], durations: list[int], seed: int = 0) -> Utterance:
        """Speech of the phonemes with these durations, at least one unit each."""
        from hibari import dsp

        given = {
            "ids": np.array([phonemes], np.int64),
            _DURATIONS: np.array(durations, np.float32),
        }
        harmonic, turn, noise, free, phase, pitch = (
            part[0] for part in self._spectra.run(None, given)
        )
        # The synthesis writes into some of them.
        copies = [part.copy() for part in (harmonic, turn, noise, free, phase, pitch)]
        audio = dsp.synth(*copies, np.random.default_rng(seed))
        return Utterance(_resampled(audio), Spectra(harmonic, turn, noise, free, pitch))


def _part_of(source: Path, inputs: list[str], outputs: list[str]):
    """Session of a part of the network; onnxruntime would compute all of it."""
    import onnx
    from onnx.utils import Extractor
    from onnxruntime import InferenceSession, SessionOptions

    network = onnx.load(source)
    # Values inside the network have no type of their own.
    inner = onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None)
    network.graph.value_info.append(inner)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    part = Extractor(network).extract_model(inputs, outputs)
    return InferenceSession(part.SerializeToString(), options)


_own: Teacher | None = None
"""A process's."""


def teachers() -> ProcessPoolExecutor:
    """Processes, one per core, in which `own_teacher` has a teacher."""
    return ProcessPoolExecutor(initializer=_begin)


def _begin() -> None:
    global _own
    _own = Teacher()


def own_teacher() -> Teacher:
    return _own


def _resampled(audio: np.ndarray) -> np.ndarray:
    """Resamples 24 kHz to 16 kHz."""
    from scipy.signal import resample_poly

    return resample_poly(audio, 2, 3).astype(np.float32)
