"""Pays the debts of one destination: claims them in batches, delivers, writes down the outcome.

Not for when a destination is tried again (`dgate.delivery.dispatcher` starts a worker for it) nor
for how an object travels (`dgate.delivery.sender`). A `Worker` is one thread; `nudge`, `stop` and
`cut` may be called from others.

A crash leaves the claimed debts leased: those that were not begun, and those whose mark was not yet
committed. The next start gives both back and counts them as possible repeats.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dgate.archive.export import Exporter
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.requests import request_draft
from dgate.clock import Clock
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.associations import Associations
from dgate.delivery.destination import Destination
from dgate.delivery.failures import DOUBTFUL_TRIES, Fate, fate_of_error, fate_of_status
from dgate.delivery.ledger import Ledger
from dgate.delivery.performing import Performed
from dgate.delivery.records import Debt, Settlement, State
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import Rewrite, Sender
from dgate.errors import Busy, ConfigError, Deferred, DgateError, PeerError, StoreError
from dgate.net.dimse import describe
from dgate.rules.effects import Expansion, Forward

log = logging.getLogger(__name__)

BATCH = 128
SHARED_BATCH = 8
"""The same where several workers share a destination: what one has claimed the others cannot."""
GATHER_S = 0.05
"""Least time between two claims that find less than a batch: while objects stream in, claims of one
or two would cost a commit each."""
FLUSH_S = 0.1
"""Marks are committed this often while deliveries go on..."""
SLOWEST_FLUSH_S = 1.0
MOST_DEFERRALS = 10_000
"""Debts of which a lane remembers how often they were deferred."""
COMMIT_SHARE = 0.1
"""...but less often where that would take more than this share of the time."""


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
    mirror: Callable[[str], None] | None = None
    """Brings the mirror copy of a stored object up to date; raises StoreError."""


@dataclass(slots=True)
class Lane:
    """What is remembered about a destination while nobody works on it.

    Belongs to its worker while there is one, else to the dispatcher.
    """

    destination: str
    slot: int = 0
    """Which of the destination's workers it is for (`DelayedForwarderThreads`)."""
    failures: int = 0
    """Failures of the destination itself in a row."""
    paused_until: float = 0.0
    """By the clock's monotonic time."""
    last_error: str = ""
    abandoned: bool = False
    """Its worker died: what that had claimed or not written down needs another one."""
    broken_by: int | None = None
    """The debt at whose object the association broke, when the peer has answered none since."""
    deferrals: dict[int, int] = field(default_factory=dict)
    """How often in a row rules have deferred a debt."""
    unsaved: list[Settlement] = field(default_factory=list)
    """Outcomes that are not committed yet. Kept here so that not even a worker that dies lets an
    object that has arrived be sent again."""


class Worker(threading.Thread):
    """Works on one lane until it is idle, fails or has to stop."""

    def __init__(
        self,
        lane: Lane,
        tools: Callable[[], Toolbox],
        may_end: Callable[[Worker, bool], bool],
        on_new_debts: Callable[[], None],
    ) -> None:
        number = f"-{lane.slot}" if lane.slot else ""
        super().__init__(name=f"deliver-{lane.destination}{number}", daemon=True)
        self.lane = lane
        self._current_tools = tools
        self._may_end = may_end
        self._on_new_debts = on_new_debts
        self._signal = threading.Condition()
        """Guards `_nudged`, `_refresh` and `_stopping`."""
        self._nudged = False
        self._refresh = False
        self._stopping = False
        # The rest belongs to the worker's own thread.
        self._tools = first = tools()
        self._associations = Associations(first.nodes, first.settings, first.make_sender)
        self._unsaved = lane.unsaved
        self._saved_at = 0.0
        self._flush_s = FLUSH_S
        self._ledger_failures = 0
        self._pause_s: float | None = None
        self._unreached = False
        """Whether the last failure was that no association came about."""

    # Called by others.

    @property
    def is_nudged(self) -> bool:
        """Whether there may be debts that the worker has not looked for."""
        return self._nudged

    def nudge(self, *, refresh: bool = False) -> None:
        """Tell the worker that debts are due; with `refresh`, to ask the peer anew."""
        with self._signal:
            self._nudged = True
            self._refresh = self._refresh or refresh
            self._signal.notify()

    def stop_soon(self) -> None:
        """Let the object in hand finish, then give everything else back and end."""
        with self._signal:
            self._stopping = True
            self._signal.notify()

    def cut(self) -> None:
        """Drop the connections of a worker that does not end by itself."""
        self.stop_soon()
        self._associations.cut()

    # The worker's own thread.

    def run(self) -> None:
        """Work; every way out gives claimed debts back or leaves them to `Ledger.recover`."""
        try:
            self._work()
        except Exception as exc:
            # Claimed debts stay leased to us and are given back by the lane's next worker.
            log.exception("Deliveries to %s stopped unexpectedly.", self.lane.destination)
            self.lane.last_error = f"unexpected error: {exc}"
            self.lane.abandoned = True
            self._pause(self._tools.policy.longest_s)
        finally:
            self._associations.close()
            self._may_end(self, True)

    def _work(self) -> None:
        # A worker that died may have left rows leased to this process.
        orphans = True
        streaming = False
        while True:
            ending = self._stopping or self._pause_s is not None
            self._heed_signals()
            try:
                debts = self._exchange(0 if ending else self._batch, orphans=orphans)
            except StoreError as exc:
                orphans = True
                if not self._wait_for_database(exc):
                    return
                continue
            orphans = self.lane.abandoned = False
            if self._pause_s is not None:
                self._pause(self._pause_s)
            if ending:
                return
            if debts:
                self._deliver(debts)
                streaming = self._gather(streaming, len(debts))
            else:
                streaming = False
                if not self._linger():
                    return

    def _heed_signals(self) -> None:
        with self._signal:
            self._nudged = False
            refresh, self._refresh = self._refresh, False
        self._change_tools()
        self._associations.forget_addresses()
        if refresh:
            self._associations.close()

    def _change_tools(self) -> None:
        """Go on by the configuration that counts now; what it leaves as it was is not touched."""
        tools = self._current_tools()
        if tools is not self._tools:
            self._tools = tools
            self._associations.change(tools.nodes, tools.settings, tools.make_sender)

    @property
    def _batch(self) -> int:
        """How many debts are claimed at once."""
        return BATCH if self._tools.settings.delayed_forwarder_threads == 1 else SHARED_BATCH

    def _exchange(self, limit: int, *, orphans: bool = False) -> list[Debt]:
        """Commit the marks so far and claim more; marks stay in memory until that succeeded."""
        clock = self._tools.clock
        started = clock.monotonic()
        debts = self._tools.ledger.exchange(
            self._unsaved, self.lane.destination, limit, orphans=orphans, slot=self.lane.slot
        )
        self._saved_at = clock.monotonic()
        bearable_s = (self._saved_at - started) / COMMIT_SHARE
        self._flush_s = min(max(FLUSH_S, bearable_s), SLOWEST_FLUSH_S)
        self._ledger_failures = 0
        has_new = any(settled.drafts for settled in self._unsaved)
        self._unsaved.clear()
        if has_new:
            self._on_new_debts()
        return debts

    def _wait_for_database(self, exc: StoreError) -> bool:
        """Wait before marks and claims are tried again; False when the worker must end at once."""
        self._ledger_failures += 1
        pause = self._tools.policy.pause_s(self._ledger_failures, random.random())
        if self._stopping:
            log.error(
                "The outcome of %d deliveries to %s could not be written (%s); "
                "they will be sent again after the next start.",
                len(self._unsaved),
                self.lane.destination,
                exc,
            )
            return False
        log.error("The ledger does not answer: %s. Next try in %.0f s.", exc, pause)
        with self._signal:
            self._signal.wait_for(lambda: self._stopping, pause)
        return True

    def _gather(self, streaming: bool, delivered: int) -> bool:
        """Let some debts come together if small batches follow each other; return if one did."""
        is_small = delivered < self._batch
        passed = self._tools.clock.monotonic() - self._saved_at
        if streaming and is_small and passed < GATHER_S and self._pause_s is None:
            with self._signal:
                self._signal.wait_for(lambda: self._stopping, GATHER_S - passed)
        return is_small

    def _linger(self) -> bool:
        """Keep the association for a while; return whether there is more to do."""
        delay = self._tools.settings.forward_association_close_delay_s
        with self._signal:
            self._signal.wait_for(lambda: self._nudged or self._stopping, delay)
            if self._nudged and not self._stopping:
                return True
        self._associations.close()
        return not self._stopping and not self._may_end(self, False)

    def _deliver(self, debts: list[Debt]) -> None:
        """Work through a batch; what cannot be tried now goes back."""
        batch = self._associations.arranged(debts)
        stuck: list[Settlement] = []
        for place, debt in enumerate(batch):
            if self._stopping:
                self._give_back(batch[place:])
                break
            if self._tools.clock.monotonic() - self._saved_at > self._flush_s:
                try:
                    self._exchange(0)
                except StoreError as exc:
                    # Every further delivery would be one more that nobody knows of.
                    log.warning("Deliveries to %s pause: %s", self.lane.destination, exc)
                    self._give_back(batch[place:])
                    break
            settled = self._pay(debt, batch[place:])
            self._unsaved.append(settled)
            if settled.state is State.STUCK:
                stuck.append(settled)
            if self._pause_s is not None:
                stuck += self._postpone(settled, batch[place + 1 :])
                break
        if stuck:
            log.error(
                "%d of the deliveries to %s cannot be made: %s. "
                "See `dgate queue list --state stuck`.",
                len(stuck),
                self.lane.destination,
                stuck[0].error,
            )

    def _pay(self, debt: Debt, ahead: Sequence[Debt]) -> Settlement:
        """Do what one debt asks for; `ahead` begins with it."""
        sender: Sender | None = None
        self._unreached = False
        self._change_tools()
        try:
            if debt.kind is DebtKind.MIRROR:
                if self._tools.mirror is None:
                    raise ConfigError("there are no mirrors", remedy="set MIRRORDevices")
                self._tools.mirror(debt.ref.sop_instance)
                return Settlement(debt, None)
            if debt.kind is DebtKind.EXPORT:
                drafts = self._drafts(self._tools.expand(debt))
                self.lane.deferrals.pop(debt.id, None)
                return Settlement(debt, None, drafts=drafts)
            if debt.kind is DebtKind.REQUEST:
                done = self._tools.perform(debt)
                state = None if done.drafts else State.DONE
                return Settlement(debt, state, error=done.text, drafts=done.drafts)
            if reason := self._tools.halt(debt):
                return self._failed(debt, Fate.STUCK, None, reason)
            changed = debt.script or debt.context
            rewrite = self._tools.rewrite(debt) if changed else None
            sender = self._associations.ready(debt, ahead)
            result = sender.send(
                debt.ref,
                rewrite,
                code=debt.compression or None,
                upcoming=self._upcoming(debt, ahead),
            )
        except (Busy, Deferred) as exc:
            return self._deferred(debt, str(exc))
        except (DgateError, OSError) as exc:
            in_doubt = sender is not None and sender.in_doubt
            fate = fate_of_error(exc)
            if isinstance(exc, PeerError) and fate is Fate.WAIT:
                self._unreached = not in_doubt
                if in_doubt:
                    fate = self._fate_after_break(debt, str(exc))
            return self._failed(debt, fate, None, str(exc), in_doubt=in_doubt)
        except Exception as exc:
            # A fault in a rule or in dgate: the debt waits for somebody to act, the others go on.
            log.exception("A delivery to %s failed unexpectedly.", self.lane.destination)
            return self._failed(debt, Fate.STUCK, None, f"unexpected error: {exc!r}")
        self._associations.finished(debt)
        fate = fate_of_status(result.status)
        text = result.comment if result.status == 0 else _explained(result.status, result.comment)
        if fate is not Fate.WAIT:
            self.lane.failures = 0
        self.lane.broken_by = None
        if fate is Fate.DONE:
            return Settlement(debt, State.DONE, result.status, text)
        return self._failed(debt, fate, result.status, text)

    def _deferred(self, debt: Debt, reason: str) -> Settlement:
        """Return the settlement of a debt whose rule wants to be run again later.

        It waits longer each time, as after failures, but nothing has failed: it never gets stuck,
        and neither the destination nor its other debts wait with it.
        """
        known = self.lane.deferrals
        if len(known) >= MOST_DEFERRALS:
            known.clear()
        known[debt.id] = times = known.get(debt.id, 0) + 1
        pause = self._tools.policy.pause_s(times, random.random())
        return Settlement(debt, State.QUEUED, None, reason, pause, counted=False)

    def _drafts(self, expansion: Expansion) -> tuple[DebtDraft, ...]:
        """Return what is owed in the place of an EXPORT debt."""
        delay = self._tools.settings.forward_collect_delay_s
        requests = (request_draft(request, delay) for request in expansion.requests)
        return (*map(_draft, expansion.forwards), *requests)

    def _fate_after_break(self, debt: Debt, error: str) -> Fate:
        """Decide who waits after the association broke while an object was sent.

        The second time it is taken to be the object's fault, or one that makes the peer hang up
        would throttle everything else. When another object broke it just before, the destination
        pauses shortly as well, so that a peer that breaks every association is not hammered.
        """
        before, self.lane.broken_by = self.lane.broken_by, debt.id
        if debt.attempts == 0:
            return Fate.WAIT
        if before not in (None, debt.id) and not self._stopping:
            self._pause_s = self._tools.policy.pause_s(1, random.random())
            self.lane.last_error = error
        return Fate.AGAIN

    def _failed(
        self, debt: Debt, fate: Fate, status: int | None, error: str, *, in_doubt: bool = False
    ) -> Settlement:
        """Return the settlement of a failed try and note the pause that the lane needs."""
        if self._stopping:
            # We may have cut the connection ourselves: no fault of the debt.
            return Settlement(debt, State.QUEUED, tried=False, doubtful=in_doubt)
        policy, tries = self._tools.policy, debt.attempts + 1
        given_up = fate is Fate.DOUBTFUL and tries >= DOUBTFUL_TRIES
        if fate is Fate.WAIT:
            self.lane.failures += 1
            pause = policy.pause_s(self.lane.failures, random.random())
            self._pause_s, self.lane.last_error = pause, error
        else:
            pause = policy.pause_s(tries, random.random())
            if policy.hold_off_s and fate is not Fate.STUCK:
                self._pause_s, self.lane.last_error = policy.hold_off_s, error
        if fate is Fate.STUCK or given_up or _is_exhausted(policy, debt, tries):
            return Settlement(debt, State.STUCK, status, error, doubtful=in_doubt)
        return Settlement(debt, State.QUEUED, status, error, pause, doubtful=in_doubt)

    def _postpone(self, failed: Settlement, rest: Sequence[Debt]) -> list[Settlement]:
        """Give back what was claimed beside the debt that failed; return what is stuck now.

        When not even an association came about, it failed for all of them.
        """
        if not self._unreached:
            self._give_back(rest)
            return []
        pause, policy = self._pause_s or 0.0, self._tools.policy
        stuck = []
        for debt in rest:
            if _is_exhausted(policy, debt, debt.attempts + 1):
                stuck.append(Settlement(debt, State.STUCK, None, failed.error))
            else:
                self._unsaved.append(Settlement(debt, State.QUEUED, None, failed.error, pause))
        self._unsaved += stuck
        return stuck

    def _upcoming(self, debt: Debt, ahead: Sequence[Debt]) -> InstanceRef | None:
        """Return the object that can be opened while the peer works on this one."""
        if len(ahead) > 1:
            following = ahead[1]
            if not (following.script or following.context) and self._associations.follows(
                debt, following
            ):
                return following.ref
        return None

    def _give_back(self, debts: Sequence[Debt]) -> None:
        self._unsaved += [Settlement(debt, State.QUEUED, tried=False) for debt in debts]

    def _pause(self, seconds: float) -> None:
        """Close the lane for a while; the due times just committed are not later than its end."""
        self.lane.paused_until = self._tools.clock.monotonic() + seconds
        log.warning(
            "Deliveries to %s wait %.1f s: %s", self.lane.destination, seconds, self.lane.last_error
        )


def _is_exhausted(policy: RetryPolicy, debt: Debt, tries: int) -> bool:
    return policy.is_exhausted(tries, is_request=debt.kind is DebtKind.REQUEST)


def _draft(forward: Forward) -> DebtDraft:
    return DebtDraft(
        DebtKind.DELIVER,
        forward.target,
        forward.rule,
        calling=forward.calling or "",
        called=forward.called or "",
        compression=forward.compression or "",
        script=forward.script or "",
    )


def _explained(status: int, comment: str) -> str:
    return f"{describe(status)}: {comment}" if comment else describe(status)
