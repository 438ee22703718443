"""What mlx-audio finds in checkpoints, and what its networks make of it.

Runs in an environment of its own: python read_with_mlx_audio.py INPUTS FOLDER…. INPUTS is an .npz
of arrays for the networks; beside each folder FOLDER.npz is written, with the parameters by
mlx-audio's names and the networks' outputs.
"""

import sys

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_audio.tts.utils import load_model


def as_numpy(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)


def main() -> None:
    given = {name: mx.array(value) for name, value in np.load(sys.argv[1]).items()}
    for folder in sys.argv[2:]:
        model = load_model(folder)
        found = {f"parameter {name}": value for name, value in tree_flatten(model.parameters())}
        found["boundaries"] = model.audio_vae.decoder._sr_boundaries
        embedded = model.base_lm.embed_tokens(given["tokens"])
        found["hidden"] = model.base_lm(embedded)[0]
        # Its networks keep the time last.
        found["velocity"] = model.feat_decoder.estimator(
            given["x"].transpose(0, 2, 1),
            given["mu"],
            given["t"],
            given["cond"].transpose(0, 2, 1),
            given["dt"],
        ).transpose(0, 2, 1)
        found["sound"] = model.audio_vae.decode(given["latents"])
        (result,) = model.generate("Hello.", min_tokens=2, max_tokens=2, inference_timesteps=2)
        found["speech"] = result.audio
        np.savez(f"{folder}.npz", **{name: as_numpy(value) for name, value in found.items()})


if __name__ == "__main__":
    main()
