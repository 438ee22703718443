"""The pass over a prompt: a reference is read once, for all texts that follow in that voice."""

import mlx.core as mx
import pytest
from conftest import GOLDEN, relative_error

from mlx_voxcpm2 import load_model
from mlx_voxcpm2.layers.kv_cache import KVCache, Prefixes
from mlx_voxcpm2.models.voxcpm2.network import VoxCPM2Model
from mlx_voxcpm2.speech.batch import Batch
from mlx_voxcpm2.speech.prompt import Prompt

TEXTS = ("One.", "And a second text, which is longer.")
QUICK = {"seed": 3, "inference_timesteps": 2, "max_tokens": 3, "min_tokens": 3}


@pytest.fixture
def model(released):
    released.model.prefixes.clear()
    return released.model


@pytest.fixture
def read(monkeypatch) -> list[tuple[int, int]]:
    """(rows, positions) of each pass that reads more than one position."""
    passes, call = [], VoxCPM2Model.__call__

    def recorded(self, embeddings, *args, **kwargs):
        if embeddings.shape[1] > 1:
            passes.append(embeddings.shape[:2])
        return call(self, embeddings, *args, **kwargs)

    monkeypatch.setattr(VoxCPM2Model, "__call__", recorded)
    return passes


def reference(model, number: int, patches: int) -> mx.array:
    shape = (patches, model.config.patch_size, model.config.feat_dim)
    return mx.random.normal(shape, key=mx.random.key(number))


def sound(model, text: str, **settings) -> mx.array:
    return model.speak(text, **QUICK, **settings).audio


def behind_reference(model, text: str) -> int:
    return len(model.tokenize(text)) + 1


def test_a_second_text_in_a_voice_reads_the_text_only(model, read):
    clip = reference(model, 0, 20)
    for text in TEXTS:
        sound(model, text, ref_audio=clip)
    first, second = (behind_reference(model, text) for text in TEXTS)
    assert read == [(1, 22), (1, first), (1, second)]


def test_a_clip_that_is_encoded_again_is_the_same_reference(model, read, released):
    clip = released.waveform("ref")
    for _ in range(2):
        sound(model, TEXTS[0], ref_audio=clip)
    assert len(read) == 3 and read[1] == read[2]


def test_references_that_begin_alike_are_not_the_same(model, read):
    clip = reference(model, 0, 20)
    for other in (clip, mx.concatenate([clip[:-1], -clip[-1:]])):
        sound(model, TEXTS[0], ref_audio=other)
    assert [positions for _, positions in read].count(22) == 2


def test_a_seed_gives_the_same_bits_whether_the_reference_was_read_before(model):
    clip = reference(model, 1, 20)
    first = sound(model, TEXTS[0], ref_audio=clip)
    sound(model, TEXTS[1], ref_audio=clip)
    assert mx.array_equal(sound(model, TEXTS[0], ref_audio=clip), first)


def test_texts_of_a_batch_read_their_reference_once_and_its_end_with_the_longest_text(model, read):
    clip = reference(model, 2, 30)
    alone = [sound(model, text, ref_audio=clip) for text in TEXTS]
    model.prefixes.clear()
    read.clear()
    requests = [model.request(text, ref_audio=clip, **QUICK) for text in TEXTS]
    results = sorted(model.generate_batch(requests), key=lambda each: each.sequence_idx)
    assert read == [(1, 32), (2, behind_reference(model, TEXTS[1]))]
    for result, single in zip(results, alone, strict=True):
        assert relative_error(result.audio, single) < 1e-4


def test_rows_of_unlike_references_and_texts_have_the_results_that_they_have_alone(model):
    wanted = [(TEXTS[0], None), (TEXTS[1], 40), (TEXTS[0], 5), (TEXTS[1], None), (TEXTS[0], 40)]
    voices = [
        {} if size is None else {"ref_audio": reference(model, size, size)} for _, size in wanted
    ]
    texts = [text for text, _ in wanted]
    alone = [sound(model, text, **voice) for text, voice in zip(texts, voices, strict=True)]
    requests = [
        model.request(text, **QUICK, **voice) for text, voice in zip(texts, voices, strict=True)
    ]
    for result in model.generate_batch(requests):
        assert relative_error(result.audio, alone[result.sequence_idx]) < 1e-4


def test_a_text_longer_than_a_row_of_another_reads_that_row_whole(model, read):
    requests = [
        model.request(TEXTS[0], ref_audio=reference(model, 3, 2), **QUICK),
        model.request(TEXTS[1] * 2, **QUICK),
    ]
    assert Batch(model, requests).cache[0][0].offset == behind_reference(model, TEXTS[1] * 2)
    assert read == [(1, 4), (2, behind_reference(model, TEXTS[1] * 2))]


@pytest.mark.parametrize("change", ["adapter", "update", "strength"])
def test_references_are_read_again_after_the_weights_have_changed(released, change):
    model = load_model(released.folder, dtype="float32")
    clip, adapter = reference(model, 4, 10), GOLDEN / "adapters" / "official"
    if change == "strength":
        model.load_adapter(adapter)
    sound(model, TEXTS[0], ref_audio=clip)
    if change == "adapter":
        model.load_adapter(adapter)
    elif change == "strength":
        model.set_adapter_strength(0.5)
    else:
        model.update({"base_lm": {"norm": {"weight": 1.5 * model.base_lm.norm.weight}}})
    changed = sound(model, TEXTS[0], ref_audio=clip)
    model.prefixes.clear()
    assert mx.array_equal(sound(model, TEXTS[0], ref_audio=clip), changed)


def cache_of(positions: int) -> list[list[KVCache]]:
    cache = KVCache()
    cache.update(mx.zeros((1, 1, positions, 2)), mx.zeros((1, 1, positions, 2)))
    return [[cache]]


def test_the_beginnings_used_last_are_stored_up_to_a_number_of_positions():
    prefixes, made = Prefixes(limit=10), []

    def get(name: str, positions: int) -> None:
        def read():
            made.append(name)
            return cache_of(positions)

        assert prefixes.get(name, read)[0][0].offset == positions

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name, 4)
    assert made == ["a", "b", "c", "b"]
    for name, positions in (("too long", 11), ("a", 4), ("too long", 11)):
        get(name, positions)
    assert made[4:] == ["too long", "too long"]


def test_a_part_of_a_sequence_has_the_patches_of_its_audio_positions():
    reference, prompt = mx.arange(3.0).reshape(3, 1, 1), mx.arange(3.0, 5.0).reshape(2, 1, 1)
    whole = Prompt.build([7, 8], reference, prompt)
    assert whole.reference_positions == 5 and len(whole.tokens) == 10
    part = whole.positions_between(2, 9)
    assert part.is_audio == [True, True, False, False, False, False, True]
    assert part.patches.flatten().tolist() == [1, 2, 3]
    assert whole.positions_between(4, 8).patches is None
