"""Which objects a node has taken and not committed to, where that is to keep them here
(`CommitBeforeDelete` of the node).

What is still owed, waiting for its commitment included, is `Holdings.owed`; here is what counts as
delivered without one: before the node's section said `Commit`, or after it did not any more, or to
another node in its place. A commitment covers what was owed before it, not what came later: that
may be other content. Objects are known by their SOP Instance UID, as studies and patients are
corrected. One that was never meant for the node is free, and so is one whose history is older than
the ledger keeps it. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.records import InstanceRef
from dgate.archive.writer import Transaction
from dgate.config.node_settings import NodeTable

_AT_ONCE = 200
"""Objects asked for in one statement."""


class _Delivery(NamedTuple):
    number: int
    nodes: frozenset[str]
    """Where it went and, rerouted, where it was to go."""
    is_committed: bool


class Uncommitted:
    """Asks the ledger's history."""

    def __init__(self, database: Database, peers: NodeTable) -> None:
        self._database = database
        self._peers = peers
        self._matters = any(node.commit_before_delete for node in peers.by_title.values())

    def count(
        self, refs: Sequence[InstanceRef], connection: Connection | Transaction | None = None
    ) -> int:
        """Return how many of these objects have to stay."""
        if not self._matters:
            return 0
        if connection is None:
            with self._database.reader() as own:
                return self.count(refs, own)
        instances = list({ref.sop_instance for ref in refs})
        kept = 0
        for start in range(0, len(instances), _AT_ONCE):
            found = self._delivered(connection, instances[start : start + _AT_ONCE])
            kept += sum(self._has_to_stay(deliveries) for deliveries in found)
        return kept

    def _delivered(
        self, connection: Connection | Transaction, instances: Sequence[str]
    ) -> Iterable[list[_Delivery]]:
        """Return the deliveries of each of these objects that has any."""
        marks = ", ".join("?" * len(instances))
        statement = self._database.sql(
            "SELECT sop_instance, id, destination, origin, committed FROM dgate_debts "
            f"WHERE sop_instance IN ({marks}) AND kind = 'deliver' AND state = 'done'"
        )
        found: dict[str, list[_Delivery]] = {}
        for row in connection.execute(statement, tuple(instances)).fetchall():
            instance, number, destination, origin, committed = row
            nodes = frozenset(name.upper() for name in (destination, origin) if name)
            delivery = _Delivery(int(number), nodes, committed is not None)
            found.setdefault(instance, []).append(delivery)
        return found.values()

    def _has_to_stay(self, deliveries: Sequence[_Delivery]) -> bool:
        return any(
            not any(
                other.is_committed and node in other.nodes and other.number >= delivery.number
                for other in deliveries
            )
            for delivery in deliveries
            for node in self._careful(delivery)
        )

    def _careful(self, delivery: _Delivery) -> Iterator[str]:
        """Yield the nodes of a delivery whose commitment is wanted before anything is deleted."""
        yield from (node for node in delivery.nodes if self._peers.of(node).commit_before_delete)
