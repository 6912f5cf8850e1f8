"""The history of debts: where objects came from, what is old enough to be forgotten.

Not for what is owed now (`dgate.delivery.ledger`) nor for showing it (`dgate.delivery.search`).
Any thread may call any function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dgate.archive.batches import batches
from dgate.archive.connection import Row, Value
from dgate.archive.database import Database
from dgate.archive.debttable import KEEP_SENT, OPEN_SQL
from dgate.archive.records import Provenance
from dgate.archive.steps import prune_steps
from dgate.archive.writer import Transaction, Writer
from dgate.delivery.records import State

_PAGE = 500
"""Rows that are removed in one transaction: intake shares it, and must not wait for a year."""
_UNKNOWN = Provenance()

_ARRIVAL = (
    "SELECT source, source_host, received, digest, size, accession FROM dgate_received "
    "WHERE sop = ? ORDER BY id DESC LIMIT 1"
)
_CLOSED = (
    "SELECT id FROM dgate_debts WHERE id > ? AND state IN ('done', 'cancelled') AND finished < ? "
    "ORDER BY id LIMIT ?"
)
_OURS = "SELECT id FROM dgate_debts WHERE state = 'leased' AND owner = ?"
_TRY = (
    "INSERT INTO dgate_tries (debt, at, destination, outcome, status, error, seconds) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_OLDEST_REQUEST = f"SELECT min(created) FROM dgate_debts WHERE device = 'REQUEST' AND {OPEN_SQL}"
_REQUEST_SLACK_S = 86400.0
"""An object may have come so long before the request that it was the first for."""


def provenance_of(database: Database, transaction: Transaction, sop_instance: str) -> Provenance:
    """Return where an object came from for which a delayed operation waited; empty for one that
    came before the ledger knew."""
    row = transaction.execute(database.sql(_ARRIVAL), (sop_instance,)).fetchone()
    if row is None:
        return _UNKNOWN
    source, host, received, digest, size, accession = row
    return Provenance(source or "", host or "", received, digest or "", size, accession or "")


def enter_tries(
    database: Database,
    transaction: Transaction,
    tries: Sequence[tuple[Value, ...]],
    owner: str,
) -> None:
    """Write down tries of debts that are leased to their owner; of others they are known already.

    Args:
        tries: values for the columns of `dgate_tries` after `id`, the debt's number first.
    """
    for batch in batches(tries):
        marks = ", ".join("?" * len(batch))
        ours = database.sql(f"{_OURS} AND id IN ({marks})")
        found = transaction.execute(ours, (owner, *(row[0] for row in batch))).fetchall()
        known = {row[0] for row in found}
        rows = [row for row in batch if row[0] in known]
        if rows:
            transaction.executemany(database.sql(_TRY), rows)


def prune(
    database: Database,
    writer: Writer,
    before: float,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Forget closed debts that were finished before a time, with their tries; return how many.

    Of open debts only failed tries are forgotten, which would otherwise grow without end at a
    destination that never answers. Ends after the page in hand when `is_stopping` says so.
    """
    closed = database.sql(_CLOSED)
    count, last = 0, 0
    while not is_stopping():
        with database.reader() as connection:
            rows = connection.execute(closed, (last, before, _PAGE)).fetchall()
        if not rows:
            break
        last = rows[-1][0]
        count += len(rows)
        for table, column in (("dgate_tries", "debt"), ("dgate_decisions", "debt")):
            statement = database.sql(f"DELETE FROM {table} WHERE {column} = ?")
            writer.transact(partial(_run_many, statement, rows))
        writer.transact(partial(_forget_debts, database, rows, before))
    _prune_by_time(
        database,
        writer,
        "dgate_tries",
        "at",
        before,
        lambda row: row[2] == State.QUEUED.value,
        is_stopping,
    )
    with database.reader() as connection:
        oldest = connection.execute(_OLDEST_REQUEST).fetchone()[0]
    before = before if oldest is None else min(before, oldest - _REQUEST_SLACK_S)
    _prune_by_time(
        database, writer, "dgate_received", "received", before, lambda row: True, is_stopping
    )
    prune_steps(database, writer, before, is_stopping)
    return count


def _prune_by_time(
    database: Database,
    writer: Writer,
    table: str,
    column: str,
    before: float,
    is_old: Callable[[Row], bool],
    is_stopping: Callable[[], bool],
) -> None:
    """Remove rows of before a time from a table that grows in the order of time."""
    more = ", outcome" if table == "dgate_tries" else ""
    page = database.sql(
        f"SELECT id, {column}{more} FROM {table} WHERE id > ? ORDER BY id LIMIT {_PAGE}"
    )
    delete = database.sql(f"DELETE FROM {table} WHERE id = ?")
    last = 0
    while not is_stopping():
        with database.reader() as connection:
            rows = connection.execute(page, (last,)).fetchall()
        old = [row for row in rows if row[1] < before]
        gone = [(row[0],) for row in old if is_old(row)]
        if gone:
            writer.transact(partial(_run_many, delete, gone))
        if not old or len(rows) < _PAGE:
            return
        last = rows[-1][0]


def _forget_debts(
    database: Database, rows: Sequence[Row], before: float, transaction: Transaction
) -> None:
    """Remove closed debts; of those of delayed operations it stays known what was sent."""
    transaction.execute(database.sql(KEEP_SENT), (rows[0][0], rows[-1][0], before))
    _run_many(database.sql("DELETE FROM dgate_debts WHERE id = ?"), rows, transaction)


def _run_many(statement: str, rows: Sequence[Row], transaction: Transaction) -> None:
    transaction.executemany(statement, [tuple(row) for row in rows])
