"""Leases of gateways that are gone, and what else both sides of the ledger need in a transaction.

In a shared ledger a lease is proof of life until it runs out. Only what was leased in this place
(`dgate.archive.gatewayid`) is given back before that: who holds the folder's lock knows that its
owner is gone. After a boot of the machine it waits, since a copy of the machine's disk looks alike.

Not for claiming (`dgate.delivery.ledger`) nor for operators (`dgate.delivery.desk`). Any thread may
call any function.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.gatewayid import up_s
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.errors import DgateError

log = logging.getLogger(__name__)

LEASE_S = 300.0
"""How long a claim holds without being renewed."""
MOST_CRASHES = 5
"""Ends of a server in a row, without a try that ended, after which a debt is stuck."""

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
_GIVE_BACK = (
    "UPDATE dgate_debts SET state = 'queued', owner = NULL, lease_until = NULL "
    "WHERE state = 'leased' AND owner = ? AND destination = ?"
)
_CRASHED = (
    f"the server ended {MOST_CRASHES} times in a row while this was being sent; look for the cause "
    "in the log, then `dgate queue retry`"
)
# Literal states, or the partial index could not serve.
_STILL_OWED = (
    f"SELECT 1 FROM dgate_debts WHERE device = 'SPOOL' AND name = ? AND {OPEN_SQL} LIMIT 1"
)
_ELSEWHERE = (
    "SELECT owner, lease_until FROM dgate_debts WHERE state = 'leased' AND lease_until > ? "
    "AND substr(owner, 1, {}) = ? AND substr(owner, 1, {}) <> ? ORDER BY lease_until DESC LIMIT 1"
)
_LONGEST_NODE = 40


class Twin(NamedTuple):
    """A gateway elsewhere that goes by our name."""

    owner: str
    """As its leases have it."""
    age_s: float
    """How long ago it claimed or renewed a lease."""


def new_owner(database: Database) -> str:
    """Return what one start of this gateway writes beside its leases; at most 110 characters."""
    machine = platform.node()[:_LONGEST_NODE]
    return f"{_here(database)}{machine}/{os.getpid()}/{secrets.token_hex(6)}"


def _here(database: Database) -> str:
    """Return what the owner of every lease begins with that was claimed in this place."""
    return f"{database.home}/{database.place}/" if database.place else f"{database.home}/"


def twin_of(
    database: Database, clock: Clock, connection: Any, since: Callable[[float], float]
) -> Twin | None:
    """Return the gateway that goes by our name elsewhere and has claimed or renewed a lease after
    `since(now)`, in the time of the database."""
    now = database_time(database, clock, connection)
    home, here = f"{database.home}/", _here(database)
    statement = database.sql(_ELSEWHERE.format(len(home), len(here)))
    row = connection.execute(statement, (since(now) + LEASE_S, home, here)).fetchone()
    return None if row is None else Twin(row[0], now - (row[1] - LEASE_S))


def refuse_twin(database: Database, clock: Clock) -> None:
    """Raise DgateError when another gateway goes by our name, as in a copy of the base folder.

    A lease that has not run out, is younger than this boot of the machine, and was not claimed in
    this place, is not one that we have left; who lives renews his. Called before anything of this
    gateway is recovered.
    """
    if database.embedded:
        return
    with database.reader() as connection:
        twin = twin_of(database, clock, connection, lambda now: now - min(up_s(), LEASE_S))
    if twin is None:
        return
    raise DgateError(
        f"another gateway in the same database goes by the name of this one; as {twin.owner} it "
        f"worked {max(twin.age_s, 0):.0f} s ago",
        where=str(database.id_file),
        remedy="if this base folder is a copy of that gateway's, remove this file and start again; "
        f"if it was moved or restored, start again {LEASE_S / 60:.0f} minutes after that",
    )


def warn_of_twin(database: Database, clock: Clock, since: float) -> None:
    """Log an error when another gateway by our name has worked since then, by the database's
    clock; it may have been idle when we started."""
    with database.reader() as connection:
        twin = twin_of(database, clock, connection, lambda now: since)
    if twin is not None:
        log.error(
            "Another gateway in the same database goes by the name of this one (%s): one base "
            "folder is a copy of the other. Stop one of them, remove %s there, and start it again.",
            twin.owner,
            database.id_file,
        )


def recover_leases(
    database: Database,
    writer: Writer,
    clock: Clock,
    owner: str = "",
    *,
    shared: bool,
    starting: bool = False,
) -> int:
    """Give back the debts of gateways that are gone and return how many there were.

    In a ledger that is not shared everybody but `owner` and its workers is gone, since the caller
    holds the lock of its folder; in a shared one those whose lease has run out and, when the
    gateway is `starting`, its earlier starts in this place. Debts that `MOST_CRASHES` servers in a
    row ended at become stuck, and are not counted.
    """

    def work(transaction: Transaction) -> tuple[int, int]:
        gone: tuple[Any, ...] = (owner,)
        more = ""
        if owner:
            # Its further workers. Not LIKE: the name of a machine may hold what that reads.
            workers = f"{owner}/"
            gone += (workers,)
            more += f" AND substr(owner, 1, {len(workers)}) <> ?"
        if shared:
            here = _here(database)
            gone += (database_time(database, clock, transaction),)
            run_out = "lease_until < ?"
            if starting:
                gone += (here,)
                run_out = f"({run_out} OR substr(owner, 1, {len(here)}) = ?)"
            more += f" AND {run_out}"
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


def give_back(
    database: Database, transaction: Transaction, owner: str, destination: str, begun: Sequence[int]
) -> None:
    """Give back what a worker has claimed for a destination, but for the debts it has begun."""
    more = f" AND id NOT IN ({', '.join('?' * len(begun))})" if begun else ""
    transaction.execute(database.sql(_GIVE_BACK + more), (owner, destination, *begun))


def unowed_copies(database: Database, transaction: Transaction, names: Iterable[str]) -> list[str]:
    """Return those of the spool copies that no open debt needs any more."""
    statement = database.sql(_STILL_OWED)
    return [name for name in names if transaction.execute(statement, (name,)).fetchone() is None]
