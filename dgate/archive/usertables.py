"""Tables of the index as scripts use them: `dbquery`, `sql`, `get_sqldef`, `listoldestpatients`.

Statements are the administrator's own text; those that change something run on a connection of
their own, so that nothing in them can end or undo what others write. Any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import TypeVar

from dgate.archive.connection import Value
from dgate.archive.database import Database
from dgate.archive.index import Index
from dgate.archive.levels import Schema, bare
from dgate.archive.maintenance.clean import Lru
from dgate.archive.usersql import UserSql
from dgate.archive.writer import Writer
from dgate.config.layout import Layout
from dgate.errors import DatabaseAway, DgateError, RuleError
from dgate.rules.actions import check_memory

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class UserTables:
    """The tables of one archive."""

    def __init__(
        self,
        database: Database,
        schema: Schema,
        writer: Writer,
        index: Index,
        layout: Layout,
        *,
        memory_limit_bytes: int,
    ) -> None:
        """`memory_limit_bytes`: so much a result may take."""
        self._database = database
        self._schema = schema
        self._writer = writer
        self._index = index
        self._layout = layout
        self._limit_bytes = memory_limit_bytes
        tables = [bare(table.name) for table in schema.levels]
        if schema.worklist is not None:
            tables.append(bare(schema.worklist))
        self._sql = UserSql(database.engine, tables)

    def query(
        self,
        tables: str,
        fields: str,
        where: str = "",
        sort: str = "",
        parameters: Sequence[Value] = (),
    ) -> list[list[str]] | None:
        """Return the rows of a SELECT as text, NULL as empty; None when it is refused.

        Args:
            tables: the FROM clause.
            fields: what to select.
            where: a condition, which may have `?` for parameters.
            sort: the ORDER BY clause.
            parameters: values for the `?`, bound by the driver: nothing in them is SQL.

        Raises:
            DatabaseAway: the database does not answer.
            RuleError: the result takes more memory than there is for it.
        """
        text = f"SELECT {fields} FROM {tables}"
        text += f" WHERE {where}" if where.strip() else ""
        text += f" ORDER BY {sort}" if sort.strip() else ""
        try:
            statement = self._sql.statement(text, len(parameters))
        except RuleError as exc:
            return self._refused(text, exc, None)
        rows: list[list[str]] = []
        size = 0
        with self._database.reader() as connection:
            try:
                stream = connection.stream(statement, parameters)
                while batch := stream.fetchmany(1000):
                    for row in batch:
                        rows.append(["" if value is None else _text(value) for value in row])
                        size += sum(map(len, rows[-1])) + 64 * len(row)
                    self._check(size, "rows of the query")
            except self._database.errors as exc:
                return self._refused(text, self._meaning(exc), None)
        return rows

    def execute(self, statement: str, parameters: Sequence[Value] = ()) -> bool:
        """Execute and commit one statement; False when the database refuses it.

        What searches without case and accents need is brought up to date by the next start.

        Raises:
            DatabaseAway: the database does not answer.
        """
        try:
            made = self._sql.statement(statement, len(parameters))
            with closing(self._database.connect()) as connection:
                try:
                    connection.execute(made, *([tuple(parameters)] if parameters else []))
                except self._database.errors as exc:
                    raise self._meaning(exc) from exc
            # Rows that intake remembers may be others now.
            self._writer.transact(self._index.forget)
        except DgateError as exc:
            return self._refused(statement, exc, False)
        return True

    def _meaning(self, exc: Exception) -> DgateError:
        """Return what a driver's error means: a fault of the statement, or of the database."""
        if self._database.is_mistake(exc):
            return RuleError(str(exc).strip())
        return self._database.failure(exc)

    def _refused(self, text: str, cause: DgateError, answer: _T) -> _T:
        """Log why a statement failed and return the answer, unless the database is away."""
        if isinstance(cause, DatabaseAway):
            raise cause
        log.error("A script's SQL statement failed: %s: %s", " ".join(text.split())[:200], cause)
        return answer

    def column(self, level: int, row: int) -> tuple[int, int, str, int, str, str] | None:
        """Return a row of dicom.sql: group, element, column, length, SQL type, DICOM type."""
        layout = self._layout
        tables = (layout.patient, layout.study, layout.series, layout.image, layout.worklist)
        table = tables[level] if 0 <= level < len(tables) else None
        if table is None or not 0 <= row < len(table.columns):
            return None
        column = table.columns[row]
        return (
            column.tag >> 16,
            column.tag & 0xFFFF,
            column.name,
            column.length,
            column.sql_type.value,
            column.dicom_type.value,
        )

    def oldest_patients(self, most: int, device: str, sort: str) -> list[str]:
        """Return patient IDs by the latest value of a column, the lowest first.

        Args:
            most: how many; a negative number gives those with the highest value.
            device: only patients with objects on it; empty = all.
            sort: a column of the index; empty = AccessTime.

        Raises:
            RuleError: there is no such column, or no index.
        """
        if not self._schema.levels:
            raise RuleError("no index is kept, so there are no patients", remedy="set SQLServer")
        lru = Lru(self._database, self._schema, sort)
        if lru.problem:
            raise RuleError(
                f"{sort} names no column of the index",
                remedy="use StudyDate, PatientBir or AccessTime",
            )
        if most < 0:
            return lru.latest(-most, device or None)
        return list(islice(lru.patients(device or None), most))

    def _check(self, size_bytes: int, what: str) -> None:
        check_memory(size_bytes, self._limit_bytes, what)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
