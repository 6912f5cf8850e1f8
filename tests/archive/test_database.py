"""Connections: opening, refusing what is no database, lending, recovering."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import peewee
import pytest

from dgate.archive.database import Database, startup_pragmas
from dgate.config.settings import Durability, Engine
from dgate.errors import ConfigError, DatabaseAway, OutOfSpace, StoreError
from tests.archive.database_kit import setup


@pytest.fixture
def database(tmp_path: Path) -> Database:
    opened = Database(setup(tmp_path))
    opened.open()
    return opened


def pragma(database: Database, name: str) -> object:
    with database.reader() as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_missing_file_and_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "data" / "dbase" / "index.db3"
    Database(setup(tmp_path, sql_server=str(path))).open()
    assert path.exists()


def test_created_folders_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("dgate.archive.files.sync_folder", synced.append)

    Database(setup(tmp_path, sql_server=str(tmp_path / "data" / "dbase" / "index.db3"))).open()

    assert synced == [tmp_path, tmp_path / "data"]


def test_damaged_file_is_said_to_hold_the_queue_too(database: Database) -> None:
    damage = sqlite3.DatabaseError("malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    assert "queue of deliveries" in database.failure(damage).remedy


def test_unique_columns_are_those_that_no_two_rows_share(database: Database) -> None:
    connection = database.connect()
    connection.raw.executescript(
        "CREATE TABLE Things (Id text PRIMARY KEY, Name text UNIQUE, Part text, Other text);"
        "CREATE UNIQUE INDEX pair ON Things (Part, Other);"
        "CREATE UNIQUE INDEX some ON Things (Part) WHERE Other IS NULL;"
        "CREATE INDEX plain ON Things (Other);"
        "CREATE TABLE Pairs (A text, B text, PRIMARY KEY (A, B));"
    )

    assert connection.unique_columns("Things") == {"id", "name"}
    assert connection.unique_columns("Pairs") == frozenset()
    connection.close()


def test_file_that_is_no_database_is_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "index.db3"
    path.write_bytes(b"this is a text file, not a database\n" * 100)
    with pytest.raises(ConfigError) as caught:
        Database(setup(tmp_path)).open()
    assert str(path) in str(caught.value)
    assert "not an SQLite database" in caught.value.remedy
    assert path.read_bytes().startswith(b"this is a text file")


def test_locked_file_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.database.OPEN_TIMEOUT_S", 0.0)
    path = tmp_path / "index.db3"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (a int)")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(ConfigError) as caught:
            Database(setup(tmp_path)).open()
    finally:
        other.close()
    assert str(path) in str(caught.value)
    assert "another program" in caught.value.remedy


def test_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    settings = setup(tmp_path, sql_server=str(tmp_path / "file" / "sub" / "index.db3"))
    with pytest.raises(ConfigError, match="cannot create the folder"):
        Database(settings).open()


@pytest.mark.parametrize(
    ("durability", "synchronous"),
    [(Durability.FULL, 2), (Durability.INDEX, 2), (Durability.NONE, 0)],
    ids=lambda value: str(value),
)
def test_durability_decides_how_commits_are_synced(
    tmp_path: Path, durability: Durability, synchronous: int
) -> None:
    database = Database(setup(tmp_path, durability=durability))
    database.open()
    assert pragma(database, "synchronous") == synchronous
    assert pragma(database, "journal_mode") == "wal"


def test_startup_pragmas_are_applied_but_durability_wins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    startup = "PRAGMA synchronous = OFF; PRAGMA mmap_size = 1048576"
    database = Database(setup(tmp_path, sqlite_startup=startup, durability=Durability.FULL))
    database.open()
    assert pragma(database, "synchronous") == 2
    assert pragma(database, "mmap_size") == 1048576
    assert "Durability rules" in caplog.text


def test_startup_statements_other_than_pragmas_are_reported() -> None:
    taken, ignored = startup_pragmas(
        "PRAGMA cache_size=-4000; pragma journal_mode=delete; DROP TABLE x; PRAGMA a=b(c)"
    )
    assert taken == [("cache_size", "-4000")]
    assert len(ignored) == 3
    assert "Durability" in ignored[0]


def test_latin_1_text_of_an_older_server_is_read(database: Database) -> None:
    connection = database.connect()
    connection.execute("CREATE TABLE t (a text)")
    connection.execute("INSERT INTO t VALUES (CAST(x'4dfc6c6c6572' AS text)), ('Møller')")
    assert connection.execute("SELECT a FROM t").fetchall() == [("Müller",), ("Møller",)]
    connection.close()


def test_reader_goes_back_to_the_pool(database: Database) -> None:
    with database.reader() as first:
        pass
    with database.reader() as second:
        assert second is first


def test_reader_that_failed_is_not_lent_again(database: Database) -> None:
    with pytest.raises(StoreError), database.reader() as first:
        first.execute("SELECT * FROM missing")
    with database.reader() as second:
        assert second is not first


def test_reader_whose_user_failed_is_not_lent_again(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.reader() as first:
        raise ZeroDivisionError
    with database.reader() as second:
        assert second is not first


def test_closed_database_keeps_no_connection(database: Database) -> None:
    with database.reader() as lent:
        database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        lent.execute("SELECT 1")


def test_file_removed_while_running_is_noticed(database: Database) -> None:
    assert database.path is not None
    assert database.is_same_file()
    database.path.unlink()
    assert not database.is_same_file()
    with pytest.raises(DatabaseAway, match="removed or replaced"):
        database.connect()


def test_reader_of_a_removed_file_is_not_lent(database: Database, tmp_path: Path) -> None:
    with database.reader():
        pass
    assert database.path is not None
    database.path.rename(tmp_path / "away.db3")
    with pytest.raises(DatabaseAway, match="removed or replaced"), database.reader():
        pass


def test_without_index_the_ledger_has_its_own_file(tmp_path: Path) -> None:
    database = Database(setup(tmp_path, engine=Engine.NONE, sql_server=""))
    database.open()
    assert not database.has_index
    assert (tmp_path / "dgate" / "ledger.db3").exists()


@pytest.mark.parametrize(
    ("engine", "driver", "extra"),
    [(Engine.POSTGRES, "psycopg", "postgres"), (Engine.MYSQL, "mysql", "mysql")],
    ids=["postgres", "mysql"],
)
def test_missing_driver_is_reported_with_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, driver: str, extra: str
) -> None:
    monkeypatch.setattr(peewee, driver, None)
    if engine is Engine.POSTGRES:
        monkeypatch.setattr(peewee, "psycopg2", None)
    with pytest.raises(ConfigError) as caught:
        Database(setup(tmp_path, engine=engine, sql_server="dgate")).open()
    assert f'pip install "dgate[{extra}]"' in caught.value.remedy


def test_statements_are_put_into_the_parameter_style_of_the_engine(tmp_path: Path) -> None:
    text = "SELECT a FROM t WHERE a LIKE 'x%' AND b = ?"
    assert Database(setup(tmp_path)).sql(text) == text
    server = Database(setup(tmp_path, engine=Engine.POSTGRES))
    assert server.sql(text) == "SELECT a FROM t WHERE a LIKE 'x%%' AND b = %s"


@pytest.mark.parametrize(
    ("engine", "quoted"),
    [
        (Engine.SQLITE, '"DICOMImages"'),
        (Engine.POSTGRES, '"dicomimages"'),
        (Engine.MYSQL, "`DICOMImages`"),
    ],
    ids=["sqlite", "postgres", "mysql"],
)
def test_names_are_quoted_as_the_engine_spells_them(
    tmp_path: Path, engine: Engine, quoted: str
) -> None:
    assert Database(setup(tmp_path, engine=engine)).quote("DICOMImages") == quoted


def test_quoted_names_cannot_end_the_quotes(tmp_path: Path) -> None:
    assert Database(setup(tmp_path)).quote('a"b') == '"a""b"'


def test_full_database_is_out_of_space(database: Database) -> None:
    connection = database.connect()
    connection.execute("CREATE TABLE t (a blob)")
    connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")
    assert isinstance(database.failure(caught.value), OutOfSpace)
    connection.close()


@pytest.mark.parametrize(
    ("state", "expected"),
    [("53100", OutOfSpace), ("08006", DatabaseAway)],
    ids=["disk full", "connection lost"],
)
def test_failures_of_a_server_become_store_errors(
    tmp_path: Path, state: str, expected: type[StoreError]
) -> None:
    failure = RuntimeError("the server said no")
    failure.sqlstate = state  # type: ignore[attr-defined]
    database = Database(setup(tmp_path, engine=Engine.POSTGRES, sql_server="dgate"))
    translated = database.failure(failure)
    assert type(translated) is expected
    assert "dgate at localhost" in str(translated)


def test_row_that_a_server_refuses_is_no_lost_connection(tmp_path: Path) -> None:
    class IntegrityError(Exception):
        """Named as every driver names it."""

    database = Database(setup(tmp_path, engine=Engine.MYSQL, sql_server="dgate"))
    translated = database.failure(IntegrityError("duplicate key"))
    assert type(translated) is StoreError
    assert "refused a row" in translated.what


def test_existing_tables_and_indices_are_listed(database: Database) -> None:
    connection = database.connect()
    connection.execute("CREATE TABLE Things (Id varchar(4) PRIMARY KEY not null, Name text)")
    connection.execute("CREATE INDEX Thing_Names ON Things (Name, Id)")
    assert connection.tables() == {"things": "Things"}
    assert connection.columns("Things") == {"id": "Id", "name": "Name"}
    assert connection.indexes("Things")["thing_names"] == ("name", "id")
    assert connection.indexes("Things")["primary key"] == ("id",)
    connection.close()
