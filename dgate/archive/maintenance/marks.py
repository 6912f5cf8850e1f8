"""How far a rebuild of the index has come: a row of `dgate_regen` for each folder at work.

A mark is written in the transaction that enters the files that it counts, so that a rebuild that
was killed goes on behind the last file that is in the index. Any thread, within its own job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from dgate.archive.database import Database
from dgate.archive.writer import Transaction


@dataclass(slots=True)
class Tally:
    """What became of the files of one folder."""

    seen: int = 0
    entered: int = 0
    """They were not in the index."""
    moved: int = 0
    """The index named another file, which is gone."""
    known: int = 0
    """They were in the index already; its rows have been refreshed."""
    copies: int = 0
    """Another file holds the same object, and the index names that one."""
    refused: int = 0
    """Their patient, study or series contradicts what the index holds."""
    unreadable: int = 0
    foreign: int = 0
    """They are no DICOM files, nor called so."""
    skipped: int = 0
    """A converter said so, or the file was changed or removed meanwhile."""
    generated: int = 0
    """The index got a UID that the file does not have."""

    def add(self, other: Tally) -> None:
        """Count another folder's files, too."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclass(frozen=True, slots=True)
class Mark:
    """A rebuild that was begun and is not complete."""

    place: str
    """The last file that was dealt with, as the system names it; empty at the beginning."""
    tally: Tally
    begun: float


class Marks:
    """The marks in the database. File names may have bytes that are no text: they are kept as
    Python's surrogates, escaped for the database."""

    def __init__(self, database: Database) -> None:
        self._read = database.sql("SELECT place, counters, begun FROM dgate_regen WHERE scope = ?")
        self._insert = database.sql(
            "INSERT INTO dgate_regen (scope, place, counters, begun) VALUES (?, ?, ?, ?)"
        )
        self._delete = database.sql("DELETE FROM dgate_regen WHERE scope = ?")

    def read(self, transaction: Transaction, scope: str) -> Mark | None:
        """Return the mark of a scope; None when no rebuild of it was begun."""
        row = transaction.execute(self._read, (scope,)).fetchone()
        if row is None:
            return None
        known = {field.name for field in fields(Tally)}
        counters = {name: value for name, value in json.loads(row[1]).items() if name in known}
        return Mark(_unescaped(row[0]), Tally(**counters), row[2])

    def write(self, transaction: Transaction, scope: str, mark: Mark) -> None:
        """Put the mark in the place of an earlier one."""
        self.remove(transaction, (scope,))
        counters = json.dumps(asdict(mark.tally))
        transaction.execute(self._insert, (scope, _escaped(mark.place), counters, mark.begun))

    def remove(self, transaction: Transaction, scopes: Iterable[str]) -> None:
        """Forget rebuilds that are complete."""
        for scope in scopes:
            transaction.execute(self._delete, (scope,))


def _escaped(place: str) -> str:
    return json.dumps(place)


def _unescaped(text: str) -> str:
    place = json.loads(text)
    return place if isinstance(place, str) else ""
