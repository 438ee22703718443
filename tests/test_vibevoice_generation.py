"""Dialogues as a stream, in batches, with seeds, limits and saved voices."""

import mlx.core as mx
import numpy as np
import pytest
import vibevoice_checkpoints as tiny

from mlx_voxcpm2 import vibevoice
from mlx_voxcpm2.layers.compiled import FUSION

SHORT = "Speaker 1: Hi."


@pytest.fixture(autouse=True)
def without_kernels(plain_kernels):
    """Without fused kernels, each of which takes g++ a second."""


@pytest.fixture
def speaker(make_dialogue):
    """The variant whose own tokens make three segments."""
    return make_dialogue("wide")


def samples(result) -> np.ndarray:
    return np.array(result.audio)


def same(ours, theirs) -> bool:
    return len(ours) == len(theirs) and bool(np.abs(ours - theirs).max() < 2e-6)


def test_a_stream_gives_each_frame_and_says_how_it_ended(speaker):
    settings = {"noise": speaker.noise, "inference_timesteps": 3, "sample": False, "level": False}
    whole = speaker.model.speak(tiny.SCRIPT, speaker.voices, **settings)
    chunks = list(speaker.model.generate(tiny.SCRIPT, speaker.voices, stream=True, **settings))
    assert {len(samples(chunk)) for chunk in chunks} == {speaker.model.hop}
    assert same(np.concatenate([samples(chunk) for chunk in chunks]), samples(whole))
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_rows_of_a_batch_are_what_they_are_alone(speaker):
    """Rows that begin segments, pause and end at different steps."""
    requests = [(tiny.SCRIPT, speaker.voices), (SHORT, ()), (PAIR, speaker.voices[:1])]
    settings = {"seed": 3, "inference_timesteps": 2, "max_tokens": 12}
    alone = [speaker.model.speak(*request, **settings) for request in requests]
    found = list(speaker.model.generate_batch(requests, batch_size=3, **settings))
    assert sorted(result.sequence_idx for result in found) == [0, 1, 2]
    for result in found:
        other = alone[result.sequence_idx]
        assert same(samples(result), samples(other))
        assert result.finish_reason == other.finish_reason


PAIR = "Speaker 1: One.\nSpeaker 2: Two, three."


def test_forced_rows_pause_and_restart_apart(speaker):
    """Each row of a batch keeps its own negative branch and codec state."""
    chains = ("DDESDDX", "SDDEDDDX")
    prompt = speaker.notes["wide"]["prompts"][2]
    clip, rate = speaker.voices[0]
    features = speaker.features([(clip[: 2 * speaker.model.hop], rate)])
    alone = [speaker.steps(prompt, features, chain) for chain in chains]
    together = speaker.together(prompt, features, chains)
    for ours, theirs in zip(together, alone, strict=True):
        spoken = [(a, b) for a, b in zip(ours, theirs, strict=True) if b.audio is not None]
        assert spoken
        assert all(same(np.array(a.audio), np.array(b.audio)) for a, b in spoken)


def test_a_seed_makes_the_same_dialogue_again(speaker):
    def speak(**settings):
        return speaker.model.speak(PAIR, speaker.voices[:1], inference_timesteps=2, **settings)

    first = speak(max_tokens=5)
    assert np.array_equal(samples(speak(seed=first.seed, max_tokens=5)), samples(first))
    other = samples(speak(seed=first.seed + 1, max_tokens=5))
    assert len(other) != len(samples(first)) or not np.array_equal(other, samples(first))


def test_a_limit_that_is_reached_is_reported(speaker):
    prompt = len(speaker.model.prompt(SHORT))
    endless = {"noise": mx.zeros((2 * prompt, 7)), "inference_timesteps": 1, "cfg_value": 1.0}
    result = speaker.model.speak(SHORT, **endless, max_tokens=1)
    assert (result.finish_reason, result.token_count) == ("length", 1)
    builder = speaker.model.request_builder
    assert builder.limit(range(prompt), None) == 2 * prompt
    assert builder.limit(range(300), None) == tiny.POSITIONS - 300
    assert builder.limit(range(300), 10**6) == tiny.POSITIONS - 300


def test_close_stops_a_stream(speaker):
    stream = speaker.model.generate(PAIR, stream=True, seed=1, max_tokens=9)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_a_saved_voice_speaks_as_its_clip(speaker, voice_folder):
    voice = speaker.model.make_voice(speaker.voices[0], "calm")
    voice.save("anna")
    saved = vibevoice.Voice.load("anna")
    settings = {"seed": 5, "inference_timesteps": 2, "max_tokens": 3}
    clip = speaker.model.speak(SHORT, speaker.voices[:1], **settings)
    for given in (saved, str(voice_folder / "anna.safetensors")):
        assert same(samples(speaker.model.speak(SHORT, [given], **settings)), samples(clip))
    assert (saved.name, saved.description) == ("anna", "calm")


def test_voices_are_kept_apart_by_their_encoders(speaker, make_dialogue, anna_folder):
    with pytest.raises(ValueError, match="is a voice for 'voxcpm2', this model is vibevoice"):
        vibevoice.Voice.load(anna_folder / "voices" / "anna.safetensors")
    foreign = make_dialogue("tiny").model.make_voice(speaker.voices[0])
    with pytest.raises(ValueError, match="made with another encoder"):
        speaker.model.generate(SHORT, [foreign])


def test_sampled_voices_spread_around_their_mean(speaker):
    clip = speaker.voices[1]
    mean = speaker.model.encode_voice(clip, sample=False)
    drawn = [np.array(speaker.model.encode_voice(clip, seed=seed)) for seed in range(80)]
    spread = np.std(drawn, axis=0).mean() / speaker.sizes["scale"]
    assert 0.5 < spread < 0.75  # 0.625 of a normal number times a normal number
    assert np.abs(np.mean(drawn, axis=0) - np.array(mean)).max() < 0.25
    assert np.array_equal(drawn[3], np.array(speaker.model.encode_voice(clip, seed=3)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inference_timesteps": 0}, "inference_timesteps is 0"),
        ({"inference_timesteps": 101}, "inference_timesteps is 101"),
        ({"cfg_value": float("nan")}, "cfg_value is nan"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"noise": np.zeros((3, 5))}, "noise has shape"),
        ({"voices": "a.wav"}, "voices must be a list"),
        ({"voices": [(np.zeros(500, np.float32), 24000)]}, "nothing but silence"),
        ({"voices": [(np.zeros(0, np.float32), 24000)]}, "no samples"),
        ({"voices": [mx.zeros((3, 5))]}, "give what encode_voice returns"),
        ({"voices": [mx.zeros((600, 7))]}, "positions; shorten"),
    ],
)
def test_bad_input_is_refused_in_one_line(speaker, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        speaker.model.generate(SHORT, **settings)
    assert "\n" not in str(error.value)


def test_an_unknown_setting_gets_a_hint(speaker):
    with pytest.raises(TypeError, match="did you mean cfg_value"):
        speaker.model.generate(SHORT, cfg_valeu=1.5)


def test_noise_that_ends_is_an_error(speaker):
    with pytest.raises(ValueError, match="noise has 1 rows"):
        speaker.steps(speaker.model.prompt(SHORT), [], "DD", noise=speaker.noise[:1])


def test_losses_need_voices_that_fit(speaker):
    clips = [clip for clip, _ in speaker.voices]
    noise, timesteps = mx.zeros((4, 7)), mx.zeros((4,), mx.int32)
    prompt, target = speaker.notes["wide"]["prompt"], clips[0][: speaker.model.hop]
    with pytest.raises(ValueError, match="the prompt has places for"):
        speaker.model.loss(prompt, clips[:1], target, noise=noise, timesteps=timesteps)
    with pytest.raises(ValueError, match="timesteps must be from 0 to 999"):
        speaker.model.loss(prompt, clips, target, noise=noise, timesteps=timesteps + 1000)


def test_loading_leaves_the_process_as_it_was(speaker):
    vibevoice.load(speaker.folder, dtype="float32")
    assert not FUSION.is_on
