"""The index rows of stored objects: entering, finding, removing (spec dicom-sql.md 4.2 and 4.3).

Not for queries by peers (`dgate.archive.query`) nor files. Everything that takes a `Transaction`
runs inside a job of `dgate.archive.writer`, hence one at a time; `entry`, `counts`, `rewrites` and
`known_copies` may be called from any thread.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dgate.archive.connection import Connection, Row
from dgate.archive.database import Database
from dgate.archive.levelrows import LevelRows, is_same
from dgate.archive.levels import Level, Schema
from dgate.archive.owing import DebtRows
from dgate.archive.records import DebtDraft, InstanceRef, stored_name
from dgate.archive.repair import Repaired
from dgate.archive.rows import Entry, RowReader, Values
from dgate.archive.statements import (
    compile_statements,
    joined_modalities,
)
from dgate.archive.writer import Transaction
from dgate.dicom.table import ElementTable
from dgate.errors import Refused

log = logging.getLogger(__name__)

LOOK_UP_CACHE_KIB = 1024
CACHED_ROWS = 256
"""Rows remembered per level, so that the thousandth image of a series does not write its study
again."""
_LINK = "Refused to enter inconsistent link"


class IndexSettings(Protocol):
    """The settings that decide about index rows."""

    @property
    def allow_truncate(self) -> frozenset[str]: ...
    @property
    def allow_empty_patient_id(self) -> bool: ...


class Counts(NamedTuple):
    """How much the index holds."""

    patients: int
    studies: int
    series: int
    instances: int


class Rewrite(NamedTuple):
    """A committed replacement of a stored file: the file with this hash is the valid one."""

    sop_instance: str
    sha256: str
    device: str
    name: str


@dataclass(slots=True)
class _Known:
    """A row as it was last written or read."""

    row: Values
    """The values that were asked for, not those that are stored: equal ones need no second
    update."""
    owner: str = ""
    """Patient to whom the study belongs."""
    modalities: frozenset[str] = frozenset()


class _Shared:
    """What an index has in common with its forms under other settings."""

    def __init__(self) -> None:
        # One connection of its own: for every object, the pool would cost more than the query.
        self.look_up_lock = threading.Lock()
        self.look_up_connection: Connection | None = None
        self.epoch = -1
        """Owned by the leader of the writer's running group, as are the remembered rows."""


class Index:
    """The one place that writes patient, study, series and image rows."""

    def __init__(self, database: Database, schema: Schema, settings: IndexSettings) -> None:
        self._database = database
        self._schema = schema
        self._settings = settings
        self._reader = RowReader(schema)
        self._indexed = bool(schema.levels)
        self.is_alone = database.embedded and schema.unique_instances
        """Whether no other gateway enters objects, so that what a look-up found still holds; and
        should another program have entered one, the database refuses the second row."""
        self._shared = _Shared()
        if self._indexed:
            self._sql = compile_statements(database, schema)
            self._rows = self._sql.rows
        self._debts = DebtRows(database)
        self._stored_rows = LevelRows(database)
        # Owned by the leader of the writer's running group. Only where no other gateway writes.
        self._patients: dict[str, _Known] = {}
        self._studies: dict[str, _Known] = {}
        self._series: dict[str, _Known] = {}

    def under(self, settings: IndexSettings) -> Index:
        """Return this index with other settings: what either remembers of rows, both know."""
        other = copy.copy(self)
        other._settings = settings
        return other

    def entry(self, table: ElementTable, repaired: Repaired) -> Entry:
        """Return what the index will hold of an object; `table` is the object as it is stored."""
        return self._reader.read(table, repaired)

    def look_up(self, entry: Entry) -> InstanceRef | None:
        """Return what `stored` would return now, for any thread and outside of a job."""
        if not self._indexed:
            return None
        shared = self._shared
        with shared.look_up_lock:
            connection = shared.look_up_connection
            if connection is not None and connection.is_stale():
                self._end_look_ups()
                connection = None
            if connection is None:
                connection = self._database.connect(LOOK_UP_CACHE_KIB)
                shared.look_up_connection = connection
            try:
                return self.stored(connection, entry)
            except self._database.errors as exc:
                self._end_look_ups()
                raise self._database.failure(exc) from exc

    def close(self) -> None:
        """Close the connection that look-ups use; a later look-up opens another."""
        with self._shared.look_up_lock:
            self._end_look_ups()

    def _end_look_ups(self) -> None:
        if self._shared.look_up_connection is not None:
            self._shared.look_up_connection.close()
            self._shared.look_up_connection = None

    def stored(self, transaction: Transaction | Connection, entry: Entry) -> InstanceRef | None:
        """Return the stored object with the entry's SOP Instance UID, None when it is new.

        Raises Refused when it belongs to another patient or series.
        """
        if not self._indexed:
            return None
        sop_instance = entry.sop_instance
        rows = transaction.execute(self._sql.find_image, (sop_instance,)).fetchall()
        if not rows:
            return None
        if len(rows) > 1:
            raise Refused("Duplicate found: two image rows have this SOP Instance UID")
        if self._rows[Level.IMAGE].patient is not None:
            self._check_patient(rows[0][1], entry, "the SOP instance")
        if (rows[0][0] or "") != entry.series:
            raise Refused(f"{_LINK}: the SOP instance is stored in another series")
        return self._reference(transaction, sop_instance, rows[0])

    def find(self, transaction: Transaction | Connection, sop_instance: str) -> InstanceRef | None:
        """Return the stored object with this SOP Instance UID, whoever it belongs to."""
        if not self._indexed:
            return None
        found = transaction.execute(self._sql.find_image, (sop_instance,)).fetchone()
        return None if found is None else self._reference(transaction, sop_instance, found)

    def enter(
        self,
        transaction: Transaction,
        entry: Entry,
        device: str,
        name: str,
        stored: InstanceRef | None,
        now: float,
    ) -> None:
        """Write the rows of an object kept as `name` on `device`; `stored` is what the method of
        that name returned.

        Raises Refused for an identity conflict (spec dicom-sql.md 4.3); the job's savepoint then
        undoes all its rows.
        """
        if not self._indexed:
            return
        if not (entry.sop_instance and entry.series and entry.study):
            raise Refused("the object has no SOP, Series or Study Instance UID")
        if transaction.epoch != self._shared.epoch or not self._database.embedded:
            self._forget(transaction.epoch)
        if self._settings.allow_empty_patient_id:
            entry = self._with_patient(transaction, entry)
        access = int(now) & ~31
        study = self._studies.get(entry.study)
        if (
            study is None
            or study.row != entry.study_row
            or (entry.modality and entry.modality not in study.modalities)
        ):
            study = self._enter_study(transaction, entry, access)
        series = self._series.get(entry.series)
        if series is None or series.row != entry.series_row:
            self._enter_series(transaction, entry, access)
        if study.owner:
            patient = self._patients.get(study.owner)
            if patient is None or patient.row != entry.patient_row:
                self._enter_patient(transaction, entry, study.owner, access)
        self._enter_image(transaction, entry, (access, name, device), stored)
        if entry.truncated:
            self._log_truncations(entry, name)

    def add_debts(
        self, transaction: Transaction, ref: InstanceRef, drafts: Sequence[DebtDraft], now: float
    ) -> None:
        """Enter what is owed for an object; see `DebtRows.add`."""
        self._debts.add(transaction, ref, drafts, now)

    def known_copies(self, names: Sequence[str]) -> dict[str, bool]:
        """Return those of these copies in the spool that have debts, and whether an open one still
        needs it; of at most `batches.AT_ONCE`, for any thread and outside of a job."""
        if not names:
            return {}
        sql = self._database.sql(
            "SELECT name, max(CASE WHEN state IN ('done', 'cancelled') THEN 0 ELSE 1 END) "
            "FROM dgate_debts WHERE device = 'SPOOL' "
            f"AND name IN ({', '.join('?' * len(names))}) GROUP BY name"
        )
        with self._database.reader() as connection:
            rows = connection.execute(sql, tuple(names)).fetchall()
        return {name: bool(needed) for name, needed in rows}

    def delete_instance(self, transaction: Transaction, sop_instance: str) -> InstanceRef | None:
        """Remove an object's row, with the series, study and patient that it leaves empty; returns
        what it was."""
        if not self._indexed:
            return None
        ref = self.find(transaction, sop_instance)
        if ref is None:
            return None
        parents = transaction.execute(self._sql.find_parents, (ref.series,)).fetchone()
        self._forget(transaction.epoch)
        self._stored_rows.delete(transaction, self._rows[Level.IMAGE], sop_instance)
        for level, key, children in (
            (Level.SERIES, ref.series, Level.IMAGE),
            (Level.STUDY, parents and parents[0], Level.SERIES),
            (Level.PATIENT, parents and parents[1], Level.STUDY),
        ):
            occupied = self._rows[children].has_parent
            if not key or transaction.execute(occupied, (key,)).fetchone() is not None:
                break
            self._stored_rows.delete(transaction, self._rows[level], key)
        return ref

    def forget(self, transaction: Transaction) -> None:
        """Forget what is remembered of rows: somebody else wrote some in this transaction."""
        self._forget(transaction.epoch)

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """Enter rows, within a job, without making any less recently used than it is."""
        self._stored_rows.keeps_access = True
        try:
            yield
        finally:
            self._stored_rows.keeps_access = False

    def counts(self) -> Counts:
        """Return how many rows each level has."""
        if not self._indexed:
            return Counts(0, 0, 0, 0)
        with self._database.reader() as connection:
            return Counts(
                *(
                    connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
                    for table in self._schema.levels
                )
            )

    def add_rewrite(self, transaction: Transaction, rewrite: Rewrite) -> None:
        """Note which file is valid once this transaction is committed."""
        sql = "DELETE FROM dgate_rewrites WHERE sop = ?"
        transaction.execute(self._database.sql(sql), (rewrite.sop_instance,))
        sql = "INSERT INTO dgate_rewrites (sop, sha256, device, name) VALUES (?, ?, ?, ?)"
        transaction.execute(self._database.sql(sql), tuple(rewrite))

    def forget_rewrites(self, transaction: Transaction, rewrites: Iterable[Rewrite]) -> None:
        """Forget replacements that are complete, not others of the same objects."""
        sql = "DELETE FROM dgate_rewrites WHERE sop = ? AND sha256 = ? AND device = ? AND name = ?"
        for rewrite in rewrites:
            transaction.execute(self._database.sql(sql), tuple(rewrite))

    def rewrites(self) -> list[Rewrite]:
        """Return the replacements that a crash may have left half done."""
        with self._database.reader() as connection:
            rows = connection.execute("SELECT sop, sha256, device, name FROM dgate_rewrites")
            return [Rewrite(*row) for row in rows.fetchall()]

    def _reference(
        self, transaction: Transaction | Connection, sop_instance: str, found: Row
    ) -> InstanceRef:
        series, patient, sop_class, name, device = found
        parents = transaction.execute(self._sql.find_parents, (series,)).fetchone()
        study, owner = parents or (None, None)
        return InstanceRef(
            sop_class or "",
            sop_instance,
            patient or owner or "",
            study or "",
            series or "",
            device or "",
            stored_name(name),
        )

    def _forget(self, epoch: int) -> None:
        self._shared.epoch = epoch
        for rows in (self._patients, self._studies, self._series):
            rows.clear()

    def _check_patient(self, stored: str | None, entry: Entry, what: str) -> None:
        if (stored or "").rstrip(" ") == entry.patient_id:
            return
        if self._settings.allow_empty_patient_id and not (stored and entry.patient_id):
            return
        raise Refused(f"{_LINK}: {what} belongs to another patient ID")

    def _enter_study(self, transaction: Transaction, entry: Entry, access: int) -> _Known:
        level = self._rows[Level.STUDY]
        row = entry.study_row
        old = self._stored_rows.select(transaction, level, row)
        owner = None if old is None else old.row[-1]
        if owner and not is_same(owner, entry.patient_id):
            raise Refused(f"{_LINK}: the study belongs to another patient ID")
        modalities = None
        if (
            level.modalities is not None
            and old is not None
            and not self._database.embedded
            and entry.modality not in (old.row[level.modalities] or "").split("\\")
        ):
            # Another gateway may be adding one at the same time.
            old = self._stored_rows.select(transaction, level, row, locked=True)
        if level.modalities is not None:
            place = level.modalities
            before = None if old is None else old.row[place]
            modalities = joined_modalities(before, entry.modality, level.columns[place].length)
            row = (*row[:place], modalities, *row[place + 1 :])
        written = self._stored_rows.write(transaction, level, old, row, (access,))
        # Without the column there is nothing to collect, so nothing to compare either.
        heard = frozenset(modalities.split("\\")) if modalities else frozenset()
        known = _Known(entry.study_row, written[-1] or "", heard | {entry.modality})
        return _remember(self._studies, entry.study, known)

    def _enter_series(self, transaction: Transaction, entry: Entry, access: int) -> None:
        level = self._rows[Level.SERIES]
        old = self._stored_rows.select(transaction, level, entry.series_row)
        if old is not None:
            if level.patient is not None:
                self._check_patient(old.row[level.patient], entry, "the series")
            if old.row[-1] and old.row[-1] != entry.study:
                raise Refused(f"{_LINK}: the series belongs to another study")
        self._stored_rows.write(transaction, level, old, entry.series_row, (access,))
        _remember(self._series, entry.series, _Known(entry.series_row))

    def _enter_patient(
        self, transaction: Transaction, entry: Entry, owner: str, access: int
    ) -> None:
        level = self._rows[Level.PATIENT]
        # The study's own patient: an ID that only counts as equal must not leave a patient without
        # studies.
        row = (owner, *entry.patient_row[1:])
        old = self._stored_rows.select(transaction, level, row)
        self._stored_rows.write(transaction, level, old, row, (access,))
        _remember(self._patients, owner, _Known(entry.patient_row))

    def _enter_image(
        self,
        transaction: Transaction,
        entry: Entry,
        place: tuple[int, str, str],
        stored: InstanceRef | None,
    ) -> None:
        level = self._rows[Level.IMAGE]
        old = (
            None
            if stored is None
            else self._stored_rows.select(transaction, level, entry.image_row)
        )
        self._stored_rows.write(transaction, level, old, entry.image_row, place)

    def _with_patient(self, transaction: Transaction, entry: Entry) -> Entry:
        """Return the entry with the study's patient where it has none; give a study without patient
        the entry's."""
        row = self._stored_rows.select(transaction, self._rows[Level.STUDY], entry.study_row)
        owner = None if row is None else row.row[-1]
        if not entry.patient_id:
            return entry if not owner else self._reader.with_patient(entry, owner)
        if row is not None and not owner:
            self._forget(transaction.epoch)
            for sql in self._sql.fill_patient:
                transaction.execute(sql, (entry.patient_id, entry.study))
        return entry

    def _log_truncations(self, entry: Entry, name: str) -> None:
        for cut in entry.truncated:
            allowed = cut.column in self._settings.allow_truncate
            log.log(
                logging.INFO if allowed else logging.WARNING,
                "%sTruncated %s from %d to %d chars in file: %s",
                "" if allowed else "***",
                cut.column,
                cut.length,
                cut.limit,
                name,
            )


def _remember(rows: dict[str, _Known], key: str, known: _Known) -> _Known:
    if key not in rows and len(rows) >= CACHED_ROWS:
        del rows[next(iter(rows))]
    rows[key] = known
    return known
