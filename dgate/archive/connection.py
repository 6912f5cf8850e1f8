"""One open connection to the index database, whatever the engine: statements, streams, structure.

Not for opening (`dgate.archive.database`) nor for what servers need beyond SQLite
(`dgate.archive.servers`). A `Connection` belongs to one thread at a time.
"""

from __future__ import annotations

import itertools
import logging
import select
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Protocol

from dgate.ops.log import SQL

log = logging.getLogger(__name__)
_statements = logging.getLogger(SQL)

Value = str | int | float | bytes | None
Row = tuple[Any, ...]

STREAM_ROWS = 1000
"""Rows that a server hands over at once when a result is streamed."""

_LENGTHS = (
    "SELECT lower(column_name), character_maximum_length, collation_name "
    "FROM information_schema.columns WHERE table_name = %s AND table_schema = "
)


class Cursor(Protocol):
    """The part of a DB-API cursor that dgate uses."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def fetchmany(self, size: int = ..., /) -> list[Any]: ...
    def close(self) -> None: ...


class Stream(Protocol):
    """A result that is read in pages and not kept as a whole."""

    def fetchmany(self, size: int = ..., /) -> Sequence[Any]: ...


class Connection:
    """One open connection. SQL given to it is in the engine's own parameter style
    (`Database.sql`)."""

    __slots__ = ("_peewee", "execute", "raw")

    def __init__(self, opened: Any) -> None:
        self._peewee = opened
        self.raw: Any = opened.connection()
        self.execute: Callable[..., Cursor] = (
            self.raw.execute if hasattr(self.raw, "execute") else self._by_cursor
        )
        """Run one statement: `execute(sql, parameters=())`, bound straight to the driver. Servers
        take `%` literally in a statement without parameters, and doubled in one with them."""

    @property
    def telling(self) -> Callable[..., Cursor]:
        """`execute`, or what also logs each statement where `DebugLevel` asks for it now."""
        return self._tell if _statements.isEnabledFor(logging.DEBUG) else self.execute

    def _tell(self, sql: str, parameters: Sequence[Value] = ()) -> Cursor:
        _statements.debug("%s %s", " ".join(sql.split()), list(parameters))
        return self.execute(sql, parameters) if parameters else self.execute(sql)

    def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each row of parameters."""
        if _statements.isEnabledFor(logging.DEBUG):
            rows = list(rows)
            _statements.debug("%s, %d time(s)", " ".join(sql.split()), len(rows))
        self.raw.cursor().executemany(sql, rows)

    def stream(self, sql: str, parameters: Sequence[Value]) -> Stream:
        """Run a query whose result may be too large for the memory.

        The connection serves nothing else until the result was read to its end or the connection
        was closed.
        """
        if _statements.isEnabledFor(logging.DEBUG):
            _statements.debug("%s %s", " ".join(sql.split()), list(parameters))
        if hasattr(self.raw, "pgconn"):
            return _Rows(self.raw.cursor().stream(sql, parameters or None, size=STREAM_ROWS))
        if not hasattr(self.raw, "execute"):
            return _unbuffered(self.raw, sql, parameters)
        return self.execute(sql, parameters)

    def is_stale(self) -> bool:
        """Tell whether the server has ended this connection while nobody used it.

        Costs no message: an idle connection has something to read only when it ended, or when the
        server has news that nobody needs.
        """
        try:
            descriptor = _descriptor(self.raw)
        except Exception as exc:
            # Drivers raise errors of their own for a connection that they know to be closed.
            log.debug("A database connection was closed: %s", exc)
            return True
        if descriptor is None:
            return False
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(0))

    def tables(self) -> dict[str, str]:
        """Return the existing tables, lower-case name to the database's spelling."""
        return {name.lower(): name for name in self._peewee.get_tables()}

    def columns(self, table: str) -> dict[str, str]:
        """Return the columns of a table, lower-case name to the database's spelling."""
        return {column.name.lower(): column.name for column in self._peewee.get_columns(table)}

    def texts(self, table: str) -> dict[str, tuple[int | None, str]]:
        """Return for each column, by lower-case name, how many characters it holds (None: no limit)
        and the name of its collation; empty where the engine enforces no lengths."""
        if hasattr(self.raw, "pgconn"):
            schema = "current_schema()"
        elif not hasattr(self.raw, "execute"):
            schema = "database()"
        else:
            return {}
        rows = self.execute(_LENGTHS + schema, (table,)).fetchall()
        return {row[0]: (row[1], row[2] or "") for row in rows}

    def indexes(self, table: str) -> dict[str, tuple[str, ...]]:
        """Return the indices of a table: lower-case name to lower-case columns, primary key
        included."""
        found = {
            index.name.lower(): tuple((column or "").lower() for column in index.columns)
            for index in self._peewee.get_indexes(table)
        }
        key = tuple(name.lower() for name in self._peewee.get_primary_keys(table))
        return found | ({"primary key": key} if key else {})

    def unique_columns(self, table: str) -> frozenset[str]:
        """Return the columns of a table, in lower case, of which no two rows have the same
        value."""
        keys = [tuple(self._peewee.get_primary_keys(table))]
        keys += [
            tuple(index.columns)
            for index in self._peewee.get_indexes(table)
            # A partial index says nothing of the rows that it leaves out.
            if index.unique and " where " not in (index.sql or "").lower()
        ]
        return frozenset(key[0].lower() for key in keys if len(key) == 1 and key[0])

    def close(self) -> None:
        """Close the connection; never raises."""
        try:
            _abandon(self.raw)
            self._peewee.close()
        except Exception as exc:
            # The server may be gone already; the connection is dropped in any case and no image
            # depends on it.
            log.debug("Closing a database connection failed: %s", exc)

    def _by_cursor(self, sql: str, parameters: Sequence[Value] = ()) -> Cursor:
        cursor: Cursor = self.raw.cursor()
        cursor.execute(sql, tuple(parameters) or None)  # type: ignore[attr-defined]
        return cursor


class _Rows:
    """Pages over a generator of rows."""

    def __init__(self, rows: Generator[Row, None, None]) -> None:
        self._rows = rows

    def fetchmany(self, size: int = 1, /) -> list[Row]:
        return list(itertools.islice(self._rows, size))


def _descriptor(raw: Any) -> int | None:
    """Return the socket of a connection to a server; None for an embedded database."""
    if hasattr(raw, "pgconn"):
        found: int = raw.fileno()
        return found
    if hasattr(raw, "execute"):
        return None
    # The driver offers no other way to its socket.
    descriptor: int = raw._sock.fileno()
    return descriptor


def _abandon(raw: Any) -> None:
    """Give up a result that was not read to its end; PyMySQL would wait for the rest of it."""
    result = getattr(raw, "_result", None)
    if result is not None:
        result.unbuffered_active = False


def _unbuffered(raw: Any, sql: str, parameters: Sequence[Value]) -> Stream:
    # Imported here: only a connection of this driver comes here, and it is an extra.
    from pymysql.cursors import SSCursor

    cursor: Any = raw.cursor(SSCursor)
    cursor.execute(sql, tuple(parameters) or None)
    stream: Stream = cursor
    return stream
