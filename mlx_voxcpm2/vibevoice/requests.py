"""Scripts, voices and options -> checked requests."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from ..models.vibevoice.config import VibeVoiceConfig
from ..schema import check_integer
from ..speech.noise import checked_noise, supplied_noise
from .generation import Request
from .options import DialogueOptions
from .script import Tokenizer, read_turns
from .voices import VoiceEncoder

if TYPE_CHECKING:
    from ..audio.reading import AudioSource
    from .voices import Voice

    VoiceInput = AudioSource | Voice | mx.array
    """A clip, a saved voice, or what `VibeVoice.encode_voice` returned."""

logger = logging.getLogger("mlx_voxcpm2")


class RequestBuilder:
    """Builds the requests of one model."""

    def __init__(self, config: VibeVoiceConfig, tokenizer: Tokenizer, encoder: VoiceEncoder):
        self._tokenizer, self._encoder = tokenizer, encoder
        self._positions, self._vocabulary = config.positions, config.decoder.vocab_size
        self._noise_shape = (config.acoustic.latent_dim,)

    def build(
        self,
        script: str,
        voices: Sequence[VoiceInput],
        options: DialogueOptions,
        noise: mx.array | None,
        names: Sequence[str] = (),
    ) -> Request:
        """A checked request. names: of the voices, for messages; by default by their numbers.

        Raises ValueError or FileNotFoundError.
        """
        turns = read_turns(script)
        if isinstance(voices, str | bytes | mx.array) or not isinstance(voices, Sequence):
            raise ValueError("voices must be a list, with a voice for each speaker in turn")
        self._tokenizer.prompt(turns, [1] * len(voices))  # before clips are read
        speakers = {turn.speaker for turn in turns}
        names = names or [f"voice {index + 1}" for index in range(len(voices))]
        for index, name in enumerate(names):
            if index not in speakers:
                logger.warning("%s is for a speaker who has no line", name)
        options = options.with_seed()
        assert options.seed is not None
        seed = options.seed if options.sample else None
        prepared = [
            self._encoder.prepare(voice, index, seed, options.level, name)
            for index, (voice, name) in enumerate(zip(voices, names, strict=True))
        ]
        ids = self._tokenizer.prompt(turns, [voice.frames for voice in prepared])
        limit = self.limit(self.checked_ids(ids), options.max_tokens)
        rows = None if noise is None else checked_noise(noise, self._noise_shape)
        return Request(ids, prepared, options.seed, rows, limit)

    def noise_rows(self, noise: mx.array) -> Iterator[mx.array]:
        """Rows (D,) of noise (N, D). Raises ValueError for another shape."""
        return supplied_noise(checked_noise(noise, self._noise_shape))

    def checked_ids(self, ids: Sequence[int]) -> list[int]:
        """A prompt's token ids. Raises ValueError for others, or more than there are positions."""
        ids = [int(id) for id in ids]
        if len(ids) < 2 or not all(0 <= id < self._vocabulary for id in ids):
            raise ValueError("the prompt must be token ids of this model, two at least")
        if len(ids) >= self._positions:
            raise ValueError(
                f"the prompt has {len(ids)} tokens and the model {self._positions} positions; "
                "shorten the script or the voices"
            )
        return ids

    def limit(self, ids: Sequence[int], asked: int | None) -> int:
        """Number of steps after which the dialogue must end."""
        room = self._positions - len(ids)
        if asked is not None:
            check_integer("max_tokens", asked, 1, None)
        return min(room, 2 * len(ids) if asked is None else asked)
