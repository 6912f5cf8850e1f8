"""Finds the file of a replacement that another gateway has committed and not given its name yet.

In a database that gateways share a delivery can be claimed between the commit of an object and the
renaming of its file. A new object is found in the incoming folder then (`FolderDevice.open`); for
one that comes in the place of an older file, that file is under the name until the renaming, and
would be sent in the place of what was acknowledged. Not for recovery, which gives the name
(`dgate.archive.recovery`). Thread-safe.
"""

from __future__ import annotations

import logging

from dgate.archive.database import Database
from dgate.archive.devices import Device, Reader
from dgate.archive.files import FileReader, hash_file
from dgate.archive.folder import FolderDevice

log = logging.getLogger(__name__)


class Replacing:
    """Knows from the index which content of an object counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = database.sql("SELECT sha256 FROM dgate_rewrites WHERE sop = ?")

    @classmethod
    def of(cls, database: Database) -> Replacing | None:
        """Return what is needed for a database; None where no other gateway stores objects."""
        return None if database.embedded else cls(database)

    def noted(self, sop_instance: str) -> str:
        """Return the SHA-256 of the file that counts, hexadecimal; empty for an object that was not
        replaced lately. Raises StoreError."""
        with self._database.reader() as connection:
            row = connection.execute(self._sql, (sop_instance,)).fetchone()
        return "" if row is None else str(row[0])

    def open(self, device: Device, sop_instance: str, sha256: str) -> Reader | None:
        """Open the file with this hash that waits for its name; None when none does any more."""
        if not isinstance(device, FolderDevice):
            return None
        try:
            waiting = [
                device.staged_path(staged.name)
                for staged in device.staged()
                if staged.rewrites and staged.sop_instance == sop_instance
            ]
        except OSError as exc:
            # A volume without such a folder, or one that is away: its files are looked for all the
            # same, and tell better what is wrong.
            log.debug("No incoming folder on %s: %s.", device.name, exc)
            return None
        for path in waiting:
            try:
                reader = FileReader.of(str(path))
            except FileNotFoundError:
                # It has just got its name.
                continue
            try:
                if hash_file(path) == sha256:
                    return reader
            except OSError as exc:
                log.debug("The file %s has gone meanwhile: %s.", path, exc)
            except BaseException:
                reader.close()
                raise
            reader.close()
        return None
