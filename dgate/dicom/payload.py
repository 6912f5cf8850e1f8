"""A data set's bytes on their way in: in memory while small, spilled to a file when large.

Not for parsing (`dgate.dicom.table`) nor for naming (`dgate.archive.naming`). Owned by one
association thread at a time.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SPILL_BYTES = 1 << 20


@dataclass(slots=True)
class SpillFile:
    """An open temporary file that already holds a Part 10 header of `data_offset` bytes."""

    descriptor: int
    path: Path
    data_offset: int


class Payload:
    """The bytes of one data set, as they arrive.

    Up to `SPILL_BYTES` they stay in memory. Beyond that, `spill` opens a file and everything goes
    there, so that memory does not depend on the object's size. Without `spill` (identifiers), what
    exceeds `SPILL_BYTES` is counted in `size` but not kept, and `overflowed` says so. A failing
    disk is remembered in `error`; the rest is swallowed so that the association can still answer
    with the right status.
    """

    __slots__ = ("_map", "_memory", "_spill", "error", "overflowed", "size", "spilled")

    def __init__(self, spill: Callable[[], SpillFile] | None = None) -> None:
        self._memory = bytearray()
        self._spill = spill
        self._map: mmap.mmap | None = None
        self.size = 0
        self.spilled: SpillFile | None = None
        self.overflowed = False
        self.error: OSError | None = None

    def append(self, fragment: memoryview | bytes) -> None:
        """Take the next fragment; never raises for a full disk (see `error`)."""
        self.size += len(fragment)
        if self.error is not None or self.overflowed:
            return
        if self.spilled is None and self.size <= SPILL_BYTES:
            self._memory += fragment
            return
        if self._spill is None:
            self.overflowed = True
            return
        try:
            if self.spilled is None:
                self.spilled = self._spill()
                _write_all(self.spilled.descriptor, self._memory)
                self._memory = bytearray()
            _write_all(self.spilled.descriptor, fragment)
        except OSError as exc:
            self.error = exc

    def view(self) -> memoryview:
        """Return the whole data set as a readable buffer; a spilled one is mapped, not loaded."""
        if self.spilled is None:
            return memoryview(self._memory)
        if self._map is None:
            self._map = mmap.mmap(self.spilled.descriptor, 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)[self.spilled.data_offset :]

    def close(self) -> None:
        """Close and remove the spill file if nobody has renamed it; safe to call twice."""
        if self.spilled is not None:
            os.close(self.spilled.descriptor)
            self.spilled.path.unlink(missing_ok=True)
            self.spilled = None
        # A view that is still referenced keeps the mapping alive; the kernel frees it with the last
        # one.
        self._map = None
        self._memory = bytearray()


def _write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
