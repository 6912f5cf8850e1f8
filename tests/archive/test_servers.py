"""What only database servers do: sessions, several gateways at once, connections that end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive.database import Database
from dgate.archive.levels import Level
from dgate.archive.query import QueryKey
from dgate.archive.servers import startup_statements
from dgate.archive.writer import Transaction, Writer
from dgate.config.settings import Durability
from dgate.errors import ConfigError, DatabaseAway, OutcomeUnknown, StoreError
from tests.acceptance.processes import wait_until
from tests.archive.database_kit import Archive, Place, image, open_archive, place_of
from tests.servers import USER, MariaServer, PostgresServer

WAIT_S = 60
SERVERS = ("postgres", "mariadb")


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


@pytest.fixture
def archive(place: Place) -> Iterator[Archive]:
    opened = open_archive(place())
    yield opened
    opened.close()


def end_connections(archive: Archive, place: Place) -> None:
    """Have the server end every connection of dgate, as when it is restarted."""
    server = place.server
    assert server is not None
    if isinstance(server, PostgresServer):
        server.administer(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            f"WHERE datname = '{archive.settings.sql_server}'"
        )
        return
    rows = server.query(
        "mysql", f"SELECT id FROM information_schema.processlist WHERE user='{USER}'"
    )
    for (number,) in rows:
        server.administer(f"KILL CONNECTION {number}")
    while server.query(
        "mysql", f"SELECT id FROM information_schema.processlist WHERE user='{USER}'"
    ):
        pass


def test_everything_goes_on_after_the_server_ended_the_connections(
    archive: Archive, place: Place
) -> None:
    entry = archive.index.entry
    table = image()
    assert archive.index.look_up(entry(table, _repaired(archive))) is None
    archive.store(table)
    assert archive.value("SELECT count(*) FROM DICOMImages") == 1

    end_connections(archive, place)

    found = archive.index.look_up(entry(table, _repaired(archive)))
    assert found is not None
    archive.store(image(SOPInstanceUID="1.2.3.1.1.2"))
    assert archive.value("SELECT count(*) FROM DICOMImages") == 2


def test_server_that_is_down_is_away_and_comes_back(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        settings = server.settings(durability=Durability.FULL)
        archive = open_archive(replace(Place(tmp_path)(), **settings))
        archive.store(image())
        server.kill()

        with pytest.raises(DatabaseAway, match="check that the database server runs"):
            archive.store(image(SOPInstanceUID="1.2.3.1.1.2"))
        with pytest.raises(DatabaseAway):
            archive.value("SELECT count(*) FROM DICOMImages")

        server.start()
        wait_until(lambda: stores(archive, "1.2.3.1.1.2"), "the server")
        assert archive.index.counts() == (1, 1, 1, 2)
        archive.close()
    finally:
        server.close()


def stores(archive: Archive, sop_instance: str) -> bool:
    """Try to store an object; tell whether the database took it."""
    try:
        archive.store(image(SOPInstanceUID=sop_instance))
    except DatabaseAway:
        return False
    return True


def test_server_that_is_away_is_not_asked_for_each_object(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.database.AWAY_PAUSE_S", 3600.0)
    settings = place()
    database = Database(replace(settings, sql_host="127.0.0.1:1"))
    with pytest.raises(DatabaseAway):
        database.connect()
    asked: list[object] = []
    monkeypatch.setattr("dgate.archive.servers.login", asked.append)

    with pytest.raises(DatabaseAway, match=r"127\.0\.0\.1"):
        database.connect()

    assert asked == []


def test_commit_that_the_server_did_not_answer_is_of_unknown_outcome(
    archive: Archive, place: Place
) -> None:
    def work(transaction: Transaction) -> None:
        transaction.execute("DELETE FROM dgate_rewrites")
        end_connections(archive, place)

    with pytest.raises(OutcomeUnknown):
        archive.writer.transact(work)

    archive.store(image())


def test_two_gateways_that_enter_one_study_at_a_time_both_succeed(place: Place) -> None:
    archives = [open_archive(place()) for _ in range(2)]
    errors: list[BaseException] = []
    start = threading.Barrier(len(archives))

    def store(which: int) -> None:
        try:
            for round_ in range(10):
                start.wait(WAIT_S)
                archives[which].store(
                    image(
                        PatientID=f"P{round_}",
                        StudyInstanceUID=f"1.{round_}",
                        SeriesInstanceUID=f"1.{round_}.{which}",
                        SOPInstanceUID=f"1.{round_}.{which}.1",
                        Modality=("CT", "MR")[which],
                    )
                )
        except BaseException as exc:
            errors.append(exc)
            start.abort()

    run_together([lambda: store(0), lambda: store(1)])

    assert errors == []
    assert archives[0].index.counts() == (10, 10, 20, 20)
    found = archives[0].rows("SELECT StudyModal FROM DICOMStudies")
    assert {tuple(sorted(row[0].split("\\"))) for row in found} == {("CT", "MR")}
    for archive in archives:
        archive.close()


def test_jobs_that_deadlock_with_another_gateway_are_tried_again(archive: Archive) -> None:
    database = archive.database
    _create(database, "CREATE TABLE notes (number int primary key, seen int)")
    _create(database, "INSERT INTO notes VALUES (1, 0), (2, 0)")
    writers = [Writer(database, Durability.NONE) for _ in range(2)]
    both_hold = threading.Barrier(2)
    first_time = [True, True]

    def run(which: int, order: tuple[int, int]) -> None:
        def work(transaction: Transaction) -> None:
            transaction.execute(f"UPDATE notes SET seen = seen + 1 WHERE number = {order[0]}")
            if first_time[which]:
                first_time[which] = False
                both_hold.wait(WAIT_S)
            transaction.execute(f"UPDATE notes SET seen = seen + 1 WHERE number = {order[1]}")

        writers[which].transact(work)

    run_together([lambda: run(0, (1, 2)), lambda: run(1, (2, 1))])

    assert archive.rows("SELECT seen FROM notes") == [(2,), (2,)]
    for writer in writers:
        writer.close()


def test_two_gateways_that_start_at_once_make_the_tables_once(place: Place) -> None:
    settings = place()
    opened: list[Archive] = []
    errors: list[BaseException] = []

    def start() -> None:
        try:
            opened.append(open_archive(settings))
        except BaseException as exc:
            errors.append(exc)

    run_together([start, start, start])

    assert errors == []
    opened[0].store(image())
    assert opened[2].index.counts() == (1, 1, 1, 1)
    for archive in opened:
        archive.close()


def test_startup_statements_are_run_in_every_session(place: Place) -> None:
    changes = {"postgres_startup": "SET work_mem = '7MB'; SET application_name = 'a;b'"}
    question = "SELECT current_setting('work_mem'), current_setting('application_name')"
    expected: tuple[object, ...] = ("7MB", "a;b")
    if isinstance(place.server, MariaServer):
        changes = {"mysql_startup": "SET SESSION lock_wait_timeout = 77; SET @x = 'a;b'"}
        question, expected = "SELECT @@lock_wait_timeout, @x", (77, "a;b")
    archive = open_archive(place(**changes))

    assert archive.rows(question) == [expected]
    archive.close()


def test_startup_statement_that_fails_is_a_configuration_error(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"(?i)nonsense|syntax"):
        open_archive(place(mysql_startup="SET nonsense", postgres_startup="SET nonsense = 1"))


def test_startup_statements_leave_durability_alone(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    text = "set synchronous_commit = off; SET SESSION autocommit=0"
    assert startup_statements(text)[0] == []
    archive = open_archive(place(mysql_startup=text, postgres_startup=text))
    assert "synchronous_commit = off: Durability" in caplog.text
    archive.close()


@pytest.mark.parametrize(
    ("durability", "expected"), [(Durability.FULL, "on"), (Durability.NONE, "off")], ids=str
)
def test_durability_decides_how_postgresql_commits(
    postgres: PostgresServer, tmp_path: Path, durability: Durability, expected: str
) -> None:
    settings = replace(Place(tmp_path)(), **postgres.settings(), durability=durability)
    postgres.administer(f"ALTER DATABASE {settings.sql_server} SET synchronous_commit = off")
    archive = open_archive(settings)
    assert archive.value("SELECT current_setting('synchronous_commit')") == expected
    archive.close()


@pytest.mark.parametrize(
    ("server", "weakness"),
    [("postgres", "fsync = off"), ("mariadb", "innodb_flush_log_at_trx_commit = 2")],
)
def test_server_that_does_not_sync_is_reported(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    server: str,
    weakness: str,
) -> None:
    settings = request.getfixturevalue(server).settings()
    Database(replace(Place(tmp_path)(), **settings, durability=Durability.FULL)).open()
    assert f"runs with {weakness}" in caplog.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "wrong"}, "(?i)password|denied"),
        ({"sql_server": "dgate_no_such"}, "(?i)does not exist|unknown database"),
        ({"sql_host": "127.0.0.1:1"}, "127.0.0.1"),
        ({"sql_host": "127.0.0.1:http"}, "'http' is not a port number"),
    ],
    ids=["password", "database", "port", "no port"],
)
def test_login_that_fails_is_a_configuration_error_with_a_remedy(
    place: Place, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        open_archive(place(**changes))
    assert "SQLHost" in caught.value.remedy


def test_socket_is_reached_by_its_path(place: Place) -> None:
    server = place.server
    assert server is not None
    if isinstance(server, PostgresServer):
        path = f"{server.folder}:{server.port}"
    else:
        path = f"{server.folder}/socket"
        server.administer(f"CREATE USER IF NOT EXISTS {USER}@localhost IDENTIFIED BY 'x'")
        server.administer(f"GRANT ALL ON `dgate%`.* TO {USER}@localhost")
    archive = open_archive(place(sql_host=path, password="x"))
    archive.store(image())
    archive.close()


def test_names_are_lower_case_on_postgresql(postgres: PostgresServer, tmp_path: Path) -> None:
    settings = replace(Place(tmp_path)(), **postgres.settings(), image_table="MyImages")
    archive = open_archive(settings)
    archive.store(image())
    rows = postgres.query(settings.sql_server, "SELECT sopinstanc FROM myimages")
    assert rows == [("1.2.3.1.1.1",)]
    archive.close()


@pytest.mark.parametrize("name", ["DICOMPATIENTS", "dicompatients"])
def test_existing_spelling_is_used_on_mariadb(
    mariadb: MariaServer, tmp_path: Path, name: str
) -> None:
    settings = replace(Place(tmp_path)(), **mariadb.settings())
    mariadb.administer(
        f"CREATE TABLE {name} (PATIENTID varchar(64) PRIMARY KEY NOT NULL, PatientNam varchar(64), "
        "PatientBir char(8), PatientSex varchar(16), AccessTime int) COLLATE latin1_swedish_ci",
        settings.sql_server,
    )
    archive = open_archive(settings)
    archive.store(image())
    [row] = mariadb.query(settings.sql_server, f"SELECT PatientID, PatientNam FROM {name}")
    assert row == ("P1", "SMITH^JOHN")
    archive.close()


def test_table_that_ignores_case_is_searched_as_the_others(
    mariadb: MariaServer, tmp_path: Path
) -> None:
    settings = replace(Place(tmp_path)(), **mariadb.settings())
    first = open_archive(settings)
    first.close()
    for table in ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages"):
        mariadb.administer(f"DROP TABLE {table}", settings.sql_server)
    mariadb.administer("DROP TABLE dgate_layout", settings.sql_server)
    columns = ", ".join(f"{name} varchar(64)" for name in ("StudyDate", "AccessionN", "PatientNam"))
    mariadb.administer(
        f"CREATE TABLE DICOMStudies (StudyInsta varchar(64) PRIMARY KEY NOT NULL, {columns}, "
        "PatientID varchar(64), AccessTime int) COLLATE utf8mb4_general_ci",
        settings.sql_server,
    )
    archive = open_archive(settings)
    archive.store(image(AccessionNumber="a100"))
    finder = _finder(archive)
    keys = [QueryKey(0x0020000D)]
    assert list(finder.find(Level.STUDY, [*keys, QueryKey(0x00080050, "A100")])) == []
    assert len(list(finder.find(Level.STUDY, [*keys, QueryKey(0x00080050, "a100")]))) == 1
    assert len(list(finder.find(Level.STUDY, [*keys, QueryKey(0x00100010, "smith*")]))) == 1
    archive.close()


def test_text_of_a_database_without_encoding_is_utf_8_else_latin_1(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    postgres.administer(
        f"CREATE DATABASE dgate_raw OWNER {USER} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
    )
    settings = replace(Place(tmp_path)(), **postgres.settings(sql_server="dgate_raw"))
    archive = open_archive(settings)
    archive.store(image(SpecificCharacterSet="ISO_IR 192", PatientName="Møller"))
    archive.writer.transact(
        lambda transaction: transaction.execute(
            "UPDATE DICOMStudies SET StudyDescr = 'M' || chr(252)"
        )
    )
    assert archive.rows("SELECT PatientNam, StudyDescr FROM DICOMStudies") == [("Møller", "Mü")]
    archive.close()


def test_short_dates_have_no_padding(postgres: PostgresServer, tmp_path: Path) -> None:
    archive = open_archive(replace(Place(tmp_path)(), **postgres.settings()))
    archive.store(image(StudyDate="2024"))
    assert archive.value("SELECT StudyDate FROM DICOMStudies") == "2024"
    archive.close()


def test_faulty_statement_is_not_taken_for_a_lost_server(archive: Archive) -> None:
    with pytest.raises(StoreError) as caught:
        archive.rows("SELECT nothing FROM nowhere")
    assert not isinstance(caught.value, DatabaseAway)


def test_prefix_of_a_name_is_found_by_an_index(postgres: PostgresServer, tmp_path: Path) -> None:
    settings = replace(
        Place(tmp_path)(), **postgres.settings(postgres_startup="SET enable_seqscan = off")
    )
    archive = open_archive(settings)
    for number in range(300):
        archive.store(
            image(
                StudyInstanceUID=f"1.{number}",
                SeriesInstanceUID=f"1.{number}.1",
                SOPInstanceUID=f"1.{number}.1.1",
                PatientID=f"P{number}",
                PatientName=f"NAME{number:04d}^X",
            )
        )
    finder = _finder(archive)
    keys = [QueryKey(0x0020000D), QueryKey(0x00100010, "name001*")]
    postgres.administer("ANALYZE DICOMStudies", settings.sql_server)
    postgres.administer("SELECT pg_stat_reset()", settings.sql_server)

    assert len(list(finder.find(Level.STUDY, keys))) == 10

    archive.database.close()
    used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'dgate_study_name'"
    wait_until(lambda: postgres.query(settings.sql_server, used)[0][0] > 0, "an index scan")
    archive.close()


def _finder(archive: Archive):  # type: ignore[no-untyped-def]
    from dgate.archive.query import Finder

    return Finder(archive.database, archive.schema, archive.settings)


def _repaired(archive: Archive):  # type: ignore[no-untyped-def]
    from dgate.archive.repair import repair

    return repair(image(), archive.settings)


def _create(database: Database, statement: str) -> None:
    connection = database.connect()
    connection.execute(statement)
    connection.close()


def run_together(actions: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S * 2)
        assert not thread.is_alive()
