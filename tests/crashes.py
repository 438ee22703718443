"""What a process that is killed leaves behind, at each of its changes to files.

Python reports each change of a file system to audit hooks, and each call of a file's `write` to its
profiler. The action runs once; before each change, and after a write, the folder is copied, as
SIGKILL or a power cut would leave it there: no clean-up, no buffers. Then the folder is put into
each of these states in turn, so that a point costs what the next run costs.
"""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "fsync"}
_CHANGES |= {"os.truncate", "renameat2"}
_WRITES = {"write", "writelines", "flush", "truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

State = dict[str, bytes | str | None]
"""Files by path: content; a link's target; None for a folder."""


class _Watch:
    """Counts changes below a folder, and keeps each of its states once."""

    folder: Path | None = None
    states: list[State]
    count = 0

    def __init__(self) -> None:
        self._busy = threading.RLock()
        self._inside = False

    def see(self, event: str, arguments: tuple) -> None:
        if self.folder is None:
            return
        with self._busy:
            if self._inside or not self._is_change(event, arguments):
                return
            self._inside = True
            try:
                self.count += 1
                self.keep()
            finally:
                self._inside = False

    def see_write(self, frame: FrameType, event: str, function: object) -> None:
        """A profile function: files are seen with nothing, and with a part, in them."""
        if event in ("c_call", "c_return") and getattr(function, "__name__", "") in _WRITES:
            name = getattr(getattr(function, "__self__", None), "name", None)
            if isinstance(name, str | Path):
                self.see("open", (str(name), None, os.O_WRONLY))

    def keep(self) -> None:
        assert self.folder is not None
        state = state_of(self.folder)
        if state not in self.states:
            self.states.append(state)

    def _is_change(self, event: str, arguments: tuple) -> bool:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or not flags & _WRITING:
                return False
            return os.path.abspath(os.fsdecode(path)).startswith(str(self.folder))
        return event in _CHANGES


_watch = _Watch()
sys.addaudithook(_watch.see)  # for good; does nothing while no folder is set
_fsync = os.fsync


def _seen_fsync(descriptor: int) -> None:
    _watch.see("fsync", (descriptor,))
    _fsync(descriptor)


@contextmanager
def _watched(folder: Path) -> Iterator[_Watch]:
    _watch.folder, _watch.states, _watch.count = folder, [], 0
    os.fsync = _seen_fsync
    threading.setprofile(_watch.see_write)
    sys.setprofile(_watch.see_write)
    try:
        yield _watch
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        os.fsync = _fsync
        _watch.folder = None


def state_of(folder: Path) -> State:
    """All that is below a folder, hidden files too."""
    state: State = {}
    for place, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(place, name)
            key = os.path.relpath(path, folder)
            if os.path.islink(path):
                state[key] = os.readlink(path)
            elif os.path.isdir(path):
                state[key] = None
            else:
                with open(path, "rb") as file:
                    state[key] = file.read()
    return state


def cleared(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def contents(folder: Path) -> dict[str, bytes]:
    """Files below a folder, hidden ones too."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _restore(folder: Path, state: State) -> None:
    cleared(folder)
    for name, content in state.items():
        path = folder / name
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def kill_at_each_change(
    folder: Path,
    prepare: Callable[[], object],
    act: Callable[[], object],
    least: int = 1,
    step: int = 1,
) -> Iterator[int]:
    """Yields with the folder as it was when the action was killed, for all of its changes.

    Changes that leave the same files are one. Fails if there were fewer than `least` changes. step:
    how many states the kill moves on each time.
    """
    prepare()
    with _watched(folder) as watch:
        act()
    states, count = list(watch.states), watch.count
    print(f"{count} changes of files, {len(states)} states")
    assert count >= least, f"only {count} changes"
    for number in range(0, len(states), step):
        _restore(folder, states[number])
        yield number
