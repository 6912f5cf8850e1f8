"""The bell between storing and cleaning: rung when a device runs low, heard by the housekeeper.

Thread-safe; ringing again before it was heard costs one look at a set.
"""

from __future__ import annotations

import threading


class SpaceAlarm:
    """Remembers which devices ran low since somebody last looked."""

    def __init__(self) -> None:
        self.bell = threading.Event()
        """Set when there is something to take; the housekeeper's rounds clear it."""
        self._lock = threading.Lock()
        """Guards `_low`."""
        self._low: set[str] = set()

    def ring(self, device: str) -> None:
        """Say that a device has less space than it should have."""
        if device in self._low:
            return
        with self._lock:
            self._low.add(device)
        self.bell.set()

    def take(self) -> frozenset[str]:
        """Return the devices that ran low since this was last asked."""
        with self._lock:
            low = frozenset(self._low)
            self._low.clear()
            return low
