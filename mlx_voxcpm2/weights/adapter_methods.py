"""Methods of a model for its LoRA adapter, which all families share."""

from __future__ import annotations

from pathlib import Path

from ..models.family import Network
from . import adapters


class AdapterMethods(Network):
    """A network to which an adapter can be attached."""

    def load_adapter(
        self, path_or_repo: str | Path, strength: float | None = None
    ) -> adapters.Adapter:
        """Attach a LoRA adapter from upstream's files, in place of the one before, if any.

        Until it is fused, it costs some time at each patch. The returned `Adapter` says how many
        tensors were used and which were not. Arguments and errors: see `read_adapter`.
        """
        return adapters.load_adapter(self, path_or_repo, strength)

    def set_adapter_strength(self, strength: float) -> None:
        """Scale the adapter. 0: the model without it, to the last bit; 1: as trained.

        Not while it generates. Raises ValueError if there is no adapter.
        """
        adapters.set_strength(self, strength)

    def remove_adapter(self) -> None:
        """Detach the adapter, if there is one; the model is what it was before."""
        adapters.remove_adapter(self)

    def fuse_adapter(self) -> None:
        """Add the scaled adapter to the weights for good, in float32; they keep their type.

        Then it costs no time. Raises ValueError for quantised layers, which would round it away.
        """
        adapters.fuse_adapter(self)
