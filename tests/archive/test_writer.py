"""Group commit: one transaction for many, failures that stay with their job."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import pytest

from dgate.archive import writer as writer_module
from dgate.archive.database import Database
from dgate.archive.writer import Transaction, Writer
from dgate.config.settings import Durability
from dgate.errors import DatabaseAway, OutcomeUnknown, OutOfSpace, Refused, StoreError
from tests.archive.database_kit import ENGINES, Setup, place_of

WAIT_S = 60


class Note:
    """A job that inserts one number and records what happens to it."""

    def __init__(
        self,
        number: int,
        *,
        before: Callable[[], None] | None = None,
        fail: Exception | None = None,
        folders: Set[Path] = frozenset(),
        publish_fails: Exception | None = None,
    ) -> None:
        self.number = number
        self.before = before
        self.fail = fail
        self.folders = folders
        self.publish_fails = publish_fails
        self.published = False
        self.thread = ""
        self.epoch = -1

    def work(self, transaction: Transaction) -> int:
        self.thread = threading.current_thread().name
        self.epoch = transaction.epoch
        if self.before is not None:
            self.before()
        transaction.execute(f"INSERT INTO notes VALUES ({self.number})")
        if self.fail is not None:
            raise self.fail
        return self.number * 10

    def publish(self) -> Set[Path]:
        if self.publish_fails is not None:
            raise self.publish_fails
        self.published = True
        return self.folders


class Waiters:
    """Threads that run jobs while the leader is held inside its own."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.results: dict[int, int] = {}
        self.errors: dict[int, BaseException] = {}
        self.threads: list[threading.Thread] = []

    def run(self, job: Note) -> None:
        try:
            self.results[job.number] = self.writer.run(job)
        except BaseException as exc:
            self.errors[job.number] = exc

    def start(self, job: Note) -> None:
        thread = threading.Thread(target=self.run, args=(job,), name=f"job-{job.number}")
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def run_as_group(self, *jobs: Note) -> Note:
        """Let all jobs queue up behind one more job, so that they become one group."""
        entered, go = threading.Event(), threading.Event()

        def hold() -> None:
            entered.set()
            assert go.wait(WAIT_S)

        first = Note(0, before=hold)
        self.start(first)
        assert entered.wait(WAIT_S)
        for position, job in enumerate(jobs, start=1):
            self.start(job)
            self._until(lambda wanted=position: len(self.writer._queue) == wanted)
        go.set()
        self.join()
        return first

    def _until(self, condition: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(WAIT_S * 1000):
            if condition():
                return
            pause.wait(0.001)
        raise AssertionError("the jobs did not queue")


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return a database on each engine in turn."""
    opened = noted(place_of(request, tmp_path)())
    yield opened
    opened.close()


ON_A_FILE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what only an embedded database can do, or suffer."""


def noted(settings: Setup) -> Database:
    """Open a database with a table for notes."""
    opened = Database(settings)
    opened.open()
    connection = opened.connect()
    connection.execute("CREATE TABLE notes (number integer unique)")
    connection.close()
    return opened


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    made = Writer(database, Durability.FULL)
    yield made
    made.close()


def notes(database: Database) -> list[int]:
    with database.reader() as connection:
        rows = connection.execute("SELECT number FROM notes ORDER BY number").fetchall()
    return [row[0] for row in rows]


def test_result_of_work_is_returned_after_commit_and_publish(
    writer: Writer, database: Database
) -> None:
    job = Note(1)
    assert writer.run(job) == 10
    assert job.published
    assert notes(database) == [1]


def test_work_without_files_is_committed(writer: Writer, database: Database) -> None:
    def work(transaction: Transaction) -> str:
        transaction.executemany(database.sql("INSERT INTO notes VALUES (?)"), [(1,), (2,)])
        return "done"

    assert writer.transact(work) == "done"
    assert notes(database) == [1, 2]


def test_single_association_commits_in_its_own_thread(writer: Writer) -> None:
    job = Note(1)
    writer.run(job)
    assert job.thread == threading.current_thread().name


def test_failing_job_leaves_nothing_and_reaches_its_caller(
    writer: Writer, database: Database
) -> None:
    job = Note(1, fail=Refused("no"))
    with pytest.raises(Refused, match="no"):
        writer.run(job)
    assert not job.published
    assert notes(database) == []
    writer.run(Note(2))
    assert notes(database) == [2]


def test_jobs_that_queue_share_one_commit(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiters = Waiters(writer)
    jobs = [Note(number) for number in (1, 2, 3)]
    waiters.run_as_group(*jobs)
    assert waiters.errors == {}
    assert waiters.results == {0: 0, 1: 10, 2: 20, 3: 30}
    assert {job.thread for job in jobs} == {"job-1"}
    assert notes(database) == [0, 1, 2, 3]


def test_failing_job_of_a_group_does_not_touch_the_others(
    writer: Writer, database: Database
) -> None:
    waiters = Waiters(writer)
    bad = Note(2, fail=Refused("conflict"))
    good = [Note(1), Note(3)]
    waiters.run_as_group(good[0], bad, good[1])
    assert isinstance(waiters.errors.pop(2), Refused)
    assert waiters.errors == {}
    assert notes(database) == [0, 1, 3]
    assert not bad.published
    assert all(job.published for job in good)


def test_database_error_of_one_job_is_a_store_error_for_it_only(
    writer: Writer, database: Database
) -> None:
    waiters = Waiters(writer)
    waiters.run_as_group(Note(1), Note(1), Note(3))
    errors = list(waiters.errors.values())
    assert [type(error) for error in errors] == [StoreError]
    assert isinstance(errors[0].__cause__, database.errors)
    assert notes(database) == [0, 1, 3]


def test_group_of_which_every_job_failed_commits_nothing(
    writer: Writer, database: Database
) -> None:
    waiters = Waiters(writer)
    waiters.run_as_group(Note(1, fail=Refused("a")), Note(2, fail=Refused("b")))
    assert set(waiters.errors) == {1, 2}
    assert notes(database) == [0]


def test_failing_publish_reaches_its_caller_only(writer: Writer, database: Database) -> None:
    waiters = Waiters(writer)
    bad, good = Note(1, publish_fails=OSError("rename failed")), Note(2)
    waiters.run_as_group(bad, good)
    assert isinstance(waiters.errors.pop(1), OSError)
    assert waiters.errors == {}
    assert good.published


def test_folders_of_a_group_are_synced_once(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(writer_module, "sync_folder", synced.append)
    one, two = tmp_path / "one", tmp_path / "two"
    waiters = Waiters(writer)
    waiters.run_as_group(
        Note(1, folders={one}), Note(2, folders={one, two}), Note(3, folders={two})
    )
    assert sorted(synced) == [one, two]


@pytest.mark.parametrize("durability", [Durability.INDEX, Durability.NONE], ids=str)
def test_folders_are_left_to_the_system_unless_durability_is_full(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    durability: Durability,
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(writer_module, "sync_folder", synced.append)
    writer = Writer(database, durability)
    writer.run(Note(1, folders={tmp_path}))
    writer.close()
    assert synced == []


def test_folder_is_really_synced(writer: Writer, tmp_path: Path) -> None:
    assert writer.run(Note(1, folders={tmp_path})) == 10


def test_folder_that_cannot_be_synced_fails_its_jobs(writer: Writer, tmp_path: Path) -> None:
    waiters = Waiters(writer)
    gone = tmp_path / "gone"
    waiters.run_as_group(Note(1, folders={gone}), Note(2, folders={tmp_path}))
    error = waiters.errors.pop(1)
    assert isinstance(error, StoreError)
    assert error.where == str(gone)
    assert waiters.errors == {}


@ON_A_FILE
def test_failed_commit_publishes_nothing_for_anybody(writer: Writer, database: Database) -> None:
    def make_commit_fail() -> None:
        # A deferred constraint fails at COMMIT, after every job's own work went well.
        assert writer._transaction is not None
        writer._transaction.execute("PRAGMA defer_foreign_keys = ON")
        writer._transaction.execute("INSERT INTO child VALUES (99)")

    connection = database.connect()
    connection.execute("CREATE TABLE parent (id integer primary key)")
    connection.execute(
        "CREATE TABLE child (id integer REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)"
    )
    connection.close()
    writer.transact(lambda transaction: None)
    assert writer._transaction is not None
    writer._transaction.execute("PRAGMA foreign_keys = ON")
    waiters = Waiters(writer)
    jobs = [Note(1), Note(2, before=make_commit_fail), Note(3)]
    waiters.run_as_group(*jobs)
    assert {number: type(error) for number, error in waiters.errors.items()} == {
        1: StoreError,
        2: StoreError,
        3: StoreError,
    }
    assert not any(job.published for job in jobs)
    assert notes(database) == [0]
    assert writer.run(Note(4)) == 40


def fail_in_commit(writer: Writer) -> None:
    """Have the commit of the running job fail as by a disk that could not sync the log."""
    transaction = writer._transaction
    assert transaction is not None
    execute = transaction.execute

    def failing(sql: str, *rest: object) -> object:
        if sql != "COMMIT":
            return execute(sql, *rest)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    transaction.execute = failing  # type: ignore[assignment]


@ON_A_FILE
def test_outcome_of_a_commit_that_the_disk_failed_in_is_unknown(writer: Writer) -> None:
    job = Note(1, before=lambda: fail_in_commit(writer))
    with pytest.raises(OutcomeUnknown):
        writer.run(job)
    assert not job.published
    assert writer.run(Note(2)) == 20


@ON_A_FILE
def test_nothing_is_written_behind_a_log_that_may_not_be_on_the_disk(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.database.BUSY_TIMEOUT_S", 0.0)
    writer.run(Note(1))
    reader = sqlite3.connect(str(database.path), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM notes").fetchall()
    with pytest.raises(OutcomeUnknown):
        writer.run(Note(2, before=lambda: fail_in_commit(writer)))
    writer._disconnect()

    with pytest.raises(DatabaseAway):
        writer.run(Note(3))
    reader.execute("ROLLBACK")
    assert writer.run(Note(4)) == 40
    reader.close()


@ON_A_FILE
def test_reader_of_the_log_does_not_keep_a_writer_from_starting(
    writer: Writer, database: Database
) -> None:
    writer.run(Note(1))
    reader = sqlite3.connect(str(database.path), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM notes").fetchall()
    other = Writer(database, Durability.FULL)
    assert other.run(Note(2)) == 20
    other.close()
    reader.close()


@ON_A_FILE
def test_first_connection_empties_the_log(writer: Writer, database: Database) -> None:
    assert database.path is not None
    log = database.path.with_name(database.path.name + "-wal")
    reader = sqlite3.connect(str(database.path))
    reader.execute("SELECT * FROM notes").fetchall()
    writer.run(Note(1))
    assert log.stat().st_size > 0
    connection = database.connect()
    assert database.empty_log(connection, wait=False)
    assert log.stat().st_size == 0
    assert connection.execute("PRAGMA busy_timeout").fetchone()[0] > 0
    connection.close()
    reader.close()


@ON_A_FILE
def test_full_database_is_out_of_space_and_serving_goes_on(
    writer: Writer, database: Database
) -> None:
    writer.transact(lambda transaction: transaction.execute("CREATE TABLE big (a blob)"))
    assert writer._transaction is not None
    limit = writer._transaction.execute("PRAGMA page_count").fetchone()[0]
    writer._transaction.execute(f"PRAGMA max_page_count = {limit}")
    with pytest.raises(OutOfSpace):
        writer.transact(
            lambda transaction: transaction.execute("INSERT INTO big VALUES (zeroblob(99999))")
        )
    assert writer.run(Note(1)) == 10


@ON_A_FILE
def test_locked_database_is_away_and_comes_back(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.database.BUSY_TIMEOUT_S", 0.0)
    other = sqlite3.connect(str(database.path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    job = Note(1)
    with pytest.raises(DatabaseAway, match="locked"):
        writer.run(job)
    assert not job.published
    other.execute("ROLLBACK")
    other.close()
    assert writer.run(job) == 10


@ON_A_FILE
def test_removed_database_file_refuses_until_it_is_back(
    writer: Writer, database: Database, tmp_path: Path
) -> None:
    writer.run(Note(1))
    assert database.path is not None
    away = tmp_path / "away.db3"
    database.path.rename(away)
    with pytest.raises(DatabaseAway, match="removed or replaced"):
        writer.run(Note(2))
    assert not database.path.exists()
    away.rename(database.path)
    assert writer.run(Note(3)) == 30


def test_epoch_changes_when_something_may_have_been_undone(writer: Writer) -> None:
    first, second = Note(1), Note(2)
    writer.run(first)
    writer.run(second)
    assert second.epoch == first.epoch
    with pytest.raises(Refused):
        writer.run(Note(3, fail=Refused("x")))
    third = Note(4)
    writer.run(third)
    assert third.epoch != second.epoch


@ON_A_FILE
def test_epoch_changes_when_another_program_has_written(writer: Writer, database: Database) -> None:
    first, second = Note(1), Note(2)
    writer.run(first)
    with sqlite3.connect(str(database.path)) as other:
        other.execute("DELETE FROM notes")
    other.close()
    writer.run(second)
    assert second.epoch != first.epoch


def test_interrupted_leader_leaves_nobody_waiting(writer: Writer, database: Database) -> None:
    waiters = Waiters(writer)

    def interrupt() -> None:
        raise KeyboardInterrupt

    waiters.run_as_group(Note(1, before=interrupt), Note(2))
    assert isinstance(waiters.errors[1], KeyboardInterrupt)
    assert isinstance(waiters.errors[2], DatabaseAway)
    assert notes(database) == [0]
    assert writer.run(Note(3)) == 30


def test_job_that_waits_too_long_gives_up(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "WAIT_S", 0.01)
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert go.wait(WAIT_S)

    waiters = Waiters(writer)
    waiters.start(Note(1, before=hold))
    assert entered.wait(WAIT_S)
    with pytest.raises(DatabaseAway, match="no write finished"):
        writer.run(Note(2))
    go.set()
    waiters.join()
    assert notes(database) == [1]


def test_many_threads_lose_nothing(writer: Writer, database: Database) -> None:
    waiters = Waiters(writer)

    def run_some(start: int) -> None:
        for number in range(start, start + 50):
            waiters.run(Note(number))

    threads = [threading.Thread(target=run_some, args=(start,)) for start in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waiters.errors == {}
    assert notes(database) == list(range(400))


def test_closed_writer_opens_again(writer: Writer, database: Database) -> None:
    writer.run(Note(1))
    writer.close()
    assert writer._connection is None
    writer.run(Note(2))
    assert notes(database) == [1, 2]


@ON_A_FILE
def test_writer_whose_database_is_away_closes_quietly(writer: Writer, database: Database) -> None:
    assert database.path is not None
    database.path.unlink()
    writer.close()
