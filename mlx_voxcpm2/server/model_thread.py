"""The one thread that loads and runs the model, for all requests of a server and a page.

MLX's streams belong to threads, so no other thread may run the model. Requests are generated
together, patch by patch, and come and go at any time.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import mlx.core as mx

from ..text.segments import Segment
from .job_batch import JobBatch, ReadAdapters
from .streams import SpeechError, SpeechStream
from .tasks import SpeechTask

if TYPE_CHECKING:
    from ..model import VoxCPM2

logger = logging.getLogger("mlx_voxcpm2")

Result = TypeVar("Result")


class ModelThread:
    """A thread with a model, for any number of event loops.

        thread = ModelThread(lambda: load_model("demo"))
        async with thread.speak(SpeechTask(segments, options)) as stream:
            async for each in stream:
                play(each.audio)

    At most `batch_size` tasks are spoken at once; the others wait in order, and those with another
    adapter until all before them have ended.
    """

    def __init__(
        self, load: Callable[[], VoxCPM2], batch_size: int = 8, adapters: ReadAdapters = dict
    ):
        """Loads the model. Raises what `load` and `adapters` raise, and ValueError for an adapter
        that does not fit.

        adapters: reads those that tasks name; if any, also the one that `load` attaches, as None.
        """
        self.batch_size = batch_size
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_closed = False
        loaded: Future[JobBatch] = Future()
        self._thread = threading.Thread(
            target=self._run, args=[load, adapters, loaded], name="model", daemon=True
        )
        self._thread.start()
        self._batch = loaded.result()
        self.model = self._batch.model
        self.sample_rate = self.model.sample_rate

    @property
    def unfinished(self) -> int:
        """Number of tasks that are spoken or wait."""
        return len(self._batch.jobs)

    @property
    def speaking(self) -> int:
        """Number of tasks in the batch."""
        return len(self._batch.speaking)

    @property
    def failures(self) -> int:
        """Number of exceptions of the model."""
        return self._batch.failures

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def speak(self, task: SpeechTask) -> SpeechStream:
        """Queue a task; call it in the event loop that reads the stream.

        Raises ValueError for an unknown adapter, and for a text that the voice can't read.
        """
        if task.adapter is not None and task.adapter not in self._batch.adapters:
            names = ", ".join(str(name) for name in self._batch.adapters if name) or "none"
            raise ValueError(f"there is no adapter {task.adapter[:100]!r}; there are: {names}")
        segments = self.model.request_builder.readable(task.segments, not task.is_open)
        stream = SpeechStream(self, replace(task, segments=tuple(segments)))
        self._commands.put(lambda: self._batch.add(stream))
        return stream

    def faults(self, task: SpeechTask) -> list[str]:
        """Messages of what a small voice leaves out of a task's texts and descriptions.

        Takes time for a long text. Raises ValueError for one with nothing to say.
        """
        return self.model.request_builder.faults(task.segments, task.descriptions)

    async def call(self, function: Callable[[VoxCPM2], Result]) -> Result:
        """Result of a function of the model, run in its thread between two patches."""
        return await asyncio.wrap_future(self.submit(function))

    def submit(self, function: Callable[[VoxCPM2], Result]) -> Future[Result]:
        """As `call`, from any thread."""
        future: Future[Result] = Future()
        self._commands.put(lambda: _fulfil(future, lambda: function(self.model)))
        return future

    def cancel(self, stream: SpeechStream) -> None:
        self._commands.put(lambda: self._batch.cancel(stream))

    def feed(self, stream: SpeechStream, segments: Sequence[Segment], is_end: bool) -> None:
        self._commands.put(lambda: self._batch.feed(stream, segments, is_end))

    def resume(self, stream: SpeechStream) -> None:
        """Go on with a stream whose reader was slow."""
        self._commands.put(lambda: self._batch.queue(stream, first=True))

    def close(self, timeout: float = 10.0) -> bool:
        """End all tasks and the thread; whether it has ended in time (seconds)."""
        self._commands.put(self._close)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # The rest runs in the thread.

    def _run(
        self, load: Callable[[], VoxCPM2], adapters: ReadAdapters, loaded: Future[JobBatch]
    ) -> None:
        def prepared() -> JobBatch:
            stored = adapters()
            self._batch = JobBatch(load(), self.batch_size, stored)
            return self._batch

        if _fulfil(loaded, prepared):
            while not self._is_closed:
                self._take_commands()
                self._batch.step()

    def _take_commands(self) -> None:
        """Run the commands that are there; wait for one if there is nothing else to do."""
        commands = []
        if self._batch.is_idle:
            if self._commands.empty():
                mx.clear_cache()
            commands.append(self._commands.get())
        while not self._commands.empty():
            commands.append(self._commands.get())
        for command in commands:
            try:
                command()
            except Exception:  # a fault of ours must not end the thread
                logger.exception("a command of the model's thread failed")

    def _close(self) -> None:
        self._batch.end_all(SpeechError("the server is ending"))
        self._is_closed = True


def _fulfil(future: Future[Result], function: Callable[[], Result]) -> bool:
    """Set the function's result or error; whether there was no error."""
    if not future.set_running_or_notify_cancel():
        return False
    try:
        future.set_result(function())
        return True
    except BaseException as error:  # for the thread that waits
        future.set_exception(error)
        return False
