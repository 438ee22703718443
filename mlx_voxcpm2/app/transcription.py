"""Words of a visitor's clip, by a recogniser that is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..recognition.recogniser import DEFAULT_RECOGNISER, load_recogniser, transcript_of
from .inputs import FieldError

if TYPE_CHECKING:
    import numpy as np

    from ..recognition.recogniser import Recogniser
    from ..server.model_thread import ModelThread


class Transcriber:
    """A recogniser in the model's thread, since MLX's streams belong to threads."""

    def __init__(self, thread: ModelThread, asr_model: str | None = None):
        self._thread, self._name = thread, asr_model or DEFAULT_RECOGNISER
        self._recogniser: Recogniser | None = None

    async def words(self, clip: tuple[np.ndarray, int]) -> str:
        """Raises FieldError, about the field of the words, if there is no recogniser, or if it
        finds no words."""
        return await self._thread.call(lambda _: self._transcribe(clip))

    def _transcribe(self, clip: tuple[np.ndarray, int]) -> str:
        try:
            if self._recogniser is None:
                self._recogniser = load_recogniser(self._name)
            return transcript_of(clip, self._recogniser, "the clip")
        except (ValueError, OSError) as error:
            raise FieldError("words", str(error)) from None
