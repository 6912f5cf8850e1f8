"""What becomes of an object whose SOP instance is stored already with other content.

`DuplicateContent` decides: it replaces the stored one, is put aside (`dgate.archive.aside`), or is
rejected. The same data set again is no conflict. Used by the thread that brings the object, while
it is the instance's turn.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from functools import partial

from dgate.archive.aside import Aside, Content, Report
from dgate.archive.devices import Devices, Reader
from dgate.archive.export import read_head
from dgate.archive.files import COPY_BYTES, hash_parts
from dgate.archive.incoming import Incoming, check_source, data_parts, reencoded
from dgate.archive.oldfile import OldFile, old_file
from dgate.archive.records import InstanceRef
from dgate.clock import Clock
from dgate.config.settings import DuplicateContent, Durability, Settings
from dgate.dicom.element import keyword_of
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import transfer_syntax
from dgate.errors import CannotTranscode, NotDicom, Refused

log = logging.getLogger(__name__)

_MOST_DIFFERENCES = 200
_COMPARED_BYTES = 64 << 20
"""Of longer objects the pixels are only hashed."""
_PIXEL_GROUP = 0x7FE00000
_LONGEST_TEXT = 200
"""Characters of a value in the report."""


class Duplicates:
    """Compares what arrives with what is stored."""

    def __init__(self, settings: Settings, devices: Devices, clock: Clock, aside: Aside) -> None:
        """`aside` is the one of the archive."""
        self._policy = settings.duplicate_content
        self._is_durable = settings.durability is Durability.FULL
        self._devices = devices
        self._clock = clock
        self._aside = aside

    def keep_first(self, item: Incoming, known: InstanceRef) -> bool:
        """Tell whether the stored object stays and this one was put aside.

        A crash leaves it aside or not at all; the sender has no success and will send again.

        Raises:
            Refused: the object is to be rejected.
            OutOfSpace: it cannot be put aside.
        """
        arrival = item.arrival
        if self._policy is DuplicateContent.REPLACE or (arrival is not None and arrival.replaces):
            return False
        device = self._devices.get(known.device)
        if device is None or old_file(device, known) is not OldFile.OURS:
            # There is nothing to keep.
            return False
        reader = device.open(known.name, known.sop_instance)
        try:
            report = self._compared(item, known, reader)
        finally:
            reader.close()
        if report is None:
            return False
        if self._policy is DuplicateContent.REJECT:
            log.warning(
                "Object %s of %s was rejected: it is stored already with other content.",
                report.sop_instance,
                item.calling,
            )
            raise Refused(
                "the object is stored already with other content",
                where=known.sop_instance,
                remedy="DuplicateContent = aside keeps both",
            )
        self._devices.admit_places()
        check = partial(check_source, item.payload, durable=self._is_durable)
        report = self._aside.put(report, item.file_parts(item.table), check)
        log.warning(
            "Object %s of %s is stored already with other content; the new one was put aside "
            "(time %d): dgate aside show %s",
            report.sop_instance,
            item.calling,
            report.times,
            report.name,
        )
        return True

    def _compared(self, item: Incoming, known: InstanceRef, reader: Reader) -> Report | None:
        """Return what is different; None when the data sets are the same."""
        meta, _ = read_head(reader)
        stored_hash = _hash_of(reader, meta.data_offset)
        size = item.table.size
        parts = [*data_parts(item.table, item.payload)]
        new_hash = hash_parts(parts)
        stored = Content(
            stored_hash,
            reader.size - meta.data_offset,
            meta.syntax,
            f"{known.device} {known.name}",
        )
        if new_hash == stored_hash or _converted_hash(item, meta.syntax) == stored_hash:
            return None
        now = self._clock.now()
        arrival, entry = item.arrival, item.entry
        differences = _differences(reader, meta.data_offset, meta.syntax, item.table)
        return Report(
            entry.sop_class,
            entry.sop_instance,
            entry.patient_id,
            entry.study,
            entry.series,
            item.calling,
            item.called,
            "" if arrival is None else arrival.source_host,
            now,
            now,
            1,
            stored,
            Content(new_hash, size, item.table.syntax, item.calling),
            tuple(differences[:_MOST_DIFFERENCES]),
            max(0, len(differences) - _MOST_DIFFERENCES),
        )


def _hash_of(reader: Reader, offset: int) -> str:
    """Return the SHA-256 of the data set in a stored file; raises OSError."""
    digest = hashlib.sha256()
    while piece := reader.read_at(offset, COPY_BYTES):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


def _converted_hash(item: Incoming, syntax: str) -> str:
    """Return the hash of the object in the stored one's transfer syntax, where only the encoding of
    its header may differ; empty where that says nothing."""
    if item.table.syntax == syntax:
        return ""
    if transfer_syntax(item.table.syntax).encapsulated or transfer_syntax(syntax).encapsulated:
        return ""
    spill = item.payload.spilled
    if spill is not None:
        # What is compared must not fill the disk.
        return ""
    try:
        payload = reencoded(item.table, item.payload, syntax, Payload)
    except CannotTranscode:
        return ""
    try:
        return hashlib.sha256(payload.view()).hexdigest()
    finally:
        payload.close()


def _differences(
    reader: Reader, offset: int, syntax: str, table: ElementTable
) -> list[dict[str, str | None]]:
    """Return the top-level elements that differ; none where one of the two cannot be read."""
    try:
        stored = ElementTable(reader.data(offset), syntax)
        return [*_compared_elements(stored, table, reader.size <= _COMPARED_BYTES)]
    except NotDicom as exc:
        log.debug("Two contents of an object cannot be compared: %s", exc)
        return []


def _compared_elements(
    stored: ElementTable, table: ElementTable, with_pixels: bool
) -> Iterator[dict[str, str | None]]:
    for tag in sorted({*stored.tags(), *table.tags()}):
        if tag >= _PIXEL_GROUP and not with_pixels:
            continue
        before, after = stored.view(tag), table.view(tag)
        if before == after:
            continue
        yield {
            "tag": f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
            "name": keyword_of(tag),
            "stored": _shown(stored, tag, before),
            "aside": _shown(table, tag, after),
        }


def _shown(table: ElementTable, tag: int, value: memoryview | None) -> str | None:
    """Return a value for people; None when it is not there."""
    if value is None:
        return None
    text = "" if table.is_sequence(tag) or len(value) > _LONGEST_TEXT * 4 else table.text(tag)
    if not text and len(value):
        digest = hashlib.sha256(value).hexdigest()
        return f"{len(value)} bytes, sha256 {digest[:16]}"
    return text[:_LONGEST_TEXT]
