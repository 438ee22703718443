"""Thread that loads and runs the page's model, one job after the other.

MLX's streams belong to threads: a model that was loaded in one may fail in another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..long_form.speak import SpokenSegment, speak_long
from ..speech.results import GenerationResult
from ..text.segments import anchor_of, split_text
from ..voices.making import voice_of_speech
from .history import HistoryEntry, write_entry

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from ..voices.inputs import VoiceInputs
    from .inputs import PageRequest

logger = logging.getLogger("mlx_voxcpm2")

OnAudio = Callable[[np.ndarray], None]
Result = GenerationResult | SpokenSegment


class Stopped(Exception):
    """The job was stopped."""


class SpeechJob:
    """Request that waits, is spoken, or has ended.

    `stop`, from any thread, ends the work within a patch; the result has the audio up to then.
    Its clips are decoded here, in the visitor's thread. Raises ValueError or OSError.
    """

    def __init__(self, request: PageRequest, on_audio: OnAudio):
        self.request = replace(request, options=request.options.with_seed())
        self.voice: VoiceInputs | None = request.voice.with_clips_read()
        """The voice until it has been spoken in."""
        self.on_audio = on_audio
        self.has_begun = False
        self.seconds = 0.0
        """Seconds of speech so far."""
        self.warnings: list[str] = []
        """Warnings of the library about the clips."""
        self.future: Future[HistoryEntry | None] | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()
        if self.future is not None:
            self.future.cancel()  # works only while it waits

    def progress(self, seconds: float) -> None:
        self.seconds = seconds
        if self._stop.is_set():
            raise Stopped

    def has_ended(self, wait: float = 0.0) -> bool:
        """Whether the job has ended, at the latest after `wait` seconds."""
        try:
            self.future.exception(timeout=wait)
        except NotYet:
            return False
        except CancelledError:
            pass
        return True

    def result(self) -> HistoryEntry | None:
        """The speech, or None if it was stopped before any audio. Raises the job's error."""
        return None if self.future.cancelled() else self.future.result()


class SpeechWorker:
    """Model in a thread of its own. folder: place of the audio files."""

    def __init__(self, load: Callable[[], VoxCPM2], folder: Path):
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "model")
        self.model = self._thread.submit(load).result()
        self.sample_rate = self.model.sample_rate

    def speak(self, request: PageRequest, on_audio: OnAudio) -> SpeechJob:
        """Queue a request.

        on_audio: called in the model's thread with samples (L,), float32, as they are generated;
        with all at the end unless the request is streamed. Raises what `SpeechJob` raises.
        """
        job = SpeechJob(request, on_audio)
        job.future = self._thread.submit(self._run, job)
        return job

    def save_voice_of(self, entry: HistoryEntry, name: str) -> Path:
        """Save the voice of generated speech; returns its file. Raises ValueError or OSError."""

        def save() -> Path:
            encoder, excerpt = self.model.clip_encoder, entry.excerpt
            speech, instruct = (excerpt.audio, self.sample_rate), entry.request.voice.instruct
            voice = voice_of_speech(encoder, speech, excerpt.text, excerpt.finish_reason, instruct)
            return voice.save(name)

        return self._thread.submit(save).result()

    def save_voice(self, inputs: VoiceInputs, name: str) -> tuple[Path, tuple[str, ...]]:
        """Save the voice of clips; returns its file, and warnings and changes of the clips.

        Raises ValueError or OSError.
        """
        inputs = inputs.with_clips_read()  # not in the model's thread

        def save() -> tuple[Path, tuple[str, ...]]:
            with logged_warnings() as warnings:
                voice = self.model.make_voice(
                    inputs.ref_audio, inputs.prompt_audio, inputs.prompt_text
                )
            return voice.save(name), tuple(warnings)

        return self._thread.submit(save).result()

    def close(self) -> None:
        """Wait for the current job; those that wait are cancelled."""
        self._thread.shutdown(cancel_futures=True)

    def _run(self, job: SpeechJob) -> HistoryEntry | None:
        results, begin = [], time.perf_counter()
        job.has_begun = True
        is_stopped = False
        try:
            for result in self._results(job):
                job.on_audio(np.array(result.audio))
                results.append(result)
        except Stopped:
            is_stopped = True
        if not results:
            return None
        return self._entry(job, results, is_stopped, time.perf_counter() - begin)

    def _results(self, job: SpeechJob) -> Iterator[Result]:
        request, model = job.request, self.model
        voice, job.voice = job.voice, None  # the history keeps the job's request, without clips
        assert voice is not None
        shared = {"options": request.options, "progress": job.progress, **voice.given()}
        with logged_warnings() as job.warnings:
            if request.is_long:
                return speak_long(model, split_text(request.text), **shared)
            return model.generate(request.text, stream=request.is_streamed, **shared)

    def _entry(
        self, job: SpeechJob, results: Sequence[Result], is_stopped: bool, seconds: float
    ) -> HistoryEntry:
        request, rate = job.request, self.sample_rate
        audio = np.concatenate([np.array(each.audio) for each in results])
        seed = request.options.seed if request.is_long else results[-1].seed
        guards = [note for each in results for note in each.guards]
        return HistoryEntry(
            request,
            file=write_entry(self.folder, audio, rate, f"{request.mode}-seed-{seed}"),
            excerpt=excerpt_of(results, request.text, audio, rate),
            seed=seed,
            duration=len(audio) / rate,
            finish_reason="stopped" if is_stopped else finish_reason(results),
            notes=tuple(dict.fromkeys([*job.warnings, *guards])),
            processing_seconds=seconds,
        )


def finish_reason(results: Sequence[Result]) -> str:
    """Why the speech ended: the first fault of any segment, else "stop"."""
    reasons = [each.finish_reason for each in results if each.finish_reason is not None]
    return next((reason for reason in reasons if reason != "stop"), "stop")


def excerpt_of(
    results: Sequence[Result], text: str, audio: np.ndarray, sample_rate: int
) -> SpokenSegment:
    """Speech from which a voice is made: one segment of a long text, all of a short one."""
    last = results[-1]
    if isinstance(last, GenerationResult):
        audio = np.concatenate([np.array(each.audio_as_generated) for each in results])
        end = len(audio) / sample_rate
        return SpokenSegment(
            0, text, audio, sample_rate, 0.0, end, finish_reason=last.finish_reason
        )
    segment = results[anchor_of(results)]
    return replace(segment, audio=segment.speech_as_generated, unstretched=None)


@contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Yields the list of warnings that this thread logs in the block; they are still logged."""
    thread, found = threading.get_ident(), []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                found.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield found
    finally:
        logger.removeHandler(listener)
