"""Keeps equal delayed operations apart: of those with one identity only one is worked on at a time.

There are several of them where one was stuck, held or under way when objects came that ask for the
same, or where two gateways entered the first at the same moment. Each finds out what is new by what
the one before has owed, which stands in the ledger only when that has ended. Not for joining what
waits (`dgate.archive.owing`). Used inside a transaction that claims.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from dgate.archive.batches import batches
from dgate.archive.database import Database
from dgate.archive.owing import REQUEST_DEVICE
from dgate.archive.writer import Transaction

PUT_OFF_S = 2.0
"""Until an operation is looked at again whose equal is being worked on; chance moves it by half, or
two gateways could go on standing in each other's way."""

# COALESCE: by the index over requests, also on engines that know nothing of how many rows wait.
_OPEN = "COALESCE(state, '') IN ('queued', 'leased', 'held', 'stuck')"
_PUT_OFF = "UPDATE dgate_debts SET due = ? WHERE id = ?"

Row = tuple[Any, ...]


class EqualRequests:
    """Chooses among rows that are about to be claimed."""

    def __init__(self, database: Database, *, device: int, name: int) -> None:
        """`device` and `name` are the places of these columns in a row; its number comes first."""
        self._database = database
        self._device = device
        self._name = name
        self._put_off = database.sql(_PUT_OFF)

    def apart(self, transaction: Transaction, rows: Sequence[Row], now: float) -> list[Row]:
        """Return the rows without those whose equal is being worked on, or comes before them.

        The others stay queued and are due a little later. The caller's transaction has locked the
        rows, on a database server.
        """
        names = dict.fromkeys(
            row[self._name] for row in rows if row[self._device] == REQUEST_DEVICE
        )
        busy = self._busy(transaction, list(names))
        kept, late = [], []
        for row in rows:
            if row[self._device] == REQUEST_DEVICE:
                if row[self._name] in busy:
                    late.append((now + PUT_OFF_S * (0.5 + random.random()), row[0]))
                    continue
                busy.add(row[self._name])
            kept.append(row)
        transaction.executemany(self._put_off, late)
        return kept

    def _busy(self, transaction: Transaction, names: Sequence[str]) -> set[str]:
        """Return the identities of which one is being worked on, or may be about to be.

        Another gateway's claim shows nowhere before its commit but in the rows that it has locked:
        who claims one row of an identity locks all others, and leaves it when he cannot.
        """
        found: set[str] = set()
        for batch in batches(names):
            marks = ", ".join("?" * len(batch))
            statement = self._database.sql(
                "SELECT id, name, state FROM dgate_debts "
                f"WHERE device = '{REQUEST_DEVICE}' AND name IN ({marks}) AND {_OPEN} ORDER BY id"
            )
            ours: set[int] | None = None
            if not self._database.embedded:
                lock = self._database.claim_lock
                locked = transaction.execute(statement + lock, tuple(batch)).fetchall()
                ours = {row[0] for row in locked}
            for number, name, state in transaction.execute(statement, tuple(batch)).fetchall():
                if state == "leased" or (ours is not None and number not in ours):
                    found.add(name)
        return found
