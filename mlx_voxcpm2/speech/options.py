"""Options of generation: how speech is sampled and checked."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypedDict

from ..audio.stretching import check_speed
from ..errors import option
from ..models.voxcpm2.flow import SOLVERS
from ..settings import check_settings, setting
from ..text.normalization import check_normalize

Solver = Literal["euler", "adams"]

SAMPLING, SOUND, GUARDS = "sampling", "sound", "guards"
_SOLVERS = tuple(SOLVERS)
FAST: dict[str, Any] = {"solver": "adams", "inference_timesteps": 7}
"""Options that `fast` puts in the place of their defaults."""


@dataclass(frozen=True)
class GenerationOptions:
    """How to generate speech. Raises ValueError for a value out of range.

    cfg_value: 0.1..10, how closely the voice follows the text (upstream advises 1 to 3).
    inference_timesteps: 1..100, solver steps per patch. Each costs one evaluation of the network,
    but the first (with "euler", the first twenty-fifth) none: 10 steps cost 9.
    min_tokens, max_tokens: patches of 160 ms. The stop head is read from patch `min_tokens` + 2;
    max_tokens takes precedence.
    temperature: 0..2, scales the noise that each patch starts from.
    seed: 0..2**64 - 1; None draws one, which the result reports.
    retry_badcase: generate again, up to three times in all, when the speech is far too long for its
    text; None means unless streaming, where audio that was played can't be taken back.
    solver: "euler", upstream's, or "adams", of second order: where the velocity is smooth, 6 or 7
    of its steps end nearer to the result of 100 steps than 10 Euler steps. Not evaluated by
    listeners yet.
    fast: "adams" with 7 steps, of which two reuse the guidance of the step before: 10 rows of the
    diffusion transformer instead of 18. On the demo voice that ends as near to 100 steps as 10
    Euler steps. It takes the place of the default `solver` and `inference_timesteps`; other values
    of them are refused beside it.
    normalize: write numbers, dates and units in words, see `normalization.normalized`; True, or the
    text's language ("en", "zh", "ja") where its script does not tell. Needs the extra `normalize`.

    speed: 0.25..4, of the finished sound, at the same pitch: 2 takes half the time. Everything that
    measures or uses the speech, such as guards, recognisers and saved voices, has it before. Needs
    the extra `media`. `generate_patches` ignores it.

    Guards that upstream does not have; those that are on by default only change output that no
    text sounds like. They need decoded audio, so `generate_patches` ignores them.
    retry_by_ear: generate again, within the same three attempts, when the audio is wrong: silent,
    almost silent, or with far more letters than can be spoken in its time. None: as retry_badcase.
    silence_limit: 0..3600 seconds of silence in a row that end the speech, also while streaming;
    0 for no limit. Below 3 it may cut at a speaker's pause.
    fade_in: 0..1 seconds; the first patch may click, and 0.015 to 0.05 hide it.
    trim_silence: cut silence off both ends, all but 0.2 s. While streaming, silence is delayed
    until speech follows it.
    """

    cfg_value: float = setting(2.0, "number", "guidance", low=0.1, high=10, group=SAMPLING)
    inference_timesteps: int = setting(
        10,
        "integer",
        "solver steps",
        low=1,
        high=100,
        group=SAMPLING,
    )
    min_tokens: int = setting(
        2,
        "integer",
        "units of 0.16 s before the speech may end",
        low=0,
        group=SAMPLING,
    )
    max_tokens: int = setting(
        4096,
        "integer",
        "units of 0.16 s after which it must end",
        low=1,
        group=SAMPLING,
    )
    temperature: float = setting(1.0, "number", "scale of the noise", low=0, high=2, group=SAMPLING)
    seed: int | None = setting(
        None,
        "integer",
        "number that makes the same speech again",
        low=0,
        high=2**64 - 1,
        group=SAMPLING,
    )
    retry_badcase: bool | None = setting(
        None, "switch", "generate again if the speech is far too long", group=GUARDS
    )
    solver: Solver = setting(
        "euler",
        "choice",
        "euler, or adams, which may need fewer steps (not evaluated by listeners yet)",
        choices=_SOLVERS,
        group=SAMPLING,
    )
    fast: bool = setting(
        False,
        "switch",
        "adams with 7 steps and less guidance: 10/18 of the work (not evaluated by listeners yet)",
        group=SAMPLING,
    )
    retry_by_ear: bool | None = setting(
        None,
        "switch",
        "generate again if it is silent, mostly silent, or too short to be the text",
        group=GUARDS,
    )
    silence_limit: float = setting(
        10.0,
        "number",
        "end the speech after so much silence; 0 for no limit",
        low=0,
        high=3600,
        metavar="SECONDS",
        group=GUARDS,
    )
    fade_in: float = setting(
        0.0,
        "number",
        "0.015 to 0.05 hide a click at the start",
        low=0,
        high=1,
        metavar="SECONDS",
        group=GUARDS,
    )
    trim_silence: bool = setting(
        False,
        "switch",
        "cut silence off both ends, all but 0.2 s; a stream is delayed by its pauses",
        group=GUARDS,
    )
    normalize: bool | str = setting(
        False,
        "language",
        "write numbers, dates and units in words: English, Chinese, Japanese",
        group=SAMPLING,
    )
    speed: float = setting(
        1.0,
        "number",
        "speed of the speech, at the same pitch; 2 takes half the time",
        low=0.25,
        high=4,
        group=SOUND,
    )

    def __post_init__(self):
        check_settings(self)
        check_normalize(self.normalize)
        check_speed(self.speed)
        for name, own in FAST.items():
            given = getattr(self, name)
            if self.fast and given not in (own, getattr(GenerationOptions, name)):
                raise ValueError(
                    f"{option('fast')} has the {option(name)} {own}, not {given}; leave out one"
                )

    @property
    def batch_key(self) -> tuple[str, int, bool]:
        """Arguments of `Schedule.of`: requests in one batch must have the same ones."""
        if self.fast:
            return FAST["solver"], FAST["inference_timesteps"], True
        return self.solver, self.inference_timesteps, False

    @property
    def language(self) -> str | None:
        """Language that `normalize` names; None for the one of the text's script."""
        return self.normalize if isinstance(self.normalize, str) else None

    @property
    def fingerprint_values(self) -> dict[str, Any]:
        """Values by name, for fingerprints of the sound; of some only where they change it."""
        values = asdict(self) | (FAST if self.fast else {})
        for name in ("speed", "fast"):
            if values[name] == getattr(GenerationOptions, name):
                del values[name]
        return values

    @property
    def may_retry(self) -> bool:
        """Whether faulty speech is generated again: then no audio is final before the end."""
        return self.retry_badcase is not False or self.retry_by_ear is not False

    def with_seed(self) -> GenerationOptions:
        """Copy with a seed, drawn if there is none, short enough to be typed again."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))

    def without_retries(self) -> GenerationOptions:
        return replace(self, retry_badcase=False, retry_by_ear=False)

    def with_retries_unless(self, stream: bool) -> GenerationOptions:
        """Copy with retries decided where they are None: off for a stream."""
        badcase, by_ear = self.retry_badcase, self.retry_by_ear
        return replace(
            self,
            retry_badcase=not stream if badcase is None else badcase,
            retry_by_ear=not stream if by_ear is None else by_ear,
        )

    def next_seed(self) -> GenerationOptions:
        return replace(self, seed=(int(self.seed or 0) + 1) % 2**64)


RETRIES = ("retry_badcase", "retry_by_ear")


class OptionKeywords(TypedDict, total=False):
    """`GenerationOptions` as keyword arguments, for type checkers."""

    cfg_value: float
    inference_timesteps: int
    min_tokens: int
    max_tokens: int
    temperature: float
    seed: int | None
    retry_badcase: bool | None
    solver: Solver
    fast: bool
    retry_by_ear: bool | None
    silence_limit: float
    fade_in: float
    trim_silence: bool
    normalize: bool | str
    speed: float
