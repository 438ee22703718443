"""Requests spoken together: each is what it is alone, and leaves when it ends."""

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.batch import Batch
from mlx_voxcpm2.generation import stream_audio
from mlx_voxcpm2.options import GenerationOptions

STEPS = {"inference_timesteps": 4}
# Mode, text, and what is set: lengths, voices, strengths and ends all differ. Few patches, since
# on random weights a difference in rounding doubles with each of them.
ROWS = (
    ("zero_shot", "Hi.", {"seed": 1, "max_tokens": 6, "cfg_value": 1.2}),
    ("reference", "A much longer text, which begins long before.", {"seed": 2, "max_tokens": 2}),
    ("continuation", "你好", {"seed": 3, "max_tokens": 5, "temperature": 0.5}),
    ("combined", "Goodbye then.", {"seed": 4, "max_tokens": 7, "cfg_value": 3.0}),
    ("design", "One.", {"seed": 5, "max_tokens": 4}),
)


def requests(case) -> list:
    """With every row, `generate`'s arguments."""
    found = []
    for mode, text, options in ROWS:
        arguments = case.arguments(mode) | {"text": text}
        options = GenerationOptions(min_tokens=20, **options, **STEPS)
        found.append(case.model.request(options=options, **arguments))
    return found


def speak(model, rows) -> tuple[list[mx.array], list[str]]:
    """The sound of each row, and why it ended."""
    sounds, reasons = [[] for _ in rows], [None] * len(rows)
    for pieces in stream_audio(model, rows):
        for number, sound, reason in pieces:
            assert reasons[number] is None
            sounds[number].append(sound)
            reasons[number] = reason
    return [mx.concatenate(pieces) for pieces in sounds], reasons


def test_each_row_is_what_it_is_alone(case):
    """Every kind of configuration; the longest prompts leave first, in the midst, and last."""
    together, reasons = speak(case.model, requests(case))
    assert reasons == ["length"] * len(ROWS)
    for row, sound, (_, _, options) in zip(requests(case), together, ROWS, strict=True):
        assert len(sound) == options["max_tokens"] * case.model.patch_samples
        (alone,), _ = speak(case.model, [row])
        assert relative_error(sound, alone) < 1e-4


def test_a_row_is_the_official_speech(released):
    """Beside others, with the noise of the golden run."""
    rows, modes = requests(released), ("continuation", "zero_shot")
    for mode in modes:
        noise = released.golden[f"gen.{mode}.noise"]
        count = len(noise)
        options = GenerationOptions(min_tokens=count, max_tokens=count, inference_timesteps=8)
        arguments = released.arguments(mode)
        rows.append(released.model.request(options=options, noise=noise, **arguments))
    others = [
        released.model.request(
            "Hi, you there.",
            options=GenerationOptions(seed=1, max_tokens=2 + index, inference_timesteps=8),
        )
        for index in range(2)
    ]
    together, _ = speak(released.model, [others[0], *rows[-2:], others[1]])
    for mode, sound in zip(modes, together[1:3], strict=True):
        assert relative_error(sound, released.golden[f"gen.{mode}.audio"]) < 1e-4


def test_a_row_stops_when_its_own_stop_head_says_so(released, monkeypatch):
    """It is heard from the patch after `min_tokens` on, of each row its own."""
    model = released.model
    rows = [
        model.request("One.", options=GenerationOptions(seed=1, min_tokens=least, **STEPS))
        for least in (0, 1)
    ]
    drawn = []

    def say_stop(hidden):
        drawn.append(hidden.shape[0])
        return mx.broadcast_to(mx.array([0.0, 1.0]), (hidden.shape[0], 2))

    monkeypatch.setattr(model, "stop_logits", say_stop, raising=False)
    sounds, reasons = speak(model, rows)
    assert reasons == ["stop", "stop"]
    assert [len(sound) // model.patch_samples for sound in sounds] == [2, 3]
    assert drawn == [2, 2, 1]


def test_padding_is_never_looked_at(released):
    """Whatever it holds, and also where the prompt is read in pieces."""
    model = released.model
    x = released.given("cache", 1, 40, released.config["lm_config"]["hidden_size"])
    wanted = model.base_lm(x[:, 13:])
    # Attention over nothing is not a number on some backends.
    assert model.base_lm.make_cache([0, 13])[0].mask(20).any(axis=-1).all().item()
    for filler in (0.0, 1e4):
        filled = mx.concatenate([mx.full((1, 13, x.shape[-1]), filler), x[:, 13:]], axis=1)
        cache = model.base_lm.make_cache([0, 13])
        both = mx.concatenate([x, filled])
        pieces = [model.base_lm(both[:, a:b], cache) for a, b in ((0, 7), (7, 30), (30, 39))]
        for layer in cache:
            layer.keep([1])
        assert cache[0].offset == 26 and not cache[0].padding
        pieces = [piece[1:] for piece in pieces] + [model.base_lm(both[1:, 39:], cache)]
        hidden = mx.concatenate(pieces, axis=1)
        assert np.isfinite(np.array(hidden)).all()
        assert relative_error(hidden[:, 13:], wanted) < 1e-5


def test_rows_of_other_positions_are_turned_alike_in_both_ways(released):
    """`mx.fast.rope`, which GPUs use, and the table."""
    rope = released.model.base_lm.rope
    x, starts = released.given("rope", 3, 2, 5, rope.size), mx.array([0, 7, 100])
    fast = mx.fast.rope(
        x, rope.size, traditional=False, base=None, scale=1.0, offset=starts, freqs=rope.periods
    )
    assert relative_error(rope(x, starts), fast) < 1e-5
    for row, start in enumerate((0, 7, 100)):
        assert relative_error(rope(x[row : row + 1], start), rope(x, starts)[row : row + 1]) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_stay_sixteen_bits(make_case, dtype):
    case = make_case("long_rope")
    model = load_model(case.folder, dtype=dtype)
    batch = Batch(
        model,
        [model.request(text, options=GenerationOptions(**STEPS)) for text in ("Hi.", "Hi you.")],
    )
    kinds = set()
    for _ in range(2):
        kinds |= {batch.draw().dtype, batch.hidden.dtype, batch.residual.dtype}
        batch.end()
    kinds |= {layer.keys.dtype for stack in batch.cache for layer in stack}
    assert kinds == {getattr(mx, dtype)}


def test_a_patch_of_many_rows_waits_once(released, monkeypatch):
    """For all stop decisions together."""
    reads = []
    read = mx.array.tolist
    monkeypatch.setattr(mx.array, "tolist", lambda array: reads.append(1) or read(array))
    monkeypatch.setattr(mx.array, "item", lambda _: pytest.fail("read by itself"))
    options = GenerationOptions(seed=1, min_tokens=0, max_tokens=4, **STEPS)
    batch = Batch(released.model, [released.model.request(t, options=options) for t in "abc"])
    while batch.rows:
        batch.draw()
        before = len(reads)
        batch.end()
        assert len(reads) - before <= 1


def test_other_steps_are_refused(released):
    rows = [
        released.model.request("Hi.", options=GenerationOptions(inference_timesteps=steps))
        for steps in (4, 5)
    ]
    with pytest.raises(ValueError, match="2 kinds of solver and inference_timesteps at once"):
        Batch(released.model, rows)
