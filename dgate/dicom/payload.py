"""A data set's bytes on their way in: in memory while small, spilled to a file when large.

Not for parsing (`dgate.dicom.table`) nor for naming (`dgate.archive.naming`). Owned by one
association thread at a time.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dgate.disk import check_written

log = logging.getLogger(__name__)

SPILL_BYTES = 1 << 20
GROWTH_BYTES = 8 << 20
"""A spill file looks for free space again each time that it has grown by so much."""

_MOST_MOVES = 3
"""So many disks are tried for one object."""


class NoRoom(OSError):
    """The disk would fall below its reserve; nothing is wrong with it."""


@dataclass(slots=True)
class SpillFile:
    """An open temporary file that already holds a Part 10 header of `data_offset` bytes."""

    descriptor: int
    path: Path
    data_offset: int
    has_room: Callable[[int], bool] | None = None
    """Tells whether the disk may take so many more bytes; None = it is not asked."""
    elsewhere: Callable[[OSError, int], SpillFile | None] | None = None
    """Opens a file on another disk that takes so many bytes, after this one could not be written;
    None = there is none."""
    area: str = ""
    """Name of the device that it lies on."""
    left: Callable[[Path, OSError], None] | None = None
    """Told of the file when it could not be removed; None = the log is."""


class Payload:
    """The bytes of one data set, as they arrive.

    Up to `SPILL_BYTES` they stay in memory. Beyond that, `spill` opens a file and everything goes
    there, so that memory does not depend on the object's size. Without `spill` (identifiers), what
    exceeds `most_bytes` is counted in `size` but not kept, and `overflowed` says so. From a
    failing disk, or one without room for more, everything moves to another one if there is one.
    Otherwise the failure is remembered in `error` and the disk gets its space back at once; the
    rest is swallowed so that the association can still answer with the right status.
    """

    __slots__ = (
        "_look_at",
        "_map",
        "_memory",
        "_most_bytes",
        "_spill",
        "error",
        "overflowed",
        "size",
        "spilled",
    )

    def __init__(
        self, spill: Callable[[], SpillFile] | None = None, *, most_bytes: int = SPILL_BYTES
    ) -> None:
        self._memory = bytearray()
        self._most_bytes = SPILL_BYTES if spill is not None else most_bytes
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
        if self.spilled is None and self.size <= self._most_bytes:
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
            self._go_elsewhere(exc, fragment)

    def view(self) -> memoryview:
        """Return the whole data set as a readable buffer; a spilled one is mapped, not loaded."""
        if self.spilled is None:
            return memoryview(self._memory)
        if self._map is None:
            # Safe from the signal for a page that is gone: the file is ours alone, just written.
            self._map = mmap.mmap(self.spilled.descriptor, 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)[self.spilled.data_offset :]

    def close(self) -> None:
        """Close and remove the spill file if nobody has renamed it; safe to call twice.

        Never raises: what became of the object is settled by now, and a file that a failing disk
        does not let go must not change the answer.
        """
        # A view that is still referenced keeps the mapping alive; the kernel frees it with the last
        # one.
        self._map = None
        self._memory = bytearray()
        spill, self.spilled = self.spilled, None
        if spill is not None:
            _discard(spill)

    def _look_for_room(self, spill: SpillFile, fragment_bytes: int) -> None:
        """Raise ENOSPC unless the disk may take what comes until the next look."""
        self._look_at = self.size + GROWTH_BYTES
        more = max(fragment_bytes, GROWTH_BYTES)
        if spill.has_room is not None and not spill.has_room(more):
            raise NoRoom(errno.ENOSPC, "the data set leaves too little free space")

    def _go_elsewhere(self, exc: OSError, fragment: memoryview | bytes) -> None:
        """Move what is here to another disk, then take the fragment there; else give up."""
        for _ in range(_MOST_MOVES):
            old = self.spilled
            fresh = None
            if old is not None and old.elsewhere is not None:
                fresh = old.elsewhere(exc, self.size + GROWTH_BYTES)
            if old is None or fresh is None:
                break
            is_copy = not self._memory
            try:
                if not is_copy:
                    _write_all(fresh.descriptor, self._memory)
                else:
                    _copy(old, fresh, self.size - len(fragment))
                _write_all(fresh.descriptor, fragment)
            except OSError as failure:
                exc = failure
                old.elsewhere = fresh.elsewhere
                _discard(fresh)
                continue
            try:
                if is_copy:
                    check_written(old.descriptor)
            except OSError as failure:
                # What was read of the old file need not be what arrived, and it says so only once.
                exc = failure
                _discard(fresh)
                break
            self._memory = bytearray()
            self.spilled = fresh
            _discard(old)
            return
        self._give_up(exc)

    def _give_up(self, exc: OSError) -> None:
        """Remember the error and free what the data set has taken."""
        self.error = exc
        if self.spilled is None:
            return
        if exc.filename is None:
            exc.filename = str(self.spilled.path)
        self.close()


def _copy(source: SpillFile, target: SpillFile, size: int) -> None:
    """Copy the first `size` bytes of a data set to the end of another file; raises OSError."""
    at, end = source.data_offset, source.data_offset + size
    while at < end:
        piece = os.pread(source.descriptor, min(SPILL_BYTES, end - at), at)
        if not piece:
            raise OSError(errno.EIO, "the spill file is shorter than what was written")
        _write_all(target.descriptor, piece)
        at += len(piece)


def _discard(spill: SpillFile) -> None:
    """Close and remove a spill file; one that cannot be removed now, recovery removes."""
    try:
        try:
            os.close(spill.descriptor)
        finally:
            spill.path.unlink(missing_ok=True)
    except OSError as exc:
        # A read-only disk refuses before it looks whether there is such a file.
        if not _is_gone(spill.path):
            if spill.left is not None:
                spill.left(spill.path, exc)
            else:
                log.warning("The temporary file %s could not be removed: %s.", spill.path, exc)


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
