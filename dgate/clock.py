"""Injected time: the only way in which dgate's parts learn what time it is. Thread-safe."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a part needs to know about time."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()
