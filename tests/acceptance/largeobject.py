"""Objects of more than 4 GiB, made piece by piece, and a checksum of what comes back.

Nothing here holds more than one piece in memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.rawdicom import EXPLICIT_LE

SC = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture Image Storage."""
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
GIB = 1 << 30
PIECE_BYTES = 1 << 20
UNDEFINED = 0xFFFFFFFF
ELEMENT_BYTES = GIB
"""So long is one element, or fragment, of a large object."""
_PATTERN = bytes(range(256)) * (PIECE_BYTES // 256)


@dataclass(frozen=True, slots=True)
class Large:
    """One large object: its header, and what stands between runs of pixels."""

    sop_instance: str
    syntax: str
    parts: tuple[bytes | int, ...]
    """Bytes as they are; a number stands for so many bytes of content."""

    @property
    def size(self) -> int:
        """Bytes of the data set."""
        return sum(part if isinstance(part, int) else len(part) for part in self.parts)

    def pieces(self) -> Iterator[bytes]:
        """Yield the data set."""
        number = 0
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
                continue
            left = part
            while left:
                # Each piece is another one, so that one that is lost or comes twice is seen.
                size = min(left, PIECE_BYTES)
                yield (struct.pack("<Q", number) + _PATTERN[8:])[:size]
                number += 1
                left -= size

    def write_sparse(self, path: Path, header: bytes) -> None:
        """Write a file in which all content is zeros that take no space."""
        with path.open("wb") as file:
            file.write(header)
            for part in self.parts:
                if isinstance(part, bytes):
                    file.write(part)
                else:
                    file.seek(part, 1)
            file.truncate(len(header) + self.size)


@dataclass(slots=True)
class Checksum:
    """The CRC and the size of a stream."""

    crc: int = 0
    size: int = 0

    def add(self, piece: bytes | memoryview) -> None:
        """Take the next piece."""
        self.crc = zlib.crc32(piece, self.crc)
        self.size += len(piece)


def checksum_of(pieces: Iterator[bytes]) -> Checksum:
    """Return the checksum of a stream."""
    found = Checksum()
    for piece in pieces:
        found.add(piece)
    return found


def zeros_of(large: Large) -> Iterator[bytes]:
    """Yield a data set with zeros for its content, as a sparse file has it."""
    zeros = bytes(PIECE_BYTES)
    for part in large.parts:
        if isinstance(part, bytes):
            yield part
        else:
            for start in range(0, part, PIECE_BYTES):
                yield zeros[: min(PIECE_BYTES, part - start)]


def encapsulated(total: int) -> Large:
    """Return compressed pixel data: an empty offset table, fragments, undefined length."""
    head = _head("2.25.1", JPEG_BASELINE) + _header(0x7FE00010, b"OB", UNDEFINED) + _item(0)
    parts: list[bytes | int] = [head]
    for start in range(0, total, ELEMENT_BYTES):
        size = min(ELEMENT_BYTES, total - start)
        parts += [_item(size), size]
    parts.append(_end(0xE0DD))
    return Large("2.25.1", JPEG_BASELINE, tuple(parts))


def of_elements(total: int) -> Large:
    """Return native pixel data, and private elements behind it until the size is reached."""
    parts: list[bytes | int] = [_head("2.25.2", EXPLICIT_LE)]
    first = min(ELEMENT_BYTES, total)
    parts += [_header(0x7FE00010, b"OW", first), first]
    parts.append(_header(0x7FE10010, b"LO", 6) + b"DGATE ")
    for number, start in enumerate(range(first, total, ELEMENT_BYTES)):
        size = min(ELEMENT_BYTES, total - start)
        parts += [_header(0x7FE11000 + number, b"OB", size), size]
    return Large("2.25.2", EXPLICIT_LE, tuple(parts))


def of_undefined_length(total: int) -> Large:
    """Return a sequence of undefined length, whose items of undefined length have large
    elements."""
    parts: list[bytes | int] = [_head("2.25.3", EXPLICIT_LE)]
    parts += [_header(0x7FE00010, b"OW", 32) + bytes(32)]
    parts.append(_header(0x7FE10010, b"LO", 6) + b"DGATE " + _header(0x7FE11000, b"SQ", UNDEFINED))
    for start in range(0, total, ELEMENT_BYTES):
        size = min(ELEMENT_BYTES, total - start)
        parts += [_item(UNDEFINED) + _header(0x00420011, b"OB", size), size, _end(0xE00D)]
    parts.append(_end(0xE0DD))
    return Large("2.25.3", EXPLICIT_LE, tuple(parts))


KINDS: dict[str, Callable[[int], Large]] = {
    "encapsulated": encapsulated,
    "elements": of_elements,
    "undefined": of_undefined_length,
}


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process has for itself, without files that it has
    mapped."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the system does not tell RssAnon")


def _head(sop_instance: str, syntax: str) -> bytes:
    values = {
        0x00080016: (b"UI", SC),
        0x00080018: (b"UI", sop_instance),
        0x00080020: (b"DA", "20240131"),
        0x00080060: (b"CS", "OT"),
        0x00100010: (b"PN", "LARGE^OBJECT"),
        0x00100020: (b"LO", "LARGE"),
        0x0020000D: (b"UI", "2.25.10"),
        0x0020000E: (b"UI", "2.25.11"),
    }
    encoded = b""
    for tag, (vr, text) in values.items():
        value = text.encode()
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        encoded += _header(tag, vr, len(value)) + value
    numbers = {0x00280002: 1, 0x00280010: 4, 0x00280011: 4, 0x00280100: 16}
    for tag, number in numbers.items():
        encoded += _header(tag, b"US", 2) + struct.pack("<H", number)
    return encoded


def _header(tag: int, vr: bytes, length: int) -> bytes:
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length)


def _item(length: int) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, length)


def _end(number: int) -> bytes:
    return struct.pack("<HHI", 0xFFFE, number, 0)
