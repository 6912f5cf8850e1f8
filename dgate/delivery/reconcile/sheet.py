"""What two archives have of one study, side by side, however much that is.

In a temporary database of its own that lies in memory as long as it is small and in a file
otherwise, which the system removes with the process (in the folder of TMPDIR, else /var/tmp).
So what a comparison needs of memory is a page and a cache, whatever archives hold. Belongs to one
thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from dgate.archive.batches import batches
from dgate.archive.records import InstanceRef
from dgate.delivery.inquiry import plain_uid
from dgate.delivery.reconcile.node import ObjectThere
from dgate.errors import StoreError

PAGE = 500
"""Objects that are handled at once."""
CACHE_KIB = 4096
_Row = tuple[str | int | None, ...]
_TABLES = """
CREATE TABLE series (
    uid TEXT PRIMARY KEY, key TEXT NOT NULL, here INT NOT NULL, told INT, listed INT NOT NULL
) WITHOUT ROWID;
CREATE TABLE here (
    uid TEXT PRIMARY KEY, sop_class TEXT, sop_instance TEXT, patient_id TEXT, study TEXT,
    series TEXT, device TEXT, name TEXT
) WITHOUT ROWID;
CREATE TABLE there (uid TEXT PRIMARY KEY, sop_class TEXT) WITHOUT ROWID;
"""
_MISSING_THERE = (
    "SELECT here.* FROM here LEFT JOIN there USING (uid) "
    "WHERE there.uid IS NULL AND here.uid > ? ORDER BY here.uid LIMIT ?"
)
_MISSING_HERE = (
    "SELECT there.uid, there.sop_class FROM there LEFT JOIN here USING (uid) "
    "WHERE here.uid IS NULL AND there.uid > ? ORDER BY there.uid LIMIT ?"
)


class SeriesRow(NamedTuple):
    """A series of either side."""

    uid: str
    key: str
    """As our index spells it; empty = we do not have it."""
    here: int
    """Objects that we have."""
    told: int | None
    """Objects that the node says it has; None = it does not say."""
    is_listed: bool
    """The node lists it."""


class Sheet:
    """One study at a time."""

    def __init__(self) -> None:
        self._database: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let it go; safe to call twice."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def clear(self) -> None:
        """Begin a study."""
        with self._working() as database:
            for table in ("series", "here", "there"):
                database.execute(f"DELETE FROM {table}")

    def clear_objects(self) -> None:
        """Begin a series."""
        with self._working() as database:
            database.execute("DELETE FROM here")
            database.execute("DELETE FROM there")

    def add_own_series(self, rows: Iterable[tuple[str, int]]) -> None:
        """Note our series, as the index spells them, and how many objects they have."""
        statement = (
            "INSERT INTO series VALUES (?, ?, ?, NULL, 0) "
            "ON CONFLICT (uid) DO UPDATE SET here = here + excluded.here"
        )
        self._add(statement, ((plain_uid(key), key, count) for key, count in rows))

    def add_their_series(self, rows: Iterable[tuple[str, int | None]]) -> None:
        """Note the series that the node lists, and how many objects it says they have."""
        statement = (
            "INSERT INTO series VALUES (?, '', 0, ?, 1) "
            "ON CONFLICT (uid) DO UPDATE SET told = excluded.told, listed = 1"
        )
        self._add(statement, rows)

    def series(self) -> Iterator[SeriesRow]:
        """Yield the series of either side."""
        statement = "SELECT * FROM series WHERE uid > ? ORDER BY uid LIMIT ?"
        for page in self._pages(statement):
            for uid, key, here, told, listed in page:
                yield SeriesRow(uid, key, here, told, bool(listed))

    def add_own(self, refs: Iterable[InstanceRef]) -> None:
        """Note our objects of a series."""
        self._add(
            "INSERT OR IGNORE INTO here VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    plain_uid(ref.sop_instance),
                    ref.sop_class,
                    ref.sop_instance,
                    ref.patient_id,
                    ref.study,
                    ref.series,
                    ref.device,
                    ref.name,
                )
                for ref in refs
            ),
        )

    def add_theirs(self, objects: Iterable[ObjectThere]) -> None:
        """Note the objects of a series that the node lists."""
        rows = ((each.sop_instance, each.sop_class) for each in objects)
        self._add("INSERT OR IGNORE INTO there VALUES (?, ?)", rows)

    def listed(self) -> int:
        """Return how many different objects the node lists."""
        with self._working() as database:
            return int(database.execute("SELECT COUNT(*) FROM there").fetchone()[0])

    def some_listed(self) -> list[str]:
        """Return two of the objects that the node lists, as far as there are."""
        with self._working() as database:
            return [row[0] for row in database.execute("SELECT uid FROM there LIMIT 2")]

    def told(self) -> int | None:
        """Return how many objects the node says that the series have which it lists; None where it
        does not say so of all."""
        statement = "SELECT COUNT(*), COUNT(told), COALESCE(SUM(told), 0) FROM series WHERE listed"
        with self._working() as database:
            listed, telling, total = database.execute(statement).fetchone()
        return int(total) if listed == telling else None

    def missing_there(self) -> Iterator[list[InstanceRef]]:
        """Yield the objects that the node does not list, by pages."""
        for page in self._pages(_MISSING_THERE):
            yield [InstanceRef(*row[1:]) for row in page]

    def missing_here(self) -> Iterator[list[ObjectThere]]:
        """Yield the objects that we do not have in this series, by pages."""
        for page in self._pages(_MISSING_HERE):
            yield [ObjectThere(*row) for row in page]

    def _pages(self, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        last = ""
        while True:
            with self._working() as database:
                page = database.execute(statement, (last, PAGE)).fetchall()
            if not page:
                return
            yield page
            last = page[-1][0]

    def _add(self, statement: str, rows: Iterable[_Row]) -> None:
        # Peers and the index are asked outside of what is caught as an error of this database.
        for batch in batches(rows, PAGE):
            with self._working() as database:
                database.execute("BEGIN")
                database.executemany(statement, batch)
                database.execute("COMMIT")

    @contextmanager
    def _working(self) -> Iterator[sqlite3.Connection]:
        """Lend the database; raises StoreError where its file cannot grow."""
        try:
            if self._database is None:
                self._database = _opened()
            yield self._database
        except sqlite3.Error as exc:
            self.close()
            raise StoreError(
                f"what the node lists cannot be kept: {exc}",
                where="temporary file",
                remedy="make room in the folder for temporary files, or set TMPDIR",
            ) from exc


def _opened() -> sqlite3.Connection:
    # Without a name: in memory up to the size of the cache, beyond it in a file that has no name.
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for pragma in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF"):
        database.execute(f"PRAGMA {pragma}")
    database.executescript(_TABLES)
    return database
