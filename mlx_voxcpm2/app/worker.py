"""Thread that loads and runs the page's model, one job after the other.

MLX's streams belong to threads: a model that was loaded in one may fail in another.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..long_form.speak import SpokenSegment, speak_long
from ..speech.results import GenerationResult
from ..text.segments import anchor_of
from ..voices.making import voice_of_speech
from ..voices.saved import Voice
from .progress import Pace
from .takes import Passage, Take, passages_of, peaks_of, write_take

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
    """

    def __init__(self, request: PageRequest, on_audio: OnAudio, pace: Pace):
        self.id = secrets.token_hex(8)
        self.request = replace(request, options=request.options.with_seed())
        self.voice: VoiceInputs | None = request.voice
        """The voice until it has been spoken in."""
        self.on_audio = on_audio
        self.began: float | None = None
        """Time at which the work began."""
        self.seconds = 0.0
        """Seconds of speech so far."""
        self.expected_seconds = pace.expected(request.text)
        self.warnings: list[str] = []
        """Warnings of the library about the clips."""
        self.future: Future[Take | None] | None = None
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
        assert self.future is not None
        try:
            self.future.exception(timeout=wait)
        except NotYet:
            return False
        except CancelledError:
            pass
        return True

    def result(self) -> Take | None:
        """The speech, or None if it was stopped before any audio. Raises the job's error."""
        assert self.future is not None
        return None if self.future.cancelled() else self.future.result()


class SpeechWorker:
    """Model in a thread of its own. folder: place of the audio files."""

    def __init__(self, load: Callable[[], VoxCPM2], folder: Path):
        self.folder, self.pace = folder, Pace()
        self._thread = ThreadPoolExecutor(1, "model")
        self.model = self._thread.submit(load).result()
        self.sample_rate = self.model.sample_rate

    def run(self, function: Callable[[], Any]) -> Future[Any]:
        """Call a function in the model's thread, after the jobs before it."""
        return self._thread.submit(function)

    def speak(self, request: PageRequest, on_audio: OnAudio) -> SpeechJob:
        """Queue a request.

        on_audio: called in the model's thread with samples (L,), float32, as they are generated;
        with all at the end unless the request is streamed.
        """
        job = SpeechJob(request, on_audio, self.pace)
        job.future = self._thread.submit(self._run, job)
        return job

    def voice_of_take(self, take: Take) -> Voice:
        """Voice of generated speech. Runs in the model's thread. Raises ValueError."""
        encoder, excerpt = self.model.clip_encoder, take.excerpt
        speech, instruct = (excerpt.audio, self.sample_rate), take.request.voice.instruct
        return voice_of_speech(encoder, speech, excerpt.text, excerpt.finish_reason, instruct)

    def voice_of_clip(self, voice: VoiceInputs) -> tuple[Voice, tuple[str, ...]]:
        """Voice of clips, and warnings and changes of them. Runs in the model's thread.

        Raises ValueError.
        """
        with logged_warnings() as warnings:
            made = self.model.make_voice(voice.ref_audio, voice.prompt_audio, voice.prompt_text)
        return made, tuple(warnings)

    def sound_of_voice(self, name: str) -> np.ndarray:
        """Clip of a saved voice, decoded from its latents. Runs in the model's thread.

        Raises ValueError or OSError.
        """
        voice = Voice.load(name)
        voice.check(self.model.clip_encoder)
        patches = voice.prompt if voice.reference is None else voice.reference
        assert patches is not None
        return np.array(self.model.decode_latents(patches))

    def close(self) -> None:
        """Wait for the current job; those that wait are cancelled."""
        self._thread.shutdown(cancel_futures=True)

    def _run(self, job: SpeechJob) -> Take | None:
        results, begin = [], time.perf_counter()
        job.began = time.monotonic()
        is_stopped = False
        try:
            for result in self._results(job):
                job.on_audio(np.array(result.audio))
                results.append(result)
        except Stopped:
            is_stopped = True
        if not results:
            return None
        return self._take(job, results, is_stopped, time.perf_counter() - begin)

    def _results(self, job: SpeechJob) -> Iterator[Result]:
        request, model = job.request, self.model
        voice, job.voice = job.voice, None  # the take keeps the job's request, without clips
        assert voice is not None
        job.request = replace(request, voice=replace(voice, ref_audio=None, **NO_PROMPT))
        shared = {"options": request.options, "progress": job.progress, **voice.given()}
        with logged_warnings() as job.warnings:
            if request.is_long:
                return speak_long(model, request.text, **shared, **asdict(request.long_form))
            return model.generate(request.text, stream=request.is_streamed, **shared)

    def _take(
        self, job: SpeechJob, results: Sequence[Result], is_stopped: bool, seconds: float
    ) -> Take:
        request, rate = job.request, self.sample_rate
        audio = np.concatenate([np.array(each.audio) for each in results])
        seed = request.options.seed if request.is_long else results[-1].seed
        guards = [note for each in results for note in each.guards]
        duration = len(audio) / rate
        reason = "stopped" if is_stopped else finish_reason(results)
        if reason == "stop":
            self.pace.learn(request.text, duration)
        segments = [each for each in results if isinstance(each, SpokenSegment)]
        return Take(
            request,
            file=write_take(self.folder, audio, rate),
            excerpt=excerpt_of(results, request.text, audio, rate),
            seed=int(seed or 0),
            duration=duration,
            finish_reason=reason,
            notes=tuple(dict.fromkeys([*job.warnings, *guards])),
            processing_seconds=seconds,
            passages=passages_of(segments) or (Passage(request.text, 0.0, duration),),
            peaks=peaks_of(audio),
        )


NO_PROMPT = {"prompt_audio": None, "prompt_text": None}


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
        end = len(audio) / sample_rate
        return SpokenSegment(
            0, text, audio, sample_rate, 0.0, end, finish_reason=last.finish_reason
        )
    segments = [each for each in results if isinstance(each, SpokenSegment)]
    segment = segments[anchor_of(segments)]
    samples = round((segment.end - segment.start) * sample_rate)
    return replace(segment, audio=segment.audio[:samples])


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
