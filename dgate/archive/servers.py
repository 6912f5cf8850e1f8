"""What database servers need beyond SQLite: how to log in, how a session is set up, what their
errors mean.

PostgreSQL through psycopg 3, MariaDB and MySQL through PyMySQL. Not for pooling or for SQLite
(`dgate.archive.database`). Pure functions over a connection.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Protocol

import peewee

from dgate.archive.connection import Connection
from dgate.config.settings import Durability, Engine
from dgate.config.sqlhost import address
from dgate.errors import ConfigError

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
KEEPALIVE_S = 30
"""A connection that is idle for so long is checked by the network, so that a server whose machine
was switched off is noticed."""
UNANSWERED_MS = 60_000
"""What a server has not acknowledged for so long makes its connection fail."""

CONFLICTS = frozenset(("40001", "40P01", "23505", "1062", "1205", "1213"))
"""Codes that mean: another gateway wrote the same rows at the same time; try again."""
_FULL = frozenset(("53100", "1021", "1114"))
_AWAY = frozenset(("1049",))
"""Codes that PyMySQL takes for faulty SQL, though the server has no such database."""
_FAULTY_SQL = frozenset(("1052", "1054", "1064", "1109", "1146", "1267", "1305", "1582"))
_OWN_STATEMENT = re.compile(
    r"SET\s+(?:SESSION\s+|LOCAL\s+)?(?:@@(?:session\.)?)?"
    r"(synchronous_commit|innodb_flush_log_at_trx_commit|autocommit)\b",
    re.IGNORECASE,
)
_VERSION = re.compile(r"(\d+)\.(\d+)")


class LoginSettings(Protocol):
    """The settings that decide how a server is reached."""

    @property
    def engine(self) -> Engine: ...
    @property
    def sql_server(self) -> str: ...
    @property
    def sql_host(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def mysql_startup(self) -> str: ...
    @property
    def postgres_startup(self) -> str: ...
    @property
    def durability(self) -> Durability: ...


def login(settings: LoginSettings) -> Any:
    """Return a database of peewee's that is not connected yet; raises ConfigError."""
    try:
        host, port = address(settings.sql_host)
    except ValueError as exc:
        remedy = "write SQLHost = host or SQLHost = host:port"
        raise ConfigError(str(exc), where="SQLHost", remedy=remedy) from exc
    parameters: dict[str, Any] = {"user": settings.username, "thread_safe": False}
    if settings.password:
        parameters["password"] = settings.password
    if settings.engine is Engine.POSTGRES:
        parameters |= {"host": host, "connect_timeout": CONNECT_TIMEOUT_S}
        parameters |= {"keepalives_idle": KEEPALIVE_S, "tcp_user_timeout": UNANSWERED_MS}
        if port is not None:
            parameters["port"] = port
        return peewee.PostgresqlDatabase(
            settings.sql_server,
            prefer_psycopg3=True,
            encoding="utf8",
            application_name="dgate",
            **parameters,
        )
    if host.startswith("/"):
        parameters["unix_socket"] = host
    else:
        parameters |= {"host": host, "port": port or 3306}
    # Matched rows, as the other engines count them, not only those with another value than before.
    parameters |= {"connect_timeout": CONNECT_TIMEOUT_S, "client_flag": _FOUND_ROWS}
    return peewee.MySQLDatabase(settings.sql_server, **parameters)


_FOUND_ROWS = 2


def startup_statements(text: str) -> tuple[list[str], list[str]]:
    """Return the statements of `MySQLStartup` or `PostGreSQLStartup`, then what is ignored and
    why."""
    kept: list[str] = []
    ignored: list[str] = []
    for statement in _split(text):
        own = _OWN_STATEMENT.match(statement)
        if own is None:
            kept.append(statement)
        else:
            ignored.append(f"{statement}: Durability and the commits are dgate's own")
    return kept, ignored


def _split(text: str) -> list[str]:
    """Split at semicolons outside quotation marks."""
    pieces = re.findall(r"(?:'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[^;'\"]|['\"])+", text)
    return [piece.strip() for piece in pieces if piece.strip()]


def startup_text(settings: LoginSettings) -> str:
    """Return the key's value that counts for the engine."""
    is_postgres = settings.engine is Engine.POSTGRES
    return settings.postgres_startup if is_postgres else settings.mysql_startup


def begin_session(connection: Connection, settings: LoginSettings) -> None:
    """Set up a new connection, then run the administrator's own statements.

    Raises the driver's errors.
    """
    execute = connection.execute
    if settings.engine is Engine.POSTGRES:
        _adapt_text(connection)
        if settings.durability is Durability.NONE:
            execute("SET synchronous_commit = off")
        else:
            execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
    else:
        # As on the other engines: what does not fit is an error, what others committed is seen.
        execute("SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'")
        execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        execute("SET SESSION innodb_lock_wait_timeout = 10")
    for statement in startup_statements(startup_text(settings))[0]:
        execute(statement)


def _adapt_text(connection: Connection) -> None:
    """Make PostgreSQL's text what it is elsewhere: char(8) without padding, old bytes readable."""
    from psycopg.abc import Buffer
    from psycopg.adapt import Loader

    class Lenient(Loader):  # type: ignore[misc]
        """Reads UTF-8, else Latin-1 (rulings.md 8); without the blanks that char(n) adds."""

        def load(self, data: Buffer) -> str:
            raw = bytes(data)
            try:
                return raw.decode().rstrip(" ")
            except UnicodeDecodeError:
                return raw.decode("latin-1").rstrip(" ")

    raw = connection.raw
    raw.adapters.register_loader("bpchar", Lenient)
    if raw.info.parameter_status("server_encoding") == "SQL_ASCII":
        # Such a database does not know the encoding of its text; every other one converts it.
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        for kind in ("text", "varchar", "name"):
            raw.adapters.register_loader(kind, Lenient)


def weaknesses(connection: Connection, settings: LoginSettings) -> list[str]:
    """Return in words which settings of the server break the promise of `Durability`."""
    if settings.durability is Durability.NONE:
        return []
    if settings.engine is Engine.POSTGRES:
        [value] = connection.execute("SELECT current_setting('fsync')").fetchone()
        return [] if value == "on" else ["fsync = off"]
    [value] = connection.execute("SELECT @@innodb_flush_log_at_trx_commit").fetchone()
    return [] if int(value) == 1 else [f"innodb_flush_log_at_trx_commit = {value}"]


def can_skip_locked(connection: Connection, engine: Engine) -> bool:
    """Tell whether the server knows SKIP LOCKED: PostgreSQL, MariaDB from 10.6, MySQL from 8.0."""
    if engine is Engine.POSTGRES:
        return True
    [text] = connection.execute("SELECT version()").fetchone()
    found = _VERSION.match(text)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return version >= ((10, 6) if "mariadb" in text.lower() else (8, 0))


def code_of(exc: BaseException) -> str:
    """Return the server's error code: SQLSTATE of PostgreSQL, number of MariaDB; "" = none."""
    if exc.args and isinstance(exc.args[0], int):
        # Before the SQLSTATE, which PyMySQL knows too but which says less.
        return str(exc.args[0])
    return str(getattr(exc, "sqlstate", None) or "")


def is_full(exc: BaseException) -> bool:
    """Tell whether the server's disk is full."""
    return code_of(exc) in _FULL


def is_faulty_sql(exc: BaseException) -> bool:
    """Tell whether the statement is wrong, not the server."""
    code = code_of(exc)
    if code in _AWAY:
        return False
    return (
        any(parent.__name__ == "ProgrammingError" for parent in type(exc).__mro__)
        or code in _FAULTY_SQL
        or (len(code) == 5 and code.startswith(("22", "42")))
    )


def is_refused_row(exc: BaseException) -> bool:
    """Tell whether the server refuses the values of a row."""
    return bool({parent.__name__ for parent in type(exc).__mro__} & {"IntegrityError", "DataError"})
