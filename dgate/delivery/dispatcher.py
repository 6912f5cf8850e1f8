"""Starts a worker for every destination that has due debts, and sleeps until the next is due.

Not for the work itself (`dgate.delivery.worker`). One thread of its own beside the workers; `wake`,
`retry_now` and `status` may be called from any thread. There is no polling: the thread sleeps until
the earliest due time, a wake-up, or the renewal of leases while something is leased.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass
from operator import itemgetter

from dgate.delivery.ledger import LEASE_S
from dgate.delivery.worker import Lane, Toolbox, Worker
from dgate.errors import DgateError

log = logging.getLogger(__name__)

MOST_WORKERS = 200
SETTLING_S = 0.02
"""Least time between two looks at the ledger, so that a stream of wake-ups costs little."""
TROUBLE_PAUSE_S = 5.0
SAFETY_POLL_S = 10.0
"""Only for a ledger that other gateways write too: their debts wake nobody here."""
HISTORY_S = 30 * 86400.0
PRUNE_EVERY_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """What a destination is doing at the moment."""

    destination: str
    working: bool
    failures: int
    """Failures of the destination in a row."""
    pause_s: float
    """How long until it is tried again; 0 = now."""
    last_error: str


class Dispatcher:
    """Keeps every destination's debts moving, each independent of the others."""

    def __init__(self, tools: Callable[[], Toolbox]) -> None:
        """`tools` returns what to work with from now on: a changed configuration has other tools,
        on the same ledger.
        """
        self._tools = tools
        first = tools()
        self._ledger = first.ledger
        self._clock = first.clock
        self._ledger.longest_pause_s = first.policy.most_s
        self._notices = self._ledger.notices(self.wake)
        self._signal = threading.Condition()
        """Guards `_woken`, `_stopping`, `_workers` and `_lanes`."""
        self._woken = False
        self._stopping = threading.Event()
        # By destination and slot.
        self._workers: dict[tuple[str, int], Worker] = {}
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._thread: threading.Thread | None = None
        self._renew_at = 0.0
        self._prune_at = 0.0

    def start(self) -> int:
        """Take up what was left behind and begin; returns how many debts a crash left leased.

        Raises StoreError when the ledger cannot be reached.
        """
        recovered = self._ledger.recover()
        if recovered:
            log.warning(
                "%d deliveries were under way when a server ended; they start again, and what had "
                "arrived already is sent twice (`dgate queue list` counts these as repeats).",
                recovered,
            )
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._thread.start()
        self._notices.start()
        return recovered

    def stop(self, drain_s: float = 10.0) -> None:
        """Let every worker finish the object in hand and write it down, then end.

        A worker that still waits for its peer after `drain_s` loses its connection.
        """
        self._notices.stop()
        self._stopping.set()
        with self._signal:
            self._signal.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._signal:
            workers = list(self._workers.values())
        for worker in workers:
            worker.stop_soon()
        deadline = self._clock.monotonic() + drain_s
        for worker in workers:
            worker.join(max(0.0, deadline - self._clock.monotonic()))
        hanging = [worker for worker in workers if worker.is_alive()]
        for worker in hanging:
            worker.cut()
        for worker in hanging:
            worker.join(drain_s)
            if worker.is_alive():
                log.warning(
                    "Deliveries to %s did not end; what they had claimed is taken up at the next "
                    "start.",
                    worker.lane.destination,
                )

    def wake(self) -> None:
        """Say that debts were committed; cheap, called for every stored object."""
        if self._woken:
            return
        with self._signal:
            self._woken = True
            self._signal.notify()

    def retry_now(self, destination: str | None = None) -> None:
        """End the pause of a destination, or of all; peers are asked afresh what they take."""
        with self._signal:
            for lane in self._lanes.values():
                if destination in (None, lane.destination):
                    lane.paused_until = 0.0
                    lane.failures = 0
            for worker in self._workers.values():
                if destination in (None, worker.lane.destination):
                    worker.nudge(refresh=True)
        self.wake()

    def status(self) -> list[LaneStatus]:
        """Return the destinations that are being worked on or pause after failures."""
        now = self._clock.monotonic()
        with self._signal:
            return [
                LaneStatus(
                    lane.destination,
                    key in self._workers,
                    lane.failures,
                    max(0.0, lane.paused_until - now),
                    lane.last_error if lane.failures else "",
                )
                for key, lane in sorted(self._lanes.items(), key=itemgetter(0))
            ]

    # The dispatcher's own thread.

    def _run(self) -> None:
        self._renew_at = self._clock.monotonic() + LEASE_S / 3
        pause = 0.0
        while not self._stopping.wait(SETTLING_S):
            with self._signal:
                self._signal.wait_for(lambda: self._woken or self._stopping.is_set(), pause)
                self._woken = False
            if self._stopping.is_set():
                return
            try:
                pause = self._survey()
            except DgateError as exc:
                log.error("The ledger cannot be read: %s", exc)
                pause = TROUBLE_PAUSE_S
            except Exception:
                # The thread must live: without it no object is delivered until a restart.
                log.exception("Looking for deliveries failed unexpectedly.")
                pause = TROUBLE_PAUSE_S

    def _survey(self) -> float:
        """Start what is due and return how long nothing else can be."""
        ledger = self._ledger
        # Never less than before: what is due late by an earlier configuration was no fault of a
        # clock.
        ledger.longest_pause_s = max(ledger.longest_pause_s, self._tools().policy.most_s)
        self._keep_house()
        waits = []
        lanes = ledger.lanes()
        now = ledger.now()
        with self._signal:
            monotonic = self._clock.monotonic()
            wanted = {key: 0.0 for key, lane in self._lanes.items() if lane.abandoned}
            slots = range(self._tools().settings.delayed_forwarder_threads)
            wanted |= {(due.destination, slot): due.due - now for due in lanes for slot in slots}
            for key, wait in wanted.items():
                lane = self._lanes.setdefault(key, Lane(*key))
                worker = self._workers.get(key)
                if worker is None:
                    wait = max(wait, lane.paused_until - monotonic)
                if wait > 0:
                    waits.append(wait)
                elif worker is not None:
                    worker.nudge()
                elif len(self._workers) < MOST_WORKERS:
                    self._start_worker(lane)
            self._forget_idle(wanted)
            # After the start of workers: what they claim has to be renewed.
            if self._workers or ledger.shared:
                waits.append(self._renew_at - monotonic)
        waits.append(self._prune_at - monotonic)
        if ledger.shared:
            waits.append(SAFETY_POLL_S)
        return max(0.0, min(waits))

    def _start_worker(self, lane: Lane) -> None:
        worker = Worker(lane, self._tools, self._may_end, self.wake)
        worker.start()
        # It cannot end before this: ending needs the lock that is held here.
        self._workers[lane.destination, lane.slot] = worker

    def _may_end(self, worker: Worker, must: bool) -> bool:
        """Let a worker end, unless it was told of debts meanwhile and can go on."""
        with self._signal:
            if worker.is_nudged and not must:
                return False
            key = worker.lane.destination, worker.lane.slot
            if self._workers.get(key) is worker:
                del self._workers[key]
        # Its lane may have to be waited for, or another one may have waited for a place.
        self.wake()
        return True

    def _forget_idle(self, wanted: Container[tuple[str, int]]) -> None:
        idle = [
            key
            for key, lane in self._lanes.items()
            if key not in wanted and key not in self._workers and not lane.failures
        ]
        for key in idle:
            del self._lanes[key]

    def _keep_house(self) -> None:
        """Renew leases and prune the history when it is time."""
        now = self._clock.monotonic()
        ledger = self._ledger
        if now >= self._renew_at:
            self._renew_at = now + LEASE_S / 3
            if self._workers:
                ledger.renew()
            if ledger.shared and (recovered := ledger.recover()):
                log.warning("%d deliveries of a gateway that is gone start again.", recovered)
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY_S
            pruned = ledger.prune(HISTORY_S)
            if pruned:
                days = HISTORY_S / 86400
                log.info("%d deliveries older than %d days left the history.", pruned, days)
