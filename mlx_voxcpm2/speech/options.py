"""How speech is drawn: checked once, then passed along."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from ..models.voxcpm2.flow import SOLVERS
from ..schema import check_integer, check_number
from ..text.normalization import check_normalize


@dataclass(frozen=True)
class GenerationOptions:
    """How to draw speech. Raises ValueError for a value out of range.

    cfg_value: 0.1..10, how closely the voice follows the text (upstream advises 1 to 3).
    inference_timesteps: 1..100, solver steps per patch. Each costs one evaluation of the network,
    but the first (with "euler", the first twenty-fifth) none: 10 steps cost 9.
    min_tokens, max_tokens: patches of 160 ms. The stop head is heard from patch `min_tokens` + 2;
    max_tokens goes first.
    temperature: 0..2, scales the noise that each patch starts from.
    seed: 0..2**64 - 1; None draws one, which the result reports.
    retry_badcase: speak again, up to three times in all, when the speech is far too long for its
    text; None means unless streaming, where what was heard can't be taken back.
    solver: "euler", upstream's, or "adams", of second order: where the velocity is smooth, 6 or 7
    steps of it end nearer to where 100 end than 10 of Euler's. Not judged by ear yet.
    normalize: say numbers, dates and units in words, see `normalization.normalized`; True, or the
    text's language ("en", "zh", "ja") where its script does not tell. Needs the extra `normalize`.

    Guards that upstream has not; those that are on by default touch only what no text sounds like.
    Where speech is not decoded, in `generate_patches`, nothing is heard, and none of them acts.
    retry_by_ear: speak again, within the same three attempts, what is heard to be wrong: silence,
    little else, or far more letters than can be said in its time. None is as for retry_badcase.
    silence_limit: 0..3600 seconds of silence in a row that end the speech, also while streaming;
    0 for no limit. More than a speaker's pauses: below 3 it may cut a text in two.
    fade_in: 0..1 seconds; the first patch may click, and 0.015 to 0.05 hide it.
    trim_silence: cut silence off both ends, all but 0.2 s. While streaming, silence is held back
    until something is heard after it.
    """

    cfg_value: float = 2.0
    inference_timesteps: int = 10
    min_tokens: int = 2
    max_tokens: int = 4096
    temperature: float = 1.0
    seed: int | None = None
    retry_badcase: bool | None = None
    solver: str = "euler"
    retry_by_ear: bool | None = None
    silence_limit: float = 10.0
    fade_in: float = 0.0
    trim_silence: bool = False
    normalize: bool | str = False

    def __post_init__(self):
        check_number("cfg_value", self.cfg_value, 0.1, 10)
        check_number("temperature", self.temperature, 0, 2)
        check_integer("inference_timesteps", self.inference_timesteps, 1, 100)
        if self.solver not in list(SOLVERS):
            names = " or ".join(map(repr, SOLVERS))
            raise ValueError(f"solver is {self.solver!r}; it must be {names}")
        check_integer("min_tokens", self.min_tokens, 0, None)
        check_integer("max_tokens", self.max_tokens, 1, None)
        check_normalize(self.normalize)
        if self.seed is not None:
            check_integer("seed", self.seed, 0, 2**64 - 1)
        check_number("silence_limit", self.silence_limit, 0, 3600)
        check_number("fade_in", self.fade_in, 0, 1)
        for name in ("retry_badcase", "retry_by_ear", "trim_silence"):
            value = getattr(self, name)
            if not isinstance(value, bool) and (value is not None or name == "trim_silence"):
                raise ValueError(f"{name} is {value!r}; it must be true or false")

    @property
    def kind(self) -> tuple[str, int]:
        """Solver and steps. Only requests of one kind can be spoken together."""
        return self.solver, self.inference_timesteps

    def with_seed(self) -> GenerationOptions:
        """The same, with a seed drawn if there is none, short enough to be typed again."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))

    @property
    def may_repeat(self) -> bool:
        """Whether what is wrong is spoken again: then nothing can be heard before the end."""
        return self.retry_badcase is not False or self.retry_by_ear is not False

    def without_repeats(self) -> GenerationOptions:
        return replace(self, retry_badcase=False, retry_by_ear=False)

    def next_seed(self) -> GenerationOptions:
        return replace(self, seed=(int(self.seed) + 1) % 2**64)
