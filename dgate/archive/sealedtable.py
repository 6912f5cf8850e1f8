"""The table `dgate_reidentification`: its form and its making, apart from what is in it.

What is in it, and how to read it: `dgate.archive.reidentification`. Runs at start, one thread.
"""

from __future__ import annotations

from collections.abc import Collection

from dgate.archive.connection import Connection

TABLE = "dgate_reidentification"
COLUMNS = (
    "lookup varchar(64) not null, origin varchar(64) not null, stage varchar(64) not null, "
    "sealed text not null, made double precision not null"
)
"""`lookup` and `origin` are HMAC-SHA-256 in hexadecimal, `sealed` is base64 of nonce and
ciphertext, `made` Unix seconds. `stage` is the only thing that can be read without the key."""
INDICES = {"dgate_reident_lookup": "lookup", "dgate_reident_origin": "origin"}


def prepare_sealed(
    connection: Connection, existing: Collection[str], indices: Collection[str], options: str
) -> None:
    """Create what is missing of the table; raises the driver's errors.

    Args:
        existing: the tables that are there, in lower case.
        indices: the names of the indices that are there.
        options: what CREATE TABLE ends with.
    """
    if TABLE not in existing:
        connection.execute(f"CREATE TABLE {TABLE} ({COLUMNS}){options}")
    for name, column in INDICES.items():
        if name not in indices:
            connection.execute(f"CREATE INDEX {name} ON {TABLE} ({column})")
