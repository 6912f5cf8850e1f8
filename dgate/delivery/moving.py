"""Moves waiting deliveries from one destination to another: shares groups out, falls back.

Not for when that is due (`dgate.delivery.relief`) nor for what operators do
(`dgate.delivery.desk`). A moved delivery keeps its number and history; `origin` says where it was
owed first. Each change is a transaction of the archive's `Writer`; whatever a crash interrupts is
as before and is moved later. What a worker has claimed is left alone. Any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgate.archive.database import Database
from dgate.archive.writer import Transaction, Writer

BATCH = 500
WHO = "dgate"
"""Who took the decision, in the history of a delivery that fell back or moved on."""

_WAITING = (
    "SELECT id, study FROM dgate_debts WHERE state = 'queued' AND destination = ? "
    "AND kind = 'deliver' "
)
_SHARE = _WAITING + "LIMIT ?"
_MEMBERS = _WAITING + "AND lower(origin) = ? LIMIT ?"
_OVERDUE = (
    _WAITING + "AND priority = ? AND created <= ? AND NOT EXISTS (SELECT 1 FROM dgate_decisions "
    "WHERE dgate_decisions.debt = dgate_debts.id AND dgate_decisions.at > ?) LIMIT ?"
)
# MariaDB computes the assignments from left to right, by what stands there then.
_MOVE = (
    "UPDATE dgate_debts SET origin = COALESCE(origin, destination), destination = ?, due = ?, "
    "attempts = 0 WHERE id = ? AND state = 'queued' AND destination = ?"
)
_DECIDED = (
    "INSERT INTO dgate_decisions (debt, at, decision, who, why, destination) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)


class Mover:
    """Moves deliveries that wait."""

    def __init__(
        self, database: Database, writer: Writer, now: Callable[[Transaction], float]
    ) -> None:
        """`now` returns the time by which debts are due, within a transaction."""
        self._writer = writer
        self._now = now
        sql = database.sql
        self._share_sql = sql(_SHARE)
        self._members_sql = sql(_MEMBERS)
        self._overdue_sql = sql(_OVERDUE)
        self._move_sql = sql(_MOVE)
        self._decided_sql = sql(_DECIDED)

    def share(self, group: str, member_for: Callable[[str], str]) -> int:
        """Give what is owed to a group to its members; returns how much was moved."""

        def select(transaction: Transaction) -> list[tuple[Any, ...]]:
            return transaction.execute(self._share_sql, (group, BATCH)).fetchall()

        return self._all(select, group, member_for, None)

    def pass_on(self, member: str, group: str, member_for: Callable[[str], str], why: str) -> int:
        """Give what a member was to get for its group to others; returns how much was moved.

        `member_for` names another one for each study.
        """

        def select(transaction: Transaction) -> list[tuple[Any, ...]]:
            return transaction.execute(self._members_sql, (member, group.lower(), BATCH)).fetchall()

        return self._all(select, member, member_for, ("passed on", why))

    def fall_back(
        self, destination: str, fallback: str, priority: int, patience_s: float, why: str
    ) -> int:
        """Give what has waited for a destination for so long to another; returns how much.

        The time counts from the last decision about a delivery, else from when it was entered.
        """

        def select(transaction: Transaction) -> list[tuple[Any, ...]]:
            before = self._now(transaction) - patience_s
            values = (destination, priority, before, before, BATCH)
            return transaction.execute(self._overdue_sql, values).fetchall()

        return self._all(select, destination, lambda study: fallback, ("fallback", why))

    def _all(
        self,
        select: Callable[[Transaction], list[tuple[Any, ...]]],
        destination: str,
        target_for: Callable[[str], str],
        decision: tuple[str, str] | None,
    ) -> int:
        """Move batch after batch, each in a transaction of its own, as intake shares them."""

        def work(transaction: Transaction) -> tuple[int, bool]:
            rows = select(transaction)
            now = self._now(transaction)
            moved = 0
            for one, study in rows:
                values = (target_for(study), now, one, destination)
                gone = transaction.execute(self._move_sql, values).rowcount
                moved += gone
                if gone and decision is not None:
                    kind, why = decision
                    noted = (one, now, kind, WHO, why, destination)
                    transaction.execute(self._decided_sql, noted)
            return moved, len(rows) == BATCH

        total = 0
        while True:
            moved, more = self._writer.transact(work)
            total += moved
            if not (moved and more):
                return total
