"""The one way in: every object that dgate keeps or passes on goes through `Ingest.store`.

Order of intake: rulings.md 2. Not for the parts it calls: rows (`index`), files (`devices`), names
(`naming`), commits (`writer`), rules (given as functions). Any thread may store; an arrival belongs
to the thread that brings it.

The crash protocol: bytes are synced under a temporary name, then rows and debts are committed, then
the file gets its name and the folders are synced, then the sender hears success. A crash before the
commit leaves a temporary file without a row, which recovery removes; one after it leaves a row
whose file has its temporary name, which recovery renames.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath

from dgate.archive.devices import PREVIOUS, Device, Devices
from dgate.archive.files import Part, hash_parts
from dgate.archive.incoming import (
    Incoming,
    check_arrived,
    check_identity,
    data_parts,
    reencoded,
)
from dgate.archive.index import Index, Rewrite
from dgate.archive.naming import Naming, extension
from dgate.archive.obligations import Obligations
from dgate.archive.records import Arrival, InstanceRef, Outcome, Receipt
from dgate.archive.repair import repair
from dgate.archive.reservations import Names, Turns
from dgate.archive.rewrites import CompletedRewrites
from dgate.archive.rows import Entry
from dgate.archive.spool import SPOOL_DEVICE
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.config.settings import Engine, Settings
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import stored_syntax_for
from dgate.dicom.uids import IMPLICIT_LE, is_uid, transfer_syntax
from dgate.errors import CannotTranscode, OutOfSpace, Refused, RuleError, StoreError
from dgate.rules.effects import Captured, ExportPlan, ImportVerdict
from dgate.rules.effects import Outcome as RuleOutcome
from dgate.rules.hooks import capture

log = logging.getLogger(__name__)

ImportRules = Callable[[ElementTable, Captured], ImportVerdict]
"""Runs the import converters; the table is changed in place."""
ExportPlans = Callable[[ElementTable, Captured], Sequence[ExportPlan]]
"""Says what the export converters owe for an object that is being stored."""

_MOST_ATTEMPTS = 5
_UNNAMED = "0"
"""Stands in temporary names for a SOP instance that is no UID; such an object is refused later."""


class Ingest:
    """Takes objects in: checks, rules, bytes, rows, debts, one after the other.

    `import_rules` and `export_plans` are None when no converter is configured. `wake` is called
    after each commit that made debts.
    """

    def __init__(
        self,
        settings: Settings,
        index: Index,
        writer: Writer,
        devices: Devices,
        naming: Naming,
        import_rules: ImportRules | None,
        export_plans: ExportPlans | None,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._index = index
        self._writer = writer
        self._devices = devices
        self._naming = naming
        self._import_rules = import_rules
        self._export_plans = export_plans
        self._clock = clock
        self._wake = wake
        self._keeps = settings.engine is not Engine.NONE
        self._names = Names()
        self._turns = Turns()
        self._completed = CompletedRewrites()
        # Whether the last object was known already. Only a guess for the next one: it decides
        # whether to ask the index before or after the file is written.
        self._expects_known = False

    def payload(self, syntax: str, sop_class: str, sop_instance: str, calling: str) -> Payload:
        """Return an empty payload that spills into a device's incoming folder when it gets large.

        The arguments are those of the command, unchecked. A crash while it fills leaves a `.part`
        file, which recovery removes.
        """
        return Payload(lambda: self._spill(syntax, sop_class, sop_instance, calling))

    def store(self, arrival: Arrival) -> Receipt:
        """Take an object in; on return everything that the receipt says is durable.

        A crash before the return leaves the object either completely stored or not at all; the
        sender, who heard nothing, sends it again, and that is harmless. The payload is closed.

        Raises:
            OutOfSpace, DatabaseAway, NotDicom, DataSetMismatch, Refused or another StoreError:
                nothing of the object is kept, except when the disk failed after the commit.
        """
        try:
            item = self._receive(arrival)
            if not arrival.skip_rules:
                self._apply_rules(item)
            if item.verdict.outcome is RuleOutcome.REJECT:
                raise Refused(item.verdict.reason or "an import converter rejected the object")
            if item.verdict.outcome is RuleOutcome.DESTROY:
                return self._drop(item)
            if item.table.revision:
                check_identity(item.table, "", "")
            if not self._keeps:
                return self._relay(item)
            with self._turns.of(item.entry.sop_instance):
                return self._keep(item)
        finally:
            arrival.payload.close()

    def file_name(self, table: ElementTable, calling: str, called: str) -> PurePath:
        """Return the path that the object would get now (`%f` in import converters)."""
        entry = self._index.entry(table, repair(table, self._settings))
        encapsulated = transfer_syntax(table.syntax).encapsulated
        name = self._naming.name(table, entry, calling, called, encapsulated=encapsulated)
        return self._devices.choose().path(name)

    def _spill(self, syntax: str, sop_class: str, sop_instance: str, calling: str) -> SpillFile:
        """Open the file for a large object; a crash leaves a `.part` file for recovery."""
        header = file_meta(sop_class, sop_instance, syntax, calling)
        try:
            device = self._devices.choose() if self._keeps else self._devices.spool
        except OutOfSpace as exc:
            # The payload remembers an OSError and keeps the association's stream intact.
            raise OSError(errno.ENOSPC, exc.what) from exc
        return device.spill(sop_instance if is_uid(sop_instance) else _UNNAMED, header)

    def _receive(self, arrival: Arrival) -> Incoming:
        """Parse, check, recompress and repair; nothing but the spill file is on disk yet."""
        check_arrived(arrival.payload)
        table = ElementTable(arrival.payload.view(), arrival.syntax)
        check_identity(table, arrival.sop_class, arrival.sop_instance)
        called, _, code = arrival.called.partition("~")
        if not code:
            settings = self._settings
            received = bool(arrival.sop_class)
            code = settings.incoming_compression if received else settings.dropped_file_compression
        if code:
            table = self._recompress(arrival, table, code)
        repaired = repair(table, self._settings)
        for tag, uid in repaired.generated:
            table.set_text(tag, uid)
            log.warning(
                "An object without the UID (%04X,%04X) was given %s.", tag >> 16, tag & 0xFFFF, uid
            )
        entry = self._index.entry(table, repaired)
        payload, syntax = arrival.payload, arrival.syntax
        return Incoming(payload, syntax, table, arrival.calling, called, repaired, entry)

    def _recompress(self, arrival: Arrival, table: ElementTable, code: str) -> ElementTable:
        """Bring the object into the syntax of a compression code, or keep it as it is and log why.

        A crash leaves one or two spill files, which recovery removes.
        """
        target = stored_syntax_for(code, arrival.syntax)
        if target == arrival.syntax:
            return table
        try:
            payload = reencoded(
                table, arrival.payload, target, lambda: self._fresh(table, target, arrival.calling)
            )
        except CannotTranscode as exc:
            log.warning("An object was kept in the transfer syntax received: %s", exc)
            return table
        arrival.payload.close()
        arrival.payload, arrival.syntax = payload, target
        return ElementTable(payload.view(), target)

    def _fresh(self, table: ElementTable, syntax: str, calling: str) -> Payload:
        return self.payload(syntax, table.text(0x00080016), table.text(0x00080018), calling)

    def _apply_rules(self, item: Incoming) -> None:
        """Run the import converters and plan the exports; a crash leaves at most a spill file."""
        if self._import_rules is not None:
            captured = capture(item.table, item.calling, item.called)
            revision = item.table.revision
            try:
                item.verdict = self._import_rules(item.table, captured)
            except RuleError as exc:
                # What a failing rule leaves must not be stored: it may be half anonymised.
                raise Refused(str(exc)) from exc
            if item.table.revision != revision:
                item.entry = self._index.entry(item.table, item.repaired)
        if self._export_plans is not None and item.verdict.outcome is RuleOutcome.KEEP:
            item.captured = capture(item.table, item.calling, item.called)
            item.plans = list(self._export_plans(item.table, item.captured))

    def _drop(self, item: Incoming) -> Receipt:
        """Keep nothing but what import converters forwarded (rulings.md 4)."""
        owed = Obligations(self._devices.spool, item, kept=False)
        self._owe(item, owed, exports=False)
        log.debug("An object was dropped: %s", item.verdict.reason)
        return Receipt(Outcome.DROPPED, item.entry.sop_instance)

    def _relay(self, item: Incoming) -> Receipt:
        """Without a database, keep only what is forwarded; refuse what nobody would ever see."""
        owed = Obligations(self._devices.spool, item, kept=False)
        self._owe(item, owed, exports=True)
        if not owed.drafts:
            raise Refused(
                "no rule forwards the object, and no database is configured to keep it",
                remedy="configure SQLite, or an export converter that forwards everything",
            )
        return Receipt(Outcome.DROPPED, item.entry.sop_instance, SPOOL_DEVICE, owed.first_copy)

    def _owe(self, item: Incoming, owed: Obligations, *, exports: bool) -> None:
        """Commit debts for an object that is not stored.

        A crash before the commit leaves copies in the spool without debts, which recovery removes.
        """
        job = _Debts(self._index, item.entry, owed, self._clock.now())
        try:
            owed.forward(item.verdict.forwards)
            if exports:
                owed.export(item.plans)
            if owed.drafts:
                self._writer.run(job)
        except BaseException:
            if not job.committed:
                owed.withdraw()
            raise
        finally:
            if job.committed:
                self._wake()

    def _keep(self, item: Incoming) -> Receipt:
        """Store the object, as a new one or in the place of the known one.

        Whether it is known is decided in its own transaction: when that finds the index other than
        expected, nothing is written and the object is placed anew.
        """
        known: InstanceRef | None = None
        if self._expects_known:
            known = self._writer.transact(lambda tx: self._index.stored(tx, item.entry))
        for _ in range(_MOST_ATTEMPTS):
            if known is not None and self._leaves_alone(known):
                return self._ignore(item, known)
            placing = self._place(item, known)
            try:
                found = self._commit(item, placing)
            finally:
                self._names.release(placing.reserved)
            self._expects_known = found is not None
            if placing.entered:
                outcome = Outcome.STORED if known is None else Outcome.REWRITTEN
                return Receipt(
                    outcome, item.entry.sop_instance, placing.device.name, placing.name
                )
            known = found
        raise StoreError("the index changes while the object is being stored; it was not stored")
