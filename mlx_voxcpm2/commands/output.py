"""Outputs of the command line's speech, and its progress bar."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import check_folder
from ..settings import check_settings, setting

if TYPE_CHECKING:
    import numpy as np

    from ..model import VoxCPM2
    from ..speech.results import FinishReason

DEFAULT_OUTPUT = "speech.wav"
STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class OutputTargets:
    """Outputs of the audio: a file or standard output, as a stream or at the end; a loudspeaker.

    And files beside it: subtitles, and the voice. Raises ValueError or OSError for a place that
    can't be written to.
    """

    output: str | None = setting(
        None,
        "text",
        f"file in its suffix's format (default {DEFAULT_OUTPUT}); wav, flac, ogg, opus, mp3 or "
        "aiff, or - for standard output; with --play none by default",
        metavar="PATH",
    )
    stream: bool = setting(False, "switch", "write the audio while it is generated (wav)")
    play: bool = setting(False, "switch", "play the audio while it is generated")
    subtitles: str | None = setting(
        None, "text", "write the times of the segments, .srt or .vtt", metavar="PATH"
    )
    save_voice: str | None = setting(
        None, "text", "save the voice of the speech, for --voice", metavar="NAME"
    )
    makes_folder: bool = False
    """Whether to make the file's folder if there is none, as mlx-audio does."""

    def __post_init__(self):
        from ..audio.writing import check_output, output_format
        from ..long_form.subtitles import check_subtitles
        from ..voices.folder import check_new_voice

        check_settings(self)
        if self.output == "":
            raise ValueError("--output is empty; give a file's name, or - for standard output")
        if self.stream and self.path is None:
            raise ValueError("--stream writes a file during generation; give --output (or - )")
        if self.path == STANDARD_OUTPUT and sys.stdout is None:
            raise ValueError("standard output is closed; give --output a file's name")
        if self.path == STANDARD_OUTPUT and sys.stdout is not None and sys.stdout.isatty():
            raise ValueError(
                "standard output is a terminal, which can't show audio; redirect it, or give "
                "--output FILE"
            )
        folder = self._missing_folder()
        if folder is not None:
            check_folder(folder)
            output_format(Path(self.file or ""))
        elif self.file is not None:
            check_output(self.file, self.stream)
        if self.subtitles is not None:
            check_subtitles(self.subtitles)
        if self.save_voice is not None:
            check_new_voice(self.save_voice)

    @property
    def path(self) -> str | None:
        """File or "-"; None if the speech is only played."""
        return self.output or (None if self.play else DEFAULT_OUTPUT)

    @property
    def file(self) -> str | None:
        """File of the audio, if there is one."""
        return None if self.path == STANDARD_OUTPUT else self.path

    def _missing_folder(self) -> Path | None:
        """Folder of the file that has to be made."""
        if not self.makes_folder or self.file is None:
            return None
        folder = Path(os.path.expanduser(self.file)).parent
        return None if folder.is_dir() else folder

    @property
    def name(self) -> str:
        """The output in a report."""
        if self.path is None:
            return "played"
        return "standard output" if self.path == STANDARD_OUTPUT else self.path

    @property
    def is_immediate(self) -> bool:
        """Whether audio goes out while it is generated."""
        return self.stream or self.play

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Own the files to be written while the block runs, so that no two runs mix their speech.

        Raises ValueError or OSError if another run writes one of them.
        """
        from ..audio.writing import target_path
        from ..files import claimed

        files = [path for path in (self.file, self.subtitles) if path is not None]
        with ExitStack() as stack:
            for target in dict.fromkeys(map(target_path, files)):
                stack.enter_context(claimed(target, "give another --output"))
            yield

    @contextlib.contextmanager
    def open(self, sample_rate: int) -> Iterator[Callable[[np.ndarray], None]]:
        """Yield a function that writes chunks (samples,) to all outputs.

        A file that is not streamed is written when the block has succeeded.
        """
        import numpy as np

        from ..audio.streams import AtomicFile, GrowingFile, PipeStream
        from ..audio.writing import write_audio_to

        if (folder := self._missing_folder()) is not None:
            folder.mkdir(parents=True, exist_ok=True)
        chunks: list[np.ndarray] = []
        writers: list[Callable[[np.ndarray], None]] = []
        with ExitStack() as stack:
            if self.play:
                from ..audio.playback import Loudspeaker

                writers.append(stack.enter_context(Loudspeaker(sample_rate)).write)
            if self.file is not None:
                file = (GrowingFile if self.stream else AtomicFile)(self.file, sample_rate)
                writers.append(stack.enter_context(file).write)
            elif self.path is not None and self.stream:
                pipe = PipeStream(sys.stdout.buffer, sample_rate)
                writers.append(stack.enter_context(pipe).write)
            elif self.path is not None:
                writers.append(chunks.append)

            def write(chunk: np.ndarray) -> None:
                for each in writers:
                    each(chunk)

            yield write
            if chunks:
                write_audio_to(sys.stdout.buffer, np.concatenate(chunks), sample_rate)


@dataclass(frozen=True, eq=False)
class Sample:
    """Speech from which a voice can be saved."""

    audio: np.ndarray
    """float32 (samples,)."""
    text: str
    finish_reason: FinishReason | None


def save_voice(model: VoxCPM2, sample: Sample, instruct: str | None, name_or_path: str) -> Path:
    """Save the voice of generated speech; its description is `instruct`. Returns the file."""
    from ..voices.making import voice_of_speech

    speech = sample.audio, model.sample_rate
    voice = voice_of_speech(model.clip_encoder, speech, sample.text, sample.finish_reason, instruct)
    return voice.save(name_or_path)
