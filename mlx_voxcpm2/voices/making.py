"""Voices made from clips, or from speech that was generated."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..errors import option
from ..text.spoken import spoken_text
from .inputs import VoiceInputs
from .saved import Voice

if TYPE_CHECKING:
    from ..audio.reading import AudioSource
    from .clip_encoder import ClipEncoder

logger = logging.getLogger("mlx_voxcpm2")

LONGEST_CLIP = 300.0  # seconds; together with itself as a prompt it fills half the context


def make_voice(
    encoder: ClipEncoder,
    ref_audio: AudioSource | None = None,
    prompt_audio: AudioSource | None = None,
    prompt_text: str | None = None,
    description: str = "",
    as_is: bool = False,
    label: str = "ref_audio",
) -> Voice:
    """See `VoxCPM2.make_voice`. label: name of ref_audio in messages."""
    rate = encoder.sample_rate
    reference = None if ref_audio is None else _read(ref_audio, rate, as_is, option(label))
    prompt = (
        None if prompt_audio is None else _read(prompt_audio, rate, as_is, option("prompt_audio"))
    )
    if prompt_text is not None and prompt is None:
        prompt = reference  # its transcript is known, so it can be continued
    prompt_clip = None if prompt is None else (prompt, rate)
    VoiceInputs(prompt_audio=prompt_clip, prompt_text=prompt_text)  # raises if one is missing
    if reference is None and prompt is None:
        raise ValueError(f"a voice needs a clip; give {option('ref_audio')}")
    return Voice(
        encoder.fingerprint,
        None if reference is None else encoder.encode((reference, rate), "right"),
        None if prompt_clip is None else encoder.encode(prompt_clip, "left"),
        prompt_text,
        description,
        encoder.patch_seconds,
    )


def _read(source: AudioSource, sample_rate: int, as_is: bool, name: str) -> np.ndarray:
    """Samples of a clip, cleaned unless `as_is`; changes and problems are logged."""
    from ..audio.clips import read_clip

    clip = read_clip(source, sample_rate, name)
    clip, changes = (clip, []) if as_is else clip.cleaned()
    if clip.seconds > LONGEST_CLIP:
        raise ValueError(
            f"{name}: {clip.seconds:.0f} s are too long for a voice; cut it to 5 to 30 s"
        )
    for change in changes:
        logger.warning("%s: %s (%s leaves it)", name, change, option("as_is"))
    if clip.is_silent:
        raise ValueError(f"{name} {clip.problems()[0]}")
    for problem in clip.problems():
        logger.warning("%s %s", name, problem)
    return clip.samples


def voice_of_speech(
    encoder: ClipEncoder,
    speech: tuple[np.ndarray, int],
    text: str,
    finish_reason: str | None,
    instruct: str | None = None,
) -> Voice:
    """Voice of generated speech, its samples (L,) and sample rate in Hz."""
    is_whole = finish_reason == "stop"  # else it lacks an unknown part of the words
    return make_voice(
        encoder,
        speech,
        prompt_text=spoken_text(text) if is_whole else None,
        description=" ".join((instruct or "").split()),
        as_is=True,
        label="the speech",
    )
