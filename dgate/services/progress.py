"""The loop of a retrieval, be it C-MOVE or C-GET: next object, cancelled?, counted, told.

Belongs to the thread of the retrieval's association.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from dgate.archive.records import InstanceRef
from dgate.net import Association, Message, Status
from dgate.services.suboperations import SubOperations
from dgate.services.supply import Supply
from dgate.services.virtual import Lost

log = logging.getLogger(__name__)

WAIT_S = 0.25
"""So often a retrieval that waits for a virtual server looks for a C-CANCEL."""
REASSURE_S = 10.0
"""After so long without an object, a pending response tells the requester to be patient."""


class Progress:
    """One retrieval under way."""

    def __init__(
        self,
        association: Association,
        message: Message,
        supply: Supply,
        operations: SubOperations,
    ) -> None:
        self.association = association
        self.message = message
        self.supply = supply
        self.operations = operations
        self.is_cancelled = False

    def objects(self) -> Iterator[InstanceRef]:
        """Yield the objects to be sent, until there are no more or the requester cancels.

        Objects that no virtual server gave are counted here. Raises PeerError when the requester
        has gone.
        """
        message_id = self.message.command.message_id
        told_at = time.monotonic()
        while not self.supply.is_empty:
            if self.association.cancelled(message_id):
                self.is_cancelled = True
                return
            item = self.supply.take(WAIT_S)
            if item is None:
                if time.monotonic() - told_at > REASSURE_S:
                    self.operations.respond_pending(self.association, self.message)
                    told_at = time.monotonic()
                continue
            if isinstance(item, Lost):
                log.warning("Object %s could not be fetched: %s", item.sop_instance, item.reason)
                self.operations.count(item.sop_instance, Status.PROCESSING_FAILURE)
                self.tell()
            else:
                yield item
            told_at = time.monotonic()

    def failed(self, ref: InstanceRef, reason: Exception) -> None:
        """Count an object that could not be sent, for a reason that is ours."""
        log.warning("Object %s could not be sent: %s", ref.sop_instance, reason)
        self.operations.count(ref.sop_instance, Status.PROCESSING_FAILURE)
        self.settled(ref)

    def settled(self, ref: InstanceRef) -> None:
        """Let an object go that has been counted, and tell the requester."""
        self.supply.done(ref)
        self.tell()

    def tell(self) -> None:
        """Send a pending response."""
        self.operations.respond_pending(self.association, self.message)
