"""Real database servers for the tests: PostgreSQL and MariaDB from Debian's packages.

Each runs on a folder and a port of its own, as an ordinary user, since neither may run as root.
Their data is not synced, which only a power cut would show.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pymysql

from dgate.config.settings import Engine
from tests.acceptance.processes import Ports

START_S = 120.0
STOP_S = 120.0
USER = "dgate"
PASSWORD = "s3cret%';"
_POLL_S = 0.02


class DatabaseServer(ABC):
    """A database server that tests start, end and start again."""

    engine: ClassVar[Engine]
    account: ClassVar[str]
    """The system's user that runs it when the tests run as root."""
    programs: ClassVar[str]
    """Where its programs are when PATH has none; a pattern."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dgate-db-", dir="/tmp"))
        self._ports = Ports()
        self.port = self._ports.take()
        self._log = self.folder / "log"
        self._child: subprocess.Popen[bytes] | None = None
        self._count = 0
        if os.geteuid() == 0:
            user = pwd.getpwnam(self.account)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        try:
            self._create()
            self.start()
            self._prepare()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it and wait until it takes a login."""
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                self._as_account(*self._command()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.folder,
            )
        end = time.monotonic() + START_S
        while not self._answers():
            text = self._log.read_text(errors="replace")[-4000:]
            assert self._child.poll() is None, f"the database server ended:\n{text}"
            assert time.monotonic() < end, f"the database server did not start:\n{text}"
            time.sleep(_POLL_S)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it."""
        assert self._child is not None
        # setpriv has become the server, so the child's number is the server's.
        self._child.send_signal(how)
        self._child.wait(STOP_S)
        self._child = None

    def kill(self) -> None:
        """End it as a crash would, all its processes at once."""
        assert self._child is not None
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(STOP_S)
        self._child = None

    def close(self) -> None:
        """End it for good and remove its folder."""
        if self._child is not None:
            self.kill()
        self._ports.close()
        # Hundreds of databases are tens of thousands of files: nobody waits for their end.
        subprocess.run(
            ["sh", "-c", 'rm -rf "$1" &', "sh", str(self.folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )

    def new_database(self) -> str:
        """Create an empty database and return its name."""
        self._count += 1
        name = f"dgate{self._count}"
        self.administer(f"CREATE DATABASE {name} {self._new_options()}")
        return name

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return what the settings of a database of its own are."""
        return {
            "engine": self.engine,
            "sql_server": self.new_database(),
            "sql_host": f"127.0.0.1:{self.port}",
            "username": USER,
            "password": PASSWORD,
        } | changes

    def lines(self, name: str) -> dict[str, object]:
        """Return the lines of dicom.ini for a database."""
        key = "PostGres" if self.engine is Engine.POSTGRES else "MySQL"
        return {
            "SQLite": 0,
            key: 1,
            "SQLServer": name,
            "SQLHost": f"127.0.0.1:{self.port}",
            "Username": USER,
            "Password": PASSWORD,
        }

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        folders = sorted(map(str, Path("/").glob(self.programs)), reverse=True)
        folders += ["/usr/sbin", "/usr/bin"]
        found = shutil.which(name, path=":".join(folders))
        assert found is not None, f"{name} is missing; scripts/test installs what the tests need"
        return found

    @abstractmethod
    def administer(self, statement: str, database: str = "") -> None:
        """Run one statement as the administrator."""

    @abstractmethod
    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

    @abstractmethod
    def _create(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @abstractmethod
    def _prepare(self) -> None: ...

    def _new_options(self) -> str:
        return ""

    def _as_account(self, *command: str) -> list[str]:
        # It ends with the tests, even when they are killed.
        bound = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() != 0:
            return [*bound, *command]
        user = pwd.getpwnam(self.account)
        ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        return [*bound, *ids, *command]

    def _run(self, *command: str) -> None:
        subprocess.run(self._as_account(*command), check=True, capture_output=True, cwd=self.folder)


class PostgresServer(DatabaseServer):
    """PostgreSQL, with a database cluster in the folder."""

    engine = Engine.POSTGRES
    account = "postgres"
    programs = "usr/lib/postgresql/*/bin"

    def administer(self, statement: str, database: str = "") -> None:
        """Run one statement as the administrator."""
        with self._connect(database or "postgres") as connection:
            connection.execute(statement.encode())

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._connect(database) as connection:
            return connection.execute(statement.encode()).fetchall()

    @contextmanager
    def holding(self, database: str, statement: str) -> Iterator[None]:
        """Keep a transaction open that has run this statement, such as one that locks a table."""
        with self._connect(database) as connection, connection.transaction():
            connection.execute(statement.encode())
            yield

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=str(self.folder), port=self.port, dbname=database, user="admin", autocommit=True
        )

    def _create(self) -> None:
        self._run(
            self.program("initdb"), "-D", str(self.folder / "data"), "-U", "admin",
            "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8",
            "--no-sync",
        )  # fmt: skip

    def _command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": 60,
            "autovacuum": "off",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        return [self.program("postgres"), "-D", str(self.folder / "data"), *words]

    def _answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _prepare(self) -> None:
        quoted = PASSWORD.replace("'", "''")
        self.administer(f"CREATE ROLE {USER} LOGIN PASSWORD '{quoted}'")
        [(version,)] = self.query("postgres", "SHOW server_version_num")
        # Where nothing is synced, copying files is quicker than writing them into the log.
        self._strategy = "STRATEGY file_copy" if int(version) >= 150_000 else ""

    def _new_options(self) -> str:
        return f"OWNER {USER} {self._strategy}"


class MariaServer(DatabaseServer):
    """MariaDB, with a data folder of its own."""

    engine = Engine.MYSQL
    account = "mysql"
    programs = "usr/sbin"

    def administer(self, statement: str, database: str = "") -> None:
        """Run one statement as the administrator."""
        with self._connect(database or "mysql") as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _connect(self, database: str) -> Any:
        return pymysql.connect(
            unix_socket=str(self.folder / "socket"),
            user="root",
            database=database,
            autocommit=True,
            charset="utf8mb4",
        )

    def _create(self) -> None:
        self._run(
            self.program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder}/data",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip

    def _command(self) -> list[str]:
        return [
            self.program("mariadbd"), "--no-defaults", f"--datadir={self.folder}/data",
            f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid",
            "--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2",
        ]  # fmt: skip

    def _answers(self) -> bool:
        # Not by a login: the driver leaves the sockets of failed ones to the garbage collector.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(START_S)
            try:
                probe.connect(str(self.folder / "socket"))
                return bool(probe.recv(1))
            except OSError:
                return False

    def _prepare(self) -> None:
        quoted = PASSWORD.replace("'", "''")
        self.administer(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{quoted}'")
        self.administer(f"GRANT ALL ON `dgate%`.* TO {USER}@'127.0.0.1'")
