"""A voice that was kept sounds as its clip did, or is refused."""

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
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MLX_VOXCPM2_VOICES", str(tmp_path / "data" / "voices"))
    return tmp_path / "data" / "voices"


@pytest.fixture
def model(released):
    return released.model


@pytest.fixture
def clip(tmp_path) -> Path:
    """No whole number of patches."""
    soundfile.write(tmp_path / "clip.wav", speech(2.53), RATE)
    return tmp_path / "clip.wav"


@pytest.fixture
def voice(model, clip) -> Voice:
    return model.make_voice(clip, prompt_text=WORDS)


@pytest.fixture
def file(voice) -> Path:
    return voice.save("Anna")


def spoken(model, **arguments) -> np.ndarray:
    (result,) = model.generate("Hello.", **arguments, **QUICK)
    return np.array(result.audio)


def changed(file: Path, tensors: dict = {}, without=(), **metadata) -> None:  # noqa: B006
    """The voice file with other tensors or metadata."""
    with safe_open(file, framework="numpy") as content:
        data = content.metadata() | metadata
    kept = {n: v for n, v in (load_file(file) | tensors).items() if n not in without}
    save_file(kept, file, metadata=data)


def test_a_kept_voice_sounds_as_its_clip_does(model, clip, voice, file, tmp_path):
    combined = spoken(model, ref_audio=clip, prompt_audio=clip, prompt_text=WORDS)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    for same in (voice, "Anna", file, str(copy), Voice.load(copy)):
        assert np.array_equal(spoken(model, voice=same), combined)


def test_without_words_it_is_the_reference_alone(model, clip):
    model.make_voice(clip).save("plain")
    assert np.array_equal(spoken(model, voice="plain"), spoken(model, ref_audio=clip))
    loaded = Voice.load("plain")
    assert loaded.prompt is None and loaded.prompt_text is None


def test_instructions_steer_the_reference_alone(model, clip, file):
    steered = spoken(model, ref_audio=clip, instruct="sad")
    assert np.array_equal(spoken(model, voice="Anna", instruct="sad"), steered)
    combined = spoken(model, ref_audio=clip, prompt_audio=clip, prompt_text=WORDS)
    assert np.array_equal(spoken(model, voice="Anna", instruct="  "), combined)


def test_a_voice_may_have_another_prompt_or_only_a_prompt(model, clip, tmp_path):
    other = tmp_path / "other.wav"
    soundfile.write(other, speech(2.2, pitch=200), RATE)
    prompt = {"prompt_audio": other, "prompt_text": WORDS}
    for arguments in ({"ref_audio": clip, **prompt}, prompt):
        model.make_voice(**arguments).save("two", overwrite=True)
        assert np.array_equal(spoken(model, voice="two"), spoken(model, **arguments))
    with pytest.raises(ValueError, match="instruct does not work with a prompt"):
        model.generate("Hello.", voice="two", instruct="sad")


def test_every_way_to_speak_takes_a_voice(model, voice, file):
    whole = spoken(model, voice=voice)
    pieces = model.generate("Hello.", voice="Anna", stream=True, **QUICK)
    assert np.array_equal(np.concatenate([np.array(piece.audio) for piece in pieces]), whole)
    options = GenerationOptions(seed=3, max_tokens=2, inference_timesteps=2)
    arguments = {"voice": "Anna", "options": options}
    drawn = list(model.generate_patches("Hello.", **arguments))
    request = model.request("Hello.", **arguments)
    clips = len(voice.reference) + len(voice.prompt)
    assert len(drawn) == 2 and sum(request.prompt.is_audio) == clips


def test_the_file_is_plain_float32_safetensors_with_its_metadata(voice, file, folder):
    assert file == folder / "Anna.safetensors" and os.listdir(folder) == [file.name]
    with safe_open(file, framework="numpy") as content:
        names, data = set(content.keys()), content.metadata()
        assert {content.get_slice(name).get_dtype() for name in names} == {"F32"}
    assert names == {"known_sound", "reference", "prompt"}
    assert data["format"] == "mlx-voxcpm2 voice" and data["version"] == "1"
    assert data["architecture"] == "voxcpm2" and data["prompt_text"] == WORDS
    assert file.stat().st_size < 30_000
    loaded = Voice.load("Anna")
    assert mx.array_equal(loaded.reference, voice.reference)
    assert mx.array_equal(loaded.prompt, voice.prompt)
    assert (loaded.name, loaded.created) == ("Anna", voice.created)
    assert loaded.reference_seconds == pytest.approx(2.56)


def test_what_pickle_wrote_is_not_run(model, folder):
    class Trap:
        def __reduce__(self):
            return os._exit, (9,)

    folder.mkdir(parents=True)
    (folder / "trap.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="damaged or no voice"):
        model.generate("Hello.", voice="trap")


def test_another_audio_vae_refuses_it(file, model, released, make_case):
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


def test_reading_the_encoder_alone_gives_the_same_voice(voice, released, clip):
    lazy = load_lazily(released.folder).make_voice(clip, prompt_text=WORDS)
    for name in ("known_sound", "reference", "prompt"):
        assert mx.array_equal(getattr(lazy, name), getattr(voice, name))


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
def test_a_damaged_file_is_one_line_that_names_it(damage, model, file):
    spoil, words = DAMAGES[damage]
    spoil(file)
    with pytest.raises(ValueError, match=words) as caught:
        model.generate("Hello.", voice="Anna")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc/passwd", "~/x", ".hidden", "-flag", "a\\b", "a\nb", "a\0b",
     "C:x", "a*", "end.", " a", "a ", "\u202eabc", "x" * 51],
)  # fmt: skip
def test_a_name_that_could_be_a_path_is_refused(name, voice, folder):
    for act in (voice.save, Voice.load):
        with pytest.raises(ValueError, match="can't be a voice's name"):
            act(name)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["a", "Anna 2", "小明", "Zoë-_.x", "é" * 50, "𝒳" * 50])
def test_names_in_all_scripts_are_kept(name, voice):
    assert voice.save(name).is_file()
    assert Voice.load(name).prompt_text == WORDS


def test_a_name_is_the_same_in_upper_and_lower_case_as_on_a_mac(voice, folder):
    kept = voice.save("Zoë")
    for name in ("zoë", "ZOË", "Zoe\u0308"):
        assert voice_file(name) == kept
        with pytest.raises(FileExistsError, match="exists already"):
            voice.save(name)
    (folder / "zoë.safetensors").write_bytes(kept.read_bytes())  # by hand, on Linux
    assert voice_file("zoë").stem == "zoë" and voice_file("Zoë") == kept


def test_hidden_and_other_files_are_no_voices(voice, folder):
    voice.save("anna")
    (folder / "._anna.safetensors").write_bytes(b"of a Mac's copy")
    (folder / "notes.txt").write_text("about anna")
    assert list_voices() == ["anna"]


def test_only_what_is_asked_for_is_overwritten(voice, model, clip, folder):
    file = voice.save("Anna")
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="exists already; give the voice another name"):
        voice.save("Anna")
    assert file.read_bytes() == before
    model.make_voice(clip).save("anna", overwrite=True)
    assert os.listdir(folder) == ["Anna.safetensors"] and Voice.load("Anna").prompt is None


def test_a_link_to_nothing_is_not_overwritten(voice, folder, tmp_path):
    folder.mkdir(parents=True)
    link = folder / "anna.safetensors"
    link.symlink_to(tmp_path / "gone.safetensors")
    with pytest.raises(FileExistsError, match="exists already"):
        voice.save("anna")
    assert link.is_symlink()


def test_a_path_is_taken_as_it_is(voice, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert voice.save("~/v.safetensors") == tmp_path / "v.safetensors"
    assert Voice.load("~/v.safetensors").name == "v"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        voice.save(tmp_path / "none" / "v.safetensors")
    with pytest.raises(FileNotFoundError, match="no such voice file"):
        Voice.load(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="of type int"):
        Voice.load(3)


def test_a_missing_voice_names_those_that_there_are(model, voice):
    with pytest.raises(FileNotFoundError, match=r"there: none yet\)"):
        model.generate("Hello.", voice="Berta")
    voice.save("Anna")
    with pytest.raises(FileNotFoundError, match=r"there: Anna\)"):
        model.generate("Hello.", voice="Berta")


def test_a_voice_has_its_own_clip(model, voice, clip):
    patches = voice.reference
    for other in ({"ref_audio": clip}, {"prompt_audio": patches}, {"prompt_text": "a"}):
        with pytest.raises(ValueError, match=f"voice and {next(iter(other))} are both given"):
            model.generate("Hello.", voice=voice, **other)


def test_voices_lie_where_the_platform_keeps_data(monkeypatch, tmp_path, folder):
    assert voices_folder() == folder
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


@pytest.mark.parametrize("call", ["pathlib.Path.write_bytes", "os.replace"])
def test_an_interruption_leaves_the_old_voice_or_none(call, voice, model, clip, monkeypatch):
    plain = model.make_voice(clip)
    for expected in (None, WORDS):
        if expected:
            voice.save("Anna")

        def interrupted(path, what):
            if call != "os.replace":
                path.open("wb").write(what[: len(what) // 2])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(call, interrupted)
            plain.save("Anna", overwrite=True)
        assert len(os.listdir(voices_folder())) == len(voice_files()) == bool(expected)
    assert Voice.load("Anna").prompt_text == WORDS


def test_a_kill_while_saving_leaves_no_voice(file, folder):
    script = (
        "import os, sys; from mlx_voxcpm2 import Voice; voice = Voice.load('Anna'); "
        "os.replace = lambda *names: os._exit(7); voice.save('Berta')"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 7
    assert len(os.listdir(folder)) == 2 and voice_files() == [file]


def test_a_full_disk_is_one_line(voice, monkeypatch, folder):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"can't be written .No space left.*make room") as caught:
        voice.save("Anna")
    assert "\n" not in str(caught.value) and os.listdir(folder) == []


def test_a_quiet_clip_is_levelled_unless_it_is_to_stay(model, caplog):
    quiet, loud = ((speech(level=level), RATE) for level in (0.01, USUAL))
    voice = model.make_voice(quiet)
    assert "18 dB louder" in caplog.text and "is quiet" not in caplog.text
    expected = np.array(model.encode_audio(loud))
    difference = np.array(voice.reference) - expected
    assert np.sqrt(np.mean(difference**2) / np.mean(expected**2)) < 0.02
    caplog.clear()
    kept = model.make_voice(quiet, as_is=True)
    assert mx.array_equal(kept.reference, model.encode_audio(quiet))
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
def test_what_can_be_no_voice_is_refused(arguments, words, model):
    clips = {"good": speech(), "silent": np.zeros(40000), "hours": np.tile(speech(7), 43)}
    given = {
        name: (clips[value], RATE) if value in clips else value for name, value in arguments.items()
    }
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        model.make_voice(**given)
