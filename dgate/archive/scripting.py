"""The own archive as scripts use it: the gateway's side of `rules.actions.Archive`.

Any thread may use an `Archive`; each call is done when it returns. What scripts do with tables is
in `dgate.archive.usertables`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from dgate.archive.connection import Value
from dgate.archive.database import Database
from dgate.archive.export import Exporter
from dgate.archive.index import Index
from dgate.archive.ingest import Ingest
from dgate.archive.levels import Level, Schema
from dgate.archive.looseread import LOADED_BYTES, read_file
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.query import EVERYTHING, Finder, Page, QueryKey
from dgate.archive.records import Arrival, InstanceRef, Receipt
from dgate.archive.records import Outcome as Stored
from dgate.archive.repair import fix_patient_id
from dgate.archive.usertables import UserTables
from dgate.archive.writer import Writer
from dgate.config.layout import PATIENT_ID, SERIES_UID, SOP_UID, STUDY_UID, Layout
from dgate.config.settings import Settings
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import is_uid
from dgate.errors import DatabaseAway, DgateError, NotDicom, RuleError, StoreError
from dgate.rules.actions import check_memory
from dgate.rules.effects import ImportVerdict, Outcome

log = logging.getLogger(__name__)

UID_TABLE = "uidmods"
"""The register of replaced values, of which `dgate.archive.uidregister` remembers a part."""
MEMORY_LIMIT_BYTES = 256 << 20
"""So much of what scripts read is held in memory for one call; larger files stay on disk."""

_MOST_LONG = 200
"""Each long object that a script holds is an open file."""

RunScript = Callable[[str, ElementTable], ImportVerdict]
"""Runs import statements over an object; raises RuleError when they fail."""
Change = Callable[[ElementTable], ImportVerdict]
"""Does the same by itself."""

_CONTROL_GROUP = 0x9999
_SORT, _LIMIT, _OFFSET = 0x99990C00, 0x99990C01, 0x99990C02
_SCRUB = 0x99990202
_STUDY_DATE = 0x00080020
_KEYS = {
    PATIENT_ID: "PatientID",
    STUDY_UID: "StudyInstanceUID",
    SERIES_UID: "SeriesInstanceUID",
    SOP_UID: "SOPInstanceUID",
}
_NO_KEYS = frozenset((0x00080005, 0x00080052, 0x00080054))
"""Elements of an identifier that are no keys: character set, level, AE title."""
_SEPARATORS = "|?*:"
_WILDCARDS = "*?\\"
_WHO = "a script"


class Archive:
    """Stored objects and tables, under one configuration."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        database: Database,
        schema: Schema,
        writer: Writer,
        index: Index,
        finder: Finder,
        exporter: Exporter,
        ingest: Ingest,
        caretaker: Callable[[], Caretaker],
        place: Callable[[str], Path],
        run_script: RunScript,
        *,
        forget_uids: Callable[[], None] | None = None,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        """`forget_uids`: called when a script may have changed the register of replaced values.

        `place` gives the path that a script's file name means (`rules.actions.Files.place`).

        `caretaker` gives the tools of maintenance; it raises DgateError where no index is kept.
        """
        self._settings = settings
        self._finder = finder
        self._exporter = exporter
        self._ingest = ingest
        self._caretaker = caretaker
        self._place = place
        self._run_script = run_script
        self._forget_uids = forget_uids
        self._limit_bytes = memory_limit_bytes
        self._tables = UserTables(
            database, schema, writer, index, layout, memory_limit_bytes=memory_limit_bytes
        )

    # tables

    def query(
        self,
        tables: str,
        fields: str,
        where: str = "",
        sort: str = "",
        parameters: Sequence[Value] = (),
    ) -> list[list[str]] | None:
        """Return the rows of a SELECT as text; see `UserTables.query`."""
        return self._tables.query(tables, fields, where, sort, parameters)

    def execute(self, statement: str, parameters: Sequence[Value] = ()) -> bool:
        """Execute one statement; see `UserTables.execute`."""
        done = self._tables.execute(statement, parameters)
        if self._forget_uids is not None and UID_TABLE in statement.lower():
            self._forget_uids()
        return done

    def column(self, level: int, row: int) -> tuple[int, int, str, int, str, str] | None:
        """Return a row of dicom.sql; see `UserTables.column`."""
        return self._tables.column(level, row)

    def oldest_patients(self, most: int, device: str, sort: str) -> list[str]:
        """Return patient IDs by a column; see `UserTables.oldest_patients`."""
        return self._tables.oldest_patients(most, device, sort)

    # objects

    def load(self, name: str) -> ElementTable:
        r"""Return a whole object, as no other has it.

        Args:
            name: `patient:SOP` (also with `|`, `?` or `*`), `:SOP`, `study\series\SOP`, or a file.

        Raises:
            RuleError: there is no such object or file, or it cannot be read.
        """
        try:
            ref = self._named(name)
            if ref is not None:
                return self._stored(ref)
            return read_file(self._place(name), self._settings.temp_dir)
        except DatabaseAway:
            raise
        except StoreError as exc:
            raise RuleError(f"Failed to read dicom file: {exc}", where=name) from exc

    def _named(self, name: str) -> InstanceRef | None:
        """Return the object of the archive that a name means, None when it is that of a file."""
        parts = name.split("\\")
        if len(parts) == 3 and all(map(is_uid, parts)):
            ref = self._finder.instance(parts[2])
            if ref is not None and (ref.study, ref.series) != (parts[0], parts[1]):
                ref = None
            return ref or _unknown(name)
        for separator in _SEPARATORS:
            patient, found, sop_instance = name.rpartition(separator)
            if not found or sop_instance.startswith("\\") or not is_uid(sop_instance):
                continue
            ref = self._finder.instance(sop_instance)
            if ref is not None and patient and ref.patient_id.rstrip() != patient.rstrip():
                ref = None
            if ref is not None or "/" not in patient:
                return ref or _unknown(name)
        return None

    def _stored(self, ref: InstanceRef) -> ElementTable:
        # It stays valid: it is in memory, or has a long file open of its own.
        with self._exporter.table(ref) as table:
            return table

    def read(self, query: ElementTable, header_bytes: int = 0) -> Iterator[ElementTable]:
        """Yield the stored objects that an IMAGE level query finds.

        (9999,0C00) to (9999,0C02) say order, limit and offset, (9999,0202) is the list of a
        `scrub` of each object.

        Args:
            query: the keys; wildcards and ranges as in C-FIND.
            header_bytes: read so much of each file only; all of it where that ends before Rows.

        Raises:
            RuleError: an object cannot be read, or they take more memory than there is.
        """
        size = longs = 0
        scrub = query.text(_SCRUB).strip()
        for ref in self._matching(query):
            table = self._header(ref, header_bytes) if header_bytes > 0 else None
            try:
                table = table or self._stored(ref)
            except DatabaseAway:
                raise
            except StoreError as exc:
                raise RuleError(f"object {ref.sop_instance} cannot be read: {exc}") from exc
            if table.size <= LOADED_BYTES:
                size += table.size
            else:
                longs += 1
            self._check(size, "objects of the archive")
            if longs > _MOST_LONG:
                raise RuleError(
                    f"more than {_MOST_LONG} objects of over {LOADED_BYTES >> 20} MiB are found",
                    remedy="ask for less at a time, or for the beginnings of the objects only",
                )
            if scrub:
                self._run_script(f"scrub {scrub}", table)
            yield table

    def _header(self, ref: InstanceRef, header_bytes: int) -> ElementTable | None:
        """Return the beginning of an object, None where it does not reach as far as Rows."""
        try:
            with closing(self._exporter.open(ref)) as outgoing:
                head = bytes(next(iter(outgoing.chunks(header_bytes)), b""))
                table = ElementTable(head, outgoing.syntax)
        except NotDicom:
            return None
        except StoreError as exc:
            raise RuleError(f"object {ref.sop_instance} cannot be read: {exc}") from exc
        return table if 0x00280010 in table else None

    def add(self, table: ElementTable) -> None:
        """Store a copy without import and export converters; it is durable on return.

        One that takes the place of a stored object leaves a record of change (`ChangeLog`).

        Raises:
            RuleError: the archive refuses it.
        """
        try:
            self._store(table, self._replaced_by(table))
        except (DatabaseAway, RuleError):
            raise
        except StoreError as exc:
            raise RuleError(f"the object was not stored: {exc}") from exc

    def _replaced_by(self, table: ElementTable) -> ElementTable | None:
        """Return the stored object that an object would replace, where changes are recorded."""
        if not self._settings.change_log:
            return None
        ref = self._finder.instance(table.text(SOP_UID))
        if ref is None:
            return None
        try:
            return self._stored(ref)
        except DatabaseAway:
            raise
        except StoreError as exc:
            # It must be possible to store what is lost once more.
            log.warning("What a script replaced is not recorded: %s", exc)
            return None

    def _store(
        self,
        table: ElementTable,
        original: ElementTable | None = None,
        *,
        must_be_new: bool = False,
    ) -> Receipt:
        own = self._settings.ae_title
        sop_class, sop_instance = table.text(0x00080016), table.text(SOP_UID)
        payload = self._ingest.payload(table.syntax, sop_class, sop_instance, own)
        try:
            view = memoryview(table.tobytes())
            for start in range(0, len(view), 1 << 20):
                payload.append(view[start : start + (1 << 20)])
        except BaseException:
            payload.close()
            raise
        return self._ingest.store(
            Arrival(
                payload,
                table.syntax,
                own,
                own,
                skip_rules=True,
                original=original,
                changed_by=_WHO,
                must_be_new=must_be_new,
                replaces=True,
                source="script",
            )
        )

    def delete(self, query: ElementTable) -> int:
        """Delete what matches the identifiers, and return how many objects that was.

        Patient ID, study, series and SOP instance are compared as they are: letter case counts and
        nothing in them is a wildcard or a list. Other keys match as in C-FIND.

        Raises:
            RuleError: the query names nothing, which would mean the whole archive, an identifier
                has a wildcard or a backslash, or deliveries are still open; nothing of that study
                is deleted then.
        """
        refs = self._named_by(query)
        caretaker = self._tools()
        wanted: dict[str, list[InstanceRef]] = {}
        for ref in refs:
            wanted.setdefault(ref.study, []).append(ref)
        gone = 0
        for study, refs in wanted.items():
            for level, key in self._shares(caretaker, study, refs):
                gone += self._delete(caretaker, level, key)
        return gone

    def _shares(
        self, caretaker: Caretaker, study: str, refs: list[InstanceRef]
    ) -> Iterator[tuple[Level, str]]:
        """Yield what objects of a study are as a whole: the study, series, single objects."""
        if len(caretaker.deleter.find(Level.STUDY, study)) == len(refs):
            yield Level.STUDY, study
            return
        series: dict[str, list[InstanceRef]] = {}
        for ref in refs:
            series.setdefault(ref.series, []).append(ref)
        for uid, members in series.items():
            if len(caretaker.deleter.find(Level.SERIES, uid)) == len(members):
                yield Level.SERIES, uid
            else:
                yield from ((Level.IMAGE, ref.sop_instance) for ref in members)

    def _delete(self, caretaker: Caretaker, level: Level, key: str) -> int:
        gone = 0
        try:
            for step in caretaker.deleter.delete(level, key, who=_WHO, why="asked by a script"):
                gone = step.images
        except StoreError:
            raise
        except DgateError as exc:
            raise RuleError(exc.what, where=exc.where, remedy=exc.remedy) from exc
        return gone

    def studies_of(self, dates: str) -> list[str]:
        """Return the Study Instance UIDs of a date or range of dates, as C-FIND matches them."""
        keys = [QueryKey(_STUDY_DATE, dates), QueryKey(STUDY_UID)]
        found = [each[STUDY_UID] for each in self._finder.find(Level.STUDY, keys)]
        return [uid for uid in found if uid]

    def files_of(self, series: str) -> list[str]:
        """Return the paths of the files of a series, in the order of its images."""
        refs = self._finder.select([QueryKey(SERIES_UID, series)], Level.SERIES)
        return [str(self._exporter.path(ref)) for ref in refs]

    def named(self, query: ElementTable) -> Iterator[ElementTable]:
        """Yield the stored objects that have the identifiers of a query, found as by `delete`."""
        for ref in self._named_by(query):
            yield self._stored(ref)

    def modify(self, query: ElementTable, script: str | Change, *, copy: bool) -> int:
        """Run import statements on all matching objects; return how many were changed.

        They are found as by `delete`. With `ChangeLog` what changes is recorded, but for copies.
        Each object is changed by itself: an error leaves those before it changed. One that the
        script destroys or rejects is left as it was.

        Args:
            copy: keep the original; the script must give the copy a SOPInstanceUID of its own.

        Raises:
            RuleError: the query names nothing or has a wildcard in an identifier, the script
                fails, it gives an object the SOPInstanceUID of another stored one, or the archive
                refuses a result.
        """
        changed = 0
        for ref in self._named_by(query):
            try:
                changed += self._modify(ref, script, copy)
            except (DatabaseAway, RuleError):
                raise
            except StoreError as exc:
                raise RuleError(f"object {ref.sop_instance} was not changed: {exc}") from exc
        return changed

    def _modify(self, ref: InstanceRef, script: str | Change, copy: bool) -> bool:
        table = self._stored(ref)
        original = None if copy or not self._settings.change_log else table.snapshot()
        verdict = script(table) if callable(script) else self._run_script(script, table)
        if verdict.forwards:
            raise RuleError(
                "a script that changes stored objects cannot forward",
                remedy="write the forward into an export converter",
            )
        if verdict.outcome is not Outcome.KEEP or not table.revision:
            return False
        is_new = table.text(SOP_UID) != ref.sop_instance
        if copy and not is_new:
            raise RuleError(
                "the copy has the SOPInstanceUID of the original",
                remedy="begin the script with newuids",
            )
        moves = is_new and not copy
        if moves:
            self._demand_no_debts(ref)
        receipt = self._store(table, original, must_be_new=is_new)
        if receipt.outcome is Stored.IGNORED:
            raise StoreError(
                "the archive leaves known objects as they are",
                remedy="set IgnoreRewrite = 0, or move the object to a storage device",
            )
        if moves:
            self._delete(self._tools(), Level.IMAGE, ref.sop_instance)
        return True

    def _demand_no_debts(self, ref: InstanceRef) -> None:
        extent = self._tools().deleter.extent(Level.IMAGE, ref.sop_instance, [ref])
        if extent.owed:
            raise RuleError(
                f"{extent.owed} deliveries of object {ref.sop_instance} are still open",
                remedy="wait for them, or cancel them (`dgate queue`)",
            )

    def _tools(self) -> Caretaker:
        try:
            return self._caretaker()
        except StoreError:
            raise
        except DgateError as exc:
            raise RuleError(exc.what, where=exc.where, remedy=exc.remedy) from exc

    def _demand_key(self, query: ElementTable) -> None:
        if not any(_bare(query.text(tag)).strip(f" {_WILDCARDS}") for tag in _KEYS):
            raise RuleError(
                "the object names no patient, study, series or image: that means everything",
                remedy="set PatientID, StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID",
            )

    def _named_by(self, query: ElementTable) -> list[InstanceRef]:
        """Return the objects that have exactly the identifiers of a query, which may be a header.

        Raises:
            RuleError: there is no identifier, or one with a wildcard or a backslash.
        """
        self._demand_key(query)
        for tag, name in _KEYS.items():
            if any(mark in query.text(tag) for mark in _WILDCARDS):
                raise RuleError(
                    f"{name} {query.text(tag)[:80]!r} has a wildcard or a backslash: what is "
                    "deleted or changed is named as it is",
                    remedy="find the objects with dicomquery or dicomread, and name each",
                )
        return [ref for ref in self._matching(query) if self._has_identity(ref, query)]

    def _has_identity(self, ref: InstanceRef, query: ElementTable) -> bool:
        """Tell whether an object has the identifiers of a query, letter by letter."""
        patient = fix_patient_id(_bare(query.text(PATIENT_ID)), self._settings)
        asked = (patient, *(_bare(query.text(tag)) for tag in (STUDY_UID, SERIES_UID, SOP_UID)))
        own = (_bare(ref.patient_id), ref.study, ref.series, ref.sop_instance)
        return all(wanted in ("", found) for wanted, found in zip(asked, own, strict=True))

    def _matching(self, query: ElementTable) -> list[InstanceRef]:
        keys = [
            QueryKey(tag, query.text(tag))
            for tag in query.tags()
            if not (tag >> 16 == _CONTROL_GROUP or tag in _NO_KEYS or tag & 0xFFFF == 0)
            and not query.is_sequence(tag)
            and query.text(tag).strip()
        ]
        page = _page(query)
        named = [*keys, QueryKey(SOP_UID)] if not any(k.tag == SOP_UID for k in keys) else keys
        found = [each[SOP_UID] for each in self._finder.find(Level.IMAGE, named, page)]
        refs = (self._finder.instance(uid) for uid in dict.fromkeys(found) if uid)
        return [ref for ref in refs if ref is not None]

    def _check(self, size_bytes: int, what: str) -> None:
        check_memory(size_bytes, self._limit_bytes, what)


def _bare(text: str) -> str:
    """Return a value without the padding that matching does not see."""
    return text.replace("\0", "").strip()


def _unknown(name: str) -> InstanceRef:
    raise StoreError("there is no such object", where=name)


def _page(query: ElementTable) -> Page:
    sort = query.text(_SORT).strip()
    limit, offset = query.text(_LIMIT).strip(), query.text(_OFFSET).strip()
    if not (sort or limit or offset):
        return EVERYTHING
    return Page(
        sort, int(limit) if limit.isdecimal() else None, int(offset) if offset.isdecimal() else 0
    )
