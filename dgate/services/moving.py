"""The sub-operations of a C-MOVE: sending a supply of objects to its destination (PS3.4 C.4.2.3).

Belongs to the thread of the C-MOVE's association.
"""

from __future__ import annotations

import logging

from dgate.archive.export import Rewrite
from dgate.archive.records import InstanceRef
from dgate.delivery.sender import Sender
from dgate.errors import NoContext, PeerError, Rejected, RuleError, StoreError, Unreachable
from dgate.net import Status
from dgate.services.progress import Progress
from dgate.services.statuses import comment
from dgate.services.suboperations import End

log = logging.getLogger(__name__)

PREPARE_AHEAD = 2000
"""How many objects are looked at before the association to the destination is opened."""
MOST_LOSSES = 2
"""So many associations lost one after another, with no object sent between, end a C-MOVE."""
_NOT_OPENED = (Unreachable, Rejected)


class Moving:
    """One C-MOVE at work."""

    def __init__(
        self,
        progress: Progress,
        sender: Sender,
        rewrite: Rewrite | None = None,
        *,
        reads_ahead: bool = True,
    ) -> None:
        """`rewrite` changes the copies that are sent; the sender stays the caller's."""
        self._progress = progress
        self._sender = sender
        self._rewrite = rewrite
        self._reads_ahead = reads_ahead and rewrite is None
        self._originator = (
            progress.association.calling,
            progress.message.command.message_id,
        )
        self._losses = 0
        self._has_sent = False

    def run(self) -> tuple[End, str]:
        """Send every object; return how it ended, and an error comment.

        An object whose association was lost is sent once more when all others have been, so that
        one which the peer cannot bear costs none of them.
        """
        progress, supply = self._progress, self._progress.supply
        self._sender.prepare(supply.here[:PREPARE_AHEAD])
        for ref in progress.objects():
            try:
                self._send(ref)
            except (StoreError, NoContext, RuleError) as exc:
                # This object only: the next one goes out on the same association, or a new one.
                progress.failed(ref, exc)
            except PeerError as exc:
                end = self._lost(ref, exc)
                if end is not None:
                    return end, comment(exc)
        if progress.is_cancelled:
            return End.CANCELLED, ""
        return End.COMPLETE, ""

    def _send(self, ref: InstanceRef) -> None:
        progress = self._progress
        upcoming = progress.supply.upcoming if self._reads_ahead else None
        result = self._sender.send(
            ref, self._rewrite, originator=self._originator, upcoming=upcoming
        )
        progress.operations.count_sent(ref.sop_instance, result.status)
        self._losses = 0
        self._has_sent = True
        progress.settled(ref)

    def _lost(self, ref: InstanceRef, exc: PeerError) -> End | None:
        """Decide what a lost association means: the end of the C-MOVE, or None to go on."""
        progress, supply = self._progress, self._progress.supply
        self._losses += 1
        is_nobody_there = self._losses == 1 and not self._has_sent and isinstance(exc, _NOT_OPENED)
        if self._losses == MOST_LOSSES or is_nobody_there:
            log.warning("C-MOVE to %s ended early: %s", self._sender.destination.called, exc)
            progress.operations.give_up([ref.sop_instance])
            supply.done(ref)
            return End.NO_CONNECTION if is_nobody_there else End.BROKEN
        log.warning("C-MOVE to %s opens a new association: %s", self._sender.destination, exc)
        if not supply.put_back(ref):
            progress.operations.count_sent(ref.sop_instance, Status.PROCESSING_FAILURE)
            progress.settled(ref)
        return None
