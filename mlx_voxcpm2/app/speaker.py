"""The model and the one thread that it lives on.

MLX's streams belong to threads: a model that was loaded on one can fail on another. So it is loaded
and run here, one job after the other, whoever asks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..text.segments import anchor_of, split_text
from ..voices.making import voice_of_speech
from .takes import Sample, Take, write_take

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from .inputs import Speech

logger = logging.getLogger("mlx_voxcpm2")

Hear = Callable[[np.ndarray], None]


@dataclass(frozen=True, eq=False)
class Piece:
    """Of a take: a patch, a segment, or all of it. text: what it says, if it is a whole."""

    audio: np.ndarray
    seed: int
    reason: str | None
    guards: tuple[str, ...]
    text: str = ""
    speech_samples: int | None = None
    """Without the pause at its end."""


class Stopped(Exception):
    """The listener has heard enough."""


class Job:
    """A speech that waits, is spoken, or has ended. `stop`, from any thread, ends the work within
    a patch; what had been spoken by then is the take."""

    def __init__(self, speech: Speech, hear: Hear):
        self.speech = replace(speech, options=speech.options.with_seed())
        self.hear = hear
        self.has_begun = False
        self.seconds = 0.0
        """Of speech so far."""
        self.notes: list[str] = []
        """What the library says of the clips."""
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
        """wait: seconds that it may still take."""
        try:
            self.future.exception(timeout=wait)
        except NotYet:
            return False
        except CancelledError:
            pass
        return True

    def take(self) -> Take | None:
        """None if it was stopped before anything was spoken. Raises what went wrong."""
        return None if self.future.cancelled() else self.future.result()


class Speaker:
    """Loads a model, and speaks. folder: where takes are written."""

    def __init__(self, load: Callable[[], VoxCPM2], folder: Path):
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "model")
        self.model = self._thread.submit(load).result()
        self.sample_rate = self.model.sample_rate

    def speak(self, speech: Speech, hear: Hear) -> Job:
        """Queues a speech. hear: called on the model's thread with samples (L,), float32, as they
        are spoken; all at the end unless it is streamed."""
        job = Job(speech, hear)
        job.future = self._thread.submit(self._spoken, job)
        return job

    def keep_take(self, take: Take, name: str) -> Path:
        """Saves the voice that was heard; its file. Raises ValueError or OSError."""
        sample = take.sample
        return self._thread.submit(
            lambda: voice_of_speech(
                self.model.clip_encoder, (sample.audio, self.model.sample_rate), sample.text,
                sample.finish_reason,
                take.speech.clips.get("instruct"),
            ).save(name)
        ).result()  # fmt: skip

    def keep_clip(self, clips: dict[str, str], name: str) -> tuple[Path, tuple[str, ...]]:
        """Saves the voice of clips; its file, and what was mended or is wrong with them.

        clips: by `generate`'s names. Raises ValueError or OSError.
        """

        def keep() -> tuple[Path, tuple[str, ...]]:
            names = ("ref_audio", "prompt_audio", "prompt_text")
            with messages() as notes:
                voice = self.model.make_voice(*(clips.get(each) for each in names))
            return voice.save(name), tuple(notes)

        return self._thread.submit(keep).result()

    def close(self) -> None:
        """Waits for the job that runs; none is begun any more."""
        self._thread.shutdown(cancel_futures=True)

    def _spoken(self, job: Job) -> Take | None:
        pieces, begin = [], time.perf_counter()
        job.has_begun = True
        is_stopped = False
        try:
            for piece in (self._long if job.speech.is_long else self._short)(job):
                job.hear(piece.audio)
                pieces.append(piece)
        except Stopped:
            is_stopped = True
        if not pieces:
            return None
        audio = np.concatenate([piece.audio for piece in pieces])
        seed = pieces[-1].seed
        file = write_take(self.folder, audio, self.sample_rate, f"{job.speech.mode}-seed-{seed}")
        reason = "stopped" if is_stopped else reason_of(pieces)
        guards = [note for piece in pieces for note in piece.guards]
        return Take(
            job.speech, file, sample_of(pieces, job.speech, reason), seed,
            len(audio) / self.sample_rate, reason, tuple(dict.fromkeys([*job.notes, *guards])),
            time.perf_counter() - begin,
        )  # fmt: skip

    def _short(self, job: Job) -> Iterator[Piece]:
        speech = job.speech
        with messages() as job.notes:
            results = self.model.generate(
                speech.text, **speech.clips, stream=speech.is_streamed, progress=job.progress,
                **asdict(speech.options),
            )  # fmt: skip
        for result in results:
            audio = np.array(result.audio)
            yield Piece(audio, result.seed, result.finish_reason, result.guards)

    def _long(self, job: Job) -> Iterator[Piece]:
        from ..long_form.speak import speak_long

        speech = job.speech
        with messages() as job.notes:
            segments = speak_long(
                self.model, split_text(speech.text), **speech.clips, options=speech.options,
                progress=job.progress,
            )  # fmt: skip
        for each in segments:
            yield Piece(
                each.audio, speech.options.seed, each.finish_reason, each.guards, each.text,
                round((each.end - each.start) * each.sample_rate),
            )  # fmt: skip


def reason_of(pieces: list[Piece]) -> str:
    """Why a take ended, as a whole: of segments, what went wrong with any."""
    reasons = [piece.reason for piece in pieces if piece.reason is not None]
    return next((reason for reason in reasons if reason != "stop"), "stop")


def sample_of(pieces: list[Piece], speech: Speech, reason: str) -> Sample:
    """What the take's voice is kept from: all of it or, of a long one, a segment."""
    if not speech.is_long:
        audio = np.concatenate([piece.audio for piece in pieces])
        return Sample(audio, speech.text, reason)
    piece = pieces[anchor_of(pieces)]
    return Sample(piece.audio[: piece.speech_samples], piece.text, piece.reason)


@contextmanager
def messages() -> Iterator[list[str]]:
    """What the library says in this thread meanwhile. It goes on to the terminal as well."""
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
