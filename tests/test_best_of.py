"""Choosing among takes: the one whose text a recogniser finds likeliest is spoken."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from mlx_voxcpm2 import BestOf, GenerationOptions, Verification, speak_long
from mlx_voxcpm2.long_form.cache import SegmentCache
from mlx_voxcpm2.recognition import best_of as choosing
from mlx_voxcpm2.speech.results import Stopwatch, Take

QUICK = {"max_tokens": 3, "inference_timesteps": 2}


class Scorer:
    """Scorer that returns given means one after another, and records what it is asked."""

    def __init__(self, *means: float):
        self.means, self.asked = list(means), []

    def score(self, audio, text, language=None):
        samples, rate = audio
        assert samples.dtype == np.float32 and samples.ndim == 1 and rate == 48000
        self.asked.append(text)
        return SimpleNamespace(mean=self.means.pop(0))


def same_audio(one, other) -> bool:
    """Rows of a batch are alike but for rounding."""
    ours, theirs = np.array(one.audio), np.array(other.audio)
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() < 1e-4


def test_the_likeliest_take_is_returned_and_its_seed_makes_it_again(released):
    scorer = Scorer(-3, -1, -2)
    seconds = []
    result = released.model.speak(
        "Yes.", seed=7, best_of=BestOf(scorer, 3), progress=seconds.append, **QUICK
    )
    assert max(seconds) == pytest.approx(result.duration), "of one take"
    assert result.takes == (Take(7, -3), Take(10, -1), Take(13, -2))
    assert (result.seed, result.score, scorer.asked) == (10, -1, ["Yes."] * 3)
    assert same_audio(result, released.model.speak("Yes.", seed=10, **QUICK))
    assert not same_audio(result, released.model.speak("Yes.", seed=7, **QUICK))


def test_a_recogniser_that_cannot_score_chooses_by_the_characters_it_recognises(released):
    transcripts = iter(["good bye", "hello their", "hello where"])
    best_of = BestOf(lambda *_: next(transcripts), 3)
    result = released.model.speak("Hello there.", seed=1, best_of=best_of, **QUICK)
    assert result.seed == 7 and result.score == pytest.approx(-1 / 11)


def test_a_take_that_was_cut_off_loses_to_one_that_the_model_ended(released, monkeypatch):
    def cut_first(model, requests, *_):
        for index, request in enumerate(requests):
            reason = "stop" if index else "length"
            yield Stopwatch(48000).result(
                mx.zeros(9), 1, sequence_idx=index, seed=request.options.seed, finish_reason=reason
            )

    monkeypatch.setattr(choosing, "whole_results", cut_first)
    best_of = BestOf(Scorer(-1, -5, -9), 3)
    assert released.model.speak("Yes.", seed=1, best_of=best_of).seed == 4


def test_each_text_of_a_batch_has_its_own_number_of_takes(released):
    model, scorer = released.model, Scorer(-2, -3, -4, -9, -8, -7)
    asked = [("One.", 0, 1), ("Two.", 10, 4), ("Three.", 40, None)]
    requests = [
        replace(model.request(text, options=GenerationOptions(seed=seed, **QUICK)), takes=takes)
        for text, seed, takes in asked
    ]
    found = {r.sequence_idx: r for r in model.generate_batch(requests, best_of=BestOf(scorer, 2))}
    assert [len(found[index].takes) for index in range(3)] == [0, 4, 2]
    seeds = {index: [take.seed for take in result.takes] for index, result in found.items()}
    assert seeds == {0: [], 1: [10, 13, 16, 19], 2: [40, 43]}
    for index, (text, *_) in enumerate(asked):
        alone = model.speak(text, seed=found[index].seed, **QUICK)
        assert same_audio(found[index], alone)


def test_the_chosen_take_is_verified_and_retries_have_other_seeds(released):
    scorer, transcripts = Scorer(-1, -2, -4, -3), iter(["no", "yes"])
    result = released.model.speak(
        "Yes.",
        seed=7,
        best_of=BestOf(scorer, 2),
        verify=Verification(lambda *_: next(transcripts)),
        **QUICK,
    )
    assert [take.seed for take in result.takes] == [11, 14], "behind 7 and 10"
    assert (result.seed, result.heard) == (14, "yes")
    assert result.guards == ("retry: seed 7 was heard as 'no', 100% wrong",)


def test_each_segment_of_a_long_text_is_chosen_and_cached(released, tmp_path):
    text = "One is here, friend. [pause:0.1] Two is here."
    options = GenerationOptions(seed=5, **QUICK)

    def speak(scorer, count=2):
        cache, best_of = SegmentCache(tmp_path / "parts"), BestOf(scorer, count)
        return [
            (segment.seed, segment.score, segment.was_cached)
            for segment in speak_long(
                released.model, text, options=options, cache=cache, best_of=best_of
            )
            if segment.text
        ]

    assert speak(Scorer(-2, -1, -3, -4)) == [(8, -1, False), (11, -3, False)]
    assert speak(Scorer()) == [(8, -1, True), (11, -3, True)]
    assert [cached for *_, cached in speak(Scorer(*range(6)), 3)] == [False, False]


def test_given_noise_makes_one_take(released):
    config = released.model.config
    noise = mx.zeros((3, config.patch_size, config.feat_dim))
    result = released.model.speak("Yes.", noise=noise, best_of=BestOf(Scorer(), 4), **QUICK)
    assert result.takes == () and result.score is None


def test_the_scored_text_is_what_is_spoken(released):
    scorer = Scorer(-1, -1)
    text = "Yes [breath] {HH AY1}"
    released.model.speak(text, instruct="calm", seed=1, best_of=BestOf(scorer, 2), **QUICK)
    assert [asked.split() for asked in scorer.asked] == [["Yes"]] * 2
    result = released.model.speak("{HH AY1}", seed=1, best_of=BestOf(scorer, 2), **QUICK)
    assert result.score == 0 and len(scorer.asked) == 2, "there is nothing to recognise"


@pytest.mark.parametrize(
    ("recogniser", "line"),
    [
        (lambda *_: ["yes"], "returns a list"),
        (SimpleNamespace(score=lambda *_: "often"), "returns a str without a number"),
        (SimpleNamespace(score=lambda *_: np.float64(1)), "returns a float64 without a number"),
        (SimpleNamespace(score=lambda *_: SimpleNamespace(mean=np.nan)), "without a number"),
    ],
)
def test_unusable_scores_are_one_line_errors(released, recogniser, line):
    with pytest.raises(ValueError, match=line):
        released.model.speak("Yes.", best_of=BestOf(recogniser, 2), **QUICK)


def test_a_stream_and_counts_out_of_range_are_refused(released):
    with pytest.raises(ValueError, match="best_of needs the whole speech; leave out stream"):
        released.model.generate("Yes.", stream=True, best_of=BestOf(Scorer()))
    with pytest.raises(ValueError, match="best_of_count is 0"):
        BestOf(Scorer(), 0)


@pytest.fixture
def command(released, tmp_path, monkeypatch, run_command):
    """Runs a command in an empty folder, on a loaded model and a scorer; status and errors."""
    from mlx_voxcpm2 import cli
    from mlx_voxcpm2.commands import batch, generate
    from mlx_voxcpm2.recognition import recogniser

    monkeypatch.chdir(tmp_path)
    loaded = []
    scorer = Scorer(*range(100))
    for module in (generate, batch):
        monkeypatch.setattr(module, "load", lambda choice: released.model)
    monkeypatch.setattr(recogniser, "load_recogniser", lambda *_: loaded.append(1) or scorer)
    monkeypatch.setattr(recogniser, "check_recognition_installed", lambda _: None)
    quick = [f for name, value in QUICK.items() for f in (f"--{name}", value)]
    flags = ["--model", released.folder, "--seed", "7", *quick]

    def run(name: str, *arguments: str):
        status, _, err = run_command(cli.main, name, *arguments, *flags)
        return status, err, len(loaded)

    return run


def test_the_command_reports_all_takes(command):
    status, err, _ = command("generate", "Yes.", "--output", "a.wav", "--best_of", "3")
    assert status == 0
    assert "takes: 0.000 with seed 7, 1.000 with seed 10, 2.000 with seed 13; used is" in err
    assert "used is seed 13" in err
    status, err, _ = command(
        "generate", "Yes. [pause:0.1] No.", "--output", "b.wav", "--best_of", "2"
    )
    assert status == 0 and "takes: those used score 5.000, at worst 4.000" in err


def test_lines_of_a_batch_say_how_many_takes(command):
    lines = [{"text": "One.", "best_of": 3}, {"text": "Two."}, {"text": "Three.", "best_of": 1}]

    def run(*flags: str):
        Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        arguments = ["--input", "lines.jsonl", "--output_dir", "out", "--asr_model", "a/b"]
        status, err, loaded = command("batch", *arguments, *flags)
        assert status == 0, err
        records = map(json.loads, Path("out/summary.jsonl").read_text().splitlines())
        found = {record["line"]: record for record in records}
        return [len(found[number].get("takes", [])) for number in (1, 2, 3)], err, loaded

    takes, err, loaded = run()
    assert takes == [3, 0, 0] and loaded == 1
    assert "all 3 texts are there already" in run()[1]
    takes, err, loaded = run("--best_of", "2")
    assert takes == [3, 2, 0] and "2 were there already" in err
    assert run("--best_of", "3")[0] == [3, 3, 0]
    lines[0]["best_of"] = 100
    Path("lines.jsonl").write_text(json.dumps(lines[0]) + "\n")
    files = ["--input", "lines.jsonl", "--output_dir", "out"]
    status, err, _ = command("batch", *files)
    assert status == 2 and "best_of is 100" in err
    Path("lines.jsonl").write_text('{"text": "One."}')
    status, err, _ = command("batch", *files, "--asr_model", "a/b")
    assert status == 2 and "asr_model is given without a use; add --verify or --best_of" in err


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--best_of", "2", "--stream"], "--best_of needs the whole speech; leave out --stream"),
        (["--best_of", "0"], "best_of is 0"),
        (["--best_of", "1", "--asr_model", "a/b"], "add --transcribe or --verify or --best_of"),
    ],
)
def test_bad_flags_are_one_line_before_anything_is_loaded(command, flags, line):
    status, err, loaded = command("generate", "Yes.", "--output", "a.wav", *flags)
    assert status == 2 and line in err and err.count("\n") == 1 and not loaded


def test_streamed_segments_are_chosen_one_by_one(command):
    text = "Yes is here, friend. No is here, friend."
    flags = ["--stream", "--segment_length", "20", "--best_of", "2", "--output", "a.wav"]
    status, err, _ = command("generate", text, *flags)
    assert status == 0 and "takes: those used score" in err
