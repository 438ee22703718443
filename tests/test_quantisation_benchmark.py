"""Quantisation errors as benchmarks/quantisation.py measures them, on tiny checkpoints."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import mlx.core as mx
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import forced_pass
import quantisation
from speech_quality import SpeechJudge

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.models.voxcpm2.flow import Schedule
from mlx_voxcpm2.speech.options import GenerationOptions

TEXT = "Hello world, this is a test."
PATCHES = 4


@pytest.fixture(scope="module")
def comparison(exchange):
    options = GenerationOptions(inference_timesteps=4, seed=0)
    return quantisation.Comparison(load_model(exchange), [TEXT], PATCHES, options)


def measured(source: Path, comparison, bits: int) -> dict:
    model = load_model(source)
    settings = {"bits": bits, "group_size": 32, "mode": "affine"}
    with forced_pass.quantised(model, lambda *_: settings), forced_pass.float32(model):
        return comparison.measure(model)


@pytest.fixture(scope="module")
def four_bit(exchange, comparison) -> dict:
    return measured(exchange, comparison, 4)


def test_a_checkpoint_against_itself_has_no_error(exchange, comparison):
    model = load_model(exchange)
    with forced_pass.float32(model):
        found = comparison.measure(model)
    assert set(found["errors"].values()) == {0.0}
    assert {error for pair in found["modules"].values() for error in pair.values()} == {0.0}
    assert (found["stop_flips"], found["codes_changed"]) == (0, 0.0)


def test_fewer_bits_have_larger_errors(exchange, comparison, four_bit):
    eight_bit = measured(exchange, comparison, 8)
    for name, worse in four_bit["modules"].items():
        assert worse["alone"] > 3 * eight_bit["modules"][name]["alone"] > 0, name
    for name, worse in four_bit["errors"].items():
        assert worse > 3 * eight_bit["errors"][name] > 0, name
        assert len(four_bit["by_patch"][name]) == PATCHES


@pytest.fixture(scope="module")
def exact_model(exchange):
    return load_model(exchange, "float32")


def forced(model, patches: np.ndarray, noise: np.ndarray) -> forced_pass.Forced:
    return forced_pass.Forced(TEXT, model.tokenize(TEXT), patches, noise)


def noise_for(model) -> np.ndarray:
    shape = (PATCHES, model.config.patch_size, model.config.feat_dim)
    return np.random.RandomState(1).standard_normal(shape).astype(np.float32)


def test_the_teacher_forced_pass_equals_free_generation(exact_model):
    """A model that is fed its own output gives the same patches as when it runs freely."""
    options, noise = GenerationOptions(seed=0), noise_for(exact_model)
    spoken = forced_pass.speak(exact_model, TEXT, noise, options)
    found = forced_pass.module_outputs(exact_model, forced(exact_model, spoken, noise), options)
    assert forced_pass.relative_error([found["latents"]], [spoken]) < 1e-4
    logits = exact_model.stop_logits(mx.array(found["FSQ"][0, -PATCHES + 1 :]))  # all but the first
    stops = np.array(mx.argmax(logits, axis=-1)) == 1
    assert (stops == (found["stop margin"][1:] > 0)).all() and 0 < found["FSQ codes"].std()


def test_the_velocity_is_that_of_the_solver(exact_model):
    """Between noise and the same noise, each point of the path equals the first one."""
    noise, options = noise_for(exact_model), GenerationOptions(inference_timesteps=2)
    found = forced_pass.module_outputs(exact_model, forced(exact_model, noise, noise), options)
    (size,) = Schedule.sway(2).sizes[1:]  # the solver's velocity is 0 in the first step
    np.testing.assert_allclose(found["latents"], noise - size * found["velocity"][:, 0], atol=1e-5)


BREAKABLE = {
    "text embeddings": "base_lm.embed_tokens",
    "local encoder": "feat_encoder.in_proj",
    "encoder to LM": "enc_to_lm_proj",
    "base LM": "base_lm.layers.0.mlp.down_proj",
    "FSQ": "fsq_layer.out_proj",
    "fusion": "fusion_concat_proj",
    "residual LM": "residual_lm.layers.0.self_attn.o_proj",
    "LM to DiT": "lm_to_dit_proj",
    "residual to DiT": "res_to_dit_proj",
    "DiT time": "feat_decoder.estimator.time_mlp.linear_2",
    "velocity": "feat_decoder.estimator.cond_proj",
    "stop margin": "stop_head",
}


@pytest.mark.parametrize("row", BREAKABLE)
def test_a_broken_layer_shows_in_its_row(exchange, comparison, row):
    model = load_model(exchange)
    layers = dict(model.named_modules())
    layers[BREAKABLE[row]].weight = -layers[BREAKABLE[row]].weight
    with forced_pass.float32(model):
        modules = comparison.measure(model)["modules"]
    assert modules[row]["alone"] > 0.1
    # The solver's velocity needs the time; all other modules are unchanged.
    wrong = {name for name, errors in modules.items() if errors["alone"] > 0}
    assert wrong == ({row, "velocity"} if row == "DiT time" else {row})


def test_each_layer_that_can_be_quantised_is_in_one_group(exchange):
    import re

    model = load_model(exchange)
    for path, layer in model.named_modules():
        if hasattr(layer, "to_quantized") and not path.startswith("audio_vae."):
            found = [g for g, pattern in forced_pass.GROUPS.items() if re.fullmatch(pattern, path)]
            assert len(found) == 1, path


def test_sensitivity_is_measured_for_one_group_at_a_time(exchange, comparison):
    model = load_model(exchange)
    with forced_pass.float32(model):
        groups = {x["group"]: x for x in comparison.sensitivity(model, bits=4, group_size=32)}
        restored = comparison.outputs(model)
        assert comparison.error(restored, "latents") == 0
    assert list(groups) == list(forced_pass.GROUPS)
    for group in groups.values():
        assert max(group["errors"].values()) > 0, group["group"]
        assert group["megabytes_saved"] > 0, group["group"]
    assert groups["stop"]["errors"]["latents"] == 0 < groups["stop"]["errors"]["stop_margin"]
    assert groups["DiT: down"]["errors"]["stop_margin"] == 0
    assert groups["base LM: text embeddings"]["megabytes_saved_per_patch"] == 0


def test_bytes_are_counted_once_per_use(exchange):
    """One more solver step reads the DiT once more, but neither its condition nor other weights."""
    model = load_model(exchange)
    estimator = model.feat_decoder.estimator
    layers = (estimator.decoder, estimator.in_proj, estimator.out_proj)
    once = sum(forced_pass.weight_bytes(layer) for layer in layers)
    more = forced_pass.bytes_per_patch(model, 9) - forced_pass.bytes_per_patch(model, 8)
    assert more == once


def test_random_weights_are_distinguished_from_trained_ones(exchange):
    model = load_model(exchange)
    assert forced_pass.is_random(model)
    weight = model.base_lm.layers[0].mlp.down_proj.weight
    model.base_lm.layers[0].mlp.down_proj.weight = weight**3  # a long tail
    assert not forced_pass.is_random(model)


@pytest.fixture
def run_benchmark(run_command):
    """Function that runs the benchmark on few patches: status, standard output and error."""
    fast = ["--patches", PATCHES, "--inference_timesteps", 3]
    return lambda *arguments: run_command(quantisation.main, *arguments, *fast)


def test_the_command_compares_checkpoints_and_writes_the_tables(exchange, tmp_path, run_benchmark):
    texts, report, other = tmp_path / "texts", tmp_path / "report.json", tmp_path / "our-bf16"
    texts.write_text(f"{TEXT}\n\nAnd another one.\n")
    convert(exchange, other)
    status, out, _ = run_benchmark(
        exchange, other, "--texts", texts, "--json", report, "--sensitivity", 4
    )
    assert status == 0
    found = json.loads(report.read_text())
    assert out == found["markdown"] + "\n"
    card = out[out.index("<!-- measured -->") : out.index("<!-- /measured -->")]
    assert "Random weights" in card and "| our-bf16 |" in card
    assert found["random_weights"] and (found["texts"], found["patches"]) == (2, 2 * PATCHES)
    itself, ours = found["checkpoints"]
    assert itself["errors"]["latents"] > 0  # bfloat16 rounds
    assert set(ours["errors"].values()) == {0.0}
    size = sum(file.stat().st_size for file in other.glob("*.safetensors"))
    assert ours["gigabytes"] == size / 1e9
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| our-bf16 |")]
    assert rows[0][3:8] == ["0", "0", "0", f"0 of {2 * PATCHES}", "0.0%"]
    assert "word error rate" not in out


def test_a_recipe_is_applied_to_the_source(exchange, tmp_path, run_benchmark):
    """The errors are those of a checkpoint that was converted with the recipe."""
    convert(exchange, tmp_path / "converted", quantize="4bit")
    report = tmp_path / "report.json"
    status, _, _ = run_benchmark(exchange, "4bit", tmp_path / "converted", "--json", report)
    assert status == 0
    _, recipe, converted = json.loads(report.read_text())["checkpoints"]
    assert (recipe["name"], recipe["modules"]) == ("4bit", converted["modules"])
    assert recipe["errors"]["latents"] > 0.01
    # The rest is the file's header.
    assert recipe["gigabytes"] == pytest.approx(converted["gigabytes"], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["{source}", "{other}"], "{other}: its layers have other sizes"),
        (["{source}", "--texts", "{source}/config.txt"], "config.txt"),
        (["{source}", "--texts", "{empty}"], "a text per line"),
        (["{source}", "--json", "{source}/no/report"], "create it first"),
        (["{source}", "--asr", "any"], "pip install mlx-audio jiwer"),
    ],
)
def test_bad_input_is_a_one_line_error(
    exchange, tmp_path, run_benchmark, monkeypatch, arguments, said
):
    monkeypatch.setitem(sys.modules, "mlx_audio", None)  # as if it were not installed
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.touch()
    if "{other}" in arguments:
        checkpoints.write_checkpoint(other, "derived_head")
    names = {"source": exchange, "empty": empty, "other": other}
    status, out, err = run_benchmark(*(argument.format(**names) for argument in arguments))
    assert (status, out) == (2, "")
    assert said.format(**names) in err.splitlines()[-1]
    assert "Traceback" not in err


class Speaker:
    """Stand-in for a model: a tone of the text's length, at a pitch of its own."""

    def __init__(self, pitch: float):
        self.pitch, self.asked = pitch, []

    def generate(self, text: str, **options: object):
        self.asked.append(options)
        tone = np.sin(2 * np.pi * self.pitch * np.arange(480 * len(text)) / 48000)
        yield SimpleNamespace(audio=mx.array(tone.astype(np.float32)), sample_rate=48000)


def pitches(sound: mx.array) -> mx.array:
    """Stand-in for a voice embedding: the energy of the audio at 200, 400 … Hz."""
    time = mx.arange(len(sound)) / 16000
    waves = mx.exp(2j * np.pi * 200 * mx.arange(1, 9)[:, None] * time)
    return mx.abs(mx.mean(waves * sound, axis=1))


def test_speech_is_judged_by_its_words_and_its_voice():
    pytest.importorskip("jiwer")
    texts = ["One, two; three.", "And four words more!"]
    transcripts = {160 * len(texts[0]): "one TWO tree", 160 * len(texts[1]): "and four words more"}
    judge = SpeechJudge(lambda sound: transcripts[len(sound)], pitches, texts)
    source = judge(Speaker(400))
    assert source == pytest.approx({"word_error_rate": 1 / 7, "speaker_similarity": 1})
    assert judge(Speaker(400))["speaker_similarity"] == pytest.approx(1)
    assert judge(Speaker(800))["speaker_similarity"] < 0.1


def test_a_cloned_voice_is_compared_with_its_clip():
    pytest.importorskip("jiwer")
    clip = np.sin(2 * np.pi * 400 * np.arange(16000) / 16000), 16000
    judge = SpeechJudge(lambda sound: "hello", pitches, ["Hello"], clip)
    model = Speaker(800)
    assert judge(model)["speaker_similarity"] < 0.1
    assert model.asked[0]["ref_audio"] is clip
    assert judge(Speaker(400))["speaker_similarity"] == pytest.approx(1, abs=0.01)
