"""Pairs of calling and called titles under which a peer rejects associations.

Such a rejection says nothing about what goes under other titles (PS3.8 table 9-21), so only that
pair pauses: longer each time, and without a call to the peer meanwhile. Not for what the rejections
mean (`dgate.delivery.failures`). Belongs to one worker after another, as its lane does; `forget`
may be called from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from dgate.config.targets import TITLE_LENGTH
from dgate.delivery.records import Debt

MOST_PAIRS = 1000
"""Pairs that are remembered: titles may come from what peers send."""

Pair = tuple[str, str]
"""Calling and called title, as they are on the wire."""


def pair_of(debt: Debt, own: str) -> Pair:
    """Return the titles that a delivery goes under; `own` is the gateway's."""
    calling, called = debt.calling or own, debt.called or debt.destination
    return calling.strip()[:TITLE_LENGTH], called.strip()[:TITLE_LENGTH]


@dataclass(frozen=True, slots=True)
class Rejection:
    """What is known about one pair."""

    times: int
    """How often in a row it was rejected."""
    until: float
    """Not tried again before; by the clock's monotonic time."""
    error: str
    batch: int
    """Number of the batch of debts that it was found out with."""


class RejectedTitles:
    """The pairs that one lane need not try now."""

    def __init__(self) -> None:
        self._pairs: dict[Pair, Rejection] = {}
        self._served: set[Pair] = set()
        """Those that were served not long ago, and not rejected since."""
        self._in_a_row = 0
        """How many rejections there were since a pair was served."""
        self._batch = 0

    def begin_batch(self) -> None:
        """Note that further debts were claimed."""
        self._batch += 1

    def times(self, pair: Pair) -> int:
        """Return how often in a row a pair was rejected."""
        found = self._pairs.get(pair)
        return 0 if found is None else found.times

    def reject(self, pair: Pair, until: float, error: str) -> None:
        """Note that a pair was rejected, and until when it pauses."""
        self._served.discard(pair)
        self._in_a_row += 1
        if self._in_a_row > 1:
            # It may take nobody any more.
            self.doubt()
        times = self.times(pair) + 1
        self._pairs.pop(pair, None)
        if len(self._pairs) >= MOST_PAIRS:
            # The one that was rejected longest ago.
            del self._pairs[next(iter(self._pairs))]
        self._pairs[pair] = Rejection(times, until, error, self._batch)

    def accept(self, pair: Pair) -> None:
        """Note that the peer served a pair."""
        self._in_a_row = 0
        if self._pairs:
            self._pairs.pop(pair, None)
        if pair not in self._served:
            if len(self._served) >= MOST_PAIRS:
                self._served.clear()
            self._served.add(pair)

    def serves_others(self, pair: Pair) -> bool:
        """Tell whether another pair was served not long ago, and not rejected since."""
        return bool(self._served - {pair})

    def doubt(self) -> None:
        """Note that what the peer served before no longer says that it serves anybody."""
        self._served.clear()

    def pausing(self, pair: Pair, now: float) -> Rejection | None:
        """Return why a pair is not tried now; None when it is."""
        found = self._pairs.get(pair)
        return found if found is not None and now < found.until else None

    def is_fresh(self, rejection: Rejection) -> bool:
        """Tell whether it was found out with the batch at hand: it failed for all of that."""
        return rejection.batch == self._batch

    def forget(self) -> None:
        """Let every pair be tried at once."""
        self._pairs.clear()
        self._served.clear()
