"""Objects inside zip and gzip files, for the watched folder: streamed, never unpacked to disk.

The names inside are shown, not used. Nothing here trusts the archive: how much memory its table of
contents may take and how far it may expand are bounded. Pure functions over an open file.
"""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import PurePosixPath
from typing import IO

from dgate.archive.importer import Stream
from dgate.errors import NotDicom

LONGEST_CONTENTS_BYTES = 32 << 20
"""How long the table of contents of a zip file may be; some 300,000 names."""
EXPANSION = 200
"""How many times its own size an archive may hold; blank images reach a hundred."""
LEAST_EXPANSION_BYTES = 1 << 30

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What the standard library raises for archives that are damaged, encrypted or of another kind."""
_END = b"PK\x05\x06"
_END64_LOCATOR = b"PK\x06\x07"
_END_BYTES = 22
_LOCATOR_BYTES = 20
_LONGEST_COMMENT = 65535


class Wrapping(Enum):
    """What a file is, by its first bytes."""

    NONE = "none"
    ZIP = "zip"
    GZIP = "gzip"
    OTHER = "other"
    """An archive of a kind that is not read: tar, 7z, rar, bzip2, xz."""


def wrapping_of(head: bytes) -> Wrapping:
    """Tell by the first 512 bytes what a file is. A DICOM file may begin with anything."""
    if head[128:132] == b"DICM":
        return Wrapping.NONE
    if head.startswith((b"PK\x03\x04", _END)):
        return Wrapping.ZIP
    if head.startswith(b"\x1f\x8b\x08"):
        return Wrapping.GZIP
    others = (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh", b"\xfd7zXZ\0")
    if head.startswith(others) or head[257:262] == b"ustar":
        return Wrapping.OTHER
    return Wrapping.NONE


def members(file: IO[bytes], wrapping: Wrapping, name: str) -> Iterator[tuple[str, Stream]]:
    """Yield the name and the content of each file inside, one after the other.

    Folders, hidden files, what macOS adds, and DICOMDIR are left out. Each content is to be read
    before the next is asked for; it raises NotDicom where the archive turns out to be broken.

    Raises:
        NotDicom: the file is no archive that can be read; the message says why.
    """
    budget = _Budget(max(LEAST_EXPANSION_BYTES, EXPANSION * _size(file)))
    if wrapping is Wrapping.GZIP:
        inner = name[:-3] if name.lower().endswith(".gz") else name
        with _telling("gzip"):
            yield inner, _Bounded(gzip.GzipFile(fileobj=file), budget, "gzip")
        return
    if wrapping is not Wrapping.ZIP:
        raise NotDicom(
            "archives of this kind are not unpacked", remedy="unpack it first, or zip it"
        )
    _check_contents(file)
    with _telling("zip"), zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir() or _is_left_out(info.filename):
                continue
            with _telling("zip"):
                content = archive.open(info)
            with content:
                yield info.filename, _Bounded(content, budget, "zip")


class _Budget:
    """How many bytes the whole archive may still give."""

    def __init__(self, left: int) -> None:
        self.left = left


class _Bounded:
    """The reading half of a file inside an archive, with the archive's faults as NotDicom."""

    def __init__(self, content: Stream, budget: _Budget, kind: str) -> None:
        self._content = content
        self._budget = budget
        self._kind = kind

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; raises NotDicom for a broken archive, or a bomb."""
        with _telling(self._kind):
            data = self._content.read(size)
        self._budget.left -= len(data)
        if self._budget.left < 0:
            raise NotDicom(
                "the archive holds far more than its size; the rest was not read",
                remedy="unpack it by hand, if it is an honest one",
            )
        return data


@contextmanager
def _telling(kind: str) -> Iterator[None]:
    try:
        yield
    except NotDicom:
        raise
    except _BROKEN as exc:
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise NotDicom(f"the {kind} file cannot be read: {reason}") from exc


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _is_left_out(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    last = parts[-1] if parts else ""
    return not last or last.startswith(".") or last == "DICOMDIR" or "__MACOSX" in parts


def _check_contents(file: IO[bytes]) -> None:
    """Raise NotDicom for a zip file whose table of contents would fill the memory: the standard
    library loads it whole."""
    size = _size(file)
    start = max(0, size - _END_BYTES - _LONGEST_COMMENT - _LOCATOR_BYTES)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_BYTES:
        raise NotDicom("the zip file cannot be read: its end is missing")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(0, at - _LOCATOR_BYTES) : at]
    if locator.startswith(_END64_LOCATOR):
        file.seek(min(int.from_bytes(locator[8:16], "little"), size))
        length64 = int.from_bytes(file.read(56)[40:48], "little")
        length = length64 if length == 0xFFFFFFFF else max(length, length64)
    file.seek(0)
    if length > LONGEST_CONTENTS_BYTES:
        raise NotDicom("the zip file has too many entries", remedy="divide it")
