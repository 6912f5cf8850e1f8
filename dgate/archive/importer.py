"""Files into the archive, through `archive.ingest` like everything else.

Serves `dgate import` and watched folders (`dgate.archive.watcher`). Runs in the caller's thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from dgate.archive.devices import PREVIOUS
from dgate.archive.ingest import Ingest
from dgate.archive.records import Arrival, Receipt
from dgate.dicom.part10 import FileMeta, read_meta
from dgate.errors import DgateError, NotDicom, OutOfSpace
from dgate.rules.session import Session

log = logging.getLogger(__name__)

FILE_SOURCE_AE = "monitor"
IMPORTED = "import"
"""Calling and called AE of objects that came as files (spec dimse.md section 9, incoming folder).
"""

_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = (1 << 16, 1 << 20, 1 << 24)
"""What is read of a file until its head is complete: the first is enough for nearly all."""
_OWN_FOLDER = "dgate"
_OWN_PARTS = ("incoming", "spool", "history")
"""Folders of a device that hold no stored objects: what is arriving, copies that rules changed, and
the applied configurations."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file."""

    path: Path
    receipt: Receipt | None
    error: str = ""


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files named and, in name order, those below the folders named.

    Below a folder, what belongs to dgate's own work is left out: the folders `dgate/incoming` and
    `dgate/spool` of a device, and replaced files.
    """
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                if Path(folder).resolve().name == _OWN_FOLDER:
                    folders[:] = [name for name in folders if name not in _OWN_PARTS]
                folders.sort()
                for name in sorted(names):
                    if not (name == "DICOMDIR" or name.startswith(".") or name.endswith(PREVIOUS)):
                        yield Path(folder, name)
        else:
            yield path


def import_files(ingest: Ingest, paths: Iterable[Path]) -> Iterator[FileResult]:
    """Store each file and yield its result; a file that fails stops nothing but a full disk does.

    Raises:
        OutOfSpace: no device can take more; the files not yet yielded were not stored.
    """
    session = Session()
    try:
        for path in paths:
            try:
                yield FileResult(path, import_file(ingest, path, session))
            except OutOfSpace:
                raise
            except DgateError as exc:
                log.info("File %s was not imported: %s", path, exc)
                yield FileResult(path, None, str(exc))
            except OSError as exc:
                yield FileResult(path, None, exc.strerror or str(exc))
    finally:
        session.close()


def import_file(ingest: Ingest, path: Path, session: Session | None = None) -> Receipt:
    """Store one file; its success is as durable as that of a C-STORE.

    `session` is what rules keep from one file to the next.

    Raises:
        NotDicom: the file is not a DICOM object.
        StoreError: ingest refused it.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return import_open_file(ingest, file, str(path), session)


def import_open_file(
    ingest: Ingest,
    file: BinaryIO,
    where: str,
    session: Session | None = None,
    source: str = IMPORTED,
) -> Receipt:
    """Store the object in a file that is open; `where` names it in messages and to rules.

    `source` is what the ledger says of where it came from.

    Raises what `import_file` raises.
    """
    if os.fstat(file.fileno()).st_size == 0:
        raise NotDicom("the file is empty", where=where)
    meta = _read_head(file.fileno())
    file.seek(meta.data_offset)
    return _store(ingest, meta, b"", file, where, session, source)


def _read_head(descriptor: int) -> FileMeta:
    """Return what the head of an open file says; raises NotDicom, OSError.

    Read, never mapped: others may cut the file short at any moment, and to look at a page of a
    mapping that is gone, or that the disk cannot read, would kill the process.
    """
    for length in _HEAD_BYTES:
        head = os.pread(descriptor, length, 0)
        is_last = len(head) < length or length == _HEAD_BYTES[-1]
        try:
            meta = read_meta(head)
        except NotDicom:
            # What looks damaged may only be cut off.
            if is_last:
                raise
            continue
        if is_last or (meta.sop_instance and meta.data_offset < len(head)):
            return meta
    raise NotDicom("the header is too long")


class Stream(Protocol):
    """What can be read once, from front to back."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


def import_stream(
    ingest: Ingest,
    content: Stream,
    where: str,
    session: Session | None = None,
    source: str = IMPORTED,
) -> Receipt:
    """Store an object that can only be read once, such as one inside an archive.

    `source` is what the ledger says of where it came from.

    Raises what `import_file` raises, and what `content` raises.
    """
    head = content.read(_CHUNK_BYTES)
    if not head:
        raise NotDicom("the file is empty", where=where)
    meta = read_meta(head)
    return _store(ingest, meta, head[meta.data_offset :], content, where, session, source)


def _store(
    ingest: Ingest,
    meta: FileMeta,
    begin: bytes,
    rest: Stream,
    where: str,
    session: Session | None,
    source: str,
) -> Receipt:
    if session is not None:
        session.file_name = where
    payload = ingest.payload(meta.syntax, meta.sop_class, meta.sop_instance, FILE_SOURCE_AE)
    try:
        payload.append(begin)
        while chunk := rest.read(_CHUNK_BYTES):
            payload.append(chunk)
    except BaseException:
        payload.close()
        raise
    return ingest.store(
        Arrival(
            payload=payload,
            syntax=meta.syntax,
            calling=FILE_SOURCE_AE,
            called=FILE_SOURCE_AE,
            session=session,
            source=source,
        )
    )
