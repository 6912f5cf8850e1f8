"""What peers have refused: remembered to be shown, and forgotten when they take it.

It is for operators only: a peer is asked again with each new association, whatever stands here. The
table `dgate_refusals` is written when something changes, which is rare. Any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from dgate.archive.database import Database
from dgate.archive.writer import Transaction, Writer
from dgate.errors import StoreError

log = logging.getLogger(__name__)

REASONS = {
    1: "rejected by the user of the service",
    2: "rejected without a reason",
    3: "the SOP class is not supported",
    4: "none of the transfer syntaxes is supported",
}
"""PS3.8 table 9-18."""
MOST = 10_000
"""Refusals that are kept; titles and UIDs may come from rules without end."""

_ALL = (
    "SELECT node, sop_class, syntax, result, at FROM dgate_refusals "
    "ORDER BY node, sop_class, syntax"
)
_FORGET = "DELETE FROM dgate_refusals WHERE node = ? AND sop_class = ? AND syntax = ?"
_NOTE = "INSERT INTO dgate_refusals (node, sop_class, syntax, result, at) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A SOP class that a peer does not take in a transfer syntax."""

    node: str
    """The title or address that deliveries name."""
    sop_class: str
    syntax: str
    result: int
    """Result of the presentation context, 1 to 4 (PS3.8 table 9-18)."""
    at: float
    """When it was refused first, in seconds since the epoch."""

    @property
    def reason(self) -> str:
        """Return the result in words."""
        return REASONS.get(self.result, f"result {self.result}")

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return {**asdict(self), "reason": self.reason}


_Key = tuple[str, str, str]
_Pair = tuple[str, str]
_Answer = tuple[str, str, int]


def stored_refusals(database: Database, node: str | None = None) -> list[Refusal]:
    """Return the refusals of a node, or of all; raises StoreError."""
    with database.reader() as connection:
        rows = connection.execute(_ALL).fetchall()
    found = [Refusal(*row) for row in rows]
    return [one for one in found if node is None or one.node.lower() == node.lower()]


class Refusals:
    """The refusals of all peers."""

    def __init__(
        self, database: Database, writer: Writer, now: Callable[[Transaction], float]
    ) -> None:
        self._database = database
        self._writer = writer
        self._now = now
        self._guard = threading.Lock()
        """Guards `_known`, and makes changes one after the other."""
        self._known: dict[_Key, int] | None = None
        self._forget_sql = database.sql(_FORGET)
        self._note_sql = database.sql(_NOTE)

    def all(self, node: str | None = None) -> list[Refusal]:
        """Return the refusals of a node, or of all; raises StoreError."""
        return stored_refusals(self._database, node)

    def note(self, node: str, accepted: Iterable[_Pair], refused: Iterable[_Answer]) -> None:
        """Take down how a peer answered: SOP class and syntax, and for a refusal the result.

        Nothing depends on it: that it cannot be written is logged only.
        """
        try:
            with self._guard:
                self._note(node, accepted, refused)
        except StoreError as exc:
            log.warning("What %s refused could not be written down: %s", node, exc)

    def _note(self, node: str, accepted: Iterable[_Pair], refused: Iterable[_Answer]) -> None:
        known = self._known
        if known is None:
            known = {(one.node, one.sop_class, one.syntax): one.result for one in self.all()}
            self._known = known
        gone = [key for pair in accepted if (key := (node, *pair)) in known]
        new = {
            (node, sop_class, syntax): result
            for sop_class, syntax, result in refused
            if known.get((node, sop_class, syntax)) != result
        }
        if len(known) + len(new) > MOST:
            new = {}
        if not gone and not new:
            return

        def work(transaction: Transaction) -> None:
            now = self._now(transaction)
            for key in (*gone, *new):
                transaction.execute(self._forget_sql, key)
            for key, result in new.items():
                transaction.execute(self._note_sql, (*key, result, now))

        self._writer.transact(work)
        for key in gone:
            del known[key]
        known |= new
