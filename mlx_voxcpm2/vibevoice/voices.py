"""Voices of speakers: clips and saved voices -> the features that a prompt holds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..layers.device import free_streams_at_thread_end
from ..models.vibevoice.codec import SemanticTokenizer, State, sample_latents
from ..models.vibevoice.config import SAMPLE_RATE
from ..voices.folder import check_new_voice, read_voice, write_voice_file
from ..voices.saved import is_same_encoder

if TYPE_CHECKING:
    from ..audio.reading import AudioSource
    from ..models.vibevoice.network import VibeVoiceNetwork

logger = logging.getLogger("mlx_voxcpm2")

ENCODER = "vibevoice"
"""Name of the encoder in the files of voices, by which VoxCPM2's are told apart."""
FRAMES_AT_ONCE = 16
"""Frames encoded at once: a clip of 30 s in one go would take gigabytes."""

_LEVEL = 10 ** (-25 / 20)


def level(samples: mx.array | np.ndarray) -> mx.array:
    """Scale samples (L,) to a root mean square of -25 dB, and to a peak of at most 1."""
    samples = mx.array(samples).astype(mx.float32)
    scaled = samples * (_LEVEL / (mx.sqrt(mx.mean(mx.square(samples))) + 1e-6))
    peak = mx.max(mx.abs(scaled))
    return mx.where(peak > 1, scaled / (peak + 1e-6), scaled)


@dataclass(frozen=True, eq=False)
class Voice:
    """A voice to speak in, made by `VibeVoice.make_voice`.

    mean (N, D): the mean of its latents, float32. known_sound (1, D): the encoder's fingerprint.
    name: of its file; "" for a voice that was not saved. Raises ValueError for other arrays.
    """

    mean: mx.array
    known_sound: mx.array
    description: str = ""
    name: str = ""

    def __post_init__(self):
        shape, known = self.mean.shape, self.known_sound.shape
        if len(shape) != 2 or not shape[0] or known != (1, shape[-1]):
            raise ValueError(f"mean has shape {shape}, known_sound {known}")
        if not mx.isfinite(self.mean).all().item():
            raise ValueError("mean holds values that are not finite")

    @property
    def seconds(self) -> float:
        """Duration of its clip, at the released models' rate of 7.5 frames a second."""
        return len(self.mean) / 7.5

    def save(self, name_or_path: str | Path, overwrite: bool = False) -> Path:
        """Write the voice to its file, whole or not at all; returns the path.

        name_or_path: a name in the folder of voices, or a path that ends in .safetensors. Raises
        FileExistsError for a voice that exists, unless `overwrite`; OSError; ValueError.
        """
        file = check_new_voice(name_or_path, overwrite)
        tensors = {name: np.array(getattr(self, name)) for name in ("mean", "known_sound")}
        data = {"architecture": ENCODER}
        data |= {"description": self.description} if self.description else {}
        write_voice_file(file, tensors, data, overwrite)
        return file

    @classmethod
    def load(cls, name_or_path: str | Path) -> Voice:
        """Read a saved voice. Raises FileNotFoundError, ValueError or OSError."""
        return read_voice(name_or_path, ENCODER, cls._of_file)

    @classmethod
    def _of_file(cls, name: str, tensors: dict[str, np.ndarray], data: dict[str, str]) -> Voice:
        arrays = {each: mx.array(tensors[each]) for each in ("mean", "known_sound")}
        return cls(**arrays, description=data.get("description", ""), name=name)

    def __repr__(self) -> str:
        parts = [repr(self.name)] if self.name else []
        return f"Voice({', '.join([*parts, f'{len(self.mean)} frames'])})"


@dataclass(frozen=True)
class PreparedVoice:
    """A checked voice of `frames` frames; `features` computes them (N, D), in any thread."""

    frames: int
    features: Callable[[], mx.array]


class VoiceEncoder:
    """Encodes voices with one network, and tells whether another encoder is the same."""

    def __init__(self, network: VibeVoiceNetwork):
        self._network = network

    @property
    def _latent_dim(self) -> int:
        return self._network.config.acoustic.latent_dim

    @cached_property
    def fingerprint(self) -> mx.array:
        """Latent (1, D) of a fixed gliding tone, which identifies the encoder."""
        time = np.arange(self._network.hop) / SAMPLE_RATE
        glide = 0.3 * np.sin(2 * np.pi * (200 * time + 5000 * time**2))
        return self.mean(glide.astype(np.float32))

    def read(self, audio: AudioSource, name: str, is_levelled: bool) -> np.ndarray:
        """Samples (L,) at 24 kHz; problems with the clip are logged under `name`.

        Raises ValueError or FileNotFoundError.
        """
        from ..audio.clips import read_clip

        clip = read_clip(audio, SAMPLE_RATE, name)
        if clip.is_silent:
            raise ValueError(f"{name} {clip.problems()[0]}")
        for problem in clip.problems():
            logger.warning("%s %s", name, problem)
        return np.array(level(clip.samples)) if is_levelled else clip.samples

    def mean(self, samples: np.ndarray) -> mx.array:
        """samples (L,) at 24 kHz -> the mean of their latents (N, D), evaluated.

        The last frame is padded with silence.
        """
        return self._encoded(self._network.acoustic_tokenizer, samples)

    def semantic(self, samples: np.ndarray) -> mx.array:
        """samples (L,) at 24 kHz -> their semantic latents (N, S), evaluated."""
        return self._encoded(self._network.semantic_tokenizer, samples)

    def _encoded(self, tokenizer: SemanticTokenizer, samples: np.ndarray) -> mx.array:
        free_streams_at_thread_end()
        hop = self._network.hop
        padded = np.pad(np.asarray(samples, np.float32), (0, -len(samples) % hop))
        state, parts = State(), []
        for start in range(0, len(padded), FRAMES_AT_ONCE * hop):
            audio = mx.array(padded[start : start + FRAMES_AT_ONCE * hop])[None, :, None]
            parts.append(tokenizer.encode(audio, state)[0])
            mx.eval(parts[-1], state.past)
        found = mx.concatenate(parts)
        mx.eval(found)  # else only this thread could use it
        return found

    def draw(self, mean: mx.array, seed: int | None, index: int = 0) -> mx.array:
        """Features (N, D) of a voice: of latents drawn around their mean, or of the mean.

        seed: None takes the mean; index: number of the voice in its dialogue.
        """
        if seed is None:
            return self._network.features(mean)
        state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
        first, second = mx.random.split(mx.random.key(int(state[0])))
        std, noise = mx.random.normal((1,), key=first), mx.random.normal(mean.shape, key=second)
        spread = self._network.config.latent_std
        return self._network.features(sample_latents(mean[None], std, noise[None], spread)[0])

    def prepare(
        self,
        voice: AudioSource | Voice | mx.array,
        index: int,
        seed: int | None,
        is_levelled: bool,
        name: str,
    ) -> PreparedVoice:
        """A clip, a saved voice or ready features, checked. seed, index: see `draw`.

        name: for messages.

        Raises ValueError or FileNotFoundError.
        """
        if isinstance(voice, mx.array):
            self._check_features(voice, name)
            mx.eval(voice)
            return PreparedVoice(len(voice), partial(mx.array, voice))
        if isinstance(voice, str | Path) and str(voice).lower().endswith(".safetensors"):
            voice = Voice.load(voice)
        if isinstance(voice, Voice):
            self.check(voice)
            mean = voice.mean
            return PreparedVoice(len(mean), lambda: self.draw(mean, seed, index))
        samples = self.read(voice, name, is_levelled)
        frames = -(-len(samples) // self._network.hop)
        return PreparedVoice(frames, lambda: self.draw(self.mean(samples), seed, index))

    def _check_features(self, features: mx.array, name: str) -> None:
        if features.ndim != 2 or features.shape[1] != self._latent_dim or not len(features):
            raise ValueError(
                f"{name} has shape {features.shape}; give what encode_voice returns, (frames, "
                f"{self._latent_dim}), or (samples, sample_rate)"
            )
        if not mx.isfinite(features).all().item():
            raise ValueError(f"{name} holds values that are not finite; encode the clip again")

    def check(self, voice: Voice) -> None:
        """Raise ValueError if the voice was encoded by another encoder."""
        if not is_same_encoder(self.fingerprint, voice.known_sound):
            raise ValueError(
                f"the voice {voice.name or 'given'} was made with another encoder than this "
                "model's; make it again from its clip, with this model"
            )
