"""The operators' side of the ledger: what is owed and why, and the commands that change it.

Serves `dgate queue`, `dgate ledger` and the control socket. Not for working on debts
(`dgate.delivery.ledger`). Debts that a gateway is working on are never changed here. Any thread may
call any method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dgate.archive.batches import batches
from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.records import DebtKind
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.delivery.commitment.gathering import Gathering, Group
from dgate.delivery.leases import unowed_copies
from dgate.delivery.moving import CALL_ANEW
from dgate.delivery.records import (
    ENTRY_COLUMNS,
    OPEN_STATES,
    Changed,
    Count,
    Entry,
    Life,
    Order,
    Selection,
    State,
)
from dgate.delivery.search import Search, chosen, entry_of, states_sql, where
from dgate.delivery.texts import LONGEST_ERROR, fitting
from dgate.errors import DgateError

_AFRESH = (
    "due = 0, attempts = 0, commitment = NULL, "
    "last_status = CASE WHEN last_status < 0 THEN NULL ELSE last_status END"
)
"""Due at once, whatever the clock says, with tries and crashes counted afresh, and nothing asked of
the node."""
_AGAIN = (
    "state = CASE WHEN kind = 'deliver' AND accepted IS NOT NULL AND state <> 'queued' "
    f"THEN 'committing' ELSE 'queued' END, {_AFRESH}"
)
"""What the peer has accepted and not committed to is asked for again, not sent."""
_DECIDED = (
    "INSERT INTO dgate_decisions (debt, at, decision, who, why, destination) "
    "SELECT id, ?, ?, ?, ?, destination FROM dgate_debts WHERE "
)
FEW = 10_000
"""So many numbers of debts are read at once and held in memory."""
_LONGEST_WHO = 64
_LONGEST_DESTINATION = 255
_NO_ORDER = Order()


@dataclass(frozen=True, slots=True)
class _Operation:
    """One command, in the words of the database."""

    name: str
    assignment: str
    states: tuple[State, ...]
    """Debts in other states are left alone."""
    values: tuple[str, ...] = ()
    timed: bool = False
    """The time is the first value."""
    kind: DebtKind | None = None
    recalls: bool = False
    """What a worker has claimed and not begun is meant as well."""


Recalled = Callable[[Iterable[str] | None], AbstractContextManager[None]]
"""`dgate.delivery.ledger.Ledger.recalled`."""


class Desk:
    """Shows debts and carries out what operators decide about them."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: Clock,
        release_spool: Callable[[str], None],
        recalled: Recalled = lambda destinations: nullcontext(),
    ) -> None:
        """`recalled` takes back what this gateway's workers have in hand, where it has any."""
        self._recalled = recalled
        self._database = database
        self._writer = writer
        self._clock = clock
        self._release_spool = release_spool
        self._search = Search(database)
        self._gathering = Gathering(database)

    def entries(self, selection: Selection, limit: int = 100, offset: int = 0) -> list[Entry]:
        """Return the selected debts, oldest first; without states, those still owed."""
        condition, values = where(_with_states(selection, OPEN_STATES), by_index=True)
        numbers = f"SELECT id FROM dgate_debts WHERE {condition} ORDER BY id LIMIT ? OFFSET ?"
        statement = (
            f"SELECT {', '.join(ENTRY_COLUMNS)} FROM dgate_debts WHERE {chosen(numbers)} "
            "ORDER BY id"
        )
        with self._database.reader() as connection:
            rows = connection.execute(
                self._database.sql(statement), (*values, limit, offset)
            ).fetchall()
        return [entry_of(row) for row in rows]

    def show(self, debt_id: int) -> Entry:
        """Return one debt; raises DgateError when there is none of this number."""
        found = self.entries(Selection(ids=(debt_id,)), 1)
        if not found:
            raise DgateError(f"there is no debt {debt_id}", remedy="see `dgate queue list`")
        return found[0]

    def counts(self, *, closed: bool = False) -> list[Count]:
        """Return how many debts each destination has in each state; closed ones on request."""
        condition = "1 = 1" if closed else OPEN_SQL
        statement = (
            "SELECT destination, state, COUNT(*), MIN(created), SUM(repeats) FROM dgate_debts "
            f"WHERE {condition} GROUP BY destination, state ORDER BY destination, state"
        )
        with self._database.reader() as connection:
            rows = connection.execute(statement).fetchall()
        return [Count(row[0], row[1], row[2], row[3], int(row[4] or 0)) for row in rows]

    def find(
        self, selection: Selection, limit: int | None = None, *, newest_first: bool = False
    ) -> Iterator[Life]:
        """Yield the selected debts, whatever their state, with all that happened to them."""
        return self._search.stream(selection, limit, newest_first=newest_first)

    def lives(self, key: str) -> list[Life]:
        """Return the debts that a number or a SOP Instance UID names; raises DgateError when there
        are none."""
        return self._search.lives(key)

    def retry(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Make stuck and waiting debts due at once, with their tries counted afresh.

        What the peer has accepted and not committed to is asked for again, not sent.
        """
        return self._change(
            selection, _Operation("retry", _AGAIN, (State.STUCK, State.QUEUED)), order
        )

    def hold(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Stop waiting and stuck debts until they are released."""
        states = (State.QUEUED, State.STUCK)
        operation = _Operation("hold", "state = 'held'", states, recalls=True)
        return self._change(selection, operation, order)

    def release(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Make held debts due at once."""
        return self._change(selection, _Operation("release", _AGAIN, (State.HELD,)), order)

    def cancel(self, selection: Selection, order: Order = _NO_ORDER) -> Changed:
        """Give debts up that nobody is working on; they stay in the history."""
        states = (State.QUEUED, State.STUCK, State.HELD, State.COMMITTING)
        operation = _Operation(
            "cancel", "state = 'cancelled', finished = ?", states, timed=True, recalls=True
        )
        return self._change(selection, operation, order)

    def reroute(
        self,
        selection: Selection,
        destination: str,
        order: Order = _NO_ORDER,
        *,
        called: str = "",
    ) -> Changed:
        """Send waiting, stuck and held deliveries elsewhere, by `owed_as`; held ones stay held."""
        if not destination:
            raise DgateError("a new destination is needed", remedy="dgate queue reroute NODE")
        if len(destination) > _LONGEST_DESTINATION:
            raise DgateError(f"{destination[:40]}… is too long for the name of a destination")
        # MariaDB assigns from left to right: the old destination is still there for the first.
        operation = _Operation(
            "reroute",
            "origin = COALESCE(origin, destination), accepted = NULL, "
            f"{_AFRESH}, {CALL_ANEW}, destination = ?, "
            "state = CASE state WHEN 'held' THEN 'held' ELSE 'queued' END",
            (State.QUEUED, State.STUCK, State.HELD),
            (called, destination),
            kind=DebtKind.DELIVER,
            recalls=True,
        )
        return self._change(selection, operation, order)

    def _change(self, selection: Selection, operation: _Operation, order: Order) -> Changed:
        """Change the selected debts that are in one of the states; explain those that are not.

        In small transactions, which intake shares. What is entered meanwhile is not changed. A
        crash leaves some of the debts changed, and the command can be given again.
        """
        order = Order(fitting(order.who, _LONGEST_WHO), fitting(order.why, LONGEST_ERROR))
        if not (operation.recalls and _may_be_in_hand(selection)):
            return self._change_all(selection, operation, order)
        with self._recalled(self._destinations(selection)):
            changed = self._change_all(selection, operation, order)
            return replace(changed, busy=self._busy(selection, operation.kind))

    def _change_all(self, selection: Selection, operation: _Operation, order: Order) -> Changed:
        changed: set[int] = set()
        count = 0
        numbers = self._numbers(selection, operation)
        for batch in batches(numbers):
            done, spool = self._writer.transact(
                partial(self._change_some, batch, selection, operation, order)
            )
            for name in spool:
                self._release_spool(name)
            count += len(done)
            if selection.ids is not None:
                changed.update(done)
        return Changed(count, self._skipped(selection, changed, operation.kind))

    def _destinations(self, selection: Selection) -> list[str] | None:
        """Return for which destinations the selected debts may be in hand; None = any."""
        if selection.destination is not None:
            return [selection.destination]
        if selection.is_everything or selection == Selection(states=selection.states):
            return None
        found: dict[str, None] = {}
        for part in _parts_of(selection):
            condition, values = where(part, by_index=True)
            statement = f"SELECT DISTINCT destination FROM dgate_debts WHERE {condition}"
            with self._database.reader() as connection:
                rows = connection.execute(self._database.sql(statement), values).fetchall()
            found.update((row[0], None) for row in rows)
        return list(found)

    def _busy(self, selection: Selection, kind: DebtKind | None) -> int:
        """Return how many of the selected debts are being worked on; those that were named by
        number are explained one by one."""
        if selection.ids is not None:
            return 0
        condition, values = where(replace(selection, states=(State.LEASED,)), by_index=True)
        if kind is not None:
            condition += f" AND kind = '{kind.value}'"
        statement = f"SELECT COUNT(*) FROM dgate_debts WHERE {condition}"
        with self._database.reader() as connection:
            row = connection.execute(self._database.sql(statement), values).fetchone()
        return int(row[0])

    def _numbers(self, selection: Selection, operation: _Operation) -> Iterator[int]:
        """Yield the numbers of the debts that are to be changed, from the oldest on."""
        if selection.ids is not None:
            # Whatever their state: it counts when they are changed.
            yield from dict.fromkeys(selection.ids)
            return
        selected = _with_states(selection, operation.states)
        few = self._few_numbers(selected)
        yield from self._pages_of_numbers(selected) if few is None else few

    def _few_numbers(self, selection: Selection) -> list[int] | None:
        """Return the numbers of few open debts, found without reading past all others; None when
        there are more."""
        condition, values = where(selection, by_index=True)
        statement = f"SELECT id FROM dgate_debts WHERE {condition} LIMIT {FEW + 1}"
        with self._database.reader() as connection:
            rows = connection.execute(self._database.sql(statement), values).fetchall()
        return sorted(row[0] for row in rows) if len(rows) <= FEW else None

    def _pages_of_numbers(self, selection: Selection) -> Iterator[int]:
        condition, values = where(selection)
        statement = self._database.sql(
            f"SELECT id FROM dgate_debts WHERE {condition} AND id > ? AND id <= ? "
            "ORDER BY id LIMIT 500"
        )
        with self._database.reader() as connection:
            newest = connection.execute("SELECT max(id) FROM dgate_debts").fetchone()[0] or 0
        last = 0
        while True:
            with self._database.reader() as connection:
                rows = connection.execute(statement, (*values, last, newest)).fetchall()
            if not rows:
                return
            yield from (row[0] for row in rows)
            last = rows[-1][0]

    def _change_some(
        self,
        numbers: Sequence[int],
        selection: Selection,
        operation: _Operation,
        order: Order,
        transaction: Transaction,
    ) -> tuple[list[int], list[str]]:
        """Return which of these debts were changed, and the copies that nobody needs any more."""
        now = database_time(self._database, self._clock, transaction)
        chosen = replace(selection, ids=tuple(numbers))
        condition, values = where(chosen)
        condition = f"{condition} AND {states_sql(operation.states)}"
        if operation.kind is not None:
            condition += f" AND kind = '{operation.kind.value}'"
        sql = self._database.sql
        # From here on no other gateway claims them.
        lock = "" if self._database.embedded else " ORDER BY id FOR UPDATE"
        rows = transaction.execute(
            sql(f"SELECT id, device, name FROM dgate_debts WHERE {condition}{lock}"), values
        ).fetchall()
        if not rows:
            return [], []
        condition, values = where(Selection(ids=tuple(row[0] for row in rows)))
        noted = (now, operation.name, order.who, order.why)
        transaction.execute(sql(_DECIDED + condition), (*noted, *values))
        assignment, more = operation.assignment, operation.values
        if order.why:
            assignment, more = f"{assignment}, why = ?", (*more, order.why)
        transaction.execute(
            sql(f"UPDATE dgate_debts SET {assignment} WHERE {condition}"),
            (*((now,) if operation.timed else ()), *more, *values),
        )
        if operation.assignment is _AGAIN:
            self._ask_again(transaction, condition, values, now)
        spool = dict.fromkeys(row[2] for row in rows if row[1] == "SPOOL")
        return [row[0] for row in rows], unowed_copies(self._database, transaction, spool)

    def _ask_again(
        self, transaction: Transaction, condition: str, values: Sequence[Any], now: float
    ) -> None:
        """Have debts that ask for those of these deliveries that wait for their commitment."""
        statement = (
            "SELECT DISTINCT destination, calling, called FROM dgate_debts "
            f"WHERE {condition} AND state = 'committing' AND commitment IS NULL"
        )
        rows = transaction.execute(self._database.sql(statement), values).fetchall()
        for group in sorted(Group(*row) for row in rows):
            self._gathering.ask(transaction, group, now, now)

    def _skipped(
        self, selection: Selection, changed: set[int], kind: DebtKind | None
    ) -> tuple[tuple[int, str], ...]:
        """Explain the debts that were named by number and not changed."""
        missed = [number for number in dict.fromkeys(selection.ids or ()) if number not in changed]
        found: dict[int, tuple[Any, ...]] = {}
        for batch in batches(missed):
            marks = ", ".join("?" * len(batch))
            statement = f"SELECT id, state, kind FROM dgate_debts WHERE id IN ({marks})"
            with self._database.reader() as connection:
                rows = connection.execute(self._database.sql(statement), tuple(batch)).fetchall()
            found.update((row[0], row) for row in rows)
        return tuple((number, _reason(found.get(number), kind)) for number in missed)


def _reason(row: tuple[Any, ...] | None, kind: DebtKind | None) -> str:
    """Say why a debt that was named was not changed."""
    if row is None:
        return "there is no such debt"
    if kind is not None and row[2] != kind.value:
        return f"it is not a delivery ({row[2]})"
    return f"it is {row[1]}"


def _may_be_in_hand(selection: Selection) -> bool:
    """Tell whether some of the selected debts may have been waiting just now."""
    return selection.states is None or State.QUEUED in selection.states


def _parts_of(selection: Selection) -> Iterator[Selection]:
    """Yield what waits or is in hand of the selection, in pieces that one statement takes."""
    selection = replace(selection, states=(State.QUEUED, State.LEASED))
    if selection.ids is None:
        yield selection
        return
    for batch in batches(dict.fromkeys(selection.ids)):
        yield replace(selection, ids=tuple(batch))


def _with_states(selection: Selection, default: tuple[State, ...]) -> Selection:
    """Return the selection, limited to these states where it says nothing of states or numbers."""
    if selection.states is not None or selection.ids is not None:
        return selection
    return replace(selection, states=default)
