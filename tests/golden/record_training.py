"""Records what the official `voxcpm` package makes of a batch of training.

As `record.py`, in the same environment, from the folder `tests`:

    python -m golden.record_training [variant ...]

Written is `training.<variant>.safetensors`, for B rows of T positions: the packer's arrays, then
what upstream drew everywhere in `compute_loss`, its losses, and the gradients of their sum in all
weights outside the VAE, in training mode (where rounding lets gradients through). Inputs are
`training_cases.examples(variant, attempt)`, the adapter is `training_cases.adapter(variant)`.

    attempt                            []            with which no rounding is near a tie
    packed.text_tokens, .text_mask, .audio_mask, .loss_mask, .labels    [B, T]  int32
    packed.audio_feats                 [B, T, P, D]
    draws.times, draws.keep            [B * T]       keep is 0 where mu is taken for zero
    draws.noise                        [B * T, P, D]
    plain.diff, plain.stop             []            "loss/diff" and "loss/stop"
    plain.gradient.{weight}            [1 + n]       `training_cases.excerpt`
    adapted.diff, .stop, .gradient.{layer}.lora_A or .lora_B            with the adapter
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from golden.official import load
from golden.record import TIE
from golden.training_cases import ALPHA, RANK, VARIANTS, adapter, examples, excerpt
from safetensors.numpy import save_file

DROP = 0.3  # more than upstream's 0.1, so that several of so few targets lose mu


class LatentsAsSound:
    """Stands in for the packer's VAE: a frame of D latents is D samples of sound."""

    sample_rate = 16000

    def __init__(self, frame: int) -> None:
        self.hop_length = frame

    def encode(self, sound: torch.Tensor, rate: int) -> torch.Tensor:
        return sound.reshape(1, -1, self.hop_length).transpose(1, 2)


def pack(rows: list[dict], patch: int, frame: int) -> dict[str, torch.Tensor]:
    """What upstream's loader hands to the model."""
    import voxcpm

    # By its file: the package around it imports `datasets`.
    file = Path(voxcpm.__file__).parent / "training" / "packers.py"
    specification = importlib.util.spec_from_file_location("packers", file)
    packers = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(packers)
    vae = LatentsAsSound(frame)
    packer = packers.AudioFeatureProcessingPacker(1, 8192, patch, frame, vae)

    def padded(pieces: list) -> torch.Tensor:
        tensors = [torch.from_numpy(np.asarray(piece).reshape(-1)) for piece in pieces]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=-100)

    nothing = np.zeros(0, np.float32)
    ids = torch.zeros(len(rows), dtype=torch.int32)
    return packer(
        padded([row["patches"] for row in rows]),
        padded([np.array(row["tokens"], np.int32) for row in rows]),
        ids + 1,
        ids,
        [row["is_prompt"] for row in rows],
        padded([nothing if row["reference"] is None else row["reference"] for row in rows]),
    )


class Draws:
    """Within it, `torch.rand`, `randn` and `randn_like` draw from a seed, and are remembered."""

    ORDER = ("rand", "rand", "randn_like", "randn", "randn", "rand", "randn_like")

    def __init__(self, estimator: torch.nn.Module, seed: int) -> None:
        self.estimator, self.random = estimator, np.random.RandomState(seed)
        self.made: list[tuple[str, np.ndarray]] = []

    def _draw(self, kind: str, shape: tuple) -> torch.Tensor:
        draw = self.random.random_sample if kind == "rand" else self.random.standard_normal
        self.made.append((kind, draw(shape).astype(np.float32)))
        return torch.from_numpy(self.made[-1][1])

    def _listen(self, module, inputs, keywords) -> None:
        assert not keywords["dt"].any()
        self.times = inputs[2].numpy()

    def __enter__(self) -> "Draws":
        self.hook = self.estimator.register_forward_pre_hook(self._listen, with_kwargs=True)
        self.originals = {kind: getattr(torch, kind) for kind in set(self.ORDER)}
        torch.rand = lambda count, **_: self._draw("rand", (count,))
        torch.randn = lambda count, **_: self._draw("randn", (count,))
        torch.randn_like = lambda like, **_: self._draw("randn_like", tuple(like.shape))
        return self

    def __exit__(self, *_) -> None:
        self.hook.remove()
        for kind, original in self.originals.items():
            setattr(torch, kind, original)

    def arrays(self) -> dict[str, np.ndarray]:
        assert tuple(kind for kind, _ in self.made) == self.ORDER
        keep = self.made[0][1] > DROP
        noise = self.made[-1][1].transpose(0, 2, 1)
        return {"times": self.times, "keep": keep.astype(np.float32), "noise": noise}


class Trainer:
    """One variant's model in training mode, and what it makes of a batch."""

    def __init__(self, variant: str, folder: Path) -> None:
        self.variant = variant
        self.model = load(variant, folder).train()
        self.model.feat_decoder.training_cfg_rate = DROP
        self.adapter = adapter(variant)

    def wrap(self) -> None:
        """Puts the adapter on."""
        from voxcpm.model.voxcpm2 import LoRAConfig

        self.model.lora_config = LoRAConfig(
            enable_lm=True, enable_dit=True, enable_proj=True, r=RANK, alpha=ALPHA
        )
        self.model._apply_lora()
        names = {name for name, _ in self.model.named_parameters() if "lora" in name}
        assert names == self.adapter.keys()
        weights = {name: torch.from_numpy(value) for name, value in self.adapter.items()}
        self.model.load_state_dict(weights, strict=False)

    def step(self, batch: dict[str, torch.Tensor]) -> tuple[dict, dict, float]:
        """-> losses and gradients, draws, and how near a rounding is to a tie."""
        is_audio, near = batch["audio_mask"].bool(), []

        def listen(module, inputs, output) -> None:
            steps = torch.tanh(output[is_audio]) * self.model.fsq_layer.scale
            near.append((steps - steps.floor() - 0.5).abs().min().item())

        names = ("text_tokens", "text_mask", "audio_feats", "audio_mask", "loss_mask")
        inputs = {name: batch[name] for name in (*names, "position_ids", "labels")}
        hook = self.model.fsq_layer.in_proj.register_forward_hook(listen)
        self.model.zero_grad()
        with Draws(self.model.feat_decoder.estimator, seed=7) as draws:
            losses = self.model(**inputs)
        hook.remove()
        (losses["loss/diff"] + losses["loss/stop"]).backward()
        made = {name: losses[f"loss/{name}"].detach().numpy() for name in ("diff", "stop")}
        for name, weight in self.model.named_parameters():
            if name.startswith("audio_vae."):
                assert weight.grad is None, name
            else:
                made[f"gradient.{name}"] = excerpt(name, weight.grad.numpy())
        return made, draws.arrays(), min(near)


def record(trainers: tuple[Trainer, Trainer]) -> dict[str, np.ndarray]:
    """trainers: without the adapter and with it."""
    plain, wrapped = trainers
    config = plain.model.config
    for attempt in range(100):
        batch = pack(examples(plain.variant, attempt), config.patch_size, config.feat_dim)
        (made, draws, near), (adapted, same, nearer) = plain.step(batch), wrapped.step(batch)
        if min(near, nearer) > TIE:
            break
    else:
        raise RuntimeError(f"every attempt comes near a tie: {plain.variant}")
    print(f"{plain.variant}: attempt {attempt}, distance to a tie {min(near, nearer):.1e}")
    assert all(np.array_equal(draws[name], same[name]) for name in draws)
    kept = draws["keep"][batch["loss_mask"].flatten() == 1]
    assert 2 <= kept.sum() <= len(kept) - 2, kept
    golden = {"attempt": np.array(attempt, np.int32)}
    for name in ("text_tokens", "text_mask", "audio_mask", "loss_mask", "labels", "audio_feats"):
        value = batch[name].numpy()
        golden[f"packed.{name}"] = value if name == "audio_feats" else value.astype(np.int32)
    golden |= {f"draws.{name}": value for name, value in draws.items()}
    golden |= {f"plain.{name}": value for name, value in made.items()}
    golden |= {
        f"adapted.{name}": value
        for name, value in adapted.items()
        if "lora" in name or "gradient" not in name
    }
    return {name: np.array(value, order="C") for name, value in golden.items()}


def main(variants: list[str]) -> None:
    torch.set_num_threads(1)
    for variant in variants or VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            plain, wrapped = (Trainer(variant, Path(folder) / name) for name in ("a", "b"))
            wrapped.wrap()
            golden = record((plain, wrapped))
        for name, value in golden.items():
            assert np.isfinite(value).all(), name
            if "gradient" in name:
                assert np.abs(value[1:]).max() > 0, name
                print(f"{name:75} norm {value[0]:.2e}, {len(value) - 1} values")
        print({name: float(golden[name]) for name in golden if name.endswith(("diff", "stop"))})
        file = Path(__file__).parent / f"training.{variant}.safetensors"
        save_file(golden, file)
        print(file.name, file.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
