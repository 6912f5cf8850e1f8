"""The ledger: claims debts for the workers and writes down what became of them.

Debts are born in `dgate.archive.index`, in the transaction that stores the object. Not for deciding
what a failure means (`dgate.delivery.failures`) nor for operators (`dgate.delivery.desk`). Every
write goes through the archive's `Writer`,
so that claims and marks share their commits with intake. Any thread may call any method.

A claimed row carries its owner, one name per start of a gateway, and the end of its lease. A crash
leaves rows leased; `recover` gives them back and counts a possible repeat, because the object may
have been delivered with only the mark lost.
"""

from __future__ import annotations

import itertools
import os
import platform
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from dgate.archive.database import Database
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.config.settings import Engine
from dgate.delivery.records import (
    CLOSED_STATES,
    Debt,
    Lane,
    Settlement,
    State,
)

LEASE_S = 300.0
"""How long a claim holds without being renewed."""
_IDS_AT_ONCE = 500
_LONGEST_ERROR = 1000

_CLAIM = (
    "SELECT id, kind, destination, rule, calling, called, compression, script, sop_class, "
    "sop_instance, patient_id, study, series, device, name, context, attempts FROM dgate_debts "
    "WHERE state = 'queued' AND destination = ? AND due <= ? ORDER BY due, id LIMIT ?"
)
_LEASE = "UPDATE dgate_debts SET state = 'leased', owner = ?, lease_until = ? WHERE id = ?"
_OURS = " WHERE id = ? AND state = 'leased' AND owner = ?"
_CLOSE = (
    "UPDATE dgate_debts SET state = ?, finished = ?, attempts = attempts + 1, "
    "repeats = repeats + ?, last_status = ?, last_error = ?, owner = NULL, lease_until = NULL"
    + _OURS
)
_RETRY = (
    "UPDATE dgate_debts SET state = 'queued', due = ?, attempts = attempts + 1, "
    "repeats = repeats + ?, last_status = ?, last_error = ?, owner = NULL, lease_until = NULL"
    + _OURS
)
_RETURN = (
    "UPDATE dgate_debts SET state = 'queued', repeats = repeats + ?, owner = NULL, "
    "lease_until = NULL" + _OURS
)
_REPLACE = "DELETE FROM dgate_debts" + _OURS
_ORPHANS = (
    "UPDATE dgate_debts SET state = 'queued', repeats = repeats + 1, owner = NULL, "
    "lease_until = NULL WHERE state = 'leased' AND owner = ? AND destination = ?"
)
_RENEW = "UPDATE dgate_debts SET lease_until = ? WHERE state = 'leased' AND owner = ?"
_RECOVER = (
    "UPDATE dgate_debts SET state = 'queued', repeats = repeats + 1, owner = NULL, "
    "lease_until = NULL WHERE state = 'leased' AND owner <> ?"
)
_FIRST_LANE = (
    "SELECT destination, due FROM dgate_debts WHERE state = 'queued' "
    "ORDER BY destination, due LIMIT 1"
)
_NEXT_LANE = (
    "SELECT destination, due FROM dgate_debts WHERE state = 'queued' AND destination > ? "
    "ORDER BY destination, due LIMIT 1"
)
# Literal states, or the partial index could not serve.
_STILL_OWED = (
    "SELECT 1 FROM dgate_debts WHERE device = 'SPOOL' AND name = ? "
    "AND state IN ('queued', 'leased', 'held', 'stuck') LIMIT 1"
)


AddDebts = Callable[[Transaction, InstanceRef, Sequence[DebtDraft], float], None]
"""`dgate.archive.index.Index.add_debts`."""


class Ledger:
    """The debts of this archive, as the dispatcher sees them."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: Clock,
        add_debts: AddDebts,
        release_spool: Callable[[str], None],
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._add_debts = add_debts
        self._release_spool = release_spool
        self.owner = f"{platform.node()}/{os.getpid()}/{secrets.token_hex(6)}"
        self.shared = not database.embedded
        """Whether other gateways may work on the same ledger."""
        sql = database.sql
        # An embedded database has one writer at a time anyway; MariaDB learned SKIP LOCKED late.
        locking = {Engine.POSTGRES: " FOR UPDATE SKIP LOCKED", Engine.MYSQL: " FOR UPDATE"}
        self._claim_sql = sql(_CLAIM) + locking.get(database.engine, "")
        self._lease_sql = sql(_LEASE)
        self._close_sql = sql(_CLOSE)
        self._retry_sql = sql(_RETRY)
        self._return_sql = sql(_RETURN)
        self._replace_sql = sql(_REPLACE)
        self._next_lane_sql = sql(_NEXT_LANE)

    # What the dispatcher asks.

    def lanes(self) -> list[Lane]:
        """Return every destination with a waiting debt; costs one index look-up for each."""
        found = []
        with self._database.reader() as connection:
            row = connection.execute(_FIRST_LANE).fetchone()
            while row is not None:
                found.append(Lane(row[0], row[1]))
                row = connection.execute(self._next_lane_sql, (row[0],)).fetchone()
        return found

    def now(self) -> float:
        """Return the time by which debts are due: the database's (rulings.md 18)."""
        expression = self._database.clock_sql
        if expression is None:
            return self._clock.now()
        with self._database.reader() as connection:
            return float(connection.execute(f"SELECT {expression}").fetchone()[0])

    def exchange(
        self,
        settlements: Sequence[Settlement],
        destination: str,
        limit: int,
        *,
        orphans: bool = False,
    ) -> list[Debt]:
        """Write down what became of debts and claim the next due ones, in one commit.

        With `orphans`, rows of this destination that are leased to us go back first, as possible
        repeats: the caller knows of none but those settled here. May be repeated with the same
        settlements after an error; what was written already is not written again. Spool copies
        whose last debt was paid are removed after the commit; a crash before that leaves the copy
        to be swept at start.
        """
        if not settlements and limit <= 0 and not orphans:
            return []

        def work(transaction: Transaction) -> tuple[list[Debt], list[str]]:
            now = self._time(transaction)
            spool = self._settle(transaction, settlements, now)
            if orphans:
                transaction.execute(self._database.sql(_ORPHANS), (self.owner, destination))
            return self._claim(transaction, destination, now, limit), spool

        debts, spool = self._writer.transact(work)
        for name in spool:
            self._release_spool(name)
        return debts

    def renew(self) -> None:
        """Extend the lease of everything that is claimed by us."""
        self._writer.transact(
            lambda transaction: transaction.execute(
                self._database.sql(_RENEW), (self._time(transaction) + LEASE_S, self.owner)
            )
        )

    def recover(self) -> int:
        """Give back the debts of gateways that are gone and return how many there were."""
        return recover_leases(
            self._database, self._writer, self._clock, self.owner, shared=self.shared
        )

    def prune(self, age_s: float) -> int:
        """Forget closed debts that were finished longer ago than this; return how many."""
        with self._database.reader() as connection:
            rows = connection.execute(
                self._database.sql(
                    "SELECT id FROM dgate_debts WHERE state IN ('done', 'cancelled') "
                    "AND finished < ?"
                ),
                (self.now() - age_s,),
            ).fetchall()
        statement = self._database.sql("DELETE FROM dgate_debts WHERE id = ?")
        # In small transactions: intake shares them, and must not wait for a year of history.
        for batch in _batches(rows):
            self._writer.transact(partial(_run_many, statement, batch))
        return len(rows)

    # Inside a transaction.

    def _time(self, transaction: Transaction) -> float:
        return database_time(self._database, self._clock, transaction)

    def _claim(
        self, transaction: Transaction, destination: str, now: float, limit: int
    ) -> list[Debt]:
        if limit <= 0:
            return []
        rows = transaction.execute(self._claim_sql, (destination, now, limit)).fetchall()
        until = now + LEASE_S
        transaction.executemany(self._lease_sql, [(self.owner, until, row[0]) for row in rows])
        return [_debt(row) for row in rows]

    def _settle(
        self, transaction: Transaction, settlements: Iterable[Settlement], now: float
    ) -> list[str]:
        """Write the settlements; return the spool copies that may have no debt left."""
        owner = self.owner
        closed, retried, returned = [], [], []
        spool: dict[str, None] = {}
        for settled in settlements:
            debt = settled.debt
            if settled.state is None:
                # Replaced only while it is ours, or a second gateway's result would be doubled.
                gone = transaction.execute(self._replace_sql, (debt.id, owner)).rowcount
                if gone and settled.drafts:
                    self._add_debts(transaction, debt.ref, settled.drafts, now)
            elif not settled.tried:
                returned.append((int(settled.doubtful), debt.id, owner))
            elif settled.state is State.QUEUED:
                values = (settled.status, settled.error[:_LONGEST_ERROR], debt.id, owner)
                retried.append((now + settled.pause_s, int(settled.doubtful), *values))
            else:
                finished = now if settled.state in CLOSED_STATES else None
                values = (settled.status, settled.error[:_LONGEST_ERROR], debt.id, owner)
                doubt = int(settled.doubtful)
                closed.append((settled.state.value, finished, doubt, *values))
            if debt.ref.device == "SPOOL" and settled.state in (State.DONE, None):
                spool[debt.ref.name] = None
        for statement, rows in (
            (self._close_sql, closed),
            (self._retry_sql, retried),
            (self._return_sql, returned),
        ):
            if rows:
                transaction.executemany(statement, rows)
        return unowed_copies(self._database, transaction, spool)


def recover_leases(
    database: Database, writer: Writer, clock: Clock, owner: str = "", *, shared: bool
) -> int:
    """Give back the debts of gateways that are gone and return how many there were.

    In a ledger that is not shared everybody but `owner` is gone, since the caller holds the lock of
    its folder; in a shared one those whose lease has run out.
    """

    def work(transaction: Transaction) -> int:
        if not shared:
            return transaction.execute(database.sql(_RECOVER), (owner,)).rowcount
        now = database_time(database, clock, transaction)
        statement = database.sql(_RECOVER + " AND lease_until < ?")
        return transaction.execute(statement, (owner, now)).rowcount

    return writer.transact(work)


def database_time(database: Database, clock: Clock, transaction: Transaction) -> float:
    """Return the time by which debts are due: the database server's, if it is one."""
    if database.clock_sql is None:
        return clock.now()
    return float(transaction.execute(f"SELECT {database.clock_sql}").fetchone()[0])


def unowed_copies(database: Database, transaction: Transaction, names: Iterable[str]) -> list[str]:
    """Return those of the spool copies that no open debt needs any more."""
    statement = database.sql(_STILL_OWED)
    return [name for name in names if transaction.execute(statement, (name,)).fetchone() is None]


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _IDS_AT_ONCE)):
        yield batch


def _debt(row: tuple[Any, ...]) -> Debt:
    kind = DebtKind.DELIVER if row[1] == DebtKind.DELIVER.value else DebtKind(row[1])
    ref = InstanceRef(*row[8:15])
    destination, rule, calling, called, compression, script = row[2:8]
    return Debt(
        row[0],
        kind,
        destination,
        rule,
        calling,
        called,
        compression,
        script,
        ref,
        row[15],
        row[16],
    )


def _run_many(statement: str, rows: Sequence[Sequence[Any]], transaction: Transaction) -> None:
    transaction.executemany(statement, rows)
