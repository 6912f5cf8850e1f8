"""The index database: opening it, lending connections, telling what its errors mean.

Not for what is in the tables (`dgate.archive.schema`) nor for transactions
(`dgate.archive.writer`); what servers need beyond SQLite is in `dgate.archive.servers`. A
`Database` is shared by all threads.
"""

from __future__ import annotations

import logging
import os
import platform
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import peewee

from dgate.archive import servers
from dgate.archive.connection import Connection, Row, Value
from dgate.archive.files import create_folders
from dgate.archive.fold import decoded, has_form
from dgate.archive.gatewayid import gateway_id, id_path
from dgate.config.settings import Durability, Engine
from dgate.errors import ConfigError, DatabaseAway, OutOfSpace, StoreError

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for another program that holds the embedded database."""
OPEN_TIMEOUT_S = 3.0
"""The same at start, where a person is waiting for the message."""
IDLE_READERS = 4
"""Reader connections kept open between queries."""
AWAY_PAUSE_S = 0.2
"""So long a server that could not be reached is not tried again: while it is away, objects are
refused at once, and each try may take a tenth of a second of work, or seconds of waiting."""
READER_CACHE_KIB = 2048
WRITER_CACHE_KIB = 8192
CHECKPOINT_PAGES = 2000
WAL_LIMIT_BYTES = 64 << 20
"""A log that one long reader blew up is cut back to this; below it, the log is overwritten in
place, which spares the file system a growing file at every synced commit."""

_SQLITE_REMEDIES = {
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database: correct SQLServer, or move it away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged, and the queue of deliveries is in it "
    "too: restore a back-up, or move it away, import the images again, and pass on what the next "
    "start puts into dgate/spool/lost",
    sqlite3.SQLITE_BUSY: "another program holds the file: close it",
    sqlite3.SQLITE_LOCKED: "another program holds the file: close it",
    sqlite3.SQLITE_READONLY: "the file is read-only: give the server's user write permission",
    sqlite3.SQLITE_CANTOPEN: "check that the folder exists and may be written, and "
    "that the server may have more files open (LimitNOFILE, ulimit -n)",
    sqlite3.SQLITE_PERM: "give the server's user write permission",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_FULL: "free space on its disk",
}


AHEAD_ROWS = 5000
"""Rows fetched before `Database.rows` yields one. A smaller result is complete by then, so that a
slow peer does not hold the database's snapshot, which would keep its log from being emptied."""
PAGE_ROWS = 1000
"""Rows fetched at once after that."""


class DatabaseSettings(servers.LoginSettings, Protocol):
    """The settings that decide how the database is opened."""

    @property
    def sqlite_startup(self) -> str: ...
    @property
    def base_folder(self) -> Path: ...


class Database:
    """The index database (or, without one, the ledger's own file), by `Settings`.

    `open` verifies it once at start. After that `connect` gives single connections and `reader`
    lends pooled ones.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self.engine = settings.engine
        self.has_index = settings.engine is not Engine.NONE
        """False: no index is kept, the file holds only dgate's own tables (rulings.md 4)."""
        self.embedded = settings.engine in (Engine.SQLITE, Engine.NONE)
        """True: an SQLite file that no other gateway writes."""
        self.path: Path | None = None
        """The SQLite file."""
        self._settings = settings
        self._idle: list[Connection] = []
        self._idle_lock = threading.Lock()
        self._opened = False
        self._away: tuple[float, DatabaseAway] | None = None
        """Until when a server that could not be reached is not tried again, and why."""
        self._inode = (0, 0)
        if self.embedded:
            self.path = (
                Path(settings.sql_server)
                if self.has_index
                else settings.base_folder / "dgate" / "ledger.db3"
            )
            self.location = str(self.path)
        else:
            self.location = f"{settings.sql_server} at {settings.sql_host}"
        self.claim_lock = ""
        """What a SELECT ends with that claims rows for this gateway; known after `open`."""
        self.home = f"{platform.node()}/{zlib.crc32(bytes(settings.base_folder)):08x}"
        """Names this gateway, the same at each start. To others that share the database only after
        `identify`: machines and folders may be named alike."""
        self.place = ""
        """`dgate.archive.gatewayid.GatewayId.place`; known after `identify`, of a server's
        database."""
        self.id_file = id_path(settings.base_folder)
        """Where `home` is kept by `identify`."""
        self.errors: tuple[type[Exception], ...] = _driver_errors(settings.engine)
        """The driver's exception classes."""
        self.begin_sql = "BEGIN IMMEDIATE" if self.embedded else "BEGIN"
        self.clock_sql = {
            Engine.POSTGRES: "extract(epoch from clock_timestamp())",
            Engine.MYSQL: "unix_timestamp(now(6))",
        }.get(self.engine)
        """SQL expression for the database server's time; None = the machine's clock is the
        database's."""

    def log_in(self, settings: DatabaseSettings) -> None:
        """Use another login from the next connection on; connections that are open stay.

        The settings must name the same database; `Database(settings).open()` tells whether the
        login works.
        """
        self._settings = settings

    def sql(self, text: str) -> str:
        """Return a statement written with `?` in the engine's parameter style; do it once, not per
        call."""
        return text if self.embedded else text.replace("%", "%%").replace("?", "%s")

    def quote(self, name: str) -> str:
        """Return an identifier quoted: lower case on PostgreSQL, as written elsewhere (rulings.md
        7)."""
        if self.engine is Engine.POSTGRES:
            name = name.lower()
        mark = "`" if self.engine is Engine.MYSQL else '"'
        return mark + name.replace(mark, mark + mark) + mark

    def open(self) -> None:
        """Open the database for the first time, creating a missing SQLite file; raises
        ConfigError."""
        for reason in self._ignored():
            log.warning("A startup statement of the database was ignored: %s.", reason)
        if self.path is not None:
            try:
                create_folders(self.path.parent)
            except OSError as exc:
                raise ConfigError(
                    f"cannot create the folder of the database: {exc.strerror}",
                    where=str(self.path.parent),
                    remedy="correct SQLServer or the folder's permissions",
                ) from exc
        try:
            connection = self._connect(OPEN_TIMEOUT_S, WRITER_CACHE_KIB)
            try:
                connection.execute(self.begin_sql)
                connection.execute("COMMIT")
                if not self.embedded:
                    self._look_at_server(connection)
            finally:
                connection.close()
        except StoreError as exc:
            raise ConfigError(exc.what, where=exc.where, remedy=exc.remedy) from exc
        except self.errors as exc:
            cause = self.failure(exc)
            raise ConfigError(cause.what, where=cause.where, remedy=cause.remedy) from exc
        if self.path is not None:
            status = self.path.stat()
            self._inode = (status.st_dev, status.st_ino)
        self._opened = True

    def identify(self) -> None:
        """Take the name that tells this gateway from others that share the database.

        Called by who holds the lock of the base folder, before anything is entered under that name.
        Raises ConfigError.
        """
        if not self.embedded:
            known = gateway_id(self._settings.base_folder)
            self.home, self.place = known.home, known.place

    def connect(self, cache_kib: int = WRITER_CACHE_KIB) -> Connection:
        """Open a connection of one's own; raises DatabaseAway."""
        return self._connect(BUSY_TIMEOUT_S, cache_kib)

    def rows(self, sql: str, parameters: Sequence[Value]) -> Iterator[Row]:
        """Yield the rows of a query, however many they are.

        A short result is complete, and its connection free, before the first row is yielded.
        """
        with self.reader() as connection:
            cursor = connection.stream(sql, parameters)
            batch = cursor.fetchmany(AHEAD_ROWS)
            if len(batch) == AHEAD_ROWS:
                while batch:
                    yield from batch
                    batch = cursor.fetchmany(PAGE_ROWS)
        yield from batch

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Lend a connection for reading; it goes back to the pool, or is closed after a driver
        error.

        A connection that sits in the pool holds no transaction, so it never keeps the write-ahead
        log from shrinking.
        """
        if not self.is_same_file():
            self._drop_idle()
        connection = self._take_idle() or self._connect(BUSY_TIMEOUT_S, READER_CACHE_KIB)
        try:
            yield connection
        except self.errors as exc:
            connection.close()
            # A server that went away took the other connections with it.
            self._drop_idle()
            raise self.failure(exc) from exc
        except BaseException:
            # A half-read result may keep a read transaction open: such a connection is not worth
            # keeping.
            connection.close()
            raise
        with self._idle_lock:
            keep = self._opened and len(self._idle) < IDLE_READERS
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def close(self) -> None:
        """Close the pooled connections; those that are lent close when they come back."""
        with self._idle_lock:
            self._opened = False
        self._drop_idle()

    def is_same_file(self) -> bool:
        """Return whether the SQLite file is still the one that `open` saw (a deleted one can be
        written, in vain)."""
        if self.path is None or not self._opened:
            return True
        try:
            status = os.stat(self.location)  # noqa: PTH116 - once per commit, and a third of the time
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._inode

    def _take_idle(self) -> Connection | None:
        """Return a pooled connection that still stands."""
        while True:
            with self._idle_lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not connection.is_stale():
                return connection
            connection.close()

    def _drop_idle(self) -> None:
        with self._idle_lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def failure(self, exc: BaseException) -> StoreError:
        """Return the StoreError that says in our words what a driver's exception means."""
        if isinstance(exc, StoreError):
            return exc
        if isinstance(exc, sqlite3.Error):
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
            remedy = _SQLITE_REMEDIES.get(code, "")
            if code == sqlite3.SQLITE_FULL:
                return OutOfSpace("the database is full", where=self.location, remedy=remedy)
            if remedy:
                return DatabaseAway(str(exc), where=self.location, remedy=remedy)
            if code == 0 and not isinstance(exc, sqlite3.OperationalError):
                return StoreError(str(exc), where=self.location)
            if code == sqlite3.SQLITE_CONSTRAINT:
                return StoreError(f"the database refused a row: {exc}", where=self.location)
            return DatabaseAway(str(exc), where=self.location)
        if servers.is_refused_row(exc):
            return StoreError(f"the database refused a row: {exc}", where=self.location)
        if servers.is_full(exc):
            return OutOfSpace("the database is full", where=self.location)
        if servers.is_faulty_sql(exc):
            return StoreError(str(exc).strip(), where=self.location)
        remedy = (
            "check that the database server runs, that the database exists, and that SQLHost, "
            "Username and Password are right"
        )
        return DatabaseAway(str(exc).strip(), where=self.location, remedy=remedy)

    def is_mistake(self, exc: BaseException) -> bool:
        """Tell whether the driver's exception means faulty SQL, not a faulty database."""
        if isinstance(exc, sqlite3.Error):
            return getattr(exc, "sqlite_errorcode", None) in (None, sqlite3.SQLITE_ERROR)
        return servers.is_faulty_sql(exc)

    def is_conflict(self, exc: BaseException) -> bool:
        """Tell whether another gateway wrote the same rows meanwhile, so that the same transaction
        can succeed when it is tried again."""
        return not self.embedded and servers.code_of(exc) in servers.CONFLICTS

    def empty_log(self, connection: Connection, *, wait: bool) -> bool:
        """Bring SQLite's log into its file before anything is written behind what is in it; returns
        False while somebody reads in it, after the usual time if told to wait.

        When a sync of the log has failed, the system may go on showing what never came to the disk.
        Who opens the file anew takes that for committed, and all that is written behind it is lost
        with it in a power cut, however well synced.
        """
        if not self.embedded:
            return True
        usual = connection.execute("PRAGMA busy_timeout").fetchone()[0]
        try:
            if not wait:
                connection.execute("PRAGMA busy_timeout = 0")
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(usual)}")
        return not busy

    def has_undone(self, exc: BaseException) -> bool:
        """Tell whether a commit that failed so has left nothing.

        SQLite's has, unless the disk failed: when the log is complete and its sync fails, the next
        one to recover the log may find a whole transaction in it.
        """
        return self.embedded and getattr(exc, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_IOERR

    def _ignored(self) -> list[str]:
        if self.path is not None:
            return startup_pragmas(self._settings.sqlite_startup)[1]
        return servers.startup_statements(servers.startup_text(self._settings))[1]

    def _look_at_server(self, connection: Connection) -> None:
        skips = servers.can_skip_locked(connection, self.engine)
        self.claim_lock = " FOR UPDATE SKIP LOCKED" if skips else " FOR UPDATE"
        for weakness in servers.weaknesses(connection, self._settings):
            log.warning(
                "The database server runs with %s: a power cut at its machine can lose objects "
                "that were acknowledged. Change it there, or accept it by Durability = none.",
                weakness,
            )

    def _connect(self, timeout_s: float, cache_kib: int) -> Connection:
        if self.path is not None and self._opened and not self.is_same_file():
            raise DatabaseAway(
                "the database file was removed or replaced while the server ran",
                where=self.location,
                remedy="put it back, or restart the server",
            )
        away = self._away
        if away is not None and time.monotonic() < away[0]:
            raise DatabaseAway(away[1].what, where=away[1].where, remedy=away[1].remedy)
        try:
            connection = self._login(timeout_s, cache_kib)
        except DatabaseAway as exc:
            if not self.embedded:
                self._away = (time.monotonic() + AWAY_PAUSE_S, exc)
            raise
        self._away = None
        return connection

    def _login(self, timeout_s: float, cache_kib: int) -> Connection:
        try:
            if self.path is not None:
                opened = self._sqlite(timeout_s, cache_kib)
            else:
                opened = servers.login(self._settings)
            opened.connect()
            connection = Connection(opened)
            if not self.embedded:
                self._begin_session(connection)
        except peewee.ImproperlyConfigured as exc:
            raise self._driver_missing() from exc
        except peewee.PeeweeException as exc:
            raise self.failure(_origin(exc)) from exc
        except self.errors as exc:
            raise self.failure(exc) from exc
        if self.path is not None:
            connection.raw.text_factory = decoded
            connection.raw.create_function("dgate_has_form", 3, has_form, deterministic=True)
        return connection

    def _begin_session(self, connection: Connection) -> None:
        try:
            servers.begin_session(connection, self._settings)
        except BaseException:
            connection.close()
            raise

    def _sqlite(self, timeout_s: float, cache_kib: int) -> Any:
        synchronous = "OFF" if self._settings.durability is Durability.NONE else "FULL"
        pragmas: list[tuple[str, str | int]] = [
            ("journal_mode", "WAL"),
            ("synchronous", synchronous),
            ("cache_size", -cache_kib),
            ("wal_autocheckpoint", CHECKPOINT_PAGES),
            ("journal_size_limit", WAL_LIMIT_BYTES),
            ("temp_store", "MEMORY"),
        ]
        pragmas += startup_pragmas(self._settings.sqlite_startup)[0]
        return peewee.SqliteDatabase(
            str(self.path),
            pragmas=pragmas,
            timeout=timeout_s,
            check_same_thread=False,
            thread_safe=False,
            cached_statements=256,
        )

    def _driver_missing(self) -> ConfigError:
        extra = "postgres" if self.engine is Engine.POSTGRES else "mysql"
        return ConfigError(
            f"the driver for {self.engine.name} is not installed",
            where="dicom.ini",
            remedy=f'pip install "dgate[{extra}]"',
        )


def startup_pragmas(text: str) -> tuple[list[tuple[str, str | int]], list[str]]:
    """Return the pragmas of `SQLiteStartup`, then what is ignored and why (rulings.md 6)."""
    pragmas: list[tuple[str, str | int]] = []
    ignored: list[str] = []
    for statement in filter(None, (part.strip() for part in text.split(";"))):
        word, _, rest = statement.partition(" ")
        name, _, value = rest.partition("=")
        name, value = name.strip().lower(), value.strip()
        plain = name.replace("_", "").isalnum() and value.strip("'\"-").isalnum()
        if word.lower() != "pragma" or not plain:
            ignored.append(f"{statement}: only PRAGMA name = value is taken")
        elif name in ("synchronous", "journal_mode"):
            ignored.append(f"{statement}: Durability rules")
        else:
            pragmas.append((name, value))
    return pragmas, ignored


def _origin(exc: BaseException) -> BaseException:
    """Return the driver's own exception behind one of peewee's."""
    original = getattr(exc, "orig", None)
    return original if isinstance(original, BaseException) else exc


def _driver_errors(engine: Engine) -> tuple[type[Exception], ...]:
    if engine in (Engine.POSTGRES, Engine.MYSQL):
        # peewee imports the drivers that are installed; without one, opening reports it.
        driver = getattr(peewee, "psycopg" if engine is Engine.POSTGRES else "mysql", None)
        return () if driver is None else (driver.Error,)
    return (sqlite3.Error,)
