"""The teacher: hibari (PyPI hibari-tts, Apache-2.0), distilled from Kokoro-82M (Apache-2.0).

Besides the audio it gives the phonemes and their durations.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from acoustics import HOP, SAMPLE_RATE, Acoustics, analyse

UNIT = 0.025
"""Unit of the durations in seconds."""
FRAME = 0.0125
"""Interval of hibari's pitch in seconds."""
_DURATIONS = "/Clip_output_0"
_SILENCE = 2e-6
"""Power below which audio is silent."""
_BEFORE, _AFTER = 800, 1600
"""Samples of silence that are left before and after speech."""


@dataclass(frozen=True)
class Utterance:
    text: str
    phonemes: list[int]
    durations: list[int]
    """Duration of each phoneme in units of UNIT."""
    audio: np.ndarray
    """Speech at SAMPLE_RATE, without the silence around it."""
    begin: float
    """Begin of `audio` on the durations' time axis, in seconds."""
    acoustics: Acoustics


class Teacher:
    def __init__(self, folder: Path):
        """folder: where the network is stored with its durations as another output."""
        import hibari
        import onnx
        from onnx.utils import Extractor
        from onnxruntime import InferenceSession, SessionOptions

        source = Path(hibari.__file__).parent / "assets" / "hibari.onnx"
        network = folder / "hibari_durations.onnx"
        if not network.exists():
            graph = onnx.load(source)
            output = onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None)
            graph.graph.output.append(output)
            folder.mkdir(parents=True, exist_ok=True)
            network.write_bytes(graph.SerializeToString())
        self.voice = hibari.Hibari(model=str(network))
        # onnxruntime computes the whole network whatever outputs are asked for.
        inputs = [each.name for each in self.voice.sess.get_inputs()]
        part = Extractor(onnx.load(network)).extract_model(inputs, [_DURATIONS])
        options = SessionOptions()
        options.intra_op_num_threads = 1
        self._durations = InferenceSession(part.SerializeToString(), options)

    def phonemes(self, text: str) -> list[int] | None:
        """Phoneme ids with 0 around them; None if the text is not a single sentence."""
        normalised = self.voice.phonemize(text)
        return self.voice.ids(normalised[0]) if len(normalised) == 1 else None

    def durations(self, phonemes: list[int]) -> list[int]:
        """Durations alone, which take a tenth of the time of speech."""
        given = {"ids": np.array([phonemes], np.int64), "speed": np.ones(1, np.float32)}
        return self._durations.run([_DURATIONS], given)[0].reshape(-1).astype(int).tolist()

    def speak(self, text: str, seed: int = 0) -> Utterance | None:
        """Speech of the text; None if it is not a single sentence, or the audio is silent."""
        from hibari import dsp

        phonemes = self.phonemes(text)
        if phonemes is None:
            return None
        given = {"ids": np.array([phonemes], np.int64), "speed": np.ones(1, np.float32)}
        *parts, durations = self.voice.sess.run(None, given)
        parts = [part[0] for part in parts[:6]]
        audio = _resampled(dsp.synth(*parts, np.random.default_rng(seed)))
        power = np.convolve(audio**2, np.full(160, 1 / 160), "same")
        loud = np.flatnonzero(power > _SILENCE)
        if not len(loud):
            return None
        begin = max(0, loud[0] - _BEFORE) // HOP * HOP
        audio = audio[begin : loud[-1] + _AFTER]
        seconds = begin / SAMPLE_RATE
        pitch = _shifted(parts[5], seconds / FRAME)
        acoustics = analyse(audio, pitch, FRAME)
        units = durations.reshape(-1).astype(int).tolist()
        return Utterance(text, phonemes, units, audio, seconds, acoustics)


_own: Teacher | None = None
"""A process's."""


def teachers(folder: Path) -> ProcessPoolExecutor:
    """Processes, one per core, in which `own_teacher` is `Teacher(folder)`."""
    return ProcessPoolExecutor(initializer=_begin, initargs=(folder,))


def _begin(folder: Path) -> None:
    global _own
    _own = Teacher(folder)


def own_teacher() -> Teacher:
    return _own


def _resampled(audio: np.ndarray) -> np.ndarray:
    """Resamples 24 kHz to 16 kHz."""
    from scipy.signal import resample_poly

    return resample_poly(audio, 2, 3).astype(np.float32)


def _shifted(pitch: np.ndarray, frames: float) -> np.ndarray:
    """Pitch shifted by a number of frames; unvoiced frames stay unvoiced."""
    places = np.arange(len(pitch)) + frames
    nearest = np.minimum(np.round(places).astype(int), len(pitch) - 1)
    between = np.interp(places, np.arange(len(pitch)), pitch)
    return np.where(pitch[nearest] > 60, between, 0.0)
