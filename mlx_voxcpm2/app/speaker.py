"""The page's requests, spoken by the model's thread."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..voices.making import voice_of_speech
from ..voices.saved import Voice
from .progress import Pace
from .take_writer import TakeWriter
from .takes import Take
from .warnings import logged_warnings

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..server.model_thread import ModelThread
    from ..voices.inputs import VoiceInputs
    from .inputs import PageRequest


class SpeechJob:
    """Request that waits, is spoken, or has ended. Belongs to one event loop.

    `stop` ends the work within a patch; the take has the audio up to then.
    """

    def __init__(self, speaker: Speaker, request: PageRequest):
        self.id = secrets.token_hex(8)
        self.request = replace(request, options=request.options.with_seed())
        self.expected_seconds = speaker.pace.expected(request.words) / request.options.speed
        self.take: Take | None = None
        """The speech, once all has been read; None if it was stopped before any."""
        self._speaker, self._task = speaker, self.request.task()
        self._stream = speaker.thread.speak(self._task)
        self._began: float | None = None
        self._is_stopped = False

    @property
    def has_begun(self) -> bool:
        return self._stream.has_begun

    @property
    def seconds(self) -> float:
        """Seconds of speech so far."""
        return self._stream.seconds

    @property
    def elapsed(self) -> float:
        """Seconds of work so far, as seen by those who ask from time to time."""
        if self._began is None and self.has_begun:
            self._began = time.monotonic()
        return 0.0 if self._began is None else time.monotonic() - self._began

    def stop(self) -> None:
        self._is_stopped = True
        self._stream.cancel()

    async def audio(self) -> AsyncGenerator[np.ndarray, None]:
        """Yields float32 (samples,) as it becomes final. Raises ValueError or SpeechError."""
        speaker, reason = self._speaker, None
        writer = TakeWriter(speaker.folder, speaker.thread.sample_rate)
        try:
            async with self._stream as stream:
                async for each in stream:
                    writer.write(each)
                    reason = each.finish_reason or reason
                    yield each.audio
            if writer.has_audio:
                ended = "stopped" if reason is None or self._is_stopped else reason
                self.take = writer.take(self.request, ended, self.elapsed)
        finally:
            writer.close(self.take is not None)
        if reason == "stop" and self.take is not None:
            seconds = self.take.duration * self.request.options.speed
            speaker.pace.learn(self.request.words, seconds)


class Speaker:
    """What the page asks of the model's thread. folder: place of the takes' files."""

    def __init__(self, thread: ModelThread, folder: Path):
        self.thread, self.folder, self.pace = thread, folder, Pace()

    def with_faults(self, request: PageRequest) -> PageRequest:
        """The request with notes of what the voice leaves out of it.

        Takes time for a long text, and belongs to a thread that does not run the model. Raises
        ValueError for what has nothing to say.
        """
        return replace(request, notes=(*request.notes, *self.thread.faults(request.task())))

    def speak(self, request: PageRequest) -> SpeechJob:
        """Queue a request. Call it in the event loop that reads the job."""
        return SpeechJob(self, request)

    async def voice_of_take(self, take: Take) -> Voice:
        """Voice of generated speech. Raises ValueError."""
        excerpt, instruct = take.excerpt, take.request.voice.instruct
        speech = excerpt.audio, self.thread.sample_rate

        def make(model: VoxCPM2) -> Voice:
            reason, encoder = excerpt.finish_reason, model.clip_encoder
            return voice_of_speech(encoder, speech, excerpt.text, reason, instruct)

        return await self.thread.call(make)

    async def voice_of_clip(self, voice: VoiceInputs) -> tuple[Voice, tuple[str, ...]]:
        """Voice of clips, and warnings and changes of them. Raises ValueError."""

        def make(model: VoxCPM2) -> tuple[Voice, tuple[str, ...]]:
            clips = replace(voice, instruct=None).given()
            with logged_warnings() as warnings:
                made = model.make_voice(**clips)
            return made, tuple(warnings)

        return await self.thread.call(make)

    async def sound_of_voice(self, name: str) -> np.ndarray:
        """Clip of a saved voice, decoded from its latents. Raises ValueError or OSError."""

        def decode(model: VoxCPM2) -> np.ndarray:
            voice = Voice.load(name)
            voice.check(model.clip_encoder)
            patches = voice.prompt if voice.reference is None else voice.reference
            assert patches is not None
            return np.array(model.decode_latents(patches))

        return await self.thread.call(decode)
