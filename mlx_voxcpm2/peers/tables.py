"""Tables of all commands, and what is read from them."""

from __future__ import annotations

from .conversion import CONVERT
from .names import PeerName
from .serving import APP, SERVE
from .speech import BATCH, GENERATE, VOICE_ADD
from .training import TRAIN

TABLES: dict[str, dict[str, PeerName]] = {
    "generate": GENERATE,
    "batch": BATCH,
    "serve": SERVE,
    "app": APP,
    "voice add": VOICE_ADD,
    "train": TRAIN,
    "convert": CONVERT,
}
"""Command -> names of other programs -> what they are here."""


def aliases_of(name: str) -> tuple[str, ...]:
    """Further names of an option of speech, for the server, the plug-in and batch lines."""
    return tuple(
        each.name
        for each in GENERATE.values()
        if each.effect == "alias" and each.ours == name and not each.is_short
    )
