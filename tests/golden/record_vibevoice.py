"""Records what Microsoft's package makes of the tiny VibeVoice checkpoints (PyTorch, CPU).

It needs an environment of its own, and runs from the folder `tests`:

    pip install torch==2.13.0 transformers==4.51.3 "diffusers<0.36" numpy==2.3.5 \\
        safetensors==0.8.0 accelerate==1.6.0 scipy==1.17.1
    pip install --no-deps vibevoice==0.0.1      (Microsoft's code as first published, MIT)
    python -m golden.record_vibevoice

Written are `vibevoice.VARIANT.safetensors`, float32, and `vibevoice.json`: prompts, tokens,
timesteps. Inputs are not stored: they are `vibevoice_checkpoints.uniform(name, shape)`.

    acoustic, semantic, decoded     of codec.audio [2, 5 hop], codec.latents [2, 5, D]
    sampled                         acoustic, drawn with codec.std [2], codec.noise
    connector.acoustic, .semantic   of codec.latents, and of semantic
    head                            of head.x [5, D], head.condition [5, H], TIMES
    voices                          features of both voices
    {forced,free,plain}.{logits,latents,audio}  by step, by frame; the first with the forced
                                    chain of tokens, the second with the model's own, the third
                                    with one voice and without guidance
    train[.sampled].{diffusion,cross_entropy,target}  losses, of the state before a frame
    solver.N                        x after each of N steps from solver.x [3, 7], of field() below
    loudness.N                      levelled samples of LEVELS[N]
"""

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import vibevoice.modular.modeling_vibevoice as training
import vibevoice_checkpoints as tiny
import vibevoice_configs
from golden.official_vibevoice import Draws, build
from golden.vibevoice_cases import LEVELS, PROMPTS, SOLVER_STEPS, TIMES, field, levelled
from safetensors.torch import save_file
from transformers import LogitsProcessorList
from vibevoice.modular.modeling_vibevoice_inference import (
    VibeVoiceForConditionalGenerationInference,
)
from vibevoice.modular.modular_vibevoice_text_tokenizer import VibeVoiceTextTokenizerFast
from vibevoice.processor.vibevoice_processor import VibeVoiceProcessor
from vibevoice.processor.vibevoice_tokenizer_processor import AudioNormalizer

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def given(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(tiny.uniform(name, *shape))


class Case:
    """A variant: its checkpoint, Microsoft's model of it and what is recorded of it."""

    def __init__(self, variant: str, folder: Path):
        self.v, self.variant = tiny.VARIANTS[variant], variant
        self.folder = vibevoice_configs.write_checkpoint(folder / variant, variant)
        self.model = build(VibeVoiceForConditionalGenerationInference, self.folder)
        self.model.acoustic_tokenizer.std_dist_type = "none"  # the mean
        self.hop, self.golden = tiny.hop(variant), {}
        self.clips = [torch.from_numpy(clip) for clip in tiny.voices(variant)]
        self.frames = [-(-len(clip) // self.hop) for clip in self.clips]
        self.ids = tiny.legal(tiny.write_tokenizer(self.folder))
        self.order = [self.ids[letter] for letter in "SEDX"]
        file = str(self.folder / "tokenizer.json")
        self.processor = VibeVoiceProcessor(
            tokenizer=VibeVoiceTextTokenizerFast(tokenizer_file=file),
            speech_tok_compress_ratio=self.hop,
        )
        self.prompt = self.prompt_of(tiny.SCRIPT, self.frames)

    def prompt_of(self, script: str, frames: list[int]) -> list[int]:
        clips = [np.zeros(n * self.hop, np.float32) for n in frames]
        voices = {"voice_samples": [clips]} if clips else {}
        found = self.processor(text=[script], return_tensors="pt", **voices)
        return found["input_ids"][0].tolist()

    def padded(self, clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Clips as one batch of whole frames, and which frames are theirs."""
        lengths = torch.tensor([-(-len(clip) // self.hop) for clip in clips])
        width = self.hop * int(lengths.max())
        rows = [torch.nn.functional.pad(clip, (0, width - len(clip))) for clip in clips]
        return torch.stack(rows), torch.arange(int(lengths.max())) < lengths[:, None]

    @torch.no_grad()
    def modules(self) -> None:
        inner, golden = self.model.model, self.golden
        audio = torch.from_numpy(tiny.sound("codec.audio", 2 * 5 * self.hop)).reshape(2, 1, -1)
        latents = given("codec.latents", 2, 5, self.v["acoustic"])
        golden["acoustic"] = inner.acoustic_tokenizer.encode(audio).mean
        golden["semantic"] = inner.semantic_tokenizer.encode(audio).mean
        golden["decoded"] = inner.acoustic_tokenizer.decode(latents.transpose(1, 2))[:, 0]
        encoded = inner.acoustic_tokenizer.encode(audio)
        with Draws(given("codec.std", 2), given("codec.noise", *encoded.mean.shape)):
            golden["sampled"] = encoded.sample("gaussian")[0]
        golden["connector.acoustic"] = inner.acoustic_connector(latents)
        golden["connector.semantic"] = inner.semantic_connector(golden["semantic"])
        x, condition = given("head.x", 5, self.v["acoustic"]), given("head.condition", 5, 32)
        golden["head"] = inner.prediction_head(x, torch.tensor(TIMES), condition=condition)
        speech, masks = self.padded(self.clips)
        mean = inner.acoustic_tokenizer.encode(speech[:, None]).mean[masks]
        golden["voices"] = (mean + inner.speech_bias_factor) * inner.speech_scaling_factor

    @torch.no_grad()
    def generate(self, tag: str, prompt, clips, chosen, noise, cfg: float) -> list[int]:
        model, taken = self.model, {"logits": [], "latents": [], "audio": []}
        model.set_ddpm_inference_steps(tiny.STEPS)
        sample, decode, queue = (
            model.sample_speech_tokens,
            model.acoustic_tokenizer.decode,
            list(noise),
        )

        def processor(input_ids, scores):
            taken["logits"].append(scores[0, self.order].clone())
            scores = scores.clone()
            if chosen:
                scores[:, chosen[len(taken["logits"]) - 1]] += 1e4
            return scores

        def sampled(*args, **kwargs):
            with Draws(torch.stack([queue.pop(0), torch.zeros(self.v["acoustic"])])):
                taken["latents"].append(sample(*args, **kwargs)[0])
            return taken["latents"][-1][None]

        def decoded(*args, **kwargs):
            audio = decode(*args, **kwargs)
            taken["audio"].append(audio[0, 0])
            return audio

        saved = model._get_logits_processor
        model._get_logits_processor = lambda *a, **k: LogitsProcessorList(
            [processor, *saved(*a, **k)]
        )
        model.sample_speech_tokens, model.acoustic_tokenizer.decode = sampled, decoded
        speech, masks = self.padded(clips)
        ids = torch.tensor([prompt])
        tokenizer = SimpleNamespace(
            bos_token_id=None,
            eos_token_id=self.ids["X"],
            pad_token_id=self.ids["X"],
            speech_start_id=self.ids["S"],
            speech_end_id=self.ids["E"],
            speech_diffusion_id=self.ids["D"],
        )
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            tokenizer=tokenizer,
            speech_tensors=speech,
            speech_masks=masks,
            speech_input_mask=ids == self.ids["D"],
            cfg_scale=cfg,
            max_new_tokens=14,
            generation_config={"do_sample": False},
            verbose=False,
            show_progress_bar=False,
        )
        del model._get_logits_processor, model.sample_speech_tokens
        del model.acoustic_tokenizer.decode
        self.golden |= {f"{tag}.{name}": torch.stack(v) for name, v in taken.items()}
        return out.sequences[0, len(prompt) :].tolist()

    @torch.no_grad()
    def training(self) -> None:
        """A target of three frames; each frame's condition is the state before it."""
        model = build(training.VibeVoiceForConditionalGeneration, self.folder)
        inner, frames, mul = model.model, 3, 4
        target = torch.from_numpy(tiny.sound("train.target", frames * self.hop))
        speech, masks = self.padded([*self.clips, target])
        ids = [*self.prompt, *[self.ids["D"]] * frames, self.ids["E"], self.ids["X"]]
        tokens, at = torch.tensor([ids]), len(self.prompt)
        is_frame = tokens == self.ids["D"]
        semantic = inner.semantic_tokenizer.encode(speech[:, None]).mean
        noise = given("train.noise", frames * mul, self.v["acoustic"])
        steps = torch.from_numpy(np.random.RandomState(5).randint(0, 1000, frames * mul))
        std, spread = (
            given("train.std", 3),
            given("train.spread", *semantic.shape[:2], self.v["acoustic"]),
        )
        for tag in ("train", "train.sampled"):
            mean = inner.acoustic_tokenizer.encode(speech[:, None]).mean
            if tag == "train.sampled":
                mean = mean + (0.5 / 0.8 * std)[:, None, None] * spread
            features = (mean + inner.speech_bias_factor) * inner.speech_scaling_factor
            x = model.get_input_embeddings()(tokens)
            x[is_frame] = (inner.acoustic_connector(features) + inner.semantic_connector(semantic))[
                masks
            ]
            hidden = inner.language_model(inputs_embeds=x).last_hidden_state
            clean = features[-1, :frames].repeat_interleave(mul, 0)
            condition = hidden[0, at - 1 : at - 1 + frames].repeat_interleave(mul, 0)
            noisy = inner.noise_scheduler.add_noise(clean, noise, steps)
            velocity = inner.noise_scheduler.get_velocity(clean, noise, steps)
            found = inner.prediction_head(noisy, steps.float(), condition=condition)
            labels = tokens[0, 1:].masked_fill(is_frame[0, 1:], -100)
            logits, entropy = model.lm_head(hidden)[0, :-1], torch.nn.functional.cross_entropy
            self.golden[f"{tag}.diffusion"] = torch.nn.functional.mse_loss(found, velocity)
            self.golden[f"{tag}.cross_entropy"] = entropy(logits, labels)
            self.golden[f"{tag}.target"] = entropy(logits[at - 1 :], labels[at - 1 :])


def solver(golden: dict, notes: dict, scheduler) -> None:
    notes["timesteps"] = {}
    for count in range(1, 101):
        scheduler.set_timesteps(count)
        notes["timesteps"][count] = scheduler.timesteps.tolist()
        if count in SOLVER_STEPS:
            path = [given("solver.x", 3, 7)]
            for t in scheduler.timesteps:
                v = torch.from_numpy(field(path[-1].numpy(), float(t)))
                path.append(scheduler.step(v, t, path[-1]).prev_sample)
            golden[f"solver.{count}"] = torch.stack(path)
    for name in LEVELS:
        golden[f"loudness.{name}"] = torch.from_numpy(AudioNormalizer()(levelled(name)))


def main() -> None:
    notes, here = {}, Path(__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        for variant in sys.argv[1:] or tiny.VARIANTS:
            case = Case(variant, Path(scratch))
            noise = given("noise", 24, case.v["acoustic"])
            case.modules()
            forced = [case.ids[letter] for letter in case.v["forced"]]
            case.generate("forced", case.prompt, case.clips, forced, noise, tiny.CFG)
            free = case.generate("free", case.prompt, case.clips, [], noise, tiny.CFG)
            prompts = [case.prompt_of(script, frames) for script, frames in PROMPTS]
            clip = case.clips[0][: 2 * case.hop]
            case.generate("plain", prompts[2], [clip], forced, noise.flip(0), 1.0)
            notes[variant] = {"prompt": case.prompt, "free": free, "prompts": prompts}
            case.training()
            if variant == "tiny":
                solver(case.golden, notes, case.model.model.noise_scheduler)
            golden = {name: value.contiguous().float() for name, value in case.golden.items()}
            save_file(golden, here / f"vibevoice.{variant}.safetensors")
    (here / "vibevoice.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    main()
