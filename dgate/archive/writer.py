"""Group commit: every write to the database goes through one connection and shares its commits.

Not for what is written (`dgate.archive.index`, `dgate.delivery.ledger`). Any thread may call
`Writer.run`. There is no writer thread: the first caller becomes the leader and commits for
everybody who queued meanwhile, so that a single association pays no hand-over and many share one
synced commit.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from dgate.archive.connection import Connection, Cursor, Value
from dgate.archive.database import Database
from dgate.clock import Clock
from dgate.config.settings import Durability
from dgate.disk import sync_folder
from dgate.errors import DatabaseAway, OutcomeUnknown, OutOfSpace, StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

CONFLICT_TRIES = 5
"""How often a job is run when other gateways write the same rows at the same time."""
WAIT_S = 300.0
"""How long a job waits for its turn before it gives up; the disk or the database hangs then."""


class Transaction:
    """What a job sees of the group's transaction.

    `execute(sql, parameters=())` is the driver's own method: SQL comes from `Database.sql`, made
    once.
    """

    __slots__ = ("_connection", "epoch", "execute")

    def __init__(self, connection: Connection, epoch: int) -> None:
        self._connection = connection
        self.execute: Callable[..., Cursor] = connection.execute
        self.epoch = epoch
        """Changes whenever something written earlier may have been undone, or another program has
        written: what is remembered about rows must be forgotten then."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one statement for each row of parameters."""
        self._connection.executemany(sql, rows)


class Job(Protocol[T_co]):
    """One unit of writing.

    Both methods run in the leader's thread, one job after the other, and must not wait for another
    job.
    """

    def work(self, transaction: Transaction) -> T_co:
        """Write the rows; an exception undoes this job's rows only and reaches the caller of
        `run`."""
        ...

    def publish(self) -> Set[Path]:
        """Make the committed rows true on disk (renames); returns the folders that have to be
        synced."""
        ...


class _FolderSyncs:
    """Syncs each folder of a group once, for whichever of its jobs comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, threading.Lock] = {}
        self._synced: set[Path] = set()

    def ensure(self, folder: Path) -> None:
        """Return when the folder is synced; raises OutOfSpace."""
        with self._lock:
            turn = self._folders.setdefault(folder, threading.Lock())
        with turn:
            if folder in self._synced:
                return
            try:
                sync_folder(folder)
            except OSError as exc:
                raise OutOfSpace(
                    f"the folder cannot be synced: {exc.strerror}",
                    where=str(folder),
                    remedy="check the disk",
                ) from exc
            self._synced.add(folder)


class _Entry(Generic[T]):
    __slots__ = ("error", "folders", "job", "leads", "result", "syncs", "wake")

    def __init__(self, job: Job[T]) -> None:
        self.job = job
        self.result: T | None = None
        self.error: BaseException | None = None
        self.folders: Set[Path] = frozenset()
        self.syncs: _FolderSyncs | None = None
        self.wake: threading.Lock | None = None
        self.leads = False


class _Work(Generic[T]):
    """A job without files."""

    __slots__ = ("work",)

    def __init__(self, work: Callable[[Transaction], T]) -> None:
        self.work = work

    def publish(self) -> Set[Path]:
        return frozenset()


class Writer:
    """The one write connection of this process.

    A crash before the commit leaves no row of the group; between commit and publish it leaves rows
    whose files still have their temporary names, which recovery renames (rulings.md 2).
    """

    def __init__(self, database: Database, durability: Durability) -> None:
        self._database = database
        self._away: tuple[type[Exception], ...] = (StoreError, *database.errors)
        self._sync_folders = durability is Durability.FULL
        self._queue_lock = threading.Lock()
        """Guards `_queue` and `_led`."""
        self._queue: deque[_Entry[Any]] = deque()
        self._led = False
        # The rest belongs to the leader.
        self._transaction: Transaction | None = None
        self._connection: Connection | None = None
        self._epoch = 0
        self._data_version = -1
        self._closing = False
        self._doubts_log = False
        """The log of SQLite may show what the disk does not have."""

    def run(self, job: Job[T]) -> T:
        """Run a job in a committed transaction and return what its `work` returned.

        Returns after commit, publish and directory sync. Raises what the job raised, or a
        StoreError (OutOfSpace, DatabaseAway) when the commit failed, and then nothing of the job
        was published.
        """
        entry = _Entry(job)
        with self._queue_lock:
            if self._led:
                entry.wake = threading.Lock()
                entry.wake.acquire()
                self._queue.append(entry)
            else:
                self._led = entry.leads = True
        if entry.wake is not None:
            self._await_turn(entry, entry.wake)
        if entry.leads:
            self._lead(entry)
        if entry.error is None and entry.syncs is not None:
            # Each waiter in its own thread: the file system then shares one journal commit.
            for folder in entry.folders:
                entry.syncs.ensure(folder)
        if entry.error is not None:
            raise entry.error
        return cast(T, entry.result)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` as a job that has no files to publish."""
        return self.run(_Work(work))

    def close(self) -> None:
        """Close the connection after the jobs that are queued; the writer may be used again."""
        try:
            self.transact(lambda transaction: self._close_after_group())
        except StoreError as exc:
            log.debug("The database was away when the writer was closed: %s", exc)

    def _close_after_group(self) -> None:
        self._closing = True

    def _await_turn(self, entry: _Entry[Any], wake: threading.Lock) -> None:
        while not wake.acquire(timeout=WAIT_S):
            with self._queue_lock:
                if entry not in self._queue:
                    # The leader has it: its outcome is not known yet and must not be guessed.
                    continue
                self._queue.remove(entry)
            raise DatabaseAway(
                f"no write finished for {WAIT_S:.0f} seconds",
                where=self._database.location,
                remedy="check the disk and the database",
            )

    def _lead(self, own: _Entry[Any]) -> None:
        with self._queue_lock:
            group = [own, *self._queue]
            self._queue.clear()
        try:
            try:
                self._commit(group)
            finally:
                # The next group may write while this one syncs its folders.
                self._hand_over()
            if self._sync_folders:
                shared = _FolderSyncs()
                for entry in group:
                    entry.syncs = shared
        except BaseException as exc:
            # Only an interrupt of the leading thread comes here: nobody may wait for it for ever.
            for entry in group[1:]:
                entry.error = entry.error or _interrupted(self._database.location, exc)
            raise
        finally:
            for entry in group[1:]:
                if entry.wake is not None:
                    entry.wake.release()

    def _hand_over(self) -> None:
        with self._queue_lock:
            if not self._queue:
                self._led = False
                return
            heir = self._queue.popleft()
            heir.leads = True
        if heir.wake is not None:
            heir.wake.release()

    def _commit(self, group: list[_Entry[Any]]) -> None:
        try:
            transaction = self._begin()
        except self._away as exc:
            self._fail(group, exc)
            return
        try:
            if len(group) == 1:
                self._work_alone(group[0], transaction)
            elif not self._work_together(group, transaction):
                self._work_apart(group)
        except BaseException:
            self._disconnect()
            raise
        for entry in group:
            if entry.error is None:
                try:
                    entry.folders = entry.job.publish()
                except Exception as exc:
                    # The rows are committed; recovery publishes them at the next start. The caller
                    # must not hear success.
                    log.exception("A committed object could not be moved into place.")
                    entry.error = exc
        if self._closing:
            self._closing = False
            self._disconnect()

    def _begin(self) -> Transaction:
        transaction = self._transaction
        if transaction is None or not self._database.is_same_file() or self._is_stale():
            transaction = self._reconnect()
        try:
            transaction.execute(self._database.begin_sql)
        except self._database.errors:
            if self._database.embedded:
                raise
            # A server closes idle connections and restarts; one fresh connection tells whether it
            # is there.
            transaction = self._reconnect()
            transaction.execute(self._database.begin_sql)
        if self._database.embedded:
            version = transaction.execute("PRAGMA data_version").fetchone()[0]
            if version != self._data_version:
                self._data_version = version
                self._forget()
        if self._connection is not None:
            transaction.execute = self._connection.telling
        return transaction

    def _is_stale(self) -> bool:
        return self._connection is not None and self._connection.is_stale()

    def _reconnect(self) -> Transaction:
        self._disconnect()
        self._connection = self._database.connect()
        is_empty = self._database.empty_log(self._connection, wait=self._doubts_log)
        if self._doubts_log and not is_empty:
            raise DatabaseAway(
                "the log could not be synced, nor emptied while another program reads in it",
                where=self._database.location,
                remedy="end the other program",
            )
        self._doubts_log = False
        self._transaction = Transaction(self._connection, self._epoch)
        return self._transaction

    def _work_alone(self, entry: _Entry[Any], transaction: Transaction) -> None:
        """Run a group of one: no savepoint, a plain rollback undoes it.

        What another gateway got in the way of is tried again.
        """
        for tries_left in reversed(range(CONFLICT_TRIES)):
            try:
                entry.result = entry.job.work(transaction)
                self._end(transaction)
                return
            except Exception as exc:
                # Includes a failed commit. The caller gets the error, its image is refused.
                self._forget()
                entry.error = self._known(exc)
                self._roll_back(transaction)
                if not tries_left or not self._database.is_conflict(exc):
                    return
            try:
                transaction = self._begin()
            except self._away as exc:
                entry.error = self._database.failure(exc)
                return
            entry.error = None

    def _work_apart(self, group: list[_Entry[Any]]) -> None:
        """Run the jobs of a group one by one, after another gateway got in the way of one."""
        for place, entry in enumerate(group):
            entry.error = None
            try:
                self._work_alone(entry, self._begin())
            except self._away as exc:
                self._fail(group[place:], exc)
                return

    def _end(self, transaction: Transaction) -> None:
        """Commit; raises OutcomeUnknown when the server, or the disk, went away with the commit in
        hand."""
        try:
            transaction.execute("COMMIT")
        except self._database.errors as exc:
            if self._database.is_conflict(exc) or self._database.has_undone(exc):
                raise
            failure = self._database.failure(exc)
            if not isinstance(failure, DatabaseAway):
                raise
            self._doubts_log = self._database.embedded
            raise OutcomeUnknown(failure.what, where=failure.where, remedy=failure.remedy) from exc

    def _work_together(self, group: list[_Entry[Any]], transaction: Transaction) -> bool:
        """Run a group in one transaction; returns False when another gateway got in the way."""
        execute = transaction.execute
        for entry in group:
            try:
                execute("SAVEPOINT job")
                entry.result = entry.job.work(transaction)
                execute("RELEASE SAVEPOINT job")
            except Exception as exc:
                # The job's caller gets the error, its image is refused; the others go on.
                self._forget()
                if self._database.is_conflict(exc):
                    self._roll_back(transaction)
                    return False
                entry.error = self._known(exc)
                try:
                    execute("ROLLBACK TO SAVEPOINT job")
                    execute("RELEASE SAVEPOINT job")
                except self._database.errors:
                    # A full disk or a lost server ends the whole transaction, not just the
                    # savepoint.
                    self._fail(group, exc)
                    return True
        try:
            self._end(transaction)
        except self._away as exc:
            if self._database.is_conflict(exc):
                self._forget()
                self._roll_back(transaction)
                return False
            self._fail(group, exc)
        return True

    def _fail(self, group: list[_Entry[Any]], cause: BaseException) -> None:
        """Give every job of the group that has no error of its own the cause, as a StoreError."""
        for entry in group:
            if entry.error is None:
                entry.error = self._database.failure(cause)
                entry.error.__cause__ = cause
        self._forget()
        self._disconnect()

    def _known(self, exc: Exception) -> Exception:
        if not isinstance(exc, self._database.errors):
            return exc
        failure = self._database.failure(exc)
        failure.__cause__ = exc
        return failure

    def _roll_back(self, transaction: Transaction) -> None:
        try:
            transaction.execute("ROLLBACK")
        except self._database.errors:
            # The database ended the transaction itself, or is gone: start afresh.
            self._disconnect()

    def _forget(self) -> None:
        self._epoch += 1
        if self._transaction is not None:
            self._transaction.epoch = self._epoch

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._transaction = None
        self._data_version = -1


def database_time(database: Database, clock: Clock, connection: Connection | Transaction) -> float:
    """Return the time by which debts are due: the database server's, if it is one."""
    if database.clock_sql is None:
        return clock.now()
    return float(connection.execute(f"SELECT {database.clock_sql}").fetchone()[0])


def _interrupted(location: str, exc: BaseException) -> DatabaseAway:
    return DatabaseAway(f"the commit was interrupted ({type(exc).__name__})", where=location)
