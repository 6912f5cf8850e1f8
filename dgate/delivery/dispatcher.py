"""Starts a worker for every destination that has due debts, and sleeps until the next is due.

Not for the work itself (`dgate.delivery.worker`). One thread of its own beside the workers; `wake`,
`retry_now` and `status` may be called from any thread. There is no polling: the thread sleeps until
the earliest due time, a wake-up, or the renewal of leases while something is leased.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

from dgate.delivery.breaker import Breaker
from dgate.delivery.deadlines import Deadlines
from dgate.delivery.lanes import Lane, Site
from dgate.delivery.leases import LEASE_S
from dgate.delivery.records import Due
from dgate.delivery.relief import Relief
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sites import SiteStatus
from dgate.delivery.toolbox import Toolbox
from dgate.delivery.windows import opens_in_s
from dgate.delivery.worker import NOT_URGENT, Worker
from dgate.errors import DgateError, StoreError

log = logging.getLogger(__name__)

MOST_WORKERS = 400
"""Half of them may be further workers of a destination, so that each has one."""
SETTLING_S = 0.02
"""Least time between two looks at the ledger, so that a stream of wake-ups costs little."""
TROUBLE_PAUSE_S = 5.0
SAFETY_POLL_S = 10.0
"""Only for a ledger that other gateways write too: their debts wake nobody here."""
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
    slot: int = 0
    """Which of the destination's workers it is about."""
    state: str = "closed"
    """Of the destination's breaker: `closed` (it is worked on), `open` (it pauses), `probing` (one
    worker tries, the others wait)."""
    window_s: float = 0.0
    """How long what is due waits for the hours in which it is sent; 0 = it need not."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)


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
        self._ledger.longest_pause_s = RetryPolicy.longest_of(first.settings)
        self._notices = self._ledger.notices(self.wake)
        self._signal = threading.Condition()
        """Guards `_woken`, `_stopping`, `_workers`, `_lanes` and `_sites`."""
        self._woken = False
        self._stopping = threading.Event()
        # By destination and slot.
        self._workers: dict[tuple[str, int], Worker] = {}
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._sites: dict[str, Site] = {}
        self._deadlines = Deadlines()
        self._relief: Relief | None = None
        if first.mover is not None:
            self._relief = Relief(first.mover, first.clock, self._stopping.is_set)
        self._thread: threading.Thread | None = None
        self._pruning: threading.Thread | None = None
        self._renew_at = 0.0
        self._prune_at = 0.0

    def start(self) -> int:
        """Take up what was left behind and begin; returns how many debts a crash left leased.

        Raises StoreError when the ledger cannot be reached.
        """
        recovered = self._ledger.recover(starting=True)
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
        self._deadlines.stop()
        if self._pruning is not None:
            # It ends after the page in hand.
            self._pruning.join()
            self._pruning = None

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
            for site in self._sites.values():
                if destination in (None, site.destination):
                    site.breaker.reset()
                    site.blame.propose_all()
            for lane in self._lanes.values():
                if destination in (None, lane.destination):
                    lane.paused_alone_until = 0.0
                    lane.rejected.forget()
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
                    lane.site.breaker.pause_s(now),
                    lane.last_error if lane.failures else "",
                    lane.slot,
                    lane.site.breaker.state(now),
                    lane.site.opens_in_s,
                )
                for key, lane in sorted(self._lanes.items(), key=itemgetter(0))
            ]

    def sites(self) -> list[SiteStatus]:
        """Return the same by destination, without those of which nothing is to be said."""
        now = self._clock.monotonic()
        with self._signal:
            working = Counter(destination for destination, _ in self._workers)
            return [
                SiteStatus(
                    name,
                    site.breaker.state(now),
                    working[name],
                    site.breaker.failures,
                    site.breaker.pause_s(now),
                    site.opens_in_s,
                    site.breaker.last_error if site.breaker.is_open else "",
                )
                for name, site in sorted(self._sites.items())
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
        ledger, tools = self._ledger, self._tools()
        # Never less than before: what is due late by an earlier configuration was no fault of a
        # clock.
        longest = RetryPolicy.longest_of(tools.settings)
        ledger.longest_pause_s = max(ledger.longest_pause_s, longest)
        self._renew_leases()
        lanes = ledger.lanes()
        waits = [self._relieve(tools, [due.destination for due in lanes])]
        if waits[0] == 0:
            # What came for a group meanwhile is shared out at the next look, which is at once.
            lanes = ledger.lanes()
        lanes = [due for due in lanes if not self._is_group(tools, due.destination)]
        now = ledger.now()
        without: list[str] = []
        with self._signal:
            monotonic = self._clock.monotonic()
            wanted = {key: 0.0 for key, lane in self._lanes.items() if lane.abandoned}
            urgent: dict[str, int] = {}
            for due in lanes:
                site = self._site(due.destination)
                site.go_on_by(tools.node(due.destination))
                wait, urgent[due.destination] = self._wait_of(due, site, now)
                for slot in range(tools.slots_of(due.destination)):
                    wanted[due.destination, slot] = wait
            for key, wait in wanted.items():
                lane = self._lane(key)
                worker = self._workers.get(key)
                if worker is None:
                    alone = lane.paused_alone_until - monotonic
                    wait = max(wait, alone, lane.site.breaker.wait_s(monotonic, lane.slot))
                if wait > 0:
                    waits.append(wait)
                elif worker is not None:
                    worker.nudge(urgent.get(lane.destination, NOT_URGENT))
                elif self._has_place(lane, monotonic) and not self._start_worker(lane):
                    without.append(lane.destination)
            self._forget_idle(wanted)
            # After the start of workers: what they claim has to be renewed.
            if self._workers or ledger.shared:
                waits.append(self._renew_at - monotonic)
        if without:
            log.error(
                "The machine gives no further thread: deliveries to %s wait, next try in %.0f s. "
                "Raise the limit of threads (TasksMax, ulimit -u).",
                ", ".join(sorted(set(without))),
                TROUBLE_PAUSE_S,
            )
            waits.append(TROUBLE_PAUSE_S)
        self._prune()
        waits.append(self._prune_at - monotonic)
        if ledger.shared:
            waits.append(SAFETY_POLL_S)
        return max(0.0, min(waits))

    def _relieve(self, tools: Toolbox, owed: Sequence[str]) -> float:
        """Move what is to go elsewhere; return how long until the next look, 0 after a move."""
        if self._relief is None:
            return math.inf
        try:
            moved, wait = self._relief.look(owed, tools.settings.peers, tools.nodes, self._breakers)
        except StoreError as exc:
            # What waits elsewhere goes on; groups and nodes that fail are looked at again.
            log.error("Deliveries could not be moved to another destination: %s", exc)
            return TROUBLE_PAUSE_S
        return 0.0 if moved else wait

    def _is_group(self, tools: Toolbox, destination: str) -> bool:
        if self._relief is None:
            return False
        return self._relief.is_group(destination, tools.settings.peers, tools.nodes)

    def _breakers(self) -> Mapping[str, Breaker]:
        with self._signal:
            return {name: site.breaker for name, site in self._sites.items()}

    def _wait_of(self, due: Due, site: Site, now: float) -> tuple[float, int]:
        """Return how long nothing can be sent to a destination, and the most urgent of what can."""
        local = self._clock.now()
        dues = due.dues or (None,) * due.priority + (due.due,)
        wait, urgent, closed = math.inf, NOT_URGENT, 0.0
        for priority, at in enumerate(dues):
            if at is None:
                continue
            opens = opens_in_s(site.node, priority, local)
            if at <= now and opens > 0:
                closed = opens if closed == 0 else min(closed, opens)
            ready = max(at - now, opens)
            wait = min(wait, ready)
            if ready <= 0:
                urgent = min(urgent, priority)
        site.opens_in_s = closed
        return wait, urgent

    def _site(self, destination: str) -> Site:
        site = self._sites.get(destination)
        if site is None:
            site = self._sites[destination] = Site(destination, self._clock, self._deadlines)
        return site

    def _lane(self, key: tuple[str, int]) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(*key, self._site(key[0]))
        return lane

    def _has_place(self, lane: Lane, now: float) -> bool:
        """Tell whether a worker may start: further ones only where there is work for them, and
        never in the place of another destination's first.

        Those that pause alone are passed over: the next one is the first then.
        """
        before = [
            key
            for key in ((lane.destination, slot) for slot in range(lane.slot))
            if key not in self._lanes or self._lanes[key].paused_alone_until <= now
        ]
        if not before or lane.abandoned:
            return len(self._workers) < MOST_WORKERS
        if len(self._workers) >= max(1, MOST_WORKERS // 2):
            return False
        if lane.site.has_backlog:
            return True
        workers = (self._workers.get(key) for key in before)
        return all(worker is not None and worker.is_busy for worker in workers)

    def _start_worker(self, lane: Lane) -> bool:
        """Start a worker; return whether the machine had a thread for it."""
        worker = Worker(lane, self._tools, self._may_end, self.wake)
        lane.site.breaker.enter(lane.slot, self._clock.monotonic())
        try:
            worker.start()
        except RuntimeError:
            # Others must not wait for this one's probe.
            lane.site.breaker.leave(lane.slot)
            return False
        # It cannot end before this: ending needs the lock that is held here.
        self._workers[lane.destination, lane.slot] = worker
        return True

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
            if key not in wanted
            and key not in self._workers
            and not (lane.failures or lane.site.breaker.is_open)
        ]
        for key in idle:
            del self._lanes[key]
        used = {destination for destination, _ in self._lanes}
        for destination in self._sites.keys() - used:
            del self._sites[destination]

    def _renew_leases(self) -> None:
        """Renew leases when it is time, and take up those of gateways that are gone."""
        now = self._clock.monotonic()
        ledger = self._ledger
        if now >= self._renew_at:
            self._renew_at = now + LEASE_S / 3
            if self._workers:
                ledger.renew()
            if ledger.shared and (recovered := ledger.recover()):
                log.warning("%d deliveries of a gateway that is gone start again.", recovered)

    def _prune(self) -> None:
        """Prune the history when it is time: beside the work, as it may take minutes."""
        now = self._clock.monotonic()
        if now < self._prune_at:
            return
        self._prune_at = now + PRUNE_EVERY_S
        if self._pruning is not None and self._pruning.is_alive():
            return
        pruning = threading.Thread(target=self._prune_history, name="history", daemon=True)
        try:
            pruning.start()
        except RuntimeError as exc:
            log.error("No thread for pruning the history of deliveries: %s.", exc)
            self._prune_at = now + TROUBLE_PAUSE_S
            return
        self._pruning = pruning

    def _prune_history(self) -> None:
        days = self._tools().settings.ledger_days
        try:
            pruned = self._ledger.prune(days * 86400.0, self._stopping.is_set)
        except DgateError as exc:
            log.error("The history of deliveries could not be pruned: %s", exc)
            return
        except Exception:
            log.exception("Pruning the history of deliveries failed unexpectedly.")
            return
        if pruned:
            log.info("%d deliveries older than %d days left the history.", pruned, days)
