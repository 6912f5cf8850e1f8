"""Moving objects between storage devices while the server runs, and renaming a device in the index.

Each object is copied, synced, entered under its new place and then removed from the old one; to be
stopped and started again at any time. An object that cannot be moved stays, is named, and keeps no
other one; only a target that takes nothing more ends a move. Runs in the caller's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from dgate.archive.changes import ChangeLog, ChangeRecord
from dgate.archive.database import Database
from dgate.archive.devices import Device, Devices, ReadOnlyFolder
from dgate.archive.files import Part
from dgate.archive.incoming import check_arrived, whole_data
from dgate.archive.index import Index
from dgate.archive.levels import Level, Schema
from dgate.archive.maintenance.following import Followers
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.maintenance.recast import Recaster
from dgate.archive.maintenance.relocate import (
    Relocation,
    Relocator,
    stored_elsewhere,
    whole_file,
)
from dgate.archive.naming import is_confined
from dgate.archive.obligations import mirror_debts
from dgate.archive.records import InstanceRef
from dgate.archive.rows import Entry
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.errors import (
    DatabaseAway,
    DgateError,
    Missing,
    OutOfSpace,
    RuleError,
    StoreError,
)

log = logging.getLogger(__name__)

BATCH_OBJECTS = 64
BATCH_BYTES = 32 << 20
PAGE = 500
_TAKEN = "another object has the UID that MoveDeviceConverter0 gave it"


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a move is."""

    objects: int = 0
    size: int = 0
    """Bytes written at the new place."""
    skipped: int = 0
    """Objects that stayed: not to be read, changed meanwhile, or in the hand of another gateway."""
    problems: tuple[str, ...] = ()
    """Which objects stayed in the last step, and why."""

    def counts(self) -> dict[str, int]:
        """Return the numbers by name, for journal and report."""
        return {"objects": self.objects, "size": self.size, "skipped": self.skipped}

    def after(self, former: Moved) -> Moved:
        """Return how far the move is with this step."""
        return Moved(
            former.objects + self.objects,
            former.size + self.size,
            former.skipped + self.skipped,
            self.problems,
        )


@dataclass(slots=True)
class _Staged:
    """Objects that are written at their new places and not entered yet."""

    plain: list[Relocation] = field(default_factory=list)
    changed: list[tuple[Relocation, Entry]] = field(default_factory=list)
    """Those that a rule changed, with what the index is to hold of them."""
    records: dict[Relocation, ChangeRecord] = field(default_factory=dict)
    """What the rule changed, where changes are recorded."""
    problems: list[str] = field(default_factory=list)
    full: OutOfSpace | None = None
    """Why no more could be written."""

    def relocations(self) -> list[Relocation]:
        """Return all of them."""
        return [*self.plain, *(relocation for relocation, _ in self.changed)]


class Mover:
    """Moves objects from device to device."""

    def __init__(
        self,
        database: Database,
        schema: Schema,
        index: Index,
        writer: Writer,
        holdings: Holdings,
        relocator: Relocator,
        devices: Devices,
        recaster: Recaster,
        clock: Clock,
        wake: Callable[[], None],
        changes: ChangeLog,
    ) -> None:
        self._changes = changes
        self._database = database
        self._index = index
        self._writer = writer
        self._followers = Followers(database, index, holdings)
        self._holdings = holdings
        self._relocator = relocator
        self._devices = devices
        self._recaster = recaster
        self._clock = clock
        self._wake = wake
        image = schema.table(Level.IMAGE)
        device, name = image.extra["devicename"], image.extra["objectfile"]
        self._page = database.sql(
            f"SELECT {image.key} FROM {image.name} WHERE {device} = ? AND {image.key} > ? "
            f"ORDER BY {image.key} LIMIT {PAGE}"
        )
        self._count = database.sql(f"SELECT COUNT(*) FROM {image.name} WHERE {device} = ?")
        self._place = database.sql(
            f"UPDATE {image.name} SET {device} = ?, {name} = ? WHERE {image.key} = ?"
        )

    def count(self, source: str, scope: tuple[Level, str] | None = None) -> int:
        """Return how many objects would move."""
        if scope is not None:
            return len(self._in_scope(source, scope))
        with self._database.reader() as connection:
            return int(connection.execute(self._count, (source,)).fetchone()[0])

    def check(self, source: str, target: str, *, rename: bool = False) -> None:
        """Raise DgateError for devices between which nothing can move."""
        if source == target:
            raise DgateError(f"{source} is both ends of the move", remedy="name two devices")
        device = self._devices.get(target)
        if device is None or (not rename and isinstance(device, ReadOnlyFolder)):
            raise self._no_device(target)
        known = source in {each.name for each in self._devices}
        if not rename and self._devices.get(source) is None:
            raise self._no_device(source)
        if rename and not known and not self.count(source):
            raise DgateError(f"no object is on {source[:40]!r}", remedy="see `dgate status`")

    def move(
        self,
        source: str,
        target: str,
        scope: tuple[Level, str] | None = None,
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[Moved]:
        """Move objects and yield after each batch; what moved stays moved when this ends early.

        Raises:
            DgateError: there is no such device or entity.
            OutOfSpace: the target is full; what had moved by then is complete.
        """
        self.check(source, target)
        device = self._devices.get(target)
        assert device is not None
        moved = Moved()
        for refs in self._batches(source, scope):
            if stopping():
                return
            step, full = self._move(refs, device)
            moved = step.after(moved)
            yield moved
            if full is not None:
                raise full

    def rename(self, source: str, target: str) -> Iterator[Moved]:
        """Enter objects of one device as those of another, where their files already are.

        Objects whose files are not there stay and are counted. Raises DgateError when there is no
        such device.
        """
        self.check(source, target, rename=True)
        device = self._devices.get(target)
        assert device is not None
        moved = Moved()
        for refs in self._pages(source):
            there = [
                ref for ref in refs if is_confined(ref.name) and device.size(ref.name) is not None
            ]
            done = self._writer.transact(partial(self._enter_renamed, there, target))
            moved = Moved(done, 0, len(refs) - done).after(moved)
            yield moved

    # Moving.

    def _move(self, refs: Sequence[InstanceRef], device: Device) -> tuple[Moved, OutOfSpace | None]:
        """Move some objects; also return why the target took no more, None when it took all."""
        staged = _Staged()
        contested: set[str] = set()
        with self._relocator.holding(refs, contested):
            try:
                for ref in refs:
                    if ref.sop_instance in contested:
                        staged.problems.append(_stays(ref, stored_elsewhere(ref.name)))
                        continue
                    self._stage(ref, device, staged)
                    if staged.full is not None:
                        break
            except BaseException:
                self._relocator.withdraw(staged.relocations())
                raise
            held = self._commit(staged)
        if held and self._devices.mirrors:
            self._wake()
        stayed = len(staged.problems)
        size = sum(each.size for each in held)
        return Moved(len(held), size, stayed, tuple(staged.problems)), staged.full

    def _stage(self, ref: InstanceRef, device: Device, staged: _Staged) -> None:
        """Write an object at its new place; one that cannot be read is a problem of its own.

        Raises DatabaseAway.
        """
        try:
            relocation, entry, record = self._written(ref, device)
        except OutOfSpace as exc:
            staged.full = exc
        except DatabaseAway:
            raise
        except (StoreError, RuleError, OSError) as exc:
            staged.problems.append(_stays(ref, exc))
        else:
            if entry is None:
                staged.plain.append(relocation)
            else:
                staged.changed.append((relocation, entry))
                if record is not None:
                    staged.records[relocation] = record

    def _written(
        self, ref: InstanceRef, device: Device
    ) -> tuple[Relocation, Entry | None, ChangeRecord | None]:
        """Write an object at its new place, and say what the index is to hold of it if that
        changes, and what a rule changed.

        Raises:
            OutOfSpace: the target cannot take it.
            StoreError, RuleError, OSError: something is wrong with the object.
        """
        source = self._devices.get(ref.device)
        if source is None or not ref.name or not is_confined(ref.name):
            raise Missing("its file has no usable name")
        size = source.size(ref.name) or 0
        if not self._devices.has_room_for(device, size):
            raise OutOfSpace(
                f"{device.name} has no room for more",
                where=str(device.path("")),
                remedy="free space there, then give the same command: it goes on where it stopped",
            )
        recast = self._recaster.recast(ref, device)
        if recast is not None:
            try:
                check_arrived(recast.payload)
                parts: Sequence[Part] = [recast.header, *whole_data(recast.payload)]
                relocation = self._relocator.stage(
                    ref, device, recast.name, parts, recast.sop_instance
                )
                relocation.size = len(recast.header) + recast.payload.size
            finally:
                recast.payload.close()
            return relocation, recast.entry, recast.record
        reader = source.open(ref.name, ref.sop_instance)
        try:
            relocation = self._relocator.stage(ref, device, ref.name, whole_file(reader))
            relocation.size = reader.size
        finally:
            reader.close()
        return relocation, None, None

    def _commit(self, staged: _Staged) -> list[Relocation]:
        """Enter what is staged at its new places; return what holds.

        What a rule changed is entered study by study: the index takes no study of two patients.
        """
        studies: dict[str, dict[Relocation, Entry]] = {}
        for relocation, entry in staged.changed:
            studies.setdefault(relocation.ref.study, {})[relocation] = entry
        waiting = list(studies.values())
        held: list[Relocation] = []
        refused: list[Relocation] = []
        try:
            if staged.plain:
                held += self._relocator.commit(staged.plain, self._enter)
            while waiting:
                changed = waiting.pop(0)
                rows = _ChangedRows(self, changed, staged.records)
                try:
                    held += self._relocator.commit(list(changed), rows)
                except DatabaseAway:
                    raise
                except StoreError as exc:
                    staged.problems += [_stays(each.ref, exc) for each in changed]
                    refused += changed
                else:
                    staged.problems += [_stays(each.ref, _TAKEN) for each in rows.taken]
                    refused += rows.taken
        except BaseException:
            self._relocator.withdraw(each for changed in waiting for each in changed)
            raise
        done = {*held, *refused}
        for each in staged.relocations():
            if each not in done:
                staged.problems.append(_stays(each.ref, "it was changed or removed meanwhile"))
        return held

    def _enter(
        self, transaction: Transaction, relocations: Sequence[Relocation]
    ) -> list[Relocation]:
        """Enter the new places of those that are still where they were."""
        held = []
        now = self._clock.now()
        for each in relocations:
            ref = each.ref
            found = self._index.find(transaction, ref.sop_instance)
            if found is None or (found.device, found.name) != (ref.device, ref.name):
                continue
            held.append(each)
            debts = mirror_debts(self._devices, each.device.name)
            if debts:
                place = replace(ref, device=each.device.name, name=each.name)
                self._index.add_debts(transaction, place, debts, now)
        transaction.executemany(
            self._place, [(each.device.name, each.name, each.ref.sop_instance) for each in held]
        )
        return held

    def enter_changed(
        self,
        transaction: Transaction,
        changed: Mapping[Relocation, Entry],
        records: Mapping[Relocation, ChangeRecord],
    ) -> tuple[list[Relocation], list[Relocation]]:
        """Enter objects of a study that a rule changed, those that are still where they were, with
        their records of change.

        Returns them, and those whose UID another object has. Raises Refused when the index does not
        take them for what they are now.
        """
        holdings, index, now = self._holdings, self._index, self._clock.now()
        held: list[tuple[Relocation, Entry, bool]] = []
        taken: list[Relocation] = []
        uids: set[str] = set()
        for each, entry in changed.items():
            ref, uid = each.ref, entry.sop_instance
            found = index.find(transaction, ref.sop_instance)
            if found is None or (found.device, found.name) != (ref.device, ref.name):
                continue
            is_new = uid != ref.sop_instance
            if uid in uids or (is_new and index.find(transaction, uid) is not None):
                taken.append(each)
                continue
            uids.add(uid)
            held.append((each, entry, _identity(entry) == _identity(found)))
        # All of them before any of them: as long as one is left, the study has its old patient.
        holdings.take_out(transaction, [each.ref for each, _, is_same in held if not is_same])
        moved = []
        for each, entry, is_same in held:
            device = each.device.name
            stored = index.stored(transaction, entry) if is_same else None
            with index.rebuilding():
                index.enter(transaction, entry, device, each.name, stored, now)
            if each in records:
                self._changes.add(records[each], transaction, now)
            place = holdings.follow(transaction, each.ref, entry, device, each.name)
            moved.append((each.ref, place))
            debts = mirror_debts(self._devices, device)
            if debts:
                index.add_debts(transaction, place, debts, now)
        self._followers.follow(transaction, moved, now)
        return [each for each, _, _ in held], taken

    def _enter_renamed(
        self, refs: Sequence[InstanceRef], target: str, transaction: Transaction
    ) -> int:
        rows = []
        for ref in refs:
            found = self._index.find(transaction, ref.sop_instance)
            if found is not None and (found.device, found.name) == (ref.device, ref.name):
                rows.append((target, ref.name, ref.sop_instance))
        transaction.executemany(self._place, rows)
        return len(rows)

    # What moves.

    def _in_scope(self, source: str, scope: tuple[Level, str]) -> list[InstanceRef]:
        return [ref for ref in self._holdings.select(*scope) if ref.device == source]

    def _pages(self, source: str) -> Iterator[list[InstanceRef]]:
        """Yield the objects of a device; what is yielded may have moved when the next is asked."""
        last = ""
        while True:
            with self._database.reader() as connection:
                keys = [row[0] for row in connection.execute(self._page, (source, last)).fetchall()]
                found = [self._index.find(connection, key) for key in keys]
            if not keys:
                return
            yield [ref for ref in found if ref is not None]
            last = keys[-1]

    def _batches(self, source: str, scope: tuple[Level, str] | None) -> Iterator[list[InstanceRef]]:
        pages = self._pages(source) if scope is None else iter([self._in_scope(source, scope)])
        if self._recaster.has_rule:
            yield from self._studies(source, pages, whole=scope is None)
            return
        device = self._devices.get(source)
        batch: list[InstanceRef] = []
        size = 0
        for page in pages:
            for ref in page:
                batch.append(ref)
                size += 0 if device is None else device.size(ref.name) or 0
                if len(batch) == BATCH_OBJECTS or size >= BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch

    def _studies(
        self, source: str, pages: Iterator[list[InstanceRef]], *, whole: bool
    ) -> Iterator[list[InstanceRef]]:
        """Yield the objects study by study, each study once; with `whole` those of other pages
        too."""
        done: set[str] = set()
        for page in pages:
            studies: dict[str, list[InstanceRef]] = {}
            for ref in page:
                if ref.study not in done:
                    studies.setdefault(ref.study, []).append(ref)
            for study, refs in studies.items():
                done.add(study)
                # An object without series row has no study to be found by.
                more = self._in_scope(source, (Level.STUDY, study)) if whole and study else []
                yield more or refs

    def _no_device(self, name: str) -> DgateError:
        known = ", ".join(device.name for device in self._devices)
        return DgateError(
            f"there is no storage device {name[:40]!r}", remedy=f"the devices are {known}"
        )


class _ChangedRows:
    """The change of rows of one study whose objects a rule changed, as `Relocator.commit` wants
    it."""

    def __init__(
        self,
        mover: Mover,
        changed: Mapping[Relocation, Entry],
        records: Mapping[Relocation, ChangeRecord],
    ) -> None:
        self._mover = mover
        self._changed = changed
        self._records = records
        self.taken: list[Relocation] = []
        """Those that cannot have the UID that the rule gave them."""

    def __call__(
        self, transaction: Transaction, relocations: Sequence[Relocation]
    ) -> Sequence[Relocation]:
        held, self.taken = self._mover.enter_changed(transaction, self._changed, self._records)
        return held


def _identity(what: Entry | InstanceRef) -> tuple[str, str, str, str]:
    return what.patient_id, what.study, what.series, what.sop_instance


def _stays(ref: InstanceRef, why: Exception | str) -> str:
    """Name an object that does not move, in the log too."""
    if isinstance(why, OSError):
        why = f"its file cannot be read: {why.strerror or why}"
    log.warning("Object %s stays at %s %s: %s", ref.sop_instance, ref.device, ref.name, why)
    return f"object {ref.sop_instance} stays at {ref.device} {ref.name}: {why}"
