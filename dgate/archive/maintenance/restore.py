"""Taking back what rules changed in stored objects, by the record of change (`ChangeLog = 1`).

Objects of one study are restored together in one transaction, as other corrections are
(`identity`), since a study cannot belong to two patients. Runs in the caller's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dgate.archive.changes import ChangeLog, ChangeRecord, revert
from dgate.archive.export import Exporter
from dgate.archive.levels import Level
from dgate.archive.maintenance.correction import Corrected, Correction
from dgate.archive.maintenance.delete import check_key
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.maintenance.identity import Corrector
from dgate.archive.records import InstanceRef
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.dicom.differences import differences
from dgate.dicom.table import ElementTable
from dgate.errors import DgateError, StoreError

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Restoration:
    """What is to be taken back, study by study."""

    refs: tuple[InstanceRef, ...]
    records: Mapping[str, ChangeRecord]
    """By SOP Instance UID as it is now."""

    def corrections(self, forget: Callable[[Transaction, ChangeRecord], None]) -> list[Correction]:
        """Return one correction for each study; what is taken back is forgotten with it."""
        records = self.records

        def alter(table: ElementTable, ref: InstanceRef) -> bool:
            record = records.get(ref.sop_instance)
            if record is not None:
                revert(record, table)
            return record is not None

        def settle(transaction: Transaction, refs: Sequence[InstanceRef]) -> None:
            for ref in refs:
                if ref.sop_instance in records:
                    forget(transaction, records[ref.sop_instance])

        studies = dict.fromkeys(ref.study for ref in self.refs)
        return [Correction(study, alter=alter, also=settle, takes_back=True) for study in studies]


class Restorer:
    """Restores objects."""

    def __init__(
        self,
        holdings: Holdings,
        corrector: Corrector,
        exporter: Exporter,
        changes: ChangeLog,
        writer: Writer,
        clock: Clock,
    ) -> None:
        self._holdings = holdings
        self._corrector = corrector
        self._exporter = exporter
        self._changes = changes
        self._writer = writer
        self._clock = clock

    def plan(self, level: Level, key: str) -> Restoration:
        """Return what can be taken back of an image, series, study or patient.

        Raises:
            DgateError: there is no such entity, or no record of a change of it.
        """
        check_key(level, key)
        refs = self._holdings.select(level, key)
        if not refs:
            raise DgateError(
                f"there is no {level.value.lower()} {key!r}", remedy="see `dgate find`"
            )
        records = {}
        for ref in refs:
            record = next(self._changes.of(ref.sop_instance), None)
            if record is not None:
                records[ref.sop_instance] = record
        if not records:
            raise DgateError(
                f"nothing is known of changes of {level.value.lower()} {key}",
                remedy="rules changed nothing, ChangeLog was 0, or ChangeLogDays have passed",
            )
        changed = tuple(ref for ref in refs if ref.sop_instance in records)
        return Restoration(changed, records)

    def preview(self, plan: Restoration) -> Iterator[dict[str, Any]]:
        """Yield what would change in each object; raises StoreError where it cannot be done."""
        for ref in plan.refs:
            record = plan.records[ref.sop_instance]
            with self._exporter.table(ref) as table:
                before = table.snapshot()
                revert(record, table)
                found = list(differences(before, table))
            yield {
                "sop_instance": ref.sop_instance,
                "becomes": record.former,
                "rules": record.rules,
                "made": record.made,
                "changes": [
                    {
                        "path": one.path,
                        "keyword": one.keyword,
                        "before": one.before,
                        "after": one.after,
                    }
                    for one in found
                ],
            }

    def restore(
        self, plan: Restoration, *, who: str, even_owed: bool = False
    ) -> Iterator[Corrected]:
        """Restore the objects and yield while that goes on; each study as a whole or not at all.

        The records of what was taken back go in the transaction that takes it back: a crash leaves
        a study as it was with its records, or restored without them.

        Raises:
            StoreError: an object cannot be read or written or was changed since, another one has
                the identity, or deliveries are open that the former UIDs would break.
        """
        self._demand_no_debts(plan, even_owed=even_owed)
        for correction in plan.corrections(self._changes.forget):
            yield from self._corrector.correct(
                correction, who=who, why="dgate restore", even_owed=even_owed
            )

    def prune(self, days: int) -> int:
        """Forget the records that are older than so many days; return how many."""
        return self._changes.prune(self._writer, self._clock.now() - days * DAY_S)

    def _demand_no_debts(self, plan: Restoration, *, even_owed: bool) -> None:
        if even_owed:
            return
        for ref in plan.refs:
            if plan.records[ref.sop_instance].former == ref.sop_instance:
                continue
            owed = self._holdings.owed_now(Level.IMAGE, ref.sop_instance, [ref])
            if owed:
                raise StoreError(
                    f"{owed} deliveries of {ref.sop_instance} are still open, and its UID changes",
                    remedy="wait for them, cancel them (`dgate queue`), or use --even-owed",
                )
