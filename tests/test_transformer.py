"""The transformer's options against their mathematics, written out in numpy for one layer."""

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from conftest import relative_error
from mlx.utils import tree_flatten, tree_map

from mlx_voxcpm2.layers import device, kernels
from mlx_voxcpm2.layers.config import RopeScaling, TransformerConfig
from mlx_voxcpm2.layers.transformer import CausalLM, Transformer

CONFIG = TransformerConfig(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-3,
    vocab_size=11,
    head_dim=8,
    qkv_bias=True,
    rope_theta=500.0,
    tie_word_embeddings=False,
)
TOKENS = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 10, 3, 5, 8]])


def drawn(module: nn.Module) -> nn.Module:
    """The module with random weights, norms and biases included."""
    random = np.random.RandomState(0)

    def draw(value: mx.array) -> mx.array:
        return mx.array(random.standard_normal(value.shape).astype(np.float32) * 0.5)

    return module.update(tree_map(draw, module.parameters())).eval()


def normalised(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    scale = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + CONFIG.rms_norm_eps)
    return x / scale * np.array(layer.weight, np.float64)


def linear(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    y = x @ np.array(layer.weight, np.float64).T
    return y + np.array(layer.bias, np.float64) if "bias" in layer else y


def rotated(x: np.ndarray, theta: float | None) -> np.ndarray:
    """x (B, L, heads, size): channels i and i + size / 2 as a complex number, turned."""
    if theta is None:
        return x
    half = x.shape[-1] // 2
    angles = np.outer(np.arange(x.shape[1]), theta ** (-np.arange(half) / half))[:, None]
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def attended(x: np.ndarray, attention: nn.Module, config: TransformerConfig) -> np.ndarray:
    batch, length, _ = x.shape
    size, heads, kv_heads = config.head_size, attention.heads, attention.kv_heads
    q, k, v = (
        linear(x, attention[name]).reshape(batch, length, -1, size)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    q, k = rotated(q, config.rope_theta), rotated(k, config.rope_theta)
    result = np.zeros((batch, length, heads, size))
    for head in range(heads):
        shared = head // (heads // kv_heads)
        scores = np.einsum("bqc,bkc->bqk", q[:, :, head], k[:, :, shared]) / np.sqrt(size)
        scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        result[:, :, head] = weights @ v[:, :, shared]
    return linear(result.reshape(batch, length, -1), attention.o_proj)


def expected_logits(model: CausalLM, config: TransformerConfig) -> np.ndarray:
    embeddings = np.array(model.model.embed_tokens.weight, np.float64)
    x = embeddings[TOKENS] * config.embedding_scale
    for layer in model.model.layers:
        added = attended(normalised(x, layer.input_layernorm), layer.self_attn, config)
        x = x + config.residual_scale * added
        y = normalised(x, layer.post_attention_layernorm)
        gate = linear(y, layer.mlp.gate_proj)
        active = gate / (1 + np.exp(-gate)) * linear(y, layer.mlp.up_proj)
        x = x + config.residual_scale * linear(active, layer.mlp.down_proj)
    head = embeddings if config.tie_word_embeddings else np.array(model.lm_head.weight, np.float64)
    return normalised(x, model.model.norm) @ head.T


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qkv_bias": False},
        {"rope_theta": None},
        {"head_dim": None},
        {"tie_word_embeddings": True},
        {"embedding_scale": 3.0, "residual_scale": 0.3},
        {"num_key_value_heads": 6},
    ],
    ids=lambda changes: ", ".join(changes) or "Qwen2",
)
def test_options_compute_what_their_names_say(changes, is_fused, on_cpu, monkeypatch):
    monkeypatch.setattr(device, "on_cpu", lambda: on_cpu)
    config = replace(CONFIG, **changes)
    model = drawn(CausalLM(config, positions=16))
    expected = expected_logits(model, config)
    if is_fused:
        model.model.fuse(mx.eval)
        assert all(layer.self_attn.fused is not None for layer in model.model.layers)
    tokens = mx.array(TOKENS)
    assert relative_error(model(tokens), expected) < 1e-5
    cache = model.model.make_cache()
    chunks = [model(tokens[:, start:end], cache) for start, end in ((0, 3), (3, 4), (4, 6))]
    assert relative_error(mx.concatenate(chunks, axis=1), expected) < 1e-5


def test_names_are_those_of_a_checkpoint():
    names = {name for name, _ in tree_flatten(CausalLM(CONFIG, 4).parameters())}
    layer = {f"self_attn.{x}_proj.weight" for x in "qkvo"}
    layer |= {f"self_attn.{x}_proj.bias" for x in "qkv"}
    layer |= {f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")}
    layer |= {"input_layernorm.weight", "post_attention_layernorm.weight"}
    expected = {f"model.layers.{index}.{name}" for index in range(2) for name in layer}
    ends = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert names == expected | ends


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_biased_projections_of_sixteen_bits_are_fused_too(dtype):
    config = replace(CONFIG, hidden_size=64, head_dim=16)
    stack = drawn(Transformer(config, positions=16))
    stack.set_dtype(dtype)
    x = mx.array(np.random.RandomState(1).standard_normal((1, 5, 64))).astype(dtype)
    separate = stack(x)
    stack.fuse(mx.eval)
    assert stack(x).dtype == dtype
    assert relative_error(stack(x).astype(mx.float32), separate.astype(mx.float32)) < 2e-2


@pytest.mark.parametrize("mode", ["affine", "mxfp8"])
def test_biased_projections_that_are_quantised_are_fused_too(mode):
    config = replace(CONFIG, hidden_size=64, head_dim=16)
    stack = drawn(Transformer(config, positions=16))
    is_linear = lambda _, module: isinstance(module, nn.Linear)  # noqa: E731
    nn.quantize(stack.layers[0].self_attn, 32, 8, mode=mode, class_predicate=is_linear)
    x = mx.array(np.random.RandomState(1).standard_normal((1, 5, 64)).astype(np.float32))
    separate = stack(x)
    stack.fuse(mx.eval)
    assert isinstance(stack.layers[0].self_attn.q_proj, nn.QuantizedLinear)
    assert stack.layers[0].self_attn.fused is not None
    assert relative_error(stack(x), separate) < 1e-6


def test_layers_that_do_not_fit_are_not_fused():
    attention = drawn(Transformer(CONFIG, positions=16)).layers[0].self_attn
    for replacement in (
        nn.Linear(24, 16, bias=False),
        nn.Sequential(attention.k_proj),
        attention.k_proj.update(tree_map(lambda x: x.astype(mx.float16), attention.k_proj)),
    ):
        attention.k_proj = replacement
        attention.fuse(mx.eval)
        assert attention.fused is None


def test_plain_rope_is_longrope_with_factors_of_one():
    ones = (1.0,) * 4
    scaling = RopeScaling(ones, ones, original_max_position_embeddings=64)
    config = replace(CONFIG, rope_scaling=scaling)
    assert config.attention_scale == CONFIG.attention_scale == 8**-0.5
    plain, scaled = (Transformer(each, positions=64).rope for each in (CONFIG, config))
    x = mx.array(np.random.RandomState(2).standard_normal((1, 2, 9, 8)).astype(np.float32))
    assert mx.array_equal(plain(x, 5), scaled(x, 5))
    far = rotated(np.array(x, np.float64).transpose(0, 2, 1, 3), 500.0).transpose(0, 2, 1, 3)
    assert relative_error(kernels.rope(x, 0, plain.periods, plain.table), far) < 1e-6


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"num_key_value_heads": 4}, "num_attention_heads is 6; it must be a multiple of"),
        ({"head_dim": 7}, "head size is 7; it must be even"),
        ({"head_dim": -2}, "head_dim is -2; it must be positive"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0; it must be positive"),
        ({"hidden_size": 0}, "hidden_size is 0; it must be positive"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, line):
    with pytest.raises(ValueError, match=line):
        replace(CONFIG, **changes)
