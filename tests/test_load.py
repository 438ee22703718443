"""Loading checkpoints of every layout; errors name the fault."""

import json
import logging
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import mlx.core as mx
import numpy as np
import pytest
from conftest import GOLDEN, parameters, relative_error, same
from safetensors.numpy import load_file, save_file
from torch_files import Call, Global, save, save_state_dict

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.layers import device
from mlx_voxcpm2.weights import checkpoint


@pytest.fixture
def checkpoint_tensors(make_case) -> dict[str, mx.array]:
    return parameters(make_case("mup").model)


def rewrite(file: Path, change, metadata: dict | None = None) -> None:
    contents = load_file(file)
    change(contents)
    save_file(contents, file, metadata=metadata or {"format": "pt"})


def test_the_pickled_audio_vae_loads_without_pytorch(checkpoint_copy, checkpoint_tensors):
    tensors_file = checkpoint_copy / "audiovae.safetensors"
    save_state_dict(checkpoint_copy / "audiovae.pth", load_file(tensors_file))
    tensors_file.unlink()
    assert same(parameters(load_model(checkpoint_copy, dtype="float32")), checkpoint_tensors)


def test_a_pickle_that_would_run_code_is_refused(checkpoint_copy, tmp_path):
    (checkpoint_copy / "audiovae.safetensors").unlink()
    marker = tmp_path / "ran"
    attack = Call(Global("os", "system"), (f"touch {marker}",))
    save(checkpoint_copy / "audiovae.pth", {"decoder.model.0.bias": attack})
    with pytest.raises(ValueError, match=r"audiovae\.pth.*system") as error:
        load_model(checkpoint_copy)
    assert "\n" not in str(error.value) and not marker.exists()


def test_shards_load(checkpoint_copy, checkpoint_tensors):
    contents = load_file(checkpoint_copy / "model.safetensors")
    names = sorted(contents)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: contents[name] for name in part}, checkpoint_copy / file)
        weight_map |= dict.fromkeys(part, file)
    (checkpoint_copy / "model.safetensors").unlink()
    index = checkpoint_copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert same(parameters(load_model(checkpoint_copy, dtype="float32")), checkpoint_tensors)
    (checkpoint_copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002\.safetensors"):
        load_model(checkpoint_copy)
    for content in ("[]", '{"weight_map": {"a": 5}}', '{"weight_map": 5}', "[" * 100_000):
        index.write_text(content)
        with pytest.raises(ValueError, match="not an index"):
            load_model(checkpoint_copy)


def test_sample_rate_boundaries_come_from_the_checkpoint(checkpoint_copy):
    """Upstream's boundaries in the file override those of config.json."""

    def move(contents):
        contents["decoder.sr_bin_boundaries"] = np.array([100, 200], dtype=np.int32)

    rewrite(checkpoint_copy / "audiovae.safetensors", move)
    model = load_model(checkpoint_copy, dtype="float32")
    assert model.audio_vae.decoder.sr_bin_boundaries.tolist() == [100, 200]
    latents = mx.ones((2, 2, 16))
    assert mx.array_equal(model.decode_latents(latents, 201), model.decode_latents(latents))
    assert not mx.array_equal(model.decode_latents(latents, 200), model.decode_latents(latents))


PRECISIONS = [
    ("float32", mx.float32),
    ("float16", mx.float16),
    ("fp16", mx.float16),
    ("bfloat16", mx.bfloat16),
    (mx.bfloat16, mx.bfloat16),
]


@pytest.mark.parametrize(("dtype", "wanted"), PRECISIONS)
def test_dtype_chooses_the_precision_of_all_but_the_audio_vae(checkpoint_copy, dtype, wanted):
    for name, value in parameters(load_model(checkpoint_copy, dtype=dtype)).items():
        if name == "audio_vae.decoder.sr_bin_boundaries":
            assert value.dtype == mx.int32
        else:
            assert value.dtype == (mx.float32 if name.startswith("audio_vae.") else wanted)


def test_bfloat16_is_the_default_with_a_warning_if_the_file_names_another_dtype(
    checkpoint_copy, caplog, monkeypatch
):
    monkeypatch.setattr(device, "on_cpu", lambda: False)
    model = load_model(checkpoint_copy)
    assert model.dtype == mx.bfloat16
    assert model.audio_vae.encoder.fc_mu.weight.dtype == mx.float32
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "float32" in caplog.text


@pytest.mark.parametrize("recipe", [None, "8bit"])
def test_a_cpu_computes_in_float32_and_stores_matrices_in_their_dtype(
    recipe, tmp_path, caplog, monkeypatch
):
    source = checkpoints.write_checkpoint(tmp_path / "source", "exchange")
    model, asked = (load_model(source, dtype, quantize=recipe) for dtype in (None, "bfloat16"))
    assert (model.dtype, asked.dtype) == (mx.float32, mx.bfloat16)
    default, stored = parameters(model), parameters(asked)
    assert all(mx.array_equal(default[name], stored[name]) for name in stored)
    sizes = [sum(value.nbytes for value in each.values()) for each in (default, stored)]
    assert sizes[0] < 1.05 * sizes[1]
    hint = "a CPU is slow at 16 bits"
    assert caplog.text.count(hint) == 1
    options = {"seed": 0, "min_tokens": 3, "max_tokens": 3, "inference_timesteps": 4}
    (spoken,), (rounded,) = model.generate("Hi.", **options), asked.generate("Hi.", **options)
    asked.apply(lambda v: v.astype(mx.float32) if mx.issubdtype(v.dtype, mx.floating) else v)
    (wanted,) = asked.generate("Hi.", **options)
    assert relative_error(spoken.audio, wanted.audio) < 1e-5
    assert relative_error(rounded.audio, wanted.audio) > 1e-3
    monkeypatch.setattr(device, "on_cpu", lambda: False)
    assert load_model(source, quantize=recipe).dtype == mx.bfloat16 and caplog.text.count(hint) == 1


@pytest.mark.parametrize("precision", ["bf16", "8bit", "4bit"])
def test_checkpoints_converted_by_mlx_audio_load(precision, tmp_path):
    """Files that mlx-audio 0.6.2 wrote from the variant `exchange`."""
    source = checkpoints.write_checkpoint(tmp_path / "source", "exchange")
    converted = tmp_path / "converted"
    converted.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, converted)
    shutil.copy(GOLDEN / f"mlx_audio_{precision}.safetensors", converted / "model.safetensors")
    shutil.copy(GOLDEN / f"mlx_audio_{precision}.json", converted / "config.json")
    theirs, original = (load_model(each, dtype="bfloat16") for each in (converted, source))
    weights, expected = parameters(theirs), parameters(original)
    quantised = [name for name in weights if name.endswith(".scales")]
    assert bool(quantised) == (precision != "bf16")
    for name, value in expected.items():
        if name.removesuffix(".weight") + ".scales" in weights:
            continue
        tolerance = 1e-2 if name.startswith("audio_vae.") else 0
        if precision != "bf16" and "_embed.weight" in name:  # mlx-audio quantises these too
            tolerance = {"8bit": 0.02, "4bit": 0.2}[precision]
        error = relative_error(weights[name].astype(mx.float32), value.astype(mx.float32))
        assert error <= tolerance, name
    noise = np.random.RandomState(0).standard_normal((3, 2, 32))
    options = {"noise": noise, "min_tokens": 3, "max_tokens": 3, "inference_timesteps": 4}
    (ours,), (spoken,) = original.generate("Hi.", **options), theirs.generate("Hi.", **options)
    bound = {"bf16": 0.05, "8bit": 0.1, "4bit": 1}[precision]
    assert relative_error(spoken.audio, ours.audio) < bound


@pytest.mark.parametrize("age", ["older", "newer"])
def test_quantisation_is_read_from_older_and_newer_config_entries(age, tmp_path):
    """Older entries have no mode and one name; newer ones name the layers that differ."""
    checkpoints.write_checkpoint(tmp_path, "exchange")
    shutil.copy(GOLDEN / "mlx_audio_4bit.safetensors", tmp_path / "model.safetensors")
    config = json.loads((GOLDEN / "mlx_audio_4bit.json").read_text())
    settings = config.pop("quantization")
    config.pop("quantization_config")
    if age == "older":
        settings.pop("mode")
        config["quantization"] = settings
    else:
        config["quantization_config"] = {**settings, "group_size": 64, "stop_proj": False}
        weights = mx.load(str(tmp_path / "model.safetensors"))
        for name in [name for name in weights if name.endswith(".scales")]:
            config["quantization_config"][name.removesuffix(".scales")] = settings
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(tmp_path)
    assert model.base_lm.layers[0].self_attn.q_proj.bits == 4
    (result,) = model.generate("Hi.", seed=0, max_tokens=2)
    assert np.isfinite(np.array(result.audio)).all()


DAMAGED = {
    "missing tensor base_lm.norm.weight": lambda c: c.pop("base_lm.norm.weight"),
    "missing tensor base_lm.layers.0.mlp.down_proj.weight and 2 more": lambda c: [
        c.pop(f"base_lm.layers.{index}.mlp.down_proj.weight") for index in range(3)
    ],
    "unknown tensor base_lm.extra": lambda c: c.update({"base_lm.extra": np.zeros(3, np.float32)}),
    "mistyped tensor base_lm.norm.weight": lambda c: c.update(
        {"base_lm.norm.weight": np.ones(64, np.int32)}
    ),
    r"mis-shaped tensor stop_head.weight: it has shape \(3, 64\)": lambda c: c.update(
        {"stop_head.weight": np.zeros((3, 64), np.float32)}
    ),
}


@pytest.mark.parametrize("line", DAMAGED)
def test_the_error_names_tensors_that_do_not_fit(checkpoint_copy, line):
    rewrite(checkpoint_copy / "model.safetensors", DAMAGED[line])
    with pytest.raises(ValueError, match=line) as error:
        load_model(checkpoint_copy)
    assert "\n" not in str(error.value)


def test_the_error_names_a_convolution_without_weight_g(checkpoint_copy):
    rewrite(checkpoint_copy / "audiovae.safetensors", lambda c: c.pop("encoder.fc_mu.weight_g"))
    with pytest.raises(ValueError, match=r"audio_vae\.encoder\.fc_mu\.weight"):
        load_model(checkpoint_copy)


def test_a_weight_g_that_would_broadcast_is_refused(checkpoint_copy):
    """A single value could be broadcast over the channels, but it is not what was trained."""

    def shorten(contents):
        contents["encoder.fc_mu.weight_g"] = contents["encoder.fc_mu.weight_g"][:1]

    rewrite(checkpoint_copy / "audiovae.safetensors", shorten)
    with pytest.raises(ValueError, match=r"fc_mu\.weight_g has shape \(1, 1, 1\)"):
        load_model(checkpoint_copy)


@pytest.mark.parametrize("file", ["model.safetensors", "audiovae.safetensors"])
def test_the_error_names_a_float64_tensor(checkpoint_copy, file):
    names = []

    def widen(contents):
        names.append(sorted(contents)[0])
        contents[names[0]] = contents[names[0]].astype(np.float64)

    rewrite(checkpoint_copy / file, widen)
    with pytest.raises(ValueError, match=rf"{file}: tensor {names[0]} is float64.*float32$"):
        load_model(checkpoint_copy)


@pytest.mark.parametrize("file", ["model.safetensors", "audiovae.safetensors"])
@pytest.mark.parametrize("end", [0, 5, 200, -100])
def test_the_error_names_a_truncated_file(checkpoint_copy, file, end):
    path = checkpoint_copy / file
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ValueError, match=rf"{file}.*damaged or incomplete") as error:
        load_model(checkpoint_copy)
    assert "\n" not in str(error.value)


def test_a_header_that_claims_too_much_is_refused(checkpoint_copy):
    path = checkpoint_copy / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])
    with pytest.raises(ValueError, match="damaged"):
        load_model(checkpoint_copy)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "model.safetensors", "audiovae.safetensors"]
)
def test_the_error_names_a_missing_file(checkpoint_copy, file):
    (checkpoint_copy / file).unlink()
    with pytest.raises(FileNotFoundError, match=file.replace(".", r"\.")):
        load_model(checkpoint_copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, '"voxcpm2"', "\xff"])
def test_an_invalid_config_is_refused(checkpoint_copy, content):
    (checkpoint_copy / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json"):
        load_model(checkpoint_copy)


def test_an_unknown_dtype_is_refused_before_any_file_is_read():
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        load_model("/nowhere", dtype="int8")


def test_a_missing_path_is_not_looked_up_on_the_hub(tmp_path):
    for path in (tmp_path / "missing", "./missing/folder", "a/b/c", "~missing/x"):
        with pytest.raises(FileNotFoundError, match="no such folder; check the path"):
            load_model(path)
    with pytest.raises(ValueError, match="name is empty"):  # not the working directory
        load_model("")
    with pytest.raises(TypeError, match="the checkpoint is NoneType; give a folder"):
        load_model(None)
    with pytest.raises(ValueError, match="no revision 'main'"):
        load_model(tmp_path, revision="main")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="is a file"):
        load_model(file)


@pytest.mark.parametrize("quantize", [None, "4bit"])
def test_loading_takes_little_more_memory_than_the_weights(released, tmp_path, quantize):
    folder = released.folder
    if quantize:
        folder = convert(folder, tmp_path / "quantized", quantize=quantize)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model = load_model(folder)
    peak = mx.get_peak_memory() - before
    assert peak < 1.15 * sum(value.nbytes for value in parameters(model).values())


def test_the_next_tensors_are_read_from_the_disk_while_one_is_waited_for(released, monkeypatch):
    """MLX reads what was begun on several threads; a limit keeps the memory small."""
    begun, sizes, ahead = [], [], []

    def begin(arrays):
        begun.append(arrays)
        sizes.append(sum(value.nbytes for value in arrays))
        mx.async_eval(arrays)

    def wait(arrays):
        assert arrays is begun.pop(0)
        ahead.append(sum(sizes[-len(begun) :]) if begun else 0)
        mx.eval(arrays)

    functions = {"async_eval": begin, "eval": wait}
    monkeypatch.setattr(checkpoint, "mx", SimpleNamespace(**vars(mx) | functions))
    model = load_model(released.folder)
    weights = [value.nbytes for value in parameters(model).values()]
    assert not begun
    assert len(sizes) > len(weights)  # also what is made of several
    limit = checkpoint.AHEAD * sum(weights)
    assert max(ahead) <= limit + max(sizes)
    assert max(ahead) > limit / 2


def test_a_large_tensor_is_in_memory_once(tmp_path):
    """A model of 300 MB loads with little more memory than its weights."""
    wide = checkpoints.write_checkpoint(tmp_path / "wide", "mup")
    config = json.loads((wide / "config.json").read_text())
    config["lm_config"]["vocab_size"] = 1_200_000
    (wide / "config.json").write_text(json.dumps(config))

    def widen(contents):
        contents["base_lm.embed_tokens.weight"] = np.ones((1_200_000, 64), np.float16)

    rewrite(wide / "model.safetensors", widen)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model = load_model(tmp_path / "wide", dtype="float32")
    peak = mx.get_peak_memory() - before
    # One tensor is the whole model here: cast, it counts 1.5.
    assert peak < 1.6 * sum(value.nbytes for value in parameters(model).values())
