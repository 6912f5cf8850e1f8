"""Who is at work on what: SOP instances being stored, names about to be given.

The lock of the base folder (`dgate.ops.lock`) keeps other processes of this gateway away. Other
gateways may share the devices: of names, the devices themselves then keep the two apart
(`Device.hold`); of SOP instances, the database does, which takes a new one once and a replacement
only of what the gateway has seen. Thread-safe.
"""

from __future__ import annotations

import threading
import time

from dgate.archive.devices import Device
from dgate.archive.naming import numbered
from dgate.errors import OutOfSpace

WAIT_S = 600.0
"""How long an object waits for another copy of itself that is being stored."""
OTHERS_WAIT_S = 5.0
"""The same where another gateway stores it. Most are done in milliseconds."""
_PAUSE_S = 0.01


class Names:
    """Names that are promised but not yet on disk, so that no file ever overwrites another's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards `_reserved` and `_left`."""
        self._reserved: set[tuple[str, str]] = set()
        self._left: set[tuple[str, str]] = set()

    def reserve(self, device: Device, name: str) -> str:
        """Return the name, or with `_1`, `_2`... the first form of it that is free, and hold it.

        Raises OutOfSpace.
        """
        with self._lock:
            number = 0
            free = name
            while (device.name, free) in self._reserved or not device.hold(free):
                number += 1
                free = numbered(name, number)
            self._reserved.add((device.name, free))
        return free

    def keep(self, device: Device, name: str) -> bool:
        """Hold the name of a known object, whose turn it is, for a file in the place of its own.

        Waits for another gateway that is storing the object at the same moment. False when the name
        stays held, since that gateway has crashed or been stopped by something. One that this
        gateway has left held is its own to use. Raises OutOfSpace.
        """
        end = time.monotonic() + OTHERS_WAIT_S
        while not device.hold(name, existing=True):
            if self._is_left(device, name):
                return True
            if time.monotonic() >= end:
                return False
            # Nobody can tell this machine when another one is done.
            time.sleep(_PAUSE_S)
        return True

    def release(self, device: Device, name: str) -> None:
        """Give up a name that is on disk now, or that will not be used."""
        self.let_go(device, name)
        with self._lock:
            self._reserved.discard((device.name, name))

    def let_go(self, device: Device, name: str) -> None:
        """Give up a name that was only kept."""
        if not self._is_left(device, name):
            device.let_go(name)

    def leave(self, device: Device, name: str) -> None:
        """Leave a name held until recovery has found out what it is for: other gateways do not get
        it, whatever becomes of the object here meanwhile."""
        with self._lock:
            self._left.add((device.name, name))

    def _is_left(self, device: Device, name: str) -> bool:
        with self._lock:
            return (device.name, name) in self._left


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
