"""Searches the ledger: which debts there are and what happened to each of them.

Not for changing them (`dgate.delivery.desk`). Nothing is kept in memory but a page, and no snapshot
of the database is held between two. Any thread may call any method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dgate.archive.batches import batches
from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.provenance import LONGEST
from dgate.delivery.records import (
    ENTRY_COLUMNS,
    OPEN_STATES,
    Decision,
    Entry,
    Life,
    Selection,
    State,
    Try,
)
from dgate.errors import DgateError
from dgate.printable import printable

PAGE = 200
"""Debts that are read, and sent through the control socket, at once."""
_TEXT_COLUMNS = frozenset(
    name for name, field in Entry.__dataclass_fields__.items() if field.type == "str"
)
_INDEXED = ("accession", "patient", "study", "sop")
_COLUMNS = {
    "destination": "destination",
    "accession": "accession",
    "patient": "patient_id",
    "study": "study",
    "series": "series",
    "sop": "sop_instance",
}
_SELECT = f"SELECT {', '.join(ENTRY_COLUMNS)} FROM dgate_debts WHERE "


class Search:
    """Finds debts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stream(
        self, selection: Selection, limit: int | None = None, *, newest_first: bool = False
    ) -> Iterator[Life]:
        """Yield the selected debts with all that happened to them; without states, whatever their
        state. They come in the order of their numbers."""
        for page in self.pages(selection, limit, newest_first=newest_first):
            yield from page

    def pages(
        self, selection: Selection, limit: int | None = None, *, newest_first: bool = False
    ) -> Iterator[list[Life]]:
        """Yield the same in lists of at most `PAGE`."""
        # Of a whole ledger each page would sort what the index finds; then the key is read.
        by_index = limit is not None and _is_open(selection)
        condition, values = where(selection, by_index=by_index)
        # A sum cannot be read off the key: where another index finds few rows, it must be taken.
        key = "id + 0" if by_index or _is_indexed(selection) else "id"
        compare, order = ("<", "DESC") if newest_first else (">", "ASC")
        terms = [condition] if condition else []
        last: int | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            place = [] if last is None else [f"id {compare} ?"]
            found = " AND ".join(terms + place) or "1 = 1"
            numbers = f"SELECT id FROM dgate_debts WHERE {found} ORDER BY {key} {order} LIMIT ?"
            statement = f"{_SELECT}{chosen(numbers)} ORDER BY id {order}"
            parameters = (*values, *(() if last is None else (last,)), size)
            with self._database.reader() as connection:
                rows = connection.execute(self._database.sql(statement), parameters).fetchall()
            if not rows:
                return
            yield self._lives([entry_of(row) for row in rows])
            if len(rows) < size:
                return
            last = rows[-1][0]
            left = None if left is None else left - len(rows)

    def lives(self, key: str) -> list[Life]:
        """Return the debts that a number or a SOP Instance UID names.

        Raises:
            DgateError: there are none; it says what else it may be.
        """
        key = key.strip()
        is_number = key.isascii() and key.isdigit() and len(key) < 19
        selection = Selection(ids=(int(key),)) if is_number else Selection(sop=key)
        found = list(self.stream(selection))
        if not found:
            raise self._unknown(key, is_number=is_number)
        return found

    def _unknown(self, key: str, *, is_number: bool) -> DgateError:
        """Say what a key may be that names no debt."""
        shown = printable(key[:80])
        for option, what in (
            ("sop", "SOP instance"),
            ("study", "study"),
            ("series", "series"),
            ("accession", "accession number"),
            ("patient", "patient ID"),
        ):
            selection = Selection.of({option: key})
            if next(self.stream(selection, 1), None) is not None:
                return DgateError(
                    f"{shown!r} is the {what} of deliveries, not the number of one or a SOP "
                    "Instance UID",
                    remedy=f"`dgate ledger find --{option} {shown}`",
                )
        what = f"there is no debt {shown}" if is_number else f"nothing is known of object {shown!r}"
        return DgateError(
            what,
            remedy="either no rule forwards it, or it was settled longer than LedgerDays ago; "
            "`dgate ledger find` searches by accession number, patient, study and time",
        )

    def _lives(self, entries: Sequence[Entry]) -> list[Life]:
        """Add to debts what happened to them."""
        tries: dict[int, list[Try]] = {}
        decisions: dict[int, list[Decision]] = {}
        numbers = [entry.id for entry in entries]
        for row in self._rows("at, destination, outcome, status, error, seconds", "tries", numbers):
            debt, at, destination, outcome, status, error, seconds = row
            one = Try(at, destination, outcome, status, error or "", seconds)
            tries.setdefault(debt, []).append(one)
        for row in self._rows("at, decision, who, why, destination", "decisions", numbers):
            debt, at, decision, who, why, destination = row
            done = Decision(at, decision, who, why or "", destination)
            decisions.setdefault(debt, []).append(done)
        return [
            Life(entry, tuple(tries.get(entry.id, ())), tuple(decisions.get(entry.id, ())))
            for entry in entries
        ]

    def _rows(self, columns: str, table: str, numbers: Sequence[int]) -> Iterator[Sequence[Any]]:
        for batch in batches(numbers):
            marks = ", ".join("?" * len(batch))
            statement = (
                f"SELECT debt, {columns} FROM dgate_{table} WHERE debt IN ({marks}) ORDER BY id"
            )
            with self._database.reader() as connection:
                rows = connection.execute(self._database.sql(statement), tuple(batch)).fetchall()
            yield from rows


def chosen(numbers: str) -> str:
    """Return the condition that a debt is one of a query for numbers with a limit: few whole rows
    are read then, where the numbers stand in an index.

    Twice nested, since MariaDB takes no limit directly behind IN.
    """
    return f"id IN (SELECT id FROM ({numbers}) AS found)"


def where(selection: Selection, *, by_index: bool = False) -> tuple[str, tuple[Any, ...]]:
    """Return the condition for a selection, without states all, and its values.

    With `by_index` the index over open debts is used where the states are of these.
    """
    terms: list[str] = []
    values: list[Any] = []
    if selection.states is not None:
        if by_index and _is_open(selection):
            terms.append(OPEN_SQL)
        if not by_index or set(selection.states) != set(OPEN_STATES):
            terms.append(states_sql(selection.states))
    if selection.ids is not None:
        terms.append(f"id IN ({', '.join('?' * len(selection.ids))})" if selection.ids else "1 = 0")
        values.extend(selection.ids)
    for name, column in _COLUMNS.items():
        value = getattr(selection, name)
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(value[:LONGEST] if name == "accession" else value)
    if selection.rule is not None:
        # A converter means all of its lines, `ExportConverter1` not `ExportConverter10`.
        terms.append(f"(rule = ? OR substr(rule, 1, {len(selection.rule) + 1}) = ?)")
        values += [selection.rule, f"{selection.rule}."]
    for name, comparison in (("since", ">="), ("until", "<=")):
        time = getattr(selection, name)
        if time is not None:
            terms.append(f"created {comparison} ?")
            values.append(time)
    return " AND ".join(terms), tuple(values)


def states_sql(states: Iterable[State]) -> str:
    """Return the condition that a debt is in one of these states."""
    return f"state IN ({', '.join(repr(state.value) for state in states)})"


def _is_open(selection: Selection) -> bool:
    return selection.states is not None and set(selection.states) <= set(OPEN_STATES)


def entry_of(row: Sequence[Any]) -> Entry:
    """Return a row of `ENTRY_COLUMNS` as values."""
    values: dict[str, Any] = {
        name: "" if value is None and name in _TEXT_COLUMNS else value
        for name, value in zip(ENTRY_COLUMNS, row, strict=True)
    }
    return Entry(**values)


def _is_indexed(selection: Selection) -> bool:
    return any(getattr(selection, name) is not None for name in _INDEXED)
