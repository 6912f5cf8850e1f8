"""A data set that stays in its file: read by position, never mapped where it lies.

A mapping of a file that somebody else cuts short kills whoever looks at it; a read that comes too
late is an error like any other. Any thread may read; what is read is what is there at that moment.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from dgate.dicom.scan import (
    DELIMITERS,
    ITEM,
    SEQUENCE_END,
    UNDEFINED,
    Buffer,
    Encoding,
    Header,
    Layout,
    content_encoding,
    header,
    scan,
    skip_undefined,
    walk_tail,
)
from dgate.errors import NotDicom, StoreError

CHUNK_BYTES = 1 << 20
_FIRST_LOOK = 64 << 10
_LONGEST_HEAD = 16 << 20
"""A longer header is not held in memory but looked at in a copy of the file."""
_WINDOW = 4 << 10
"""What is read at once around the header of a fragment or element."""
_LONGEST_HEADER = 12


class Readable(Protocol):
    """An open file."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the file. Raises OSError."""
        ...


class FileData:
    """The bytes of one data set in an open file, which stays open as long as this is used."""

    __slots__ = ("_copy", "_file", "_folder", "_size", "_start")

    def __init__(self, file: Readable, start: int, size: int, folder: Path | None = None) -> None:
        """The data set has `size` bytes from `start` on; `folder` is for a temporary file."""
        self._file = file
        self._start = start
        self._size = size
        self._folder = folder
        self._copy: memoryview | None = None

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, stop: int) -> bytes:
        """Return a range of the data set; raises StoreError when it cannot be read."""
        stop = min(stop, self._size)
        if start >= stop:
            return b""
        try:
            found = self._file.read_at(self._start + start, stop - start)
            # One call gives at most 2 GiB, and less where a signal comes in between.
            while found and len(found) < stop - start:
                more = self._file.read_at(
                    self._start + start + len(found), stop - start - len(found)
                )
                if not more:
                    break
                found += more
        except OSError as exc:
            raise StoreError(f"the stored file cannot be read: {exc.strerror}") from exc
        if len(found) < stop - start:
            raise StoreError("the stored file is shorter than it was")
        return found

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield a range piece by piece; raises what `read` does."""
        for place in range(start, stop, CHUNK_BYTES):
            yield self.read(place, min(stop, place + CHUNK_BYTES))

    def view(self) -> memoryview:
        """Return the data set as a buffer: of a copy without a name, which nobody can cut short.

        It is made when first asked for. Raises StoreError when that is not possible.
        """
        if self._copy is None:
            self._copy = self._copied() if self._size else memoryview(b"")
        return self._copy

    def _copied(self) -> memoryview:
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder) as own:
                own.writelines(self.chunks(0, self._size))
                own.flush()
                # The mapping keeps the file when it is closed.
                return memoryview(mmap.mmap(own.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as exc:
            raise StoreError(
                f"no temporary file can be written: {exc.strerror}",
                where=str(self._folder or tempfile.gettempdir()),
                remedy="free space there, or set TempDir",
            ) from exc


def head_of(data: FileData, encoding: Encoding) -> tuple[bytes, Layout] | None:
    """Return what stands before group 7FE0 with its layout; None when it is too long to be held.

    Raises NotDicom, StoreError.
    """
    size = _FIRST_LOOK
    while True:
        head = data.read(0, size)
        try:
            # By the length of all: what does not fit there is wrong, what reaches beyond `head`
            # ends in NotDicom too, and is looked at again with more of it.
            layout = scan(head, encoding, 0, len(data))
        except NotDicom:
            if len(head) == len(data):
                raise
        else:
            if layout.stop <= len(head):
                return head[: layout.stop], layout
        if size >= _LONGEST_HEAD:
            return None
        size *= 8


def tail_of(data: FileData, encoding: Encoding, pos: int) -> Layout:
    """Return what `scan_tail` does; of long values nothing is read.

    Raises NotDicom, StoreError.
    """
    size = len(data)
    window = _Window(data)

    def header_at(pos: int) -> Header:
        tag, vr, value, length = header(window.at(pos, _LONGEST_HEADER), encoding, 0, size - pos)
        return tag, vr, pos + value, length

    def skip_at(pos: int, vr: bytes | None) -> int:
        return _behind_fragments(data, window, content_encoding(encoding, vr), pos) or (
            skip_undefined(data.view(), encoding, pos, size, vr)
        )

    return walk_tail(header_at, skip_at, pos, size)


def _behind_fragments(data: FileData, window: _Window, encoding: Encoding, pos: int) -> int | None:
    """Return the offset behind the delimiter of plain fragments; None when they are not plain."""
    while pos < len(data):
        try:
            group, number, length = encoding.implicit(window.at(pos, 8), 0)
        except struct.error as exc:
            raise NotDicom("the data set ends inside a sequence") from exc
        if group != DELIMITERS or length == UNDEFINED:
            return None
        pos += 8
        if number == SEQUENCE_END:
            return pos
        if number != ITEM:
            return None
        pos += length
    raise NotDicom("a sequence of undefined length has no end")


class _Window:
    """The bytes around the place that was looked at last."""

    def __init__(self, data: FileData) -> None:
        self._data = data
        self._start = 0
        self._bytes = b""

    def at(self, pos: int, size: int) -> bytes:
        """Return the bytes from `pos` on: at least `size`, fewer only at the end."""
        if not self._start <= pos <= pos + size <= self._start + len(self._bytes):
            self._start = pos
            self._bytes = self._data.read(pos, pos + _WINDOW)
        return self._bytes[pos - self._start :]


def as_buffer(data: Buffer | FileData) -> Buffer:
    """Return a data set as one buffer; raises StoreError as `FileData.view` does."""
    return data.view() if isinstance(data, FileData) else data
