"""Saved voices: each sounds as its clip does, or is refused."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from mlx.utils import tree_map
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from voice_clips import RATE, USUAL, speech

from mlx_voxcpm2 import GenerationOptions, Voice, list_voices, load_model
from mlx_voxcpm2.load import load_lazily
from mlx_voxcpm2.voices.folder import voice_file, voice_files, voices_folder

QUICK = {"seed": 3, "max_tokens": 2, "inference_timesteps": 2}
WORDS = "What it says. "


@pytest.fixture(autouse=True)
def voice_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "data" / "voices"))
    return tmp_path / "data" / "voices"


@pytest.fixture
def anna(tiny_model, voice_clip) -> Voice:
    return tiny_model.make_voice(voice_clip, prompt_text=WORDS)


@pytest.fixture
def anna_file(anna) -> Path:
    return anna.save("Anna")


def spoken(model, **arguments) -> np.ndarray:
    (result,) = model.generate("Hello.", **arguments, **QUICK)
    return np.array(result.audio)


def changed(file: Path, tensors: dict = {}, without=(), **metadata) -> None:  # noqa: B006
    """Replace tensors or metadata of the voice file."""
    with safe_open(file, framework="numpy") as content:
        data = content.metadata() | metadata
    remaining = {n: v for n, v in (load_file(file) | tensors).items() if n not in without}
    save_file(remaining, file, metadata=data)


def test_a_saved_voice_sounds_as_its_clip_does(tiny_model, voice_clip, anna, anna_file, tmp_path):
    combined = spoken(tiny_model, ref_audio=voice_clip, prompt_audio=voice_clip, prompt_text=WORDS)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(anna_file.read_bytes())
    for same in (anna, "Anna", anna_file, str(copy), Voice.load(copy)):
        assert np.array_equal(spoken(tiny_model, voice=same), combined)


def test_a_voice_without_a_transcript_is_only_a_reference(tiny_model, voice_clip):
    tiny_model.make_voice(voice_clip).save("plain")
    assert np.array_equal(
        spoken(tiny_model, voice="plain"), spoken(tiny_model, ref_audio=voice_clip)
    )
    loaded = Voice.load("plain")
    assert loaded.prompt is None and loaded.prompt_text is None


def test_instructions_use_only_the_reference(tiny_model, voice_clip, anna_file):
    steered = spoken(tiny_model, ref_audio=voice_clip, instruct="sad")
    assert np.array_equal(spoken(tiny_model, voice="Anna", instruct="sad"), steered)
    combined = spoken(tiny_model, ref_audio=voice_clip, prompt_audio=voice_clip, prompt_text=WORDS)
    assert np.array_equal(spoken(tiny_model, voice="Anna", instruct="  "), combined)


def test_a_voice_may_have_another_prompt_or_only_a_prompt(tiny_model, voice_clip, tmp_path):
    other = tmp_path / "other.wav"
    soundfile.write(other, speech(2.2, pitch=200), RATE)
    prompt = {"prompt_audio": other, "prompt_text": WORDS}
    for arguments in ({"ref_audio": voice_clip, **prompt}, prompt):
        tiny_model.make_voice(**arguments).save("two", overwrite=True)
        assert np.array_equal(spoken(tiny_model, voice="two"), spoken(tiny_model, **arguments))
    with pytest.raises(ValueError, match="instruct does not work with a prompt"):
        tiny_model.generate("Hello.", voice="two", instruct="sad")


def test_every_method_accepts_a_voice(tiny_model, anna, anna_file):
    whole = spoken(tiny_model, voice=anna)
    chunks = tiny_model.generate("Hello.", voice="Anna", stream=True, **QUICK)
    assert np.array_equal(np.concatenate([np.array(chunk.audio) for chunk in chunks]), whole)
    options = GenerationOptions(seed=3, max_tokens=2, inference_timesteps=2)
    arguments = {"voice": "Anna", "options": options}
    drawn = list(tiny_model.generate_patches("Hello.", **arguments))
    request = tiny_model.request("Hello.", **arguments)
    clips = len(anna.reference) + len(anna.prompt)
    assert len(drawn) == 2 and sum(request.prompt.is_audio) == clips


def test_the_file_is_plain_float32_safetensors_with_its_metadata(anna, anna_file, voice_folder):
    assert anna_file == voice_folder / "Anna.safetensors" and os.listdir(voice_folder) == [
        anna_file.name
    ]
    with safe_open(anna_file, framework="numpy") as content:
        names, data = set(content.keys()), content.metadata()
        assert {content.get_slice(name).get_dtype() for name in names} == {"F32"}
    assert names == {"known_sound", "reference", "prompt"}
    assert data["format"] == "mlx-voxcpm2 voice" and data["version"] == "1"
    assert data["architecture"] == "voxcpm2" and data["prompt_text"] == WORDS
    assert anna_file.stat().st_size < 30_000
    loaded = Voice.load("Anna")
    assert mx.array_equal(loaded.reference, anna.reference)
    assert mx.array_equal(loaded.prompt, anna.prompt)
    assert (loaded.name, loaded.created) == ("Anna", anna.created)
    assert loaded.reference_seconds == pytest.approx(2.56)


def test_a_pickle_is_not_run(tiny_model, voice_folder):
    class Trap:
        def __reduce__(self):
            return os._exit, (9,)

    voice_folder.mkdir(parents=True)
    (voice_folder / "trap.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="damaged or no voice"):
        tiny_model.generate("Hello.", voice="trap")


def test_a_voice_of_another_audio_vae_is_refused(anna_file, tiny_model, released, make_case):
    for variant in ("long_rope", "derived_head", "mup", "dense_vae"):
        with pytest.raises(ValueError, match="voice Anna was made with another AudioVAE"):
            make_case(variant).model.generate("Hello.", voice="Anna")
    rounded = load_model(released.folder, dtype="float32")
    encoder = rounded.audio_vae.encoder
    encoder.update(
        tree_map(lambda w: w.astype(mx.bfloat16).astype(mx.float32), encoder.parameters())
    )
    assert not mx.array_equal(rounded.encode_audio((speech(), RATE)), Voice.load("Anna").reference)
    rounded.request("Hello.", voice="Anna")
    changed = load_model(released.folder, dtype="float32")
    changed.audio_vae.encoder.fc_mu.weight = encoder.fc_mu.weight * 1.2
    with pytest.raises(ValueError, match="another AudioVAE"):
        changed.request("Hello.", voice="Anna")


def test_reading_the_encoder_alone_gives_the_same_voice(anna, released, voice_clip):
    lazy = load_lazily(released.folder).make_voice(voice_clip, prompt_text=WORDS)
    for name in ("known_sound", "reference", "prompt"):
        assert mx.array_equal(getattr(lazy, name), getattr(anna, name))


NAN = np.full((2, 4, 16), np.nan, np.float32)
DAMAGES = {
    "empty": (lambda file: file.write_bytes(b""), "damaged or no voice"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "damaged or no voice"),
    "garbage": (lambda file: file.write_bytes(os.urandom(300)), "damaged or no voice"),
    "other file": (lambda file: save_file({"reference": NAN}, file), "is no voice"),
    "later version": (lambda file: changed(file, version="2"), "version '2'.*update"),
    "other model": (lambda file: changed(file, architecture="voxcpm"), "a voice for 'voxcpm'"),
    "not finite": (lambda file: changed(file, {"reference": NAN}), "reference.*not finite"),
    "type": (lambda file: changed(file, {"prompt": NAN.astype("f2")}), "prompt is not float32"),
    "shape": (lambda file: changed(file, {"prompt": np.zeros((3, 2, 16), "f4")}), "shape"),
    "flat": (lambda file: changed(file, {"reference": np.zeros(64, "f4")}), "shape"),
    "no patches": (lambda file: changed(file, {"prompt": NAN[:0]}), "shape"),
    "no words": (lambda file: changed(file, prompt_text=" "), "words"),
    "only words": (lambda file: changed(file, without=["prompt"]), "words"),
    "no clip": (lambda file: changed(file, without=["reference", "prompt"]), "needs a clip"),
    "no sound": (lambda file: changed(file, without=["known_sound"]), "known_sound"),
    "no time": (lambda file: changed(file, patch_seconds="nan"), "patch_seconds"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_one_line_error_that_names_it(damage, tiny_model, anna_file):
    spoil, words = DAMAGES[damage]
    spoil(anna_file)
    with pytest.raises(ValueError, match=words) as caught:
        tiny_model.generate("Hello.", voice="Anna")
    assert str(anna_file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc/passwd",
        "~/x",
        ".hidden",
        "-flag",
        "a\\b",
        "a\nb",
        "a\0b",
        "C:x",
        "a*",
        "end.",
        " a",
        "a ",
        "\u202eabc",
        "x" * 51,
    ],
)
def test_a_name_that_could_be_a_path_is_refused(name, anna, voice_folder):
    for act in (anna.save, Voice.load):
        with pytest.raises(ValueError, match="can't be a voice's name"):
            act(name)
    assert not voice_folder.exists()


@pytest.mark.parametrize("name", ["a", "Anna 2", "小明", "Zoë-_.x", "é" * 50, "𝒳" * 50])
def test_names_in_all_scripts_are_accepted(name, anna):
    assert anna.save(name).is_file()
    assert Voice.load(name).prompt_text == WORDS


def test_a_name_is_the_same_in_upper_and_lower_case_as_on_a_mac(anna, voice_folder):
    saved = anna.save("Zoë")
    for name in ("zoë", "ZOË", "Zoe\u0308"):
        assert voice_file(name) == saved
        with pytest.raises(FileExistsError, match="exists already"):
            anna.save(name)
    (voice_folder / "zoë.safetensors").write_bytes(saved.read_bytes())  # as a user may, on Linux
    assert voice_file("zoë").stem == "zoë" and voice_file("Zoë") == saved


def test_hidden_and_other_files_are_no_voices(anna, voice_folder):
    anna.save("anna")
    (voice_folder / "._anna.safetensors").write_bytes(b"of a Mac's copy")
    (voice_folder / "notes.txt").write_text("about anna")
    assert list_voices() == ["anna"]


def test_a_voice_is_overwritten_only_on_request(anna, tiny_model, voice_clip, voice_folder):
    file = anna.save("Anna")
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="exists already; give the voice another name"):
        anna.save("Anna")
    assert file.read_bytes() == before
    tiny_model.make_voice(voice_clip).save("anna", overwrite=True)
    assert os.listdir(voice_folder) == ["Anna.safetensors"] and Voice.load("Anna").prompt is None


def test_a_link_to_nothing_is_not_overwritten(anna, voice_folder, tmp_path):
    voice_folder.mkdir(parents=True)
    link = voice_folder / "anna.safetensors"
    link.symlink_to(tmp_path / "gone.safetensors")
    with pytest.raises(FileExistsError, match="exists already"):
        anna.save("anna")
    assert link.is_symlink()


def test_a_path_is_used_unchanged(anna, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert anna.save("~/v.safetensors") == tmp_path / "v.safetensors"
    assert Voice.load("~/v.safetensors").name == "v"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        anna.save(tmp_path / "none" / "v.safetensors")
    with pytest.raises(FileNotFoundError, match="no such voice file"):
        Voice.load(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="of type int"):
        Voice.load(3)


def test_the_error_for_a_missing_voice_lists_the_saved_ones(tiny_model, anna):
    with pytest.raises(FileNotFoundError, match=r"there: none yet\)"):
        tiny_model.generate("Hello.", voice="Berta")
    anna.save("Anna")
    with pytest.raises(FileNotFoundError, match=r"there: Anna\)"):
        tiny_model.generate("Hello.", voice="Berta")


def test_a_voice_and_a_clip_are_not_both_accepted(tiny_model, anna, voice_clip):
    patches = anna.reference
    for other in ({"ref_audio": voice_clip}, {"prompt_audio": patches}, {"prompt_text": "a"}):
        with pytest.raises(ValueError, match=f"voice and {next(iter(other))} are both given"):
            tiny_model.generate("Hello.", voice=anna, **other)


def test_voices_are_stored_in_the_platforms_data_folder(monkeypatch, tmp_path, voice_folder):
    assert voices_folder() == voice_folder
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", "~/mine")
    assert voices_folder() == tmp_path / "mine"
    monkeypatch.delenv("MLX_VOXCPM2_VOICES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert voices_folder() == tmp_path / "xdg/mlx-voxcpm2/voices"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert voices_folder() == tmp_path / ".local/share/mlx-voxcpm2/voices"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert voices_folder() == tmp_path / "Library/Application Support/mlx-voxcpm2/voices"


@pytest.mark.parametrize("call", ["mlx_voxcpm2.files.write_all", "os.replace"])
def test_an_interruption_leaves_the_old_voice_or_none(
    call, anna, tiny_model, voice_clip, monkeypatch
):
    plain = tiny_model.make_voice(voice_clip)
    for expected in (None, WORDS):
        if expected:
            anna.save("Anna")

        def interrupted(file, what):
            if call != "os.replace":
                file.write(what[: len(what) // 2])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(call, interrupted)
            plain.save("Anna", overwrite=True)
        assert len(os.listdir(voices_folder())) == len(voice_files()) == bool(expected)
    assert Voice.load("Anna").prompt_text == WORDS


def test_a_kill_while_saving_leaves_no_voice(anna_file, voice_folder):
    script = (
        "import os, sys; from mlx_voxcpm2 import Voice; voice = Voice.load('Anna'); "
        "os.replace = lambda *names: os._exit(7); voice.save('Berta')"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 7
    assert len(os.listdir(voice_folder)) == 2 and voice_files() == [anna_file]


def test_a_full_disk_is_a_one_line_error(anna, monkeypatch, voice_folder):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlx_voxcpm2.files.write_all", full)
    with pytest.raises(OSError, match=r"can't be written .No space left.*make room") as caught:
        anna.save("Anna")
    assert "\n" not in str(caught.value) and os.listdir(voice_folder) == []


def test_a_quiet_clip_is_levelled_unless_as_is_is_set(tiny_model, caplog):
    quiet, loud = ((speech(level=level), RATE) for level in (0.01, USUAL))
    voice = tiny_model.make_voice(quiet)
    assert "18 dB louder" in caplog.text and "is quiet" not in caplog.text
    expected = np.array(tiny_model.encode_audio(loud))
    difference = np.array(voice.reference) - expected
    assert np.sqrt(np.mean(difference**2) / np.mean(expected**2)) < 0.02
    caplog.clear()
    unlevelled = tiny_model.make_voice(quiet, as_is=True)
    assert mx.array_equal(unlevelled.reference, tiny_model.encode_audio(quiet))
    assert "is quiet" in caplog.text and "dB louder" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs a clip"),
        ({"prompt_text": "a"}, "prompt_text is given without prompt_audio"),
        ({"ref_audio": "good", "prompt_text": " "}, "prompt_text is empty"),
        ({"ref_audio": "good", "prompt_audio": "good"}, "without prompt_text"),
        ({"ref_audio": "good", "description": 3}, "description is 3"),
        ({"ref_audio": "silent"}, "ref_audio holds nothing but silence"),
        ({"ref_audio": "hours"}, "ref_audio: 301 s are too long"),
        ({"ref_audio": "none.wav"}, "no file 'none.wav'"),
    ],
)
def test_unusable_clips_are_refused(arguments, words, tiny_model):
    clips = {"good": speech(), "silent": np.zeros(40000), "hours": np.tile(speech(7), 43)}
    given = {
        name: (clips[value], RATE) if value in clips else value for name, value in arguments.items()
    }
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        tiny_model.make_voice(**given)
