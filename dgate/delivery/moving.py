"""Moves waiting deliveries from one destination to another: shares groups out, falls back.

Not for when that is due (`dgate.delivery.relief`) nor for what operators do
(`dgate.delivery.desk`). A moved delivery keeps its number and history; `origin` says where it was
owed first, or for which group it was shared out. Each change is a transaction of the archive's
`Writer`; whatever a crash interrupts is as before and is moved later. What a worker has claimed is
left alone. Any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from dgate.archive.connection import Row, Value
from dgate.archive.database import Database
from dgate.archive.writer import Transaction, Writer
from dgate.config.targets import TITLE_LENGTH

BATCH = 500
"""Deliveries moved in a transaction."""
PAGE = 5000
"""Deliveries moved by a call."""
WHO = "dgate"
"""Who took the decision, in the history of a delivery that fell back or moved on."""

_WAITING = (
    "SELECT id, study FROM dgate_debts WHERE state = 'queued' AND destination = ? "
    "AND kind = 'deliver' "
)
_MOST = "ORDER BY priority, due LIMIT ?"
_SHARE = _WAITING + _MOST
_MEMBERS = _WAITING + "AND lower(origin) = ? " + _MOST
_OVERDUE = (
    _WAITING + "AND priority = ? AND created <= ? AND NOT EXISTS (SELECT 1 FROM dgate_decisions "
    "WHERE dgate_decisions.debt = dgate_debts.id AND dgate_decisions.at > ?) " + _MOST
)
_IS_SPELLING = (
    f"called NOT IN (destination, substr(destination, 1, {TITLE_LENGTH})) AND lower(called) IN "
    f"(lower(destination), substr(lower(destination), 1, {TITLE_LENGTH}))"
)
CALL_ANEW = f"called = CASE WHEN called = '' OR ({_IS_SPELLING}) THEN ? ELSE called END"
"""For a delivery that gets another destination: what is called there, unless its rule names a
title. One that differs from the old destination in letter case only stood for that."""
# MariaDB computes the assignments from left to right, by what stands there then.
_MOVE = (
    f"UPDATE dgate_debts SET origin = {{origin}}, {CALL_ANEW}, destination = ?, due = ?, "
    "attempts = 0 WHERE id = ? AND state = 'queued' AND destination = ?"
)
_DECIDED = (
    "INSERT INTO dgate_decisions (debt, at, decision, who, why, destination) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)


class Moved(NamedTuple):
    """What a call has moved."""

    number: int
    more: bool
    """Whether there may be more of it to move, by a further call."""


def _always() -> bool:
    return True


class Mover:
    """Moves deliveries that wait, at most `PAGE` in a call.

    Each method asks `goes_on` between two transactions whether to go on.
    """

    def __init__(
        self, database: Database, writer: Writer, now: Callable[[Transaction], float]
    ) -> None:
        """`now` returns the time by which debts are due, within a transaction."""
        self._database = database
        self._writer = writer
        self._now = now
        sql = database.sql
        self._share_sql = sql(_SHARE)
        self._members_sql = sql(_MEMBERS)
        self._overdue_sql = sql(_OVERDUE)
        self._move_sql = sql(_MOVE.format(origin="COALESCE(origin, destination)"))
        self._give_sql = sql(_MOVE.format(origin="?"))
        self._decided_sql = sql(_DECIDED)

    def share(
        self,
        group: str,
        member_for: Callable[[str], str],
        goes_on: Callable[[], bool] = _always,
    ) -> Moved:
        """Give what is owed to a group to its members.

        From then on the group is their `origin`, wherever they came from, so that other members
        can take them over.
        """
        rows = self._rows(self._share_sql, (group, PAGE))
        move = partial(self._give, group, group.strip(), member_for)
        return self._batches(rows, move, goes_on)

    def pass_on(
        self,
        member: str,
        group: str,
        member_for: Callable[[str], str],
        why: str,
        goes_on: Callable[[], bool] = _always,
    ) -> Moved:
        """Give what a member was to get for its group to others.

        `member_for` names another one for each study.
        """
        rows = self._rows(self._members_sql, (member, group.lower(), PAGE))
        move = partial(self._redirect, member, member_for, "", "passed on", why)
        return self._batches(rows, move, goes_on)

    def fall_back(
        self,
        destination: str,
        fallback: str,
        called: str,
        priority: int,
        patience_s: float,
        why: str,
        goes_on: Callable[[], bool] = _always,
    ) -> Moved:
        """Give what has waited for a destination for so long to another, by `owed_as`.

        The time counts from the last decision about a delivery, else from when it was entered.
        """
        with self._database.reader() as connection:
            before = self._now(Transaction(connection, 0)) - patience_s
        rows = self._rows(self._overdue_sql, (destination, priority, before, before, PAGE))
        move = partial(self._redirect, destination, lambda study: fallback, called, "fallback", why)
        return self._batches(rows, move, goes_on)

    def _rows(self, sql: str, values: Sequence[Value]) -> list[Row]:
        """Return number and study of what is to be moved, without keeping writers waiting."""
        with self._database.reader() as connection:
            return connection.execute(sql, values).fetchall()

    def _batches(
        self,
        rows: Sequence[Row],
        move: Callable[[Sequence[Row], Transaction], int],
        goes_on: Callable[[], bool],
    ) -> Moved:
        """Move batch after batch, each in a transaction of its own, as intake shares them.

        What has changed since it was selected is left alone by `move`.
        """
        count = 0
        for first in range(0, len(rows), BATCH):
            if first and not goes_on():
                return Moved(count, True)
            count += self._writer.transact(partial(move, rows[first : first + BATCH]))
        return Moved(count, len(rows) == PAGE)

    # Inside a transaction.

    def _give(
        self,
        group: str,
        origin: str,
        member_for: Callable[[str], str],
        rows: Sequence[Row],
        transaction: Transaction,
    ) -> int:
        now, count = self._now(transaction), 0
        for one, study in rows:
            values = (origin, "", member_for(study), now, one, group)
            count += transaction.execute(self._give_sql, values).rowcount
        return count

    def _redirect(
        self,
        destination: str,
        target_for: Callable[[str], str],
        called: str,
        decision: str,
        why: str,
        rows: Sequence[Row],
        transaction: Transaction,
    ) -> int:
        now, count = self._now(transaction), 0
        for one, study in rows:
            values = (called, target_for(study), now, one, destination)
            if transaction.execute(self._move_sql, values).rowcount:
                count += 1
                noted = (one, now, decision, WHO, why, destination)
                transaction.execute(self._decided_sql, noted)
        return count
