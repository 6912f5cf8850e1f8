"""The bell between storing and cleaning: rung when a device runs low, heard by the housekeeper.

Thread-safe; ringing again before it was heard costs one look at a set.
"""

from __future__ import annotations

import threading


class SpaceAlarm:
    """Remembers which devices ran low since somebody last looked."""

    def __init__(self) -> None:
        self._signal = threading.Condition()
        """Guards `_low` and `_called`."""
        self._low: set[str] = set()
        self._called = False

    def ring(self, device: str) -> None:
        """Say that a device has less space than it should have."""
        if device in self._low:
            return
        with self._signal:
            self._low.add(device)
            self._signal.notify_all()

    def call(self) -> None:
        """Wake whoever waits, without a device: there is something else to do, or the end."""
        with self._signal:
            self._called = True
            self._signal.notify_all()

    def wait(self, timeout_s: float) -> frozenset[str]:
        """Return the devices that ran low, as soon as there is one, `call` was used, or the time
        is over."""
        with self._signal:
            self._signal.wait_for(lambda: bool(self._low) or self._called, timeout_s)
            self._called = False
            low = frozenset(self._low)
            self._low.clear()
            return low
