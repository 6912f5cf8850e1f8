"""What one file is: its header read, repaired and turned into index rows, never its pixels.

The repair is the one that ingest uses (rulings.md 1). Not for what the index is to do with it. A
`Scanner` belongs to one thread or worker process, and can be sent to another process.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from dgate.archive.levels import Schema
from dgate.archive.maintenance.walk import index_name
from dgate.archive.repair import RepairSettings, repair
from dgate.archive.rows import Entry, RowReader
from dgate.archive.unparsed import MOST_READ_BYTES, unparsed_table
from dgate.config.settings import MissingUids
from dgate.dicom.part10 import FileMeta, read_meta
from dgate.dicom.table import ElementTable
from dgate.errors import DgateError, NotDicom

_FIRST_BYTES = 32 << 10
"""Enough for nearly every header, and for a small file as a whole."""
_STEPS = (1 << 20, 16 << 20, 256 << 20)
"""What is read of files whose header is longer."""

Keep = Callable[[ElementTable, str], bool]
"""A converter that sees each object with the path of its file; False = the file is skipped."""


class Stamp(NamedTuple):
    """By what a file is known to be the same one, unchanged."""

    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a file."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Scanned(NamedTuple):
    """One file."""

    name: str
    """Relative to its device, as the index would have it."""
    entry: Entry | None
    """What the index would hold of it; None for what is no readable object."""
    stamp: Stamp
    error: str = ""
    """Why there is no entry; empty for a file that a converter skipped."""
    generated: tuple[tuple[int, str], ...] = ()
    """UIDs that the index gets though the file has none."""
    foreign: bool = False
    """The file has no sign of DICOM at all."""
    refused: bool = False
    """A rule or a setting does not want it."""


class ScanSettings(RepairSettings, Protocol):
    """The settings that decide what the index gets of a file."""

    @property
    def no_dicom_check(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """The settings that decide about repairs, and nothing that must stay in this process."""

    fix_philips: bool
    fix_kodak: bool
    allow_empty_patient_id: bool
    missing_uids: MissingUids
    uid_prefix: str
    no_dicom_check: bool = False
    """Objects that cannot be parsed are entered by what their head shows, as on receipt."""

    @classmethod
    def of(cls, settings: ScanSettings) -> RepairOptions:
        """Take them out of the settings."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


class Scanner:
    """Reads files; one that cannot be read is a result, not an exception."""

    def __init__(self, schema: Schema, options: RepairOptions, keep: Keep | None = None) -> None:
        """Make a scanner; one with `keep` cannot be sent to another process."""
        self._schema = schema
        self._options = options
        self._keep = keep
        self._reader = RowReader(schema)

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the ingredients: what the reader is made of cannot be sent."""
        return Scanner, (self._schema, self._options)

    def __call__(self, batch: tuple[str, list[str]]) -> list[Scanned]:
        """Read the files of a batch: the folder of their device, and their names below it."""
        root, names = batch
        return [self.scan(root, name) for name in names]

    def scan(self, root: str, name: str) -> Scanned:
        """Read one file."""
        path = f"{root}/{name}"
        stamp = Stamp(0, 0, 0)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                stamp = Stamp.of(status)
                if not stat.S_ISREG(status.st_mode):
                    return Scanned(index_name(name), None, stamp, "it is no plain file", (), True)
                return self._read(descriptor, path, name, stamp)
            finally:
                os.close(descriptor)
        except NotDicom as exc:
            foreign = not _looks_like_dicom(path)
            return Scanned(index_name(name), None, stamp, exc.what, (), foreign)
        except DgateError as exc:
            return Scanned(index_name(name), None, stamp, exc.what, refused=True)
        except OSError as exc:
            return Scanned(index_name(name), None, stamp, exc.strerror or str(exc))
        except Exception as exc:
            # One file that meets a fault of ours must not keep the others out of the index.
            return Scanned(index_name(name), None, stamp, f"an unexpected fault: {exc!r}")

    def _read(self, descriptor: int, path: str, name: str, stamp: Stamp) -> Scanned:
        if stamp.size == 0:
            raise NotDicom("the file is empty")
        try:
            _, table = read_header(descriptor, stamp.size)
        except NotDicom:
            if not self._options.no_dicom_check:
                raise
            table = _unparsed(descriptor)
        if self._keep is not None and not self._keep(table, path):
            return Scanned(index_name(name), None, stamp)
        repaired = repair(table, self._options)
        for tag, uid in repaired.generated:
            table.set_text(tag, uid)
        entry = self._reader.read(table, repaired)
        if not entry.sop_instance:
            raise NotDicom("the object has no SOP Instance UID")
        return Scanned(index_name(name), entry, stamp, "", repaired.generated)


def read_header(descriptor: int, size: int) -> tuple[FileMeta, ElementTable]:
    """Return the head of an open file and its element table, reading no more than is needed.

    The pixel data of the table may be cut off. Raises NotDicom, OSError.
    """
    for length in (_FIRST_BYTES, *_STEPS):
        head = os.pread(descriptor, length, 0)
        try:
            meta = read_meta(head)
            return meta, ElementTable(head[meta.data_offset :], meta.syntax)
        except NotDicom:
            # What looks damaged may only be cut off.
            if len(head) >= size or length == _STEPS[-1]:
                raise
    raise NotDicom("the header is too long")


def _unparsed(descriptor: int) -> ElementTable:
    """Return what the head of a file shows that was kept under NoDicomCheck; raises NotDicom."""
    head = os.pread(descriptor, MOST_READ_BYTES, 0)
    meta = read_meta(head)
    return unparsed_table(head[meta.data_offset :], meta.syntax, meta.sop_class, meta.sop_instance)


def _looks_like_dicom(path: str) -> bool:
    """Tell whether a file that cannot be read was meant to be DICOM."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path may hold what is no text
            head = file.read(132)
    except OSError:
        return True
    return head[128:132] == b"DICM" or path.lower().endswith((".dcm", ".v2", ".img"))
