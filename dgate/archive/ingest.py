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
from functools import partial
from pathlib import Path, PurePath

from dgate.archive.devices import PREVIOUS, Device, Devices
from dgate.archive.files import hash_parts, storage_failure
from dgate.archive.incoming import (
    Incoming,
    check_arrived,
    check_identity,
    reencoded,
    whole_data,
)
from dgate.archive.index import Index
from dgate.archive.jobs import DebtJob, Placing, StoreJob
from dgate.archive.naming import Naming, extension
from dgate.archive.obligations import Obligations
from dgate.archive.oldfile import OldFile, old_file
from dgate.archive.records import Arrival, InstanceRef, Outcome, Receipt
from dgate.archive.repair import repair
from dgate.archive.reservations import Names, Turns
from dgate.archive.rewrites import CompletedRewrites
from dgate.archive.spool import SPOOL_DEVICE
from dgate.archive.writer import Writer
from dgate.clock import Clock
from dgate.config.settings import Durability, Engine, Settings
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
        self._completed = CompletedRewrites(durable=settings.durability is Durability.FULL)
        # Reasons name transfer syntaxes only, so there are few.
        self._warned: set[str] = set()

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
            self._turns.enter(item.entry.sop_instance)
            try:
                return self._keep(item)
            finally:
                self._turns.leave(item.entry.sop_instance)
        except OSError as exc:
            # What is not met where it happens: a spill file that cannot be read back, for instance.
            raise storage_failure(exc, str(exc.filename or "")) from exc
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
            area = self._devices.choose() if self._keeps else self._devices.spool
        except OutOfSpace as exc:
            # The payload remembers an OSError and keeps the association's stream intact.
            raise OSError(errno.ENOSPC, exc.what) from exc
        spill = area.spill(sop_instance if is_uid(sop_instance) else _UNNAMED, header)
        spill.has_room = partial(self._devices.has_room_for, area)
        return spill

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
            self._warn_once("An object was kept in the transfer syntax received: %s", exc)
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

        A crash before the commit leaves copies in the spool without debts, which recovery sets
        aside.
        """
        job = DebtJob(self._index, item.entry, owed, self._clock)
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

        The transaction that enters it decides: when it finds the index other than the look-up did,
        nothing is written and the object is placed anew. A crash leaves what `_place` and `_commit`
        say.
        """
        known = self._index.look_up(item.entry)
        for _ in range(_MOST_ATTEMPTS):
            if known is not None and self._leaves_alone(known):
                return self._ignore(item, known)
            owed = Obligations(self._devices.spool, item, kept=True)
            placing = self._place(item, known)
            job = StoreJob(self._index, self._completed, item.entry, placing, owed, self._clock)
            try:
                found = self._commit(item, job)
            except StoreError:
                # Unless another program has entered this very instance, the cause stands.
                known = None if job.published or known else self._index.look_up(item.entry)
                if known is None:
                    raise
                continue
            if job.entered:
                outcome = Outcome.STORED if known is None else Outcome.REWRITTEN
                sop_instance = item.entry.sop_instance
                return Receipt(outcome, sop_instance, placing.device.name, placing.name)
            known = found
        raise StoreError("the index changes while the object is being stored; it was not stored")

    def _leaves_alone(self, known: InstanceRef) -> bool:
        """Tell whether a known object stays as it is (spec dimse.md 2.1 step 8)."""
        if not known.device.upper().startswith("MAG"):
            return True
        if not self._settings.ignore_rewrite:
            return False
        # Success for an object whose file is lost would be its end.
        device = self._devices.get(known.device)
        return device is not None and old_file(device, known) is OldFile.OURS

    def _ignore(self, item: Incoming, known: InstanceRef) -> Receipt:
        """Keep nothing of an object that stays as it is, but pass on what rules forwarded."""
        owed = Obligations(self._devices.spool, item, kept=False)
        self._owe(item, owed, exports=False)
        log.debug("A known object was left as it is: %s.", known.name)
        return Receipt(Outcome.IGNORED, item.entry.sop_instance, known.device, known.name)

    def _place(self, item: Incoming, known: InstanceRef | None) -> Placing:
        """Choose device and name; nothing is on disk yet, the name is only reserved."""
        encapsulated = transfer_syntax(item.syntax).encapsulated
        name = self._naming.name(
            item.table, item.entry, item.calling, item.called, encapsulated=encapsulated
        )
        if known is None:
            device = self._devices.choose(item.verdict.device)
            name = self._names.reserve(device, name)
            return Placing(device, name, None, replaces=False, by_hash=False)
        old = self._devices.get(known.device)
        state = OldFile.UNREACHABLE if old is None else old_file(old, known)
        if old is not None and state in (OldFile.OURS, OldFile.LOST):
            same_kind = extension(known.name).lower() == extension(name).lower()
            if same_kind and not self._settings.rename_on_rewrite:
                return _in_place(old, known)
        device = self._devices.choose(item.verdict.device)
        name = self._names.reserve(device, name)
        if (known.device, known.name) == (device.name, name):
            return _in_place(device, known)
        # While the old file is there, its row protects it, and a new name is enough to tell
        # afterwards whether the commit happened.
        placing = Placing(device, name, known, replaces=False, by_hash=state is OldFile.LOST)
        if old is not None and state is OldFile.OURS:
            placing.leftover = (old, known.name)
        return placing

    def _commit(self, item: Incoming, job: StoreJob) -> InstanceRef | None:
        """Write the bytes, commit, clean up; returns what the index had of the instance.

        A crash during the write leaves a temporary file without a row (or, for a known instance,
        without a matching hash), which recovery removes; one after it also copies in the spool
        without debts, which recovery sets aside. A crash between commit and rename leaves a row
        whose file has its temporary name: recovery renames it. A crash after the rename leaves a
        complete object, and perhaps the file that it replaced, which recovery removes.
        """
        placing = job.placing
        try:
            self._write(item, placing)
            job.owed.forward(item.verdict.forwards)
            job.owed.export(item.plans)
            found = self._writer.run(job)
        except BaseException:
            if not job.published:
                self._withdraw(job)
            raise
        finally:
            if job.published:
                if placing.adopted:
                    _let_go(item.payload)
                if job.owed.drafts:
                    self._wake()
        if job.entered:
            self._settle(job)
            self._names.release(placing.device, placing.name)
        else:
            self._withdraw(job)
        return found

    def _write(self, item: Incoming, placing: Placing) -> None:
        """Write the file under a temporary name, complete and synced."""
        converted = self._raw(item) if self._naming.is_raw(placing.name) else None
        try:
            parts = item.file_parts(item.table) if converted is None else whole_data(converted)
            if placing.known is not None:
                placing.sha256 = hash_parts(parts)
            spill = item.payload.spilled
            if spill is not None and converted is None and item.is_on_disk(item.table):
                self._adopt(item, placing, spill)
            if not placing.adopted:
                placing.staged = placing.device.stage(
                    item.entry.sop_instance, placing.name, parts, rewrites=placing.by_hash
                )
        finally:
            if converted is not None:
                converted.close()

    def _adopt(self, item: Incoming, placing: Placing, spill: SpillFile) -> None:
        staged = placing.device.adopt(
            item.entry.sop_instance, placing.name, spill, rewrites=placing.by_hash
        )
        if staged is not None:
            placing.staged, placing.adopted = staged, True

    def _raw(self, item: Incoming) -> Payload | None:
        """Return the bare data set for a `.v2` file; None when only Part 10 can hold it."""
        fresh = partial(self._fresh, item.table, IMPLICIT_LE, item.calling)
        try:
            return reencoded(item.table, item.payload, IMPLICIT_LE, fresh)
        except CannotTranscode as exc:
            self._warn_once("A .v2 file was written as Part 10: %s", exc)
            return None

    def _warn_once(self, message: str, reason: CannotTranscode) -> None:
        """Log a conversion that failed, and the same one again only for those who debug."""
        level = logging.DEBUG if reason.what in self._warned else logging.WARNING
        self._warned.add(reason.what)
        log.log(level, message, reason)

    def _withdraw(self, job: StoreJob) -> None:
        """Remove what was written for a commit that did not happen."""
        placing = job.placing
        job.owed.withdraw()
        # A spill file that was adopted still belongs to the payload, which removes it.
        if placing.staged and not placing.adopted:
            placing.device.discard(placing.staged)
        self._names.release(placing.device, placing.name)

    def _settle(self, job: StoreJob) -> None:
        """Remove the replaced file; everything else is durable already.

        A crash before leaves it with a note in the index, by which recovery removes it.
        """
        placing = job.placing
        placing.device.settle(placing.name)
        self._completed.settle(job.settling, job.synced)
        if placing.known is None:
            return
        folders: Set[Path] = frozenset()
        if placing.leftover is not None:
            device, name = placing.leftover
            try:
                folders = device.remove(name)
            except StoreError as exc:
                # The note stays in the index; recovery tries again at the next start.
                log.error("The file that was replaced could not be removed: %s", exc)
                return
        self._completed.complete(placing.known.sop_instance, folders)


def _in_place(device: Device, known: InstanceRef) -> Placing:
    """Return the placing of an object that takes the known one's name."""
    leftover = (device, known.name + PREVIOUS)
    return Placing(device, known.name, known, replaces=True, by_hash=True, leftover=leftover)


def _let_go(payload: Payload) -> None:
    """Make the payload forget a spill file that is, or will be, a stored object."""
    if payload.spilled is not None:
        os.close(payload.spilled.descriptor)
        payload.spilled = None
