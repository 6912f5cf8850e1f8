"""What is remembered about a destination while nobody works on it.

A `Site` is shared by all workers of a destination, a `Lane` belongs to one of them. Not the work
itself (`dgate.delivery.worker`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from dgate.clock import Clock, SystemClock
from dgate.config.node_settings import DEFAULT, NodeSettings
from dgate.delivery.bandwidth import Bucket
from dgate.delivery.blame import Blame
from dgate.delivery.breaker import Breaker
from dgate.delivery.deadlines import Deadlines
from dgate.delivery.records import Settlement
from dgate.delivery.titles import RejectedTitles


class Site:
    """One destination: its breaker, its bandwidth, and how much waits for it. Any thread."""

    def __init__(
        self, destination: str, clock: Clock | None = None, deadlines: Deadlines | None = None
    ) -> None:
        """Without `deadlines`, objects may take as long as they like."""
        self.destination = destination
        self.breaker = Breaker()
        self.blame = Blame()
        self.bucket = Bucket(clock or SystemClock())
        self.deadlines = deadlines
        self.node: NodeSettings = DEFAULT
        self.has_backlog = False
        """Whether a worker found more than it could claim at once."""
        self.opens_in_s = 0.0
        """How long what is due has to wait for its window, when it was last looked at."""
        self._guard = threading.Lock()

    def go_on_by(self, node: NodeSettings) -> None:
        """Take the settings of the node that count from now on."""
        if node is not self.node:
            with self._guard:
                self.node = node
                self.bucket.change(node.bandwidth)


@dataclass(slots=True)
class Lane:
    """What one worker of a destination leaves to the next.

    Belongs to its worker while there is one, else to the dispatcher.
    """

    destination: str
    slot: int = 0
    """Which of the destination's workers it is for."""
    site: Site = None  # type: ignore[assignment]
    """Shared with the other slots; a fresh one by default."""
    paused_alone_until: float = 0.0
    """The peer took no further association beside those that it serves; by the monotonic clock."""
    refusals: int = 0
    """How often in a row that was so."""
    abandoned: bool = False
    """Its worker died: what that had claimed or not written down needs another one."""
    broken_by: int | None = None
    """The debt at whose object the association broke, when the peer has answered none since."""
    deferrals: dict[int, int] = field(default_factory=dict)
    """How often in a row rules have deferred a debt."""
    rejected: RejectedTitles = field(default_factory=RejectedTitles)
    """Titles that the peer does not take."""
    unsaved: list[Settlement] = field(default_factory=list)
    """Outcomes that are not committed yet. Kept here so that not even a worker that dies lets an
    object that has arrived be sent again."""

    def __post_init__(self) -> None:
        """Make a site for a lane that stands alone."""
        if self.site is None:
            self.site = Site(self.destination)

    @property
    def failures(self) -> int:
        """Failures of the destination itself in a row."""
        return self.site.breaker.failures

    @property
    def paused_until(self) -> float:
        """When the destination is tried again, by the clock's monotonic time."""
        return self.site.breaker.paused_until

    @property
    def last_error(self) -> str:
        """The last failure of the destination."""
        return self.site.breaker.last_error
