"""A data set's bytes on their way in: in memory while small, spilled to a file when large.

Not for parsing (`dgate.dicom.table`) nor for naming (`dgate.archive.naming`). Owned by one
association thread at a time.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SPILL_BYTES = 1 << 20
GROWTH_BYTES = 64 << 20
"""A spill file looks for free space again each time that it has grown by so much."""


@dataclass(slots=True)
class SpillFile:
    """An open temporary file that already holds a Part 10 header of `data_offset` bytes."""

    descriptor: int
    path: Path
    data_offset: int
    has_room: Callable[[int], bool] | None = None
    """Tells whether the disk may take so many more bytes; None = it is not asked."""


class Payload:
    """The bytes of one data set, as they arrive.

    Up to `SPILL_BYTES` they stay in memory. Beyond that, `spill` opens a file and everything goes
    there, so that memory does not depend on the object's size. Without `spill` (identifiers), what
    exceeds `SPILL_BYTES` is counted in `size` but not kept, and `overflowed` says so. A failing
    disk, or one without room for more, is remembered in `error` and gets its space back at once;
    the rest is swallowed so that the association can still answer with the right status.
    """

    __slots__ = ("_look_at", "_map", "_memory", "_spill", "error", "overflowed", "size", "spilled")

    def __init__(self, spill: Callable[[], SpillFile] | None = None) -> None:
        self._memory = bytearray()
        self._spill = spill
        self._map: mmap.mmap | None = None
        self._look_at = GROWTH_BYTES
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
            if self.size >= self._look_at:
                self._look_for_room(self.spilled, len(fragment))
            _write_all(self.spilled.descriptor, fragment)
        except OSError as exc:
            self._give_up(exc)

    def view(self) -> memoryview:
        """Return the whole data set as a readable buffer; a spilled one is mapped, not loaded."""
        if self.spilled is None:
            return memoryview(self._memory)
        if self._map is None:
            # Safe from the signal for a page that is gone: the file is ours alone, just written.
            self._map = mmap.mmap(self.spilled.descriptor, 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)[self.spilled.data_offset :]

    def close(self) -> None:
        """Close and remove the spill file if nobody has renamed it; safe to call twice."""
        # A view that is still referenced keeps the mapping alive; the kernel frees it with the last
        # one.
        self._map = None
        self._memory = bytearray()
        spill, self.spilled = self.spilled, None
        if spill is not None:
            os.close(spill.descriptor)
            spill.path.unlink(missing_ok=True)

    def _look_for_room(self, spill: SpillFile, fragment_bytes: int) -> None:
        """Raise ENOSPC unless the disk may take what comes until the next look."""
        self._look_at = self.size + GROWTH_BYTES
        more = max(fragment_bytes, GROWTH_BYTES)
        if spill.has_room is not None and not spill.has_room(more):
            raise OSError(errno.ENOSPC, "the data set leaves too little free space")

    def _give_up(self, exc: OSError) -> None:
        """Remember the error and free what the data set has taken."""
        self.error = exc
        if self.spilled is None:
            return
        if exc.filename is None:
            exc.filename = str(self.spilled.path)
        # On a disk that cannot even remove a file, recovery does so at the next start.
        with suppress(OSError):
            self.close()


def _write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
