"""The units of writing that ingest hands to the writer: an object with its file, debts alone.

Not for the steps before and after the commit (`dgate.archive.ingest`). `work` and `publish` run in
the thread that leads the commit group, the rest in the thread that brought the object.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.devices import Device
from dgate.archive.index import Index, Rewrite
from dgate.archive.obligations import Obligations
from dgate.archive.records import InstanceRef
from dgate.archive.rewrites import Completed, CompletedRewrites
from dgate.archive.rows import Entry
from dgate.archive.spool import SPOOL_DEVICE
from dgate.archive.writer import Transaction
from dgate.clock import Clock


@dataclass(slots=True)
class Placing:
    """Where one object goes, and what it takes the place of."""

    device: Device
    name: str
    known: InstanceRef | None
    """The object as the index is expected to have it; None = not at all."""
    replaces: bool
    """It takes the name of the known one."""
    by_hash: bool
    """Only its hash can tell recovery whether it was committed."""
    leftover: tuple[Device, str] | None = None
    """The file that is to be removed once this one is durable."""
    sha256: str = ""
    staged: str = ""
    adopted: bool = False
    """The staged file is the payload's own spill file."""
    failed: bool = False
    """The device could not take the file."""


class StoreJob:
    """Enters one object with its debts, then gives its file the final name."""

    def __init__(
        self,
        index: Index,
        completed: CompletedRewrites,
        entry: Entry,
        placing: Placing,
        owed: Obligations,
        clock: Clock,
        on_entry: Callable[[Transaction, float], None] | None = None,
    ) -> None:
        """`on_entry` writes what else belongs into the transaction; its argument is the time."""
        self._on_entry = on_entry
        self._index = index
        self._completed = completed
        self._entry = entry
        self._clock = clock
        self.placing = placing
        self.owed = owed
        self.entered = False
        """The rows were written, though not necessarily committed."""
        self.rewrite: Rewrite | None = None
        """The note that was written with them; None = the object was new."""
        self.published = False
        """The rows are committed, and the file has its name or recovery will give it."""
        self.synced: Set[Path] = frozenset()
        """The folders that are synced when the writer reports success."""
        self.settling: dict[str, Completed] = {}
        """Earlier replacements that were complete before these folders were synced."""

    def work(self, transaction: Transaction) -> InstanceRef | None:
        """Write rows and debts, unless the index has the instance other than expected.

        Returns the object as the index had it. A crash leaves no row and the staged file.
        """
        index, entry, placing = self._index, self._entry, self.placing
        # The job may be run again, after another gateway got in the way.
        self.entered = False
        # Of a new instance nobody else can have entered a row since the look-up: its turn is ours.
        # Should another program have, the insert fails and nothing is kept.
        sure = placing.known is None and index.is_alone
        found = None if sure else index.stored(transaction, entry)
        if not _is_expected(found, placing.known):
            return found
        now = self._clock.now()
        index.enter(transaction, entry, placing.device.name, placing.name, found, now)
        if self._on_entry is not None:
            self._on_entry(transaction, now)
        if found is not None:
            self._completed.begin(entry.sop_instance)
            self.rewrite = Rewrite(entry.sop_instance, placing.sha256, found.device, found.name)
            index.add_rewrite(transaction, self.rewrite)
        complete = self._completed.take()
        if complete:
            index.forget_rewrites(transaction, complete)
        if self.owed.drafts:
            ref = reference(entry, placing.device.name, placing.name)
            index.add_debts(transaction, ref, self.owed.drafts, now)
        self.entered = True
        return found

    def publish(self) -> Set[Path]:
        """Rename the file; a crash before leaves a committed row and the staged file."""
        if not self.entered:
            return frozenset()
        self.published = True
        placing = self.placing
        folders = placing.device.publish(
            placing.staged, placing.name, keep_previous=placing.replaces
        )
        self.settling = self._completed.unsynced()
        self.synced = folders
        return self.synced


class DebtJob:
    """Enters the debts of an object that is not stored; their copies are in the spool already."""

    def __init__(self, index: Index, entry: Entry, owed: Obligations, clock: Clock) -> None:
        self._index = index
        self._entry = entry
        self._owed = owed
        self._clock = clock
        self.committed = False

    def work(self, transaction: Transaction) -> None:
        """Write the debts; a crash leaves copies without debts."""
        ref = reference(self._entry, SPOOL_DEVICE, self._owed.first_copy)
        self._index.add_debts(transaction, ref, self._owed.drafts, self._clock.now())

    def publish(self) -> Set[Path]:
        """Nothing to rename: the copies are durable already."""
        self.committed = True
        return frozenset()


def reference(entry: Entry, device: str, name: str) -> InstanceRef:
    """Return the reference to an object at a place."""
    return InstanceRef(
        entry.sop_class,
        entry.sop_instance,
        entry.patient_id,
        entry.study,
        entry.series,
        device,
        name,
    )


def _is_expected(found: InstanceRef | None, known: InstanceRef | None) -> bool:
    if found is None or known is None:
        return found is known
    return found.device == known.device and found.name == known.name
