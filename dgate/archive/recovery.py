"""Recovery at start: what a crash left between an object's commit and its final file name.

Runs before anything is received, in the thread that starts the server, and looks only into the
folders `dgate/incoming` and `dgate/spool`, so that its cost does not grow with the archive. All of
it may be interrupted and done again. Not for files elsewhere that have no row (`dgate regen`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.devices import PREVIOUS, Devices, FolderDevice, StagedFile
from dgate.archive.files import hash_file, storage_failure
from dgate.archive.index import Index, Rewrite
from dgate.archive.naming import is_confined
from dgate.archive.oldfile import HEAD_BYTES
from dgate.archive.records import InstanceRef
from dgate.archive.spool import UNFINISHED
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
    set_aside: int = 0
    """Copies in the spool that no debt is known for."""

    def __str__(self) -> str:
        """Return it in words, for the log."""
        text = f"{self.finished} object(s) finished, {self.removed} leftover file(s) removed"
        return f"{text}, {self.set_aside} copies set aside" if self.set_aside else text


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
        self._spool = devices.spool
        self._index = index
        self._writer = writer
        self._changed: set[Path] = set()
        self._result = Recovered()

    def run(self) -> Recovered:
        """Judge the staged files, then what replacements left, then the spool."""
        staged = {name: list(device.staged()) for name, device in self._folders.items()}
        rewrites = {rewrite.sop_instance: rewrite for rewrite in self._index.rewrites()}
        wanted = {file.sop_instance for files in staged.values() for file in files}
        rows = self._rows(wanted.union(rewrites)) if wanted or rewrites else {}
        for name, files in staged.items():
            device = self._folders[name]
            for file in files:
                self._judge(device, file, rows.get(file.sop_instance), rewrites)
            for stray in list(device.strays()):
                self._remove(device.staged_path(stray))
        for rewrite in rewrites.values():
            self._clear(rewrite, rows.get(rewrite.sop_instance))
        for folder in self._changed:
            sync_folder(folder)
        if rewrites:
            # Only now: a note must outlive the file that it names.
            self._writer.transact(lambda tx: self._index.drop_rewrites(tx, rewrites))
        self._sweep_spool()
        return self._result

    def _rows(self, sop_instances: Iterable[str]) -> dict[str, InstanceRef | None]:
        def find(transaction: Transaction) -> dict[str, InstanceRef | None]:
            return {sop: self._index.find(transaction, sop) for sop in sop_instances}

        return self._writer.transact(find)

    def _judge(
        self,
        device: FolderDevice,
        file: StagedFile,
        row: InstanceRef | None,
        rewrites: dict[str, Rewrite],
    ) -> None:
        """Give a staged file its name if its row was committed, else remove it."""
        path = device.staged_path(file.name)
        if row is None or row.device != device.name or not is_confined(row.name):
            committed = False
        elif file.rewrites:
            # The row was there before; only the hash noted with the commit tells.
            rewrite = rewrites.get(file.sop_instance)
            committed = rewrite is not None and hash_file(path) == rewrite.sha256
        else:
            committed = not device.exists(row.name)
        if row is None or not committed:
            self._remove(path)
            return
        self._changed |= device.publish(file.name, row.name, keep_previous=False)
        self._result.finished += 1
        log.info("The stored object %s was given its file name %s.", row.sop_instance, row.name)

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

    def _sweep_spool(self) -> None:
        """Remove what is unfinished or delivered, and set aside the copies without any debt.

        Those may be all that is left of acknowledged objects, when the database is new or was
        restored, and so must not be removed.
        """
        copies = []
        for name in self._spool.names():
            if name.endswith(UNFINISHED):
                self._remove(self._spool.folder / name)
            else:
                copies.append(name)
        if not copies:
            return
        known = self._writer.transact(lambda tx: self._index.known_copies(tx, copies))
        for name, needed in known.items():
            if not needed:
                self._remove(self._spool.folder / name)
        lost = [name for name in copies if name not in known]
        if lost:
            folder = self._spool.set_aside(lost)
            self._result.set_aside = len(lost)
            log.error(
                "%d object(s) that were to be passed on have no entry in the queue of deliveries, "
                "because the database is new or older than they are, or because a crash came "
                "before they were acknowledged. They were moved to %s: pass them on with `dgate "
                "send`, or keep them with `dgate import`, then remove them there.",
                len(lost),
                folder,
            )

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._changed.add(path.parent)
        self._result.removed += 1


def _holds(path: Path, sop_instance: str) -> bool:
    """Tell whether the file is one of this instance."""
    try:
        with path.open("rb") as file:
            return read_meta(file.read(HEAD_BYTES)).sop_instance == sop_instance
    except (FileNotFoundError, NotDicom):
        return False
