"""A name of another program, and what it does here: accepted, ignored with a word, or refused.

The tables beside this file are made of them. The command line, the keywords of Python, the
configuration of training and the table in docs/coming-from.md are made from those tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

Effect = Literal["same", "alias", "translated", "built in", "ignored", "refused"]

VOXCPM, MLX_AUDIO, MLX_LM, GRADIO = "voxcpm", "mlx-audio", "mlx-lm", "Gradio"


@dataclass(frozen=True)
class PeerName:
    """A flag or key of other programs."""

    name: str
    """With underscores and without leading dashes; a short flag has its dash, as "-pa"."""
    effect: Effect
    """same: the name of a flag here. alias: another name of a flag here. translated: its value
    sets flags here, see `commands/peer_flags.py`. built in: what it asks for is done in any case.
    ignored: it has no effect, and the user is told. refused: an error that says what to do."""
    programs: tuple[str, ...] = ()
    ours: str = ""
    """Flag here, of the effects same and alias."""
    text: str = ""
    """What happens (translated, built in), why it has no effect, or what to do instead."""
    has_value: bool = True
    neutral: tuple[str, ...] = ()
    """Values that ask for nothing else than what is done in any case, and are accepted."""

    @property
    def is_short(self) -> bool:
        return self.name.startswith("-")


def same(names: str) -> list[PeerName]:
    """Flags with the same name and meaning here."""
    return [PeerName(name, "same", ours=name) for name in names.split()]


def alias(ours: str, names: str) -> list[PeerName]:
    """Further names of one flag."""
    return [PeerName(name, "alias", ours=ours) for name in names.split()]


def _made(effect: Effect) -> Callable[..., list[PeerName]]:
    def make(
        names: str, text: str, *, has_value: bool = True, neutral: tuple[str, ...] = ()
    ) -> list[PeerName]:
        """Names that share one text."""
        return [
            PeerName(name, effect, text=text, has_value=has_value, neutral=neutral)
            for name in names.split()
        ]

    return make


translated, built_in = _made("translated"), _made("built in")
ignored, refused = _made("ignored"), _made("refused")


def of_program(program: str, *groups: Iterable[PeerName]) -> list[PeerName]:
    """All names of the groups, as those of a program."""
    return [replace(each, programs=(program,)) for group in groups for each in group]


def table(*groups: Iterable[PeerName]) -> dict[str, PeerName]:
    """Names -> what they are. A name of several programs must mean the same in all of them."""
    found: dict[str, PeerName] = {}
    for each in (each for group in groups for each in group):
        known = found.get(each.name, each)
        programs = tuple(dict.fromkeys(known.programs + each.programs))
        if replace(known, programs=()) != replace(each, programs=()):
            raise ValueError(f"{each.name} is described twice, in different words")
        found[each.name] = replace(each, programs=programs)
    return found
