"""The operators' side of the ledger: what is owed and why, and the commands that change it.

Serves `dgate queue` and the control socket. Not for working on debts (`dgate.delivery.ledger`).
Debts that a gateway is working on are never changed here. Any thread may call any method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dgate.archive.database import Database
from dgate.archive.records import DebtKind
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.delivery.ledger import database_time, unowed_copies
from dgate.delivery.records import (
    CLOSED_STATES,
    ENTRY_COLUMNS,
    OPEN_STATES,
    Changed,
    Count,
    Entry,
    Selection,
    State,
    batches,
)
from dgate.errors import DgateError

_AFRESH = (
    "due = 0, attempts = 0, last_status = CASE WHEN last_status < 0 THEN NULL ELSE last_status END"
)
"""Due at once, whatever the clock says, with tries and crashes counted afresh."""
_AGAIN = f"state = 'queued', {_AFRESH}"


class Desk:
    """Shows debts and carries out what operators decide about them."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: Clock,
        release_spool: Callable[[str], None],
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._release_spool = release_spool

    def entries(self, selection: Selection, limit: int = 100, offset: int = 0) -> list[Entry]:
        """Return the selected debts, oldest first; without states, those still owed."""
        where, values = self._where(selection, OPEN_STATES)
        statement = (
            f"SELECT {', '.join(ENTRY_COLUMNS)} FROM dgate_debts WHERE {where} "
            "ORDER BY id LIMIT ? OFFSET ?"
        )
        with self._database.reader() as connection:
            rows = connection.execute(
                self._database.sql(statement), (*values, limit, offset)
            ).fetchall()
        return [_entry(row) for row in rows]

    def show(self, debt_id: int) -> Entry:
        """Return one debt; raises DgateError when there is none of this number."""
        statement = f"SELECT {', '.join(ENTRY_COLUMNS)} FROM dgate_debts WHERE id = ?"
        with self._database.reader() as connection:
            row = connection.execute(self._database.sql(statement), (debt_id,)).fetchone()
        if row is None:
            raise DgateError(f"there is no debt {debt_id}", remedy="see `dgate queue list`")
        return _entry(row)

    def counts(self, *, closed: bool = False) -> list[Count]:
        """Return how many debts each destination has in each state; closed ones on request."""
        states = (*OPEN_STATES, *CLOSED_STATES) if closed else OPEN_STATES
        statement = (
            "SELECT destination, state, COUNT(*), MIN(created), SUM(repeats) FROM dgate_debts "
            f"WHERE {_states_sql(states)} GROUP BY destination, state ORDER BY destination, state"
        )
        with self._database.reader() as connection:
            rows = connection.execute(statement).fetchall()
        return [Count(row[0], row[1], row[2], row[3], int(row[4] or 0)) for row in rows]

    def retry(self, selection: Selection) -> Changed:
        """Make stuck and waiting debts due at once, with their tries counted afresh."""
        return self._change(selection, _AGAIN, (State.STUCK, State.QUEUED))

    def hold(self, selection: Selection) -> Changed:
        """Stop waiting and stuck debts until they are released."""
        return self._change(selection, "state = 'held'", (State.QUEUED, State.STUCK))

    def release(self, selection: Selection) -> Changed:
        """Make held debts due at once."""
        return self._change(selection, _AGAIN, (State.HELD,))

    def cancel(self, selection: Selection) -> Changed:
        """Give debts up that nobody is working on; they stay in the history."""
        states = (State.QUEUED, State.STUCK, State.HELD)
        return self._change(selection, "state = 'cancelled', finished = ?", states, timed=True)

    def reroute(self, selection: Selection, destination: str) -> Changed:
        """Send waiting, stuck and held deliveries elsewhere; held ones stay held."""
        if not destination:
            raise DgateError("a new destination is needed", remedy="--to AE")
        return self._change(
            selection,
            f"{_AFRESH}, destination = ?, "
            "state = CASE state WHEN 'held' THEN 'held' ELSE 'queued' END",
            (State.QUEUED, State.STUCK, State.HELD),
            (destination,),
            kind=DebtKind.DELIVER,
        )

    def _change(
        self,
        selection: Selection,
        assignment: str,
        states: tuple[State, ...],
        values: tuple[str, ...] = (),
        *,
        timed: bool = False,
        kind: DebtKind | None = None,
    ) -> Changed:
        """Change the selected debts that are in one of the states; explain those that are not."""
        if selection.ids is None and selection.destination is None and selection.states is None:
            selection = Selection(states=states)

        def work(transaction: Transaction) -> tuple[Changed, list[str]]:
            now = database_time(self._database, self._clock, transaction)
            count = 0
            spool: dict[str, None] = {}
            changed: set[int] = set()
            for part in _parts(selection):
                where, where_values = self._where(part, states)
                where = f"{where} AND {_states_sql(states)}"
                if kind is not None:
                    where += f" AND kind = '{kind.value}'"
                rows = transaction.execute(
                    self._database.sql(f"SELECT id, device, name FROM dgate_debts WHERE {where}"),
                    where_values,
                ).fetchall()
                changed.update(row[0] for row in rows)
                spool.update({row[2]: None for row in rows if row[1] == "SPOOL"})
                count += transaction.execute(
                    self._database.sql(f"UPDATE dgate_debts SET {assignment} WHERE {where}"),
                    (*((now,) if timed else ()), *values, *where_values),
                ).rowcount
            skipped = self._skipped(transaction, selection, changed, kind)
            return Changed(count, skipped), unowed_copies(self._database, transaction, spool)

        result, spool = self._writer.transact(work)
        for name in spool:
            self._release_spool(name)
        return result

    def _skipped(
        self,
        transaction: Transaction,
        selection: Selection,
        changed: set[int],
        kind: DebtKind | None,
    ) -> tuple[tuple[int, str], ...]:
        """Explain the debts that were named by number and not changed."""
        statement = self._database.sql("SELECT state, kind FROM dgate_debts WHERE id = ?")
        skipped = []
        for number in selection.ids or ():
            if number in changed:
                continue
            row = transaction.execute(statement, (number,)).fetchone()
            if row is None:
                reason = "there is no such debt"
            elif kind is not None and row[1] != kind.value:
                reason = f"it is not a delivery ({row[1]})"
            else:
                reason = f"it is {row[0]}"
            skipped.append((number, reason))
        return tuple(skipped)

    def _where(
        self, selection: Selection, default: tuple[State, ...]
    ) -> tuple[str, tuple[Any, ...]]:
        """Return the condition (states as literals, for the partial index) and its values."""
        values: list[Any] = []
        terms = []
        states = selection.states
        if states is None and selection.ids is None:
            states = default
        if states is not None:
            terms.append(_states_sql(states))
        if selection.destination is not None:
            terms.append("destination = ?")
            values.append(selection.destination)
        if selection.ids is not None:
            terms.append(f"id IN ({', '.join('?' * len(selection.ids))})")
            values.extend(selection.ids)
        return " AND ".join(terms), tuple(values)


def _states_sql(states: Iterable[State]) -> str:
    return f"state IN ({', '.join(repr(state.value) for state in states)})"


def _parts(selection: Selection) -> Iterator[Selection]:
    """Split a long list of numbers, since databases limit the parameters of a statement."""
    if selection.ids is None:
        yield selection
        return
    for batch in batches(selection.ids):
        yield Selection(tuple(batch), selection.destination, selection.states)


def _entry(row: Sequence[Any]) -> Entry:
    values = dict(zip(ENTRY_COLUMNS, row, strict=True))
    values["owner"] = values["owner"] or ""
    values["last_error"] = values["last_error"] or ""
    return Entry(**values)
