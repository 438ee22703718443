"""Playing audio: all of it and in order, with a stand-in for the audio device."""

import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from mlx_voxcpm2.audio.playback import Loudspeaker

RATE = 48000


class PortAudioError(Exception):
    pass


class Device:
    """Device that records its input. As with PortAudio on Linux, stopping drops the last 0.1 s."""

    latency = 0.1

    def __init__(self, samplerate, channels, dtype):
        assert (samplerate, channels, dtype) == (RATE, 1, "float32")
        self.blocks, self.closed, self.broken = [], False, False
        self.played = threading.Event()

    def start(self):
        pass

    def write(self, samples):
        if self.broken:
            raise PortAudioError("Unanticipated\nhost error [-9999]")
        assert samples.dtype == np.float32 and samples.shape[1] == 1 and not self.closed
        self.blocks.append(samples[:, 0])
        time.sleep(0.001)
        self.played.set()

    def stop(self):
        self.played_audio = np.concatenate([*self.blocks, []])[: -int(self.latency * RATE)]

    def close(self):
        self.closed = True


@pytest.fixture
def sounddevice(monkeypatch):
    module = SimpleNamespace(OutputStream=Device, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_all_chunks_are_played_in_order(sounddevice):
    audio = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    with Loudspeaker(RATE) as speaker:
        for chunk in np.array_split(audio, 100):
            speaker.write(chunk)
    speaker.close()
    played = speaker._device.played_audio
    np.testing.assert_array_equal(played[: len(audio)], audio)
    assert not played[len(audio) :].any()
    assert speaker._device.closed


def test_the_writer_may_change_its_array_afterwards(sounddevice):
    chunk = np.full(9, 0.5, np.float32)
    with Loudspeaker(RATE) as speaker:
        speaker.write(chunk)
        chunk[:] = 0
    assert speaker._device.played_audio[8] == 0.5


def test_an_error_stops_the_playback_at_once(sounddevice):
    with pytest.raises(KeyboardInterrupt), Loudspeaker(RATE) as speaker:
        speaker.write(np.zeros(1_000_000))
        assert speaker._device.played.wait(5)
        raise KeyboardInterrupt
    assert len(speaker._device.blocks) < 100
    assert speaker._device.closed


def test_ctrl_c_interrupts_the_wait_for_the_end(sounddevice):
    speaker = Loudspeaker(RATE)
    speaker.write(np.zeros(5_000_000))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        speaker.close()
    blocks = len(speaker._device.blocks)
    time.sleep(0.05)
    assert blocks == len(speaker._device.blocks) < 500
    assert speaker._device.closed
    speaker.close()


def test_a_device_that_fails_is_reported_to_the_writer(sounddevice):
    with pytest.raises(OSError, match=r"^loudspeaker: playing failed \(Unanticipated host .*$"):
        with Loudspeaker(RATE) as speaker:
            speaker.write(np.zeros(9))
            speaker._device.played.wait(5)
            speaker._device.broken = True
            for _ in range(1000):
                speaker.write(np.zeros(9))
    assert speaker._device.closed


def test_a_failure_at_the_end_is_reported_too(sounddevice):
    speaker = Loudspeaker(RATE)
    speaker._device.broken = True
    with pytest.raises(OSError, match=r"^loudspeaker: playing failed .*$"):
        speaker.close()


def test_the_error_names_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ValueError, match=r"^loudspeaker: .*pip install 'mlx-voxcpm2\[play\]'$"):
        Loudspeaker(RATE)


def test_the_error_names_a_missing_library(tmp_path, monkeypatch):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"^loudspeaker: the library PortAudio is missing; .*$"):
        Loudspeaker(RATE)


def test_a_missing_device_is_reported(sounddevice):
    def no_device(*arguments, **options):
        raise PortAudioError("Error querying device -1")

    sounddevice.OutputStream = no_device
    with pytest.raises(ValueError, match=r"^loudspeaker: no device plays .* device -1\); .*$"):
        Loudspeaker(RATE)
