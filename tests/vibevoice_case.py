"""A variant of VibeVoice with the values that Microsoft's own code computed for it."""

import json
from pathlib import Path

import mlx.core as mx
import vibevoice_checkpoints
import vibevoice_configs

from mlx_voxcpm2 import vibevoice
from mlx_voxcpm2.vibevoice.generation import embed_prompt
from mlx_voxcpm2.vibevoice.steps import Batch, Row

GOLDEN = Path(__file__).parent / "golden"


class Dialogue:
    """A variant of VibeVoice: its checkpoint, its model in float32, and Microsoft's values."""

    def __init__(self, variant: str, folder: Path, layout: str = "microsoft"):
        self.variant = variant
        self.sizes = vibevoice_checkpoints.VARIANTS[variant]
        self.folder = vibevoice_configs.write_checkpoint(folder / variant / layout, variant, layout)
        self.golden = dict(mx.load(str(GOLDEN / f"vibevoice.{variant}.safetensors")))
        self.notes = json.loads((GOLDEN / "vibevoice.json").read_text())
        self.model = vibevoice.load(self.folder, dtype="float32")
        clips = vibevoice_checkpoints.voices(variant)
        self.voices = [(clip, vibevoice.SAMPLE_RATE) for clip in clips]
        self.noise = self.given("noise", 24, self.sizes["acoustic"])

    def given(self, name: str, *shape: int) -> mx.array:
        """Input from which the golden value of this name was made."""
        return mx.array(vibevoice_checkpoints.uniform(name, *shape))

    def features(self, voices: list | None = None) -> list[mx.array]:
        """The voices' features, of their latents' means."""
        given = self.voices if voices is None else voices
        return [self.model.encode_voice(each, level=False, sample=False) for each in given]

    def steps(self, prompt, features, forced: str = "", cfg_value=None, noise=None) -> list:
        """Steps of the model, of a chain of tokens by their letters or of its own."""
        tokens = [dict(zip("SEDX", self.model.legal.ids, strict=True))[each] for each in forced]
        left = iter(tokens)
        return list(
            self.model.steps(
                prompt,
                features,
                noise=self.noise if noise is None else noise,
                inference_timesteps=vibevoice_checkpoints.STEPS,
                cfg_value=vibevoice_checkpoints.CFG if cfg_value is None else cfg_value,
                choose=(lambda _: next(left)) if tokens else None,
                max_steps=len(tokens) or 14,
            )
        )

    def together(self, prompt, features, chains: tuple[str, ...]) -> list[list]:
        """Steps of several chains from one prompt, as one batch, row by row."""
        model, legal = self.model, self.model.legal
        x = embed_prompt(model, legal, prompt, features)
        rows = [Row(i, prompt, x, iter(self.noise), len(c)) for i, c in enumerate(chains)]
        solver = vibevoice.Solver(vibevoice_checkpoints.STEPS)
        batch = Batch(model, legal, rows, solver, vibevoice_checkpoints.CFG)
        found: list[list] = [[] for _ in chains]
        while batch.rows:
            tokens = iter([legal.ids["SEDX".index(chains[r.number][r.count])] for r in batch.rows])
            for row, step in batch.step(lambda _, tokens=tokens: next(tokens)):
                found[row.number].append(step)
        return found

    def speak(self, script: str = vibevoice_checkpoints.SCRIPT, voices=None, **options):
        """One result, as the goldens are made unless options say otherwise."""
        settings = {"inference_timesteps": vibevoice_checkpoints.STEPS, "noise": self.noise}
        settings |= {"cfg_value": vibevoice_checkpoints.CFG, "level": False, "sample": False}
        given = self.voices if voices is None else voices
        return self.model.speak(script, given, **{**settings, **options})
