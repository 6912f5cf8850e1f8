"""The circuit breaker of a destination: after a failure all its workers pause, then one probes.

Closed: everybody works. Open: nobody does until the pause has passed. Probing: one worker tries,
the others wait for what it finds. Not for how long a pause is (`dgate.delivery.schedule`) nor for
what counts as a failure (`dgate.delivery.failures`). Any thread may call any method; times are
those of the caller's monotonic clock.
"""

from __future__ import annotations

import math
import threading


class Breaker:
    """Shared by the workers of one destination, each known by its slot."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        """Guards everything below."""
        self.failures = 0
        """Failures of the destination in a row."""
        self.paused_until = 0.0
        self.last_error = ""
        self.down_since: float | None = None
        """When the first failure was of those that no success has followed."""
        self._is_open = False
        self._probing: int | None = None
        self._round = 0
        self._serving: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether the destination failed and has not answered since."""
        return self._is_open

    def state(self, now: float) -> str:
        """Return `closed`, `open` or `probing`."""
        with self._guard:
            if not self._is_open:
                return "closed"
            return "probing" if self._probing is not None else "open"

    def pause_s(self, now: float) -> float:
        """Return how long it is until the destination is tried again; 0 = now."""
        return max(0.0, self.paused_until - now) if self._is_open else 0.0

    def wait_s(self, now: float, slot: int) -> float:
        """Return how long a worker has to wait before it may start; infinite while another one
        probes."""
        with self._guard:
            if not self._is_open:
                return 0.0
            if self._probing not in (None, slot):
                return math.inf
            return max(0.0, self.paused_until - now)

    def enter(self, slot: int, now: float) -> None:
        """Begin to work; whoever is first after a pause is the one that probes.

        Before its end nobody does: who was started as another one failed is barred.
        """
        with self._guard:
            if self._is_open and self._probing is None and now >= self.paused_until:
                self._probing = slot

    def leave(self, slot: int) -> None:
        """End; a probe that found nothing out is left to the next worker."""
        with self._guard:
            self._serving.discard(slot)
            if self._probing == slot:
                self._probing = None

    def bars(self, slot: int) -> bool:
        """Tell whether a worker has to stop where it is, as another one saw a failure."""
        return self._is_open and self._probing != slot

    def begin(self) -> int:
        """Return a mark for a try that begins now, for `fail` and `succeed`."""
        return self._round

    def fail(self, mark: int, now: float, pause_s: float, error: str, *, counts: bool) -> float:
        """Pause the destination and return how long from now.

        A try that began before the last failure says nothing new: the pause stays as it is. Only
        what `counts` makes later pauses longer.
        """
        with self._guard:
            if mark != self._round and self._is_open:
                return max(0.0, self.paused_until - now)
            self._round += 1
            self.failures += counts
            self._open(now, pause_s, error)
            return pause_s

    def extend(self, now: float, pause_s: float) -> None:
        """Let the pause end so long from now, after what was paused is written down; not when an
        operator has ended it meanwhile, nor sooner than a newer failure wants it."""
        with self._guard:
            if self._is_open:
                self.paused_until = max(self.paused_until, now + pause_s)

    def succeed(self, mark: int, slot: int) -> bool:
        """Note that the peer has answered; True when that lets the others go on.

        An answer to a try that began before the last failure changes nothing.
        """
        if not self._is_open and not self.failures and slot in self._serving:
            return False
        with self._guard:
            self._serving.add(slot)
            if mark != self._round:
                return False
            was_open = self._is_open
            self._close()
            return was_open

    def is_served_beside(self, slot: int) -> bool:
        """Tell whether the peer answers another worker meanwhile."""
        with self._guard:
            return bool(self._serving - {slot})

    def lost(self, slot: int) -> None:
        """Note that a worker's association is gone."""
        with self._guard:
            self._serving.discard(slot)

    def reset(self) -> None:
        """End the pause and forget the failures, as an operator wants it."""
        with self._guard:
            self._close()
            self.paused_until = 0.0

    def _open(self, now: float, pause_s: float, error: str) -> None:
        self._is_open = True
        self._probing = None
        self._serving.clear()
        self.paused_until = now + pause_s
        self.last_error = error
        if self.down_since is None:
            self.down_since = now

    def _close(self) -> None:
        self._is_open = False
        self._probing = None
        self.failures = 0
        self.down_since = None
