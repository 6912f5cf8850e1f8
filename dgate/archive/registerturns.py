"""What gateways that share a server lock while they enter what a value is replaced by.

The original's table UIDMODS has no unique key, and an existing one may hold what would break it;
so the values are spread over the rows of a table of dgate's own (`dgate.archive.uidregister`).
"""

from __future__ import annotations

from collections.abc import Collection

from dgate.archive.connection import Connection
from dgate.archive.database import Database

TURNS = 64
"""Rows of the table."""
TABLE = "dgate_register_turns"


def prepare_turns(
    database: Database, connection: Connection, existing: Collection[str], options: str
) -> None:
    """Create and fill the table on a server; raises the driver's errors.

    Args:
        existing: the tables that are there, in lower case.
        options: what CREATE TABLE ends with.
    """
    if database.embedded:
        # One transaction writes at a time.
        return
    if TABLE not in existing:
        connection.execute(f"CREATE TABLE {TABLE} (slot int PRIMARY KEY not null){options}")
    there = {row[0] for row in connection.execute(f"SELECT slot FROM {TABLE}").fetchall()}
    # On MariaDB a start that was interrupted may have left some of them.
    missing = [(slot,) for slot in range(TURNS) if slot not in there]
    if missing:
        insert = database.sql(f"INSERT INTO {TABLE} (slot) VALUES (?)")
        connection.executemany(insert, missing)
