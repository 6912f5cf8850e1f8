"""A link between two programs that can be cut, stopped, made slow to answer, or taken down.

Two threads per connection carry what comes; the test turns the switches from its own.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from tests.acceptance.processes import START_DEADLINE_S


class Proxy:
    """Listens on a port and carries what arrives to another."""

    def __init__(self, target: int) -> None:
        """Carry to this port of our own machine."""
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs = set[tuple[socket.socket, socket.socket]]()
        self._forth = threading.Event()
        self._back = threading.Event()
        self._forth.set()
        self._back.set()
        self._is_down = False
        self._left: int | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
            self.cuts += len(pairs)
        for pair in pairs:
            _break(pair)

    def cut_after(self, count: int) -> None:
        """Break all connections when so many more bytes have gone forth."""
        with self._lock:
            self._left = count

    def is_whole(self) -> bool:
        """Tell whether no break is on its way."""
        with self._lock:
            return self._left is None

    def hold(self, *, answers_only: bool = False) -> None:
        """Carry nothing more for now, or no answers."""
        self._back.clear()
        if not answers_only:
            self._forth.clear()

    def resume(self) -> None:
        """Carry on."""
        self._left = None
        self._is_down = False
        self._forth.set()
        self._back.set()

    def take_down(self) -> None:
        """Break all connections, and each that comes, until `resume`."""
        self._is_down = True
        self.cut()

    def close(self) -> None:
        """Stop listening and break what is open."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.resume()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self._is_down:
                near.close()
                continue
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._target), START_DEADLINE_S)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (near, far)
        with self._lock:
            self._pairs.add(pair)
        back = threading.Thread(target=self._carry, args=(far, near, self._back), daemon=True)
        back.start()
        self._carry(near, far, self._forth)
        back.join()
        with self._lock:
            self._pairs.discard(pair)
        near.close()
        far.close()

    def _carry(self, source: socket.socket, target: socket.socket, gate: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                gate.wait()
                target.sendall(piece)
                if gate is self._forth and self._uses_up(len(piece)):
                    self.cut()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _uses_up(self, count: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= count
            if self._left > 0:
                return False
            self._left = None
            return True


def _break(pair: tuple[socket.socket, socket.socket]) -> None:
    for each in pair:
        with contextlib.suppress(OSError):
            # With a reset, as when the way is gone, not as when the peer has finished.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.shutdown(socket.SHUT_RDWR)
