"""The job that enters a batch of scanned files into the index, beside a server that stores.

Spec dicom-sql.md 4.3 and 5. Not for reading files (`scanner`). `work` runs in the thread that leads
the commit group, so no object is between commit and rename meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from dgate.archive.database import Database
from dgate.archive.devices import Devices, FolderDevice
from dgate.archive.index import Index
from dgate.archive.levels import Level, Schema
from dgate.archive.maintenance.marks import Mark, Marks, Tally
from dgate.archive.maintenance.scanner import Scanned, Stamp
from dgate.archive.oldfile import OldFile, old_file
from dgate.archive.records import InstanceRef
from dgate.archive.rows import Entry
from dgate.archive.writer import Transaction
from dgate.errors import DatabaseAway, OutOfSpace, Refused, StoreError


class Fate(Enum):
    """What became of one file; the value is the name of its counter."""

    ENTERED = "entered"
    MOVED = "moved"
    KNOWN = "known"
    COPY = "copies"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    FOREIGN = "foreign"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Note:
    """A file that somebody should know of."""

    name: str
    fate: Fate
    text: str


@dataclass(slots=True)
class Entered:
    """What a batch came to."""

    tally: Tally = field(default_factory=Tally)
    notes: list[Note] = field(default_factory=list)


class Enterer:
    """What all batches share."""

    def __init__(self, database: Database, schema: Schema, index: Index, devices: Devices) -> None:
        self.database = database
        self.index = index
        self.devices = devices
        self.marks = Marks(database)
        self.refusals: tuple[type[Exception], ...] = (Refused, *database.errors)
        sql = database.sql
        self.raise_access = {
            table.level: sql(
                f"UPDATE {table.name} SET {table.extra['accesstime']} = ? "
                f"WHERE {table.key} = ? AND {table.extra['accesstime']} < ?"
            )
            for table in schema.levels[:-1]
        }
        self.given_up = "SELECT device, name FROM dgate_removals"
        self.being_replaced = sql("SELECT 1 FROM dgate_rewrites WHERE sop = ?")


class EnterJob:
    """Enters the files of one batch and moves the mark behind them, all or nothing.

    A crash before the commit leaves the mark before the batch, which is then read again.
    """

    def __init__(
        self,
        shared: Enterer,
        device: FolderDevice,
        files: Sequence[Scanned],
        scope: str,
        mark: Mark,
    ) -> None:
        """Prepare; `mark` is where the rebuild stands after this batch, without its tally."""
        self._shared = shared
        self._device = device
        self._root = str(device.root)
        self._files = files
        self._scope = scope
        self._mark = mark
        self._newest: dict[Level, dict[str, int]] = {}
        self._given_up: frozenset[tuple[str, str]] = frozenset()

    def work(self, transaction: Transaction) -> Entered:
        """Write the rows; files that cannot be entered become notes."""
        result = Entered()
        self._newest = {level: {} for level in self._shared.raise_access}
        removals = transaction.execute(self._shared.given_up).fetchall()
        self._given_up = frozenset((device, name) for device, name in removals)
        with self._shared.index.rebuilding():
            for file in self._files:
                fate, text = self._deal_with(transaction, file)
                result.tally.seen += 1
                setattr(result.tally, fate.value, getattr(result.tally, fate.value) + 1)
                if text:
                    result.notes.append(Note(file.name, fate, text))
                if fate is Fate.ENTERED and file.generated:
                    result.tally.generated += 1
        for level, newest in self._newest.items():
            for key, access in newest.items():
                statement = self._shared.raise_access[level]
                transaction.execute(statement, (access, key, access))
        tally = Tally()
        tally.add(self._mark.tally)
        tally.add(result.tally)
        mark = Mark(self._mark.place, tally, self._mark.begun)
        self._shared.marks.write(transaction, self._scope, mark)
        return result

    def publish(self) -> Set[Path]:
        """Nothing is renamed."""
        return frozenset()

    def _deal_with(self, transaction: Transaction, file: Scanned) -> tuple[Fate, str]:
        if file.entry is None:
            if not file.error:
                return Fate.SKIPPED, ""
            if file.refused:
                return Fate.REFUSED, file.error
            return (Fate.FOREIGN if file.foreign else Fate.UNREADABLE), file.error
        if not self._is_still(file):
            return Fate.SKIPPED, ""
        execute = transaction.execute
        try:
            execute("SAVEPOINT file")
            fate, text = self._enter(transaction, file, file.entry)
            execute("RELEASE SAVEPOINT file")
        except self._shared.refusals as exc:
            failure = exc if isinstance(exc, StoreError) else self._shared.database.failure(exc)
            if isinstance(failure, (DatabaseAway, OutOfSpace)):
                raise
            execute("ROLLBACK TO SAVEPOINT file")
            execute("RELEASE SAVEPOINT file")
            self._shared.index.forget(transaction)
            return Fate.REFUSED, failure.what
        return fate, text

    def _is_still(self, file: Scanned) -> bool:
        """Tell whether the file is the one that was read, and nobody is to remove it."""
        if (self._device.name, file.name) in self._given_up:
            return False
        plain = file.name.isascii()
        path = f"{self._root}/{file.name}" if plain else self._device.path(file.name)
        try:
            return Stamp.of(os.stat(path)) == file.stamp  # noqa: PTH116 - for every file
        except OSError:
            return False

    def _enter(self, transaction: Transaction, file: Scanned, entry: Entry) -> tuple[Fate, str]:
        index, device = self._shared.index, self._device
        found = index.stored(transaction, entry)
        if found is None:
            fate, text = Fate.ENTERED, ""
        elif (found.device, found.name) == (device.name, file.name):
            # Of one that is just being replaced, the row is newer than the file that was read.
            row = transaction.execute(self._shared.being_replaced, (entry.sop_instance,))
            if row.fetchone() is not None:
                return Fate.SKIPPED, ""
            fate, text = Fate.KNOWN, ""
        else:
            # The index names another file. It stays the one while it is there.
            if self._state(found) is OldFile.OURS:
                return Fate.COPY, f"the object is in {found.device} {found.name}, too"
            fate, text = Fate.MOVED, f"the index had it as {found.device} {found.name}"
        access = file.stamp.changed_ns // 1_000_000_000
        index.enter(transaction, entry, device.name, file.name, found, access)
        self._remember(entry, access & ~31)
        return fate, text

    def _state(self, found: InstanceRef) -> OldFile:
        other = self._shared.devices.get(found.device)
        return OldFile.UNREACHABLE if other is None else old_file(other, found)

    def _remember(self, entry: Entry, access: int) -> None:
        """Note the newest file of each parent: the index writes a row of theirs only once."""
        keys = {
            Level.PATIENT: entry.patient_id,
            Level.STUDY: entry.study,
            Level.SERIES: entry.series,
        }
        for level, newest in self._newest.items():
            key = keys[level]
            newest[key] = max(newest.get(key, 0), access)
