"""Voxtral computes what transformers and mistral-common do, and says what it can't."""

import json
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import voxtral_checkpoints as made
from conftest import GOLDEN

from mlx_voxcpm2 import voxtral
from mlx_voxcpm2.recognition.voxtral.decoding import Sampler, text_log_probs

NOTES = json.loads((GOLDEN / "voxtral.json").read_text(encoding="utf-8"))
VALUES = mx.load(str(GOLDEN / "voxtral.safetensors"))
SOUND = (made.sound(3.0), made.RATE)
TRANSCRIPT = NOTES["transcript"]


def golden(name: str) -> np.ndarray:
    return np.array(VALUES[name])


def near(ours, name: str, tolerance: float) -> bool:
    ours, theirs = np.array(ours), golden(name)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max()) <= tolerance


def whole(ids: list) -> list[int]:
    """Ids with the runs of [AUDIO] written out."""
    return [i for part in ids for i in ([made.AUDIO] * part[0] if type(part) is list else [part])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Folder of each variant's checkpoint."""
    root = tmp_path_factory.mktemp("voxtral")
    end = golden("own_head.end_row")
    rows = {"own_head": end, made.BRIEF: end}
    return {
        name: made.write_checkpoint(root / name, name, NOTES["ranks"], rows.get(name))
        for name in (*made.VARIANTS, made.BRIEF)
    }


@pytest.fixture(scope="module")
def models(folders) -> dict[str, voxtral.Voxtral]:
    return {name: voxtral.load(folder, dtype="float32") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def own_head(models) -> voxtral.Voxtral:
    """The variant whose transcripts end."""
    return models["own_head"]


@pytest.fixture
def stt(models) -> voxtral.Voxtral:
    """The variant with chunks of 1.2 s."""
    return models[made.BRIEF]


@pytest.fixture(scope="module", params=made.VARIANTS)
def case(request, models) -> tuple[str, voxtral.Voxtral]:
    return request.param, models[request.param]


SOUNDS = {"click": made.sound(0.01), "31s": made.sound(31.0), "quiet": made.quiet_beginning()}


@pytest.mark.parametrize("name", SOUNDS)
def test_the_spectrogram_is_whisper_s(own_head, name):
    mel = own_head.log_mel((SOUNDS[name], made.RATE)).reshape(-1, 128)
    frames = [frame for frame in NOTES["frames"] if frame < len(mel)]
    assert near(mel[frames], f"mel.{name}", 2e-4)


def test_a_silent_spectrogram_is_the_floor(own_head):
    mel = own_head.log_mel((np.zeros(100, np.float32), made.RATE))
    assert mel.shape == (1, 3000, 128) and np.allclose(mel, -1.5)


def test_every_stage_of_the_encoder_is_transformers_s(case):
    name, model = case
    mel, tower = mx.array(made.short_mel()), model.audio_tower
    x = tower.stem(mel)
    assert near(x[:, ::25], f"{name}.stem", 1e-5)
    assert near(tower.layers[0](x * 0.003)[:, ::25], f"{name}.epsilon", 8e-6)
    for i, layer in enumerate(tower.layers):
        x = layer(x)
        assert near(x[:, ::25], f"{name}.layer.{i}", 3e-5)
    assert near(tower(mel)[:, ::25], f"{name}.encoder", 3e-5)
    assert near(model.embed_audio(mel), f"{name}.projector", 3e-5)


def test_the_last_norms_have_the_epsilon_of_transformers(case):
    name, model = case
    tower, decoder = model.audio_tower, model.network.language_model.model
    small = tower.stem(mx.array(made.short_mel())) * 0.003
    assert near(tower.layer_norm(small)[:, ::25], f"{name}.encoder_norm", 2e-5)
    small = decoder.embed(mx.arange(made.SPECIALS)[None])[0] * 0.003
    assert near(decoder.norm(small), f"{name}.decoder_norm", 2e-5)


def test_two_chunks_have_the_embeddings_and_logits_of_transformers(case):
    name, model = case
    mel = model.log_mel((SOUNDS["31s"], made.RATE))
    assert near(model.embed_audio(mel)[::25], f"{name}.audio", 3e-4)
    assert near(model.logits(model.prompt(2, "en"), mel)[-3:], f"{name}.logits", 3e-4)


def test_text_alone_has_the_logits_of_transformers(case):
    name, model = case
    assert near(model.logits(model.ask_prompt(["What is said?"])), f"{name}.text", 3e-5)


def test_a_question_about_a_sound_has_the_logits_of_transformers(own_head):
    ids, mel = own_head.ask_prompt([1, "What is said?"]), own_head.log_mel(SOUND)
    assert near(own_head.logits(ids, mel)[-2:], "own_head.ask", 3e-4)


def test_prompts_are_mistral_common_s(own_head):
    for each in NOTES["prompts"]:
        assert own_head.prompt(each["chunks"], each["language"]) == whole(each["ids"])
    for each in NOTES["asks"]:
        assert own_head.ask_prompt(each["parts"]) == whole(each["ids"])


def test_a_transcript_has_transformers_s_tokens_and_ends_with_them(own_head):
    result = own_head.transcribe(SOUND, language="en")
    assert list(result.tokens) == TRANSCRIPT["tokens"]
    assert result.log_probs == pytest.approx(TRANSCRIPT["log_probs"], abs=1e-4)
    assert result.text == TRANSCRIPT["text"].strip()
    assert (result.finish_reason, result.language) == ("stop", "en")


def test_the_score_is_transformers_s_likelihood_of_text_and_end(own_head):
    score = own_head.score(SOUND, "Hello, 今天.", language="en")
    assert near(score.log_probs, "own_head.score", 3e-4)
    assert score.total == pytest.approx(sum(score.log_probs))
    assert score.mean == pytest.approx(np.mean(golden("own_head.score")), abs=1e-4)
    assert own_head.score(SOUND, " Hello, 今天.\n", language="en") == score, "spaces are no words"


def test_a_limit_cuts_a_transcript_and_is_told(stt):
    whole, cut = stt.transcribe(SOUND), stt.transcribe(SOUND, max_tokens=3)
    assert (whole.finish_reason, cut.finish_reason) == ("stop", "length")
    assert cut.tokens == whole.tokens[:3] and cut.log_probs == whole.log_probs[:3]


def test_a_stream_joins_to_the_transcript(stt):
    pieces = list(stt.stream(SOUND))
    assert len(pieces) > 1
    assert "".join(pieces) == stt.transcribe(SOUND).text


def test_the_model_is_a_recogniser(stt):
    assert stt(*SOUND) == stt.transcribe(SOUND).text


def test_tokens_are_as_probable_in_one_pass_as_one_by_one(stt):
    result = stt.transcribe(SOUND, temperature=1.5, seed=1)
    embedded = stt.network.embed(np.array(stt.prompt(3)), stt.embed_audio(stt.log_mel(SOUND)))
    found = text_log_probs(stt.network, embedded, list(result.tokens))
    assert found == pytest.approx(result.log_probs, abs=1e-4)


@pytest.mark.parametrize("name", ["_PREFILL", "_SCORED"])
def test_computing_in_smaller_parts_changes_nothing(stt, monkeypatch, name):
    before = stt.score(SOUND, "Hello, 今天.").log_probs
    monkeypatch.setattr(f"mlx_voxcpm2.recognition.voxtral.decoding.{name}", 5)
    assert stt.score(SOUND, "Hello, 今天.").log_probs == pytest.approx(before, abs=1e-4)


def test_chunks_are_encoded_in_batches_and_stay_in_order(stt, monkeypatch):
    mel = stt.log_mel(SOUND)
    whole = np.array(stt.embed_audio(mel))
    monkeypatch.setattr("mlx_voxcpm2.recognition.voxtral.model._ENCODED", 2)
    assert len(mel) == 3 and np.abs(np.array(stt.embed_audio(mel)) - whole).max() < 1e-4


def test_a_seed_gives_one_answer_and_the_nucleus_bounds_it(stt):
    def answer(**options):
        return stt.ask("What is said?", SOUND, max_tokens=8, **options).tokens

    hot = {"temperature": 1.5, "top_p": 1.0}
    assert answer(seed=3, **hot) == answer(seed=3, **hot) != answer(seed=4, **hot)
    assert answer(seed=3, temperature=1.5, top_p=0.01) == answer(temperature=0.0)


@pytest.mark.parametrize(
    ("temperature", "top_p", "drawn"),
    [
        (0.0, 1.0, {0}),
        (0.02, 1.0, {0}),
        (1.0, 0.45, {0}),
        (1.0, 0.75, {0, 1}),
        (1.0, 0.85, {0, 1, 2}),
        (2.0, 0.75, {0, 1, 2}),  # of probabilities 0.40, 0.31, 0.25, 0.04
    ],
)
def test_tokens_are_drawn_from_the_nucleus_at_the_temperature(temperature, top_p, drawn):
    logits = mx.log(mx.array([0.5, 0.3, 0.195, 0.005]))
    sampler = Sampler(temperature, top_p, seed=5)
    assert {int(sampler(logits)) for _ in range(60)} == drawn


def test_several_sounds_are_heard_in_their_order_before_the_question(stt, monkeypatch):
    asked, ask_prompt = [], stt.ask_prompt
    monkeypatch.setattr(stt, "ask_prompt", lambda parts: asked.append(parts) or ask_prompt(parts))
    options = {"max_tokens": 4, "temperature": 0.0}
    other = (made.sound(2.0, "other"), made.RATE)
    one, two = stt.log_mel(SOUND), stt.log_mel(other)
    answer = stt.ask("Same?", SOUND, other, **options)
    logits = stt.logits(stt.ask_prompt([3, 2, "Same?"]), np.concatenate([one, two]))[-1]
    assert answer.tokens[0] == int(mx.argmax(logits))
    assert asked[0] == asked[1] == [3, 2, "Same?"]


def test_a_loaded_model_in_bfloat16_is_near_the_one_in_float32(folders, stt):
    narrow = voxtral.load(folders[made.BRIEF], dtype="bfloat16")
    assert narrow.network.dtype == mx.bfloat16
    assert narrow.audio_tower.embed_positions.weight.dtype == mx.float32
    ours, exact = (np.array(m.score(SOUND, "Hello").log_probs) for m in (narrow, stt))
    assert np.abs(ours - exact).max() < 0.5


BAD_CALLS = {
    "no sound": (lambda s: s.transcribe((np.zeros(0), made.RATE)), "no samples"),
    "a sound that is not finite": (lambda s: s.transcribe((np.full(9, np.nan), 9000)), "NaN"),
    "a language in words": (lambda s: s.transcribe(SOUND, language="German"), "such as 'de'"),
    "an upper-case language": (lambda s: s.stream(SOUND, language="EN"), "two letters"),
    "no tokens": (lambda s: s.transcribe(SOUND, max_tokens=0), "max_tokens is 0"),
    "a negative temperature": (lambda s: s.transcribe(SOUND, temperature=-1.0), "temperature"),
    "an empty nucleus": (lambda s: s.ask("Who?", SOUND, top_p=0), "top_p"),
    "no text to score": (lambda s: s.score(SOUND, " \n"), "text is empty"),
    "no question": (lambda s: s.ask("", SOUND), "question is empty"),
    "another sound than the prompt's": (
        lambda s: s.logits([1, 3, 25, 24, 24, 4], s.log_mel(SOUND)),
        r"2 times \[AUDIO\] for 45 embeddings",
    ),
    "a sound without a place": (lambda s: s.logits([1, 3], s.log_mel(SOUND)), "0 times"),
    "a segment of no length": (lambda s: s.transcribe_long(SOUND, segment_seconds=0), "segment"),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_bad_input_is_refused_in_one_line(stt, what):
    call, message = BAD_CALLS[what]
    with pytest.raises(ValueError, match=message) as error:
        call(stt)
    assert "\n" not in str(error.value)


def test_a_sound_of_more_than_half_an_hour_is_refused(stt):
    with pytest.raises(ValueError, match="30 minutes; cut it, or use transcribe_long"):
        stt.transcribe((np.zeros(1801 * 1000, np.float32), 1000))


def test_more_than_the_context_is_refused(stt, monkeypatch):
    config = type(stt.network.config)
    room = property(lambda self: len(stt.prompt(3)) + 3)
    monkeypatch.setattr(config, "context_length", room)
    assert len(stt.transcribe(SOUND, max_tokens=99).tokens) == 3
    monkeypatch.setattr(config, "context_length", property(lambda self: len(stt.prompt(3))))
    with pytest.raises(ValueError, match="50 tokens, and the model's context has 50; cut the"):
        stt.transcribe(SOUND)


def test_a_long_recording_is_transcribed_in_segments_with_their_times(stt):
    samples = np.tile(SOUND[0], 3)
    segments = list(stt.transcribe_long((samples, made.RATE), "en", segment_seconds=4.0))
    assert [segments[0].start, segments[-1].end] == [0.0, 9.0]
    for one, two in pairwise(segments):
        assert one.end == two.start and one.end - one.start <= 4.0
    first = samples[: round(segments[0].end * made.RATE)]
    assert segments[0].text == stt.transcribe((first, made.RATE), "en").text
    assert segments[-1].duration == 9.0


def test_an_untrained_language_is_passed_on_with_one_warning(stt, caplog):
    for _ in range(2):
        assert stt.prompt(1, "zu")[-1] == stt.prompts.control.transcribe
    assert [record.message.count("zu") for record in caplog.records] == [1]
