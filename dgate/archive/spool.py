"""The spool: copies of objects that belong to their debts and not to the archive (rulings.md 4).

Not for who owes what (`dgate.delivery.ledger`), which also decides when a copy is no longer needed.
May be used by any thread.
"""

# Paths are text here: this runs for every object, and a Path costs microseconds.
# ruff: noqa: PTH104, PTH208
from __future__ import annotations

import itertools
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dgate.archive.files import (
    FileReader,
    Part,
    create_folders,
    free_bytes,
    open_spill,
    storage_failure,
    unlink_quietly,
    write_file,
)
from dgate.archive.ownership import Leftovers, Owner
from dgate.archive.watermark import Room, room_of
from dgate.dicom.payload import SpillFile
from dgate.disk import sync_folder

log = logging.getLogger(__name__)

SPOOL_DEVICE = "SPOOL"
"""What stands in the place of a device's name for a copy in the spool."""
LOST = "lost"
"""Folder in the spool for copies that no debt is known for."""
UNFINISHED = ".part"
"""Ending of what is not, or not yet, a complete copy."""


class Spool:
    """A flat folder of Part 10 files named `<unique>.dcm`; the unique part begins with the mark of
    the gateway (`dgate.archive.ownership`)."""

    def __init__(self, folder: Path, *, durable: bool = True, owner: Owner | None = None) -> None:
        """`owner` is the gateway; None = one that is alone."""
        self.folder = folder
        self._prefix = f"{folder}/"
        self._durable = durable
        self._owner = owner or Owner()
        self._unique_prefix = self._owner.prefix(secrets.token_hex(8))
        self._counter = itertools.count()

    def prepare(self) -> None:
        """Create the folder and make it durable; called once, before anything else."""
        try:
            create_folders(self.folder)
        except OSError as exc:
            raise storage_failure(exc, str(self.folder)) from exc

    def add(self, parts: Sequence[Part]) -> str:
        """Write a synced copy and return its name.

        A crash leaves an unfinished file, which recovery removes, or a copy without a debt, which
        it sets aside.

        Raises:
            OutOfSpace: the disk cannot take it.
        """
        name = self._unique()
        path = self._prefix + name
        write_file(path + UNFINISHED, parts, durable=self._durable)
        try:
            os.rename(path + UNFINISHED, path)
        except OSError as exc:
            unlink_quietly(path + UNFINISHED)
            raise storage_failure(exc, path) from exc
        return name

    def link(self, descriptor: int, path: Path) -> str | None:
        """Give a complete file a second name here; None where the file system cannot.

        Raises:
            OutOfSpace: the file cannot be synced.
        """
        name = self._unique()
        try:
            if self._durable:
                os.fdatasync(descriptor)
        except OSError as exc:
            raise storage_failure(exc, str(path)) from exc
        try:
            os.link(path, self._prefix + name)
        except OSError:
            return None
        return name

    def sync(self) -> None:
        """Make the names of copies durable; raises OutOfSpace."""
        if not self._durable:
            return
        try:
            sync_folder(self.folder)
        except OSError as exc:
            raise storage_failure(exc, str(self.folder)) from exc

    def spill(self, sop_instance: str, header: bytes) -> SpillFile:
        """Open a file for an object that is still arriving where no device is; raises OSError.

        A crash leaves it for recovery to remove.
        """
        return open_spill(f"{self._prefix}{sop_instance}.{self._unique()}{UNFINISHED}", header)

    def free_bytes(self) -> int:
        """Return what the file system lets an ordinary user write; 0 when it cannot be asked."""
        try:
            return free_bytes(self._prefix)
        except OSError as exc:
            log.error("The spool (%s) cannot be used: %s.", self.folder, exc.strerror)
            return 0

    def room(self) -> Room:
        """Return what the file system still takes; never raises."""
        return room_of(self._prefix)

    def remove(self, name: str) -> None:
        """Remove a copy whose last debt is done; one that is gone already is as good."""
        if "/" not in name:
            unlink_quietly(self._prefix + name)

    def open(self, name: str) -> FileReader:
        """Open a copy for reading; raises FileNotFoundError."""
        return FileReader.of(self._prefix + name)

    def names(self) -> Iterator[str]:
        """Yield the names of all copies, unfinished ones included."""
        yield from (name for name in os.listdir(self.folder) if name != LOST)

    def leftovers(self) -> Iterator[str]:
        """Yield the names of what earlier runs left, without listing the folder at once.

        What another gateway may have in hand is not among it. Raises OSError.
        """
        mine = Leftovers(self._owner, str(self.folder))
        with os.scandir(self.folder) as entries:
            for entry in entries:
                name = entry.name
                if self._unique_prefix not in name and name != LOST and mine.has(name):
                    yield name

    def set_aside(self, names: Iterable[str]) -> Path:
        """Move copies that nobody is known to own into the folder LOST, which is returned.

        One that is gone by now is as good. A crash leaves some of them where they were; raises
        OSError.
        """
        lost = self.folder / LOST
        create_folders(lost)
        for name in names:
            try:
                os.rename(self._prefix + name, f"{lost}/{name}")
            except FileNotFoundError:
                log.debug("Another gateway was at work on the copy %s.", name)
        # The new names first: a power cut must not leave a copy without any.
        sync_folder(lost)
        sync_folder(self.folder)
        return lost

    def _unique(self) -> str:
        return f"{self._unique_prefix}{next(self._counter):x}.dcm"
