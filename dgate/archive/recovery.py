"""Recovery at start: what a crash left between an object's commit and its final file name.

Runs before anything is received, in the thread that starts the server, and looks only into the
folders `dgate/incoming`, so that its cost grows neither with the archive nor with what is owed (the
spool is looked through later, by `dgate.archive.spoolsweep`). All of it may be interrupted and done
again. Where other gateways use the same folders, it judges what this one left, and what nobody has
touched for days; what the others have in hand is theirs (`dgate.archive.ownership`). Not for files
elsewhere that have no row (`dgate regen`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.devices import PREVIOUS, Devices, FolderDevice, StagedFile
from dgate.archive.files import hash_file, storage_failure
from dgate.archive.index import Index, Rewrite
from dgate.archive.naming import is_confined
from dgate.archive.oldfile import HEAD_BYTES
from dgate.archive.records import InstanceRef
from dgate.archive.writer import Transaction, Writer
from dgate.dicom.part10 import read_meta
from dgate.disk import sync_folder
from dgate.errors import NotDicom

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What recovery did."""

    finished: int = 0
    """Objects that were committed and have got their file names now."""
    removed: int = 0
    """Files of objects that were never acknowledged, or that had been replaced."""

    def __str__(self) -> str:
        """Return it in words, for the log."""
        return f"{self.finished} object(s) finished, {self.removed} leftover file(s) removed"


def recover(devices: Devices, index: Index, writer: Writer) -> Recovered:
    """Bring files and index rows together again.

    Raises:
        StoreError: the database or a device does not answer; nothing may be received then.
    """
    try:
        return _Recovery(devices, index, writer).run()
    except OSError as exc:
        raise storage_failure(exc, str(exc.filename or "")) from exc


class _Recovery:
    """One run of recovery."""

    def __init__(self, devices: Devices, index: Index, writer: Writer) -> None:
        self._folders = {
            device.name: device for device in devices if isinstance(device, FolderDevice)
        }
        self._is_shared = devices.owner.shared
        self._index = index
        self._writer = writer
        self._changed: set[Path] = set()
        self._result = Recovered()

    def run(self) -> Recovered:
        """Judge the staged files, then what replacements left, then the spool."""
        left = {name: device.leftovers() for name, device in self._folders.items()}
        rewrites = {rewrite.sop_instance: rewrite for rewrite in self._index.rewrites()}
        wanted = {file.sop_instance for staged, _ in left.values() for file in staged}
        rows = self._rows(wanted.union(rewrites)) if wanted or rewrites else {}
        for name, (staged, _) in left.items():
            for file in staged:
                sop_instance = file.sop_instance
                with self._holding(rows.get(sop_instance)) as is_held:
                    row, rewrite = rows.get(sop_instance), rewrites.get(sop_instance)
                    if self._is_shared:
                        if not is_held:
                            # It may be the only file of the object that the row is of.
                            continue
                        row, rewrite = self._again(row, rewrite)
                    self._judge(self._folders[name], file, row, rewrite)
        self._finish_rewrites(rewrites, rows)
        for name, (_, others) in left.items():
            # Only now: among them are the names that were kept from other gateways until here.
            for other in others:
                self._remove(self._folders[name].staged_path(other))
        self._sync()
        return self._result

    def _rows(self, sop_instances: Iterable[str]) -> dict[str, InstanceRef | None]:
        def find(transaction: Transaction) -> dict[str, InstanceRef | None]:
            return {sop: self._index.find(transaction, sop) for sop in sop_instances}

        return self._writer.transact(find)

    @contextmanager
    def _holding(self, row: InstanceRef | None) -> Iterator[bool]:
        """Keep other gateways from the name that a row has; False when one has it in hand."""
        device = None if row is None else self._folders.get(row.device)
        if row is None or device is None or device.holds(row.name):
            # What was held when the gateway ended is held until the end of recovery.
            yield True
        elif device.hold(row.name, existing=True):
            try:
                yield True
            finally:
                device.let_go(row.name)
        else:
            yield False

    def _again(
        self, row: InstanceRef | None, rewrite: Rewrite | None
    ) -> tuple[InstanceRef | None, Rewrite | None]:
        """Return a row and a note whose name is held by now, without what another gateway has
        changed before that."""
        if row is None or not _is_at(self._rows([row.sop_instance])[row.sop_instance], row):
            return None, None
        return row, rewrite if rewrite in self._index.rewrites() else None

    def _judge(
        self,
        device: FolderDevice,
        file: StagedFile,
        row: InstanceRef | None,
        rewrite: Rewrite | None,
    ) -> None:
        """Give a staged file its name if its row was committed, else remove it."""
        path = device.staged_path(file.name)
        if row is None or row.device != device.name or not is_confined(row.name):
            committed = False
        elif file.rewrites:
            # The row was there before; only the hash noted with the commit tells.
            committed = rewrite is not None and hash_file(path) == rewrite.sha256
        else:
            committed = not device.exists(row.name)
        if row is None or not committed:
            self._remove(path)
            return
        self._changed |= device.publish(file.name, row.name, keep_previous=False)
        self._result.finished += 1
        log.info("The stored object %s was given its file name %s.", row.sop_instance, row.name)

    def _finish_rewrites(
        self, rewrites: dict[str, Rewrite], rows: dict[str, InstanceRef | None]
    ) -> None:
        """Remove what committed replacements left, then forget the notes of them; those that
        another gateway has in hand are its own."""
        # What is still there was left to another gateway. Its claim may be gone, but who judges the
        # file, however late, needs the note for it.
        waiting = {file.sop_instance for each in self._folders.values() for file in each.staged()}
        with ExitStack() as held:
            done = [
                rewrite
                for sop_instance, rewrite in rewrites.items()
                if sop_instance not in waiting
                and held.enter_context(self._holding(rows.get(sop_instance)))
            ]
            if self._is_shared and done:
                notes = set(self._index.rewrites())
                now = self._rows(rewrite.sop_instance for rewrite in done)
                done = [
                    rewrite
                    for rewrite in done
                    if rewrite in notes
                    and _is_at(now[rewrite.sop_instance], rows.get(rewrite.sop_instance))
                ]
            for rewrite in done:
                self._clear(rewrite, rows.get(rewrite.sop_instance))
            self._sync()
            if done:
                # Only now: a note must outlive the file that it names.
                self._writer.transact(lambda tx: self._index.forget_rewrites(tx, done))

    def _clear(self, rewrite: Rewrite, row: InstanceRef | None) -> None:
        """Remove the file that a committed replacement left behind."""
        device = self._folders.get(rewrite.device)
        if device is None or row is None or not is_confined(rewrite.name):
            return
        old = device.path(rewrite.name)
        if old.parent.is_dir():
            # A kill may have come behind a removal that no sync has followed.
            self._changed.add(old.parent)
        if (row.device, row.name) == (rewrite.device, rewrite.name):
            self._choose(old, old.with_name(old.name + PREVIOUS), rewrite.sha256)
            return
        new_device = self._folders.get(row.device)
        in_place = new_device is not None and new_device.exists(row.name)
        # The old name may belong to another instance by now.
        if in_place and _holds(old, rewrite.sop_instance):
            self._remove(old)

    def _choose(self, current: Path, previous: Path, sha256: str) -> None:
        """Keep the file whose hash the row has, else the one that has the name."""
        if not previous.exists():
            return
        lost = not current.exists()
        if lost or (hash_file(current) != sha256 and hash_file(previous) == sha256):
            previous.replace(current)
            self._changed.add(current.parent)
            self._result.finished += 1
        else:
            self._remove(previous)

    def _sync(self) -> None:
        for folder in self._changed:
            sync_folder(folder)
        self._changed.clear()

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._changed.add(path.parent)
        self._result.removed += 1


def _is_at(now: InstanceRef | None, row: InstanceRef | None) -> bool:
    """Tell whether an object is still where a row had it."""
    if now is None or row is None:
        return now is row
    return (now.device, now.name) == (row.device, row.name)


def _holds(path: Path, sop_instance: str) -> bool:
    """Tell whether the file is one of this instance."""
    try:
        with path.open("rb") as file:
            return read_meta(file.read(HEAD_BYTES)).sop_instance == sop_instance
    except (FileNotFoundError, NotDicom):
        return False
