"""Manifest lines are read as upstream reads them, and errors name the line."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from mlx_voxcpm2.training.manifest import Limits, read_manifest, summary
from mlx_voxcpm2.training.manifest_line import Line

SPEECH = (0.5 * np.sin(np.arange(16000) * 0.05)).astype(np.float32)


@pytest.fixture
def clips_folder(tmp_path):
    """Folder with clips of a second at 16 kHz, for a manifest."""
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", SPEECH, 16000)
    return tmp_path


def write(folder, *lines, name="train.jsonl"):
    """A manifest of objects, or of lines given as text."""
    path = folder / name
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def good(**changes) -> dict:
    return {"audio": "a.wav", "text": "one"} | changes


def problems(folder, *lines, **arguments) -> list[tuple]:
    _, found = read_manifest(write(folder, *lines), **arguments)
    return [(problem.number, problem.severity, problem.message) for problem in found]


def only_problem(folder, *lines, **arguments) -> tuple:
    found = problems(folder, *lines, **arguments)
    assert len(found) == 1, found
    return found[0]


def test_every_field_of_a_line_is_read(clips_folder):
    path = write(
        clips_folder,
        {"audio": "a.wav", "text": "one", "duration": 1.0, "dataset_id": 3},
        "",
        {"audio": "b.wav", "text": " 二\n", "ref_audio": "c.wav", "is_prompt": True},
        {"audio": {"path": "c.wav"}, "text": "3", "ref_audio": None, "is_prompt": None},
        "  \t",
    )
    lines = [
        Line(1, clips_folder / "a.wav", "one"),
        Line(3, clips_folder / "b.wav", " 二\n", clips_folder / "c.wav", True),
        Line(4, clips_folder / "c.wav", "3"),
    ]
    assert read_manifest(path) == (lines, [])


def test_paths_start_from_the_manifest_then_from_the_working_directory(
    clips_folder, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(clips_folder))
    for name in ("a.wav", "d.wav"):
        shutil.copy(clips_folder / "b.wav", elsewhere / name)
    path = write(clips_folder, *(good(audio=name) for name in ("a.wav", "d.wav", "~/c.wav")))
    found = [line.audio.resolve() for line in read_manifest(path)[0]]
    assert found == [clips_folder / "a.wav", elsewhere / "d.wav", clips_folder / "c.wav"]
    absolute = write(elsewhere, good(audio=str(clips_folder / "a.wav")))
    assert read_manifest(absolute)[0][0].audio == clips_folder / "a.wav"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_byte_order_mark_and_either_line_ending_are_accepted(ending, clips_folder):
    path = clips_folder / "train.jsonl"
    lines = [json.dumps(good(text="a\u2028b"), ensure_ascii=False), json.dumps(good())]
    path.write_bytes(b"\xef\xbb\xbf" + (ending.join(lines) + ending).encode())
    assert [line.text for line in read_manifest(path)[0]] == ["a\u2028b", "one"]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_any_sample_rate_and_channel_count_is_accepted(rate, clips_folder):
    soundfile.write(clips_folder / "a.wav", np.stack([SPEECH, SPEECH], axis=1), rate)
    limits = Limits(min_seconds=16000 / rate - 0.01, max_seconds=16000 / rate + 0.01)
    assert problems(clips_folder, good(), limits=limits) == []
    assert problems(clips_folder, good(), limits=Limits(9, 10))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{audio: 1}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["a.wav", "one"]', "JSON of type list"),
        ("null", "JSON of type NoneType"),
        ({"text": "one"}, "audio is missing"),
        ({"audio": "a.wav"}, "text is missing"),
        (good(text=None), "text is missing"),
        (good(text=7), "text is of type int"),
        (good(text=" \n"), "text is empty"),
        ('{"audio": "a.wav", "text": "\\ud83d"}', "text holds half"),
        (good(audio=7), "audio is no path"),
        (good(audio=""), "audio is no path"),
        (good(audio={"array": []}), "audio is no path"),
        (good(ref_audio=""), "ref_audio is no path"),
        (good(is_prompt="no"), "is_prompt is 'no'"),
    ],
)
def test_the_error_names_a_bad_line(line, message, clips_folder):
    number, severity, said = only_problem(clips_folder, good(), line)
    assert (number, severity) == (2, "error")
    assert said.startswith(message) and "\n" not in said


@pytest.mark.parametrize("field", ["audio", "ref_audio"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.wav", "no file"),
        ("folder", "is a folder"),
        ("empty.wav", "is empty"),
        ("text.wav", "cannot be read as audio"),
        ("no_samples.wav", "there are no samples"),
        ("nan.wav", "NaN or infinite"),
        ("silent.wav", "only silence"),
        ("dither.wav", "only silence"),
        ("nul\0.wav", "cannot be read"),
        ("x" * 300, "cannot be read"),
    ],
)
def test_audio_that_cannot_be_used_is_an_error(field, name, message, clips_folder):
    (clips_folder / "folder").mkdir()
    (clips_folder / "empty.wav").touch()
    (clips_folder / "text.wav").write_text("speech")
    soundfile.write(clips_folder / "no_samples.wav", SPEECH[:0], 16000)
    soundfile.write(clips_folder / "nan.wav", np.append(SPEECH, np.nan), 16000, "FLOAT")
    soundfile.write(clips_folder / "silent.wav", 0 * SPEECH, 16000)
    soundfile.write(clips_folder / "dither.wav", SPEECH / 2**14, 16000)
    number, severity, said = only_problem(clips_folder, good(audio="b.wav") | {field: name})
    assert (number, severity) == (1, "error")
    assert said.startswith(f"{field} {name!r}: ") and message in said and "\n" not in said


def test_a_quiet_clip_is_not_silent(clips_folder):
    soundfile.write(clips_folder / "a.wav", SPEECH / 1000, 16000)
    assert problems(clips_folder, good()) == []


@pytest.mark.parametrize("field", ["audio", "ref_audio"])
def test_unusual_lengths_are_warnings(field, clips_folder):
    def said(samples, **arguments):
        soundfile.write(clips_folder / "d.wav", np.resize(SPEECH, samples), 16000)
        return problems(clips_folder, good() | {field: "d.wav"}, **arguments)

    assert said(4800) == said(480_000) == []
    [(_, severity, message)] = said(4799)
    assert severity == "warning" and message.startswith(f"{field} lasts 0.2999 s, less than 0.3 s")
    [(_, severity, message)] = said(480_160)
    assert severity == "warning" and message.startswith(f"{field} lasts 30.01 s, more than 30 s")
    limits = Limits(min_seconds=0.5, max_seconds=2)
    assert said(8000, limits=limits) == said(32000, limits=limits) == []
    assert len(said(7999, limits=limits)) == len(said(32001, limits=limits)) == 1


def test_a_line_too_long_for_the_model_is_an_error(clips_folder, released):
    model = released.model
    soundfile.write(clips_folder / "d.wav", SPEECH[: 3 * 2560 + 1], 16000)
    plain, cloned = good(), good(text="two words", ref_audio="d.wav")
    needs = len(model.tokenize("one")) + 2 + 7
    needs_too = len(model.tokenize("two words")) + 2 + 7 + 4 + 2

    def said(line, limit):
        return problems(clips_folder, line, model=model, limits=Limits(max_positions=limit))

    assert said(plain, needs) == said(cloned, needs_too) == []
    for line, needed in ((plain, needs), (cloned, needs_too)):
        [(number, severity, message)] = said(line, needed - 1)
        assert (number, severity) == (1, "error")
        assert f"{needed} positions, 1 more than the {needed - 1} " in message
    too_long = good(text="word " * model.config.context_length)
    assert "positions" in only_problem(clips_folder, too_long, model=model)[2]
    assert len(said(too_long, 10**6)) == 1
    assert problems(clips_folder, too_long) == []


def test_a_duplicate_line_is_a_warning(clips_folder):
    lines = [good(), good(text="two"), good(audio="b.wav"), good(ref_audio="b.wav"), good()]
    assert only_problem(clips_folder, *lines)[:2] == (5, "warning")
    assert "line 1;" in only_problem(clips_folder, *lines)[2]
    number, _, message = only_problem(clips_folder, *lines, *lines[1:3])
    assert number == 5 and "line 1 (and there are 2 more lines);" in message


def test_a_clip_as_its_own_reference_is_a_warning(clips_folder):
    number, severity, message = only_problem(clips_folder, good(ref_audio="./a.wav"))
    assert (number, severity) == (1, "warning") and "itself" in message


def test_unused_fields_are_named_once(clips_folder):
    lines = [good(), *(good(text=str(i), ref_adio="b.wav") for i in range(3))]
    number, severity, message = only_problem(clips_folder, *lines)
    assert (number, severity) == (2, "warning")
    assert "'ref_adio'" in message and "2 more lines" in message and "ref_audio" in message


def test_every_bad_line_is_listed_in_order(clips_folder):
    wrong = {"text": 3, "ref_audio": "x.wav"}
    lines = ["{", good(extra=1), good(text=""), wrong, "", good(audio="x.wav"), good()]
    found = problems(clips_folder, *lines)
    assert [number for number, _, _ in found] == [1, 2, 3, 4, 4, 4, 6, 7]
    assert [number for number, severity, _ in found if severity == "warning"] == [2, 7]


def test_the_summary_names_the_first_bad_line_and_their_count(clips_folder):
    path = write(clips_folder, good(), good(), {"text": 3}, good(audio="x.wav"), good(text="ok"))
    message = summary(path, *read_manifest(path))
    assert message.startswith(f"{path}: line 3: audio is missing")
    assert message.endswith("(2 of 5 lines cannot be used)") and "\n" not in message


def test_a_line_that_is_not_utf_8_is_an_error(clips_folder):
    path = write(clips_folder, good(text="eins"), good(text="zw"))
    path.write_bytes(path.read_bytes().replace(b"zw", "zwölf".encode("latin-1")))
    _, [problem] = read_manifest(path)
    assert (problem.number, problem.severity) == (2, "error")
    assert str(problem) == "line 2: not UTF-8 text; save the manifest as UTF-8"


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff\n"])
def test_an_empty_manifest_is_an_error(content, clips_folder):
    path = write(clips_folder, content)
    _, [problem] = read_manifest(path)
    assert (problem.number, problem.severity) == (0, "error")
    assert str(problem).startswith("there is nothing in it; ")


def test_a_manifest_that_is_no_file_is_refused(clips_folder):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: no such file; check the path"):
        read_manifest(clips_folder / "none.jsonl")
    with pytest.raises(ValueError, match="is a folder; give a file"):
        read_manifest(clips_folder)


def test_a_clip_of_many_lines_is_read_once(clips_folder, monkeypatch):
    from mlx_voxcpm2.training import manifest

    read, names = manifest.read_audio, []
    monkeypatch.setattr(
        manifest, "read_audio", lambda path, *rest: names.append(path.name) or read(path, *rest)
    )
    lines = [good(text=str(i), ref_audio="b.wav") for i in range(3)] + [good(audio="x.wav")] * 2
    problems(clips_folder, *lines)
    assert sorted(names) == ["a.wav", "b.wav", "x.wav"]


@pytest.mark.parametrize(
    "wrong", [{"min_seconds": -1}, {"min_seconds": 31}, {"max_seconds": 0}, {"max_positions": 0}]
)
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)
