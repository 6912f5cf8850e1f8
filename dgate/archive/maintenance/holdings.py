"""What the archive holds of a patient, study, series or object, and taking it out of the index.

Not for files (`dgate.archive.maintenance.removals`) nor for deciding (`delete`, `clean`).
`take_out` runs inside a job of the writer; the questions may be asked from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from dgate.archive.connection import Connection, Row
from dgate.archive.database import Database
from dgate.archive.debttable import FORGET_SENT, OPEN_SQL
from dgate.archive.index import Index
from dgate.archive.jobs import reference
from dgate.archive.levels import Level, Schema
from dgate.archive.records import InstanceRef, stored_name
from dgate.archive.rows import Entry, Values
from dgate.archive.schema import DELETE_FOLDED
from dgate.archive.statements import RowStatements
from dgate.archive.writer import Transaction
from dgate.config.layout import PATIENT_ID, Layout
from dgate.dicom.element import SOP_CLASS_UID
from dgate.errors import DgateError

log = logging.getLogger(__name__)

OPEN = OPEN_SQL
"""Literal states, or the partial index could not serve."""
# A request that deletes, merges or reads ahead owes nobody anything, nor does a script at work,
# which may want to delete what it has worked on.
_NOT_OWED = (
    "destination IN ('delayed delete', 'delayed merge', 'delayed prefetch') "
    "OR (destination = 'delayed process' AND state = 'leased')"
)
_OWED = (
    f"SELECT COUNT(*) FROM dgate_debts WHERE {OPEN} "
    f"AND kind NOT IN ('mirror', 'commit', 'report') AND NOT ({_NOT_OWED}) AND "
)
_END = (
    "UPDATE dgate_debts SET state = 'cancelled', finished = ?, last_error = ?, owner = NULL, "
    f"lease_until = NULL WHERE {OPEN} AND device NOT IN ('SPOOL', 'REQUEST') AND sop_instance = ?"
)
_FOLLOW = (
    "UPDATE dgate_debts SET sop_instance = ?, patient_id = ?, study = ?, series = ?, device = ?, "
    f"name = ? WHERE {OPEN} AND device NOT IN ('SPOOL', 'REQUEST') AND sop_instance = ?"
)
# Without the context, by which what is collected would count the new object as sent.
_FOLLOW_DELIVERED = (
    "UPDATE dgate_debts SET sop_instance = ?, patient_id = ?, study = ?, series = ?, context = '' "
    "WHERE sop_instance = ? AND kind = 'deliver' AND state = 'done' AND committed IS NULL"
)
_IN_DEBTS = {
    Level.PATIENT: "patient_id",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "sop_instance",
}
_KEYS = {
    Level.PATIENT: attrgetter("patient_id"),
    Level.STUDY: attrgetter("study"),
    Level.SERIES: attrgetter("series"),
    Level.IMAGE: attrgetter("sop_instance"),
}


class Holdings:
    """The rows of the index as maintenance sees them."""

    def __init__(self, database: Database, schema: Schema, layout: Layout, index: Index) -> None:
        """Prepare the statements.

        Raises:
            DgateError: no index is kept.
        """
        if not schema.levels:
            raise DgateError(
                "no index is kept, so there is nothing to maintain", remedy="set SQLServer"
            )
        self._database = database
        self._index = index
        self._rows = {table.level: RowStatements(database, table) for table in schema.levels}
        self._schema = schema
        self._unordered = self._selects()
        tables = schema.levels
        study, image = tables[1], tables[3]
        order = database.sql(f" ORDER BY {study.name}.{study.key}, {image.name}.{image.names[-1]}")
        self._select = {level: select + order for level, select in self._unordered.items()}
        self._series_rows = database.sql(
            f"SELECT {', '.join(tables[3].names)} FROM {tables[3].name} "
            f"WHERE {tables[3].names[-1]} = ?"
        )
        self._parents = {
            Level.SERIES: database.sql(
                f"SELECT {tables[2].names[-1]} FROM {tables[2].name} WHERE {tables[2].key} = ?"
            ),
            Level.STUDY: database.sql(
                f"SELECT {tables[1].names[-1]} FROM {tables[1].name} WHERE {tables[1].key} = ?"
            ),
        }
        self._newest = database.sql(
            f"SELECT MAX({tables[3].extra['accesstime']}) FROM {tables[3].name} "
            f"WHERE {tables[3].names[-1]} = ?"
        )
        self._studies_of = database.sql(
            f"SELECT {tables[1].key} FROM {tables[1].name} WHERE {tables[1].names[-1]} = ?"
        )
        self._worklist = self._worklist_statement(layout)

    def select(
        self, level: Level, key: str, connection: Connection | Transaction | None = None
    ) -> list[InstanceRef]:
        """Return all objects of an entity, by study and series; letter case counts."""
        if connection is None:
            with self._database.reader() as own:
                return self.select(level, key, own)
        rows = connection.execute(self._select[level], (key,)).fetchall()
        refs = [_reference(row) for row in rows]
        # MariaDB compares without case, and whatever the blanks at the end.
        return [ref for ref in refs if _KEYS[level](ref) == key]

    def each(self, level: Level, key: str) -> Iterator[InstanceRef]:
        """Yield the same one by one, however many they are, in any order: SQLite would sort them
        in memory."""
        for row in self._database.rows(self._unordered[level], (key,)):
            ref = _reference(row)
            if _KEYS[level](ref) == key:
                yield ref

    def knows(self, level: Level, key: str) -> bool:
        """Tell whether an entity has a row, with or without objects."""
        with self._database.reader() as connection:
            rows = connection.execute(self._rows[level].select, (key,)).fetchall()
        return any(row[0] == key for row in rows)

    def studies(self, patient_id: str) -> list[str]:
        """Return the Study Instance UIDs of a patient."""
        with self._database.reader() as connection:
            return [
                row[0] for row in connection.execute(self._studies_of, (patient_id,)).fetchall()
            ]

    def owed(self, connection: Connection | Transaction, level: Level, key: str) -> int:
        """Return how many deliveries of an entity are open; copies for mirrors do not count."""
        refs = self.select(level, key, connection) if level is Level.SERIES else None
        owed = self._deliveries(connection, level, key, refs)
        if owed:
            return owed
        # A request names the object that asked for it, and may mean all of the patient.
        if refs is None:
            refs = self.select(level, key, connection)
        patients = {ref.patient_id for ref in refs}
        requests = self._database.sql(f"{_OWED}kind = 'request' AND patient_id = ?")
        return sum(
            int(connection.execute(requests, (patient,)).fetchone()[0]) for patient in patients
        )

    def _deliveries(
        self,
        connection: Connection | Transaction,
        level: Level,
        key: str,
        refs: Sequence[InstanceRef] | None,
    ) -> int:
        """Return what is open by the rows of the debts; `refs` are the objects of a series."""
        condition = f"{_OWED}{_IN_DEBTS[level]} = ?"
        studies = {ref.study for ref in refs or ()}
        if not studies or "" in studies:
            statement = self._database.sql(condition)
            return int(connection.execute(statement, (key,)).fetchone()[0])
        # The ledger has no index by series.
        statement = self._database.sql(f"{condition} AND study = ?")
        return sum(
            int(connection.execute(statement, (key, study)).fetchone()[0]) for study in studies
        )

    def owed_now(self, level: Level, key: str, refs: Sequence[InstanceRef]) -> int:
        """Return the same, outside a transaction: by the entity and, for a patient, its studies,
        whose objects may have come under another spelling of the ID."""
        with self._database.reader() as connection:
            return self.owed_by_studies(connection, level, key, refs)

    def owed_by_studies(
        self,
        connection: Connection | Transaction,
        level: Level,
        key: str,
        refs: Sequence[InstanceRef],
    ) -> int:
        """Return the open deliveries of an entity, of which these are the objects."""
        if level is not Level.PATIENT:
            return self.owed(connection, level, key)
        studies = {ref.study for ref in refs}
        return sum(self.owed(connection, Level.STUDY, study) for study in studies)

    def newest(
        self, refs: Sequence[InstanceRef], connection: Connection | Transaction | None = None
    ) -> float:
        """Return when the last object of the series of these was stored, in seconds since the
        epoch."""
        if connection is None:
            with self._database.reader() as own:
                return self.newest(refs, own)
        found = [
            connection.execute(self._newest, (series,)).fetchone()[0]
            for series in {ref.series for ref in refs}
        ]
        return float(max((time for time in found if time), default=0))

    # Inside a job of the writer.

    def take_out(self, transaction: Transaction, refs: Sequence[InstanceRef]) -> list[InstanceRef]:
        """Remove the rows of those objects that are still there as they were found, with the
        series, studies and patients that they leave empty; returns the objects."""
        taken: list[InstanceRef] = []
        parents: dict[str, None] = {}
        for series, group in groupby(refs, key=attrgetter("series")):
            taken += self._take_out_of(transaction, series, list(group))
            parents[series] = None
        if taken:
            self._index.forget(transaction)
            sent = [(ref.sop_instance,) for ref in taken]
            transaction.executemany(self._database.sql(FORGET_SENT), sent)
            self._remove_empty(transaction, parents)
        return taken

    def end_debts(
        self, transaction: Transaction, refs: Iterable[InstanceRef], now: float, why: str
    ) -> None:
        """Cancel what is owed of objects that go; copies of their own in the spool stay owed."""
        statement = self._database.sql(_END)
        transaction.executemany(statement, [(now, why, ref.sop_instance) for ref in refs])

    def follow(
        self, transaction: Transaction, old: InstanceRef, entry: Entry, device: str, name: str
    ) -> InstanceRef:
        """Let what is owed of an object go on for what has taken its place; returns that. Copies of
        their own in the spool stay as they are."""
        new = reference(entry, device, name)
        values = (new.sop_instance, new.patient_id, new.study, new.series, device, name)
        statement = self._database.sql(_FOLLOW)
        transaction.execute(statement, (*values, old.sop_instance))
        if new.sop_instance != old.sop_instance:
            # Not committed to, it may have to stay (CommitBeforeDelete), under its new name.
            statement = self._database.sql(_FOLLOW_DELIVERED)
            transaction.execute(statement, (*values[:4], old.sop_instance))
        return new

    def forget_worklist(self, transaction: Transaction, patient_id: str) -> int:
        """Remove the worklist rows of a patient; returns how many there were."""
        if self._worklist is None:
            return 0
        return max(0, transaction.execute(self._worklist, (patient_id,)).rowcount)

    def _take_out_of(
        self, transaction: Transaction, series: str, refs: list[InstanceRef]
    ) -> list[InstanceRef]:
        level = self._rows[Level.IMAGE]
        present = {ref.sop_instance: ref for ref in self.select(Level.SERIES, series, transaction)}
        taken = [ref for ref in refs if (now := present.get(ref.sop_instance)) and _same(now, ref)]
        keys = {ref.sop_instance for ref in taken}
        if level.folded:
            rows: list[Values] = transaction.execute(self._series_rows, (series,)).fetchall()
            self._unfold(transaction, level, [tuple(row) for row in rows if row[0] in keys])
        transaction.executemany(level.delete, [(key,) for key in keys])
        return taken

    def _remove_empty(self, transaction: Transaction, series: Iterable[str]) -> None:
        keys: dict[str, None] = dict.fromkeys(key for key in series if key)
        for level, children in (
            (Level.SERIES, Level.IMAGE),
            (Level.STUDY, Level.SERIES),
            (Level.PATIENT, Level.STUDY),
        ):
            above: dict[str, None] = {}
            for key in keys:
                occupied = self._rows[children].has_parent
                if transaction.execute(occupied, (key,)).fetchone() is not None:
                    continue
                if level in self._parents:
                    row = transaction.execute(self._parents[level], (key,)).fetchone()
                    if row is not None and row[0]:
                        above[row[0]] = None
                self._delete(transaction, level, key)
            keys = above

    def _delete(self, transaction: Transaction, level: Level, key: str) -> None:
        statements = self._rows[level]
        if statements.folded:
            rows = transaction.execute(statements.select, (key,)).fetchall()
            self._unfold(transaction, statements, [tuple(row[:-1]) for row in rows])
        transaction.execute(statements.delete, (key,))

    def _unfold(
        self, transaction: Transaction, level: RowStatements, rows: Iterable[Values]
    ) -> None:
        forms = [form for row in rows for form in level.search_rows(row)]
        if forms:
            transaction.executemany(self._database.sql(DELETE_FOLDED), forms)

    def _selects(self) -> dict[Level, str]:
        """Return, by level, the statement that selects the objects of an entity."""
        _, study, series, image = self._schema.levels
        sop_class, patient = image.position(SOP_CLASS_UID), image.position(PATIENT_ID)
        owner = f"{study.name}.{study.names[-1]}"
        columns = ", ".join(
            (
                "NULL" if sop_class is None else f"{image.name}.{image.names[sop_class]}",
                f"{image.name}.{image.key}",
                owner
                if patient is None
                else f"COALESCE({owner}, {image.name}.{image.names[patient]})",
                f"{series.name}.{series.names[-1]}",
                f"{image.name}.{image.names[-1]}",
                f"{image.name}.{image.extra['devicename']}",
                f"{image.name}.{image.extra['objectfile']}",
            )
        )
        # Left: an object whose series row is missing can be named by its own UID.
        source = (
            f"{image.name} LEFT JOIN {series.name} "
            f"ON {series.name}.{series.key} = {image.name}.{image.names[-1]} "
            f"LEFT JOIN {study.name} ON {study.name}.{study.key} = {series.name}.{series.names[-1]}"
        )
        places = {
            Level.PATIENT: owner,
            Level.STUDY: f"{series.name}.{series.names[-1]}",
            Level.SERIES: f"{image.name}.{image.names[-1]}",
            Level.IMAGE: f"{image.name}.{image.key}",
        }
        return {
            level: self._database.sql(f"SELECT {columns} FROM {source} WHERE {place} = ?")
            for level, place in places.items()
        }

    def _worklist_statement(self, layout: Layout) -> str | None:
        if self._schema.worklist is None or layout.worklist is None:
            return None
        column = layout.worklist.column(PATIENT_ID)
        if column is None:
            return None
        name = self._database.quote(column.name)
        return self._database.sql(f"DELETE FROM {self._schema.worklist} WHERE {name} = ?")


def by_study(refs: Iterable[InstanceRef]) -> Iterator[list[InstanceRef]]:
    """Yield the objects study by study, in the order of `Holdings.select`."""
    for _, group in groupby(refs, key=attrgetter("study")):
        yield list(group)


def _reference(row: Row) -> InstanceRef:
    sop_class, sop_instance, patient, study, series, device = [value or "" for value in row[:-1]]
    name = stored_name(row[-1])
    return InstanceRef(sop_class, sop_instance, patient, study, series, device, name)


def _same(now: InstanceRef, found: InstanceRef) -> bool:
    """Tell whether an object still lies where it was found."""
    return (now.device, now.name) == (found.device, found.name)
