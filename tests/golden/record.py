"""Records what the official `voxcpm` package (PyTorch, CPU) makes of the tiny checkpoints.

It needs an environment of its own, and runs from the folder `tests`:

    pip install torch einops safetensors pydantic tqdm soundfile librosa argbind
    pip install "transformers==5.23.0" && pip install --no-deps voxcpm==2.0.3
    python -m golden.record [variant ...]

(torchaudio is not needed. transformers 4 gives other tokens, and so another length limit, to a
text that begins with a space or holds special tokens: it puts one more "▁" there.)

Written is `<variant>.safetensors`, float32 but for tokens and counts (int32). Letters: P frames of
a patch, D values of a frame, H width of the language models, E of the local encoder, Z of the DiT.
Inputs are not stored: where "from" is said, they are `checkpoints.module_input(name, shape,
variant)`, and `checkpoints.waveform(name, config)` where a waveform is named.

    tokens.{i}         [T]       ids of TEXTS[i] without audio start            (released only)
    base_lm            [20, H]   causal hidden states, from base_lm [20, H]
    residual_lm        [20, H]   likewise, from residual_lm [20, H]
    base_lm.300        [2, H]    the last two of 300 positions, from base_lm.300
                                                                    (released, long_rope)
    base_lm.1100       [2, H]    the last two of 1100, from base_lm.1100    (long_rope)
    feat_encoder       [3, E]    from feat_encoder [3, P, D]
    estimator          [P, D]    velocity at t = 0.37, dt = 0, from estimator.x [P, D],
                                 estimator.mu [2, Z], estimator.cond [P, D]
    estimator.dt       [P, D]    the same with dt = 0.21
    solve.10           [P, D]    10 steps, cfg 2, from solve.mu [2, Z], solve.cond [P, D],
                                 solve.noise [P, D]
    solve.26, solve.60 [P, D]    26 and 60 steps, cfg 1.3, noise * 0.7; 60 hold back two steps
    fsq_layer          [8, H]    from fsq_layer [8, H]
    stop               [20, 2]   logits, from stop [20, H]
    vae.encode.{side}  [4, P, D] the waveform "own" padded on that side (left or right)
    vae.decode         [L]       from vae.decode [6, D], for the model's own rate
    vae.decode.{rate}  [L]       from vae.decode.rates [2, D], for another rate: on and just above
                                 every boundary      (variants with sr_bin_boundaries)
    encode.{name}.{side} [N, P, D] the waveforms ref, prompt, short, whole and stereo, read from a
                                 file and resampled
    gen.{mode}.tokens  [T]       the prefill's ids, 0 at audio positions
    gen.{mode}.noise   [S, P, D] of S patches (MODES; two to four)
    gen.{mode}.hidden  [S, 2, H] the hidden states of base and residual LM behind each patch
    gen.{mode}.latents [S, P, D]
    gen.{mode}.audio   [L]       without the context that was decoded before it
    stop.{k}.patches   []        patches of STOP_TEXT until STOPS[k] ends it, with at most 40,
                                 4 steps and cfg 1.5                            (released only)
    stop.{k}.noise     [patches, P, D]
    cap.patches        []        of CAP_TEXT when nothing stops, max_len 4096   (released only)
    badcase.draws      []        patches drawn for it in 3 attempts             (released only)
"""

import sys
import tempfile
from pathlib import Path

import checkpoints
import numpy as np
import torch
from checkpoints import CAP_TEXT, MODES, STOP_TEXT, STOPS, TEXTS, VARIANTS, WAVEFORMS
from golden.official import Listener, Noise, load
from safetensors.numpy import save_file

PATCHES, STEPS = 4, 8
BRIEF_MODES = ("design", "reference")  # of two patches: each second of sound takes 192 KB
SHORT_MODES = ("zero_shot", "combined", "short_combined")
TIE = 2e-4  # what is recorded stays farther than this from a tie
Arrays = dict[str, np.ndarray]


class Recorder:
    """One variant's model and its golden values."""

    def __init__(self, variant: str, folder: Path) -> None:
        self.variant, self.folder = variant, folder
        self.config = checkpoints.config(variant)
        self.model = load(variant, folder)
        self.golden: Arrays = {}
        self.ties: dict[str, float] = {}

    def given(self, name: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(checkpoints.module_input(name, shape, self.variant))

    def keep(self, name: str, value: torch.Tensor | np.ndarray) -> None:
        assert name not in self.golden, name
        self.golden[name] = np.array(value, order="C")

    def record(self) -> None:
        if self.variant == "released":
            for i, text in enumerate(TEXTS):
                self.keep(f"tokens.{i}", np.array(self.model.text_tokenizer(text), np.int32))
        self.stacks()
        self.local()
        self.heads()
        self.files = {name: self.wave_file(name) for name in WAVEFORMS}
        self.audio_vae()
        for mode in MODES if self.variant == "released" else SHORT_MODES:
            self.mode(mode)
        if self.variant == "released":
            for name in STOPS:
                self.stop(name)
            self.cap()

    def stacks(self) -> None:
        """The two language models."""
        width = self.config["lm_config"]["hidden_size"]
        for name in ("base_lm", "residual_lm"):
            hidden, _ = getattr(self.model, name)(inputs_embeds=self.given(name, 20, width)[None])
            self.keep(name, hidden[0])
        for length in {"released": [300], "long_rope": [300, 1100]}.get(self.variant, []):
            name = f"base_lm.{length}"
            hidden, _ = self.model.base_lm(inputs_embeds=self.given(name, length, width)[None])
            self.keep(name, hidden[0, -2:])

    def local(self) -> None:
        """The models within a patch."""
        patch = (self.config["patch_size"], self.config["feat_dim"])
        width = self.config["dit_config"]["hidden_dim"]
        encoded = self.model.feat_encoder(self.given("feat_encoder", 3, *patch)[None])
        self.keep("feat_encoder", encoded[0])
        x, mu, cond = (
            self.given("estimator.x", *patch).T[None],
            self.given("estimator.mu", 2, width).reshape(1, -1),
            self.given("estimator.cond", *patch).T[None],
        )
        for name, dt in (("estimator", 0.0), ("estimator.dt", 0.21)):
            times = torch.tensor([0.37]), torch.tensor([dt])
            self.keep(name, self.model.feat_decoder.estimator(x, mu, times[0], cond, times[1])[0].T)
        noise = self.given("solve.noise", *patch).numpy()
        for steps, guidance, temperature in ((10, 2.0, 1.0), (26, 1.3, 0.7), (60, 1.3, 0.7)):
            with Noise([noise]):
                solved = self.model.feat_decoder(
                    mu=self.given("solve.mu", 2, width).reshape(1, -1),
                    n_timesteps=steps,
                    patch_size=patch[0],
                    cond=self.given("solve.cond", *patch).T[None],
                    temperature=temperature,
                    cfg_value=guidance,
                )
            self.keep(f"solve.{steps}", solved[0].T)

    def heads(self) -> None:
        """The quantizer and the stop head."""
        width = self.config["lm_config"]["hidden_size"]
        with Listener(self.model) as listener:
            self.keep("fsq_layer", self.model.fsq_layer(self.given("fsq_layer", 8, width)))
        self.ties["fsq_layer"] = listener.rounding
        hidden = self.model.stop_actn(self.model.stop_proj(self.given("stop", 20, width)))
        self.keep("stop", self.model.stop_head(hidden))

    def wave_file(self, name: str) -> str:
        samples, rate = checkpoints.waveform(name, self.config)
        return str(checkpoints.write_wav(self.folder / f"{name}.wav", samples, rate))

    def audio_vae(self) -> None:
        """The VAE, and reading of files."""
        for name, file in self.files.items():
            key = "vae.encode" if name == "own" else f"encode.{name}"
            for side in ("right", "left"):
                self.keep(f"{key}.{side}", self.model._encode_wav(file, padding_mode=side))
        decode, frame = self.model.audio_vae.decode, self.config["feat_dim"]
        self.keep("vae.decode", decode(self.given("vae.decode", 6, frame).T[None])[0, 0])
        latents = self.given("vae.decode.rates", 2, frame).T[None]
        for boundary in self.config["audio_vae_config"]["sr_bin_boundaries"] or []:
            for rate in (boundary, boundary + 1):
                audio = decode(latents, torch.tensor([rate], dtype=torch.int32))
                self.keep(f"vae.decode.{rate}", audio[0, 0])

    def generate(self, text: str, cache: dict | None, steady: bool = True, **options):
        """-> audio (L,), latents (S, P, D), listener, noise; with the first seed not near a tie."""
        for seed in range(100):
            with Noise(seed=seed) as noise, Listener(self.model) as listener:
                audio, _, latents = self.model.generate_with_prompt_cache(text, cache, **options)
            if not steady or min(listener.rounding, listener.stopping) > TIE:
                return audio[0], latents, listener, noise
        raise RuntimeError(f"every seed comes near a tie: {text}")

    def mode(self, name: str) -> None:
        """A way to ask for speech, as a whole."""
        case = MODES[name]
        text = f"({case['instruct']}){case['text']}" if "instruct" in case else case["text"]
        cache = None
        if "ref" in case or "prompt" in case:
            cache = self.model.build_prompt_cache(
                prompt_text=case.get("prompt_text"),
                prompt_wav_path=self.files.get(case.get("prompt")),
                reference_wav_path=self.files.get(case.get("ref")),
            )
        count = 2 if name in BRIEF_MODES else PATCHES if self.variant == "released" else 3
        options = {"min_len": count, "max_len": count, "inference_timesteps": STEPS}
        audio, latents, listener, noise = self.generate(text, cache, cfg_value=2.0, **options)
        assert len(latents) == count
        self.keep(f"gen.{name}.tokens", listener.tokens)
        self.keep(f"gen.{name}.noise", np.stack(noise.drawn))
        self.keep(f"gen.{name}.hidden", np.stack(listener.hidden, axis=1))
        self.keep(f"gen.{name}.latents", latents)
        self.keep(f"gen.{name}.audio", audio)
        self.ties[f"gen.{name}"] = listener.rounding

    def stop(self, name: str) -> None:
        """Where a stop head ends an utterance."""
        head, least = STOPS[name]
        original = self.model.stop_head.weight.data
        self.model.stop_head.weight.data = torch.from_numpy(
            checkpoints.stop_head(head, self.config)
        )
        options = {"min_len": least, "max_len": 40, "inference_timesteps": 4, "cfg_value": 1.5}
        _, latents, listener, noise = self.generate(STOP_TEXT, None, **options)
        self.model.stop_head.weight.data = original
        self.keep(f"stop.{name}.patches", np.int32(len(latents)))
        self.keep(f"stop.{name}.noise", np.stack(noise.drawn))
        self.ties[f"stop.{name}"] = min(listener.rounding, listener.stopping)
        print(f"stop {name}: {len(latents)} patches")

    def cap(self) -> None:
        """How long a short text may become, and how often it is tried again."""
        head = checkpoints.stop_head("never", self.config)
        self.model.stop_head.weight.data = torch.from_numpy(head)
        options = {"max_len": 4096, "inference_timesteps": 2, "steady": False}
        _, latents, _, _ = self.generate(CAP_TEXT, None, **options)
        self.keep("cap.patches", np.int32(len(latents)))
        *_, noise = self.generate(CAP_TEXT, None, retry_badcase=True, **options)
        self.keep("badcase.draws", np.int32(len(noise.drawn)))
        print(f"cap {len(latents)} patches of {len(self.model.text_tokenizer(CAP_TEXT))} tokens,")
        print(f"{len(noise.drawn)} draws in 3 attempts")


def check(golden: Arrays, ties: dict[str, float]) -> None:
    """Prints the spread of every output, and refuses dead, saturated or undecided ones."""
    for name, value in golden.items():
        if value.dtype != np.float32:
            print(f"{name:32} {value.shape!s:14} {value.dtype}", value.ravel()[:12])
            continue
        print(f"{name:32} {value.shape!s:14} std {value.std():.4f} max {np.abs(value).max():.3f}")
        assert np.isfinite(value).all(), name
        assert value.std() > 0.02, name
        if name.endswith("audio") or name.startswith("vae.decode"):
            assert value.std() < 0.5, name
    print("distance to a tie:", {name: f"{tie:.1e}" for name, tie in ties.items()})
    assert min(ties.values()) > TIE


def main(variants: list[str]) -> None:
    torch.set_num_threads(1)
    for variant in variants or VARIANTS:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            recorder = Recorder(variant, Path(folder))
            recorder.record()
        count = sum(p.numel() for p in recorder.model.parameters())
        print(f"\n{variant}: {count} parameters")
        check(recorder.golden, recorder.ties)
        file = Path(__file__).parent / f"{variant}.safetensors"
        save_file(recorder.golden, file)
        print(file.name, file.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
