"""mlx-audio's commands and server with this model, after `register()`."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from changed_options import CHANGED

pytest.importorskip("mlx_audio", reason="needs the extra 'mlx-audio'")

from mlx_voxcpm2 import GenerationOptions, load_model
from mlx_voxcpm2.mlx_audio import BatchSession, register
from mlx_voxcpm2.peers.tables import aliases_of
from mlx_voxcpm2.voices.inputs import VoiceInputs

TEXT = "Hello there."
SHORT = {"max_tokens": 4, "seed": 3, "ddpm_steps": 2, "cfg_scale": 1.5}


@pytest.fixture(scope="module")
def sixteen_bit_model(released):
    """The model at 16 bits, as mlx-audio loads it."""
    return load_model(released.folder)


@pytest.fixture
def plugin(released, monkeypatch, anna_folder):
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(anna_folder / "voices"))
    register()
    from mlx_audio.utils import load_model as load

    return load(str(released.folder))


def joined(results) -> np.ndarray:
    return np.concatenate([np.array(result.audio) for result in results])


def test_mlx_audios_loader_returns_this_model(plugin, sixteen_bit_model):
    result = joined(plugin.generate(TEXT, **SHORT, verbose=True, lang_code="en", gender="male"))
    options = {"max_tokens": 4, "seed": 3, "inference_timesteps": 2, "cfg_value": 1.5}
    assert np.array_equal(result, joined(sixteen_bit_model.generate(TEXT, **options)))
    streamed = joined(plugin.generate(TEXT, **SHORT, stream=True, streaming_interval=2.0))
    assert np.array_equal(result, streamed)


@pytest.mark.parametrize("name", [each.name for each in fields(GenerationOptions)])
def test_every_option_of_the_library_is_a_keyword(name, plugin, monkeypatch):
    given, value = {}, CHANGED[name]
    monkeypatch.setattr(plugin.model, "generate", lambda text, **options: given.update(options))
    for keyword in (name, *aliases_of(name)):
        given.clear()
        plugin.generate(TEXT, **{keyword: value})
        assert given == {name: value, "stream": False}
    given.clear()
    plugin.generate(TEXT, **{name: None})
    assert given == {"stream": False}


def test_a_name_of_the_library_wins_over_its_alias(plugin, monkeypatch):
    given = {}
    monkeypatch.setattr(plugin.model, "generate", lambda text, **options: given.update(options))
    plugin.generate(TEXT, cfg_value=1.5, cfg_scale=3.0)
    assert given["cfg_value"] == 1.5


def test_every_part_of_a_voice_is_a_keyword(plugin, monkeypatch):
    given = {}
    monkeypatch.setattr(plugin.model, "generate", lambda text, **options: given.update(options))
    voice = {each.name: "a" for each in fields(VoiceInputs)}
    plugin.generate(TEXT, **voice)
    assert given == {**voice, "stream": False}


def test_a_clip_may_be_a_path_or_samples(plugin, anna_folder):
    samples, rate = soundfile.read(anna_folder / "clip.wav", dtype="float32")
    by_path = joined(plugin.generate(TEXT, **SHORT, ref_audio=str(anna_folder / "clip.wav")))
    assert len(by_path) and not np.array_equal(by_path, joined(plugin.generate(TEXT, **SHORT)))
    # At the model's rate, as mlx-audio's server reads it.
    times = np.arange(0, len(samples), rate / plugin.sample_rate)
    resampled = mx.array(np.interp(times, np.arange(len(samples)), samples).astype(np.float32))
    by_samples = joined(plugin.generate(TEXT, **SHORT, ref_audio=resampled))
    assert by_samples.shape == by_path.shape
    with pytest.raises(ValueError, match="2 clips are given"):
        plugin.generate(TEXT, ref_audio=["a.wav", "b.wav"])


def test_a_speed_is_that_of_the_library(plugin):
    plain, fast = (joined(plugin.generate(TEXT, **SHORT, speed=speed)) for speed in (None, 1.5))
    assert len(fast) == round(len(plain) / 1.5)
    with pytest.raises(ValueError, match=r"speed is 5; it must be a number from 0\.25 to 4"):
        plugin.generate(TEXT, speed=5)


def test_mlx_audios_command_writes_a_file(released, anna_folder, sixteen_bit_model):
    command = [sys.executable, "-m", "mlx_voxcpm2.mlx_audio", "tts.generate"]
    flags = ["--model", str(released.folder), "--text", TEXT, "--file_prefix", "said"]
    flags += ["--ref_audio", "clip.wav", "--max_tokens", "4", "--ddpm_steps", "2"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, cwd=anna_folder)
    assert done.returncode == 0, done.stderr
    frames = soundfile.info(anna_folder / "said_000.wav").frames
    assert frames == 4 * sixteen_bit_model.patch_samples
    assert "Transcribing" not in done.stdout  # Whisper is not loaded


def test_mlx_audios_command_passes_clips_on_as_paths(plugin, anna_folder, monkeypatch):
    """mlx-audio would resample the clips in another way, and transcribe them."""
    from mlx_audio.tts.generate import generate_audio

    given = {}
    monkeypatch.setattr(plugin, "generate", lambda **fields: given.update(fields) or [])
    generate_audio(TEXT, model=plugin, ref_audio=str(anna_folder / "clip.wav"))
    assert given["ref_audio"] == str(anna_folder / "clip.wav") and given["ref_text"] is None


def test_other_commands_are_refused():
    done = subprocess.run(
        [sys.executable, "-m", "mlx_voxcpm2.mlx_audio", "convert"], capture_output=True, text=True
    )
    assert done.returncode and "tts.generate | server" in done.stderr


@pytest.fixture(scope="module")
def server_responses(released, anna_folder):
    """Responses of mlx-audio's own server code, by the name of the request."""
    script = Path(__file__).parent / "mlx_audio_requests.py"
    environment = {**os.environ, "MLX_VOXCPM2_VOICES": str(anna_folder / "voices")}
    command = [sys.executable, str(script), str(released.folder), str(anna_folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_mlx_audios_server_speaks_with_this_model(server_responses, sixteen_bit_model):
    assert server_responses["is_ours"]
    for name in ("plain", "beside", "design", "clip"):
        (file,) = server_responses[name]
        assert soundfile.info(file).frames == 3 * sixteen_bit_model.patch_samples, name
    (fast,) = server_responses["fast"]
    assert soundfile.info(fast).frames == 3 * sixteen_bit_model.patch_samples / 2


def test_mlx_audios_server_streams(server_responses, sixteen_bit_model):
    frames = [soundfile.info(file).frames for file in server_responses["stream"]]
    patch = sixteen_bit_model.patch_samples
    assert frames == [2 * patch, patch]  # of at least 0.2 s, but for the last


def test_mlx_audios_server_reports_errors(server_responses):
    for name, words in (
        ("unknown", "there is no voice 'alloy'; there are: default, anna"),
        ("path", "there is no voice"),
        ("too fast", "speed is 9.0; it must be a number from 0.25 to 4"),
        ("empty", "text is empty"),
    ):
        (message,) = server_responses[name]
        assert words in message


def test_mlx_audios_server_uses_this_models_default_temperature(plugin):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its voice detector warns about pkg_resources
        from mlx_audio import server
    for options, temperature in (({}, 1.0), ({"temperature": 0.3}, 0.3)):
        request = server.SpeechRequest(model="m", input=TEXT, **options)
        assert server._resolve_sampling_params(plugin, request)["temperature"] == temperature


def test_requests_without_a_clip_share_a_batch(plugin):
    assert plugin.supports_tts_batch(stream=True, voice="anna", instruct="old", speed=1.5)
    assert not plugin.supports_tts_continuous_batch(ref_audio="clip.wav")


def test_a_session_generates_several_requests_at_once(plugin, sixteen_bit_model):
    from mlx_audio.tts.continuous import TTSBatchItem, TTSBatchOptions

    speeds = {10: None, 11: 1, 12: 2.0}
    options = TTSBatchOptions(temperature=1.0, max_tokens=3, max_batch_size=2)
    session = plugin.create_tts_batch_session(options)
    assert isinstance(session, BatchSession) and session.idle and session.available_slots == 2
    session.add([TTSBatchItem(key, TEXT, speed=speed) for key, speed in speeds.items()])
    assert not session.idle and session.available_slots == 0
    session.cancel(11)
    events = []
    while not session.idle:
        events += session.step()
    assert [event.sequence_id for event in events] == [10, 12]
    for event in events:
        assert event.done and event.error is None
        samples = 3 * sixteen_bit_model.patch_samples / (speeds[event.sequence_id] or 1)
        assert event.samples == len(event.audio) == samples
        assert (event.token_count, event.sample_rate) == (3, sixteen_bit_model.sample_rate)


def test_mlx_audios_command_needs_no_portaudio(released, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    command = [sys.executable, "-m", "mlx_voxcpm2.mlx_audio", "tts.generate"]
    flags = ["--model", str(released.folder), "--text", TEXT, "--max_tokens", "2"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "audio_000.wav").frames == 2 * released.model.patch_samples
