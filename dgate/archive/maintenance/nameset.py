"""A set of file names on disk, for comparing an index with folders of any size.

SQLite keeps it in a temporary file of its own, so memory stays constant. Used by one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

_CACHE_KIB = 8192


class NameSet:
    """Names by device, each with a mark whether it was found."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("")
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._connection.execute(
            "CREATE TABLE names (device TEXT, name TEXT, found INT DEFAULT 0, "
            "PRIMARY KEY (device, name)) WITHOUT ROWID"
        )
        self._connection.execute("BEGIN")

    def add(self, names: Iterable[tuple[str, str]]) -> int:
        """Enter device and name of each; returns how many were there already."""
        before = self._connection.total_changes
        given = list(names)
        self._connection.executemany(
            "INSERT OR IGNORE INTO names (device, name) VALUES (?, ?)", given
        )
        return len(given) - (self._connection.total_changes - before)

    def find(self, device: str, names: Iterable[str]) -> list[str]:
        """Mark those that are in the set as found, and return the others."""
        strange = []
        for name in names:
            done = self._connection.execute(
                "UPDATE names SET found = 1 WHERE device = ? AND name = ?", (device, name)
            )
            if done.rowcount == 0:
                strange.append(name)
        return strange

    def lost(self, device: str) -> Iterator[str]:
        """Yield the names of a device that were not found."""
        rows = self._connection.execute(
            "SELECT name FROM names WHERE device = ? AND found = 0 ORDER BY name", (device,)
        )
        for (name,) in rows:
            yield name

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()
