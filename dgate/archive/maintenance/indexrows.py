"""The image rows of an index from the first to the last, a page at a time.

For those who look at every object; no transaction is open between two pages, so that neither a
writer nor the shrinking of the write-ahead log has to wait. Used by one thread with a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dgate.archive.connection import Connection, Value
from dgate.archive.database import Database
from dgate.archive.levels import LEVELS, Level, Schema
from dgate.archive.records import stored_name


class IndexRow(NamedTuple):
    """Where the index has an object."""

    sop_instance: str
    device: str
    name: str
    """Relative to the device, with `/` between folders."""


def index_rows(
    connection: Connection, database: Database, schema: Schema, page: int
) -> Iterator[list[IndexRow]]:
    """Yield all image rows; those that are entered meanwhile may be among them."""
    table = schema.table(LEVELS[-1])
    assert table.level is Level.IMAGE
    # A table that was made without primary key may have a key twice.
    order = "rowid" if database.embedded else table.key
    columns = (table.key, table.extra["devicename"], table.extra["objectfile"], order)
    select = f"SELECT {', '.join(columns)} FROM {table.name}"
    first = database.sql(f"{select} ORDER BY {order} LIMIT ?")
    following = database.sql(f"{select} WHERE {order} > ? ORDER BY {order} LIMIT ?")
    parameters: list[Value] = [page]
    statement = first
    while rows := connection.execute(statement, parameters).fetchall():
        yield [IndexRow(row[0] or "", row[1] or "", stored_name(row[2])) for row in rows]
        statement, parameters = following, [rows[-1][3], page]


def count_rows(connection: Connection, schema: Schema) -> dict[str, int]:
    """Return how many rows each level has."""
    return {
        table.level.value.lower(): int(
            connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
        )
        for table in schema.levels
    }
