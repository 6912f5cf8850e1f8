"""Looks after the bookkeeping of storage commitment at the start, and every hour.

What waits for a commitment without a debt that asks, as after `queue cancel`, is asked for; what
waits for one that is not wanted any more counts as delivered, also when the configuration changes;
what nobody needs any more is forgotten. One thread of its own; `start`, `apply` and `stop` belong
to the gateway's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from dgate.delivery.commitment.ledger import Commitments
from dgate.delivery.commitment.requests import Requests
from dgate.errors import StoreError
from dgate.ops.rounds import Rounds

log = logging.getLogger(__name__)

EVERY_S = 3600.0
DAY_S = 86400.0
TROUBLE_S = 60.0
"""The same after it could not be done."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the configuration says of it."""

    is_asked: Callable[[str], bool]
    """Tells of a node, by its title, whether it has to commit to what it accepts."""
    is_node: Callable[[str], bool]
    """Tells of an AE title whether it is that of a node."""
    days: int
    """LedgerDays."""


class Keeper:
    """The thread that does it."""

    def __init__(
        self, commitments: Commitments, requests: Requests, wishes: Callable[[], Wishes]
    ) -> None:
        """`wishes` returns those that count now."""
        self._commitments = commitments
        self._requests = requests
        self._wishes = wishes
        self._is_start = True
        self._rounds = Rounds(
            "commitments",
            self._step,
            "Looking at the requests for storage commitment failed.",
            trouble_s=EVERY_S,
        )

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def apply(self, generation: object) -> None:
        """Look again: Commit may have been removed."""
        self._rounds.wake()

    def stop(self) -> None:
        """End; safe to call twice, or without `start`."""
        self._rounds.stop()

    def _step(self) -> float:
        try:
            if self._is_start:
                self._requests.hasten_all()
            self._is_start = False
            self._look()
        except StoreError as exc:
            log.error("The requests for storage commitment cannot be looked at: %s", exc)
            return min(TROUBLE_S, EVERY_S)
        return EVERY_S

    def _look(self) -> None:
        wishes = self._wishes()
        count = self._commitments.do_without_all(wishes.is_asked)
        if count:
            log.warning("%d object(s) count as delivered; Commit is not set any more.", count)
        count = self._commitments.stop_stuck()
        if count:
            log.error("%d deliveries are stuck, since no commitment can be had.", count)
        adopted = self._commitments.adopt()
        if adopted:
            log.warning("Storage commitment is asked for again for %d group(s).", adopted)
        self._requests.forget_orphans()
        dropped = self._requests.forget_strangers(wishes.is_node, wishes.days * DAY_S)
        if dropped:
            log.warning("%d request(s) of peers that are no nodes were dropped.", dropped)
