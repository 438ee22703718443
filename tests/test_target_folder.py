"""A converted checkpoint is written whole or not at all, in spite of interruptions and errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_voxcpm2 import files, load_model
from mlx_voxcpm2.convert import checkpoint as module
from mlx_voxcpm2.convert import convert
from mlx_voxcpm2.convert import target_folder as target_module

FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def old_checkpoint(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("old")
    (folder / "model.safetensors").write_text("old")
    return folder


def test_existing_paths_are_not_overwritten_unasked(exchange, tmp_path):
    target = old_checkpoint(tmp_path / "there")
    with pytest.raises(FileExistsError, match=r"exists; choose another --mlx_path, or .*overwrite"):
        convert(exchange, target)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        convert(exchange, tmp_path / "not" / "there")
    assert (target / "config.json").read_text() == "old"
    convert(exchange, target, overwrite=True)
    assert sorted(os.listdir(target)) == FILES and os.listdir(tmp_path) == ["there"]
    load_model(target)


def test_only_checkpoints_are_overwritten(exchange, tmp_path):
    target = old_checkpoint(tmp_path / "there")
    (target / "photographs").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("there", "empty", "file"):
        with pytest.raises(FileExistsError, match="not a checkpoint, or holds more"):
            convert(exchange, tmp_path / name, overwrite=True)
    (target / "photographs").rmdir()
    (tmp_path / "link").symlink_to(target)
    for one, other in (("there", "there"), ("link", "there"), ("there", "link")):
        with pytest.raises(ValueError, match="is the source itself"):
            convert(tmp_path / one, tmp_path / other, overwrite=True)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileExistsError, match="loop exists"):
        convert(exchange, tmp_path / "loop")
    assert (target / "config.json").read_text() == "old"


@pytest.mark.parametrize("stage", ["writing", "checking"])
@pytest.mark.parametrize("there", [False, True])
def test_an_interruption_leaves_the_folder_unchanged(exchange, tmp_path, stage, there):
    target = tmp_path / "converted"
    if there:
        old_checkpoint(target)
    before = os.listdir(tmp_path)

    def interrupt(now: str, done: int, total: int) -> None:
        if now == stage and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(exchange, target, overwrite=True, progress=interrupt)
    assert os.listdir(tmp_path) == before
    if there:
        assert (target / "config.json").read_text() == "old"


def test_two_interruptions_leave_the_folder_as_one_does(exchange, tmp_path, monkeypatch):
    remove, calls = target_module.shutil.rmtree, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(*arguments, **options)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(target_module.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(exchange, tmp_path / "converted", progress=interrupt)
    assert len(calls) == 2 and os.listdir(tmp_path) == []


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("is_done", [False, True])
def test_an_interruption_at_a_rename_loses_no_files(exchange, tmp_path, monkeypatch, at, is_done):
    """Where names can't be exchanged, the old checkpoint is renamed, and then the new one."""
    target = old_checkpoint(tmp_path / "converted")
    rename, calls = os.rename, []

    def interrupt(*names) -> None:
        calls.append(names)
        if len(calls) != at:
            return rename(*names)
        if is_done:
            rename(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(exchange, target, overwrite=True)
    monkeypatch.undo()
    if at == 2 and is_done:
        load_model(target)
        convert(exchange, target, overwrite=True)  # which removes the old one
    else:
        assert (target / "config.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["converted"]


def test_a_folder_with_other_files_is_not_overwritten(exchange, tmp_path):
    target = old_checkpoint(tmp_path / "there")
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds more; move that away"):
        convert(exchange, target, overwrite=True)
    assert (target / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_leaves_no_files(exchange, tmp_path, name, status):
    script = f"""
import os, signal, sys, time
from mlx_voxcpm2.convert import __main__ as command, checkpoint
signal.signal(signal.{name}, signal.default_int_handler if {status} == 130 else signal.SIG_DFL)
def linger(*_):
    os.kill(os.getpid(), signal.{name})
    time.sleep(20)
checkpoint._verify = linger
sys.exit(command.main(sys.argv[1:]))
"""
    arguments = ["--hf_path", str(exchange), "--mlx_path", str(tmp_path / "converted")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], timeout=15)
    assert done.returncode == status
    assert os.listdir(tmp_path) == []


def test_an_ignored_signal_stays_ignored(exchange, tmp_path):
    """nohup starts a process like this."""
    script = """
import os, signal, sys
from mlx_voxcpm2.convert import __main__ as command, checkpoint
signal.signal(signal.SIGHUP, signal.SIG_IGN)
verify = checkpoint._verify
def hang_up(*rest):
    os.kill(os.getpid(), signal.SIGHUP)
    verify(*rest)
checkpoint._verify = hang_up
sys.exit(command.main(sys.argv[1:]))
"""
    arguments = ["--hf_path", str(exchange), "--mlx_path", str(tmp_path / "converted")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], timeout=15)
    assert done.returncode == 0
    assert os.listdir(tmp_path) == ["converted"]


@pytest.mark.parametrize("place", [-1, -3000, 20])
def test_a_bit_lost_by_the_disk_is_detected(exchange, tmp_path, monkeypatch, place):
    write_file = module.write_file

    def lossy(path, *rest):
        yield from write_file(path, *rest)
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(module, "write_file", lossy)
    with pytest.raises(OSError, match=r"converted can't be read as it was .*; check the disk"):
        convert(exchange, tmp_path / "converted", "bfloat16")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_a_one_line_error(exchange, tmp_path, monkeypatch):
    """The disk is full from the start, or becomes so."""
    usage = target_module.shutil.disk_usage
    monkeypatch.setattr(
        target_module.shutil, "disk_usage", lambda path: usage(path)._replace(free=300_000)
    )
    called = []
    with pytest.raises(OSError, match=r"0\.00 GB are needed and 0\.00 GB free; make room"):
        convert(exchange, tmp_path / "converted", progress=lambda *_: called.append(1))
    assert not called and os.listdir(tmp_path) == []
    monkeypatch.undo()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_file", full)
    with pytest.raises(OSError, match=r"converted can't be written \(No space left on device\)"):
        convert(exchange, tmp_path / "converted")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that no user can write")
def test_an_unwritable_folder_is_an_error_before_any_reading():
    with pytest.raises(OSError, match=r"^/proc: can't write here .*; choose another folder$"):
        convert("/nowhere", "/proc/converted")
