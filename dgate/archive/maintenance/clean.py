"""Making space: the least recent patients go until enough is free (dicom-ini.md section 6).

Chooses and protects; deleting itself is `dgate.archive.maintenance.delete`. Runs in the caller's
thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dgate.archive.database import Database
from dgate.archive.devices import Devices, FolderDevice
from dgate.archive.joins import Joins
from dgate.archive.levels import LEVELS, Level, Schema
from dgate.archive.maintenance.delete import Deleter, Extent, StillArriving, StillOwed
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.records import InstanceRef
from dgate.clock import Clock
from dgate.errors import StoreError

log = logging.getLogger(__name__)

RECENT_S = 3600.0
"""A patient of whom an object was stored within this time is being worked on."""
THRESHOLD_MORE_MB = 1005
"""What cleaning frees beyond MAGDeviceThreshold (spec dicom-ini.md section 6)."""
NIGHTLY_MORE_MB = 5
"""What nightly cleaning frees beyond its own."""
PAGE = 200


@dataclass(frozen=True, slots=True)
class Victim:
    """A patient who was, or would be, deleted or moved; or why not."""

    patient_id: str
    extent: Extent
    spared: str = ""
    """Why the patient stays; empty = not spared."""


class Lru:
    """The order in which patients become victims, by `LRUSort`."""

    def __init__(self, database: Database, schema: Schema, lru_sort: str) -> None:
        self._database = database
        self._schema = schema
        joins = Joins(database, schema)
        wanted = lru_sort.strip()
        self.problem = ""
        """What is wrong with LRUSort; AccessTime counts then."""
        self._source, self._column = self._resolved(joins, "AccessTime")
        if wanted:
            found = self._find(joins, wanted)
            if found is None:
                self.problem = f"LRUSort = {wanted} names no column of the index"
            else:
                self._source, self._column = found
        study, series, image = schema.levels[1:]
        self._on_device = (
            f"EXISTS (SELECT 1 FROM {image.name} JOIN {series.name} "
            f"ON {series.name}.{series.key} = {image.name}.{image.names[-1]} "
            f"JOIN {study.name} ON {study.name}.{study.key} = {series.name}.{series.names[-1]} "
            f"WHERE {study.name}.{study.names[-1]} = p.{schema.levels[0].key} "
            f"AND {image.name}.{image.extra['devicename']} = ?)"
        )

    def patients(self, device: str | None = None) -> Iterator[str]:
        """Yield patient IDs, least recent first, those without a value last.

        With `device`, only those who have objects there. What is yielded may be deleted before the
        next one is asked for.
        """
        patient = self._schema.levels[0]
        seen: set[str] = set()
        while True:
            where = f"WHERE {self._on_device}" if device else ""
            sql = (
                f"SELECT p.{patient.key} FROM {patient.name} p {self._source} {where} "
                f"ORDER BY CASE WHEN {self._column} IS NULL THEN 1 ELSE 0 END, {self._column}, "
                f"p.{patient.key} LIMIT {PAGE + len(seen)}"
            )
            values = (device,) if device else ()
            with self._database.reader() as connection:
                rows = connection.execute(self._database.sql(sql), values).fetchall()
            fresh = [row[0] for row in rows if row[0] and row[0] not in seen]
            if not fresh:
                return
            seen.update(fresh)
            yield from fresh

    def latest(self, most: int, device: str | None = None) -> list[str]:
        """Return up to so many patient IDs, the most recent first, those without a value last."""
        patient = self._schema.levels[0]
        where = f"WHERE {self._on_device}" if device else ""
        sql = (
            f"SELECT p.{patient.key} FROM {patient.name} p {self._source} {where} "
            f"ORDER BY CASE WHEN {self._column} IS NULL THEN 1 ELSE 0 END, {self._column} DESC, "
            f"p.{patient.key} DESC LIMIT {most}"
        )
        with self._database.reader() as connection:
            values = (device,) if device else ()
            rows = connection.execute(self._database.sql(sql), values).fetchall()
        return [row[0] for row in rows if row[0]]

    def _find(self, joins: Joins, text: str) -> tuple[str, str] | None:
        for level in LEVELS:
            order = joins.order(level, text)
            if order.clause and not order.refused and "," not in order.clause:
                return self._resolved(joins, text, level)
        return None

    def _resolved(self, joins: Joins, text: str, level: Level = Level.PATIENT) -> tuple[str, str]:
        """Return the joined source of the values and the expression to sort by.

        Only names that the schema has come into the statement (`Joins.order`).
        """
        order = joins.order(level, text)
        patient, study, _, _ = self._schema.levels
        at = next(iter(order.levels))
        # Without direction, nor what makes MariaDB compare bytes: least recent always come first.
        column = order.clause.removeprefix("BINARY ").partition(" ")[0]
        if at is Level.PATIENT:
            return "", f"p.{column.rpartition('.')[2]}"
        source = joins.source(at, {Level.STUDY})
        owner = f"{study.name}.{study.names[-1]}"
        values = (
            f"LEFT JOIN (SELECT {owner} AS owner, MAX({column}) AS latest FROM {source} "
            f"GROUP BY {owner}) v ON v.owner = p.{patient.key}"
        )
        return values, "v.latest"


class Cleaner:
    """Deletes least recent patients until a device has enough free space."""

    def __init__(
        self, lru: Lru, holdings: Holdings, deleter: Deleter, devices: Devices, clock: Clock
    ) -> None:
        self._lru = lru
        self._holdings = holdings
        self._deleter = deleter
        self._devices = devices
        self._clock = clock

    def would_go(self, free_bytes: int, device: str | None = None) -> Iterator[Victim]:
        """Yield who would be deleted, and who is spared, to have so much free.

        Raises StoreError when a device cannot be asked.
        """
        missing = free_bytes - self.free(device)
        for patient_id in self._lru.patients(device):
            if missing <= 0:
                return
            victim, refs = self._look_at(patient_id)
            if not victim.spared:
                missing -= sum(self._size(ref) for ref in refs if device in (None, ref.device))
            yield victim

    def make_room(
        self,
        free_bytes: int,
        *,
        who: str,
        why: str,
        device: str | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[Victim]:
        """Delete patients until so much is free on the device, or on the emptiest one; yield each,
        and those who are spared.

        Stops when twice of what was missing has been deleted in vain. A crash leaves every study
        either whole or gone. Raises StoreError when a device cannot be asked.
        """
        left = 2 * (free_bytes - self.free(device))
        if left <= 0:
            return
        for patient_id in self._lru.patients(device):
            if stopping():
                return
            victim, _ = self._look_at(patient_id)
            if not victim.spared:
                victim = self._delete(victim, who, why)
            yield victim
            if self.free(device) >= free_bytes:
                return
            left -= 0 if victim.spared else victim.extent.size
            if left <= 0:
                log.error(
                    "Deleting patients frees no space on the device: twice as much as was needed "
                    "is gone. Look for what else fills it, or for snapshots that keep it."
                )
                return

    def free(self, device: str | None = None) -> int:
        """Return the free bytes of a device, without one those of the emptiest.

        Raises:
            StoreError: a device cannot be asked, so nobody must be deleted for it.
        """
        wanted = [each for each in self._devices if device in (None, each.name)]
        if not wanted:
            raise StoreError(
                f"there is no storage device {device or ''}".rstrip(),
                remedy=f"the devices are {', '.join(each.name for each in self._devices)}",
            )
        for each in wanted:
            if isinstance(each, FolderDevice) and not each.root.is_dir():
                raise StoreError(f"the folder of {each.name} is not there", where=str(each.root))
        return max(each.free_bytes() for each in wanted)

    def _delete(self, victim: Victim, who: str, why: str) -> Victim:
        try:
            # Who is expected tomorrow may have been here long ago: the worklist stays.
            for _ in self._deleter.delete(
                Level.PATIENT,
                victim.patient_id,
                who=who,
                why=why,
                keep_worklist=True,
                older_than=self._clock.now() - RECENT_S,
            ):
                pass
        except (StillOwed, StillArriving) as exc:
            return Victim(victim.patient_id, victim.extent, exc.what)
        return victim

    def _look_at(self, patient_id: str) -> tuple[Victim, list[InstanceRef]]:
        """Tell whether a patient may be deleted."""
        refs = self._holdings.select(Level.PATIENT, patient_id)
        extent = self._deleter.extent(Level.PATIENT, patient_id, refs)
        return Victim(patient_id, extent, self.reason_to_spare(refs, extent)), refs

    def reason_to_spare(self, refs: Sequence[InstanceRef], extent: Extent) -> str:
        """Return why a patient with these objects has to stay; empty when nothing speaks for it."""
        if extent.owed:
            return f"{extent.owed} deliveries are still open"
        if extent.uncommitted:
            return f"{extent.uncommitted} objects are not committed to (CommitBeforeDelete)"
        if self._holdings.newest(refs) > self._clock.now() - RECENT_S:
            return "an object was stored within the last hour"
        if extent.unreachable:
            return f"{extent.unreachable} objects are on devices that are read only or away"
        if extent.missing:
            return f"the files of {extent.missing} objects are not there"
        return ""

    def _size(self, ref: InstanceRef) -> int:
        device = self._devices.get(ref.device)
        return 0 if device is None else device.size(ref.name) or 0
