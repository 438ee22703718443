"""What happens on the page: buttons are pressed, fields change. Each method returns new values for
fields, as the layout in `page` connects them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import gradio

from ..errors import one_line
from .inputs import (
    FIELDS,
    MODES,
    asked_speech,
    in_plain_words,
    kept_voices,
    new_voice_name,
    used_inputs,
)
from .live_sound import LiveSounds
from .speaker import Job, Speaker
from .takes import Take, with_take

logger = logging.getLogger("mlx_voxcpm2")

REFRESH = 0.25  # seconds between two lines of progress


class Events:
    """Of all who look at the page. options: those that the command line set, by name."""

    def __init__(self, speaker: Speaker, sounds: LiveSounds, options: dict[str, object]):
        self.speaker, self.sounds, self.options = speaker, sounds, options
        self.jobs: dict[str, Job] = {}
        """What each session speaks."""

    def choose_mode(self, mode: str) -> list:
        """The advice, FIELDS as this mode uses them, and whether a clip can be kept."""
        chosen = MODES[mode]
        updates = []
        for name in FIELDS:
            label = chosen.labels.get(name)
            more = {"choices": kept_voices()} if name == "voice" else {}
            if label is not None:
                more["label"] = label
            updates.append(gradio.update(visible=label is not None, **more))
        return [chosen.advice, *updates, gradio.update(visible=chosen.takes_a_clip)]

    def speak(
        self, request: gradio.Request, token: str, is_streamed: bool, history: list[Take],
        mode: str, text: str, *rest: object,
    ) -> Iterator[tuple]:  # fmt: skip
        """rest: FIELDS and SETTINGS. Yields the status, the take, the list of takes, and them."""
        fields = dict(zip(FIELDS, rest[: len(FIELDS)], strict=True))
        settings = {**self.options, **dict(zip(SETTINGS, rest[len(FIELDS) :], strict=True))}
        same = gradio.skip(), gradio.skip(), gradio.skip()
        job = None
        try:
            speech = asked_speech(mode, text or "", fields, settings, is_streamed)
            job = self.speaker.speak(speech, lambda samples: self.sounds.write(token, samples))
            self.jobs[request.session_hash] = job
            while not job.has_ended(REFRESH):
                yield progress_line(job), *same
            take = job.take()
        except Exception as error:
            yield error_line(error), *same
            return
        finally:
            if job is not None:
                job.stop()  # the listener may have gone
                if self.jobs.get(request.session_hash) is job:
                    del self.jobs[request.session_hash]
            self.sounds.close(token)
        if take is None:
            yield "Stopped before anything was spoken.", *same
            return
        history = with_take(history, take)
        yield take.report, str(take.file), takes_list(history, 0), history

    def stop(self, request: gradio.Request) -> None:
        """Also when the page is closed."""
        if job := self.jobs.get(request.session_hash):
            job.stop()

    def choose_take(self, index: int | None, history: list[Take]) -> tuple:
        """Its report and its sound."""
        if index is None:
            return gradio.skip(), gradio.skip()
        return history[index].report, str(history[index].file)

    def same_seed(self, index: int | None, history: list[Take]) -> object:
        return gradio.skip() if index is None else str(history[index].seed)

    def keep_take(self, name: str, index: int | None, history: list[Take]) -> tuple:
        """The status, the name and the voices."""
        try:
            if index is None:
                raise ValueError("nothing has been spoken yet; press Speak first")
            name = new_voice_name(name)
            self.speaker.keep_take(history[index], name)
        except Exception as error:
            return error_line(error), gradio.skip(), gradio.skip()
        return self._kept(name)

    def keep_clip(self, name: str, mode: str, *fields: str | None) -> tuple:
        """fields: FIELDS. The status, the name and the voices."""
        try:
            name = new_voice_name(name)
            clips = used_inputs(mode, dict(zip(FIELDS, fields, strict=True)))
            _, notes = self.speaker.keep_clip(clips, name)
        except Exception as error:
            return error_line(error), gradio.skip(), gradio.skip()
        return self._kept(name, notes)

    def _kept(self, name: str, notes: tuple[str, ...] = ()) -> tuple:
        status = f"The voice {name} is kept; the mode {MODES['voice'].title!r} speaks in it."
        return (
            "\n".join([status, *map(in_plain_words, notes)]),
            "",
            gradio.update(choices=kept_voices()),
        )


SETTINGS = (
    "seed", "cfg_value", "inference_timesteps", "temperature", "fade_in", "trim_silence",
)  # fmt: skip
"""The options that the page shows."""


def takes_list(history: list[Take], index: int) -> dict:
    choices = [(take.label, number) for number, take in enumerate(history)]
    return gradio.update(choices=choices, value=index, visible=True)


def progress_line(job: Job) -> str:
    if not job.has_begun:
        return "Waiting for what is spoken before …"
    return f"Speaking … {job.seconds:.1f} s" if job.seconds else "Speaking …"


def error_line(error: Exception) -> str:
    """What the user can mend, in one line; what is our own fault goes to the terminal as well."""
    if isinstance(error, ValueError | OSError):
        return in_plain_words(" ".join(str(error).split()))
    logger.error("the page failed", exc_info=error)
    return f"That went wrong ({one_line(error)}); the terminal says more."
