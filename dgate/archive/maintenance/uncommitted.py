"""Which objects a node has taken and not committed to, where that is to keep them here
(`CommitBeforeDelete` of the node).

What is still owed, waiting for its commitment included, is `Holdings.owed`; here is what counts as
delivered without one: before the node's section said `Commit`, or after it did not any more. An
object that was never meant for the node is free, and so is one whose history is older than the
ledger keeps it. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.records import InstanceRef
from dgate.archive.writer import Transaction
from dgate.config.node_settings import NodeTable

_DELIVERED = (
    "SELECT DISTINCT d.destination, d.sop_instance FROM dgate_debts d WHERE d.study = ? "
    "AND d.kind = 'deliver' AND d.state = 'done' AND d.committed IS NULL AND NOT EXISTS ("
    "SELECT 1 FROM dgate_debts c WHERE c.sop_instance = d.sop_instance "
    "AND c.destination = d.destination AND c.committed IS NOT NULL)"
)


class Uncommitted:
    """Asks the ledger's history."""

    def __init__(self, database: Database, peers: NodeTable) -> None:
        self._database = database
        self._peers = peers
        self._statement = database.sql(_DELIVERED)
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
        there = {ref.sop_instance for ref in refs}
        kept: set[str] = set()
        for study in {ref.study for ref in refs}:
            for destination, instance in connection.execute(self._statement, (study,)).fetchall():
                if instance in there and self._peers.of(destination).commit_before_delete:
                    kept.add(instance)
        return len(kept)
