"""The one way out: stored objects as streams of data set bytes, rewritten and converted on demand.

Not for who gets them (`dgate.delivery`, `dgate.services`). An `Exporter` may be used by any thread;
an `Outgoing` belongs to the thread that opened it. Memory per object is constant: pixel data that
need not change passes in chunks, only headers are looked at.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from dgate.archive.devices import Devices, Reader
from dgate.archive.files import FileReader, write_parts
from dgate.archive.incoming import SOP_CLASS_UID, SOP_INSTANCE_UID
from dgate.archive.naming import is_confined
from dgate.archive.records import InstanceRef
from dgate.archive.replacing import Replacing
from dgate.archive.spool import SPOOL_DEVICE
from dgate.config.settings import Settings
from dgate.dicom.filedata import FileData, as_buffer
from dgate.dicom.part10 import FileMeta, read_meta
from dgate.dicom.scan import Buffer
from dgate.dicom.table import ElementTable, Slice
from dgate.dicom.transcode import convert, convert_header_only
from dgate.disk import sync_file
from dgate.errors import Missing, NotDicom, StoreError

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
READ_AHEAD_BYTES = 1 << 20
"""Objects up to this size are read while the peer works on the one before."""
_HEAD_BYTES = 1 << 12
"""Enough for the header of nearly every file."""
_WHOLE_BYTES = 1 << 16
"""Files up to this size are read at once."""
_LONGEST_HEAD_BYTES = 1 << 24

Rewrite = Callable[[ElementTable], None]
"""Changes the copy that is sent."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a stored object without reading more than its head."""

    sop_class: str
    sop_instance: str
    syntax: str
    size: int
    """Bytes of the data set, without file header."""


@dataclass(frozen=True, slots=True)
class _Range:
    """A part of the data set that is still in the file."""

    offset: int
    length: int


_Piece = bytes | memoryview | _Range


class Outgoing:
    """A stored object on its way out: what to announce, and its data set in chunks."""

    def __init__(
        self,
        reader: Reader,
        pieces: Sequence[_Piece],
        sop_class: str,
        sop_instance: str,
        syntax: str,
    ) -> None:
        self.reader = reader
        self.pieces = pieces
        """For the exporter."""
        self.sop_class = sop_class
        self.sop_instance = sop_instance
        self.syntax = syntax
        self.size = sum(
            piece.length if isinstance(piece, _Range) else len(piece) for piece in pieces
        )
        """Bytes of the data set."""

    def chunks(self, max_bytes: int = CHUNK_BYTES) -> Iterator[bytes | memoryview]:
        """Yield the data set, never more than `max_bytes` at a time; may be asked for again.

        Raises:
            StoreError: the file cannot be read to its end.
        """
        for piece in self.pieces:
            if isinstance(piece, _Range):
                yield from self._read(piece, max_bytes)
            elif len(piece) <= max_bytes:
                yield piece
            else:
                view = memoryview(piece)
                for start in range(0, len(view), max_bytes):
                    yield view[start : start + max_bytes]

    def read_ahead(self) -> Iterable[bytes | memoryview]:
        """Return what `chunks` does, for an object that will be sent a little later: that of a
        small one has been read already.

        Raises:
            StoreError: the file cannot be read to its end.
        """
        return [*self.chunks()] if self.size <= READ_AHEAD_BYTES else self.chunks()

    def _read(self, piece: _Range, max_bytes: int) -> Iterator[bytes]:
        offset, end = piece.offset, piece.offset + piece.length
        while offset < end:
            try:
                chunk = self.reader.read_at(offset, min(max_bytes, end - offset))
            except OSError as exc:
                raise StoreError(f"the stored file cannot be read: {exc.strerror}") from exc
            if not chunk:
                raise StoreError("the stored file is shorter than it was")
            yield chunk
            offset += len(chunk)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self.reader.close()


class Exporter:
    """Opens stored objects.

    `find` gives an object's present place; it is asked when a file is not where a reference, which
    may be older than a rename, says. `others` opens what is not on a device, by the name that
    stands in a device's place. `replacing` finds what other gateways have stored and not renamed.
    """

    def __init__(
        self,
        devices: Devices,
        settings: Settings,
        find: Callable[[str], InstanceRef | None] | None = None,
        others: Mapping[str, Callable[[InstanceRef], Reader]] | None = None,
        replacing: Replacing | None = None,
    ) -> None:
        self._devices = devices
        self._temp_dir = settings.temp_dir
        self._find = find
        self._others = others or {}
        self._replacing = replacing

    def peek(self, ref: InstanceRef) -> Stored:
        """Return what an object is.

        Raises:
            Missing: its file cannot be found.
            StoreError: it cannot be read.
        """
        with self._opened(ref) as (reader, meta, _):
            return Stored(
                meta.sop_class or ref.sop_class,
                meta.sop_instance or ref.sop_instance,
                meta.syntax,
                reader.size - meta.data_offset,
            )

    def open(
        self, ref: InstanceRef, syntax: str | None = None, rewrite: Rewrite | None = None
    ) -> Outgoing:
        """Open an object for sending.

        Args:
            syntax: transfer syntax to send it in; None = as stored.
            rewrite: changes the copy that is sent, before any conversion.

        Raises:
            Missing: the file cannot be found.
            CannotTranscode: the object cannot be converted to `syntax`.
            StoreError: it cannot be read. What `rewrite` raises passes through.
        """
        reader, meta, head = self._open(ref)
        try:
            start = meta.data_offset
            if len(head) == reader.size:
                pieces: list[_Piece] = [head[start:]]
            else:
                pieces = [_Range(start, reader.size - start)]
            sop_class = meta.sop_class or ref.sop_class
            sop_instance = meta.sop_instance or ref.sop_instance
            stored_as = meta.syntax
            if rewrite is not None:
                table = ElementTable(self._data(reader, head, start), meta.syntax)
                rewrite(table)
                if table.revision:
                    pieces = _patched(table, pieces[0])
                    stored_as = table.syntax
                    sop_class = table.text(SOP_CLASS_UID)
                    sop_instance = table.text(SOP_INSTANCE_UID)
            outgoing = Outgoing(reader, pieces, sop_class, sop_instance, stored_as)
        except BaseException:
            reader.close()
            raise
        return outgoing if syntax is None else self.converted(outgoing, syntax)

    def converted(self, outgoing: Outgoing, syntax: str) -> Outgoing:
        """Return an open object in another transfer syntax, with whatever a rule made of it; the
        one that is given must not be used any more.

        Raises:
            CannotTranscode: it cannot be converted.
            StoreError: it cannot be read.
        """
        if syntax == outgoing.syntax:
            return outgoing
        reader, pieces = outgoing.reader, list(outgoing.pieces)
        try:
            if len(pieces) > 1:
                reader, pieces = self._assembled(reader, pieces)
            pieces = self._recoded(reader, pieces[0], outgoing.syntax, syntax)
        except BaseException:
            reader.close()
            raise
        return Outgoing(reader, pieces, outgoing.sop_class, outgoing.sop_instance, syntax)

    @contextmanager
    def table(self, ref: InstanceRef) -> Iterator[ElementTable]:
        """Lend the element table of an object; changes to it go nowhere.

        Raises:
            Missing, NotDicom or another StoreError, as `open` does.
        """
        with self._opened(ref) as (reader, meta, head):
            yield ElementTable(self._data(reader, head, meta.data_offset), meta.syntax)

    def head(self, ref: InstanceRef) -> bytes:
        """Return what stands before the data set in an object's file: nothing in a bare one.

        Raises:
            Missing, NotDicom or another StoreError, as `open` does.
        """
        with self._opened(ref) as (_, meta, head):
            return head[: meta.data_offset]

    def path(self, ref: InstanceRef) -> PurePath:
        """Return where an object's file is, as rules see it."""
        if ref.device == SPOOL_DEVICE:
            return self._devices.spool.folder / ref.name
        device = self._devices.get(ref.device)
        return PurePath(ref.name) if device is None else device.path(ref.name)

    def sync(self, ref: InstanceRef) -> Set[Path]:
        """Make the content of an object's file durable where storing it did not; return the folders
        that have to be synced for its name to last. Raises OSError."""
        device = self._devices.get(ref.device)
        if device is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such device", ref.device)
        sync_file(Path(device.path(ref.name)))
        return device.folders(ref.name)

    def written(self, ref: InstanceRef) -> float | None:
        """Return when an object's file was written, in seconds since the epoch; None when it is not
        where the index says."""
        try:
            return Path(self.path(ref)).stat().st_mtime
        except OSError:
            return None

    def release_spool(self, name: str) -> None:
        """Remove a copy in the spool that nobody is owed any more."""
        self._devices.spool.remove(name)

    @contextmanager
    def _opened(self, ref: InstanceRef) -> Iterator[tuple[Reader, FileMeta, bytes]]:
        reader, meta, head = self._open(ref)
        try:
            yield reader, meta, head
        finally:
            reader.close()

    def _open(self, ref: InstanceRef) -> tuple[Reader, FileMeta, bytes]:
        """Return the open file, what its head says, and the bytes that were read for that."""
        opened = self._open_as_named(ref)
        if opened is not None:
            return opened
        # A copy in the spool is a state that the stored object does not have any more, or never
        # had: the identified original must not go out in the place of an anonymised copy.
        may_have_moved = ref.device != SPOOL_DEVICE
        found = self._find(ref.sop_instance) if self._find and may_have_moved else None
        if found is not None and (found.device, found.name) != (ref.device, ref.name):
            opened = self._open_as_named(found)
        if opened is None:
            raise _missing(ref)
        return opened

    def _open_as_named(self, ref: InstanceRef) -> tuple[Reader, FileMeta, bytes] | None:
        """Open the file that a reference names; None when there is none, or one of another
        object."""
        try:
            reader = self._reader(ref)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StoreError(
                f"the stored file cannot be opened: {exc.strerror}", where=ref.name
            ) from exc
        try:
            meta, head = read_head(reader)
        except OSError as exc:
            reader.close()
            raise StoreError(
                f"the stored file cannot be read: {exc.strerror}", where=ref.name
            ) from exc
        except BaseException:
            reader.close()
            raise
        # What is in the spool belongs to its debt, whatever UIDs a rule gave it.
        if ref.device == SPOOL_DEVICE or meta.sop_instance in ("", ref.sop_instance):
            return reader, meta, head
        reader.close()
        log.warning("The file %s holds another object than %s.", ref.name, ref.sop_instance)
        return None

    def _reader(self, ref: InstanceRef) -> Reader:
        """Open the file on its device, else one of the same name on another (spec dimse.md 9)."""
        if ref.device == SPOOL_DEVICE:
            return self._devices.spool.open(ref.name)
        opener = self._others.get(ref.device)
        if opener is not None:
            return opener(ref)
        if not ref.name or not is_confined(ref.name):
            raise FileNotFoundError(ref.name)
        noted = self._replacing.noted(ref.sop_instance) if self._replacing is not None else ""
        for device in self._devices.to_read(ref.device):
            try:
                if noted and self._replacing is not None:
                    waiting = self._replacing.open(device, ref.sop_instance, noted)
                    if waiting is not None:
                        return waiting
                return device.open(ref.name, ref.sop_instance)
            except (FileNotFoundError, NotADirectoryError):
                continue
        raise FileNotFoundError(ref.name)

    def _data(self, reader: Reader, head: bytes, start: int) -> Buffer | FileData:
        """Return what stands from `start` on; raises StoreError when it cannot be read."""
        if len(head) == reader.size:
            return memoryview(head)[start:]
        try:
            return reader.data(start, self._temp_dir)
        except OSError as exc:
            raise StoreError(f"the stored file cannot be read: {exc.strerror}") from exc

    def _recoded(self, reader: Reader, whole: _Piece, syntax: str, target: str) -> list[_Piece]:
        """Return a data set in another syntax; native pixels are not loaded for a new header."""
        if not isinstance(whole, _Range):
            return _converted(memoryview(whole), syntax, target)
        data = self._data(reader, b"", whole.offset)
        changed = convert_header_only(data, syntax, target)
        if changed is None:
            return [convert(as_buffer(data), syntax, target)]
        header, rest = changed
        return [header, _Range(whole.offset + rest, whole.length - rest)]

    def _assembled(self, reader: Reader, pieces: Sequence[_Piece]) -> tuple[Reader, list[_Piece]]:
        """Bring a data set of several pieces together: in memory, or in a file without a name."""
        outgoing = Outgoing(reader, pieces, "", "", "")
        if outgoing.size <= CHUNK_BYTES:
            return reader, [b"".join(outgoing.chunks())]
        try:
            with tempfile.TemporaryFile(dir=self._temp_dir, buffering=0) as file:
                for chunk in outgoing.chunks():
                    write_parts(file.fileno(), [chunk])
                assembled = FileReader(os.dup(file.fileno()))
        except OSError as exc:
            raise StoreError(
                f"no temporary file can be written: {exc.strerror}",
                where=str(self._temp_dir),
                remedy="free space there, or set TempDir",
            ) from exc
        reader.close()
        return assembled, [_Range(0, assembled.size)]


def read_head(reader: Reader) -> tuple[FileMeta, bytes]:
    """Return what the head of a file says, and the bytes that were read for that.

    Raises NotDicom, OSError.
    """
    size = _WHOLE_BYTES if reader.size <= _WHOLE_BYTES else _HEAD_BYTES
    while True:
        head = reader.read_at(0, size)
        try:
            meta = read_meta(head)
        except NotDicom:
            if size >= min(reader.size, _LONGEST_HEAD_BYTES):
                raise
        else:
            if meta.sop_class or size >= min(reader.size, _LONGEST_HEAD_BYTES):
                return meta, head
        size *= 16


def _patched(table: ElementTable, whole: _Piece) -> list[_Piece]:
    """Return the pieces of a patched data set; `whole` is where the unpatched one is."""
    pieces: list[_Piece] = []
    for segment in table.segments():
        if not isinstance(segment, Slice):
            pieces.append(segment)
        elif isinstance(whole, _Range):
            pieces.append(_Range(whole.offset + segment.offset, segment.length))
        else:
            pieces.append(memoryview(whole)[segment.offset : segment.offset + segment.length])
    return pieces


def _converted(view: memoryview, syntax: str, target: str) -> list[_Piece]:
    changed = convert_header_only(view, syntax, target)
    if changed is None:
        return [convert(view, syntax, target)]
    header, rest = changed
    return [header, view[rest:]]


def _missing(ref: InstanceRef) -> Missing:
    return Missing(
        f"the file of object {ref.sop_instance} cannot be found",
        where=f"{ref.device} {ref.name}",
        remedy="put the file back, or remove the object from the index",
    )
