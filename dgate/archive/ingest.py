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

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from dgate.archive.aside import Aside
from dgate.archive.changes import ChangeLog, record_of
from dgate.archive.devices import Devices
from dgate.archive.duplicates import Duplicates
from dgate.archive.events import IntakeEvents
from dgate.archive.files import hash_parts
from dgate.archive.incoming import (
    Incoming,
    check_identity,
    check_source,
    data_parts,
    let_go,
    whole_data,
)
from dgate.archive.index import Index
from dgate.archive.jobs import DebtJob, Placing, StoreJob
from dgate.archive.loops import Loops
from dgate.archive.naming import Naming
from dgate.archive.obligations import Obligations
from dgate.archive.oldfile import OldFile, old_file
from dgate.archive.placement import Placement
from dgate.archive.reception import Reception
from dgate.archive.records import Arrival, InstanceRef, Outcome, Receipt
from dgate.archive.repair import repair
from dgate.archive.reservations import Names, Turns
from dgate.archive.rewrites import CompletedRewrites
from dgate.archive.spool import SPOOL_DEVICE
from dgate.archive.troubles import Troubles
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.config.nodes import NodeMap
from dgate.config.settings import Durability, Engine, Settings
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import transfer_syntax
from dgate.errors import (
    NotSynced,
    OutcomeUnknown,
    OutOfSpace,
    Refused,
    RuleError,
    StoreError,
    Unreadable,
)
from dgate.rules.effects import Captured, Decision, ExportPlan, ImportVerdict
from dgate.rules.effects import Outcome as RuleOutcome
from dgate.rules.hooks import capture
from dgate.rules.session import Session

log = logging.getLogger(__name__)

ImportRules = Callable[[ElementTable, Captured, Session | None], ImportVerdict]
"""Runs the import converters; the table is changed in place. The session outlives the object."""
ExportPlans = Callable[[ElementTable, Captured], Sequence[ExportPlan]]
"""Says what the export converters owe for an object that is being stored."""

_MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Traffic:
    """What all intake into one archive has in common, whatever its settings: who is at work on
    what.
    """

    completed: CompletedRewrites
    aside: Aside
    """The one of the archive: its lock keeps what comes and what is discarded apart."""
    names: Names = field(default_factory=Names)
    turns: Turns = field(default_factory=Turns)
    loops: Loops = field(default_factory=Loops)
    troubles: Troubles = field(default_factory=Troubles)

    @classmethod
    def of(cls, settings: Settings) -> Traffic:
        """Begin with nothing under way."""
        return cls(
            CompletedRewrites(durable=settings.durability is Durability.FULL),
            Aside.below(settings.base_folder, durable=settings.durability is not Durability.NONE),
        )


class Ingest:
    """Takes objects in: checks, rules, bytes, rows, debts, one after the other.

    `import_rules` and `export_plans` are None when no converter is configured. `wake` is called
    after each commit that made debts. Where several take objects into one archive, as while a
    changed configuration is applied, they share one `traffic`.
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
        traffic: Traffic | None = None,
        events: IntakeEvents | None = None,
        changes: ChangeLog | None = None,
        nodes: NodeMap | None = None,
    ) -> None:
        self._nodes = nodes or NodeMap()
        self._changes = changes
        self._events = events or IntakeEvents()
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
        traffic = traffic or Traffic.of(settings)
        self._names = traffic.names
        self._turns = traffic.turns
        self._completed = traffic.completed
        self._is_durable = settings.durability is Durability.FULL
        self._placement = Placement(settings, devices, naming, self._names)
        self.aside = traffic.aside
        """Where other contents of stored objects are put."""
        self._duplicates = Duplicates(settings, devices, clock, self.aside)
        self.troubles = traffic.troubles
        """What keeps objects out at the moment."""
        self.loops = traffic.loops
        """What has come back lately."""
        self._reception = Reception(
            settings, index, devices, self._events, self.troubles, self._must_be_whole
        )

    def payload(self, syntax: str, sop_class: str, sop_instance: str, calling: str) -> Payload:
        """Return an empty payload for an object; see `Reception.payload`."""
        return self._reception.payload(syntax, sop_class, sop_instance, calling)

    def store(self, arrival: Arrival) -> Receipt:
        """Take an object in; on return everything that the receipt says is durable.

        A crash before the return leaves the object either completely stored or not at all; the
        sender, who heard nothing, sends it again, and that is harmless. The payload is closed.

        Raises:
            OutOfSpace, DatabaseAway, NotDicom, DataSetMismatch, Refused or another StoreError:
                nothing of the object is kept, except when the disk failed after the commit.
        """
        try:
            item = self._reception.receive(arrival)
            if item.refusal is not None:
                self._pass_on(item, item.refusal)
                raise Refused(item.refusal.reason)
            if self._is_subject_to_rules(arrival):
                self._apply_rules(item)
            if item.verdict.outcome is RuleOutcome.REJECT:
                raise Refused(item.verdict.reason or "an import converter rejected the object")
            if item.verdict.outcome is RuleOutcome.DESTROY:
                return self._drop(item)
            if item.table.revision:
                check_identity(item.table, "", "")
            if not self._keeps:
                return self._relay(item)
            try:
                return self._keep_in_turn(item)
            except Refused:
                if not self._is_to_try_again(item):
                    raise
            return self._keep_in_turn(item)
        except (OSError, Unreadable) as exc:
            raise self._reception.failure(arrival, exc) from exc
        finally:
            arrival.payload.close()

    def _keep_in_turn(self, item: Incoming) -> Receipt:
        sop_instance = item.entry.sop_instance
        self._turns.enter(sop_instance)
        try:
            return self._keep(item)
        finally:
            self._turns.leave(sop_instance)

    def _is_to_try_again(self, item: Incoming) -> bool:
        """Show an object that the index refused to its converter, which may have corrected it.

        A crash leaves what it forwarded, or nothing.
        """
        decision = self._events.refused(item.table, item.calling, item.called, item.session)
        if decision is None:
            return False
        self._pass_on(item, decision)
        if decision.retry:
            check_identity(item.table, "", "")
            item.entry = self._index.entry(item.table, item.repaired)
        return decision.retry

    def _pass_on(self, item: Incoming, wanted: Decision) -> None:
        """Owe what a converter wants of an object that is refused."""
        owed = Obligations(self._devices.spool, item, kept=False)
        self._owe(item, owed, wanted, exports=False)

    def file_name(self, table: ElementTable, calling: str, called: str) -> PurePath:
        """Return the path that the object would get now (`%f` in import converters)."""
        entry = self._index.entry(table, repair(table, self._settings))
        encapsulated = transfer_syntax(table.syntax).encapsulated
        name = self._naming.name(table, entry, calling, called, encapsulated=encapsulated)
        return self._devices.choose().path(name)

    def _is_subject_to_rules(self, arrival: Arrival) -> bool:
        """Tell whether import and export rules see the object; files need not
        (`ImportExportDragAndDrop`)."""
        if arrival.skip_rules:
            return False
        return bool(arrival.sop_class) or self._settings.import_export_drag_and_drop

    def _must_be_whole(self, arrival: Arrival) -> bool:
        """Tell whether an import rule has to see all of the object (rulings.md 10)."""
        return self._import_rules is not None and self._is_subject_to_rules(arrival)

    def _apply_rules(self, item: Incoming) -> None:
        """Run the import converters and plan the exports; a crash leaves at most a spill file."""
        if self._import_rules is not None and not (item.arrival and item.arrival.passed_rules):
            captured = capture(item.table, item.calling, item.called)
            revision = item.table.revision
            try:
                item.verdict = self._import_rules(item.table, captured, item.session)
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
        self._owe(item, owed, item.verdict, exports=False)
        log.debug("An object was dropped: %s", item.verdict.reason)
        return Receipt(Outcome.DROPPED, item.entry.sop_instance)

    def _relay(self, item: Incoming) -> Receipt:
        """Without a database, keep only what is forwarded; refuse what nobody would ever see."""
        owed = Obligations(self._devices.spool, item, kept=False)
        self._owe(item, owed, item.verdict, exports=True)
        if not owed.drafts:
            raise Refused(
                "no rule forwards the object, and no database is configured to keep it",
                remedy="configure SQLite, or an export converter that forwards everything",
            )
        return Receipt(Outcome.DROPPED, item.entry.sop_instance, SPOOL_DEVICE, owed.first_copy)

    def _owe(
        self,
        item: Incoming,
        owed: Obligations,
        wanted: ImportVerdict | Decision,
        *,
        exports: bool,
    ) -> None:
        """Commit debts for an object that is not stored.

        A crash before the commit leaves copies in the spool without debts, which recovery sets
        aside.
        """
        job = DebtJob(self._index, item.entry, owed, self._clock)
        try:
            if wanted.forwards or exports:
                self._devices.admit_spool()
            owed.forward(wanted.forwards)
            owed.request(wanted.requests, self._settings.forward_collect_delay_s)
            if exports:
                owed.export(item.plans)
            owed.sign(self._settings.peers, self._nodes)
            owed.secure()
            if any(item.calling in (each.called, each.destination) for each in owed.drafts):
                # It goes back to where it came from. Only then its hash is worth the time.
                self._note_return(item, hash_parts([*data_parts(item.table, item.payload)]))
            if owed.drafts:
                check_source(item.payload, durable=self._is_durable)
                self._writer.run(job)
        except OutcomeUnknown:
            # Recovery sees whether the copies have debts.
            raise
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
        nothing is written and the object is placed anew. A crash leaves what `_commit` says.
        """
        known = self._index.look_up(item.entry)
        on_entry = self._recording(item)
        failure: StoreError | None = None
        for _ in range(_MOST_ATTEMPTS):
            if known is not None and item.must_be_new:
                # Found by the look-up, or by the transaction that would have entered it.
                raise StoreError(f"there is an object {item.entry.sop_instance} already")
            if known is not None and self._leaves_alone(item, known):
                return self._ignore(item, known, Outcome.IGNORED)
            if known is not None and self._duplicates.keep_first(item, known):
                return self._ignore(item, known, Outcome.ASIDE)
            owed = Obligations(self._devices.spool, item, kept=True)
            placing = self._placement.place(item, known)
            job = StoreJob(
                self._index, self._completed, item.entry, placing, owed, self._clock, on_entry
            )
            try:
                found = self._commit(item, job)
            except OutcomeUnknown:
                raise
            except NotSynced as exc:
                spill = item.payload.spilled
                where = None if spill is None else self._devices.get(spill.area)
                self._devices.failed(where or placing.device, exc)
                raise
            except StoreError as exc:
                if placing.failed and self._devices.goes_on_after(placing.device, exc):
                    failure = exc
                    continue
                # Unless another program has entered this very instance, the cause stands.
                known = None if job.published or known else self._index.look_up(item.entry)
                if known is None:
                    raise
                continue
            if job.entered:
                outcome = Outcome.STORED if known is None else Outcome.REWRITTEN
                sop_instance = item.entry.sop_instance
                return Receipt(outcome, sop_instance, placing.device.name, placing.name)
            known, failure = found, None
        if failure is not None:
            raise failure
        raise StoreError("the index changes while the object is being stored; it was not stored")

    def _recording(self, item: Incoming) -> Callable[[Transaction, float], None] | None:
        """Return what writes the record of change of an object; None where nothing changed."""
        if item.original is None or self._changes is None:
            return None
        grown = not item.is_stored_before
        record = record_of(item.original, item.table, item.verdict.changed_by, grown=grown)
        return None if record is None else partial(self._changes.add, record)

    def _leaves_alone(self, item: Incoming, known: InstanceRef) -> bool:
        """Tell whether a known object stays as it is (spec dimse.md 2.1 step 8)."""
        if not known.device.upper().startswith("MAG"):
            return True
        if not self._settings.ignore_rewrite or (item.arrival and item.arrival.decided):
            return False
        # Success for an object whose file is lost would be its end.
        device = self._devices.get(known.device)
        return device is not None and old_file(device, known) is OldFile.OURS

    def _ignore(self, item: Incoming, known: InstanceRef, outcome: Outcome) -> Receipt:
        """Keep nothing of an object that stays as it is, but pass on what rules forwarded."""
        owed = Obligations(self._devices.spool, item, kept=False)
        self._owe(item, owed, item.verdict, exports=False)
        log.debug("A known object was left as it is: %s.", known.name)
        return Receipt(outcome, item.entry.sop_instance, known.device, known.name)

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
            if placing.known is not None:
                self._note_return(item, placing.sha256)
            job.owed.forward(item.verdict.forwards)
            job.owed.request(item.verdict.requests, self._settings.forward_collect_delay_s)
            job.owed.export(item.plans)
            job.owed.sign(self._settings.peers, self._nodes)
            job.owed.mirror(self._devices, placing.device.name)
            job.owed.secure()
            if not placing.adopted:
                check_source(item.payload, durable=self._is_durable)
            found = self._writer.run(job)
        except BaseException as exc:
            if job.published or isinstance(exc, OutcomeUnknown):
                # Name and file stay as they are: recovery sees whether there is a row.
                self._names.leave(placing.device, placing.name)
                if placing.adopted:
                    let_go(item.payload)
            else:
                self._withdraw(job)
            raise
        finally:
            if job.published:
                if placing.adopted:
                    let_go(item.payload)
                if job.owed.drafts:
                    self._wake()
        if job.entered:
            self._settle(job)
            self._names.release(placing.device, placing.name)
        else:
            self._withdraw(job)
        return found

    def _note_return(self, item: Incoming, content: str) -> None:
        """Remember an object that came again, before anybody can be sent it again."""
        self.loops.returned(item.entry.sop_instance, item.calling, content, self._clock.monotonic())

    def _write(self, item: Incoming, placing: Placing) -> None:
        """Write the file under a temporary name, complete and synced."""
        converted = self._reception.raw(item) if self._naming.is_raw(placing.name) else None
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
            if converted is not None:
                check_source(converted, durable=self._is_durable)
        except OutOfSpace:
            placing.failed = True
            raise
        finally:
            if converted is not None:
                converted.close()

    def _adopt(self, item: Incoming, placing: Placing, spill: SpillFile) -> None:
        staged = placing.device.adopt(
            item.entry.sop_instance, placing.name, spill, rewrites=placing.by_hash
        )
        if staged is not None:
            placing.staged, placing.adopted = staged, True

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
        self._devices.watermark.work(placing.device.name)
        self._completed.settle(job.settling, job.synced)
        if job.rewrite is None:
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
        self._completed.complete(job.rewrite, folders)
