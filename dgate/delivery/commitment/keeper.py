"""Looks after the bookkeeping of storage commitment at the start, and every hour.

What waits for a commitment without a debt that asks, as after `queue cancel`, is asked for; what
nobody needs any more is forgotten. One thread of its own; `start` and `stop` belong to the
gateway's.
"""

from __future__ import annotations

import logging
import threading

from dgate.delivery.commitment.ledger import Commitments
from dgate.delivery.commitment.requests import Requests
from dgate.errors import StoreError

log = logging.getLogger(__name__)

EVERY_S = 3600.0
TROUBLE_S = 60.0
"""The same after it could not be done."""


class Keeper:
    """The thread that does it."""

    def __init__(self, commitments: Commitments, requests: Requests) -> None:
        self._commitments = commitments
        self._requests = requests
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="commitments", daemon=True)
        self._thread.start()

    def apply(self, generation: object) -> None:
        """Nothing here depends on the configuration."""

    def stop(self) -> None:
        """End; safe to call twice, or without `start`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        is_start = True
        while True:
            pause = EVERY_S
            try:
                if is_start:
                    self._requests.hasten_all()
                is_start = False
                self._look()
            except StoreError as exc:
                log.error("The requests for storage commitment cannot be looked at: %s", exc)
                pause = min(TROUBLE_S, EVERY_S)
            except Exception:
                # It comes round again; without it only what operators cancelled would be missed.
                log.exception("Looking at the requests for storage commitment failed.")
            if self._stopping.wait(pause):
                return

    def _look(self) -> None:
        adopted = self._commitments.adopt()
        if adopted:
            log.warning("Storage commitment is asked for again for %d group(s).", adopted)
        self._requests.forget_orphans()
