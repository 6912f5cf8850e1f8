"""Files that a transaction has given up: noted with it, removed afterwards, forgotten when gone.

Deleting, moving and correcting objects commit their rows first, together with a note of each file
that is no longer wanted. A crash at any point leaves either everything as it was, or notes by which
the next start removes the files. Not for which rows go (`dgate.archive.maintenance.holdings`). Any
thread may call any method.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.devices import PREVIOUS, Device, Devices, FolderDevice, ReadOnlyFolder
from dgate.archive.index import Index
from dgate.archive.levels import Level, Schema
from dgate.archive.naming import is_confined
from dgate.archive.oldfile import held_instance
from dgate.archive.records import InstanceRef
from dgate.archive.reservations import Turns
from dgate.archive.writer import Transaction, Writer
from dgate.disk import sync_folder
from dgate.errors import StoreError

log = logging.getLogger(__name__)

_NOTES_AT_ONCE = 200
_INSERT = "INSERT INTO dgate_removals (token, device, name, sop) VALUES (?, ?, ?, ?)"
_SELECT = "SELECT token, device, name, sop FROM dgate_removals ORDER BY token"
_DELETE = "DELETE FROM dgate_removals WHERE token = ?"
_REWRITES = "SELECT device, name FROM dgate_rewrites WHERE sop = ?"


class Removal(NamedTuple):
    """A file that nobody wants any more."""

    token: str
    device: str
    name: str
    sop_instance: str
    """Whose file it was: one that holds another instance by now is left alone."""


class Removed(NamedTuple):
    """What became of a list of removals."""

    files: int
    """Files that were there and are gone, those on mirrors not counted."""
    size: int
    """Their bytes."""
    waiting: int
    """Files that could not be removed; the next start tries again."""


class Removals:
    """Notes and removes files."""

    def __init__(
        self,
        database: Database,
        schema: Schema,
        index: Index,
        writer: Writer,
        devices: Devices,
        turns: Turns,
        *,
        durable: bool = True,
    ) -> None:
        """`turns` are those of everybody who puts files of objects into place."""
        self._turns = turns
        self._database = database
        self._index = index
        self._writer = writer
        self._devices = devices
        self._durable = durable
        self._session = secrets.token_hex(8)
        self._counter = itertools.count()
        self._insert = database.sql(_INSERT)
        self._delete = database.sql(_DELETE)
        self._rewrites = database.sql(_REWRITES)
        self._at_place = ""
        if schema.levels:
            image = schema.table(Level.IMAGE)
            self._at_place = database.sql(
                f"SELECT 1 FROM {image.name} WHERE {image.extra['devicename']} = ? "
                f"AND {image.extra['objectfile']} = ? LIMIT 1"
            )

    def note(self, transaction: Transaction, refs: Iterable[InstanceRef]) -> list[Removal]:
        """Note the files of objects whose rows go, or name another place, in this transaction.

        Files on read-only volumes stay where they are. To be carried out after the commit.
        """
        notes = []
        for ref in refs:
            places = {(ref.device, ref.name): None}
            for device, name in transaction.execute(self._rewrites, (ref.sop_instance,)).fetchall():
                # A replacement is not quite complete: what it left is nobody's either.
                places |= {(device, name): None, (device, name + PREVIOUS): None}
            for device, name in places:
                if device and name and not isinstance(self._devices.get(device), ReadOnlyFolder):
                    notes.append(Removal(self._token(), device, name, ref.sop_instance))
        if notes:
            transaction.executemany(self._insert, notes)
        return notes

    def carry_out(self, removals: Sequence[Removal], *, held: bool = False) -> Removed:
        """Remove the files, make that durable, and forget the notes; never raises for one file.

        With `held` the caller has the turn of each object; else each is waited for, as a copy for
        the mirror that is about to get its name must be there before it is looked for.
        """
        done: list[Removal] = []
        folders: set[Path] = set()
        files = size = 0
        for removal in removals:
            try:
                removed = self._remove_in_turn(removal, folders, held)
            except (OSError, StoreError) as exc:
                log.error(
                    "The file %s on %s, which no object needs, could not be removed (%s); the next "
                    "start tries again.",
                    removal.name,
                    removal.device,
                    exc,
                )
                continue
            done.append(removal)
            if removed is not None:
                files, size = files + 1, size + removed
        if self._durable:
            for folder in folders:
                _sync(folder)
        for start in range(0, len(done), _NOTES_AT_ONCE):
            tokens = [(removal.token,) for removal in done[start : start + _NOTES_AT_ONCE]]
            self._writer.transact(_Forget(self._delete, tokens))
        return Removed(files, size, len(removals) - len(done))

    def finish(self) -> int:
        """Carry out what a crash left; returns the number of files removed."""
        with self._database.reader() as connection:
            rows = connection.execute(_SELECT).fetchall()
        for mirror in self._devices.mirrors.values():
            _sweep(mirror)
        return self.carry_out([Removal(*row) for row in rows]).files if rows else 0

    def _remove_in_turn(self, removal: Removal, folders: set[Path], held: bool) -> int | None:
        if held:
            return self._remove(removal, folders)
        self._turns.enter(removal.sop_instance)
        try:
            return self._remove(removal, folders)
        finally:
            self._turns.leave(removal.sop_instance)

    def _remove(self, removal: Removal, folders: set[Path]) -> int | None:
        """Remove one file with its copy on the mirror; return its size, None when it is not there
        or has to stay."""
        device = self._devices.get(removal.device)
        if device is None:
            raise StoreError(
                f"the device {removal.device} is not configured", remedy="set its MAGDevice again"
            )
        if not is_confined(removal.name):
            log.error("A name that leads out of %s was left alone.", removal.device)
            return None
        if not self._may_go(removal):
            return None
        removed = None
        mirror = self._devices.mirrors.get(removal.device)
        for area in (device,) if mirror is None else (device, mirror):
            size = area.size(removal.name)
            if size is None or not self._is_its_own(area, removal):
                continue
            folders |= area.remove(removal.name)
            area.tidy(removal.name)
            if area is device:
                removed = size
        return removed

    def _may_go(self, removal: Removal) -> bool:
        """Tell whether the object is gone, or whole at another place."""
        with self._database.reader() as connection:
            row = self._index.find(connection, removal.sop_instance)
        if row is None or removal.name.endswith(PREVIOUS):
            return True
        if (row.device, row.name) == (removal.device, removal.name):
            return False
        now_on = self._devices.get(row.device)
        if now_on is None or not now_on.exists(row.name):
            raise StoreError(f"the object's new file {row.name} on {row.device} is not there")
        return True

    def _is_its_own(self, area: Device, removal: Removal) -> bool:
        """Tell whether the file holds the instance: older servers let two have one name."""
        holds = held_instance(area, removal.name, removal.sop_instance)
        if holds:
            return holds == removal.sop_instance
        with self._database.reader() as connection:
            return not self._is_named(connection, removal)

    def _is_named(self, connection: Connection, removal: Removal) -> bool:
        """Tell whether some row names the file, which itself does not say what it holds."""
        if not self._at_place:
            return False
        row = connection.execute(self._at_place, (removal.device, removal.name)).fetchone()
        return row is not None

    def _token(self) -> str:
        return f"{self._session}-{next(self._counter):x}"


class _Forget:
    """Drops notes: a callable, so that each batch has its own."""

    def __init__(self, statement: str, tokens: list[tuple[str]]) -> None:
        self._statement = statement
        self._tokens = tokens

    def __call__(self, transaction: Transaction) -> None:
        transaction.executemany(self._statement, self._tokens)


def existing_folders(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders, for one that was removed the nearest parent that is there."""
    for path in paths:
        while not path.is_dir() and path != path.parent:
            path = path.parent
        yield path


def _sync(folder: Path) -> None:
    """Make removals in a folder durable, as well as its own where it was empty."""
    for there in existing_folders((folder,)):
        try:
            sync_folder(there)
        except OSError as exc:
            # The file may come back after a power cut, then as one without a row.
            log.warning("The folder %s cannot be synced: %s.", there, exc.strerror)


def _sweep(mirror: FolderDevice) -> None:
    """Remove unfinished copies from a mirror; each is still owed and made again."""
    try:
        staged, others = mirror.leftovers()
        for name in [*(file.name for file in staged), *others]:
            mirror.discard(name)
    except OSError as exc:
        log.debug("The mirror %s was not swept: %s.", mirror.root, exc.strerror)
