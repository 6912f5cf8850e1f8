"""What every worker works with, as one configuration shapes it. Immutable, any thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dgate.archive.export import Exporter
from dgate.clock import Clock
from dgate.config.node_settings import DEFAULT, NodeSettings
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.destination import Destination
from dgate.delivery.errands import Errands
from dgate.delivery.internal import node_of_lane
from dgate.delivery.ledger import Ledger
from dgate.delivery.moving import Mover
from dgate.delivery.performing import Performed
from dgate.delivery.records import Debt
from dgate.delivery.refusals import Refusals
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import Rewrite, Sender
from dgate.rules.effects import Expansion


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What every worker works with."""

    ledger: Ledger
    exporter: Exporter
    settings: Settings
    nodes: NodeMap
    clock: Clock
    expand: Callable[[Debt], Expansion]
    """Runs the export converter of an EXPORT debt; raises RuleError, Missing, DatabaseAway, and
    Deferred where the converter wants to be run again later."""
    rewrite: Callable[[Debt], Rewrite]
    """Compiles the script of a DELIVER debt; raises RuleError."""
    make_sender: Callable[[Destination], Sender]
    policy: RetryPolicy
    perform: Callable[[Debt], Performed]
    """Works off a REQUEST debt; raises RuleError, StoreError, PeerError."""
    halt: Callable[[Debt], str] = lambda debt: ""
    """Says why a DELIVER debt must not be paid before somebody has acted; empty = it may be."""
    errands: Errands = field(default_factory=dict)
    """Works off debts that are neither deliveries nor any of the above."""
    mirror: Callable[[str], None] | None = None
    """Brings the mirror copy of a stored object up to date; raises StoreError."""
    mover: Mover | None = None
    """Moves what groups and nodes that fail are owed; None = nothing moves."""
    refusals: Refusals | None = None
    """Where what peers refuse is noted."""

    def node(self, destination: str) -> NodeSettings:
        """Return what is set for the node that a destination's lane leads to; for work inside the
        server no section about nodes counts, not even `[node *]`."""
        title = node_of_lane(destination, self.nodes)
        return self.settings.peers.of(title) if title else DEFAULT

    def policy_for(self, destination: str) -> RetryPolicy:
        """Return the pauses that count for a destination."""
        return self.policy.for_node(self.node(destination))

    def slots_of(self, destination: str) -> int:
        """Return how many associations deliver to a destination at once."""
        return self.node(destination).associations or self.settings.delayed_forwarder_threads
