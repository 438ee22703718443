"""Plug-in for mlx-audio: its commands, server and library speak with this package's VoxCPM2.

    python -m mlx_voxcpm2.mlx_audio tts.generate --model openbmb/VoxCPM2 --text "Hello."

runs mlx-audio's own command of that name after `register()`.
"""

from __future__ import annotations

import os
import runpy
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .errors import one_line
from .load import load_model
from .settings import accepted_names
from .speech.keywords import with_speech_keywords
from .speech.live_batch import LiveBatch
from .speech.options import GenerationOptions
from .voices.inputs import VOICE_FIELDS
from .voices.registry import VoiceRegistry

if TYPE_CHECKING:
    from mlx_audio.tts.continuous import TTSBatchEvent, TTSBatchItem, TTSBatchOptions

    from .audio.reading import AudioSource
    from .model import VoxCPM2
    from .speech.batch import Request
    from .speech.results import Chunk, ResultIterator

COMMANDS = ("tts.generate", "server")

_MODULE = "mlx_audio.tts.models.voxcpm2"

# Accepted keyword -> name of the argument of `VoxCPM2.generate`.
KEYWORDS = {name: name for name in VOICE_FIELDS} | accepted_names(GenerationOptions)


def register() -> None:
    """Make mlx-audio load VoxCPM2 checkpoints with this package, in this process.

    Raises ValueError, in one line, if mlx-audio is missing.
    """
    _allow_missing_portaudio()
    try:
        from mlx_audio import server_inference
    except ImportError as error:
        raise missing(error) from None
    module = module_from_spec(ModuleSpec(_MODULE, None))
    module.Model = module.ModelConfig = EmptyModel
    sys.modules[_MODULE] = module
    if not mx.is_available(mx.gpu):
        # Its broker asks for a stream of the GPU; without one, its thread would end at once.
        names = ("cpu", "new_stream", "set_default_stream", "clear_cache")
        used = {name: getattr(mx, name) for name in names}
        server_inference.mx = SimpleNamespace(**used, gpu=mx.cpu)


def _allow_missing_portaudio() -> None:
    """Let mlx-audio be imported where the sound library PortAudio is missing.

    Its modules import sounddevice for their player, which few machines without PortAudio need.
    """
    try:
        import sounddevice  # noqa: F401
    except OSError as error:
        message = one_line(error)

        def unavailable(name: str) -> NoReturn:
            raise AttributeError(f"{name}: {message}; install PortAudio to play audio")

        stand_in = module_from_spec(ModuleSpec("sounddevice", None))
        stand_in.__getattr__ = unavailable
        sys.modules["sounddevice"] = stand_in
    except ImportError:
        pass  # reported with the other dependencies


def missing(error: ImportError) -> ValueError:
    """Error for a missing mlx-audio or one of its dependencies."""
    return ValueError(
        f"this needs mlx-audio ({one_line(error)}); install the extra: pip install "
        "'mlx-voxcpm2[mlx-audio]'"
    )


class EmptyModel(nn.Module):
    """Empty module for mlx-audio's loader: `load_model` reads the weights itself."""

    def __init__(self, config: dict):
        super().__init__()

    @staticmethod
    def from_dict(config: dict) -> dict:
        return config

    def sanitize(self, weights: dict) -> dict:
        return {}

    @staticmethod
    def post_load_hook(model: EmptyModel, path: Path) -> PluginModel:
        """Replace the empty module by the model that mlx-audio uses."""
        return PluginModel(load_model(path))


class PluginModel:
    """Model with the interface that mlx-audio's commands and server use."""

    model_type = "voxcpm2"
    # Then clips come as paths and are not transcribed, which would download Whisper.
    preserve_ref_audio_path = True
    # Without this, mlx-audio's server would use other models' default of 0.7.
    generate_config = {"temperature": GenerationOptions.temperature}  # noqa: RUF012

    def __init__(self, model: VoxCPM2):
        self.model, self.sample_rate = model, model.sample_rate
        self.voices = VoiceRegistry()

    @with_speech_keywords
    def generate(self, text: str, *, stream: bool = False, **keywords: object) -> ResultIterator:
        """Speak a text: `VoxCPM2.generate` with mlx-audio's names; None is the default.

        keywords: fields of `VoiceInputs`, and settings of `GenerationOptions` by name or alias. An
        array of audio has `sample_rate`. Others, which mlx-audio gives to all models (lang_code,
        gender, top_p), are ignored, and so is ref_text, as in mlx-audio's own VoxCPM2.
        """
        named = ((name, keywords.get(keyword)) for keyword, name in KEYWORDS.items())
        given = {name: value for name, value in named if value is not None}
        for name in ("ref_audio", "prompt_audio"):
            if name in given:
                given[name] = self._audio(given[name])
        return self.model.generate(text, stream=stream, **given)

    def supports_tts_batch(self, *, ref_audio: object = None, **request: object) -> bool:
        """Whether a request can be spoken in a batch with others: not with a clip of its own."""
        return ref_audio is None

    supports_tts_continuous_batch = supports_tts_batch

    def create_tts_batch_session(self, options: TTSBatchOptions) -> BatchSession:
        return BatchSession(self, options)

    def _audio(self, audio: AudioSource | mx.array) -> AudioSource:
        if isinstance(audio, list):
            raise ValueError(f"{len(audio)} clips are given; VoxCPM2 takes one ref_audio")
        is_samples = isinstance(audio, mx.array | np.ndarray) and audio.ndim == 1
        return (np.array(audio), self.sample_rate) if is_samples else audio


class BatchSession:
    """mlx-audio's TTSBatchSession: requests with the same options, generated together."""

    def __init__(self, plugin: PluginModel, options: TTSBatchOptions):
        """Raises ValueError for options out of range."""
        self.plugin, self.size, self.is_stream = plugin, options.max_batch_size, options.stream
        chosen = GenerationOptions(temperature=options.temperature, max_tokens=options.max_tokens)
        self.options = chosen.without_retries() if options.stream else chosen
        # In a stream each event becomes a file of its own, which should not be too short.
        interval = options.streaming_interval if options.stream else float("inf")
        self.min_samples = interval * plugin.sample_rate
        self.batch = LiveBatch(plugin.model, self.size)
        self.chunks: dict[int, list[Chunk]] = {}
        """Audio that mlx-audio has not received yet, by the number of the active request."""
        self.errors: dict[int, Exception] = {}

    @property
    def idle(self) -> bool:
        return not self.chunks and not self.errors and self.batch.is_idle

    @property
    def available_slots(self) -> int:
        return max(0, self.size - len(self.chunks))

    def add(self, items: list[TTSBatchItem]) -> None:
        """Add requests. The error of an invalid one is its next event."""
        for item in items:
            try:
                self.batch.add(item.sequence_id, self._request(item))
                self.chunks[item.sequence_id] = []
            except (ValueError, OSError) as error:
                self.errors[item.sequence_id] = error

    def _request(self, item: TTSBatchItem) -> Request:
        if item.ref_audio is not None:
            raise ValueError("a batch takes no ref_audio; save it by `mlx-voxcpm2 voice add`")
        model = self.plugin.model
        voice = self.plugin.voices.inputs(item.voice, item.instruct, model.clip_encoder)
        options = self.options if item.speed is None else replace(self.options, speed=item.speed)
        return model.request(item.text, options=options, **voice.given())

    def cancel(self, sequence_id: int) -> None:
        self.batch.cancel(sequence_id)
        self.chunks.pop(sequence_id, None)
        self.errors.pop(sequence_id, None)

    def step(self) -> list[TTSBatchEvent]:
        """Generate the next patch of every request; errors, and the audio that is long enough."""
        from mlx_audio.tts.continuous import TTSBatchEvent

        errors, self.errors = self.errors, {}
        events = [TTSBatchEvent(key, done=True, error=error) for key, error in errors.items()]
        for chunk in self.batch.step():
            number, done = chunk.number, chunk.finish_reason is not None
            self.chunks[number].append(chunk)
            samples = sum(len(each.audio) for each in self.chunks[number])
            if not done and samples < self.min_samples:
                continue
            chunks, rate = self.chunks.pop(number), self.plugin.sample_rate
            if not done:
                self.chunks[number] = []
            audio = np.concatenate([each.audio for each in chunks])
            generated = sum(len(each.audio_as_generated) for each in chunks)
            patches = generated // self.plugin.model.patch_samples
            state = {"done": done, "is_final_chunk": done, "is_streaming_chunk": self.is_stream}
            events.append(TTSBatchEvent(number, audio, rate, samples, token_count=patches, **state))
        if self.idle:
            mx.clear_cache()
        return events


def main() -> None:
    """Run a command of mlx-audio."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        names = " | ".join(COMMANDS)
        sys.exit(f"usage: python -m mlx_voxcpm2.mlx_audio {names} [flags of mlx-audio]")
    try:
        register()
    except ValueError as error:
        print(f"mlx_voxcpm2.mlx_audio: {error}", file=sys.stderr)
        sys.exit(2)
    name = sys.argv.pop(1)
    try:
        runpy.run_module(f"mlx_audio.{name}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        leave(130 if name != "server" else 0)  # Ctrl-C is the way to stop a server
    if name == "server":
        leave(0)


def leave(status: int) -> NoReturn:
    """End a process in which another thread has run the model.

    MLX frees a thread's data after Python has seen the thread end. If Python itself has ended by
    then, the process is aborted (MLX 0.32).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
