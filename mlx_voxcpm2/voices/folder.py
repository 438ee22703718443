"""Voice files: safetensors files by name in one folder; reading and writing them."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import one_line
from ..file_names import check_file_name
from ..files import atomic_write, check_writable, claimed

Saved = TypeVar("Saved")

SUFFIX = ".safetensors"
FORMAT = "mlx-voxcpm2 voice"
# Version of the format. A reader refuses other ones.
VERSION = 1

LONGEST_NAME = 50  # characters; file systems allow 255 bytes, and a character takes up to four


def voices_folder() -> Path:
    """$MLX_VOXCPM2_VOICES, or the platform's place for a program's data. It may not exist yet."""
    if own := os.environ.get("MLX_VOXCPM2_VOICES"):
        return Path(os.path.expanduser(own))
    if sys.platform == "darwin":
        data = Path("~/Library/Application Support").expanduser()
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return data / "mlx-voxcpm2" / "voices"


def voice_file(name_or_path: str | Path) -> Path:
    """The file of a voice, whether it is there or not: a path that ends in .safetensors is itself.

    A name means the same file in upper and lower case, as on a Mac, so that a folder of voices can
    be copied there from anywhere. Raises ValueError for what is neither a name nor such a path.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise ValueError(
            f"the voice is of type {type(name_or_path).__name__}; give its name or its file"
        )
    text = os.fspath(name_or_path)
    if text.lower().endswith(SUFFIX):
        check_file_name(text)
        return Path(os.path.expanduser(text))
    name = check_name(text)
    files = [file for file in voice_files() if folded_name(file.stem) == folded_name(name)]
    exact = [file for file in files if file.stem == name]
    return (exact or files or [voices_folder() / f"{name}{SUFFIX}"])[0]


def check_name(text: str) -> str:
    """A name that can be a file's on every system. Raises ValueError for another."""
    name = unicodedata.normalize("NFC", text)
    inner = all(letter.isalnum() or letter in "-_. " for letter in name)
    ends = name[:1].isalnum() and (name[-1:].isalnum() or name[-1:] in "-_")
    if not inner or not ends or len(name) > LONGEST_NAME:
        raise ValueError(
            f"{text[:100]!r} can't be a voice's name; give up to {LONGEST_NAME} letters and "
            f"digits, with - _ . or spaces between them, or a path that ends in {SUFFIX}"
        )
    return name


def existing_voice(name_or_path: str | Path) -> Path:
    """A voice's file. Raises FileNotFoundError, naming those that are there, and ValueError."""
    file = voice_file(name_or_path)
    if file.is_file():
        return file
    if file.parent != voices_folder():
        raise FileNotFoundError(f"{file}: no such voice file; check the path")
    names = ", ".join(each.stem for each in voice_files()[:20]) or "none yet"
    raise FileNotFoundError(
        f"no voice {str(name_or_path)!r} in {file.parent} (there: {names}); check the name, or "
        "make it with `mlx-voxcpm2 voice add`"
    )


def check_new_voice(name_or_path: str | Path, overwrite: bool = False) -> Path:
    """The file to write a voice to.

    Raises FileExistsError, FileNotFoundError, another OSError, or ValueError.
    """
    file = voice_file(name_or_path)
    if file.is_dir():
        raise FileExistsError(f"{file} is a folder; give the voice another name")
    if not overwrite:
        _check_absent(file)
    if file.parent != voices_folder() and not file.parent.is_dir():
        raise FileNotFoundError(f"{file.parent}: no such folder; create it first")
    try:
        check_writable(file)
    except OSError as error:
        raise type(error)(_not_written(file, error)) from None
    return file


def _not_written(file: Path, error: OSError) -> str:
    return f"{file}: can't be written ({one_line(error)}); make room, or choose another place"


def _check_absent(file: Path) -> None:
    if os.path.lexists(file):
        raise FileExistsError(
            f"{file} exists already; give the voice another name, or remove that first"
        )


def voice_files() -> list[Path]:
    """Voice files, sorted by name. Raises OSError if their folder can't be read."""
    try:
        files = [
            file
            for file in voices_folder().iterdir()
            if file.suffix == SUFFIX and not file.name.startswith(".")
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise type(error)(
            f"{voices_folder()}: can't be read ({one_line(error)}); check its permissions"
        ) from None
    return sorted(files, key=lambda file: (folded_name(file.stem), file.stem))


def list_voices() -> list[str]:
    """Names of the saved voices. Raises OSError if their folder can't be read."""
    return [file.stem for file in voice_files()]


def remove_voice(file: Path) -> None:
    """Delete a voice's file. Raises OSError, in one line."""
    try:
        file.unlink()
    except OSError as error:
        raise type(error)(
            f"{file}: can't be removed ({one_line(error)}); check its permissions"
        ) from None


def rename_voice(name: str, new_name: str) -> Path:
    """Give a saved voice another name; returns its new file.

    Raises ValueError, FileNotFoundError, FileExistsError or OSError, in one line.
    """
    file, advice = existing_voice(name), "give the voice another name"
    new_file = voices_folder() / f"{check_name(new_name)}{SUFFIX}"
    is_other_name = folded_name(new_name) != folded_name(file.stem)
    if is_other_name:
        new_file = check_new_voice(new_name)
    try:
        with claimed(new_file, advice):
            if is_other_name:
                _check_absent(new_file)
            os.rename(file, new_file)
    except FileExistsError:
        raise
    except OSError as error:
        raise type(error)(
            f"{file}: can't be renamed ({one_line(error)}); check its permissions"
        ) from None
    return new_file


def write_voice_file(
    file: Path, tensors: dict[str, np.ndarray], data: dict[str, str], overwrite: bool = False
) -> None:
    """Write a voice file, whole or not at all. Raises OSError, in one line.

    Without `overwrite` it raises FileExistsError even for a file that came at this moment.
    """
    from safetensors.numpy import save

    content = save(tensors, metadata={"format": FORMAT, "version": str(VERSION), **data})
    try:
        if file.parent == voices_folder():
            file.parent.mkdir(parents=True, exist_ok=True)
        with claimed(file, "give the voice another name"):
            if not overwrite:
                _check_absent(file)  # another process may have written it since we looked
            atomic_write(file, content)
    except FileExistsError:
        raise
    except OSError as error:
        raise type(error)(_not_written(file, error)) from None


def read_voice_file(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the float32 tensors and the metadata. Raises ValueError or OSError, in one line."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as content:  # compares header and file's length
            data = content.metadata() or {}
            if data.get("format") != FORMAT:
                raise ValueError(f"{file} is no voice; give a file that `voice add` made")
            _check_version(file, data)
            names = list(content.keys())
            if wrong := [n for n in names if content.get_slice(n).get_dtype() != "F32"]:
                raise ValueError(f"{file}: damaged, {wrong[0]} is not float32; make it again")
            return {name: content.get_tensor(name) for name in names}, data
    except SafetensorError as error:
        raise ValueError(
            f"{file}: damaged or no voice ({one_line(error)}); take the original, or make it again"
        ) from None
    except OSError as error:
        raise type(error)(
            f"{file}: can't be read ({one_line(error)}); check its permissions"
        ) from None


def read_voice(name_or_path: str | Path, encoder: str, make: Callable[..., Saved]) -> Saved:
    """A saved voice: make(name, tensors, metadata), which raises an error for a damaged file.

    encoder: architecture whose voices these are. Raises FileNotFoundError, ValueError or OSError.
    """
    file = existing_voice(name_or_path)
    tensors, data = read_voice_file(file)
    found = data.get("architecture", "")
    if found != encoder:
        raise ValueError(
            f"{file} is a voice for {found[:40]!r}, this model is {encoder}; make it again from "
            "its clip"
        )
    try:
        return make(file.stem, tensors, data)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{file}: damaged ({error}); make it again from its clip") from None


def _check_version(file: Path, data: dict[str, str]) -> None:
    version = data.get("version", "")
    if version != str(VERSION):
        raise ValueError(
            f"{file} is a voice of version {version[:20]!r}, this program reads {VERSION}; update "
            "mlx_voxcpm2"
        )


def folded_name(name: str) -> str:
    """Key for comparing names on a case-insensitive file system: NFC, case-folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
