"""What one worker tells the ledger, and what it gets from it: marks and claims, in one commit.

Marks stay in memory until their commit has succeeded. While there is a backlog an exchange runs in
a thread of its own beside the deliveries, so that the destination need not wait for the disk. One
for each worker, used by its thread only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dgate.clock import Clock
from dgate.delivery.lanes import Lane
from dgate.delivery.ledger import PRIORITIES, Ledger
from dgate.delivery.records import Debt, Settlement

FLUSH_S = 0.1
"""Marks are committed this often while deliveries go on..."""
SLOWEST_FLUSH_S = 1.0
COMMIT_SHARE = 0.1
"""...but less often where that would take more than this share of the time."""


class _Exchange(threading.Thread):
    """One exchange: `run` makes it, in whatever thread."""

    def __init__(
        self, name: str, work: Callable[[Sequence[Settlement]], list[Debt]],
        marks: Sequence[Settlement], clock: Clock,
    ) -> None:  # fmt: skip
        super().__init__(name=name, daemon=True)
        self.marks = marks
        self.debts: list[Debt] = []
        self.error: BaseException | None = None
        self.took_s = 0.0
        self.ended_at = 0.0
        self._work = work
        self._clock = clock

    def run(self) -> None:
        """Make the exchange and keep what came of it."""
        begun = self._clock.monotonic()
        try:
            self.debts = self._work(self.marks)
        except BaseException as exc:
            # Raised again in the worker's thread, by `finish`.
            self.error = exc
        self.ended_at = self._clock.monotonic()
        self.took_s = self.ended_at - begun


class Bookkeeping:
    """The marks of one worker that are not committed yet, and the exchange that is under way."""

    def __init__(
        self, lane: Lane, ledger: Ledger, clock: Clock, on_new_debts: Callable[[], None]
    ) -> None:
        """`on_new_debts` is called when marks have been committed that owe something new."""
        self._lane = lane
        self._ledger = ledger
        self._clock = clock
        self._on_new_debts = on_new_debts
        self._marks = lane.unsaved
        self._saved_at = 0.0
        self._flush_s = FLUSH_S
        self._beside: _Exchange | None = None

    @property
    def since_commit_s(self) -> float:
        """How long ago marks were last committed."""
        return self._clock.monotonic() - self._saved_at

    @property
    def is_due(self) -> bool:
        """Whether the marks have waited long enough for their commit."""
        return self.since_commit_s > self._flush_s

    @property
    def is_beside(self) -> bool:
        """Whether an exchange was begun beside the deliveries whose answer was not taken yet."""
        return self._beside is not None

    @property
    def has_answer(self) -> bool:
        """Whether that exchange has ended."""
        return self._beside is not None and not self._beside.is_alive()

    @property
    def unsaved(self) -> int:
        """How many marks are not known to be committed."""
        return len(self._marks)

    def note(self, *marks: Settlement) -> None:
        """Keep marks for the next commit."""
        self._marks += marks

    def exchange(
        self, limit: int, priorities: Sequence[int] = PRIORITIES, *, orphans: bool = False
    ) -> list[Debt]:
        """Commit the marks so far and claim more, now.

        Not while an exchange is under way beside the deliveries. Raises what `Ledger.exchange`
        raises; the marks are kept then.
        """
        exchange = self._exchange(limit, priorities, orphans=orphans)
        exchange.run()
        return self._take(exchange)

    def begin(self, limit: int, priorities: Sequence[int] = PRIORITIES) -> None:
        """Start an exchange beside the deliveries; `finish` takes its answer."""
        self._beside = self._exchange(limit, priorities)
        try:
            self._beside.start()
        except RuntimeError:
            # The machine has no further thread: the deliveries wait for it, as they can.
            self._beside.run()

    def finish(self) -> list[Debt]:
        """Wait for the exchange beside the deliveries and return what it claimed; nothing when none
        was begun. Raises what `Ledger.exchange` raises; the marks are kept then."""
        beside = self._beside
        if beside is None:
            return []
        if beside.is_alive():
            beside.join()
        self._beside = None
        return self._take(beside)

    def abandon(self) -> None:
        """Wait until no exchange is under way any more; what it claimed is left leased to us."""
        beside, self._beside = self._beside, None
        if beside is not None and beside.is_alive():
            beside.join()

    def _exchange(
        self, limit: int, priorities: Sequence[int], *, orphans: bool = False
    ) -> _Exchange:
        lane, ledger = self._lane, self._ledger

        def work(marks: Sequence[Settlement]) -> list[Debt]:
            return ledger.exchange(
                marks, lane.destination, limit,
                orphans=orphans, slot=lane.slot, priorities=priorities,
            )  # fmt: skip

        # Marks that are added meanwhile are for the next one.
        return _Exchange(f"book-{lane.destination}", work, tuple(self._marks), self._clock)

    def _take(self, exchange: _Exchange) -> list[Debt]:
        if exchange.error is not None:
            raise exchange.error
        del self._marks[: len(exchange.marks)]
        self._saved_at = exchange.ended_at
        self._flush_s = min(max(FLUSH_S, exchange.took_s / COMMIT_SHARE), SLOWEST_FLUSH_S)
        if any(mark.drafts for mark in exchange.marks):
            self._on_new_debts()
        return exchange.debts
