"""Taking back what the workers of this gateway have claimed and not begun.

An operator who cancels or redirects deliveries means those too that a worker has in hand: up to two
batches of a destination that is being served. Not for changing them (`dgate.delivery.desk`), nor
for what another gateway has claimed in a shared ledger. Any thread may call any method.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class Hand:
    """What one worker is at: it asks before it begins a delivery, and hears that it must not."""

    def __init__(
        self,
        destination: str,
        slot: int,
        unmarked: Callable[[], list[int]],
        wake: Callable[[], None],
    ) -> None:
        """`unmarked` returns the debts whose outcome is known and not written yet; `wake` makes the
        worker look at what there is to do."""
        self.destination = destination
        self.slot = slot
        self._unmarked = unmarked
        self.wake = wake
        self._lock = threading.Lock()
        """Guards `_begun` and `_recalled`: once it is recalled, nothing more begins, and what has
        not begun is the worker's no longer."""
        self._begun: int | None = None
        self._recalled = False

    @property
    def is_recalled(self) -> bool:
        """Whether the worker has to give back what it has not begun, and to end."""
        return self._recalled

    def begin(self, debt_id: int) -> bool:
        """Note that a delivery begins; False when it must not."""
        with self._lock:
            if self._recalled:
                return False
            self._begun = debt_id
            return True

    def note(self, write: Callable[[], None]) -> bool:
        """Take down what becomes of debts that have not begun; False when they were taken back.

        They may be another worker's by then, of another destination.
        """
        with self._lock:
            if not self._recalled:
                write()
            return not self._recalled

    def recall(self) -> list[int]:
        """Let nothing more begin; return the debts that have been begun, as far as they may still
        be leased."""
        with self._lock:
            self._recalled = True
            begun = self._begun
        # Afterwards: what ends meanwhile is in one of the two.
        kept = self._unmarked()
        self.wake()
        return kept if begun is None else [begun, *kept]


class Recalls:
    """The workers of this gateway that may have something in hand, and the destinations from which
    none may claim at the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards both."""
        self._hands: set[Hand] = set()
        self._closed: Counter[str | None] = Counter()
        """How many want a destination closed; None = all of them."""

    def enter(self, hand: Hand) -> None:
        """Note a worker that is about to claim."""
        with self._lock:
            self._hands.add(hand)

    def leave(self, hand: Hand) -> None:
        """Forget a worker that has ended."""
        with self._lock:
            self._hands.discard(hand)

    def is_closed(self, destination: str) -> bool:
        """Tell whether nothing of a destination may be claimed now; asked in the transaction that
        would claim."""
        closed = self._closed
        return bool(closed) and (destination in closed or None in closed)

    @contextmanager
    def closed(self, destinations: Iterable[str] | None) -> Iterator[list[Hand]]:
        """Let nothing be claimed for these destinations, None = any, meanwhile; lend the hands of
        their workers, which go on looking for work afterwards."""
        names: set[str | None] = {None} if destinations is None else set(destinations)
        with self._lock:
            self._closed = self._closed + Counter(names)
            hands = self._those_of(names)
        try:
            yield hands
        finally:
            with self._lock:
                self._closed = self._closed - Counter(names)
                hands = self._those_of(names)
            for hand in hands:
                hand.wake()

    def _those_of(self, names: set[str | None]) -> list[Hand]:
        return [hand for hand in self._hands if None in names or hand.destination in names]
