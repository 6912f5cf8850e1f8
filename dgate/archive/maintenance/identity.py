"""Correcting whose images they are: elements and UIDs of stored studies, files and index together.

A study is corrected as a whole or not at all: its objects are written anew beside the old ones,
then one transaction changes their rows, debts and places (`relocate`). Bytes that a correction does
not name stay as they are. No converter runs but those of merges, which may leave an object out
(spec converters.md 2, 3). Not for deciding what a merge means (`corrections`). Runs in the caller's
thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from dgate.archive.changes import ChangeLog, ChangeRecord, record_of
from dgate.archive.database import Database
from dgate.archive.devices import Device, Devices, Reader, ReadOnlyFolder
from dgate.archive.incoming import check_identity
from dgate.archive.index import Index
from dgate.archive.levels import Level
from dgate.archive.maintenance.changed_file import changed_parts, replace_uids, table_of, unreadable
from dgate.archive.maintenance.correction import Corrected, Correction
from dgate.archive.maintenance.delete import StillOwed
from dgate.archive.maintenance.following import Followers
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.maintenance.journal import Journal
from dgate.archive.maintenance.relocate import Relocation, Relocator
from dgate.archive.maintenance.stored_rules import StoredRules
from dgate.archive.naming import Naming, extension, is_confined
from dgate.archive.obligations import mirror_debts
from dgate.archive.oldfile import HEAD_BYTES
from dgate.archive.records import InstanceRef
from dgate.archive.repair import repair
from dgate.archive.rows import Entry
from dgate.archive.writer import Transaction
from dgate.clock import Clock
from dgate.config.layout import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID
from dgate.config.settings import Settings
from dgate.dicom.part10 import FileMeta, read_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import UidGenerator, transfer_syntax
from dgate.errors import Missing, OutOfSpace, Refused, StoreError

log = logging.getLogger(__name__)

STAGE = "correction"
"""Stage in UIDMODS of UIDs that a correction replaced."""
_ATTEMPTS = 5
_NAMES = {STUDY_UID: "StudyInstanceUID", SERIES_UID: "SeriesInstanceUID", SOP_UID: "SOPInstanceUID"}
_REGISTER = (
    "INSERT INTO UIDMODS (MODTime, OldUID, MODType, NewUID, Stage, Annotation) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)


class _Changed(Exception):
    """The study is not what it was when its objects were read."""


class _LeftOut(Exception):
    """A converter left objects out, which the others may name by UIDs that they do not get."""

    def __init__(self, sop_instances: set[str]) -> None:
        super().__init__()
        self.sop_instances = sop_instances


class Corrector:
    """Carries out corrections."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        index: Index,
        holdings: Holdings,
        relocator: Relocator,
        devices: Devices,
        naming: Naming,
        uids: UidGenerator,
        journal: Journal,
        clock: Clock,
        wake: Callable[[], None],
        changes: ChangeLog,
        rules: StoredRules | None = None,
    ) -> None:
        self._changes = changes
        self._settings = settings
        self._database = database
        self._index = index
        self._holdings = holdings
        self._relocator = relocator
        self._devices = devices
        self._naming = naming
        self._uids = uids
        self._journal = journal
        self._clock = clock
        self._wake = wake
        self._rules = rules
        self._followers = Followers(database, index, holdings)

    def objects(self, correction: Correction) -> list[InstanceRef]:
        """Return the objects that a correction changes."""
        refs = self._holdings.select(Level.STUDY, correction.study)
        wanted = correction.series
        return [ref for ref in refs if wanted is None or ref.series in wanted]

    def texts(self, ref: InstanceRef, tags: Sequence[int]) -> dict[int, str]:
        """Return elements of a stored object as text.

        Raises:
            Missing: its file is not there.
        """
        reader, meta = self._open(ref)
        try:
            table = table_of(ref, reader, meta)
            return {tag: table.text(tag) for tag in tags}
        finally:
            reader.close()

    def correct(
        self, correction: Correction, *, who: str, why: str, even_owed: bool = False
    ) -> Iterator[Corrected]:
        """Correct a study and yield while its objects are written; the last one is committed.

        Raises:
            StoreError: an object cannot be read or written, another one has the identity, or
                deliveries are open that new UIDs would break. Nothing has changed then.
        """
        refs = self.objects(correction)
        if not refs:
            return
        with self._written_down(correction, refs, who, why) as result:
            staying: set[str] = set()
            for _ in range(_ATTEMPTS):
                try:
                    yield from self._attempt(correction, refs, staying, even_owed, why, result)
                except _LeftOut as exc:
                    staying = exc.sop_instances
                    continue
                except _Changed:
                    study = correction.study
                    log.info("Study %s changed while it was corrected; once more.", study)
                    refs = self.objects(correction)
                    if refs:
                        continue
                    result["images"] = 0
                log.info(
                    "Corrected %d object(s) of study %s: %s (%s).",
                    result["images"],
                    correction.study,
                    why,
                    who,
                )
                return
            raise StoreError(
                f"study {correction.study} does not come to rest: objects of it keep arriving",
                remedy="try again when all of it has arrived",
            )

    def _attempt(
        self,
        correction: Correction,
        refs: list[InstanceRef],
        staying: set[str],
        even_owed: bool,
        why: str,
        result: dict[str, Any],
    ) -> Iterator[Corrected]:
        """Correct the study once; `staying` are the objects that are known to be left out."""
        going = [ref for ref in refs if ref.sop_instance not in staying]
        mapping = self._mapping(correction, going)
        staged: list[Relocation] = []
        entries: list[Entry] = []
        records: list[ChangeRecord] = []
        left_out: list[InstanceRef] = []
        with self._relocator.holding(refs):
            try:
                self._check_room(refs)
                for ref in refs:
                    done = self._stage(ref, correction, mapping, why)
                    if done is None:
                        left_out.append(ref)
                    else:
                        staged.append(done[0])
                        entries.append(done[1])
                        records += done[2]
                    yield Corrected(correction.study, len(staged) + len(left_out))
                _check_left_out(correction, left_out, staged)
                found = {ref.sop_instance for ref in left_out}
                if correction.new_uids and found != staying:
                    raise _LeftOut(found)
            except BaseException:
                self._relocator.withdraw(staged)
                raise
            if staged:
                rows = _Rows(self, correction, dict(zip(staged, entries, strict=True)), mapping)
                rows.even_owed = even_owed
                rows.left_out, rows.records = left_out, records
                self._relocator.commit(staged, rows)
        if self._devices.mirrors:
            self._wake()
        result["images"] = len(staged)
        if left_out:
            result["left_out"] = [ref.sop_instance for ref in left_out]
        yield Corrected(
            correction.study,
            len(refs),
            committed=True,
            left_out=tuple(ref.sop_instance for ref in left_out),
        )

    # Writing the new files.

    def _mapping(self, correction: Correction, refs: Sequence[InstanceRef]) -> dict[str, str]:
        """Return old UIDs with their new ones, for all objects of the study alike."""
        mapping: dict[str, str] = {}
        if correction.new_uids:
            uids = {ref.sop_instance for ref in refs}
            if not correction.into_series:
                uids |= {ref.series for ref in refs}
            if correction.series is None and not correction.into:
                uids.add(correction.study)
            mapping = {uid: self._uids.new() for uid in sorted(uids)}
        if correction.into and correction.series is None:
            mapping[correction.study] = correction.into
        if correction.into_series:
            mapping |= dict.fromkeys((ref.series for ref in refs), correction.into_series)
        return mapping

    def _check_room(self, refs: Sequence[InstanceRef]) -> None:
        sizes: dict[str, int] = {}
        for ref in refs:
            device = self._device(ref)
            sizes[ref.device] = sizes.get(ref.device, 0) + (device.size(ref.name) or 0)
        for name, size in sizes.items():
            area = self._devices.get(name)
            if area is None or not self._devices.has_room_for(area, size):
                raise OutOfSpace(
                    f"{name} has no room for the corrected study beside the old one",
                    remedy="free space there, or move the study to another device first",
                )

    def _stage(
        self, ref: InstanceRef, correction: Correction, mapping: Mapping[str, str], why: str
    ) -> tuple[Relocation, Entry, list[ChangeRecord]] | None:
        """Write a corrected object, with its record of change; None when it is left out."""
        device = self._device(ref)
        reader, meta = self._open(ref)
        try:
            table = table_of(ref, reader, meta)
            original, record = table.snapshot(), None
            if correction.alter is not None and not correction.alter(table, ref):
                return None
            for tag, text in correction.texts.items():
                table.set_text(tag, text)
            if correction.into:
                table.set_text(STUDY_UID, correction.into)
            if mapping:
                replace_uids(table, mapping)
            if not self._is_wanted(ref, correction, table, device):
                return None
            if self._settings.change_log and not correction.takes_back:
                record = record_of(original, table, self._causes(correction, why))
            entry = self._index.entry(table, repair(table, self._settings))
            self._check_entry(entry, correction)
            parts = changed_parts(reader, meta, table, same=entry.sop_instance == ref.sop_instance)
            encapsulated = transfer_syntax(meta.syntax).encapsulated
            name = self._naming.name(table, entry, "", "", encapsulated=encapsulated)
            if extension(name).lower() != extension(ref.name).lower():
                name = ref.name
            relocation = self._relocator.stage(ref, device, name, parts, entry.sop_instance)
        except ValueError as exc:
            raise StoreError(f"a value does not fit into object {ref.sop_instance}: {exc}") from exc
        finally:
            reader.close()
        return relocation, entry, [] if record is None else [record]

    def _causes(self, correction: Correction, why: str) -> list[str]:
        """Return what the record of change names: the correction, and the converter that saw it."""
        event = correction.event
        ruled = event is not None and self._rules is not None and self._rules.has(event)
        return [why, f"{event.value}Converter0"] if event is not None and ruled else [why]

    def _is_wanted(
        self, ref: InstanceRef, correction: Correction, table: ElementTable, device: Device
    ) -> bool:
        """Run the correction's converter, which may change the object, too; tell whether the
        object takes part. Raises RuleError."""
        rules, event = self._rules, correction.event
        if event is None or rules is None or not rules.has(event):
            return True
        is_wanted = rules.run(event, table, ref, device.path(ref.name))
        if is_wanted:
            check_identity(table, "", "")
        return is_wanted

    def _check_entry(self, entry: Entry, correction: Correction) -> None:
        wanted = correction.texts.get(PATIENT_ID)
        if wanted is not None and entry.patient_id != wanted:
            raise Refused(
                f"the index would enter the patient ID as {entry.patient_id!r}, not {wanted!r}",
                remedy="choose an ID of at least two characters that no setting changes",
            )

    def _device(self, ref: InstanceRef) -> Device:
        device = self._devices.get(ref.device)
        if device is None or isinstance(device, ReadOnlyFolder) or not is_confined(ref.name):
            raise StoreError(
                f"object {ref.sop_instance} cannot be changed where it is",
                where=f"{ref.device} {ref.name}",
                remedy="move it to a storage device first (`dgate move-device`)",
            )
        return device

    def _open(self, ref: InstanceRef) -> tuple[Reader, FileMeta]:
        device = self._device(ref)
        try:
            reader = device.open(ref.name, ref.sop_instance)
        except OSError as exc:
            raise Missing(
                f"the file of object {ref.sop_instance} cannot be opened: {exc.strerror}",
                where=f"{ref.device} {ref.name}",
                remedy="put the file back, or remove the object with `dgate delete image`",
            ) from exc
        try:
            meta = read_meta(reader.read_at(0, HEAD_BYTES))
            if meta.sop_instance not in ("", ref.sop_instance):
                raise Missing(
                    f"the file of object {ref.sop_instance} holds another object",
                    where=f"{ref.device} {ref.name}",
                )
        except OSError as exc:
            reader.close()
            raise unreadable(ref, exc) from exc
        except BaseException:
            reader.close()
            raise
        return reader, meta

    # Inside a job of the writer.

    def enter(
        self,
        transaction: Transaction,
        correction: Correction,
        entries: Mapping[Relocation, Entry],
        mapping: Mapping[str, str],
        left_out: Sequence[InstanceRef],
        records: Sequence[ChangeRecord],
        *,
        even_owed: bool,
    ) -> None:
        """Put the rows of corrected objects in the place of the old ones.

        Raises _Changed when they are not those that were read, Refused for an identity conflict.
        """
        refs = [each.ref for each in entries]
        holdings, index, now = self._holdings, self._index, self._clock.now()
        present = holdings.select(Level.STUDY, correction.study, transaction)
        wanted = correction.series
        present = [ref for ref in present if wanted is None or ref.series in wanted]
        if {_place(ref) for ref in present} != {_place(ref) for ref in (*refs, *left_out)}:
            raise _Changed
        owed = holdings.owed(transaction, Level.STUDY, correction.study)
        if owed and correction.new_uids and not even_owed:
            raise StillOwed(
                f"{owed} deliveries of study {correction.study} are still open",
                remedy="wait for them, cancel them (`dgate queue`), or use --even-owed",
            )
        holdings.take_out(transaction, refs)
        moved = []
        for each, entry in entries.items():
            device = each.device.name
            index.enter(transaction, entry, device, each.name, None, now)
            ref = holdings.follow(transaction, each.ref, entry, device, each.name)
            moved.append((each.ref, ref))
            debts = mirror_debts(self._devices, device)
            if debts:
                index.add_debts(transaction, ref, debts, now)
        self._followers.follow(transaction, moved, now)
        for record in records:
            self._changes.add(record, transaction, now)
        if correction.also is not None:
            correction.also(transaction, refs)
        if correction.new_uids:
            self._register(transaction, refs, correction, mapping, now)

    def _register(
        self,
        transaction: Transaction,
        refs: Sequence[InstanceRef],
        correction: Correction,
        mapping: Mapping[str, str],
        now: float,
    ) -> None:
        kinds = {correction.study: STUDY_UID}
        kinds |= {ref.series: SERIES_UID for ref in refs}
        kinds |= {ref.sop_instance: SOP_UID for ref in refs}
        rows = [
            (int(now), old, _NAMES[kinds[old]], new, STAGE, f"study {correction.study}"[:64])
            for old, new in mapping.items()
        ]
        transaction.executemany(self._database.sql(_REGISTER), rows)

    def _written_down(
        self, correction: Correction, refs: Sequence[InstanceRef], who: str, why: str
    ) -> AbstractContextManager[dict[str, Any]]:
        """Return what puts a correction into the journal."""
        return self._journal.work(
            "correct",
            who=who,
            why=why,
            study=correction.study,
            before={"patient": refs[0].patient_id, "study": correction.study},
            after={
                f"{tag >> 16:04X},{tag & 0xFFFF:04X}": text
                for tag, text in correction.texts.items()
            }
            | ({"study": correction.into} if correction.into else {}),
            series=sorted({ref.series for ref in refs}),
            images=len(refs),
            new_uids=correction.new_uids,
        )


class _Rows:
    """The change of rows of one study, as `Relocator.commit` wants it."""

    def __init__(
        self,
        corrector: Corrector,
        correction: Correction,
        entries: Mapping[Relocation, Entry],
        mapping: Mapping[str, str],
    ) -> None:
        self._corrector = corrector
        self._correction = correction
        self._entries = entries
        self._mapping = mapping
        self.even_owed = False
        self.left_out: Sequence[InstanceRef] = ()
        self.records: Sequence[ChangeRecord] = ()

    def __call__(
        self, transaction: Transaction, relocations: Sequence[Relocation]
    ) -> Sequence[Relocation]:
        self._corrector.enter(
            transaction,
            self._correction,
            self._entries,
            self._mapping,
            self.left_out,
            self.records,
            even_owed=self.even_owed,
        )
        return relocations


def _check_left_out(
    correction: Correction, left_out: Sequence[InstanceRef], staged: Sequence[Relocation]
) -> None:
    """Raise Refused where a series would be in two studies, as a part of it is left out."""
    if not correction.into or correction.new_uids:
        return
    torn = {ref.series for ref in left_out} & {each.ref.series for each in staged}
    if torn:
        raise Refused(
            f"the rule leaves a part of series {min(torn)} where it is, and a series cannot be in "
            "two studies",
            remedy="merge with --new-uids, or let the rule leave out whole series",
        )


def _place(ref: InstanceRef) -> tuple[str, str, str]:
    return ref.sop_instance, ref.device, ref.name
