"""Makes audio.npz: short recordings and what librosa 0.11 reads from them.

In an environment with librosa (no other test needs it): python tests/golden/audio_golden.py

Each case is (rate in Hz, channels, wanted rate); `mono` and `stereo` hold the 16-bit samples of the
files, `case_0` and so on the float32 samples that librosa gave.
"""

import tempfile
from pathlib import Path

import librosa
import numpy as np
import soundfile

CASES = [
    (44100, 1, 16000),
    (24000, 1, 16000),
    (8000, 1, 16000),
    (22050, 1, 16000),
    (16000, 1, 16000),
    (44100, 1, 48000),  # of 1470 samples, librosa's rounding makes 1601
    (44100, 2, 16000),
    (48000, 2, 16000),
]
LENGTH = 1470


def main() -> None:
    random = np.random.default_rng(2)
    stereo = random.normal(0, 6000, (LENGTH, 2)).clip(-32768, 32767).astype(np.int16)
    golden = {"cases": np.array(CASES), "stereo": stereo, "mono": stereo[:, 0]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audio.wav"
        for index, (rate, channels, wanted) in enumerate(CASES):
            soundfile.write(path, stereo[:, 0] if channels == 1 else stereo, rate)
            golden[f"case_{index}"] = librosa.load(path, sr=wanted, mono=True)[0]
    np.savez_compressed(Path(__file__).with_name("audio.npz"), **golden)


if __name__ == "__main__":
    main()
