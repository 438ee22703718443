"""Event handlers of the page. Each method returns new values of fields, as `page` connects them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import gradio

from ..errors import one_line
from ..voices.folder import list_voices
from .history import HistoryEntry, with_entry
from .inputs import FIELDS, MODES, PageRequest, in_plain_words, new_voice_name, parse_voice
from .live_audio import LiveAudio
from .widgets import SETTINGS
from .worker import SpeechJob, SpeechWorker

logger = logging.getLogger("mlx_voxcpm2")

REFRESH = 0.25  # seconds between two updates of the progress


class Events:
    """Handlers for all visitors. options: options of the command line, by name."""

    def __init__(self, worker: SpeechWorker, live: LiveAudio, options: Mapping[str, object]):
        self.worker, self.live, self.options = worker, live, options
        self.jobs: dict[str, SpeechJob] = {}
        """Current job by session."""

    def choose_mode(self, mode: str) -> list:
        """Returns the advice, FIELDS as the mode uses them, and whether it has a clip to save."""
        chosen = MODES[mode]
        updates = []
        for name in FIELDS:
            changes = {"choices": list_voices()} if name == "voice" else {}
            if name in chosen.labels:
                changes["label"] = chosen.labels[name]
            updates.append(gradio.update(visible=name in chosen.labels, **changes))
        return [chosen.advice, *updates, gradio.update(visible=chosen.has_clip)]

    def speak(
        self,
        request: gradio.Request,
        token: str,
        is_streamed: bool,
        history: list[HistoryEntry],
        mode: str,
        text: str,
        *values: object,
    ) -> Iterator[tuple]:
        """Yields the status, the audio file, the history's list, and the history.

        values: FIELDS and SETTINGS.
        """
        fields = dict(zip(FIELDS, values[: len(FIELDS)], strict=True))
        settings = {**self.options, **dict(zip(SETTINGS, values[len(FIELDS) :], strict=True))}
        unchanged = gradio.skip(), gradio.skip(), gradio.skip()
        job = None
        try:
            speech = PageRequest.parse(mode, text or "", fields, settings, is_streamed)
            job = self.worker.speak(speech, lambda samples: self.live.write(token, samples))
            self.jobs[request.session_hash] = job
            while not job.has_ended(REFRESH):
                yield progress_line(job), *unchanged
            entry = job.result()
        except Exception as error:
            yield error_line(error), *unchanged
            return
        finally:
            if job is not None:
                job.stop()  # the visitor may have left
                if self.jobs.get(request.session_hash) is job:
                    del self.jobs[request.session_hash]
            self.live.close(token)
        if entry is None:
            yield "Stopped before any speech.", *unchanged
            return
        history = with_entry(history, entry)
        yield entry.report, str(entry.file), history_list(history, 0), history

    def stop(self, request: gradio.Request) -> None:
        """Stop the session's job; also called when the page is closed."""
        if job := self.jobs.get(request.session_hash):
            job.stop()

    def choose_entry(self, index: int | None, history: list[HistoryEntry]) -> tuple:
        """Returns the entry's report and audio file."""
        if index is None:
            return gradio.skip(), gradio.skip()
        return history[index].report, str(history[index].file)

    def reuse_seed(self, index: int | None, history: list[HistoryEntry]) -> object:
        return gradio.skip() if index is None else str(history[index].seed)

    def save_voice_of(self, name: str, index: int | None, history: list[HistoryEntry]) -> tuple:
        """Save the voice of an entry. Returns the status, the name's field and the voices."""
        try:
            if index is None:
                raise ValueError("nothing has been spoken yet; press Speak first")
            name = new_voice_name(name)
            self.worker.save_voice_of(history[index], name)
        except Exception as error:
            return error_line(error), gradio.skip(), gradio.skip()
        return saved_voice(name)

    def save_voice(self, name: str, mode: str, *fields: str | None) -> tuple:
        """Save the voice of FIELDS. Returns the status, the name's field and the voices."""
        try:
            name = new_voice_name(name)
            inputs = parse_voice(mode, dict(zip(FIELDS, fields, strict=True)))
            _, notes = self.worker.save_voice(inputs, name)
        except Exception as error:
            return error_line(error), gradio.skip(), gradio.skip()
        return saved_voice(name, notes)


def saved_voice(name: str, notes: tuple[str, ...] = ()) -> tuple:
    """Status, empty name and voices after a voice was saved."""
    status = f"The voice {name} is saved; choose it in the mode {MODES['voice'].title!r}."
    lines = "\n".join([status, *map(in_plain_words, notes)])
    return lines, "", gradio.update(choices=list_voices())


def history_list(history: list[HistoryEntry], index: int) -> dict:
    choices = [(entry.label, number) for number, entry in enumerate(history)]
    return gradio.update(choices=choices, value=index, visible=True)


def progress_line(job: SpeechJob) -> str:
    if not job.has_begun:
        return "Waiting for earlier requests …"
    return f"Speaking … {job.seconds:.1f} s" if job.seconds else "Speaking …"


def error_line(error: Exception) -> str:
    """One line for the visitor; unexpected errors are logged as well."""
    if isinstance(error, ValueError | OSError):
        return in_plain_words(" ".join(str(error).split()))
    logger.error("the page failed", exc_info=error)
    return f"That went wrong ({one_line(error)}); the terminal says more."
