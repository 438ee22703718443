"""Words of a visitor's clip, by a recogniser that is loaded when it is first asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..audio.reading import read_audio
from ..recognition.recogniser import DEFAULT_RECOGNISER, RATE, load_recogniser
from ..server.transcription import RecogniserThread
from .inputs import FieldError

if TYPE_CHECKING:
    import numpy as np


class Transcriber:
    """A recogniser in a thread of its own. asr_model: None for the default one."""

    def __init__(self, asr_model: str | None = None):
        self._name = asr_model or DEFAULT_RECOGNISER
        self._recogniser: RecogniserThread | None = None
        self._loading = asyncio.Lock()

    async def words(self, clip: tuple[np.ndarray, int]) -> str:
        """Raises FieldError, about the field of the words, if there is no recogniser, or if it
        finds no words."""
        try:
            async with self._loading:
                if self._recogniser is None:
                    self._recogniser = await asyncio.to_thread(self._load)
            audio = await asyncio.to_thread(read_audio, clip, RATE, "file")
            found = await self._recogniser.transcribe(audio, has_times=False)
        except (ValueError, OSError) as error:
            raise FieldError("words", str(error).removeprefix("file: ")) from None
        if not (words := " ".join(found.text.split())):
            raise FieldError("words", "No words were recognised in the clip; write them.")
        return words

    def _load(self) -> RecogniserThread:
        return RecogniserThread(lambda: load_recogniser(self._name))
