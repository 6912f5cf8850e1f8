"""The bytes of a data set as it came, and where its elements are in them.

In memory, deflated, or in a file. What rules change is in `dgate.dicom.table`. Tables and their
snapshots share a body, in several threads: nothing of it changes but what is looked up late.
"""

from __future__ import annotations

from collections.abc import Iterator

from dgate.dicom import deflate
from dgate.dicom.filedata import FileData, as_buffer, head_of, tail_of
from dgate.dicom.patches import Cut
from dgate.dicom.scan import (
    Buffer,
    Encoding,
    Entry,
    Layout,
    really_implicit,
    scan,
    scan_tail,
    without_vr,
)

COPY_BYTES = 64 << 10
"""Up to this size the data set is copied: `bytes` are faster to take apart than a view."""
_LONG_VALUE = 4 << 20
"""Longer values of a file are not loaded for a view."""


class Body:
    """One encoded data set."""

    __slots__ = ("_file", "_inflated", "_tail", "buffer", "data", "deflated", "encoding", "layout")

    data: bytes | memoryview
    """What the offsets of the header refer to: as much of the data set as was needed for it."""
    layout: Layout
    """The elements before group 7FE0."""

    def __init__(self, buffer: Buffer | FileData, encoding: Encoding, *, deflated: bool) -> None:
        """Scan a data set; raises NotDicom, and StoreError for one in a file."""
        if isinstance(buffer, FileData):
            self._open_file(buffer, encoding, deflated=deflated)
        else:
            self._open(buffer, encoding, deflated=deflated)

    def _open(self, buffer: Buffer, encoding: Encoding, *, deflated: bool) -> None:
        self.buffer: Buffer | FileData = buffer
        self.deflated = deflated
        self._file: FileData | None = None
        self._tail: Layout | None = None
        if deflated:
            data, layout, whole = deflate.inflate_header(buffer, encoding)
            self._inflated: Buffer | None = data if whole else None
            self.data, self.layout, self.encoding = data, layout, encoding
            return
        small = len(buffer) <= COPY_BYTES
        plain = bytes(buffer) if small else memoryview(buffer)
        self.data = self._inflated = plain
        layout = scan(plain, encoding)
        if encoding.explicit and really_implicit(layout):
            # What is set must not have a VR where its neighbours have none.
            encoding = without_vr(encoding)
            layout = scan(plain, encoding)
        self.layout, self.encoding = layout, encoding

    def _open_file(self, file: FileData, encoding: Encoding, *, deflated: bool) -> None:
        found = None if deflated else head_of(file, encoding)
        if found is not None and encoding.explicit and really_implicit(found[1]):
            encoding = without_vr(encoding)
            found = head_of(file, encoding)
        if found is None:
            self._open(file.view(), encoding, deflated=deflated)
            return
        self.data, self.layout = found
        self.buffer = self._file = file
        self.deflated = False
        self.encoding = encoding
        self._inflated = None
        self._tail = None

    def __len__(self) -> int:
        """Return the length of the data set, inflated if need be."""
        return len(self._all() if self._file is None else self._file)

    @property
    def is_whole(self) -> bool:
        """Whether all of the data set can be looked at without inflating more of it."""
        return self._file is not None or self._inflated is not None

    @property
    def tail(self) -> Layout:
        """The elements from group 7FE0 on: pixel data and what follows it."""
        if self._tail is None:
            stop = self.layout.stop
            if self._file is None:
                self._tail = scan_tail(self._all(), self.encoding, stop)
            else:
                self._tail = tail_of(self._file, self.encoding, stop)
        return self._tail

    def _all(self) -> Buffer:
        """Return the data set, inflated; not for one in a file."""
        if self._inflated is None:
            assert not isinstance(self.buffer, FileData)
            self._inflated = deflate.inflate_all(self.buffer)
        return self._inflated

    def tail_value(self, tag: int) -> bytes | None:
        """Return the value of an element from group 7FE0 on, None when it is absent."""
        entry = self.tail.entries.get(tag)
        if entry is None:
            return None
        start, stop = self._value(tag, entry)
        if self._file is not None:
            return self._file.read(start, stop)
        return bytes(self._all()[start:stop])

    def tail_view(self, tag: int) -> memoryview | None:
        """Return what `tail_value` returns without loading it when it is long."""
        entry = self.tail.entries.get(tag)
        if entry is None:
            return None
        start, stop = self._value(tag, entry)
        if self._file is None:
            return memoryview(self._all())[start:stop]
        if stop - start <= _LONG_VALUE:
            return memoryview(self._file.read(start, stop))
        return self._file.view()[start:stop]

    def _value(self, tag: int, entry: Entry) -> tuple[int, int]:
        return entry[1], entry[2] - 8 if tag in self.tail.undefined else entry[2]

    @property
    def rest(self) -> Buffer:
        """The bytes behind the last element, which belong to none."""
        stop = self.tail.stop
        if self._file is None:
            return memoryview(self._all())[stop:]
        return self._file.view()[stop:] if stop < len(self._file) else b""

    @property
    def pixel_offset(self) -> int | None:
        """Where the elements from group 7FE0 on start in the (inflated) data set, if any."""
        stop = self.layout.stop
        end = len(self.data) if self._file is None else len(self._file)
        return stop if stop < end else None

    @property
    def encoded(self) -> Buffer:
        """The data set as it came, as one buffer."""
        return as_buffer(self.buffer)

    def pieces(self, offset: int, length: int) -> Iterator[bytes | memoryview]:
        """Yield a range of the data set as it came: of a file piece by piece."""
        if isinstance(self.buffer, FileData):
            yield from self.buffer.chunks(offset, offset + length)
        else:
            yield memoryview(self.buffer)[offset : offset + length]

    def deflated_with(self, cuts: list[Cut]) -> bytes:
        """Return a deflated data set with some ranges replaced."""
        assert not isinstance(self.buffer, FileData)
        chunks = deflate.inflated_chunks(self.buffer)
        return deflate.deflate(deflate.splice(chunks, cuts))
