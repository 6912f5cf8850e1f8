"""What a sender shares with the others of its destination: bandwidth, deadlines, refusals.

A `Line` belongs to one sender; what is behind it is shared. `wake` may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from dgate.config.node_settings import NodeSettings
from dgate.config.settings import Settings
from dgate.delivery.bandwidth import Bucket
from dgate.delivery.deadlines import Deadlines, Watch
from dgate.delivery.destination import Destination
from dgate.delivery.refusals import Refusals
from dgate.delivery.windows import least_kbit_s
from dgate.net.association import Association
from dgate.net.requestor import ContextProposal
from dgate.net.stream import Bytes, Timeouts

DEADLINE_S = 600.0
SLOWEST_BYTES_S = 20_000.0
"""Bytes in a second that any peer takes; the deadline grows with the object by that."""


def slowest_byte_s(node: NodeSettings, threads: int) -> float:
    """Return how long a byte may take, where the node does not say how long an object may.

    `threads` (DelayedForwarderThreads) share the bandwidth where the node says nothing of that.
    """
    seconds = 1 / SLOWEST_BYTES_S
    if kbit_s := least_kbit_s(node.bandwidth):
        sharing = max(1, node.associations or threads)
        seconds = max(seconds, 2 * sharing / (kbit_s * 125))
    return seconds


def timeouts_for(settings: Settings, node: NodeSettings) -> Timeouts:
    """Return the bounds of each wait for a node."""
    timeouts = Timeouts.of(settings.tcpip_timeout_s)
    if node.connect_timeout_s is not None:
        timeouts = replace(timeouts, connect_s=node.connect_timeout_s)
    if node.response_timeout_s is not None:
        seconds = node.response_timeout_s
        timeouts = replace(
            timeouts,
            artim_s=min(timeouts.artim_s, seconds),
            read_s=seconds,
            write_s=seconds,
            response_s=seconds,
        )
    return timeouts


class Line:
    """The end of a destination's line that one sender holds."""

    def __init__(
        self,
        bucket: Bucket,
        deadlines: Deadlines | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._bucket = bucket
        self._deadlines = deadlines
        self._refusals = refusals
        self._watch: Watch | None = None

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline that was set last has passed."""
        return self._watch is not None and self._watch.has_fired

    def attend(self, cut: Callable[[], None]) -> None:
        """Have `cut` called, by another thread, when a deadline passes."""
        if self._deadlines is not None:
            self._watch = self._deadlines.watch(cut)

    def dismiss(self) -> None:
        """Have no more to do with deadlines."""
        if self._deadlines is not None and self._watch is not None:
            self._deadlines.forget(self._watch)
            self._watch = None

    def set_deadline(self, seconds: float) -> None:
        """Let the object that goes out now take so long at most."""
        if self._watch is not None:
            self._watch.set(seconds)

    def clear_deadline(self) -> None:
        """Note that the object is through."""
        if self._watch is not None:
            self._watch.clear()

    def paced(self, chunks: Iterable[Bytes], is_cut: Callable[[], bool]) -> Iterable[Bytes]:
        """Return the chunks, as fast as the bandwidth allows."""
        return self._bucket.paced(chunks, is_cut) if self._bucket.is_limited else chunks

    def wake(self) -> None:
        """Let the sender look whether it has been cut."""
        self._bucket.wake()

    def note(
        self, destination: Destination, association: Association, offered: Sequence[ContextProposal]
    ) -> None:
        """Take down what the peer took and what it refused of what was offered, in that order."""
        if self._refusals is None:
            return
        accepted = [
            (context.abstract_syntax, context.transfer_syntax)
            for context in association.contexts.values()
        ]
        taken = set(accepted)
        refused = [
            (item.abstract, syntax, result)
            for number, item in enumerate(offered)
            if (result := association.refused.get(2 * number + 1)) is not None
            for syntax in item.syntaxes
            if (item.abstract, syntax) not in taken
        ]
        self._refusals.note(destination.node or str(destination), accepted, refused)
