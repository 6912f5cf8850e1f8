"""The first steps of the way in: bytes that arrive become an object that is known and checked.

Not for what happens to it then (`dgate.archive.ingest`, whose part this is). Any thread may
receive; an arrival belongs to the thread that brings it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial

from dgate.archive.devices import Device, Devices
from dgate.archive.events import IntakeEvents
from dgate.archive.files import TOO_MANY_FILES, storage_failure
from dgate.archive.incoming import Incoming, check_arrived, check_identity, reencoded
from dgate.archive.index import Index
from dgate.archive.provenance import note_bytes
from dgate.archive.records import Arrival
from dgate.archive.repair import repair
from dgate.archive.shrinking import shrinking
from dgate.archive.spool import Spool
from dgate.archive.troubles import Troubles
from dgate.archive.unparsed import UnparsedTable, unparsed_table
from dgate.config.settings import Engine, Settings
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.recompress import arrange
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.dicom.transcode import can_encode, stored_syntax_for
from dgate.dicom.uids import IMPLICIT_LE, is_uid, transfer_syntax
from dgate.errors import (
    CannotTranscode,
    NotDicom,
    NotSynced,
    OutOfSpace,
    StoreError,
    Unreadable,
)

log = logging.getLogger(__name__)

_UNNAMED = "0"
"""Stands in temporary names for a SOP instance that is no UID; such an object is refused later."""


class Reception:
    """Receives objects: spill files, parsing, recompression, worklist, repair."""

    def __init__(
        self,
        settings: Settings,
        index: Index,
        devices: Devices,
        events: IntakeEvents,
        troubles: Troubles,
        must_be_whole: Callable[[Arrival], bool],
    ) -> None:
        """`must_be_whole` tells whether an object that cannot be parsed has to be refused."""
        self._settings = settings
        self._index = index
        self._devices = devices
        self._events = events
        self._troubles = troubles
        self._must_be_whole = must_be_whole
        self._keeps = settings.engine is not Engine.NONE
        # Reasons name transfer syntaxes only, so there are few.
        self._warned: set[str] = set()

    def payload(self, syntax: str, sop_class: str, sop_instance: str, calling: str) -> Payload:
        """Return an empty payload that spills into a device's incoming folder when it gets large.

        The arguments are those of the command, unchecked. A crash while it fills leaves a `.part`
        file, which recovery removes.
        """
        return Payload(lambda: self._spill(syntax, sop_class, sop_instance, calling))

    def receive(self, arrival: Arrival) -> Incoming:
        """Parse, check, recompress and repair; nothing but the spill file is on disk yet."""
        check_arrived(arrival.payload)
        table = self._table(arrival)
        check_identity(table, arrival.sop_class, arrival.sop_instance)
        called, _, code = arrival.called.partition("~")
        if arrival.passed_rules:
            code = ""
        elif not code:
            settings = self._settings
            received = bool(arrival.sop_class)
            code = settings.incoming_compression if received else settings.dropped_file_compression
        if code and not isinstance(table, UnparsedTable):
            table = self._recompress(arrival, table, code)
        original = table.snapshot() if self._settings.change_log else None
        if code and not isinstance(table, UnparsedTable):
            self._events.compress(code, table, arrival.calling, called, arrival.session)
        refusal = None
        if self._events.coercion is not None and not arrival.passed_rules:
            refusal = self._events.coerce(table, arrival.calling, called, arrival.session)
        repaired = repair(table, self._settings)
        for tag, uid in repaired.generated:
            table.set_text(tag, uid)
            log.warning(
                "An object without the UID (%04X,%04X) was given %s.", tag >> 16, tag & 0xFFFF, uid
            )
        entry = self._index.entry(table, repaired)
        item = Incoming(arrival.payload, table, arrival.calling, called, repaired, entry)
        item.session, item.refusal, item.original = arrival.session, refusal, original
        item.must_be_new, item.arrival = arrival.must_be_new, arrival
        if original is not None and arrival.original is not None:
            item.original, item.is_stored_before = arrival.original, True
            item.verdict.changed_by.append(arrival.changed_by)
        return item

    def failure(self, arrival: Arrival, exc: OSError | Unreadable) -> StoreError:
        """Return what a failure that was not met where it happened means for an object.

        A spill file that cannot be read back is its disk's fault: what arrived is lost and has to
        come again, and other devices go before that one for a while.
        """
        if isinstance(exc, OSError):
            return storage_failure(exc, str(exc.filename or ""))
        cause = exc.__cause__
        failed = cause if isinstance(cause, OSError) else OSError(errno.EIO, exc.what)
        spill = arrival.payload.spilled
        device = None if spill is None else self._devices.get(spill.area)
        if device is not None:
            self._devices.failed(device, failed)
        known = storage_failure(failed, "" if spill is None else str(spill.path))
        what = f"a large object cannot be read back: {failed.strerror}"
        return NotSynced(what, where=known.where, remedy=known.remedy)

    def raw(self, item: Incoming) -> Payload | None:
        """Return the bare data set for a `.v2` file; None when only Part 10 can hold it."""
        fresh = partial(self._fresh, item.table, IMPLICIT_LE, item.calling)
        try:
            return reencoded(item.table, item.payload, IMPLICIT_LE, fresh)
        except CannotTranscode as exc:
            self._warn_once("A .v2 file was written as Part 10: %s", exc)
            return None

    def _warn_once(self, message: str, reason: CannotTranscode | NotDicom) -> None:
        """Log a conversion that failed, and the same one again only for those who debug."""
        level = logging.DEBUG if reason.what in self._warned else logging.WARNING
        self._warned.add(reason.what)
        log.log(level, message, reason)

    def _spill(self, syntax: str, sop_class: str, sop_instance: str, calling: str) -> SpillFile:
        """Open the file for a large object; a crash leaves a `.part` file for recovery."""
        header = file_meta(sop_class, sop_instance, syntax, calling)
        name = sop_instance if is_uid(sop_instance) else _UNNAMED
        try:
            area = self._devices.choose() if self._keeps else self._devices.spool
        except OutOfSpace as exc:
            # The payload remembers an OSError and keeps the association's stream intact.
            raise OSError(errno.ENOSPC, exc.what) from exc
        try:
            return self._open_spill(area, name, header)
        except OSError as exc:
            spill = self._spill_elsewhere(area, name, header, exc, 0)
            if spill is None:
                raise
            return spill

    def _open_spill(self, area: Device | Spool, name: str, header: bytes) -> SpillFile:
        spill = area.spill(name, header)
        spill.area = "" if isinstance(area, Spool) else area.name
        spill.has_room = partial(self._devices.has_room_for, area)
        spill.elsewhere = partial(self._spill_elsewhere, area, name, header)
        spill.left = self._troubles.left
        return spill

    def _spill_elsewhere(
        self, area: Device | Spool, name: str, header: bytes, exc: OSError, size: int
    ) -> SpillFile | None:
        """Go on, on another device, with an object that this one cannot take; None when there is
        none."""
        if isinstance(area, Spool):
            return None
        self._devices.failed(area, exc)
        other = None if exc.errno in TOO_MANY_FILES else self._devices.other_than(area, size)
        if other is None:
            return None
        log.info("An object moves from %s to %s: %s.", area.name, other.name, exc.strerror)
        try:
            return self._open_spill(other, name, header)
        except OSError as failure:
            return self._spill_elsewhere(other, name, header, failure, size)

    def _table(self, arrival: Arrival) -> ElementTable:
        """Parse the object, or with `NoDicomCheck` as much of it as can be parsed.

        Where an import rule would have to see all of it, it is refused in any case (rulings.md 10).
        """
        payload = arrival.payload
        try:
            return ElementTable(payload.view(), arrival.syntax)
        except NotDicom as exc:
            if not self._settings.no_dicom_check or not arrival.sop_class:
                raise
            if self._must_be_whole(arrival):
                raise
            sop_instance = arrival.sop_instance
            table = unparsed_table(payload.view(), arrival.syntax, arrival.sop_class, sop_instance)
            log.warning(
                "Object %s of %s cannot be parsed (%s) and is kept as it came.",
                sop_instance,
                arrival.calling,
                exc,
            )
            return table

    def _recompress(self, arrival: Arrival, table: ElementTable, code: str) -> ElementTable:
        """Bring the object into the syntax of a compression code, or keep it as it is and log why.

        A crash leaves one or two spill files, which recovery removes.
        """
        shrink = shrinking(code, self._warn_once)
        if shrink is not None:
            shrink(table)
            return table
        target = stored_syntax_for(code, arrival.syntax)
        if target == arrival.syntax or (can_encode(target) and PIXEL_DATA not in table):
            return table
        try:
            payload = reencoded(
                table, arrival.payload, target, lambda: self._fresh(table, target, arrival.calling)
            )
        except CannotTranscode as exc:
            self._warn_once("An object was kept in the transfer syntax received: %s", exc)
            return table
        was_compressed = transfer_syntax(table.syntax).encapsulated
        note_bytes(arrival)
        arrival.payload.close()
        arrival.payload, arrival.syntax = payload, target
        table = ElementTable(payload.view(), target)
        if was_compressed:
            arrange(table, code)
        return table

    def _fresh(self, table: ElementTable, syntax: str, calling: str) -> Payload:
        return self.payload(syntax, table.text(0x00080016), table.text(0x00080018), calling)
