"""What becomes of a debt after a try, and who has to pause for it.

The fates are those of `dgate.delivery.failures`; this makes settlements of them, and tells the
destination's breaker. One for each worker, used by its thread.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.requests import request_draft
from dgate.config.nodes import NodeMap
from dgate.config.targets import owed_as
from dgate.delivery.commitment.messages import Reference
from dgate.delivery.errands import Done
from dgate.delivery.failures import (
    DOUBTFUL_TRIES,
    Fate,
    fate_of_status,
    is_about_titles,
    is_passing,
)
from dgate.delivery.lanes import Lane
from dgate.delivery.records import Debt, Settlement, State
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import SendResult
from dgate.delivery.titles import Pair, pair_of
from dgate.delivery.toolbox import Toolbox
from dgate.errors import Aborted, NoContext, PeerError, ProtocolError, Rejected
from dgate.net.dimse import describe
from dgate.rules.effects import Expansion, Forward

log = logging.getLogger(__name__)

SUSPECTED_SHARE, SUSPECTED_LEAST_S, SUSPECTED_MOST_S = 0.1, 0.5, 30.0
"""Titles and objects that the pause of a destination may be due to wait longer by so much of it,
within these limits. The ledger takes a due time for a mistake that is a minute behind the longest
pause."""
MOST_DEFERRALS = 10_000
"""Debts of which a lane remembers how often they were deferred."""


class Outcomes:
    """Judges the tries of one worker."""

    def __init__(
        self,
        lane: Lane,
        tools: Toolbox,
        is_stopping: Callable[[], bool],
        on_answer: Callable[[], None],
    ) -> None:
        """`on_answer` is called when the peer has answered one that probed."""
        self._lane = lane
        self._breaker = lane.site.breaker
        self._blame = lane.site.blame
        self._is_stopping = is_stopping
        self._on_answer = on_answer
        self.pause_s: float | None = None
        """How long the destination pauses; None while it need not."""
        self.is_unreached = False
        """Whether the last failure was that no association came about."""
        self.is_unwanted = False
        """Whether the peer takes no association beside those that other workers have."""
        self._suspected: Pair | None = None
        """The titles for which the last failure may have been alone."""
        self._mark = 0
        """The breaker's, of the try that is under way."""
        self.go_on_by(tools)

    def go_on_by(self, tools: Toolbox) -> None:
        """Judge by another configuration from now on."""
        self._tools = tools
        self._node = tools.node(self._lane.destination)
        self._policy = tools.policy_for(self._lane.destination)

    def begin(self) -> None:
        """Note that a try begins."""
        self.is_unreached = False
        self._suspected = None
        self._mark = self._breaker.begin()

    def of_answer(self, debt: Debt, result: SendResult) -> Settlement:
        """Return the settlement of an object to which the peer has answered."""
        fate = fate_of_status(result.status, self._node.statuses)
        text = result.comment if result.status == 0 else _explained(result.status, result.comment)
        if fate is not Fate.WAIT:
            self.answered(debt)
        elif self._blame.is_alone(debt.id):
            # What comes next decides whether others are taken now.
            fate = Fate.AGAIN
        self._lane.broken_by = None
        self._lane.rejected.accept(self._pair(debt))
        if fate is Fate.DONE:
            return self.accepted(debt, result, text)
        return self.failed(debt, fate, result.status, text)

    def of_peer_error(self, debt: Debt, exc: PeerError, *, in_doubt: bool) -> Settlement:
        """Return the settlement of a debt at which the association failed or did not come about."""
        # What is proposed may be why: once that is so, it says nothing of what was claimed beside.
        is_aborted = not in_doubt and debt.kind is DebtKind.DELIVER and _is_abort(exc)
        self.is_unreached = not in_doubt and not (is_aborted and self.proposes_little)
        if self.is_unreached and self.is_one_too_many(exc):
            # No failed try, and due at once: the workers that are served take it.
            return Settlement(debt, State.QUEUED, None, str(exc), counted=False)
        self._breaker.lost(self._lane.slot)
        fate = self.fate_after_break(debt, str(exc)) if in_doubt else Fate.WAIT
        is_for_all = not (in_doubt or is_aborted)
        settled = self.failed(debt, fate, None, str(exc), in_doubt=in_doubt, is_for_all=is_for_all)
        if is_aborted:
            self._blame.propose_little(self._tools.clock.monotonic())
        if self.is_unreached and isinstance(exc, Rejected) and not is_passing(exc):
            return self._suspect(debt, settled)
        return settled

    def of_named_error(
        self, debt: Debt, exc: PeerError, fate: Fate, *, in_doubt: bool
    ) -> Settlement:
        """Return the settlement of a debt at an error whose fate the node's section names.

        The first abort before an association came about is no failed try, and the debt is due at
        once: what was proposed for others may be why, and goes by itself from then on.
        """
        if not in_doubt and _is_abort(exc) and not self.proposes_little:
            self._blame.propose_little(self._tools.clock.monotonic())
            self._breaker.lost(self._lane.slot)
            return Settlement(debt, State.QUEUED, None, str(exc), counted=False)
        is_reached = in_doubt or isinstance(exc, NoContext)
        if not is_reached and self.is_one_too_many(exc):
            return Settlement(debt, State.QUEUED, None, str(exc), counted=False)
        self.is_unreached = fate is Fate.WAIT and not is_reached
        if not isinstance(exc, NoContext):
            self._breaker.lost(self._lane.slot)
        is_for_all = not (is_reached or _is_abort(exc))
        settled = self.failed(debt, fate, None, str(exc), in_doubt=in_doubt, is_for_all=is_for_all)
        if self.is_unreached and isinstance(exc, Rejected) and not is_passing(exc):
            return self._suspect(debt, settled)
        return settled

    def _suspect(self, debt: Debt, failed: Settlement) -> Settlement:
        """Note that a rejection which let the destination pause may be for a pair of titles only.

        What goes under others is tried before that pair is tried again: it would wait for ever
        behind what is rejected each time. Return the settlement with the time for that.
        """
        if self.pause_s is None:
            return failed
        pause, self._suspected = _longer(self.pause_s), self._pair(debt)
        until = self._tools.clock.monotonic() + pause
        self._lane.rejected.reject(self._suspected, until, failed.error)
        return failed if failed.state is State.STUCK else failed._replace(pause_s=pause)

    def of_unreached(self, failed: Settlement, rest: Sequence[Debt]) -> list[Settlement]:
        """Return the settlements of what was claimed beside a debt whose association did not come
        about: it failed for all of them, or all that go under the same titles."""
        pause, found = self.pause_s or 0.0, []
        if self._suspected is not None:
            pause = _longer(pause)
        for debt in rest:
            if self._suspected not in (None, self._pair(debt)):
                found.append(Settlement(debt, State.QUEUED, tried=False))
                continue
            gone = _is_exhausted(self._policy, debt, debt.attempts + 1)
            state = State.STUCK if gone else State.QUEUED
            found.append(Settlement(debt, state, None, failed.error, 0.0 if gone else pause))
        return found

    @property
    def proposes_little(self) -> bool:
        """Whether an association is to be opened for the object in hand only."""
        return self._blame.proposes_little(self._tools.clock.monotonic())

    def answered(self, debt: Debt) -> None:
        """Note that the peer has dealt with a debt; others may go on where they waited for that."""
        self._blame.answered(debt.id)
        self._lane.refusals = 0
        if self._breaker.succeed(self._mark, self._lane.slot):
            self._on_answer()

    def is_one_too_many(self, error: PeerError) -> bool:
        """Tell whether the peer refuses a further association but serves those that it has.

        That is no failure of the destination: only this worker pauses.
        """
        lane = self._lane
        if not (isinstance(error, Rejected) and is_passing(error)):
            return False
        if not self._breaker.is_served_beside(lane.slot):
            return False
        lane.refusals += 1
        pause = self._policy.pause_s(lane.refusals, random.random())
        lane.paused_alone_until = self._tools.clock.monotonic() + pause
        self.is_unwanted = True
        log.info(
            "%s takes no further association beside those that it has; one worker waits %.1f s.",
            lane.destination,
            pause,
        )
        return True

    def is_for_titles(self, debt: Debt, error: Rejected) -> bool:
        """Tell whether a rejection is for the pair of titles and not for the destination.

        One that is to last cannot come from the peer's load, whatever reason it gives or keeps to
        itself: where the peer serves others, or has served other titles not long ago, it is for the
        titles as well.
        """
        if is_about_titles(error):
            return True
        if is_passing(error):
            return False
        is_served_beside = self._breaker.is_served_beside(self._lane.slot)
        return is_served_beside or self._lane.rejected.serves_others(self._pair(debt))

    def of_rejected_titles(self, debt: Debt, exc: Rejected) -> Settlement:
        """Return the settlement of a debt whose titles the peer does not take.

        All that goes under the same titles waits for a pause of its own; the destination does not.
        """
        if self._is_stopping():
            return Settlement(debt, State.QUEUED, tried=False)
        lane, pair, error = self._lane, self._pair(debt), str(exc)
        pause = self._policy.pause_s(lane.rejected.times(pair) + 1, random.random())
        lane.rejected.reject(pair, self._tools.clock.monotonic() + pause, error)
        log.warning(
            "What goes to %s from %r to %r waits %.1f s: %s",
            lane.destination,
            debt.calling or self._tools.settings.ae_title,
            debt.called or lane.destination,
            pause,
            error,
        )
        return self._after_rejection(debt, error, pause)

    def of_paused_titles(self, debt: Debt) -> Settlement | None:
        """Return the settlement of a debt whose titles were rejected a while ago; None when it may
        be tried.

        What was claimed together has failed together; what is claimed later only waits.
        """
        rejected, now = self._lane.rejected, self._tools.clock.monotonic()
        found = rejected.pausing(self._pair(debt), now)
        if found is None:
            return None
        if rejected.is_fresh(found):
            return self._after_rejection(debt, found.error, found.until - now)
        pause = found.until - now
        return Settlement(debt, State.QUEUED, None, found.error, pause, counted=False)

    def _pair(self, debt: Debt) -> Pair:
        return pair_of(debt, self._tools.settings.ae_title)

    def _after_rejection(self, debt: Debt, error: str, pause_s: float) -> Settlement:
        if _is_exhausted(self._policy, debt, debt.attempts + 1):
            return Settlement(debt, State.STUCK, None, error)
        return Settlement(debt, State.QUEUED, None, error, pause_s)

    def fail(self, pause_s: float, error: str, *, counts: bool) -> float:
        """Let all workers of the destination pause; return for how long."""
        now = self._tools.clock.monotonic()
        return self._breaker.fail(self._mark, now, pause_s, error, counts=counts)

    def accepted(self, debt: Debt, result: SendResult, text: str) -> Settlement:
        """Return the settlement of what the peer has taken: done, unless it is to commit to it."""
        node = self._node
        if not node.commit:
            return Settlement(debt, State.DONE, result.status, text)
        sent = Reference(result.sop_class, result.sop_instance)
        wait_s = node.commit_wait_s
        return Settlement(debt, State.COMMITTING, result.status, text, wait_s, sent=sent)

    def errand(self, debt: Debt, done: Done) -> Settlement:
        """Return the settlement of what is no delivery of an object."""
        if done.wait_s is not None:
            return Settlement(debt, State.QUEUED, None, done.text, done.wait_s, counted=False)
        if done.fate is not Fate.WAIT:
            self.answered(debt)
        if done.fate is Fate.DONE:
            return Settlement(debt, State.DONE, done.status, done.text)
        return self.failed(debt, done.fate, done.status, done.text)

    def deferred(self, debt: Debt, reason: str) -> Settlement:
        """Return the settlement of a debt whose rule wants to be run again later.

        It waits longer each time, as after failures, but nothing has failed: it never gets stuck,
        and neither the destination nor its other debts wait with it.
        """
        known = self._lane.deferrals
        if len(known) >= MOST_DEFERRALS:
            known.clear()
        known[debt.id] = times = known.get(debt.id, 0) + 1
        pause = self._policy.pause_s(times, random.random())
        return Settlement(debt, State.QUEUED, None, reason, pause, counted=False)

    def drafts(self, expansion: Expansion, ref: InstanceRef) -> tuple[DebtDraft, ...]:
        """Return what is owed in the place of an EXPORT debt of an object."""
        delay = self._tools.settings.forward_collect_delay_s
        requests = (request_draft(request, delay, ref) for request in expansion.requests)
        return (*(_draft(each, self._tools.nodes) for each in expansion.forwards), *requests)

    def fate_after_break(self, debt: Debt, error: str) -> Fate:
        """Decide who waits after the association broke while an object was sent.

        The second time it is taken to be the object's fault, or one that makes the peer hang up
        would throttle everything else. When another object broke it just before, the destination
        pauses shortly as well, so that a peer that breaks every association is not hammered.
        """
        before, self._lane.broken_by = self._lane.broken_by, debt.id
        if debt.attempts == 0:
            return Fate.WAIT
        if before not in (None, debt.id) and not self._is_stopping():
            pause = self._policy.pause_s(1, random.random())
            self.pause_s = self.fail(pause, error, counts=False)
        return Fate.AGAIN

    def failed(
        self,
        debt: Debt,
        fate: Fate,
        status: int | None,
        error: str,
        *,
        in_doubt: bool = False,
        is_for_all: bool = False,
    ) -> Settlement:
        """Return the settlement of a failed try and note the pause that the lane needs.

        Unless it `is_for_all`, the object may be why nothing could be taken: others get their turn
        before it is tried again, and when they are taken, it no longer holds them up.
        """
        if self._is_stopping():
            # We may have cut the connection ourselves: no fault of the debt.
            return Settlement(debt, State.QUEUED, tried=False, doubtful=in_doubt)
        if fate is Fate.WAIT and not is_for_all and self._blame.is_alone(debt.id):
            fate = Fate.AGAIN
        policy, tries = self._policy, debt.attempts + 1
        given_up = fate is Fate.DOUBTFUL and tries >= DOUBTFUL_TRIES
        if fate is Fate.WAIT:
            self._lane.rejected.doubt()
            pause = policy.pause_s(self._breaker.failures + 1, random.random())
            self.pause_s = pause = self.fail(pause, error, counts=True)
            if not is_for_all:
                pause = _longer(pause)
        else:
            pause = policy.pause_s(tries, random.random())
            if policy.hold_off_s and fate is not Fate.STUCK:
                self.pause_s = self.fail(policy.hold_off_s, error, counts=False)
                pause = max(pause, _longer(policy.hold_off_s))
        if fate is Fate.STUCK or given_up or _is_exhausted(policy, debt, tries):
            return Settlement(debt, State.STUCK, status, error, doubtful=in_doubt)
        return Settlement(debt, State.QUEUED, status, error, pause, doubtful=in_doubt)

    def pause(self, seconds: float) -> None:
        """Let the pause begin now; the due times just committed are not later than its end."""
        self._breaker.extend(self._tools.clock.monotonic(), seconds)
        lane = self._lane
        log.warning("Deliveries to %s wait %.1f s: %s", lane.destination, seconds, lane.last_error)


def _longer(pause_s: float) -> float:
    """Return a pause that ends after that of the destination, when others have had their turn."""
    more = min(max(SUSPECTED_SHARE * pause_s, SUSPECTED_LEAST_S), SUSPECTED_MOST_S)
    return pause_s + more


def _is_abort(error: PeerError) -> bool:
    """Tell whether a peer that was reached broke off."""
    return isinstance(error, Aborted | ProtocolError)


def _is_exhausted(policy: RetryPolicy, debt: Debt, tries: int) -> bool:
    return policy.is_exhausted(tries, is_request=debt.kind is DebtKind.REQUEST)


def _draft(forward: Forward, nodes: NodeMap) -> DebtDraft:
    destination, called = owed_as(forward.target, forward.called or "", nodes)
    return DebtDraft(
        DebtKind.DELIVER,
        destination,
        forward.rule,
        calling=forward.calling or "",
        called=called,
        compression=forward.compression or "",
        script=forward.script or "",
    )


def _explained(status: int, comment: str) -> str:
    return f"{describe(status)}: {comment}" if comment else describe(status)
