"""Voices that requests may name: aliases, saved voices, and then OpenAI's names.

A small voice's own descriptions are names, too: "man" is a man.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import one_line
from ..speech.options import GenerationOptions
from ..text.segments import Segment
from ..voices.folder import existing_voice, folded_name, voices_folder
from ..voices.inputs import VoiceInputs
from ..voices.making import voice_of_speech
from ..voices.registry import NO_VOICE, VoiceRegistry
from ..voices.saved import Voice
from .openai_voices import DESCRIPTIONS, SAMPLE, SEED, known_description
from .tasks import SpeechTask

if TYPE_CHECKING:
    from ..model import VoxCPM2
    from .model_thread import ModelThread

logger = logging.getLogger("mlx_voxcpm2")

DESIGN = GenerationOptions(seed=SEED).with_retries_unless(stream=False)
FOLDER = ".openai"
"""Folder of the designed voices, in that of the saved ones."""


class NamedVoices:
    """Voices by name, for one model. Belongs to an event loop."""

    def __init__(
        self,
        thread: ModelThread,
        registry: VoiceRegistry,
        aliases: Mapping[str, str | Path],
        design: GenerationOptions = DESIGN,
    ):
        """aliases: further names -> names or files of saved voices, or one of OpenAI's names.

        design: options with which OpenAI's voices are designed.

        Raises FileNotFoundError or ValueError for a voice that does not exist.
        """
        self.thread, self.registry, self.design = thread, registry, design
        self._aliases = {folded_name(name): _target(voice) for name, voice in aliases.items()}
        self._alias_names = list(aliases)
        self._designed: dict[str, asyncio.Task[Voice]] = {}

    def check(self, model: VoxCPM2) -> None:
        """Raise ValueError or OSError if a given voice does not fit. For the model's thread."""
        self.registry.check(model.clip_encoder)
        for target in self._aliases.values():
            if isinstance(target, Path):
                Voice.load(target).check(model.clip_encoder)

    def names(self) -> list[str]:
        """All names: "default", aliases, saved voices, the model's descriptions, OpenAI's."""
        own = [NO_VOICE, *self._alias_names, *self.registry.names(), *self._descriptions]
        return list(dict.fromkeys([*own, *DESCRIPTIONS]))

    def check_name(self, name: str | None) -> None:
        """Raise ValueError for an unknown name."""
        self._find(name)

    async def inputs(self, name: str | None, instruct: str | None) -> VoiceInputs:
        """A voice with an instruction, for a request. Raises ValueError or OSError."""
        found = self._find(name)
        if found in self._descriptions:
            return VoiceInputs(str(found))
        if isinstance(found, str):
            if (vocabulary := self.thread.model.request_builder.vocabulary) is not None:
                return VoiceInputs(known_description(found, vocabulary.descriptions))
            return VoiceInputs.of(await self._design(found), instruct)
        if found is None:
            return VoiceInputs(instruct)
        voice = await self.thread.call(lambda model: self.registry.read(found, model.clip_encoder))
        return VoiceInputs.of(voice, instruct)

    @property
    def _descriptions(self) -> list[str]:
        """Descriptions that name voices of the model, if it knows a few."""
        vocabulary = self.thread.model.request_builder.vocabulary
        return vocabulary.usual_descriptions() if vocabulary is not None else []

    def _find(self, name: str | None) -> Path | str | None:
        """File of a voice, one of OpenAI's names, a description that the model knows, or None.

        Raises ValueError.
        """
        key = folded_name(name) if name else None
        if key in self._aliases:
            return self._aliases[key]
        if key not in (*DESCRIPTIONS, *self._descriptions):
            try:
                return self.registry.file(name)
            except ValueError:
                names = ", ".join(self.names()[:50])
                raise ValueError(f"there is no voice {name[:100]!r}; there are: {names}") from None
        return self.registry.find(key) or key

    async def _design(self, name: str) -> Voice:
        """One of OpenAI's voices, made once, for all who ask at the same time."""
        task = self._designed.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._designed[name] = asyncio.create_task(self._made(name))
        return await asyncio.shield(task)

    async def _made(self, name: str) -> Voice:
        file = voices_folder() / FOLDER / f"{name}.safetensors"
        kept = await self.thread.call(lambda model: _kept(file, model))
        if kept is not None:
            return kept
        logger.info("designing the voice %s", name)
        task = SpeechTask((Segment(SAMPLE),), self.design, VoiceInputs(DESCRIPTIONS[name]))
        async with self.thread.speak(task) as stream:
            spoken = [each async for each in stream]
        if not spoken:
            raise RuntimeError(f"the voice {name} could not be designed")
        audio = np.concatenate([each.audio for each in spoken]), self.thread.sample_rate
        reason = spoken[-1].finish_reason
        voice = await self.thread.call(
            lambda model: voice_of_speech(
                model.clip_encoder, audio, SAMPLE, reason, DESCRIPTIONS[name]
            )
        )
        await asyncio.to_thread(_keep, voice, file)
        return voice


def _target(voice: str | Path) -> Path | str:
    """File of a saved voice, or one of OpenAI's names. Raises FileNotFoundError or ValueError."""
    try:
        return existing_voice(voice)
    except FileNotFoundError:
        if str(voice) in DESCRIPTIONS:
            return str(voice)
        raise


def _kept(file: Path, model: VoxCPM2) -> Voice | None:
    """A designed voice, unless it was made with another AudioVAE or is damaged."""
    if not file.is_file():
        return None
    try:
        voice = Voice.load(file)
        voice.check(model.clip_encoder)
        return voice
    except (ValueError, OSError) as error:
        logger.warning("%s; it is designed again", error)
        return None


def _keep(voice: Voice, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        voice.save(file, overwrite=True)
    except (ValueError, OSError) as error:
        logger.warning("the voice %s is not kept (%s)", file.stem, one_line(error))
