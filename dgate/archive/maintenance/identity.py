"""Correcting whose images they are: elements and UIDs of stored studies, files and index together.

A study is corrected as a whole or not at all: its objects are written anew beside the old ones,
then one transaction changes their rows, debts and places (`relocate`). Bytes that a correction does
not name stay as they are. Converters do not run (spec converters.md 2). Not
for deciding what a merge means (`corrections`). Runs in the caller's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dgate.archive.database import Database
from dgate.archive.devices import Device, Devices, Reader, ReadOnlyFolder
from dgate.archive.files import FileRange, FileReader, Part
from dgate.archive.index import Index
from dgate.archive.maintenance.holdings import OPEN, Holdings
from dgate.archive.maintenance.journal import Journal
from dgate.archive.maintenance.relocate import Relocation, Relocator
from dgate.archive.naming import Naming, extension, is_confined
from dgate.archive.obligations import mirror_debts
from dgate.archive.oldfile import HEAD_BYTES
from dgate.archive.records import InstanceRef
from dgate.archive.repair import repair
from dgate.archive.rows import Entry
from dgate.archive.schema import Level
from dgate.archive.writer import Transaction
from dgate.clock import Clock
from dgate.config.layout import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID
from dgate.config.settings import Settings
from dgate.dicom.part10 import FileMeta, file_meta, read_meta
from dgate.dicom.table import ElementTable, Slice
from dgate.dicom.uids import UidGenerator, transfer_syntax
from dgate.errors import Missing, OutOfSpace, Refused, StoreError

log = logging.getLogger(__name__)

STAGE = "correction"
"""Stage in UIDMODS of UIDs that a correction replaced."""
_ATTEMPTS = 5
_PIXELS = 0x7FE00000
_SOP_CLASS = 0x00080016
_NAMES = {STUDY_UID: "StudyInstanceUID", SERIES_UID: "SeriesInstanceUID", SOP_UID: "SOPInstanceUID"}
_REGISTER = (
    "INSERT INTO UIDMODS (MODTime, OldUID, MODType, NewUID, Stage, Annotation) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
_FOLLOW = (
    "UPDATE dgate_debts SET sop_instance = ?, patient_id = ?, study = ?, series = ?, device = ?, "
    f"name = ? WHERE {OPEN} AND device <> 'SPOOL' AND sop_instance = ?"
)


@dataclass(frozen=True, slots=True)
class Correction:
    """What changes in the objects of one study."""

    study: str
    texts: Mapping[int, str] = field(default_factory=dict)
    """Elements to set, by tag."""
    series: frozenset[str] | None = None
    """Only the objects of these series; None = all."""
    into: str = ""
    """The Study Instance UID that they get; empty = theirs."""
    new_uids: bool = False
    """Study, series and objects get new UIDs, which are registered in UIDMODS."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """How far a correction is."""

    study: str
    objects: int
    """Objects corrected so far."""
    committed: bool = False
    """The study is complete."""


class _Changed(Exception):
    """The study is not what it was when its objects were read."""


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
    ) -> None:
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
            table = ElementTable(reader.view()[meta.data_offset :], meta.syntax)
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
        for _ in range(_ATTEMPTS):
            refs = self.objects(correction)
            if not refs:
                return
            try:
                yield from self._attempt(correction, refs, even_owed)
            except _Changed:
                log.info("Study %s changed while it was corrected; once more.", correction.study)
                continue
            self._write_down(correction, refs, who, why)
            return
        raise StoreError(
            f"study {correction.study} does not come to rest: objects of it keep arriving",
            remedy="try again when all of it has arrived",
        )

    def _attempt(
        self, correction: Correction, refs: list[InstanceRef], even_owed: bool
    ) -> Iterator[Corrected]:
        mapping = self._mapping(correction, refs)
        staged: list[Relocation] = []
        entries: list[Entry] = []
        with self._relocator.holding(refs):
            try:
                self._check_room(refs)
                for ref in refs:
                    relocation, entry = self._stage(ref, correction, mapping)
                    staged.append(relocation)
                    entries.append(entry)
                    yield Corrected(correction.study, len(staged))
            except BaseException:
                self._relocator.withdraw(staged)
                raise
            rows = _Rows(self, correction, dict(zip(staged, entries, strict=True)), mapping)
            rows.even_owed = even_owed
            self._relocator.commit(staged, rows)
        if self._devices.mirrors:
            self._wake()
        yield Corrected(correction.study, len(staged), committed=True)

    # Writing the new files.

    def _mapping(self, correction: Correction, refs: Sequence[InstanceRef]) -> dict[str, str]:
        """Return old UIDs with their new ones, for all objects of the study alike."""
        mapping: dict[str, str] = {}
        if correction.new_uids:
            uids = {ref.series for ref in refs} | {ref.sop_instance for ref in refs}
            if correction.series is None and not correction.into:
                uids.add(correction.study)
            mapping = {uid: self._uids.new() for uid in sorted(uids)}
        if correction.into and correction.series is None:
            mapping[correction.study] = correction.into
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
        self, ref: InstanceRef, correction: Correction, mapping: Mapping[str, str]
    ) -> tuple[Relocation, Entry]:
        device = self._device(ref)
        reader, meta = self._open(ref)
        try:
            table = ElementTable(reader.view()[meta.data_offset :], meta.syntax)
            for tag, text in correction.texts.items():
                table.set_text(tag, text)
            if correction.into:
                table.set_text(STUDY_UID, correction.into)
            if mapping:
                replace_uids(table, mapping)
            entry = self._index.entry(table, repair(table, self._settings))
            self._check_entry(entry, correction)
            parts = _parts(reader, meta, table, same=entry.sop_instance == ref.sop_instance)
            encapsulated = transfer_syntax(meta.syntax).encapsulated
            name = self._naming.name(table, entry, "", "", encapsulated=encapsulated)
            if extension(name).lower() != extension(ref.name).lower():
                name = ref.name
            relocation = self._relocator.stage(ref, device, name, parts, entry.sop_instance)
        except ValueError as exc:
            raise StoreError(f"a value does not fit into object {ref.sop_instance}: {exc}") from exc
        finally:
            reader.close()
        return relocation, entry

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
        if {_place(ref) for ref in present} != {_place(ref) for ref in refs}:
            raise _Changed
        owed = holdings.owed(transaction, Level.STUDY, correction.study)
        if owed and correction.new_uids and not even_owed:
            raise StoreError(
                f"{owed} deliveries of study {correction.study} are still open",
                remedy="wait for them, cancel them (`dgate queue`), or use --even-owed",
            )
        holdings.take_out(transaction, present)
        follow = self._database.sql(_FOLLOW)
        for each, entry in entries.items():
            device = each.device.name
            index.enter(transaction, entry, device, each.name, None, now)
            place = (entry.study, entry.series, device, each.name)
            old = each.ref.sop_instance
            transaction.execute(follow, (entry.sop_instance, entry.patient_id, *place, old))
            debts = mirror_debts(self._devices, device)
            if debts:
                ref = replace(
                    each.ref,
                    sop_instance=entry.sop_instance,
                    patient_id=entry.patient_id,
                    study=entry.study,
                    series=entry.series,
                    device=device,
                    name=each.name,
                )
                index.add_debts(transaction, ref, debts, now)
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

    def _write_down(
        self, correction: Correction, refs: Sequence[InstanceRef], who: str, why: str
    ) -> None:
        log.info(
            "Corrected %d object(s) of study %s: %s (%s).", len(refs), correction.study, why, who
        )
        self._journal.write(
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

    def __call__(
        self, transaction: Transaction, relocations: Sequence[Relocation]
    ) -> Sequence[Relocation]:
        self._corrector.enter(
            transaction, self._correction, self._entries, self._mapping, self.even_owed
        )
        return relocations


def replace_uids(table: ElementTable, mapping: Mapping[str, str]) -> None:
    """Replace UIDs wherever an object names them, in sequences too; all else stays as it is."""
    for tag in table.tags():
        if tag >= _PIXELS or tag == _SOP_CLASS:
            continue
        if table.reading_vr(tag) == "UI":
            old = table.text(tag)
            new = "\\".join(mapping.get(uid, uid) for uid in old.split("\\"))
            if new != old:
                table.set_text(tag, new)
        elif table.is_sequence(tag):
            items = table.items(tag)
            for item in items:
                replace_uids(item, mapping)
            if any(item.revision for item in items):
                table.set_items(tag, items)


def _place(ref: InstanceRef) -> tuple[str, str, str]:
    return ref.sop_instance, ref.device, ref.name


def _parts(reader: Reader, meta: FileMeta, table: ElementTable, *, same: bool) -> list[Part]:
    """Return the changed file: what the correction does not name is copied as it is."""
    start = meta.data_offset
    if same or not start:
        parts: list[Part] = [reader.read_at(0, start)] if start else []
    else:
        parts = [file_meta(meta.sop_class, table.text(SOP_UID), meta.syntax)]
    for segment in table.segments():
        if not isinstance(segment, Slice):
            parts.append(segment)
        elif isinstance(reader, FileReader):
            parts.append(FileRange(reader.descriptor, start + segment.offset, segment.length))
        else:
            parts.append(reader.read_at(start + segment.offset, segment.length))
    return parts
