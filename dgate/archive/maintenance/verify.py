"""Files against the index, both ways, and whether each file can be read; changes nothing.

Worker processes read the headers of all files; each is looked up in the index by its SOP Instance
UID, and each row's file is looked for. Works beside a running server: what is stored or removed
meanwhile is looked at a second time before it counts. Used by one thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.devices import FolderDevice
from dgate.archive.levels import Level, Schema
from dgate.archive.maintenance.crew import Crew, worker_count
from dgate.archive.maintenance.indexrows import IndexRow, index_rows
from dgate.archive.maintenance.nameset import NameSet
from dgate.archive.maintenance.pixels import pixel_problem
from dgate.archive.maintenance.scanner import read_header
from dgate.archive.maintenance.walk import batched, index_name, is_taken, walk
from dgate.archive.naming import is_confined
from dgate.archive.records import stored_name
from dgate.dicom.element import SOP_INSTANCE_UID
from dgate.errors import DgateError
from dgate.ops.control import Answer

PAGE_ROWS = 500
PROGRESS_FILES = 1024
_CHUNK_BYTES = 1 << 20


class Checked(NamedTuple):
    """What a worker found out about one file."""

    name: str
    sop_instance: str
    error: str
    size: int


@dataclass(slots=True)
class Verdict:
    """How many of each kind there are; `sound` and `foreign` are no problems."""

    files: int = 0
    rows: int = 0
    sound: int = 0
    """Files that can be read and have their row."""
    unreadable: int = 0
    """Files of the archive that are no whole DICOM object."""
    without_row: int = 0
    """Readable files that the index does not know."""
    copies: int = 0
    """Readable files of objects for which the index names another file."""
    mixed_up: int = 0
    """Rows whose file holds another object."""
    without_file: int = 0
    """Rows whose file is not there."""
    unreachable: int = 0
    """Rows on devices that are not configured, or with names that lead out of the device."""
    foreign: int = 0
    """Files that are no DICOM, nor called so."""
    bytes: int = 0

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing is wrong."""
        bad = (self.unreadable, self.without_row, self.copies, self.mixed_up)
        return not any((*bad, self.without_file, self.unreachable))


@dataclass(frozen=True, slots=True)
class FileChecker:
    """Reads one file as far as is asked for; can be sent to a worker."""

    deep: bool

    def __call__(self, batch: tuple[str, list[str]]) -> list[Checked]:
        """Check the files of a batch: the folder of their device, and their names below it."""
        root, names = batch
        return [self.check(root, name) for name in names]

    def check(self, root: str, name: str) -> Checked:
        """Check one file: its header, whether its pixel data is whole, deep: every byte."""
        size = 0
        try:
            descriptor = os.open(f"{root}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                size = status.st_size
                if not stat.S_ISREG(status.st_mode):
                    return Checked(index_name(name), "", "it is no plain file", size)
                if size == 0:
                    return Checked(index_name(name), "", "the file is empty", 0)
                meta, table = read_header(descriptor, size)
                sop_instance = table.text(SOP_INSTANCE_UID)
                error = "" if sop_instance else "the object has no SOP Instance UID"
                error = error or pixel_problem(descriptor, size, meta, table, deep=self.deep)
                if self.deep:
                    _read_all(descriptor)
            finally:
                os.close(descriptor)
        except DgateError as exc:
            return Checked(index_name(name), "", exc.what, size)
        except OSError as exc:
            return Checked(index_name(name), "", exc.strerror or str(exc), size)
        except Exception as exc:
            # One file that meets a fault of ours must not end the whole look.
            return Checked(index_name(name), "", f"an unexpected fault: {exc!r}", size)
        return Checked(index_name(name), sop_instance, error, size)


@dataclass(slots=True)
class Verification:
    """One look at an archive.

    `connection` only reads. `devices` are those of the configuration, their folders need not
    exist.
    """

    database: Database
    connection: Connection
    schema: Schema
    devices: Sequence[FolderDevice]
    deep: bool = False
    workers: int | None = None
    verdict: Verdict = field(default_factory=Verdict)
    _folders: dict[str, FolderDevice] = field(default_factory=dict)
    _mixed_up: NameSet = field(default_factory=NameSet)
    """Files that hold another object than a row may say."""

    def run(self) -> Iterator[Answer]:
        """Look at everything; yields `problem` (what, path, text), `progress` and in the end
        `summary`, each under `kind`."""
        self._folders = {device.name: device for device in self.devices}
        workers = worker_count() if self.workers is None else self.workers
        crew: Crew[tuple[str, list[str]], list[Checked]] = Crew(
            FileChecker(self.deep), workers, polite=True
        )
        try:
            for device in self.devices:
                yield from self._files(device, crew)
        finally:
            crew.close()
        yield from self._rows()
        self._mixed_up.close()
        yield {"kind": "summary", "clean": self.verdict.is_clean, **asdict(self.verdict)}

    # files

    def _files(
        self, device: FolderDevice, crew: Crew[tuple[str, list[str]], list[Checked]]
    ) -> Iterator[Answer]:
        root = str(device.root)
        troubles: list[tuple[str, str]] = []
        if not device.root.is_dir():
            yield self._problem("unreadable", root, f"the folder of {device.name} does not exist")
            return
        names = walk(device.root, trouble=lambda path, text: troubles.append((path, text)))
        told = self.verdict.files
        for results in crew.run((root, batch) for batch in batched(names)):
            yield from self._judge(device, results)
            while troubles:
                path, text = troubles.pop()
                yield self._problem("unreadable", path, text)
            if self.verdict.files - told >= PROGRESS_FILES:
                told = self.verdict.files
                yield self._progress(device.name)
        for path, text in troubles:
            yield self._problem("unreadable", path, text)
        yield self._progress(device.name)

    def _judge(self, device: FolderDevice, results: list[Checked]) -> Iterator[Answer]:
        known = self._look_up([one.sop_instance for one in results if one.sop_instance])
        verdict = self.verdict
        for one in results:
            verdict.files += 1
            verdict.bytes += one.size
            path = str(device.path(one.name))
            if not one.sop_instance:
                if _is_foreign(one):
                    verdict.foreign += 1
                elif _is_gone(path):
                    verdict.files -= 1
                else:
                    yield self._problem("unreadable", path, one.error)
                continue
            rows = known.get(one.sop_instance, [])
            if any((row.device, row.name) == (device.name, one.name) for row in rows):
                if one.error:
                    yield self._problem("unreadable", path, one.error)
                else:
                    verdict.sound += 1
                continue
            if _is_gone(path):
                # It was moved or removed while this went on.
                verdict.files -= 1
                continue
            self._mixed_up.add([(device.name, one.name)])
            if rows:
                text = f"the index has its object {one.sop_instance} as {_place(rows[0])}"
                yield self._problem("copies", path, text)
            else:
                text = f"the index does not know its object {one.sop_instance}"
                yield self._problem("without_row", path, text)

    def _look_up(self, sop_instances: list[str]) -> dict[str, list[IndexRow]]:
        """Return the rows of these objects."""
        table = self.schema.table(Level.IMAGE)
        found: dict[str, list[IndexRow]] = {}
        if not sop_instances:
            return found
        marks = ", ".join("?" * len(sop_instances))
        sql = self.database.sql(
            f"SELECT {table.key}, {table.extra['devicename']}, {table.extra['objectfile']} "
            f"FROM {table.name} WHERE {table.key} IN ({marks})"
        )
        for row in self.connection.execute(sql, sop_instances).fetchall():
            found.setdefault(row[0], []).append(IndexRow(row[0], row[1] or "", stored_name(row[2])))
        return found

    # rows

    def _rows(self) -> Iterator[Answer]:
        for rows in index_rows(self.connection, self.database, self.schema, PAGE_ROWS):
            self.verdict.rows += len(rows)
            for row in rows:
                problem = self._row_problem(row)
                if problem is not None and self._still(row, problem[0]):
                    yield self._problem(*problem)
            if self.verdict.rows % (PAGE_ROWS * 20) == 0:
                yield self._progress("index")

    def _row_problem(self, row: IndexRow) -> tuple[str, str, str] | None:
        """Return what is wrong with a row: kind, path, text."""
        place = f"{row.device}/{row.name}"
        device = self._folders.get(row.device)
        if device is None:
            text = f"object {row.sop_instance} is on {row.device or 'no device'}: not configured"
            return "unreachable", place, text
        if not row.name or not is_confined(row.name):
            text = f"the name of object {row.sop_instance} leads out of {row.device}"
            return "unreachable", place, text
        path = str(device.path(row.name))
        if not device.exists(row.name):
            return "without_file", path, f"the file of object {row.sop_instance} is not there"
        if not self._mixed_up.find(row.device, [row.name]):
            return "mixed_up", path, f"the file holds another object than {row.sop_instance}"
        if not is_taken(row.name.rpartition("/")[2]):
            # The walk passed over it.
            one = FileChecker(self.deep)
            root = str(device.root)
            if error := one.check(root, os.path.relpath(path, root)).error:
                return "unreadable", path, error
        return None

    def _still(self, row: IndexRow, problem: str) -> bool:
        """Tell whether a row that looked wrong is there unchanged, and its file still not."""
        if row not in self._look_up([row.sop_instance]).get(row.sop_instance, []):
            return False
        if problem != "without_file":
            return True
        device = self._folders[row.device]
        return not (_has_arrived(device, row) or device.exists(row.name))

    # telling

    def _problem(self, what: str, path: str, text: str) -> Answer:
        setattr(self.verdict, what, getattr(self.verdict, what) + 1)
        return {"kind": "problem", "what": what, "path": path, "text": text}

    def _progress(self, scope: str) -> Answer:
        verdict = self.verdict
        return {
            "kind": "progress",
            "scope": scope,
            "files": verdict.files,
            "rows": verdict.rows,
            "bytes": verdict.bytes,
        }


def _has_arrived(device: FolderDevice, row: IndexRow) -> bool:
    """Tell whether a new object's file is on its way to its name."""
    try:
        device.open(row.name, row.sop_instance).close()
    except OSError:
        return False
    return True


def _is_gone(path: str) -> bool:
    return not Path(path).exists()


def _is_foreign(one: Checked) -> bool:
    ending = one.name.lower()
    return not ending.endswith((".dcm", ".v2", ".img"))


def _place(row: IndexRow) -> str:
    return f"{row.device} {row.name}"


def _read_all(descriptor: int) -> None:
    """Read every byte, so that the disk has to."""
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, offset):
        offset += len(chunk)
