"""Records what the official package makes of the demo voice.

It runs in the environment of `record.py` in the folder above, from the folder `tests`:

    python -m golden.demo_voice.record_speech

Written is speech.safetensors, float32: {case}.noise [S, P, D] of S patches, and {case}.audio [L],
for the texts and the clip of `CASES`. The stop head ends them.
"""

import json
from pathlib import Path

import numpy as np
from golden.official import Listener, Noise, load_checkpoint
from safetensors.numpy import save_file

HERE = Path(__file__).parent
DEMO = HERE.parents[2] / "mlx_voxcpm2" / "demo"
# Text, and the clip whose voice it is to be.
CASES = json.loads((HERE / "speech.json").read_text(encoding="utf-8"))
TIE = 2e-4  # as in record.py


def main() -> None:
    model, golden = load_checkpoint(DEMO), {}
    for name, case in CASES.items():
        cache = None
        if clip := case.get("ref_audio"):
            cache = model.build_prompt_cache(reference_wav_path=str(HERE / clip))
        for seed in range(100):
            with Noise(seed=seed) as noise, Listener(model) as listener:
                audio, _, _ = model.generate_with_prompt_cache(case["text"], cache)
            if min(listener.rounding, listener.stopping) > TIE:
                break
        else:
            raise RuntimeError(f"every seed comes near a tie: {name}")
        golden |= {f"{name}.noise": np.stack(noise.drawn), f"{name}.audio": audio[0].numpy()}
        print(name, len(noise.drawn), "patches, seed", seed)
    save_file(golden, HERE / "speech.safetensors")


if __name__ == "__main__":
    main()
