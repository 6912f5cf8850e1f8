"""Rows of the four levels, one at a time: read, written where they changed, removed.

Their search forms in `dgate_folded` go with them. Not for which rows an object has, nor what may
refuse it (`dgate.archive.index`). Runs inside jobs of `dgate.archive.writer`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dgate.archive.database import Database
from dgate.archive.levels import Level
from dgate.archive.rows import Values
from dgate.archive.schema import DELETE_FOLDED, INSERT_FOLDED
from dgate.archive.statements import RowStatements
from dgate.archive.writer import Transaction
from dgate.errors import Refused

log = logging.getLogger(__name__)

ACCESS_STEP_S = 3600
"""An unchanged row is written again for its AccessTime only after so long, not for each image."""
_BIRTH_DATE = 0x00100030


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of the database."""

    row: Values
    access: int


class LevelRows:
    """Reads and writes single rows."""

    def __init__(self, database: Database) -> None:
        self._insert_folded = database.sql(INSERT_FOLDED)
        self._delete_folded = database.sql(DELETE_FOLDED)
        self.keeps_access = False
        """Rows are entered out of old files: none may become less recently used by it. Owned by the
        leader of the writer's running group."""

    def select(
        self, transaction: Transaction, level: RowStatements, row: Values, *, locked: bool = False
    ) -> StoredRow | None:
        """Return the stored row with this one's key; with `locked`, no other gateway may change it
        before the end of the transaction. Raises Refused when there are two."""
        statement = level.select_locked if locked else level.select
        rows = transaction.execute(statement, row[:1]).fetchall()
        if len(rows) > 1:
            raise Refused(f"Duplicate found: two {level.level.value} rows have the same key")
        return StoredRow(tuple(rows[0][:-1]), rows[0][-1] or 0) if rows else None

    def write(
        self,
        transaction: Transaction,
        level: RowStatements,
        old: StoredRow | None,
        row: Values,
        extra: tuple[int, *tuple[str, ...]],
    ) -> Values:
        """Insert the row, or update the old one; returns what is stored then.

        `extra`: AccessTime, and for an image name and device.
        """
        if old is None:
            transaction.execute(level.insert, (*row, *extra))
            if level.folded:
                self._fold(transaction, [], level.search_rows(row))
            return row
        if self.keeps_access:
            extra = (max(extra[0], old.access), *extra[1:])
        merged = level.merged(old.row, row)
        changed = merged != old.row
        if level.level is not Level.IMAGE:
            if not changed and 0 <= extra[0] - old.access < ACCESS_STEP_S:
                return merged
            _log_differences(level, old.row, merged)
        transaction.execute(level.update, (*merged[1:], *extra, merged[0]))
        if level.folded and changed:
            self._fold(transaction, level.search_rows(old.row), level.search_rows(merged))
        return merged

    def delete(self, transaction: Transaction, statements: RowStatements, key: str) -> None:
        """Remove the row with this key."""
        if statements.folded:
            for row in transaction.execute(statements.select, (key,)).fetchall():
                self._fold(transaction, statements.search_rows(tuple(row[:-1])), [])
        transaction.execute(statements.delete, (key,))

    def _fold(
        self,
        transaction: Transaction,
        old: list[tuple[int, int, str, str]],
        new: list[tuple[int, int, str, str]],
    ) -> None:
        for row in old:
            if row not in new:
                transaction.execute(self._delete_folded, row)
        for row in new:
            if row not in old:
                # A row of an entity that another program removed may be left over.
                transaction.execute(self._delete_folded, row)
                transaction.execute(self._insert_folded, row)


def is_same(stored: str, new: str) -> bool:
    """Return whether a stored value counts as the new one: without case, or its beginning
    (dicom-sql.md 4.3)."""
    return new.lower().startswith(stored.rstrip(" ").lower())


def _log_differences(level: RowStatements, old: Values, new: Values) -> None:
    for position, column in enumerate(level.columns):
        before, after = old[position], new[position]
        if before == after or not before or not after or position == level.modalities:
            continue
        if is_same(before, after):
            continue
        grave = column.tag == _BIRTH_DATE
        log.log(
            logging.WARNING if grave else logging.INFO,
            "%sInconsistent %s in a %s row was overwritten by the value of the last object.",
            "***" if grave else "",
            column.name,
            level.level.value,
        )
