"""When waiting deliveries go elsewhere: groups are shared out, nodes that fail are relieved.

Owned by the dispatcher's thread, which asks at each of its looks at the ledger. Not for how
deliveries are moved (`dgate.delivery.moving`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dgate.clock import Clock
from dgate.config.node_settings import (
    FALLBACK_MIN,
    MEMBER_DOWN_MIN,
    NodeSettings,
    NodeTable,
    Priority,
)
from dgate.config.nodes import NodeMap
from dgate.config.targets import owed_as
from dgate.delivery.breaker import Breaker
from dgate.delivery.groups import chosen, members_of
from dgate.delivery.internal import node_of_lane
from dgate.delivery.moving import Mover
from dgate.delivery.windows import opened_s_ago, opens_in_s

log = logging.getLogger(__name__)

LEAST_S = 0.2
MOST_S = 60.0
_PATIENCE_SHARE = 0.1
"""Fallbacks are looked for after this share of their time, so that they are late by no more."""
LOOK_S = 0.5
"""After so long a look ends where it is, so that due deliveries are not kept waiting by it."""
PROBE_S = 60.0
"""A member that was given a study as a probe is to be asked for it within this time."""


class _Probe(NamedTuple):
    """A study that a member which is down was given, to find out whether it is back."""

    study: str
    mark: int
    """The breaker's; another one says that the member has failed again."""
    given: float


class Relief:
    """Decides what moves, and moves it."""

    def __init__(
        self, mover: Mover, clock: Clock, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """A look ends soon after `is_stopping` says so."""
        self._mover = mover
        self._clock = clock
        self._is_stopping = is_stopping
        self._look_until = 0.0
        self._first = ""
        """The destination at which the next look begins, as the last one has not come to it."""
        self._probes: dict[str, _Probe] = {}
        self._looked_at: dict[str, float] = {}
        """When each destination is to be looked at again, by the monotonic clock."""
        self._peers: NodeTable | None = None
        self._groups: frozenset[str] = frozenset()

    def is_group(self, destination: str, peers: NodeTable, nodes: NodeMap) -> bool:
        """Tell whether what is owed to a destination is to be shared out, never sent there."""
        if peers is not self._peers:
            self._groups = frozenset(n.group.lower() for n in peers.by_title.values() if n.group)
            self._peers = peers
        named = destination.strip().lower() in self._groups
        return named and bool(members_of(destination, peers, nodes))

    def look(
        self,
        owed: Sequence[str],
        peers: NodeTable,
        nodes: NodeMap,
        breakers: Callable[[], Mapping[str, Breaker]],
    ) -> tuple[bool, float]:
        """Move what is to be moved of what is owed to these destinations.

        Returns whether anything has moved or is still to be moved at once, and how long it is
        until there is more to look at. Raises StoreError.
        """
        if not peers.by_title:
            return False, math.inf
        moved, wait = False, math.inf
        now = self._clock.monotonic()
        self._look_until = now + LOOK_S
        for destination in self._in_turn(owed):
            if not self._goes_on():
                self._first = destination
                return True, 0.0
            if self.is_group(destination, peers, nodes):
                members = members_of(destination, peers, nodes)
                moved = self._share(destination, members, peers, breakers()) or moved
                continue
            if node_of_lane(destination, nodes) != destination:
                # What is no delivery to the node itself cannot be paid by another one.
                continue
            node = peers.of(destination)
            if not (node.fallback or node.group):
                continue
            due = self._looked_at.get(destination, 0.0)
            if now < due:
                wait = min(wait, due - now)
                continue
            count, again = self._relieve(destination, node, peers, nodes, breakers())
            moved = moved or count > 0 or again == 0
            self._looked_at[destination] = self._clock.monotonic() + again
            wait = min(wait, again)
        for gone in self._looked_at.keys() - set(owed):
            del self._looked_at[gone]
        return moved, wait

    def _in_turn(self, owed: Sequence[str]) -> list[str]:
        """Return the destinations, those first to which the last look has not come."""
        begin = owed.index(self._first) if self._first in owed else 0
        self._first = ""
        return [*owed[begin:], *owed[:begin]]

    def _goes_on(self) -> bool:
        return not self._is_stopping() and self._clock.monotonic() < self._look_until

    def _share(
        self,
        group: str,
        members: Sequence[str],
        peers: NodeTable,
        breakers: Mapping[str, Breaker],
    ) -> bool:
        """Share out what a group is owed; return whether anything moved or is left."""

        def member_for(study: str) -> str:
            def takes(member: str) -> bool:
                if not self._is_down(member, peers, breakers):
                    return True
                return self._probes_with(study, member, peers, breakers[member])

            return chosen(study, members, takes)

        moved = self._mover.share(group, member_for, self._goes_on)
        return moved.number > 0 or moved.more

    def _probes_with(self, study: str, member: str, peers: NodeTable, breaker: Breaker) -> bool:
        """Tell whether a member that is down gets a study, by which it shows whether it is back:
        one after each of its pauses, as nothing else would ever be sent to it."""
        if self._is_probed(member, breaker):
            return self._probes[member].study == study
        now = self._clock.monotonic()
        if breaker.state(now) != "open" or breaker.pause_s(now) > 0:
            return False
        if opens_in_s(peers.of(member), Priority.NORMAL, self._clock.now()) > 0:
            return False
        self._probes[member] = _Probe(study, breaker.begin(), now)
        log.info("%s gets a study of its group to find out whether it is back.", member)
        return True

    def _is_probed(self, member: str, breaker: Breaker) -> bool:
        """Tell whether a member has a study as a probe of which nothing is known yet."""
        probe = self._probes.get(member)
        if probe is None:
            return False
        now = self._clock.monotonic()
        is_late = now - probe.given > PROBE_S and breaker.state(now) != "probing"
        if is_late or breaker.begin() != probe.mark:
            del self._probes[member]
            return False
        return True

    def _relieve(
        self,
        destination: str,
        node: NodeSettings,
        peers: NodeTable,
        nodes: NodeMap,
        breakers: Mapping[str, Breaker],
    ) -> tuple[int, float]:
        """Move what one node has not taken; returns how much, and when to look again: 0 = there
        is more to be moved."""
        count, again = 0, MOST_S
        if node.group:
            count, again = self._pass_on(destination, node, peers, nodes, breakers)
        if node.fallback:
            patience_s = 60.0 * _minutes(node, FALLBACK_MIN)
            fallen, more = self._fall_back(destination, node, nodes, patience_s)
            count += fallen
            later = max(LEAST_S, patience_s * _PATIENCE_SHARE)
            again = min(again, 0.0 if more else later)
        return count, again

    def _pass_on(
        self,
        member: str,
        node: NodeSettings,
        peers: NodeTable,
        nodes: NodeMap,
        breakers: Mapping[str, Breaker],
    ) -> tuple[int, float]:
        others = [
            other
            for other in members_of(node.group, peers, nodes)
            if other.lower() != member.lower() and not self._is_down(other, peers, breakers)
        ]
        again = max(LEAST_S, 60.0 * _minutes(node, MEMBER_DOWN_MIN) * _PATIENCE_SHARE)
        if not others or not self._is_down(member, peers, breakers):
            return 0, again
        if self._is_probed(member, breakers[member]):
            return 0, again
        why = f"{member} does not answer: {breakers[member].last_error}"

        def other_for(study: str) -> str:
            return chosen(study, others, lambda other: True)

        count, more = self._mover.pass_on(member, node.group, other_for, why, self._goes_on)
        if count:
            log.warning("%d deliveries of group %s moved on: %s", count, node.group, why)
        return count, 0.0 if more else again

    def _fall_back(
        self, destination: str, node: NodeSettings, nodes: NodeMap, patience_s: float
    ) -> tuple[int, bool]:
        """Return how much fell back, and whether there is more."""
        target, called = owed_as(node.fallback, "", nodes)
        why = f"not delivered to {destination} within {patience_s / 60:g} min"
        count, more = 0, False
        for priority in Priority:
            if more:
                break
            open_s = opened_s_ago(node, priority, self._clock.now())
            # What waits for its window has not failed.
            if open_s is None or open_s >= patience_s:
                moved = self._mover.fall_back(
                    destination, target, called, priority, patience_s, why, self._goes_on
                )
                count, more = count + moved.number, moved.more
        if count:
            log.warning("%d deliveries go to %s instead: %s", count, target, why)
        return count, more

    def _is_down(self, member: str, peers: NodeTable, breakers: Mapping[str, Breaker]) -> bool:
        """Tell whether a member has failed for so long that others take its place."""
        breaker = breakers.get(member)
        if breaker is None or not breaker.is_open or breaker.down_since is None:
            return False
        after_s = 60.0 * _minutes(peers.of(member), MEMBER_DOWN_MIN)
        return self._clock.monotonic() - breaker.down_since >= after_s


def _minutes(node: NodeSettings, default: float) -> float:
    return default if node.fallback_after_min is None else node.fallback_after_min
