"""Lengths that audio files lack or state wrongly, corrected before libsndfile reads them.

Programs that write to a pipe can't go back to a header: their WAV files have length 0, their FLAC
files none. Of joined MP3 or Ogg files the header tells the first one's length only. libsndfile
stops where a header says.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MOST_COMPRESSED_BYTES = 64 * 2**20
"""Size of an MP3 or Ogg file that is read at most: half an hour at the highest bit rate."""

_HEAD_BYTES = 2**16
_KBITS = {  # of layer III, by whether the version is MPEG 1
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates by the version's two bits: MPEG 1, 2 and 2.5."""
_OGG_BEGINNING = re.compile(rb"OggS\0[\x02\x06]")


def streams_with_lengths(file: BinaryIO) -> list[BinaryIO]:
    """The streams to decode one after the other: the file itself, or corrected parts of it."""
    head = file.read(_HEAD_BYTES)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return [_wav(file, head, size)]
    if head[:4] == b"fLaC" and not int.from_bytes(head[21:26], "big") & (2**36 - 1):
        # libsndfile can't open it where the number is 0; it stops at the end of the file anyhow.
        return [_Patched(file, 21, bytes([head[21] | 0x0F]) + b"\xff" * 4)]
    if size > MOST_COMPRESSED_BYTES:
        return [file]
    if head[:4] == b"OggS":
        return [io.BytesIO(part) for part in _ogg_files(file.read())]
    if head[:3] == b"ID3" or _Frame.at(head, 0) is not None:
        return [io.BytesIO(_mp3(file.read()))]
    return [file]


class _Patched(io.RawIOBase):
    """A file, with some bytes replaced while it is read."""

    def __init__(self, file: BinaryIO, start: int, replacement: bytes):
        self._file, self._start, self._replacement = file, start, replacement

    def readinto(self, buffer) -> int:
        at = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        first = max(at, self._start)
        last = min(at + len(data), self._start + len(self._replacement))
        if first < last:
            data[first - at : last - at] = self._replacement[
                first - self._start : last - self._start
            ]
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _wav(file: BinaryIO, head: bytes, size: int) -> BinaryIO:
    """A WAV file whose samples reach to the end of the file, if their chunk says 0 bytes."""
    order = "<" if head[:4] == b"RIFF" else ">"
    at = 12
    while at + 8 <= len(head):
        name, length = struct.unpack_from(f"{order}4sI", head, at)
        if name == b"data":
            rest = min(size - at - 8, 0xFFFFFFFF)
            if length == 0 and rest:
                return _Patched(file, at + 4, struct.pack(f"{order}I", rest))
            break
        at += 8 + length + length % 2
    return file


def _ogg_files(data: bytes) -> list[bytes]:
    """The files that were joined to this one. Streams that begin together are one file."""
    starts, previous = [], -1
    for found in _OGG_BEGINNING.finditer(data):
        # A page that follows another's beginning directly belongs to the same file.
        if previous < 0 or data.find(b"OggS", previous + 4) != found.start():
            starts.append(found.start())
        previous = found.start()
    ends = [*starts[1:], len(data)]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)] or [data]


@dataclass(frozen=True)
class _Frame:
    """A frame of MPEG audio, layer III."""

    start: int
    length: int
    header: bytes

    @classmethod
    def at(cls, data: bytes, start: int) -> _Frame | None:
        """The frame that begins there, if one does."""
        header = data[start : start + 4]
        if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
            return None
        version, bits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
        if version == 1 or bits in (0, 15) or rate == 3:
            return None
        factor = 144 if version == 3 else 72
        kbits = _KBITS[version == 3][bits]
        length = factor * 1000 * kbits // _RATES[version][rate] + (header[2] >> 1 & 1)
        return cls(start, length, header)

    @property
    def side_bytes(self) -> int:
        """Bytes between the header and the samples, or a tag in their place."""
        is_mono, is_first = self.header[3] >> 6 == 3, self.header[1] >> 3 & 3 == 3
        return (17 if is_mono else 32) if is_first else (9 if is_mono else 17)

    def tagged_frames(self, data: bytes) -> int | None:
        """Number of frames that this one states, without itself; None if it is no Xing tag."""
        at = self.start + 4 + self.side_bytes
        name, flags, frames = struct.unpack(">4sII", data[at : at + 12].ljust(12, b"\0"))
        return (frames if flags & 1 else 0) if name in (b"Xing", b"Info") else None


def _frames(data: bytes) -> Iterator[_Frame]:
    """Frames of an MP3 file, or of joined ones, with what stands between them left out."""
    at = 0
    while at + 4 <= len(data):
        if data[at : at + 3] == b"ID3" and at + 10 <= len(data):
            a, b, c, d = (byte & 0x7F for byte in data[at + 6 : at + 10])
            at += 10 + (a << 21 | b << 14 | c << 7 | d)
            continue
        frame = _Frame.at(data, at)
        if frame is None:
            found = data.find(b"\xff", at + 1)
            tag = data.find(b"ID3", at + 1)
            at = min((place for place in (found, tag) if place >= 0), default=len(data))
            continue
        yield frame
        at += frame.length


def _mp3(data: bytes) -> bytes:
    """An MP3 file with its number of frames; the same bytes if it states that already."""
    frames = list(_frames(data))
    tags = [frame.tagged_frames(data) for frame in frames]
    audio = [frame for frame, tag in zip(frames, tags, strict=True) if tag is None]
    if not audio:
        return data
    if tags[0] is not None:
        is_right = len(audio) <= tags[0] + 2
    else:  # libsndfile takes the first bit rate for all
        is_right = len({frame.header[2] >> 4 for frame in audio}) == 1 and len(audio) == len(frames)
    if is_right:
        return data
    parts = (data[frame.start : frame.start + frame.length] for frame in audio)
    return _info_frame(audio[0], len(audio)) + b"".join(parts)


def _info_frame(like: _Frame, frames: int) -> bytes:
    """A frame without sound that states the number of frames after it."""
    version, mode = like.header[1] | 1, like.header[3]  # no checksum
    header = bytes([0xFF, version, 0x90 | like.header[2] & 0x0C, mode])
    tag = struct.pack(">4sII", b"Info", 1, frames)
    found = _Frame.at(header, 0)
    assert found is not None
    return (header + bytes(found.side_bytes) + tag).ljust(found.length, b"\0")
