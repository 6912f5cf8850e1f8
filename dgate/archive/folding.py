"""Keeps the side table of searches, `dgate_folded`, true to rows that another program wrote.

dgate's own rows bring their search forms with them (`dgate.archive.index`). What the original
wrote, before the take-over or in between, is entered here: at the take-over at once, later in the
background, while searches look at the columns themselves (`Schema.folding`). SQLite only: servers'
tables are entered once, by `dgate.archive.schema`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.fold import search_forms
from dgate.archive.levels import Level, LevelTable, Schema, foldable
from dgate.archive.writer import Transaction, Writer
from dgate.errors import StoreError
from dgate.ops.rounds import Rounds

log = logging.getLogger(__name__)

_PAGE_ROWS = 1000
_JOB_FORMS = 200
"""So many corrections share a transaction."""
TROUBLE_S = 3600.0
"""Pause after an unexpected error."""
BEYOND_ASCII = "'*[^' || char(1) || '-' || char(127) || ']*'"

_DELETE = "DELETE FROM dgate_folded WHERE level = ? AND tag = ? AND folded = ? AND entity = ?"


class _Form(NamedTuple):
    """A search form that a row should have, or should not."""

    level: Level
    place: int
    """Which column of the table."""
    folded: str
    row: int
    """The row's number in SQLite: its key may be no UTF-8, and so nothing to compare with."""


class _Stale(NamedTuple):
    """A row of the side table without a value that it stands for."""

    level: Level
    place: int
    folded: str
    entity: str


def unplain_sql(column: str, *, is_name: bool) -> str:
    """Return the condition that a value may have search forms (`fold.search_forms`)."""
    beyond = f"{column} GLOB {BEYOND_ASCII}"
    if not is_name:
        return beyond
    return f"({beyond} OR instr({column}, '=') OR substr({column}, -1) = '^')"


def enter_forms(connection: Connection, table: LevelTable, places: Mapping[int, bool]) -> int:
    """Enter the search forms of a whole table, within the caller's transaction; returns how many.

    `places` are columns of the table, and whether each holds person names.
    """
    count = 0
    for place, is_name in places.items():
        for page in _unplain_rows(connection, table, place, is_name=is_name):
            for row, value in page:
                for folded in search_forms(value, is_name):
                    _enter(connection, table, _Form(table.level, place, folded, row))
                    count += 1
    return count


def _unplain_rows(
    connection: Connection, table: LevelTable, place: int, *, is_name: bool
) -> Iterator[list[tuple[int, str]]]:
    """Yield number and value of the rows whose value in a column may have search forms."""
    column = table.names[place]
    sql = (
        f"SELECT rowid, {column} FROM {table.name} WHERE rowid > ? AND "
        f"{unplain_sql(column, is_name=is_name)} ORDER BY rowid LIMIT {_PAGE_ROWS}"
    )
    last = -(1 << 62)
    while rows := connection.execute(sql, (last,)).fetchall():
        yield rows
        last = rows[-1][0]


def _enter(connection: Connection | Transaction, table: LevelTable, form: _Form) -> None:
    # Copied within the database, the key stays what it is byte for byte.
    connection.execute(
        "INSERT OR IGNORE INTO dgate_folded (level, tag, folded, entity) "
        f"SELECT ?, ?, ?, {table.key} FROM {table.name} "
        f"WHERE rowid = ? AND {table.key} IS NOT NULL",
        (table.level.depth, table.columns[form.place].tag, form.folded, form.row),
    )


class Folding:
    """Brings the side table up to date after a start, in a thread of its own.

    A kill leaves it as far as it came; the next start looks again.
    """

    def __init__(self, database: Database, schema: Schema, writer: Writer) -> None:
        self._database = database
        self._schema = schema
        self._writer = writer
        self._rounds = Rounds(
            "folding",
            self._complete,
            "Bringing the side table up to date failed unexpectedly.",
            trouble_s=TROUBLE_S,
        )

    def start(self) -> None:
        """Begin, unless the side table is complete."""
        if self._schema.folding.complete or not self._schema.levels:
            return
        self._rounds.start()

    def apply(self, generation: object) -> None:
        """No setting matters here."""

    def stop(self) -> None:
        """End and join the thread; safe to call twice."""
        self._rounds.stop()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the side table is complete; for those who want to be sure."""
        self._rounds.await_end(timeout_s)
        return self._schema.folding.complete

    def _complete(self) -> None:
        """Do it once; the only step of the thread."""
        try:
            entered, removed = self.reconcile()
        except StoreError as exc:
            log.warning(
                "Searches go on without the side table, and slower, until the next start: %s", exc
            )
            return
        if self._rounds.is_stopping():
            return
        self._schema.folding.complete = True
        if entered or removed:
            log.info(
                "Another program has changed the index: %d search forms entered, %d removed.",
                entered,
                removed,
            )

    def reconcile(self) -> tuple[int, int]:
        """Enter what is missing, remove what is stale; returns how many of each.

        Raises StoreError when the database is away.
        """
        entered = removed = 0
        for table in self._schema.levels:
            for place, is_name in foldable(table).items():
                for forms in self._missing(table, place, is_name=is_name):
                    entered += self._correct(table, place, forms, ())
                for stale in self._stale(table, place, is_name=is_name):
                    removed += self._correct(table, place, (), stale)
        return entered, removed

    def _missing(self, table: LevelTable, place: int, *, is_name: bool) -> Iterator[list[_Form]]:
        """Yield the forms that rows have and the side table lacks."""
        known = (
            f"SELECT 1 FROM dgate_folded WHERE level = {table.level.depth} "
            f"AND tag = {table.columns[place].tag} AND folded = ? AND entity = "
            f"(SELECT {table.key} FROM {table.name} WHERE rowid = ?)"
        )
        found: list[_Form] = []
        with self._database.reader() as connection:
            for page in _unplain_rows(connection, table, place, is_name=is_name):
                if self._rounds.is_stopping():
                    return
                for row, value in page:
                    for folded in search_forms(value, is_name):
                        if connection.execute(known, (folded, row)).fetchone() is None:
                            found.append(_Form(table.level, place, folded, row))
                if len(found) >= _JOB_FORMS:
                    yield found
                    found = []
        if found:
            yield found

    def _stale(self, table: LevelTable, place: int, *, is_name: bool) -> Iterator[list[_Stale]]:
        """Yield the rows of the side table whose value is another one by now, or gone."""
        sql = (
            f"SELECT f.folded, f.entity, max(t.{table.names[place]}) FROM dgate_folded AS f "
            f"LEFT JOIN {table.name} AS t ON t.{table.key} = f.entity "
            f"WHERE f.level = {table.level.depth} AND f.tag = {table.columns[place].tag} "
            "AND (f.folded, f.entity) > (?, ?) GROUP BY f.folded, f.entity "
            f"ORDER BY f.folded, f.entity LIMIT {_PAGE_ROWS}"
        )
        last = ("", "")
        with self._database.reader() as connection:
            while rows := connection.execute(sql, last).fetchall():
                if self._rounds.is_stopping():
                    return
                yield [
                    _Stale(table.level, place, folded, entity)
                    for folded, entity, value in rows
                    if folded not in search_forms(value, is_name)
                ]
                if (rows[-1][0], rows[-1][1]) <= last:
                    # A key that is no UTF-8 cannot be gone on from; such rows are few.
                    return
                last = (rows[-1][0], rows[-1][1])

    def _correct(
        self, table: LevelTable, place: int, missing: Iterable[_Form], stale: Iterable[_Stale]
    ) -> int:
        """Put right what still is wrong when the writer comes to it; returns how many."""
        is_name = foldable(table)[place]
        column = table.names[place]
        missing, stale = list(missing), list(stale)
        if not missing and not stale:
            return 0

        def value(transaction: Transaction, condition: str, parameter: int | str) -> str | None:
            row = transaction.execute(
                f"SELECT {column} FROM {table.name} WHERE {condition}", (parameter,)
            ).fetchone()
            return None if row is None else row[0]

        def work(transaction: Transaction) -> int:
            count = 0
            for form in missing:
                if form.folded in search_forms(value(transaction, "rowid = ?", form.row), is_name):
                    _enter(transaction, table, form)
                    count += 1
            for old in stale:
                now = value(transaction, f"{table.key} = ?", old.entity)
                if old.folded not in search_forms(now, is_name):
                    tag = table.columns[place].tag
                    key = (table.level.depth, tag, old.folded, old.entity)
                    count += transaction.execute(_DELETE, key).rowcount
            return count

        return self._writer.transact(work)
