"""The ledger: claims debts for the workers and writes down what became of them.

Debts are born in `dgate.archive.index`, in the transaction that stores the object. Not for deciding
what a failure means (`dgate.delivery.failures`) nor for operators (`dgate.delivery.desk`). Every
write goes through the archive's `Writer`,
so that claims and marks share their commits with intake. Any thread may call any method.

A claimed row carries its owner, one name per start of a gateway, and the end of its lease. A crash
leaves rows leased; `recover` gives them back and counts a possible repeat, because the object may
have been delivered with only the mark lost. A negative `last_status` says how many ends of a server
in a row the debt was leased at; any try that ends overwrites it. An object that the server dies of
is thereby found: see `MOST_CRASHES`.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.requests import LANE_PREFIX
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.delivery.notices import Notices
from dgate.delivery.records import (
    CLOSED_STATES,
    Debt,
    Lane,
    Settlement,
    State,
    batches,
)
from dgate.delivery.texts import LONGEST_ERROR, fitting, fitting_draft
from dgate.errors import DatabaseAway, OutOfSpace, StoreError

log = logging.getLogger(__name__)

LEASE_S = 300.0
"""How long a claim holds without being renewed."""
MOST_CRASHES = 5
"""Ends of a server in a row, without a try that ended, after which a debt is stuck."""
SUSPECT_CRASHES = 2
"""After so many a debt is claimed alone, so that it is the only one leased at the next."""
_CLOCK_SLACK_S = 60.0

_CANDIDATES = (
    "SELECT id, kind, destination, rule, calling, called, compression, script, sop_class, "
    "sop_instance, patient_id, study, series, device, name, context, attempts, last_status "
    "FROM dgate_debts WHERE state = 'queued' AND destination = ? "
)
_CLAIM = _CANDIDATES + "AND due <= ? ORDER BY due, id LIMIT ?"
_CLAIM_BEYOND = _CANDIDATES + "AND due > ? AND kind <> 'request' ORDER BY due, id LIMIT ?"
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
_DEFER = (
    "UPDATE dgate_debts SET state = 'queued', due = ?, last_status = NULL, last_error = ?, "
    "owner = NULL, lease_until = NULL" + _OURS
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
_RENEW = (
    "UPDATE dgate_debts SET lease_until = ? WHERE state = 'leased' AND (owner = ? OR owner LIKE ?)"
)
_RECOVER = (
    "UPDATE dgate_debts SET state = 'queued', repeats = repeats + 1, owner = NULL, "
    "lease_until = NULL, "
    "last_status = CASE WHEN last_status < 0 THEN last_status - 1 ELSE -1 END "
    "WHERE state = 'leased' AND owner <> ?"
)
_GIVE_UP = (
    "UPDATE dgate_debts SET state = 'stuck', repeats = repeats + 1, owner = NULL, "
    "lease_until = NULL, last_status = last_status - 1, last_error = ? "
    f"WHERE last_status <= {1 - MOST_CRASHES} AND state = 'leased' AND owner <> ?"
)
_CRASHED = (
    f"the server ended {MOST_CRASHES} times in a row while this was being sent; look for the cause "
    "in the log, then `dgate queue retry`"
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
        self.owner = f"{database.home}/{os.getpid()}/{secrets.token_hex(6)}"
        self.shared = not database.embedded
        """Whether other gateways may work on the same ledger."""
        self.longest_pause_s = math.inf
        """What is due later than this from now was written by a clock that was wrong, and counts
        as due. Set by the dispatcher, before its threads start."""
        sql = database.sql
        lock = database.claim_lock
        self._claim_sql, self._claim_beyond_sql = sql(_CLAIM) + lock, sql(_CLAIM_BEYOND) + lock
        self._lease_sql = sql(_LEASE)
        self._close_sql = sql(_CLOSE)
        self._retry_sql = sql(_RETRY)
        self._return_sql = sql(_RETURN)
        self._defer_sql = sql(_DEFER)
        self._replace_sql = sql(_REPLACE)
        self._next_lane_sql = sql(_NEXT_LANE)

    # What the dispatcher asks.

    def lanes(self) -> list[Lane]:
        """Return every destination with a waiting debt; costs one index look-up for each.

        A due time that no pause explains is given as 0. One behind an explainable one is found when
        that is due.
        """
        found = []
        with self._database.reader() as connection:
            latest = self._latest(self._now(connection))
            row = connection.execute(_FIRST_LANE).fetchone()
            while row is not None:
                is_explained = row[1] <= latest or row[0].startswith(LANE_PREFIX)
                found.append(Lane(row[0], row[1] if is_explained else 0.0))
                row = connection.execute(self._next_lane_sql, (row[0],)).fetchone()
        return found

    def notices(self, wake: Callable[[], None]) -> Notices:
        """Return what calls `wake` when another gateway enters debts here."""
        return Notices(self._database, wake)

    def now(self) -> float:
        """Return the time by which debts are due: the database's (rulings.md 18)."""
        if self._database.clock_sql is None:
            return self._clock.now()
        with self._database.reader() as connection:
            return self._now(connection)

    def exchange(
        self,
        settlements: Sequence[Settlement],
        destination: str,
        limit: int,
        *,
        orphans: bool = False,
        slot: int = 0,
    ) -> list[Debt]:
        """Write down what became of debts and claim the next due ones, in one commit.

        With `orphans`, rows of this destination that are leased to us go back first, as possible
        repeats: the caller knows of none but those settled here. May be repeated with the same
        settlements after an error; what was written already is not written again. When the database
        refuses one of them, the others are written all the same. Spool copies whose last debt was
        paid are removed after the commit; a crash before that leaves the copy to be swept at start.
        `slot` tells the workers of one destination apart: each has leases of its own.
        """
        if not settlements and limit <= 0 and not orphans:
            return []

        owner = self._owner_of(slot)

        def work(transaction: Transaction) -> tuple[list[Debt], list[str]]:
            now = self._time(transaction)
            spool = self._settle(transaction, settlements, now, owner)
            if orphans:
                transaction.execute(self._database.sql(_ORPHANS), (owner, destination))
            return self._claim(transaction, destination, now, limit, owner), spool

        try:
            debts, spool = self._writer.transact(work)
        except (DatabaseAway, OutOfSpace):
            raise
        except (StoreError, ValueError):
            # Drivers raise ValueError for text that they cannot encode.
            if not settlements:
                raise
            self._settle_singly(settlements, destination, slot)
            return self.exchange((), destination, limit, orphans=orphans, slot=slot)
        for name in spool:
            self._release_spool(name)
        return debts

    def _owner_of(self, slot: int) -> str:
        return f"{self.owner}/{slot}" if slot else self.owner

    def _settle_singly(
        self, settlements: Sequence[Settlement], destination: str, slot: int
    ) -> None:
        """Write settlements one by one, in plain words where the database refuses its text."""
        if len(settlements) > 1:
            for settled in settlements:
                self.exchange((settled,), destination, 0, slot=slot)
            return
        [settled] = settlements
        plain = _in_plain_words(settled)
        if settled == plain:
            raise StoreError(f"the database refuses to write down what became of {settled.debt.id}")
        log.error("The ledger refused the outcome of debt %d as it was.", settled.debt.id)
        self.exchange((plain,), destination, 0, slot=slot)

    def renew(self) -> None:
        """Extend the lease of everything that is claimed by us."""
        self._writer.transact(
            lambda transaction: transaction.execute(
                self._database.sql(_RENEW),
                (self._time(transaction) + LEASE_S, self.owner, f"{self.owner}/%"),
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
        for batch in batches(rows):
            self._writer.transact(partial(_run_many, statement, batch))
        return len(rows)

    def _now(self, connection: Connection) -> float:
        if self._database.clock_sql is None:
            return self._clock.now()
        return float(connection.execute(f"SELECT {self._database.clock_sql}").fetchone()[0])

    def _latest(self, now: float) -> float:
        """Return the latest time that a debt can wait for on purpose."""
        return now + self.longest_pause_s + _CLOCK_SLACK_S

    # Inside a transaction.

    def _time(self, transaction: Transaction) -> float:
        return database_time(self._database, self._clock, transaction)

    def _claim(
        self, transaction: Transaction, destination: str, now: float, limit: int, owner: str
    ) -> list[Debt]:
        if limit <= 0:
            return []
        rows = transaction.execute(self._claim_sql, (destination, now, limit)).fetchall()
        latest = self._latest(now)
        if len(rows) < limit and latest < math.inf:
            values = (destination, latest, limit - len(rows))
            rows += transaction.execute(self._claim_beyond_sql, values).fetchall()
        rows = _without_suspects(rows)
        until = now + LEASE_S
        transaction.executemany(self._lease_sql, [(owner, until, row[0]) for row in rows])
        return [_debt(row) for row in rows]

    def _settle(
        self, transaction: Transaction, settlements: Iterable[Settlement], now: float, owner: str
    ) -> list[str]:
        """Write the settlements; return the spool copies that may have no debt left."""
        closed, retried, returned, deferred = [], [], [], []
        spool: dict[str, None] = {}
        for settled in settlements:
            debt = settled.debt
            if settled.state is None:
                # Replaced only while it is ours, or a second gateway's result would be doubled.
                gone = transaction.execute(self._replace_sql, (debt.id, owner)).rowcount
                if gone and settled.drafts:
                    drafts = [fitting_draft(draft) for draft in settled.drafts]
                    self._add_debts(transaction, debt.ref, drafts, now)
            elif not settled.tried:
                returned.append((int(settled.doubtful), debt.id, owner))
            elif not settled.counted:
                error = fitting(settled.error, LONGEST_ERROR)
                deferred.append((now + settled.pause_s, error, debt.id, owner))
            elif settled.state is State.QUEUED:
                values = (settled.status, fitting(settled.error, LONGEST_ERROR), debt.id, owner)
                retried.append((now + settled.pause_s, int(settled.doubtful), *values))
            else:
                finished = now if settled.state in CLOSED_STATES else None
                values = (settled.status, fitting(settled.error, LONGEST_ERROR), debt.id, owner)
                doubt = int(settled.doubtful)
                closed.append((settled.state.value, finished, doubt, *values))
            if debt.ref.device == "SPOOL" and settled.state in (State.DONE, None):
                spool[debt.ref.name] = None
        for statement, rows in (
            (self._close_sql, closed),
            (self._retry_sql, retried),
            (self._return_sql, returned),
            (self._defer_sql, deferred),
        ):
            if rows:
                transaction.executemany(statement, rows)
        return unowed_copies(self._database, transaction, spool)


def recover_leases(
    database: Database, writer: Writer, clock: Clock, owner: str = "", *, shared: bool
) -> int:
    """Give back the debts of gateways that are gone and return how many there were.

    In a ledger that is not shared everybody but `owner` is gone, since the caller holds the lock of
    its folder; in a shared one earlier gateways of this folder, and those whose lease has run out.
    Debts that `MOST_CRASHES` servers in
    a row ended at become stuck, and are not counted.
    """

    def work(transaction: Transaction) -> tuple[int, int]:
        gone: tuple[Any, ...] = (owner,)
        more = ""
        if shared:
            home = f"{database.home}/"
            gone = (owner, database_time(database, clock, transaction), home)
            more = f" AND (lease_until < ? OR substr(owner, 1, {len(home)}) = ?)"
        given_up = transaction.execute(database.sql(_GIVE_UP + more), (_CRASHED, *gone)).rowcount
        return transaction.execute(database.sql(_RECOVER + more), gone).rowcount, given_up

    recovered, given_up = writer.transact(work)
    if given_up:
        log.error(
            "%d deliveries are stuck: the server ended %d times in a row while they were being "
            "sent. See `dgate queue list --state stuck`.",
            given_up,
            MOST_CRASHES,
        )
    return recovered


def database_time(database: Database, clock: Clock, transaction: Transaction) -> float:
    """Return the time by which debts are due: the database server's, if it is one."""
    if database.clock_sql is None:
        return clock.now()
    return float(transaction.execute(f"SELECT {database.clock_sql}").fetchone()[0])


def unowed_copies(database: Database, transaction: Transaction, names: Iterable[str]) -> list[str]:
    """Return those of the spool copies that no open debt needs any more."""
    statement = database.sql(_STILL_OWED)
    return [name for name in names if transaction.execute(statement, (name,)).fetchone() is None]


def _without_suspects(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows before the first that servers died of, or that one alone."""
    for place, row in enumerate(rows):
        if row[-1] is not None and row[-1] <= -SUSPECT_CRASHES:
            return rows[: max(place, 1)]
    return rows


def _in_plain_words(settled: Settlement) -> Settlement:
    """Return the settlement without any text from outside; an object that arrived stays so."""
    if settled.state is State.DONE:
        return settled._replace(error="the peer's text cannot be written into the ledger")
    what = "its deliveries" if settled.state is None else "what became of it"
    return Settlement(
        settled.debt,
        State.STUCK,
        settled.status,
        f"the database refused to write down {what}; see the log, then `dgate queue retry`",
        doubtful=settled.doubtful,
    )


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
