"""An index database opened such that nothing changes: no row, no journal, no file beside it.

For looking at an installation that another program owns, and for looking beside a running server.
Used by one thread.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import peewee

from dgate.archive.connection import Connection
from dgate.archive.database import Database, DatabaseSettings
from dgate.archive.fold import decoded
from dgate.config.settings import Engine
from dgate.errors import DgateError

log = logging.getLogger(__name__)

_MAGIC = b"SQLite format 3\0"
_WRITE_VERSION = 18
"""Offset of the byte that says how the database is written: 1 with a journal, 2 with a
write-ahead log (https://www.sqlite.org/fileformat.html, 1.3.3)."""
_WITH_LOG = 2
_READ_ONLY = {
    Engine.POSTGRES: "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    Engine.MYSQL: "SET SESSION TRANSACTION READ ONLY",
}


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """A database that can only be read."""

    database: Database
    """For names and SQL in its style; it is not opened itself."""
    connection: Connection
    note: str = ""
    """What is odd about the database; empty as a rule."""


class LentDatabase(Database):
    """A database whose only connection is one that can only read; for one thread."""

    def __init__(self, settings: DatabaseSettings, connection: Connection) -> None:
        super().__init__(settings)
        self._only = connection

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Lend the connection."""
        try:
            yield self._only
        except self.errors as exc:
            raise self.failure(exc) from exc


@contextmanager
def open_read_only(settings: DatabaseSettings, *, in_use: bool) -> Iterator[OpenIndex]:
    """Open the index of a configuration for reading.

    `in_use`: a dgate server works with the database now. A database whose last transaction was
    not completed is read from a copy in the temporary folder.

    Raises:
        DgateError: there is no database, or it cannot be read.
    """
    database = Database(settings)
    if not database.has_index:
        raise DgateError("no index is kept", remedy="set SQLite = 1 and SQLServer")
    if database.path is None:
        connection = database.connect()
        try:
            connection.execute(_READ_ONLY[settings.engine])
            yield OpenIndex(database, connection)
        finally:
            connection.close()
        return
    try:
        with _readable(database.path, in_use=in_use) as (uri, note):
            connection = _connect(uri)
            try:
                yield OpenIndex(database, connection, note)
            finally:
                connection.close()
    except (sqlite3.Error, peewee.PeeweeException) as exc:
        raise DgateError(f"the database cannot be read: {exc}", where=str(database.path)) from exc


def is_with_log(path: Path) -> bool:
    """Tell whether an SQLite file is written with a write-ahead log."""
    try:
        with path.open("rb") as file:
            head = file.read(_WRITE_VERSION + 1)
    except OSError as exc:
        raise DgateError(
            f"there is no database to read: {exc.strerror}",
            where=str(path),
            remedy="correct SQLServer in dicom.ini",
        ) from exc
    if head and not head.startswith(_MAGIC):
        raise DgateError(
            "the file is not an SQLite database", where=str(path), remedy="correct SQLServer"
        )
    return len(head) > _WRITE_VERSION and head[_WRITE_VERSION] == _WITH_LOG


@contextmanager
def _readable(path: Path, *, in_use: bool) -> Iterator[tuple[str, str]]:
    """Yield the address under which SQLite reads without writing, and what is odd."""
    with_log = is_with_log(path)
    if in_use:
        yield _address(path, "mode=ro"), ""
        return
    beside = path.with_name(path.name + ("-wal" if with_log else "-journal"))
    if not beside.exists() or beside.stat().st_size == 0:
        # Without immutable, SQLite would make the files of the log.
        yield _address(path, "mode=ro&immutable=1" if with_log else "mode=ro"), ""
        return
    note = (
        f"{beside.name} is there: another program works with the database, or was ended in the "
        "middle of writing; a copy of it was read"
    )
    with tempfile.TemporaryDirectory(prefix="dgate-index-") as folder:
        copy = Path(folder) / path.name
        try:
            shutil.copyfile(path, copy)
            shutil.copyfile(beside, copy.with_name(beside.name))
        except OSError as exc:
            raise DgateError(
                f"the database cannot be copied for reading: {exc.strerror}",
                where=str(path),
                remedy=f"stop the program that uses it, or free space in {folder}",
            ) from exc
        # Opened for writing, as SQLite has to complete or undo the last transaction in the copy.
        yield _address(copy, "mode=rw"), note


def _address(path: Path, options: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{options}"


def _connect(uri: str) -> Connection:
    opened = peewee.SqliteDatabase(
        uri, uri=True, timeout=10, thread_safe=False, pragmas=[("query_only", 1)]
    )
    opened.connect()
    connection = Connection(opened)
    connection.raw.text_factory = decoded
    return connection
