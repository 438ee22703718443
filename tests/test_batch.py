"""Batches: each request has the result that it has alone, and joins and leaves at any step."""

import mlx.core as mx
import numpy as np
import pytest
from conftest import relative_error

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.layers.kv_cache import KVCache
from mlx_voxcpm2.speech.batch import Batch
from mlx_voxcpm2.speech.generation import stream_audio
from mlx_voxcpm2.speech.options import GenerationOptions
from mlx_voxcpm2.speech.scheduler import Scheduler

STEPS = {"inference_timesteps": 4}
# Mode, text and options: lengths, voices, guidance and limits all differ. Few patches, since on
# random weights a difference in rounding doubles with each patch.
ROWS = (
    ("zero_shot", "Hi.", {"seed": 1, "max_tokens": 6, "cfg_value": 1.2}),
    ("reference", "A much longer text, which begins long before.", {"seed": 2, "max_tokens": 2}),
    ("continuation", "你好", {"seed": 3, "max_tokens": 5, "temperature": 0.5}),
    ("combined", "Goodbye then.", {"seed": 4, "max_tokens": 7, "cfg_value": 3.0}),
    ("design", "One.", {"seed": 5, "max_tokens": 4}),
)


def requests(case) -> list:
    """One request for each of ROWS."""
    found = []
    for mode, text, options in ROWS:
        arguments = case.arguments(mode) | {"text": text}
        options = GenerationOptions(min_tokens=20, **options, **STEPS)
        found.append(case.model.request(options=options, **arguments))
    return found


def speak(model, rows, batch_size=99) -> tuple[list[mx.array], list[str]]:
    """Audio of each row, and its finish reason."""
    return by_row(stream_audio(model, rows, batch_size=batch_size), len(rows))


def by_row(stream, rows: int) -> tuple[list[mx.array], list[str]]:
    sounds, reasons = [[] for _ in range(rows)], [None] * rows
    for chunks in stream:
        for chunk in chunks:
            assert reasons[chunk.number] is None
            sounds[chunk.number].append(chunk.audio)
            reasons[chunk.number] = chunk.finish_reason
    return [mx.concatenate(chunks) for chunks in sounds], reasons


def test_each_row_has_the_result_it_has_alone(case):
    """Every configuration is tested; the longest prompts finish first, in between and last."""
    alone = [speak(case.model, [row])[0][0] for row in requests(case)]
    for batch_size in (len(ROWS), 2):
        together, reasons = speak(case.model, requests(case), batch_size)
        assert reasons == ["length"] * len(ROWS)
        for sound, single, (_, _, options) in zip(together, alone, ROWS, strict=True):
            assert len(sound) == options["max_tokens"] * case.model.patch_samples
            assert relative_error(sound, single) < 1e-4


def test_rows_can_join_at_any_step(released, monkeypatch):
    """One row alone, several at once, and rows after all others have finished; caches grow."""
    monkeypatch.setattr(KVCache, "block", 4)
    rows, sizes = [*requests(released), *requests(released)], []
    # Step of each arrival: the third finds two active rows, the sixth none, the last ones one.
    arrivals = [0, 1, 3, 3, 4, 15, 16, 18, 21, 21]
    waiting = []
    scheduler = Scheduler(released.model, lambda: waiting.pop(0) if waiting else None, 4)

    def steps():
        for step in range(40):
            waiting.extend(row for row, at in zip(rows, arrivals, strict=True) if at == step)
            yield scheduler.step()
            sizes.append(len(scheduler.numbers))

    together, reasons = by_row(steps(), len(rows))
    assert reasons == ["length"] * len(rows)
    assert max(sizes) == 4 and 0 in sizes[5:15] and sizes[-1] == 0
    for row, sound in zip(requests(released) * 2, together, strict=True):
        (alone,), _ = speak(released.model, [row])
        assert relative_error(sound, alone) < 1e-4


def test_free_places_are_filled_at_once_and_new_prompts_prefilled_together(released, monkeypatch):
    """Rows of 6, 2, 5, 7, 4 patches: steps 0-6, 6-13 in one place, 0-2, 2-7, 7-11 in the other."""
    drawn, read = [], []

    def record_rows(name: str, counts: list[int]):
        method = getattr(released.model, name)

        def spy(rows, *others):
            counts.append(len(rows))
            return method(rows, *others)

        monkeypatch.setattr(released.model, name, spy, raising=False)

    record_rows("sample_patch", drawn)
    record_rows("embed", read)
    speak(released.model, requests(released), batch_size=2)
    assert drawn == [2] * 11 + [1] * 2 and read == [2, 1, 1, 1]
    read.clear()
    speak(released.model, requests(released), batch_size=3)
    assert read == [3, 1, 1]
    read.clear()
    same = [requests(released)[0] for _ in range(6)]
    speak(released.model, same, batch_size=3)
    assert read == [3, 3]


def test_a_long_row_frees_its_cache(released, monkeypatch):
    """Caches are as long as the longest active row; memory does not grow with the rows."""
    monkeypatch.setattr(KVCache, "block", 4)
    model, used = released.model, []

    def rows():
        for index in range(60):
            text = "the " * (300 if index == 3 else 1 + index % 5)
            patches = 3 + index % 4
            options = GenerationOptions(
                seed=1, min_tokens=20, max_tokens=patches, inference_timesteps=1
            )
            yield model.request(text, options=options)

    waiting = rows()
    scheduler = Scheduler(model, lambda: next(waiting, None), 3)
    for chunks in scheduler.chunks():
        mx.eval([chunk.audio for chunk in chunks])
        if scheduler.batch is None:
            continue
        longest = max(
            len(row.request.prompt.tokens) + row.patches - 1 for row in scheduler.batch.rows
        )
        for stack in scheduler.batch.cache:
            for layer in stack:
                assert layer.offset == longest
                assert layer.keys.shape[2] < longest + 4
        used.append(mx.get_active_memory())
    assert len(used) > 80
    assert max(used[40:]) < max(used[:10]) and max(used[-20:]) < 1.05 * max(used[30:50])


def test_requests_with_other_step_counts_wait_for_earlier_ones(released):
    """Requests are admitted in order, so that every request is admitted at some step."""
    rows = []
    for text, solver, steps in (
        ("One.", "euler", 4),
        ("Two of them.", "euler", 4),
        ("Three.", "adams", 4),
        ("Four of us.", "adams", 3),
        ("Five.", "euler", 4),
    ):
        options = GenerationOptions(
            seed=1, min_tokens=9, max_tokens=3, solver=solver, inference_timesteps=steps
        )
        rows.append(released.model.request(text, options=options))
    stream = list(stream_audio(released.model, rows, batch_size=4))
    assert [[chunk.number for chunk in chunks] for chunks in stream] == (
        [[0, 1]] * 3 + [[2]] * 3 + [[3]] * 3 + [[4]] * 3
    )
    sounds, _ = by_row(stream, len(rows))
    for row, sound in zip(rows, sounds, strict=True):
        (alone,), _ = speak(released.model, [row])
        assert relative_error(sound, alone) < 1e-4


def test_a_row_in_a_batch_matches_the_official_package(released):
    """The noise is that of the golden run."""
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


def test_a_row_stops_by_its_own_stop_head(released, monkeypatch):
    """The stop head counts from the patch after `min_tokens` on, which each row sets for itself."""
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


def test_padding_is_never_attended_to(released):
    """True for any values in the padding, and for prompts prefilled in chunks."""
    model = released.model
    x = released.given("cache", 1, 40, released.config["lm_config"]["hidden_size"])
    wanted = model.base_lm(x[:, 13:])
    # Attention over nothing is not a number on some backends.
    assert model.base_lm.make_cache([0, 13])[0].mask(20).any(axis=-1).all().item()
    for filler in (0.0, 1e4):
        filled = mx.concatenate([mx.full((1, 13, x.shape[-1]), filler), x[:, 13:]], axis=1)
        cache = model.base_lm.make_cache([0, 13])
        both = mx.concatenate([x, filled])
        chunks = [model.base_lm(both[:, a:b], cache) for a, b in ((0, 7), (7, 30), (30, 39))]
        for layer in cache:
            layer.select([1])
        assert cache[0].offset == 26 and not cache[0].padding
        chunks = [chunk[1:] for chunk in chunks] + [model.base_lm(both[1:, 39:], cache)]
        hidden = mx.concatenate(chunks, axis=1)
        assert np.isfinite(np.array(hidden)).all()
        assert relative_error(hidden[:, 13:], wanted) < 1e-5


def test_both_rope_implementations_agree_for_rows_at_different_positions(released):
    """The implementations are `mx.fast.rope`, which GPUs use, and the table."""
    rope = released.model.base_lm.rope
    x, starts = released.given("rope", 3, 2, 5, rope.size), mx.array([0, 7, 100])
    fast = mx.fast.rope(
        x, rope.size, traditional=False, base=None, scale=1.0, offset=starts, freqs=rope.periods
    )
    assert relative_error(rope(x, starts), fast) < 1e-5
    for row, start in enumerate((0, 7, 100)):
        assert relative_error(rope(x[row : row + 1], start), rope(x, starts)[row : row + 1]) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_batch_of_sixteen_bit_weights_stays_in_sixteen_bits(make_case, dtype):
    case = make_case("long_rope")
    model = load_model(case.folder, dtype=dtype)
    batch = Batch(
        model,
        [model.request(text, options=GenerationOptions(**STEPS)) for text in ("Hi.", "Hi you.")],
    )
    dtypes = set()
    for _ in range(2):
        dtypes |= {batch.draw().dtype, batch.hidden.dtype, batch.residual.dtype}
        batch.end()
    dtypes |= {layer.keys.dtype for stack in batch.cache for layer in stack}
    assert dtypes == {getattr(mx, dtype)}


def test_a_patch_of_many_rows_synchronises_once(released, monkeypatch):
    """All stop decisions are read together."""
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


def test_a_batch_with_two_step_counts_is_refused(released):
    rows = [
        released.model.request("Hi.", options=GenerationOptions(inference_timesteps=steps))
        for steps in (4, 5)
    ]
    with pytest.raises(ValueError, match="2 combinations of solver, inference_timesteps and fast"):
        Batch(released.model, rows)
