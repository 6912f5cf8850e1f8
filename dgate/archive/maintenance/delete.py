"""Deleting patients, studies, series, objects: rows, files, mirror copies (dicom-sql.md 4.5).

A study goes in one transaction: a crash leaves either all of it or nothing but files that the next
start removes. Not for choosing what goes when space is short (`dgate.archive.maintenance.clean`).
Runs in the caller's thread; several may run at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from dgate.archive.devices import Devices, ReadOnlyFolder
from dgate.archive.levels import Level
from dgate.archive.maintenance.holdings import Holdings, by_study
from dgate.archive.maintenance.journal import Journal
from dgate.archive.maintenance.removals import Removal, Removals
from dgate.archive.maintenance.uncommitted import Uncommitted
from dgate.archive.records import InstanceRef
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.dicom.uids import is_uid
from dgate.errors import DgateError

log = logging.getLogger(__name__)

REMOVED_AT_ONCE = 100
_WILDCARDS = "*?\\"
_OLD_UIDS = ("undefined",)
"""What an older server wrote where an object had no UID."""


class StillOwed(DgateError):
    """Deliveries of the objects are open."""


class StillArriving(DgateError):
    """An object was stored after the time that was given."""


class NotThere(DgateError):
    """There is no such patient, study, series or object."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much an entity is."""

    patients: int = 0
    studies: int = 0
    series: int = 0
    images: int = 0
    size: int = 0
    """Bytes of the files that are there."""
    owed: int = 0
    """Open deliveries."""
    unreachable: int = 0
    """Objects on devices that are not configured, or are only read."""
    missing: int = 0
    """Objects whose files are not there."""
    uncommitted: int = 0
    """Objects that a node with `CommitBeforeDelete` has taken and not committed to."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers by name, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a deletion is."""

    images: int
    """Objects deleted so far."""
    size: int
    """Bytes freed so far."""
    waiting: int = 0
    """Files that could not be removed."""


class Deleter:
    """Measures and deletes entities."""

    def __init__(
        self,
        holdings: Holdings,
        removals: Removals,
        writer: Writer,
        devices: Devices,
        journal: Journal,
        clock: Clock,
        uncommitted: Uncommitted,
    ) -> None:
        self._uncommitted = uncommitted
        self._holdings = holdings
        self._removals = removals
        self._writer = writer
        self._devices = devices
        self._journal = journal
        self._clock = clock

    def find(self, level: Level, key: str) -> list[InstanceRef]:
        """Return the objects of an entity.

        Raises:
            NotThere: nothing has the key.
            DgateError: it cannot be one.
        """
        check_key(level, key)
        refs = self._holdings.select(level, key)
        if not refs and not self._holdings.knows(level, key):
            raise NotThere(
                f"there is no {level.value.lower()} {key[:80]!r}",
                remedy="the whole key is needed, and letter case counts; see `dgate find`",
            )
        return refs

    def extent(self, level: Level, key: str, refs: Sequence[InstanceRef]) -> Extent:
        """Return how much the entity is, whose objects these are."""
        size = unreachable = missing = 0
        for ref in refs:
            device = self._devices.get(ref.device)
            if device is None or isinstance(device, ReadOnlyFolder):
                unreachable += 1
            elif (found := device.size(ref.name)) is None:
                missing += 1
            else:
                size += found
        return Extent(
            len({ref.patient_id for ref in refs}),
            len({ref.study for ref in refs}),
            len({ref.series for ref in refs}),
            len(refs),
            size,
            self._holdings.owed_now(level, key, refs),
            unreachable,
            missing,
            self._uncommitted.count(refs),
        )

    def delete(
        self,
        level: Level,
        key: str,
        *,
        who: str,
        why: str,
        even_owed: bool = False,
        keep_worklist: bool = False,
        older_than: float | None = None,
    ) -> Iterator[Progress]:
        """Delete an entity study by study, and yield after each step.

        With a patient go the worklist entries, unless they are to be kept. With `older_than`, in
        seconds since the epoch, a study of which an object was stored later stays, so that none
        that has just been acknowledged goes with those that were meant.

        Raises:
            StillOwed: deliveries are open, and `even_owed` is not set; that study is whole.
            StillArriving: a study is newer than `older_than`, and whole.
            DgateError: there is no such entity.
        """
        images = size = waiting = 0
        refs = self.find(level, key)
        if not even_owed:
            # All of it before any of it; each study asks once more in its own transaction.
            what = f"this {level.value.lower()}"
            _refuse(self._holdings.owed_now(level, key, refs), self._uncommitted.count(refs), what)
        for study in by_study(refs):
            with self._written_down(study, who, why) as result:
                taken, notes = self._take_out(study, level, key, even_owed, older_than)
                result["series"] = sorted({ref.series for ref in taken})
                result["images"] = len(taken)
            log.info(
                "Deleted %d object(s) of study %s: %s (%s).", len(taken), study[0].study, why, who
            )
            images += len(taken)
            for start in range(0, len(notes), REMOVED_AT_ONCE):
                removed = self._removals.carry_out(notes[start : start + REMOVED_AT_ONCE])
                size += removed.size
                waiting += removed.waiting
                yield Progress(images, size, waiting)
        if level is Level.PATIENT and not keep_worklist:
            self._forget_worklist(key)
        yield Progress(images, size, waiting)

    def _take_out(
        self,
        refs: list[InstanceRef],
        level: Level,
        key: str,
        even_owed: bool,
        older_than: float | None,
    ) -> tuple[list[InstanceRef], list[Removal]]:
        """Commit that these objects of one study are gone; a crash before leaves them all."""
        holdings, now = self._holdings, self._clock.now()
        scope = (Level.STUDY, refs[0].study) if level is Level.PATIENT else (level, key)

        def work(transaction: Transaction) -> tuple[list[InstanceRef], list[Removal]]:
            # Once more inside: what arrived meanwhile in the study goes too.
            present = holdings.select(*scope, transaction)
            if not even_owed:
                owed = holdings.owed(transaction, *scope)
                uncommitted = self._uncommitted.count(present, transaction)
                _refuse(owed, uncommitted, f"study {refs[0].study}")
            if older_than is not None and holdings.newest(present, transaction) > older_than:
                raise StillArriving("an object has just been stored")
            taken = holdings.take_out(transaction, present)
            holdings.end_debts(transaction, taken, now, "the object was deleted")
            return taken, self._removals.note(transaction, taken)

        return self._writer.transact(work)

    def _forget_worklist(self, patient_id: str) -> None:
        gone = self._writer.transact(
            lambda transaction: self._holdings.forget_worklist(transaction, patient_id)
        )
        if gone:
            log.info("%d worklist entries of a deleted patient were removed.", gone)

    def _written_down(
        self, refs: Sequence[InstanceRef], who: str, why: str
    ) -> AbstractContextManager[dict[str, Any]]:
        """Return what puts the deletion of these objects of a study into the journal."""
        return self._journal.work(
            "delete",
            who=who,
            why=why,
            patient=refs[0].patient_id,
            study=refs[0].study,
            series=sorted({ref.series for ref in refs}),
            images=len(refs),
        )


def _refuse(owed: int, uncommitted: int, what: str) -> None:
    if uncommitted:
        raise StillOwed(
            f"{uncommitted} objects of {what} are delivered to a node that has not committed to "
            "them (CommitBeforeDelete)",
            remedy="send them again to a node with Commit = yes, or use --even-owed",
        )
    if owed:
        raise StillOwed(
            f"{owed} deliveries of {what} are still open",
            remedy="wait for them, cancel them (`dgate queue`), or use --even-owed",
        )


def check_key(level: Level, key: str) -> None:
    """Raise DgateError for what cannot be the key of an entity, wildcards above all."""
    if level is not Level.PATIENT:
        if not is_uid(key) and key not in _OLD_UIDS:
            raise DgateError(
                f"{key[:80]!r} is not a UID",
                remedy="give one whole UID: digits and dots, no wildcards",
            )
    elif not key.strip() or not key.isprintable():
        raise DgateError("a patient ID is needed", remedy="give the whole ID")
    elif any(character in key for character in _WILDCARDS):
        raise DgateError(
            f"the patient ID {key[:80]!r} has a wildcard in it",
            remedy="give one whole ID; several patients at once are never deleted",
        )
