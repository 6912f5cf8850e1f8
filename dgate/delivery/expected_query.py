"""Asks the node that sends us a study how many objects it has (`ExpectCounts`).

By C-FIND: the counts that answers may carry (PS3.4 C.3.4), at the level of what is asked about or
below it, else the number of answers at image level. Used by the thread that asks a node, one at a
time for each node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dgate.config.node_settings import Expect, NodeTable
from dgate.delivery.reconcile.node import NodeSide
from dgate.rules.effects import ObjectScope

MOST_SERIES = 5000
MOST_OBJECTS = 100_000


class CountByQuery:
    """Asks nodes whose section says `ExpectCounts = yes`."""

    def __init__(
        self,
        peers: NodeTable,
        is_known: Callable[[str], bool],
        make_side: Callable[[str], NodeSide],
    ) -> None:
        """`is_known` tells whether acrnema.map has a node: others cannot be asked."""
        self._peers = peers
        self._is_known = is_known
        self._make_side = make_side
        self._lock = threading.Lock()
        self._sides: dict[tuple[int, str], NodeSide] = {}
        """By the thread that asks, and the node."""

    def concerns(self, source: str, scope: ObjectScope) -> bool:
        """Tell whether the node may be asked."""
        return self._peers.of(source).expect_counts is Expect.QUERY and self._is_known(source)

    def expected(self, source: str, scope: ObjectScope) -> int | None:
        """Return how many objects the node has of a patient, study or series; None when it does not
        say, or knows none.

        Raises:
            DgateError: it does not answer.
        """
        key = threading.get_ident(), source
        with self._lock:
            side = self._sides.get(key)
            if side is None:
                side = self._sides[key] = self._make_side(source)
        return objects_of(side, scope) or None

    def close(self) -> None:
        """Release the association of the calling thread."""
        own = threading.get_ident()
        with self._lock:
            mine = [self._sides.pop(key) for key in list(self._sides) if key[0] == own]
        for side in mine:
            side.close()

    def cut(self) -> None:
        """End the questions of all threads."""
        with self._lock:
            sides = list(self._sides.values())
        for side in sides:
            side.cut()


def objects_of(side: NodeSide, scope: ObjectScope) -> int | None:
    """Return how many objects a node has of a series, study or patient; None when it cannot be told
    from its answers.

    Raises:
        DgateError: the node does not answer, or refuses.
    """
    if scope.series:
        return _of_series(side, scope.study, scope.series)
    if scope.study:
        return _of_study(side, scope.study)
    return side.patient_objects(scope.patient_id)


def _of_study(side: NodeSide, study: str) -> int | None:
    found = side.study(study)
    if found is None:
        return None
    if found.objects is not None:
        return found.objects
    series, answers = side.series(study, MOST_SERIES)
    if answers.problem or answers.too_many:
        return None
    total = 0
    for uid, told in series.items():
        count = told if told is not None else _listed(side, study, uid)
        if count is None:
            return None
        total += count
    return total


def _of_series(side: NodeSide, study: str, series: str) -> int | None:
    if study:
        found, _ = side.series(study, MOST_SERIES)
        if series not in found:
            return None
        told = found[series]
        if told is not None:
            return told
    return _listed(side, study, series)


def _listed(side: NodeSide, study: str, series: str) -> int | None:
    objects, answers = side.objects(study, series, MOST_OBJECTS)
    return None if answers.problem or answers.too_many else len(objects)
