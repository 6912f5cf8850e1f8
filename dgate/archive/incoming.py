"""One object between receipt and storage: its bytes, what is known of it, what rules want done.

Not for the order of steps (`dgate.archive.ingest`). An `Incoming` belongs to the thread that brings
the object.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from dgate.archive.files import FileRange, Part, read_piece, storage_failure
from dgate.archive.records import Arrival
from dgate.archive.repair import Repaired
from dgate.archive.rows import Entry
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable, Slice
from dgate.dicom.transcode import convert_header_only, convert_parts
from dgate.dicom.uids import is_uid
from dgate.disk import check_written
from dgate.errors import DataSetMismatch, NotDicom, NotSynced, StoreError
from dgate.rules.effects import Captured, Decision, ExportPlan, ImportVerdict
from dgate.rules.session import Session

SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
_IDENTITY_REMOVED = 0x00120062


@dataclass(slots=True)
class Incoming:
    """An object whose data set has been parsed."""

    payload: Payload
    table: ElementTable
    calling: str
    called: str
    repaired: Repaired
    entry: Entry
    verdict: ImportVerdict = field(default_factory=ImportVerdict)
    session: Session | None = None
    original: ElementTable | None = None
    """The object before rules saw it, where changes are recorded."""
    is_stored_before: bool = False
    """`original` is a stored object, of which `table` knows nothing."""
    must_be_new: bool = False
    """Refuse it when the index has its instance already."""
    refusal: Decision | None = None
    """WorkListMode refused the object, with what is to be forwarded all the same."""
    arrival: Arrival | None = None
    """What the object came as."""
    captured: Captured | None = None
    plans: list[ExportPlan] = field(default_factory=list)

    def header(self, table: ElementTable) -> bytes:
        """Return the Part 10 header for a state of the object."""
        sop_class, sop_instance = self.entry.sop_class, self.entry.sop_instance
        if table is not self.table:
            sop_class, sop_instance = table.text(SOP_CLASS_UID), table.text(SOP_INSTANCE_UID)
        # A de-identified object must not tell from where it came (PS3.15 E.1.1).
        hidden = bool(table.revision) and table.text(_IDENTITY_REMOVED).strip() == "YES"
        source = "" if hidden else self.calling
        return file_meta(sop_class, sop_instance, table.syntax, source)

    def file_parts(self, table: ElementTable) -> list[Part]:
        """Return the Part 10 file for a state of the object."""
        return [self.header(table), *data_parts(table, self.payload)]

    def is_on_disk(self, table: ElementTable) -> bool:
        """Tell whether the spill file is, byte for byte, the Part 10 file for this state.

        Raises Unreadable.
        """
        spill = self.payload.spilled
        if spill is None or table.revision:
            return False
        return read_piece(spill.descriptor, 0, spill.data_offset) == self.header(table)


def check_arrived(payload: Payload) -> None:
    """Raise the StoreError for a data set that could not be received completely.

    A crash here leaves at most a spill file, which recovery removes.
    """
    if payload.error is not None:
        cause = payload.error.__cause__
        if isinstance(cause, StoreError):
            raise cause
        raise storage_failure(payload.error, str(payload.error.filename or "")) from payload.error
    if payload.overflowed:
        raise StoreError(f"the data set is too large to be kept in memory: {payload.size} bytes")


def check_source(payload: Payload, *, durable: bool = True) -> None:
    """Raise NotSynced when the disk has lost a part of a spill file: what was read from it, before
    this call, need not be what arrived. Where nothing need be `durable` nothing is looked at.

    A crash here leaves what the caller has made of it, without a commit.
    """
    spill = payload.spilled
    if spill is None or not durable:
        return
    try:
        check_written(spill.descriptor)
    except OSError as exc:
        known = storage_failure(exc, str(spill.path))
        raise NotSynced(known.what, where=known.where, remedy=known.remedy) from exc


def let_go(payload: Payload) -> None:
    """Make the payload forget a spill file that is, or will be, a stored object."""
    spill, payload.spilled = payload.spilled, None
    if spill is not None:
        # What a network disk says at this moment, it has said to the sync before.
        with suppress(OSError):
            os.close(spill.descriptor)


def check_identity(table: ElementTable, sop_class: str, sop_instance: str) -> None:
    """Check the UIDs in the data set, and against those of the command where there was one.

    A crash here leaves at most a spill file, which recovery removes.

    Raises:
        NotDicom: SOP Class UID or SOP Instance UID is missing or no UID.
        DataSetMismatch: they are not those that the command names.
    """
    for what, tag, expected in (
        ("SOP Class UID", SOP_CLASS_UID, sop_class),
        ("SOP Instance UID", SOP_INSTANCE_UID, sop_instance),
    ):
        found = table.text(tag)
        if not found:
            raise NotDicom(f"the data set has no {what}")
        # Before it becomes part of a path, and for whatever later reader takes it for a UID.
        if not is_uid(found):
            raise NotDicom(f"the {what} {found[:80]!r} is not a UID")
        if expected and found != expected:
            raise DataSetMismatch(
                f"the {what} of the data set is {found}, that of the command {expected[:80]!r}"
            )


def data_parts(table: ElementTable, payload: Payload) -> Iterator[Part]:
    """Yield the data set of a table over the payload: buffers in memory, ranges of a spill file."""
    spill = payload.spilled
    if spill is None:
        view = payload.view()
        for segment in table.segments():
            if isinstance(segment, Slice):
                yield view[segment.offset : segment.offset + segment.length]
            else:
                yield segment
        return
    for segment in table.segments():
        if isinstance(segment, Slice):
            offset, length = segment
            yield FileRange(spill.descriptor, spill.data_offset + offset, length)
        else:
            yield segment


def reencoded(
    table: ElementTable, payload: Payload, target: str, fresh: Callable[[], Payload]
) -> Payload:
    """Return a new payload with the table's data set in another transfer syntax.

    Native pixels stay on disk where only the header has to change. A crash leaves at most spill
    files, which recovery removes.

    Args:
        fresh: gives an empty payload of the target syntax.

    Raises:
        CannotTranscode: the conversion is not possible; nothing was changed.
        NotSynced: a disk has lost a part of what was read.
        Unreadable: a disk does not give it back.
    """
    source, result = payload, fresh()
    try:
        if table.revision:
            source = fresh()
            _append(source, data_parts(table, payload))
            check_arrived(source)
        head = convert_header_only(source.view(), table.syntax, target)
        if head is None:
            for part in convert_parts(source.view(), table.syntax, target):
                result.append(part if isinstance(part, bytes) else memoryview(part))
        else:
            converted, rest = head
            result.append(converted)
            _append(result, [_rest(source, rest)])
        check_arrived(result)
        check_source(source)
        check_source(payload)
    except BaseException:
        result.close()
        raise
    finally:
        if source is not payload:
            source.close()
    return result


def whole_data(payload: Payload) -> list[Part]:
    """Return the payload's data set as it is."""
    return [_rest(payload, 0)]


def _rest(payload: Payload, offset: int) -> Part:
    spill = payload.spilled
    if spill is None:
        return payload.view()[offset:]
    return FileRange(spill.descriptor, spill.data_offset + offset, payload.size - offset)


def _append(payload: Payload, parts: Iterator[Part] | list[Part]) -> None:
    for part in parts:
        if isinstance(part, FileRange):
            start, end = part.offset, part.offset + part.length
            while start < end:
                piece = read_piece(part.descriptor, start, end - start)
                payload.append(piece)
                start += len(piece)
        else:
            payload.append(part if isinstance(part, bytes) else memoryview(part))
