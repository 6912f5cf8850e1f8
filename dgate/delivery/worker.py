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

from dgate.archive.records import DebtKind, InstanceRef
from dgate.delivery.associations import Associations
from dgate.delivery.bookkeeping import Bookkeeping
from dgate.delivery.errands import Leash
from dgate.delivery.failures import Fate, fate_of_error, named_fate
from dgate.delivery.lanes import Lane
from dgate.delivery.line import Line
from dgate.delivery.outcomes import Outcomes
from dgate.delivery.recalls import Hand
from dgate.delivery.records import Debt, Settlement, State
from dgate.delivery.sender import Sender
from dgate.delivery.toolbox import Toolbox
from dgate.delivery.windows import open_priorities, opens_in_s
from dgate.errors import (
    Busy,
    ConfigError,
    Deferred,
    DgateError,
    PeerError,
    Rejected,
    StoreError,
)

__all__ = ["Lane", "Toolbox", "Worker"]

log = logging.getLogger(__name__)

BATCH = 128
SHARED_BATCH = 8
"""The same where several workers share a destination: what one has claimed the others cannot."""
FAST_BATCH_S, SLOW_BATCH_S = 0.3, 1.0
"""A shared batch that took less than the first is doubled, one that took longer halved."""
NOT_URGENT = 3
"""Less urgent than any priority."""
GATHER_S = 0.05
"""Least time between two claims that find less than a batch: while objects stream in, claims of one
or two would cost a commit each."""


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
        """Guards `_nudged`, `_refresh`, `_urgent` and `_stopping`."""
        self._nudged = False
        self._refresh = False
        self._stopping = False
        self._urgent = NOT_URGENT
        self._leash = Leash()
        # The rest belongs to the worker's own thread.
        self._tools = first = tools()
        self._breaker = lane.site.breaker
        self._outcomes = Outcomes(lane, first, lambda: self._stopping, on_new_debts)
        self._take_settings()
        self._associations = Associations(
            first.nodes, first.settings, first.make_sender, self._line
        )
        self._books = Bookkeeping(lane, first.ledger, first.clock, on_new_debts)
        self._recalls = first.ledger.recalls
        self._hand = Hand(lane.destination, lane.slot, self._unmarked, self.nudge)
        self._following: list[Debt] = []
        """The next batch, claimed while the one in hand was worked on."""
        self._claims_ahead = False
        """Whether the next batch is claimed while this one is worked on: there is a backlog, and no
        other worker of this gateway that would take from it meanwhile. In a shared ledger another
        gateway's might; it gets what is left."""
        self._asked = 0
        """How many the exchange beside the deliveries is to claim."""
        self._orphans = True
        """Whether rows may be leased to us that we do not know of: a worker that died has left
        them, or an exchange of which nobody knows how it ended."""
        self._claimed_at = 0.0
        self._ledger_failures = 0
        self._is_busy = False
        self._batch = BATCH if self._slots == 1 else SHARED_BATCH

    # Called by others.

    @property
    def is_nudged(self) -> bool:
        """Whether there may be debts that the worker has not looked for."""
        return self._nudged

    @property
    def is_busy(self) -> bool:
        """Whether the worker has debts in hand."""
        return self._is_busy

    def nudge(self, priority: int = NOT_URGENT, *, refresh: bool = False) -> None:
        """Tell the worker that debts are due, the most urgent of this priority; with `refresh`, to
        ask the peer anew."""
        with self._signal:
            self._nudged = True
            self._urgent = min(self._urgent, priority)
            self._refresh = self._refresh or refresh
            self._signal.notify()

    def stop_soon(self) -> None:
        """Let the object in hand finish, then give everything else back and end."""
        with self._signal:
            self._stopping = True
            self._signal.notify()
        self._leash.stop()

    def cut(self) -> None:
        """Drop the connections of a worker that does not end by itself."""
        self.stop_soon()
        self._associations.cut()
        self._leash.cut()

    # The worker's own thread.

    def run(self) -> None:
        """Work; every way out gives claimed debts back or leaves them to `Ledger.recover`."""
        self._breaker.enter(self.lane.slot, self._tools.clock.monotonic())
        self._recalls.enter(self._hand)
        try:
            self._work()
        except Exception as exc:
            # Claimed debts stay leased to us and are given back by the lane's next worker.
            log.exception("Deliveries to %s stopped unexpectedly.", self.lane.destination)
            self.lane.abandoned = True
            pause = self._policy.longest_s
            self._outcomes.fail(pause, f"unexpected error: {exc}", counts=False)
            self._outcomes.pause(pause)
        finally:
            # The lane's next worker must not find an exchange of ours under way.
            self._books.abandon()
            self._recalls.leave(self._hand)
            self._associations.close()
            self._breaker.leave(self.lane.slot)
            self._may_end(self, True)

    def _work(self) -> None:
        streaming = False
        while True:
            ending = self._stopping or self._outcomes.pause_s is not None or self._must_pause
            self._heed_signals()
            try:
                debts = self._next_batch(0 if ending else self._batch)
            except StoreError as exc:
                self._orphans = True
                if not self._wait_for_database(exc):
                    return
                continue
            self._orphans = self.lane.abandoned = False
            if self._outcomes.pause_s is not None:
                self._outcomes.pause(self._outcomes.pause_s)
            if ending:
                return
            if debts:
                limit = self._batch
                self._is_busy = True
                self._deliver(debts)
                self._is_busy = False
                streaming = self._gather(streaming, len(debts) < limit)
                self._adapt(len(debts) == limit)
            else:
                streaming = False
                if not self._linger():
                    return

    @property
    def _must_pause(self) -> bool:
        """Whether others have to go first: the one that probes, those the peer does serve, or an
        operator who changes what was claimed."""
        if self._hand.is_recalled:
            return True
        slot = self.lane.slot
        return self._outcomes.is_unwanted or self._breaker.bars(slot) or slot >= self._slots

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
            self._take_settings()
            # Titles and addresses may be others now.
            self.lane.rejected.forget()
            self._associations.change(tools.nodes, tools.settings, tools.make_sender)

    def _take_settings(self) -> None:
        """Note what is set for the destination."""
        tools, destination = self._tools, self.lane.destination
        self._node = tools.node(destination)
        self._policy = tools.policy_for(destination)
        self._slots = tools.slots_of(destination)
        self.lane.site.go_on_by(self._node)
        self._outcomes.go_on_by(tools)

    def _line(self) -> Line:
        """Return what a sender shares with those of other workers."""
        site = self.lane.site
        return Line(site.bucket, site.deadlines, self._tools.refusals)

    def _adapt(self, is_full: bool) -> None:
        """Claim more at once where that is worked off fast; what one has, others cannot claim."""
        took = self._tools.clock.monotonic() - self._claimed_at
        if self._slots == 1:
            self._batch = BATCH
        elif took > SLOW_BATCH_S:
            self._batch = max(SHARED_BATCH, self._batch // 2)
        elif is_full and took < FAST_BATCH_S:
            self._batch = min(BATCH, self._batch * 2)

    def _next_batch(self, limit: int) -> list[Debt]:
        """Return what was claimed beside the last batch, else commit the marks so far and claim."""
        following = self._take_following()
        try:
            following += self._finish_exchange()
            if following and limit and not self._must_yield(following[0]):
                if len(following) < BATCH:
                    # One that servers died of comes alone, and must be the only one leased.
                    self._books.exchange(0)
                return following
        except StoreError:
            self._give_back(following)
            raise
        self._give_back(following)
        if limit:
            with self._signal:
                # What is more urgent and came until now is claimed first.
                self._urgent = NOT_URGENT
        priorities = open_priorities(self._node, self._tools.clock.now())
        debts = self._books.exchange(limit if priorities else 0, priorities, orphans=self._orphans)
        self._note_claim(debts, limit)
        self._claimed_at = self._tools.clock.monotonic()
        return debts

    def _keep_books(self, left: int) -> None:
        """Have marks committed and the next batch claimed while `left` debts of this one remain.

        Raises what `Ledger.exchange` raises: at most the marks of two batches are in memory then.
        """
        books = self._books
        if books.has_answer:
            self._following += self._finish_exchange()
        if books.is_beside:
            return
        has_few = left <= BATCH // 2 and not self._following
        if self._claims_ahead and has_few and not self._hand.is_recalled:
            priorities = open_priorities(self._node, self._tools.clock.now())
            if priorities:
                self._asked = BATCH
                books.begin(BATCH, priorities)
                return
        if books.is_due and books.unsaved:
            books.begin(0)

    def _finish_exchange(self) -> list[Debt]:
        """Take the answer of the exchange beside the deliveries."""
        asked, self._asked = self._asked, 0
        debts = self._associations.arranged(self._books.finish())
        self._note_claim(debts, asked)
        return debts

    def _take_following(self) -> list[Debt]:
        following, self._following = self._following, []
        return following

    def _note_claim(self, debts: Sequence[Debt], limit: int) -> None:
        """Note what an exchange that has succeeded tells about the backlog."""
        self._ledger_failures = 0
        if not limit:
            return
        site = self.lane.site
        had_backlog, site.has_backlog = site.has_backlog, len(debts) == limit
        self._claims_ahead = site.has_backlog and self._slots == 1
        if site.has_backlog and not had_backlog and self._slots > 1:
            # There is work for more workers.
            self._on_new_debts()

    def _wait_for_database(self, exc: StoreError) -> bool:
        """Wait before marks and claims are tried again; False when the worker must end at once."""
        self._ledger_failures += 1
        pause = self._policy.pause_s(self._ledger_failures, random.random())
        if self._stopping:
            log.error(
                "The outcome of %d deliveries to %s could not be written (%s); "
                "they will be sent again after the next start.",
                self._books.unsaved,
                self.lane.destination,
                exc,
            )
            return False
        log.error("The ledger does not answer: %s. Next try in %.0f s.", exc, pause)
        with self._signal:
            self._signal.wait_for(lambda: self._stopping, pause)
        return True

    def _gather(self, streaming: bool, is_small: bool) -> bool:
        """Let some debts come together if small batches follow each other; return if one did."""
        passed = self._books.since_commit_s
        if streaming and is_small and passed < GATHER_S and self._outcomes.pause_s is None:
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
        self.lane.rejected.begin_batch()
        stuck: list[Settlement] = []
        for place, debt in enumerate(batch):
            self._change_tools()
            if self._must_stop_at(debt):
                self._give_back([*batch[place:], *self._take_following()])
                break
            try:
                self._keep_books(len(batch) - place)
            except StoreError as exc:
                # Every further delivery would be one more that nobody knows of.
                log.warning("Deliveries to %s pause: %s", self.lane.destination, exc)
                self._orphans = True
                self._give_back([*batch[place:], *self._take_following()])
                break
            begun = self._tools.clock.monotonic()
            settled = self._pay(debt, batch[place:])
            settled = settled._replace(seconds=self._tools.clock.monotonic() - begun)
            self._books.note(settled)
            if settled.state is State.STUCK:
                stuck.append(settled)
            if self._outcomes.pause_s is not None:
                rest = [*batch[place + 1 :], *self._take_following()]
                stuck += self._postpone(settled, rest)
                break
        if stuck:
            log.error(
                "%d of the deliveries to %s cannot be made: %s. "
                "See `dgate queue list --state stuck`.",
                len(stuck),
                self.lane.destination,
                stuck[0].error,
            )

    def _must_stop_at(self, debt: Debt) -> bool:
        """Tell whether a debt may not be begun now; else note that it is."""
        if self._stopping or self._must_pause or self._must_yield(debt):
            return True
        return not self._hand.begin(debt.id)

    def _unmarked(self) -> list[int]:
        """Return the debts whose outcomes are not committed; any thread."""
        return [settled.debt.id for settled in self.lane.unsaved.copy()]

    def _must_yield(self, debt: Debt) -> bool:
        """Tell whether something more urgent is due, or the time for such deliveries is over."""
        if self._urgent < debt.priority:
            return True
        node = self._node
        if not (node.window or node.bulk_window):
            return False
        return opens_in_s(node, debt.priority, self._tools.clock.now()) > 0

    def _pay(self, debt: Debt, ahead: Sequence[Debt]) -> Settlement:
        """Do what one debt asks for; `ahead` begins with it."""
        sender: Sender | None = None
        outcomes = self._outcomes
        outcomes.begin()
        try:
            if debt.kind is DebtKind.MIRROR:
                if self._tools.mirror is None:
                    raise ConfigError("there are no mirrors", remedy="set MIRRORDevices")
                self._tools.mirror(debt.ref.sop_instance)
                outcomes.answered(debt)
                return Settlement(debt, None)
            if debt.kind is DebtKind.EXPORT:
                drafts = outcomes.drafts(self._tools.expand(debt), debt.ref)
                self.lane.deferrals.pop(debt.id, None)
                outcomes.answered(debt)
                return Settlement(debt, None, drafts=drafts)
            if (errand := self._tools.errands.get(debt.kind)) is not None:
                return outcomes.errand(debt, errand(debt, self._leash))
            if debt.kind is DebtKind.REQUEST:
                done = self._tools.perform(debt)
                outcomes.answered(debt)
                state = None if done.drafts else State.DONE
                return Settlement(debt, state, error=done.text, drafts=done.drafts)
            if (waiting := outcomes.of_paused_titles(debt)) is not None:
                return waiting
            if reason := self._tools.halt(debt):
                return outcomes.failed(debt, Fate.STUCK, None, reason)
            changed = debt.script or debt.context
            rewrite = self._tools.rewrite(debt) if changed else None
            proposed = ahead[:1] if outcomes.proposes_little else ahead
            sender = self._associations.ready(debt, proposed)
            result = sender.send(
                debt.ref,
                rewrite,
                code=debt.compression or None,
                upcoming=self._upcoming(debt, ahead),
            )
        except (Busy, Deferred) as exc:
            return outcomes.deferred(debt, str(exc))
        except (DgateError, OSError) as exc:
            in_doubt = sender is not None and sender.in_doubt
            if debt.kind is DebtKind.DELIVER and isinstance(exc, PeerError):
                named = named_fate(exc, self._node.errors)
                if named is not None:
                    return outcomes.of_named_error(debt, exc, named, in_doubt=in_doubt)
            fate = fate_of_error(exc)
            if (
                sender is not None
                and isinstance(exc, Rejected)
                and outcomes.is_for_titles(debt, exc)
            ):
                return outcomes.of_rejected_titles(debt, exc)
            if isinstance(exc, PeerError) and fate is Fate.WAIT:
                return outcomes.of_peer_error(debt, exc, in_doubt=in_doubt)
            return outcomes.failed(debt, fate, None, str(exc), in_doubt=in_doubt)
        except Exception as exc:
            # A fault in a rule or in dgate: the debt waits for somebody to act, the others go on.
            log.exception("A delivery to %s failed unexpectedly.", self.lane.destination)
            return outcomes.failed(debt, Fate.STUCK, None, f"unexpected error: {exc!r}")
        self._associations.finished(debt)
        return outcomes.of_answer(debt, result)

    def _postpone(self, failed: Settlement, rest: Sequence[Debt]) -> list[Settlement]:
        """Give back what was claimed beside the debt that failed; return what is stuck now."""
        if not self._outcomes.is_unreached:
            self._give_back(rest)
            return []
        found = self._outcomes.of_unreached(failed, rest)
        self._note_unbegun(found)
        return [settled for settled in found if settled.state is State.STUCK]

    def _upcoming(self, debt: Debt, ahead: Sequence[Debt]) -> InstanceRef | None:
        """Return the object that can be opened while the peer works on this one."""
        following = ahead[1] if len(ahead) > 1 else next(iter(self._following), None)
        if following is None or following.script or following.context:
            return None
        return following.ref if self._associations.follows(debt, following) else None

    def _give_back(self, debts: Sequence[Debt]) -> None:
        self._note_unbegun([Settlement(debt, State.QUEUED, tried=False) for debt in debts])

    def _note_unbegun(self, settled: Sequence[Settlement]) -> None:
        if settled and not self._hand.note(lambda: self._books.note(*settled)):
            # Should taking them back have failed, they are still leased to us.
            self._orphans = True
