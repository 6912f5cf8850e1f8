"""The spool: copies of objects that belong to their debts and not to the archive (rulings.md 4).

Not for who owes what (`dgate.delivery.ledger`), which also decides when a copy is no longer needed.
May be used by any thread.
"""

# Paths are text here: this runs for every object, and a Path costs microseconds.
# ruff: noqa: PTH208
from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from dgate.archive.files import (
    FileReader,
    Part,
    create_folders,
    open_spill,
    storage_failure,
    unlink_quietly,
    write_file,
)
from dgate.dicom.payload import SpillFile

SPOOL_DEVICE = "SPOOL"
"""What stands in the place of a device's name for a copy in the spool."""


class Spool:
    """A flat folder of Part 10 files named `<unique>.dcm`."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self._prefix = f"{folder}/"
        self._durable = durable
        self._session = secrets.token_hex(8)
        self._counter = itertools.count()

    def prepare(self) -> None:
        """Create the folder and make it durable; called once, before anything else."""
        try:
            create_folders(self.folder)
        except OSError as exc:
            raise storage_failure(exc, str(self.folder)) from exc

    def add(self, parts: Sequence[Part]) -> str:
        """Write a synced copy and return its name; a crash leaves it for recovery to remove.

        Raises:
            OutOfSpace: the disk cannot take it.
        """
        name = self._unique()
        write_file(self._prefix + name, parts, durable=self._durable)
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

    def spill(self, sop_instance: str, header: bytes) -> SpillFile:
        """Open a file for an object that is still arriving where no device is; raises OSError.

        A crash leaves it for recovery to remove.
        """
        return open_spill(f"{self._prefix}{sop_instance}.{self._unique()}.part", header)

    def remove(self, name: str) -> None:
        """Remove a copy whose last debt is done; one that is gone already is as good."""
        if "/" not in name:
            unlink_quietly(self._prefix + name)

    def open(self, name: str) -> FileReader:
        """Open a copy for reading; raises FileNotFoundError."""
        return FileReader.of(self._prefix + name)

    def names(self) -> Iterator[str]:
        """Yield the names of all copies."""
        yield from os.listdir(self.folder)

    def _unique(self) -> str:
        return f"{self._session}-{next(self._counter):x}.dcm"
