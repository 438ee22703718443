"""The flags that use a recogniser: transcribing a clip, checking speech, choosing among takes."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import check_settings, check_values, setting
from .setting_flags import add_setting_flags, read_settings, setting_values
from .shell import Parser

if TYPE_CHECKING:
    from ..audio.reading import AudioSource
    from ..recognition.best_of import BestOf
    from ..recognition.recogniser import Recogniser
    from ..recognition.verification import Verification
    from ..recognition.word_times import WordTimer

logger = logging.getLogger("mlx_voxcpm2")

_PREFIX = "verify_"
MOST_TAKES = 64
"""As in `best_of`, which a parser need not import."""


ASR_MODEL_HELP = (
    "recogniser: a Voxtral, or any that mlx-audio loads; downloaded if needed (default "
    "whisper-large-v3-turbo, 1.6 GB)"
)
USES = ("transcribe", "verify", "best_of", "timestamps")


@dataclass(frozen=True)
class RecogniserChoice:
    """Recogniser to load, and what for. Raises ValueError or FileNotFoundError.

    Everything is checked that can be without loading it.
    """

    transcribe: bool = setting(
        False,
        "switch",
        "let a recogniser write the clip's transcript; where prompt_text is left out",
    )
    verify: bool = setting(
        False, "switch", "check all speech by a recogniser; generate again what it misunderstands"
    )
    timestamps: bool = setting(
        False, "switch", "take the subtitles' times, of each word, from a recogniser"
    )
    best_of: int = setting(
        1,
        "integer",
        "takes of each text; the one that a recogniser understands best is used",
        low=1,
        high=MOST_TAKES,
        metavar="N",
    )
    asr_model: str | None = setting(None, "text", ASR_MODEL_HELP, metavar="PATH_OR_REPO")
    language: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `Verification`."""
    uses: tuple[str, ...] = USES
    """Flags among these that the command offers."""
    may_be_unused: bool = False
    """Whether a recogniser may be named that no flag uses, since lines of a file may use it."""

    def __post_init__(self):
        from ..recognition.verification import Verification
        from ..weights.hub import check_recogniser_name

        check_settings(self)
        if self.asr_model is not None:
            if not self.may_be_unused:
                self.check_used()
            check_recogniser_name(self.asr_model)
        if self.verify:
            check_values(Verification, self.limits, _PREFIX)
        if self.verify or self.timestamps or self.best_of > 1:
            self.check_installed()

    @property
    def is_used(self) -> bool:
        return self.transcribe or self.verify or self.timestamps or self.best_of > 1

    def check_used(self, by_lines: bool = False) -> None:
        """Raise ValueError for a recogniser without a use. by_lines: whether lines use it."""
        if self.asr_model is not None and not (self.is_used or by_lines):
            flags = " or ".join(f"--{name}" for name in self.uses)
            raise ValueError(f"--asr_model is given without a use; add {flags}")

    @property
    def name(self) -> str:
        """Folder or repository of the recogniser."""
        from ..recognition.recogniser import DEFAULT_RECOGNISER

        return self.asr_model or DEFAULT_RECOGNISER

    def check_installed(self) -> None:
        """Raise ValueError if a library is missing that the recogniser, or its use, needs."""
        from ..recognition.recogniser import check_recognition_installed
        from ..recognition.verification import check_comparison_installed

        check_recognition_installed(self.name)
        if self.verify:
            check_comparison_installed("verify")

    def transcribes(self, clip: object, prompt_text: str | None) -> bool:
        """Whether the recogniser has to transcribe a clip: never if its transcript is given.

        Raises ValueError if there is no clip, or the extra `asr` is missing.
        """
        if not self.transcribe or prompt_text is not None:
            return False
        if clip is None:
            raise ValueError("--transcribe is given without a clip; give one, or leave it out")
        self.check_installed()
        return True

    def load(self) -> Recogniser:
        from ..recognition.recogniser import load_recogniser

        return load_recogniser(self.name, self.language)

    def load_word_timer(self) -> WordTimer | None:
        """Recogniser that gives the times of words; None if none is asked for."""
        from ..recognition.recogniser import load_word_timer

        return load_word_timer(self.name, self.language) if self.timestamps else None

    def verification(self, recogniser: Recogniser | None = None) -> Verification | None:
        """How speech is checked; None if it is not. recogniser: the one that is loaded already."""
        from ..recognition.verification import Verification

        if not self.verify:
            return None
        return Verification(recogniser or self.load(), **self.limits)

    def choice_of_takes(self, recogniser: Recogniser | None = None) -> BestOf | None:
        """How to choose among takes; None for one take. recogniser: the loaded one, if it is."""
        from ..recognition.best_of import BestOf

        return None if self.best_of == 1 else BestOf(recogniser or self.load(), self.best_of)

    def checks(self) -> tuple[Verification | None, BestOf | None]:
        """How speech is checked, and chosen among takes, by one recogniser."""
        if not self.verify and self.best_of == 1:
            return None, None
        recogniser = self.load()
        return self.verification(recogniser), self.choice_of_takes(recogniser)

    def cache_key(self) -> list[object] | None:
        """Settings that decide which of several attempts is used; None if nothing is checked."""
        return [*self.limits.values(), self.recogniser_key()] if self.verify else None

    def recogniser_key(self) -> object:
        """What tells recognisers apart: a fingerprint of a folder's files, or the name."""
        from ..weights.fingerprint import fingerprint

        folder = Path(os.path.expanduser(self.asr_model or ""))
        is_folder = self.asr_model is not None and folder.is_dir()
        return fingerprint(folder) if is_folder else self.asr_model


def add_transcribe_flags(parser: Parser) -> None:
    """Add --transcribe, and --asr_model for it and the other uses."""
    heading = parser.add_argument_group("transcribing a clip (needs the extra asr)")
    add_setting_flags(heading, RecogniserChoice, ["transcribe", "asr_model"])


def add_timestamps_flag(parser: Parser) -> None:
    heading = parser.add_argument_group("times of the subtitles (needs the extra asr)")
    add_setting_flags(heading, RecogniserChoice, ["timestamps"])


def add_verify_flags(parser: Parser, has_asr_model: bool = False) -> None:
    """Add --verify and its settings, and --best_of.

    has_asr_model: whether the parser has that flag already.
    """
    from ..recognition.verification import Verification

    heading = parser.add_argument_group("checking the speech (needs the extra asr)")
    add_setting_flags(heading, RecogniserChoice, ["verify"])
    add_setting_flags(heading, Verification, prefix=_PREFIX)
    add_setting_flags(heading, RecogniserChoice, ["best_of"])
    if not has_asr_model:
        add_setting_flags(heading, RecogniserChoice, ["asr_model"])


def read_recogniser(args: argparse.Namespace, may_be_unused: bool = False) -> RecogniserChoice:
    """The recogniser of the flags. Raises what `RecogniserChoice` raises."""
    from ..recognition.verification import Verification

    flags = vars(args)
    return read_settings(
        RecogniserChoice,
        args,
        language=flags.get("language"),
        limits=setting_values(Verification, flags, _PREFIX),
        uses=tuple(name for name in USES if name in flags),
        may_be_unused=may_be_unused,
    )


def transcript(clip: AudioSource, recogniser: Recogniser, name: str) -> str:
    """The transcript of a clip; it is logged, so that a user can correct it.

    Raises what `transcript_of` raises.
    """
    from ..recognition.recogniser import transcript_of

    words = transcript_of(clip, recogniser, name)
    logger.warning("%s says: %s (if that is wrong, correct it by --prompt_text)", name, words)
    return words
