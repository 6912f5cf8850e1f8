"""Leases of gateways that are gone, and what else both sides of the ledger need in a transaction.

Not for claiming (`dgate.delivery.ledger`) nor for operators (`dgate.delivery.desk`). Any thread may
call any function.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock

log = logging.getLogger(__name__)

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
_CRASHED = (
    f"the server ended {MOST_CRASHES} times in a row while this was being sent; look for the cause "
    "in the log, then `dgate queue retry`"
)
# Literal states, or the partial index could not serve.
_STILL_OWED = (
    f"SELECT 1 FROM dgate_debts WHERE device = 'SPOOL' AND name = ? AND {OPEN_SQL} LIMIT 1"
)


def recover_leases(
    database: Database, writer: Writer, clock: Clock, owner: str = "", *, shared: bool
) -> int:
    """Give back the debts of gateways that are gone and return how many there were.

    In a ledger that is not shared everybody but `owner` and its workers is gone, since the caller
    holds the lock of its folder; in a shared one earlier gateways of this folder, and those whose
    lease has run out. Debts that `MOST_CRASHES` servers in a row ended at become stuck, and are not
    counted.
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
            home = f"{database.home}/"
            gone += (database_time(database, clock, transaction), home)
            more += f" AND (lease_until < ? OR substr(owner, 1, {len(home)}) = ?)"
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


def unowed_copies(database: Database, transaction: Transaction, names: Iterable[str]) -> list[str]:
    """Return those of the spool copies that no open debt needs any more."""
    statement = database.sql(_STILL_OWED)
    return [name for name in names if transaction.execute(statement, (name,)).fetchone() is None]
