"""Gathers what a node has accepted until it is asked to commit to it (PS3.4 J).

Inside the transactions of the ledger: what makes a delivery `committing` also sees to the debt that
will ask for it. Used by the leader of the writer's group.
"""

from __future__ import annotations

from typing import NamedTuple

from dgate.archive.database import Database
from dgate.archive.owing import DebtRows
from dgate.archive.records import DebtDraft, DebtKind
from dgate.archive.writer import Transaction
from dgate.delivery.commitment.messages import ASKING_LANE, debt_ref
from dgate.delivery.records import Debt

_GATHERING = (
    "SELECT id FROM dgate_debts WHERE state = 'queued' AND destination = ? AND kind = 'commit' "
    "AND name = '' AND calling = ? AND called = ? LIMIT 1"
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
        self._find = database.sql(_GATHERING) + ("" if database.embedded else " FOR UPDATE")
        self._due = database.sql(_DUE)
        self._forget = database.sql("DELETE FROM dgate_sent_as WHERE debt = ?")
        self._sent = database.sql(
            "INSERT INTO dgate_sent_as (debt, sop_class, sop_instance) VALUES (?, ?, ?)"
        )

    def note(self, transaction: Transaction, debt: Debt, sent: tuple[str, str] | None) -> None:
        """Note under which UIDs an accepted object was sent, where they are not its own."""
        if sent is not None and sent != (debt.ref.sop_class, debt.ref.sop_instance):
            transaction.execute(self._forget, (debt.id,))
            transaction.execute(self._sent, (debt.id, *sent))

    def ask(self, transaction: Transaction, group: Group, due: float, now: float) -> bool:
        """Have a debt that asks for what was gathered of a group, unless one waits already; return
        whether it was made."""
        lane = f"{ASKING_LANE}{group.node}"[:255]
        key = (lane, group.calling, group.called)
        if transaction.execute(self._find, key).fetchone() is not None:
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


def group_of(debt: Debt) -> Group:
    """Return the deliveries that a `commit` debt asks for."""
    return Group(debt.context, debt.calling, debt.called)
