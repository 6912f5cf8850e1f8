"""Connections beyond what threads are spent on: one thread tells them all that they are too many.

An association request is answered with the rejection "temporary congestion" (PS3.8 9.3.4) without
being looked into; anything else is dropped. The thread runs only while there is somebody to tell.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time

from dgate.net import pdu
from dgate.net.pdu import PduType

MOST_HELD = 512
"""More connections than these are closed without a word."""
PATIENCE_S = 5.0
"""So long a connection may take to ask, and to take its answer."""
_READ_BYTES = 1 << 16
_CONGESTION = pdu.reject(2, 3, 1)


class Surplus:
    """Turns connections away. `stop` belongs to the owner, `turn_away` to one thread at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._waiting: list[socket.socket] = []
        self._held = 0
        self._thread: threading.Thread | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._stopping = False

    def turn_away(self, connected: socket.socket) -> bool:
        """Take a connection over and answer it; False (and closed) when there are too many."""
        with self._lock:
            if self._held >= MOST_HELD or self._stopping:
                connected.close()
                return False
            connected.setblocking(False)
            self._held += 1
            self._waiting.append(connected)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        with contextlib.suppress(BlockingIOError):  # It is awake already.
            self._wake_writer.send(b"x", socket.MSG_DONTWAIT)
        return True

    def stop(self) -> None:
        """Close everything and join the thread; safe to call twice."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        if thread is not None:
            with contextlib.suppress(BlockingIOError):
                self._wake_writer.send(b"x", socket.MSG_DONTWAIT)
            thread.join()
        self._wake_reader.close()
        self._wake_writer.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            deadlines: dict[socket.socket, float] = {}
            while self._take_new(selector, deadlines):
                left = min(deadlines.values(), default=0.0) - time.monotonic()
                for key, _ in selector.select(max(0.0, left)):
                    connected = key.fileobj
                    assert isinstance(connected, socket.socket)
                    if connected is self._wake_reader:
                        with contextlib.suppress(BlockingIOError):
                            connected.recv(_READ_BYTES)
                    elif not _serve(connected, key.data):
                        self._close(selector, deadlines, connected)
                now = time.monotonic()
                for connected in [each for each, end in deadlines.items() if end <= now]:
                    self._close(selector, deadlines, connected)
            for connected in list(deadlines):
                self._close(selector, deadlines, connected)

    def _take_new(
        self, selector: selectors.BaseSelector, deadlines: dict[socket.socket, float]
    ) -> bool:
        """Register what has come; False when the thread has nothing left to do."""
        with self._lock:
            for connected in self._waiting:
                selector.register(connected, selectors.EVENT_READ, _Told())
                deadlines[connected] = time.monotonic() + PATIENCE_S
            self._waiting.clear()
            if deadlines and not self._stopping:
                return True
            self._thread = None
            return False

    def _close(
        self,
        selector: selectors.BaseSelector,
        deadlines: dict[socket.socket, float],
        connected: socket.socket,
    ) -> None:
        selector.unregister(connected)
        del deadlines[connected]
        connected.close()
        with self._lock:
            self._held -= 1


class _Told:
    """Whether a connection has had its answer."""

    def __init__(self) -> None:
        self.is_told = False


def _serve(connected: socket.socket, told: _Told) -> bool:
    """Read what came and answer once; False when the connection is of no more use.

    What follows the answer is read and dropped: closing with unread input would reset the
    connection and take the answer away from the peer.
    """
    try:
        data = connected.recv(_READ_BYTES)
        if not data:
            return False
        if not told.is_told:
            if data[0] != PduType.ASSOCIATE_RQ:
                return False
            connected.send(_CONGESTION)
            connected.shutdown(socket.SHUT_WR)
            told.is_told = True
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
