"""What is written down while peers are asked to commit to what they have accepted (PS3.4 J).

A delivery that the peer accepted is `committing`. A debt of kind `commit` gathers the deliveries of
one node, asks for them under a Transaction UID, waits for the report, and asks again when none
comes. It is made in the transaction that makes a delivery `committing`, and closed in the one that
writes down the report; so a crash at any point leaves either the debt, which asks again, or nothing
to ask for. Not for talking to peers (`dgate.delivery.commitment.asking`). Any thread may call any
method.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dgate.archive.commitmenttable import COMMITMENT_DEVICE
from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.delivery.commitment.gathering import MOST_AT_ONCE, Gathering, Group, group_of
from dgate.delivery.commitment.messages import Reference, Report, in_words, new_transaction_uid
from dgate.delivery.leases import unowed_copies
from dgate.delivery.records import Debt
from dgate.delivery.texts import LONGEST_ERROR, fitting

log = logging.getLogger(__name__)

MOST_FAILURES = 3
"""So often a node may say that it does not have an object before its delivery is stuck."""
UNCOMMITTED = "uncommitted"
"""Outcome of a try that the node accepted and did not commit to."""
KEPT_S = 30 * 86400.0
"""How long an ended request is remembered, for reports that come twice."""

_JOIN = "UPDATE dgate_debts SET commitment = ? WHERE id = ? AND state = 'committing'"
_NAME = "UPDATE dgate_debts SET name = ? WHERE id = ? AND kind = 'commit'"
_ASK = "INSERT INTO dgate_commitments (uid, debt, peer, asked) VALUES (?, ?, ?, ?)"
_FIND = "SELECT debt, peer FROM dgate_commitments WHERE uid = ?"
_ROUNDS = "SELECT count(*) FROM dgate_commitments WHERE debt = ? AND accepted <= ?"
_COMMITTED = (
    "UPDATE dgate_debts SET state = 'done', committed = ?, finished = ? "
    "WHERE id = ? AND state = 'committing'"
)
_COMMITTED_LATE = (
    "UPDATE dgate_debts SET state = 'done', committed = ?, finished = ?, last_error = NULL "
    "WHERE id = ? AND state = 'stuck' AND commitment = ?"
)
_LAST_ASKED = "SELECT uid FROM dgate_commitments WHERE debt = ? ORDER BY asked DESC, uid LIMIT 1"
_DELIVERED = (
    "UPDATE dgate_debts SET state = 'done', finished = ?, last_error = ?, commitment = NULL "
    "WHERE id = ? AND state = 'committing'"
)
_AGAIN = (
    "UPDATE dgate_debts SET state = ?, due = ?, accepted = NULL, commitment = NULL, "
    "last_status = ?, last_error = ? WHERE id = ? AND state = 'committing'"
)
_STUCK_ASKING = (
    "SELECT id, context, calling, called, last_error FROM dgate_debts "
    "WHERE state = 'stuck' AND kind = 'commit'"
)
_CLOSE_STUCK = (
    "UPDATE dgate_debts SET state = 'done', finished = ? "
    "WHERE id = ? AND kind = 'commit' AND state = 'stuck'"
)
_NODES = "SELECT DISTINCT destination FROM dgate_debts WHERE state = 'committing'"
_OF_NODE = (
    "SELECT id, device, name FROM dgate_debts WHERE state = 'committing' AND destination = ? "
    f"ORDER BY id LIMIT {MOST_AT_ONCE}"
)
_FAILURES = f"SELECT count(*) FROM dgate_tries WHERE debt = ? AND outcome = '{UNCOMMITTED}'"
_TRY = (
    "INSERT INTO dgate_tries (debt, at, destination, outcome, status, error) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
_CLOSE = (
    "UPDATE dgate_debts SET state = 'done', finished = ?, last_error = ?, owner = NULL, "
    f"lease_until = NULL WHERE id = ? AND kind = 'commit' AND {OPEN_SQL}"
)
_END = "UPDATE dgate_commitments SET ended = ?, apart = ? WHERE uid = ? AND ended IS NULL"
_WITHOUT_DEBT = (
    "SELECT DISTINCT destination, calling, called FROM dgate_debts "
    "WHERE state = 'committing' AND commitment IS NULL"
)
_GROUPS = (
    "SELECT DISTINCT destination, calling, called FROM dgate_debts "
    "WHERE state = 'committing' AND commitment = ?"
)
_RUNNING = (
    "SELECT DISTINCT commitment FROM dgate_debts "
    "WHERE state = 'committing' AND commitment IS NOT NULL"
)
_HAS_DEBT = (
    f"SELECT 1 FROM dgate_debts WHERE device = '{COMMITMENT_DEVICE}' AND name = ? AND {OPEN_SQL}"
)
_LOST = "UPDATE dgate_debts SET commitment = NULL WHERE state = 'committing' AND commitment = ?"
_FORGET_ASKED = "DELETE FROM dgate_commitments WHERE ended < ? OR asked < ?"
# What is stuck or held is asked for again under these UIDs when an operator says so.
_FORGET_SENT = (
    "DELETE FROM dgate_sent_as WHERE NOT EXISTS (SELECT 1 FROM dgate_debts d "
    "WHERE d.id = dgate_sent_as.debt AND d.state IN ('committing', 'stuck', 'held'))"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is to be sent."""

    uid: str
    references: tuple[Reference, ...]


class Commitments:
    """What is asked of nodes, and what they say."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: Clock,
        release_spool: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._release_spool = release_spool
        self._wake = wake
        self._gathering = Gathering(database)

    def begin(self, debt: Debt) -> Asked | None:
        """Give what a `commit` debt asks for a Transaction UID; None when there is nothing.

        Everything is durable before it is asked, so that a report is understood after a crash.
        """

        def work(transaction: Transaction) -> Asked | None:
            now = self._time(transaction)
            group = group_of(debt)
            former = self._gathering.current(transaction, debt.id)
            if former:
                ids = [row[0] for row in self._gathering.awaited(transaction, former)]
            else:
                ids = [row[0] for row in self._gathering.gathered(transaction, group, now)]
            if not ids:
                return None
            uid = new_transaction_uid()
            transaction.executemany(self._sql(_JOIN), [(uid, number) for number in ids])
            transaction.execute(self._sql(_NAME), (uid, debt.id))
            transaction.execute(self._sql(_ASK), (uid, debt.id, group.node, now))
            found = self._gathering.awaited(transaction, uid)
            return Asked(uid, tuple(dict.fromkeys(Reference(row[1], row[2]) for row in found)))

        return self._writer.transact(work)

    def accepted(self, uid: str) -> None:
        """Note that the node has taken a request and will report."""

        def work(transaction: Transaction) -> None:
            statement = self._sql("UPDATE dgate_commitments SET accepted = ? WHERE uid = ?")
            transaction.execute(statement, (self._time(transaction), uid))

        self._writer.transact(work)

    def rounds(self, debt: Debt, timeout_s: float) -> int:
        """Return how often the node has taken the request of a debt and not reported in time."""

        def work(transaction: Transaction) -> int:
            latest = self._time(transaction) - timeout_s
            found = transaction.execute(self._sql(_ROUNDS), (debt.id, latest)).fetchone()
            return int(found[0])

        return self._writer.transact(work)

    def reports_apart(self, node: str) -> bool | None:
        """Return whether the node's last report came on an association that it opened; None when
        it has never reported."""
        statement = self._sql(
            "SELECT apart FROM dgate_commitments WHERE peer = ? AND ended IS NOT NULL "
            "ORDER BY ended DESC LIMIT 1"
        )
        with self._database.reader() as connection:
            found = connection.execute(statement, (node,)).fetchone()
        return None if found is None else bool(found[0])

    def give_up(self, debt: Debt, reason: str) -> int:
        """Make the deliveries of a `commit` debt stuck; return how many. What it would not ask for
        at once is left to another such debt."""

        def work(transaction: Transaction) -> int:
            now = self._time(transaction)
            return len(self._gathering.give_up(transaction, debt.id, group_of(debt), reason, now))

        # Their copies stay: they are owed all the same.
        return self._writer.transact(work)

    def do_without(self, debt: Debt, text: str) -> int:
        """Let the deliveries of a `commit` debt count as they are, since nobody wants the
        commitment any more; return how many. What it would not ask for at once is left to another
        such debt."""

        def work(transaction: Transaction) -> tuple[int, list[str]]:
            now = self._time(transaction)
            rows = self._gathering.waiting(transaction, debt.id, group_of(debt), now)
            return self._deliver(transaction, [(row[0], row[3], row[4]) for row in rows], text)

        count, spool = self._writer.transact(work)
        for name in spool:
            self._release_spool(name)
        return count

    def do_without_all(self, is_wanted: Callable[[str], bool]) -> int:
        """Let all deliveries to nodes count as they are of which no commitment `is_wanted` any
        more, whether their debts pause, are held or stuck; return how many."""
        with self._database.reader() as connection:
            nodes = [row[0] for row in connection.execute(_NODES).fetchall()]
        count = 0
        for node in nodes:
            while not is_wanted(node):
                # In parts, which intake shares; the debts that asked end when they find nothing.
                done, spool = self._writer.transact(partial(self._deliver_some, node))
                for name in spool:
                    self._release_spool(name)
                count += done
                if done < MOST_AT_ONCE:
                    break
        return count

    def stop_stuck(self) -> int:
        """Make the deliveries of debts that became stuck stuck in their place, and close those
        debts; return how many deliveries. Most become so at once (`dgate.delivery.ledger`), not
        those that servers ended at, and those of earlier versions.
        """
        with self._database.reader() as connection:
            rows = connection.execute(_STUCK_ASKING).fetchall()

        def work(row: Sequence[Any], transaction: Transaction) -> int:
            number, node, calling, called, error = row
            now = self._time(transaction)
            # An operator may have retried it meanwhile.
            if not transaction.execute(self._sql(_CLOSE_STUCK), (now, number)).rowcount:
                return 0
            group = Group(node, calling, called)
            return len(self._gathering.give_up(transaction, number, group, error or "", now))

        count = sum(self._writer.transact(partial(work, row)) for row in rows)
        if rows:
            # For what one of them has left to another.
            self._wake()
        return count

    def take(self, report: Report, *, apart: bool, pause_s: float) -> int | None:
        """Write down what a node reports and return how many objects are not committed; None when
        nobody knows the transaction.

        What failed is owed again after `pause_s`. A report that comes twice changes nothing. One to
        an earlier request of the same objects counts as far as it is good news, and so does one
        that comes after they were given up, unless they have been asked for anew.
        """

        def work(transaction: Transaction) -> tuple[int | None, list[str]]:
            found = transaction.execute(self._sql(_FIND), (report.uid,)).fetchone()
            if found is None:
                return None, []
            debt_id, node = int(found[0]), str(found[1])
            return self._write_down(transaction, report, debt_id, node, apart, pause_s)

        failed, spool = self._writer.transact(work)
        for name in spool:
            self._release_spool(name)
        if failed:
            self._wake()
        return failed

    def adopt(self) -> int:
        """Have a debt for all that waits without one, as after `queue cancel`; forget old requests.

        Returns how many groups were adopted.
        """
        with self._database.reader() as connection:
            running = [row[0] for row in connection.execute(_RUNNING).fetchall()]
            # Not inside the transaction, for which intake would have to wait: both look at all
            # that is open.
            groups = {Group(*row) for row in connection.execute(_WITHOUT_DEBT).fetchall()}
        lost = [uid for uid in running if not self._is_running(uid)]

        def gather(uid: str, transaction: Transaction) -> int:
            now = self._time(transaction)
            found = transaction.execute(self._sql(_GROUPS), (uid,)).fetchall()
            transaction.execute(self._sql(_LOST), (uid,))
            asked = (self._gathering.ask(transaction, Group(*row), now, now) for row in found)
            return sum(asked)

        def work(transaction: Transaction) -> int:
            now = self._time(transaction)
            adopted = sum(
                self._gathering.ask(transaction, group, now, now) for group in sorted(groups)
            )
            transaction.execute(self._sql(_FORGET_ASKED), (now - KEPT_S, now - 3 * KEPT_S))
            transaction.execute(_FORGET_SENT)
            return adopted

        # One by one, since each may have many objects.
        adopted = sum(self._writer.transact(partial(gather, uid)) for uid in lost)
        adopted += self._writer.transact(work)
        if adopted:
            self._wake()
        return adopted

    # Inside a transaction.

    def _write_down(
        self,
        transaction: Transaction,
        report: Report,
        debt_id: int,
        node: str,
        apart: bool,
        pause_s: float,
    ) -> tuple[int, list[str]]:
        now = self._time(transaction)
        current = self._gathering.current(transaction, debt_id)
        if not current:
            # The debt has left the history; what is stuck since then has not.
            current = transaction.execute(self._sql(_LAST_ASKED), (debt_id,)).fetchone()[0]
        committed = {each.sop_instance for each in report.committed}
        failed = {each.sop_instance: reason for each, reason in report.failed.items()}
        good: list[tuple[float, float, int]] = []
        spool: dict[str, None] = {}
        bad = left = 0
        for number, _, instance, device, name in self._gathering.awaited(transaction, current):
            if instance in committed:
                good.append((now, now, number))
                if device == "SPOOL":
                    spool[name] = None
            elif instance in failed and current == report.uid:
                self._owe_again(transaction, number, node, failed[instance], now, pause_s)
                bad += 1
            else:
                left += 1
        transaction.executemany(self._sql(_COMMITTED), good)
        given_up = self._gathering.given_up(transaction, current)
        late = [row for row in given_up if row[2] in committed]
        values = [(now, now, row[0], current) for row in late]
        transaction.executemany(self._sql(_COMMITTED_LATE), values)
        spool.update((name, None) for *_, device, name in late if device == "SPOOL")
        if not left:
            text = f"committed {len(good)} object(s), {bad} failed"
            transaction.execute(self._sql(_CLOSE), (now, text, debt_id))
        else:
            log.warning("%s left %d object(s) out of its report.", node, left)
        transaction.execute(self._sql(_END), (now, int(apart), report.uid))
        return bad, unowed_copies(self._database, transaction, spool)

    def _owe_again(
        self,
        transaction: Transaction,
        debt_id: int,
        node: str,
        reason: int,
        now: float,
        pause_s: float,
    ) -> None:
        """Owe a delivery again that the node accepted and does not commit to."""
        text = f"{node} accepted it, but did not commit to its storage: {in_words(reason)}"
        count = transaction.execute(self._sql(_FAILURES), (debt_id,)).fetchone()[0] + 1
        # Every third time, so that `queue retry` gives it three more.
        state = "queued" if count % MOST_FAILURES else "stuck"
        values = (state, now + pause_s, reason, fitting(text, LONGEST_ERROR), debt_id)
        transaction.execute(self._sql(_AGAIN), values)
        transaction.execute(
            self._sql(_TRY), (debt_id, now, node, UNCOMMITTED, reason, fitting(text, LONGEST_ERROR))
        )

    def _deliver_some(self, node: str, transaction: Transaction) -> tuple[int, list[str]]:
        rows = transaction.execute(self._sql(_OF_NODE), (node,)).fetchall()
        return self._deliver(transaction, rows, without(node))

    def _deliver(
        self, transaction: Transaction, rows: Sequence[Sequence[Any]], text: str
    ) -> tuple[int, list[str]]:
        """Let deliveries (id, device, name) count as they are; return how many, and the copies that
        nobody needs any more."""
        now = self._time(transaction)
        values = [(now, text, number) for number, _, _ in rows]
        transaction.executemany(self._sql(_DELIVERED), values)
        spool = dict.fromkeys(name for _, device, name in rows if device == "SPOOL")
        return len(rows), unowed_copies(self._database, transaction, spool)

    def _is_running(self, uid: str) -> bool:
        with self._database.reader() as connection:
            return connection.execute(self._sql(_HAS_DEBT), (uid,)).fetchone() is not None

    def _time(self, transaction: Transaction) -> float:
        return database_time(self._database, self._clock, transaction)

    def _sql(self, text: str) -> str:
        return self._database.sql(text)


def without(node: str) -> str:
    """Return what is noted of deliveries that count without a commitment."""
    return f"delivered; Commit is not set any more for {node}"
