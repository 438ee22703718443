"""mlx-audio's inference broker, whose one thread loads and runs the model.

MLX's streams belong to threads, so no other thread may run it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future
from types import ModuleType
from typing import TYPE_CHECKING

from ..mlx_audio import missing, register
from .jobs import PendingRequest, SpeechSession

if TYPE_CHECKING:
    from mlx_audio.server_inference import InferenceHandle, InferenceRequest

    from ..model import VoxCPM2
    from ..voices.registry import VoiceRegistry

_MODEL_LOAD, _SPEECH = "model-load", "tts"
"""mlx-audio's names of kinds of work."""


def mlx_audio_server() -> ModuleType:
    """Module `mlx_audio.server`. Raises ValueError, in one line, if it can't be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its voice detector warns about pkg_resources
        try:
            from mlx_audio import server
        except ImportError as error:
            raise missing(error) from None
    return server


class ModelOwner:
    """Broker with one model, which is loaded and run in the broker's thread."""

    has_begun = False
    """Whether the thread has been started."""

    def __init__(
        self, load: Callable[[], VoxCPM2], name: str, voices: VoiceRegistry, batch_size: int
    ):
        """Loads the model. Raises what `load` raises."""
        register()
        server = mlx_audio_server()
        self.name = name
        self.broker, ModelOwner.has_begun = server.get_inference_broker(), True
        loading = _LoadAdapter(load)
        self.broker.register_adapter(_MODEL_LOAD, loading)
        self._submit(_MODEL_LOAD, None)
        self.model = loading.future.result()
        server.model_provider.models[name] = self.model  # GET /v1/models lists it
        self._speech = _SpeechAdapter(self.model, voices, batch_size)
        self.broker.register_adapter(_SPEECH, self._speech)

    @property
    def unfinished(self) -> int:
        """Number of requests that the thread works on."""
        session = self._speech.session
        return 0 if session is None else len(session.requests)

    def start(self, request: PendingRequest) -> Callable[[], None]:
        """Submit a request; returns a function that cancels it."""
        return self._submit(_SPEECH, request).cancel

    def _submit(self, kind: str, payload: PendingRequest | None) -> InferenceHandle:
        return self.broker.submit(
            endpoint_kind=kind, model_name=self.name, payload=payload, batch_key=kind
        )


class _LoadAdapter:
    """mlx-audio's ModelExecutionAdapter that loads the model in the broker's thread."""

    max_batch_size = 1

    def __init__(self, load: Callable[[], VoxCPM2]):
        self.load, self.future = load, Future()

    def supports_batch(self, request: InferenceRequest) -> bool:
        return False

    def supports_continuous_batch(self, request: InferenceRequest) -> bool:
        return False

    def run_serial(self, request: InferenceRequest) -> None:
        try:
            self.future.set_result(self.load())
        except BaseException as error:  # for the thread that waits
            self.future.set_exception(error)


class _SpeechAdapter:
    """mlx-audio's ModelExecutionAdapter that puts all requests in one batch session."""

    def __init__(self, model: VoxCPM2, voices: VoiceRegistry, batch_size: int):
        self.model, self.voices, self.max_batch_size = model, voices, batch_size
        self.session: SpeechSession | None = None
        """The latest session; the broker asks for another when it is idle."""

    def supports_continuous_batch(self, request: InferenceRequest) -> bool:
        return True

    def continuous_batch_key(self, request: InferenceRequest) -> str:
        return _SPEECH

    def create_continuous_batch_session(self, request: InferenceRequest) -> SpeechSession:
        self.session = SpeechSession(self.model, self.voices, self.max_batch_size)
        return self.session
