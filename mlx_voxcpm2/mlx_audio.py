"""mlx-audio with this implementation of VoxCPM2: its commands, its server, its library.

    python -m mlx_voxcpm2.mlx_audio tts.generate --model openbmb/VoxCPM2 --text "Hello."

runs mlx-audio's own command of that name after `register()`.
"""

from __future__ import annotations

import os
import runpy
import sys
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
from .speech.live_batch import LiveBatch
from .speech.options import GenerationOptions
from .voices.registry import VoiceRegistry

if TYPE_CHECKING:
    from mlx_audio.tts.continuous import TTSBatchEvent, TTSBatchItem, TTSBatchOptions

    from .audio.reading import AudioSource
    from .model import VoxCPM2
    from .speech.batch import Request
    from .speech.results import ResultIterator

COMMANDS = ("tts.generate", "server")

_MODULE = "mlx_audio.tts.models.voxcpm2"


def register() -> None:
    """From now on mlx-audio speaks VoxCPM2 checkpoints with this package, in this process.

    Raises ValueError, in one line, if mlx-audio is missing.
    """
    try:
        from mlx_audio import server_inference
    except ImportError as error:
        raise missing(error) from None
    module = module_from_spec(ModuleSpec(_MODULE, None))
    module.Model = module.ModelConfig = Checkpoint
    sys.modules[_MODULE] = module
    if not mx.is_available(mx.gpu):
        # Its broker asks for a stream of the GPU; without one, its thread would end at once.
        server_inference.mx = SimpleNamespace(
            cpu=mx.cpu, gpu=mx.cpu, new_stream=mx.new_stream,
            set_default_stream=mx.set_default_stream, clear_cache=mx.clear_cache,
        )  # fmt: skip


def missing(error: ImportError) -> ValueError:
    """For what mlx-audio, or what it needs, does not give us."""
    return ValueError(
        f"this needs mlx-audio ({one_line(error)}); install the extra: pip install "
        "'mlx-voxcpm2[server]'"
    )


class Checkpoint(nn.Module):
    """What mlx-audio fills with weights; it stays empty, since `load_model` reads them itself."""

    def __init__(self, config: dict):
        super().__init__()

    @staticmethod
    def from_dict(config: dict) -> dict:
        return config

    def sanitize(self, weights: dict) -> dict:
        return {}

    @staticmethod
    def post_load_hook(model: Checkpoint, path: Path) -> Speaker:
        """The model that mlx-audio goes on with."""
        return Speaker(load_model(path))


class Speaker:
    """A model as mlx-audio's commands and server use them."""

    model_type = "voxcpm2"
    # So that clips come as paths, and nobody transcribes them: no Whisper is downloaded.
    preserve_ref_audio_path = True
    # Where a request says nothing, the server would take the 0.7 of other models.
    generate_config = {"temperature": GenerationOptions.temperature}  # noqa: RUF012

    def __init__(self, model: VoxCPM2):
        self.model = model
        self.voices = VoiceRegistry()

    @property
    def sample_rate(self) -> int:
        return self.model.sample_rate

    def generate(
        self,
        text: str,
        *,
        voice: str | None = None,
        instruct: str | None = None,
        ref_audio: AudioSource | mx.array | None = None,
        prompt_audio: AudioSource | mx.array | None = None,
        prompt_text: str | None = None,
        speed: float | None = 1.0,
        stream: bool = False,
        max_tokens: int | None = None,
        min_tokens: int | None = None,
        temperature: float | None = None,
        cfg_scale: float | None = None,
        cfg_value: float | None = None,
        ddpm_steps: int | None = None,
        inference_timesteps: int | None = None,
        solver: str | None = None,
        seed: int | None = None,
        **of_other_models: object,
    ) -> ResultIterator:
        """As `VoxCPM2.generate`, by mlx-audio's names; an array is sound at `sample_rate`.

        of_other_models: lang_code, gender, top_p and whatever else mlx-audio hands to all models.
        With ref_text among them, as with mlx-audio's own VoxCPM2: it does nothing.
        """
        _check_speed(speed)
        given = {
            "max_tokens": max_tokens, "min_tokens": min_tokens, "temperature": temperature,
            "cfg_value": cfg_scale if cfg_value is None else cfg_value, "solver": solver,
            "inference_timesteps": ddpm_steps if inference_timesteps is None
            else inference_timesteps,
        }  # fmt: skip
        return self.model.generate(
            text, voice=voice, instruct=instruct, ref_audio=self._sound(ref_audio),
            prompt_audio=self._sound(prompt_audio), prompt_text=prompt_text, seed=seed,
            stream=stream, **{name: value for name, value in given.items() if value is not None},
        )  # fmt: skip

    def supports_tts_batch(
        self, *, ref_audio: object = None, speed: float | None = 1.0, **request: object
    ) -> bool:
        """Whether a request can be spoken together with others: not with a clip of its own."""
        return ref_audio is None and speed in (None, 1)

    supports_tts_continuous_batch = supports_tts_batch

    def create_tts_batch_session(self, options: TTSBatchOptions) -> BatchSession:
        return BatchSession(self, options)

    def _sound(self, audio: AudioSource | mx.array | None) -> AudioSource | None:
        if isinstance(audio, list):
            raise ValueError(f"{len(audio)} clips are given; VoxCPM2 takes one ref_audio")
        is_sound = isinstance(audio, mx.array | np.ndarray) and audio.ndim == 1
        return (np.array(audio), self.sample_rate) if is_sound else audio


class BatchSession:
    """mlx-audio's TTSBatchSession: requests with the same options, spoken together."""

    def __init__(self, speaker: Speaker, options: TTSBatchOptions):
        """Raises ValueError for options out of range."""
        self.speaker, self.size = speaker, options.max_batch_size
        chosen = GenerationOptions(temperature=options.temperature, max_tokens=options.max_tokens)
        self.options = chosen.without_retries() if options.stream else chosen
        # In a stream each event becomes a file of its own, which should not be too short.
        interval = options.streaming_interval if options.stream else float("inf")
        self.least = interval * speaker.sample_rate
        self.batch = LiveBatch(speaker.model, self.size)
        self.pieces: dict[int, list[np.ndarray]] = {}
        """Of those who speak or wait: what mlx-audio has not been given yet."""
        self.failed: dict[int, Exception] = {}

    @property
    def idle(self) -> bool:
        return not self.pieces and not self.failed and self.batch.is_idle

    @property
    def available_slots(self) -> int:
        return max(0, self.size - len(self.pieces))

    def add(self, items: list[TTSBatchItem]) -> None:
        """What is wrong with one is the error of its next event."""
        for item in items:
            try:
                self.batch.add(item.sequence_id, self._request(item))
                self.pieces[item.sequence_id] = []
            except (ValueError, OSError) as error:
                self.failed[item.sequence_id] = error

    def _request(self, item: TTSBatchItem) -> Request:
        _check_speed(item.speed)
        if item.ref_audio is not None:
            raise ValueError("a batch takes no ref_audio; keep it by `mlx-voxcpm2 voice add`")
        model = self.speaker.model
        voice = self.speaker.voices.inputs(item.voice, item.instruct, model.clip_encoder)
        return model.request(item.text, options=self.options, **voice.given())

    def cancel(self, sequence_id: int) -> None:
        self.batch.cancel(sequence_id)
        self.pieces.pop(sequence_id, None)
        self.failed.pop(sequence_id, None)

    def step(self) -> list[TTSBatchEvent]:
        from mlx_audio.tts.continuous import TTSBatchEvent

        failed, self.failed = self.failed, {}
        events = [TTSBatchEvent(key, done=True, error=error) for key, error in failed.items()]
        for spoken in self.batch.step():
            pieces, done = self.pieces[spoken.number], spoken.finish_reason is not None
            pieces.append(spoken.audio)
            samples = sum(len(piece) for piece in pieces)
            if not done and samples < self.least:
                continue
            events.append(TTSBatchEvent(
                spoken.number, np.concatenate(pieces), self.speaker.sample_rate, samples,
                token_count=samples // self.speaker.model.patch_samples, done=done,
                is_streaming_chunk=self.least < float("inf"), is_final_chunk=done,
            ))  # fmt: skip
            pieces.clear()
            if done:
                del self.pieces[spoken.number]
        if self.idle:
            mx.clear_cache()
        return events


def _check_speed(speed: float | None) -> None:
    if speed not in (None, 1):
        raise ValueError(f"speed is {speed}; VoxCPM2 has none, say how fast in the instruction")


def main() -> None:
    """Runs a command of mlx-audio."""
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
        leave(130 if name != "server" else 0)  # a server is stopped in no other way
    if name == "server":
        leave(0)


def leave(status: int) -> NoReturn:
    """Ends a process in which another thread has had the model.

    What MLX keeps for a thread is freed after Python has seen it end. If Python itself has ended
    by then, the process is aborted (MLX 0.32).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
