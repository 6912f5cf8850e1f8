"""Who is at work on what: SOP instances being stored, names about to be given.

In-process only; the lock of the data folder (`dgate.ops.lock`) keeps other processes away.
Thread-safe.
"""

from __future__ import annotations

import threading

from dgate.archive.devices import Device
from dgate.archive.naming import numbered
from dgate.errors import OutOfSpace

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
        self._lock = threading.Lock()
        """Guards `_busy`."""
        self._busy: dict[str, threading.Event | None] = {}
        # The event is made by the first who has to wait, because nearly nobody has to.

    def enter(self, sop_instance: str) -> None:
        """Wait for the instance's turn; raises OutOfSpace after WAIT_S."""
        while True:
            with self._lock:
                if sop_instance not in self._busy:
                    self._busy[sop_instance] = None
                    return
                left = self._busy[sop_instance]
                if left is None:
                    left = self._busy[sop_instance] = threading.Event()
            if not left.wait(WAIT_S):
                # The sender is to try again, as with a full disk.
                raise OutOfSpace(
                    "another copy of the object is still being stored", remedy="check the disk"
                )

    def leave(self, sop_instance: str) -> None:
        """Let the next arrival of the instance through."""
        with self._lock:
            left = self._busy.pop(sop_instance)
        if left is not None:
            left.set()
