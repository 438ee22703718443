"""Records an adapter that the official package wrote, and what it makes of it; reads back ours.

Runs from the folder `tests` in the environment of `record.py`:

    python -m golden.record_adapters

It writes `adapters/official/`, with random A and B, as upstream's training saves them, and
`adapters/official.safetensors` for the variant "released" with alpha 4 (scale 1) and alpha 7:

    {alpha}.base_lm, {alpha}.residual_lm, {alpha}.estimator     as in `record.py`
    {alpha}.tokens, {alpha}.noise, {alpha}.latents              of a short speech, likewise

And it has the official package load `adapters/ours/`, which `make_adapter.py` wrote with this
project's code: nothing may be skipped, and the values must be those in `ours.safetensors`.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from golden.cases import ADAPTER, ADAPTER_ALPHAS
from golden.record import STEPS, Recorder
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "adapters"
PATCHES = 3


class AdapterRecorder(Recorder):
    """The official "released" model with LoRA layers."""

    def __init__(self, folder: Path, settings: dict) -> None:
        super().__init__("released", folder)
        from voxcpm.model.voxcpm2 import LoRAConfig  # `super` prepares the import

        self.model.lora_config = LoRAConfig(**settings)
        self.model._apply_lora()
        self.model.eval()

    def lora_weights(self) -> dict[str, torch.Tensor]:
        """As `save_checkpoint` of upstream's training chooses them."""
        return {k: v for k, v in self.model.state_dict().items() if "lora_" in k}

    def load(self, folder: Path) -> None:
        loaded, skipped = self.model.load_lora_weights(str(folder))
        assert not skipped and sorted(loaded) == sorted(self.lora_weights()), skipped
        print(f"{folder.name}: loaded {len(loaded)}, skipped {len(skipped)}")

    def values(self) -> dict[str, np.ndarray]:
        """What `make_adapter.values` gives."""
        width, patch = self.config["lm_config"]["hidden_size"], (4, 16)
        found = {}
        for name in ("base_lm", "residual_lm"):
            hidden, _ = getattr(self.model, name)(inputs_embeds=self.given(name, 20, width)[None])
            found[name] = hidden[0]
        found["estimator"] = self.model.feat_decoder.estimator(
            self.given("estimator.x", *patch).T[None],
            self.given("estimator.mu", 2, self.config["dit_config"]["hidden_dim"]).reshape(1, -1),
            torch.tensor([0.37]),
            self.given("estimator.cond", *patch).T[None],
            torch.tensor([0.0]),
        )[0].T
        return {name: np.array(value, order="C") for name, value in found.items()}

    def speech(self) -> dict[str, np.ndarray]:
        _, latents, listener, noise = self.generate(
            "Hello.",
            None,
            min_len=PATCHES,
            max_len=PATCHES,
            inference_timesteps=STEPS,
            cfg_value=2.0,
        )
        assert len(latents) == PATCHES
        return {
            "tokens": listener.tokens,
            "noise": np.stack(noise.drawn),
            "latents": np.array(latents, order="C"),
        }


def fill(model: torch.nn.Module) -> None:
    """Random A and B that change what the model says a good deal."""
    random = np.random.RandomState(0)
    for module in model._iter_lora_modules():
        for parameter, reach in ((module.lora_A, module.in_features**-0.5), (module.lora_B, 0.3)):
            values = random.uniform(-reach, reach, tuple(parameter.shape)).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(values))


@torch.inference_mode()
def main() -> None:
    golden: dict[str, np.ndarray] = {}
    official = FOLDER / "official"
    official.mkdir(parents=True, exist_ok=True)
    for alpha in ADAPTER_ALPHAS:
        with tempfile.TemporaryDirectory() as folder:
            recorder = AdapterRecorder(Path(folder), {**ADAPTER, "alpha": alpha})
        if alpha == ADAPTER["alpha"]:
            fill(recorder.model)
            save_file(recorder.lora_weights(), official / "lora_weights.safetensors")
            info = {
                "base_model": "openbmb/VoxCPM2",
                "lora_config": recorder.model.lora_config.model_dump(),
            }
            text = json.dumps(info, indent=2, ensure_ascii=False)
            (official / "lora_config.json").write_text(text, encoding="utf-8")
        else:
            recorder.load(official)
        for name, value in (recorder.values() | recorder.speech()).items():
            golden[f"{alpha}.{name}"] = value
    save_arrays(golden, FOLDER / "official.safetensors")
    ours = FOLDER / "ours"
    settings = json.loads((ours / "lora_config.json").read_text())["lora_config"]
    with tempfile.TemporaryDirectory() as folder:
        recorder = AdapterRecorder(Path(folder), settings)
    recorder.load(ours)
    wanted = load_file(FOLDER / "ours.safetensors")
    for name, value in recorder.values().items():
        error = np.linalg.norm(value - wanted[name]) / np.linalg.norm(value)
        print(f"ours, {name}: relative error {error:.1e}")
        assert error < 1e-5, name


if __name__ == "__main__":
    main()
