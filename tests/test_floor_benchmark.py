"""The matrix products that benchmarks/floor.py counts as a patch's are those of the network."""

import sys
from collections import Counter
from pathlib import Path

import mlx.nn as nn

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import floor

from mlx_voxcpm2.layers import kernels

STEPS = 10
EVALUATIONS = 9


def test_the_products_of_a_patch_are_those_of_its_transformers(released):
    model, by_patch = released.model, []
    linear = kernels.linear
    with floor.recorded_products(model, by_patch):
        model.speak("Hello.", seed=0, inference_timesteps=STEPS, min_tokens=3, max_tokens=3)
    assert kernels.linear is linear and "sample_patch" not in vars(model)
    config, patch = model.config, model.config.patch_size
    tokens = 2 * (2 + 1 + 2 * patch)
    rows = Counter(rows for _, rows in by_patch[1])
    language = config.lm_config.num_hidden_layers + config.residual_lm_num_layers
    dit = EVALUATIONS * config.dit_config.num_layers
    # q/k/v and, of the last layer alone for fewer positions, output, gate/up and down.
    per_layer = 5 if not kernels.fuses_gate_and_up() else 4
    assert rows[tokens] == dit * per_layer - EVALUATIONS * (per_layer - 1)
    assert rows[2 * patch] == EVALUATIONS * (per_layer - 1)
    encoder = config.encoder_config.num_layers
    assert rows[patch + 1] == encoder * per_layer - (per_layer - 1)
    assert rows[1] == language * per_layer + per_layer - 1
    assert 0 < floor.products_seconds(model, lambda: model.speak("Hi.", seed=0, max_tokens=3)) < 10


def test_a_quantised_layer_has_the_columns_of_its_matrix():
    layer = nn.Linear(64, 32)
    assert floor.width(layer) == floor.width(layer.to_quantized(bits=4)) == 64
