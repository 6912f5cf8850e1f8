"""Who is at work on what: SOP instances being stored, names about to be given.

In-process only; the lock of the data folder (`dgate.archive.lock`) keeps other processes away.
Thread-safe.
"""

from __future__ import annotations

import threading
from types import TracebackType

from dgate.archive.devices import Device
from dgate.archive.naming import numbered
from dgate.errors import StoreError

WAIT_S = 600.0
"""How long an object waits for another copy of itself that is being stored."""


class Names:
    """Names that are promised but not yet on disk, so that no file ever overwrites another's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards `_reserved`."""
        self._reserved: set[tuple[str, str]] = set()

    def reserve(self, device: Device, name: str) -> str:
        """Return the name, or with `_1`, `_2`... the first form of it that is free, and hold it."""
        with self._lock:
            number = 0
            free = name
            while (device.name, free) in self._reserved or device.exists(free):
                number += 1
                free = numbered(name, number)
            self._reserved.add((device.name, free))
        return free

    def release(self, device: Device, name: str) -> None:
        """Give up a name that is on disk now, or that will not be used."""
        with self._lock:
            self._reserved.discard((device.name, name))


class Turns:
    """Lets one arrival of a SOP instance after the other through."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        """Guards `_busy`."""
        self._busy: set[str] = set()

    def of(self, sop_instance: str) -> Turn:
        """Return a context in which no other thread is at work on the instance."""
        return Turn(self, sop_instance)

    def enter(self, sop_instance: str) -> None:
        """Wait for the instance's turn; raises StoreError after WAIT_S."""
        with self._changed:
            if not self._changed.wait_for(lambda: sop_instance not in self._busy, WAIT_S):
                raise StoreError(
                    "another copy of the object is still being stored", remedy="check the disk"
                )
            self._busy.add(sop_instance)

    def leave(self, sop_instance: str) -> None:
        """Let the next arrival of the instance through."""
        with self._changed:
            self._busy.remove(sop_instance)
            self._changed.notify_all()


class Turn:
    """The turn of one arrival, as a context manager."""

    __slots__ = ("_sop_instance", "_turns")

    def __init__(self, turns: Turns, sop_instance: str) -> None:
        self._turns = turns
        self._sop_instance = sop_instance

    def __enter__(self) -> None:
        """Wait for the turn."""
        self._turns.enter(self._sop_instance)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Pass the turn on."""
        self._turns.leave(self._sop_instance)
