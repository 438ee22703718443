"""The hub's client in this process, with the settings that a new process would have."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub
from huggingface_hub import constants


@contextmanager
def hub_client(environment: dict[str, str]) -> Iterator[None]:
    """Within, the client and this process have these environment variables, and no others.

    The client reads them when its module of constants is imported, and keeps connections.
    """
    before = dict(os.environ)
    _set(environment)
    try:
        yield
    finally:
        _set(before)


def _set(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(constants)
    # Its name before 1.0 of the client.
    reset = getattr(huggingface_hub, "close_session", None) or huggingface_hub.utils.reset_sessions
    reset()
