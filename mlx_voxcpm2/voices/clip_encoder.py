"""Clips of sound -> latent patches, by the AudioVAE's encoder.

Upstream: model/voxcpm2.py (`_encode_wav`, `build_prompt_cache`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import mlx.core as mx
import numpy as np

from ..activity import activity
from ..layers.device import free_streams_at_thread_end

if TYPE_CHECKING:
    from ..audio.clips import Clip
    from ..audio.reading import AudioSource
    from ..models.voxcpm2.audio_vae import AudioVAE
    from ..models.voxcpm2.config import VoxCPM2Config

logger = logging.getLogger("mlx_voxcpm2")

PATCHES_AT_ONCE = 8
"""Number of patches encoded or decoded at once. 30 s in one go would take gigabytes."""

Padding = Literal["left", "right"]


@dataclass(frozen=True)
class PreparedClip:
    """A checked clip of `length` patches that `encode` turns into latents (N, P, D).

    Encoding is left to the thread that speaks: an array that MLX has not computed yet belongs to
    the thread that made it.
    """

    length: int
    encode: Callable[[], mx.array | None]
    """Gives None for no clip."""

    def evaluated(self) -> mx.array | None:
        """Latents that any thread can use."""
        patches = self.encode()
        mx.eval([] if patches is None else patches)
        return patches


class ClipEncoder:
    """Encodes clips with one AudioVAE, and tells whether another AudioVAE is the same."""

    def __init__(self, config: VoxCPM2Config, audio_vae: AudioVAE):
        self.audio_vae = audio_vae
        self.sample_rate = config.audio_vae_config.sample_rate
        self.patch_shape = (config.patch_size, config.feat_dim)
        self.patch_samples = config.patch_size * config.audio_vae_config.encoder_hop
        """Samples at the encoder's rate per patch."""
        vae = config.audio_vae_config
        self.patch_seconds = config.patch_size * vae.decoder_hop / vae.out_sample_rate

    @cached_property
    def fingerprint(self) -> mx.array:
        """Latents (1, P, D) of a fixed gliding tone, which identify the AudioVAE.

        A hash of the weights would refuse converted checkpoints, where the last bits of the same
        AudioVAE differ; and it takes longer.
        """
        time = np.arange(self.patch_samples) / self.sample_rate
        glide = 0.3 * np.sin(2 * np.pi * (200 * time + 5000 * time**2))
        return self.encode((glide.astype(np.float32), self.sample_rate))

    def encode(self, audio: AudioSource, pad: Padding = "right") -> mx.array:
        """audio -> patches (N, P, D), float32, evaluated. See `VoxCPM2.encode_audio`."""
        if pad not in ("right", "left"):
            raise ValueError(f"pad is {pad!r}; it must be 'right' or 'left'")
        patches = self._encode(self._padded(self._read(audio, "audio").samples, pad))
        mx.eval(patches)  # else only this thread could use them
        return patches

    def prepare(
        self, audio: AudioSource | mx.array | None, name: str, pad: Padding
    ) -> PreparedClip:
        """A clip read and checked, patches (N, P, D) as `encode` returned them, or no clip.

        Problems with the sound are logged under `name`. Raises ValueError or FileNotFoundError.
        """
        if audio is None:
            return PreparedClip(0, lambda: None)
        if isinstance(audio, mx.array):
            self._check_patches(audio, name)
            mx.eval(audio)
            return PreparedClip(len(audio), lambda: audio)
        clip = self._read(audio, name)
        for problem in clip.problems():
            logger.warning("%s %s", name, problem)
        samples = self._padded(clip.samples, pad)
        return PreparedClip(len(samples) // self.patch_samples, lambda: self._encode(samples))

    def _check_patches(self, patches: mx.array, name: str) -> None:
        shape = self.patch_shape
        if patches.ndim != 3 or patches.shape[1:] != shape or not len(patches):
            raise ValueError(
                f"{name} has shape {patches.shape}; give what encode_audio returns, (patches, "
                f"{shape[0]}, {shape[1]}), or (samples, sample_rate)"
            )
        if not mx.isfinite(patches).all().item():
            raise ValueError(f"{name} holds values that are not finite; encode the clip again")

    def _read(self, audio: AudioSource, name: str) -> Clip:
        from ..audio.clips import read_clip

        return read_clip(audio, self.sample_rate, name)

    def _padded(self, samples: np.ndarray, pad: Padding) -> np.ndarray:
        """samples, padded with silence to whole patches."""
        missing = -len(samples) % self.patch_samples
        return np.pad(samples, (missing, 0) if pad == "left" else (0, missing))

    def _encode(self, samples: np.ndarray) -> mx.array:
        """samples of whole patches -> patches (N, P, D)."""
        free_streams_at_thread_end()
        chunk = PATCHES_AT_ONCE * self.patch_samples
        cache, latents = self.audio_vae.encoder.make_cache(), []
        with activity("encoding a clip"):
            for start in range(0, len(samples), chunk):
                audio = mx.array(samples[start : start + chunk])[None]
                latents.append(self.audio_vae.encode(audio, cache))
                mx.eval(latents[-1], self.audio_vae.cache_arrays(cache))
        return mx.concatenate(latents, axis=1).reshape(-1, *self.patch_shape)
