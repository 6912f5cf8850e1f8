"""Gathers what a node has accepted until it is asked to commit to it (PS3.4 J).

Inside the transactions of the ledger: what makes a delivery `committing` also sees to the debt that
will ask for it, and what makes that debt stuck makes the deliveries stuck instead. Used by the
leader of the writer's group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dgate.archive.database import Database
from dgate.archive.owing import DebtRows
from dgate.archive.records import DebtDraft, DebtKind
from dgate.archive.writer import Transaction
from dgate.delivery.commitment.messages import ASKING_LANE, debt_ref
from dgate.delivery.records import Debt
from dgate.delivery.texts import LONGEST_ERROR, fitting

MOST_AT_ONCE = 500
"""Objects in one request, and deliveries changed in one transaction."""

_GATHERING = (
    "SELECT id FROM dgate_debts WHERE state = '{state}' AND destination = ? AND kind = 'commit' "
    "AND name = '' AND calling = ? AND called = ? LIMIT 1"
)
_GATHERED = (
    "SELECT id, sop_class, sop_instance, device, name FROM dgate_debts "
    "WHERE state = 'committing' AND commitment IS NULL "
    f"AND destination = ? AND calling = ? AND called = ? ORDER BY id LIMIT {MOST_AT_ONCE + 1}"
)
_ASKED_FOR = (
    "SELECT d.id, COALESCE(s.sop_class, d.sop_class), COALESCE(s.sop_instance, d.sop_instance), "
    "d.device, d.name FROM dgate_debts d LEFT JOIN dgate_sent_as s ON s.debt = d.id WHERE "
)
_AWAITED = f"{_ASKED_FOR}d.state = 'committing' AND d.commitment = ? ORDER BY d.id"
_GIVEN_UP = (
    f"{_ASKED_FOR}d.state = 'stuck' AND d.commitment = ? AND d.accepted IS NOT NULL ORDER BY d.id"
)
# `accepted` stays: a retry asks again, and sends nothing. So does `commitment`, until then: a node
# may need longer for its report than it is waited for.
_STUCK = (
    "UPDATE dgate_debts SET state = 'stuck', last_error = ? WHERE id = ? AND state = 'committing'"
)
_DUE = "UPDATE dgate_debts SET due = ? WHERE id = ?"


class Group(NamedTuple):
    """The deliveries that one debt asks for."""

    node: str
    """Their destination."""
    calling: str
    called: str


class Gathering:
    """Makes deliveries wait for their commitment."""

    def __init__(self, database: Database) -> None:
        self._own_clock = database.clock_sql is None
        self._rows = DebtRows(database)
        # Another gateway that claims the same debt waits, or leaves it alone.
        lock = "" if database.embedded else " FOR UPDATE"
        self._find = database.sql(_GATHERING.format(state="queued")) + lock
        # Apart, or no index would serve.
        self._find_held = database.sql(_GATHERING.format(state="held")) + lock
        self._name = database.sql("SELECT name FROM dgate_debts WHERE id = ?")
        self._gathered = database.sql(_GATHERED)
        self._awaited = database.sql(_AWAITED)
        self._given_up = database.sql(_GIVEN_UP)
        self._stuck = database.sql(_STUCK)
        self._due = database.sql(_DUE)
        self._forget = database.sql("DELETE FROM dgate_sent_as WHERE debt = ?")
        self._sent = database.sql(
            "INSERT INTO dgate_sent_as (debt, sop_class, sop_instance) VALUES (?, ?, ?)"
        )

    def note(self, transaction: Transaction, debt: Debt, sent: tuple[str, str] | None) -> None:
        """Note under which UIDs an accepted object was sent, where they are not its own."""
        # What a try before this one was sent as, which rules may have changed since.
        transaction.execute(self._forget, (debt.id,))
        if sent is not None and sent != (debt.ref.sop_class, debt.ref.sop_instance):
            transaction.execute(self._sent, (debt.id, *sent))

    def ask(self, transaction: Transaction, group: Group, due: float, now: float) -> bool:
        """Have a debt that asks for what was gathered of a group, unless one waits already, be it
        for an operator to release it; return whether it was made."""
        lane = f"{ASKING_LANE}{group.node}"[:255]
        key = (lane, group.calling, group.called)
        for statement in (self._find, self._find_held):
            if transaction.execute(statement, key).fetchone() is not None:
                return False
        draft = DebtDraft(
            DebtKind.COMMIT,
            lane,
            "Commit",
            calling=group.calling,
            called=group.called,
            context=group.node,
        )
        self._rows.add(transaction, debt_ref(), (draft,), now)
        row = transaction.execute(self._find, key).fetchone()
        assert row is not None, "it has just been entered"
        transaction.execute(self._due, (due, row[0]))
        return True

    def current(self, transaction: Transaction, debt_id: int) -> str:
        """Return the Transaction UID under which a debt has asked last, empty for none.

        Not that of the claimed row: a try may have come as far as giving another one.
        """
        row = transaction.execute(self._name, (debt_id,)).fetchone()
        return row[0] if row is not None else ""

    def gathered(self, transaction: Transaction, group: Group, now: float) -> list[Any]:
        """Return the first deliveries of a group that nobody has asked for, as `awaited` does; what
        they leave is for another debt, which is due at once."""
        rows = list(transaction.execute(self._gathered, group).fetchall())
        if len(rows) > MOST_AT_ONCE:
            del rows[MOST_AT_ONCE:]
            self.ask(transaction, group, now, now)
        return rows

    def awaited(self, transaction: Transaction, uid: str) -> list[Any]:
        """Return the deliveries of a request: id, SOP class and instance as sent, device, name."""
        if not uid:
            return []
        return list(transaction.execute(self._awaited, (uid,)).fetchall())

    def given_up(self, transaction: Transaction, uid: str) -> list[Any]:
        """Return the deliveries of a request that are stuck since no report came in time, as
        `awaited` does."""
        return list(transaction.execute(self._given_up, (uid,)).fetchall())

    def waiting(
        self, transaction: Transaction, debt_id: int, group: Group, now: float
    ) -> list[Any]:
        """Return the deliveries that wait for what a debt asks, as `awaited` does: those that it
        has asked for, or where it has not come to that, those that it would ask for now.

        The caller ends their waiting, and the debt has to be leased or closed: `gathered` leaves
        the others to another one.
        """
        uid = self.current(transaction, debt_id)
        return self.awaited(transaction, uid) if uid else self.gathered(transaction, group, now)

    def give_up(
        self, transaction: Transaction, debt_id: int, group: Group, reason: str, now: float
    ) -> Sequence[Any]:
        """Make the deliveries stuck that wait for a debt (`waiting`); return them, as `awaited`
        does."""
        rows = self.waiting(transaction, debt_id, group, now)
        text = fitting(reason, LONGEST_ERROR)
        transaction.executemany(self._stuck, [(text, row[0]) for row in rows])
        return rows


def group_of(debt: Debt) -> Group:
    """Return the deliveries that a `commit` debt asks for."""
    return Group(debt.context, debt.calling, debt.called)
