"""Moving objects between storage devices while the server runs, and renaming a device in the index.

Each object is copied, synced, entered under its new place and then removed from the old one; to be
stopped and started again at any time. Runs in the caller's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dgate.archive.database import Database
from dgate.archive.devices import Device, Devices, ReadOnlyFolder
from dgate.archive.export import Exporter
from dgate.archive.files import Part
from dgate.archive.incoming import check_arrived, whole_data
from dgate.archive.index import Index
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.maintenance.relocate import Relocation, Relocator, whole_file
from dgate.archive.naming import is_confined
from dgate.archive.obligations import mirror_debts
from dgate.archive.records import InstanceRef
from dgate.archive.schema import Level, Schema
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload
from dgate.dicom.transcode import stored_syntax_for
from dgate.errors import CannotTranscode, DgateError, Missing, NotDicom, OutOfSpace

log = logging.getLogger(__name__)

BATCH_OBJECTS = 64
BATCH_BYTES = 32 << 20
PAGE = 500


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a move is."""

    objects: int = 0
    size: int = 0
    """Bytes written at the new place."""
    skipped: int = 0
    """Objects that stayed: their files are not there, or they changed meanwhile."""


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
        exporter: Exporter,
        clock: Clock,
        wake: Callable[[], None],
        *,
        compression: str = "",
    ) -> None:
        """`compression` is ArchiveCompression."""
        self._database = database
        self._index = index
        self._writer = writer
        self._holdings = holdings
        self._relocator = relocator
        self._devices = devices
        self._exporter = exporter
        self._clock = clock
        self._wake = wake
        self._compression = compression
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
            batch = self._move(refs, device)
            moved = Moved(
                moved.objects + batch.objects,
                moved.size + batch.size,
                moved.skipped + batch.skipped,
            )
            yield moved

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
            moved = Moved(moved.objects + done, 0, moved.skipped + len(refs) - done)
            yield moved

    # Moving.

    def _move(self, refs: Sequence[InstanceRef], device: Device) -> Moved:
        staged: list[Relocation] = []
        trouble: OutOfSpace | None = None
        skipped = 0
        with self._relocator.holding(refs):
            try:
                for ref in refs:
                    try:
                        staged.append(self._stage(ref, device))
                    except (Missing, NotDicom, FileNotFoundError) as exc:
                        log.warning("An object did not move to %s: %s.", device.name, exc)
                        skipped += 1
                    except OutOfSpace as exc:
                        trouble = exc
                        break
            except BaseException:
                self._relocator.withdraw(staged)
                raise
            held = self._relocator.commit(staged, self._enter) if staged else []
        if held and self._devices.mirrors:
            self._wake()
        if trouble is not None:
            raise trouble
        return Moved(len(held), sum(each.size for each in held), len(refs) - len(held))

    def _stage(self, ref: InstanceRef, device: Device) -> Relocation:
        source = self._devices.get(ref.device)
        if source is None or not ref.name or not is_confined(ref.name):
            raise Missing("its file has no usable name", where=f"{ref.device} {ref.name}")
        size = source.size(ref.name) or 0
        if not self._devices.has_room_for(device, size):
            raise OutOfSpace(
                f"{device.name} has no room for more",
                where=str(device.path("")),
                remedy="free space there, then give the same command: it goes on where it stopped",
            )
        reencoded = self._reencoded(ref, device)
        if reencoded is not None:
            payload, header = reencoded
            try:
                check_arrived(payload)
                parts: Sequence[Part] = [header, *whole_data(payload)]
                relocation = self._relocator.stage(ref, device, ref.name, parts)
                relocation.size = len(header) + payload.size
            finally:
                payload.close()
            return relocation
        reader = source.open(ref.name, ref.sop_instance)
        try:
            relocation = self._relocator.stage(ref, device, ref.name, whole_file(reader))
            relocation.size = reader.size
        finally:
            reader.close()
        return relocation

    def _reencoded(self, ref: InstanceRef, device: Device) -> tuple[Payload, bytes] | None:
        """Return the object as ArchiveCompression wants it; None when it stays as it is.

        A crash leaves at most a spill file, which recovery removes.
        """
        if not self._compression or ref.name.lower().endswith(".v2"):
            return None
        stored = self._exporter.peek(ref)
        syntax = stored_syntax_for(self._compression, stored.syntax)
        if syntax == stored.syntax:
            return None
        try:
            outgoing = self._exporter.open(ref, syntax)
        except CannotTranscode as exc:
            log.warning("An object moved in the transfer syntax that it has: %s", exc)
            return None
        header = file_meta(stored.sop_class, stored.sop_instance, syntax)
        payload = Payload(lambda: device.spill(ref.sop_instance, header))
        try:
            for chunk in outgoing.chunks():
                payload.append(chunk)
        except BaseException:
            payload.close()
            raise
        finally:
            outgoing.close()
        return payload, header

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

    def _no_device(self, name: str) -> DgateError:
        known = ", ".join(device.name for device in self._devices)
        return DgateError(
            f"there is no storage device {name[:40]!r}", remedy=f"the devices are {known}"
        )
