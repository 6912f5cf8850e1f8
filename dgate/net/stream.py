"""One TCP connection: a receive buffer on loan, vectored sends, a bound on every wait.

Knows nothing of PDUs. A stream belongs to its association's thread; only `cut` and `cut_input` may
be called by another. DICOM over TLS needs a subclass that replaces the methods marked as
primitives, nothing else.
"""

from __future__ import annotations

import contextlib
import mmap
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from dgate.errors import Aborted, TimedOut

Bytes = bytes | bytearray | memoryview

BUFFER_BYTES = 1 << 18
_KEPT_BUFFERS = 8
# An association that has been silent this long gives its buffer back and waits without one.
_GRACE_S = 0.5
_LINGER_S = 2.0
_LINGER_BYTES = 1 << 24
_READ_BYTES = 1 << 16
_TCPIP_TIMEOUT_S = 300.0
"""Default of TCPIPTimeOut."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Upper bounds of every wait of an association, in seconds."""

    connect_s: float = 10.0
    """TCP connection of a requestor."""
    artim_s: float = 30.0
    """The whole of association set-up, and the answer to a release (PS3.8 9.1.5)."""
    idle_s: float = 300.0
    """Acceptor: until the next command."""
    read_s: float = 60.0
    """Within a message, without a byte."""
    write_s: float = 20.0
    """Sending, without a byte taken by the peer."""
    response_s: float = 300.0
    """Requestor: until the next response."""

    @classmethod
    def of(cls, tcpip_timeout_s: float) -> Timeouts:
        """Return what TCPIPTimeOut means for either role.

        0, as in `TCPIPTimeOut =`, stands for the default: no peer could keep a bound of nothing.
        """
        if tcpip_timeout_s <= 0:
            tcpip_timeout_s = _TCPIP_TIMEOUT_S
        seconds = float(tcpip_timeout_s)
        return cls(idle_s=seconds, read_s=seconds, write_s=seconds, response_s=seconds)


class BufferPool:
    """Lends receive buffers to those associations that have data under way. Thread-safe."""

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque(maxlen=_KEPT_BUFFERS)

    def take(self) -> mmap.mmap:
        """Return a buffer of BUFFER_BYTES."""
        try:
            return self._free.pop()
        except IndexError:
            # A mapping takes real memory only as far as it has been written to.
            return mmap.mmap(-1, BUFFER_BYTES)

    def give(self, buffer: mmap.mmap) -> None:
        """Take a buffer back; beyond a few it is freed."""
        self._free.append(buffer)


class Stream:
    """A connected socket with its buffered input, which is `buffer[start:end]`."""

    __slots__ = (
        "_closed",
        "_pool",
        "_socket",
        "_socket_guard",
        "_tick_s",
        "buffer",
        "end",
        "start",
        "timeouts",
        "view",
        "where",
    )

    def __init__(
        self, connected: socket.socket, timeouts: Timeouts, pool: BufferPool, where: str
    ) -> None:
        """Take over a connected socket; `where` names the peer in errors."""
        self.timeouts = timeouts
        self.where = where
        self.buffer: mmap.mmap | bytes = b""
        self.view = memoryview(b"")
        self.start = 0
        self.end = 0
        self._pool = pool
        self._socket = connected
        self._socket_guard = threading.Lock()
        self._closed = False
        self._tick_s = min(_GRACE_S, timeouts.idle_s, timeouts.read_s, timeouts.response_s)
        connected.settimeout(None)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # The kernel's own time-outs: a Python time-out would cost a further system call at each
        # read and write.
        _set_kernel_timeout(connected, socket.SO_RCVTIMEO, self._tick_s)
        _set_kernel_timeout(connected, socket.SO_SNDTIMEO, timeouts.write_s)

    @property
    def is_closed(self) -> bool:
        """Whether the connection has been closed by this side."""
        return self._closed

    def fill(self, needed: int, timeout_s: float) -> None:
        """Read until `buffer` holds at least `needed` unread bytes; positions in it may change.

        Each wait for a byte is bounded by `timeout_s`. Raises TimedOut, and Aborted when the
        connection ends.
        """
        if not self.buffer:
            if not self._is_readable(timeout_s):
                raise self._silence(timeout_s)
            self._lend()
        if self.start == self.end:
            self.start = self.end = 0
        elif self.start + needed > BUFFER_BYTES:
            unread = bytes(self.view[self.start : self.end])
            self.start, self.end = 0, len(unread)
            self.view[: self.end] = unread
        while self.end - self.start < needed:
            try:
                count = self._receive_into(self.view[self.end :])
            except BlockingIOError:
                self._outwait(timeout_s)
                continue
            if count == 0:
                raise Aborted("the peer closed the connection", where=self.where)
            self.end += count

    def has_input(self, timeout_s: float) -> bool:
        """Return whether something, or the end of the connection, arrives within `timeout_s`."""
        return self.start != self.end or self._is_readable(timeout_s)

    def poll_input(self) -> bool:
        """Read what has arrived, without waiting; return whether anything had. Raises Aborted."""
        if not self.buffer:
            if not self._is_readable(0):
                return False
            self._lend()
        if self.start == self.end:
            self.start = self.end = 0
        elif self.end == BUFFER_BYTES:
            return False
        try:
            count = self._receive_into(self.view[self.end :], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if count == 0:
            raise Aborted("the peer closed the connection", where=self.where)
        self.end += count
        return True

    def read_exactly(self, size: int, deadline: float) -> bytes:
        """Return `size` bytes, past the buffer, before the monotonic `deadline` of set-up.

        Memory grows with what really arrives. Raises TimedOut, Aborted.
        """
        data = bytearray()
        while len(data) < size:
            if not self._is_readable(deadline - time.monotonic()):
                raise self._silence(self.timeouts.artim_s)
            chunk = self._receive(min(size - len(data), _READ_BYTES))
            if not chunk:
                raise Aborted("the peer closed the connection", where=self.where)
            data += chunk
        return bytes(data)

    def send(self, buffers: Sequence[Bytes]) -> None:
        """Send all buffers in as few system calls as possible; raises TimedOut, Aborted."""
        total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        sent = self._send_some(buffers)
        while sent < total:
            buffers = _after(buffers, sent)
            total -= sent
            sent = self._send_some(buffers)

    def finish(self, farewell: bytes = b"", *, linger: bool = True) -> None:
        """Send `farewell` if that needs no waiting, then let the peer close first, within limits.

        Closing with unread input would reset the connection and take the farewell away from the
        peer; without `linger` that is risked.
        """
        with contextlib.suppress(OSError, Aborted):
            if farewell:
                self._send_at_once(farewell)
            self._socket.shutdown(socket.SHUT_WR)
            if linger:
                self._discard_input(time.monotonic() + min(_LINGER_S, self.timeouts.artim_s))
        self.close()

    def close(self) -> None:
        """Close the connection and give the buffer back. Safe to call twice."""
        with self._socket_guard:
            self._closed = True
            self._socket.close()
        self._give_back()

    def cut(self) -> None:
        """End the connection under the owner, which wakes up with Aborted. For other threads."""
        self._shut_down(socket.SHUT_RDWR)

    def cut_input(self) -> None:
        """Wake the owner from waiting for input; output still works. For other threads."""
        self._shut_down(socket.SHUT_RD)

    def _shut_down(self, how: int) -> None:
        # The guard keeps the descriptor from being closed, and used for another connection,
        # meanwhile.
        with self._socket_guard, contextlib.suppress(OSError):
            if not self._closed:
                self._socket.shutdown(how)

    def _receive_into(self, target: memoryview, flags: int = 0) -> int:
        """Primitive: read what is there; BlockingIOError when nothing came in time."""
        try:
            return self._socket.recv_into(target, 0, flags)
        except BlockingIOError:
            raise
        except OSError as exc:
            raise Aborted(f"the connection was lost: {exc}", where=self.where) from exc

    def _receive(self, limit: int) -> bytes:
        """Primitive: return up to `limit` bytes of a readable connection."""
        try:
            return self._socket.recv(limit)
        except OSError as exc:
            raise Aborted(f"the connection was lost: {exc}", where=self.where) from exc

    def _send_some(self, buffers: Sequence[Bytes]) -> int:
        """Primitive: send at least one byte and return how many were sent."""
        try:
            if len(buffers) == 1:
                return self._socket.send(buffers[0])
            return self._socket.sendmsg(buffers)
        except BlockingIOError:
            raise TimedOut(
                f"the peer took no data for {self.timeouts.write_s:g} s", where=self.where
            ) from None
        except OSError as exc:
            raise Aborted(f"the connection was lost: {exc}", where=self.where) from exc

    def _send_at_once(self, data: bytes) -> None:
        """Primitive: send a few bytes if that needs no waiting, else raise OSError."""
        self._socket.send(data, socket.MSG_DONTWAIT)

    def _is_readable(self, timeout_s: float) -> bool:
        """Primitive: whether input, or its end, arrives within `timeout_s`."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLIN)
        except ValueError as exc:
            raise Aborted("the connection is closed", where=self.where) from exc
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def _silence(self, timeout_s: float) -> TimedOut:
        return TimedOut(f"nothing came from the peer within {timeout_s:g} s", where=self.where)

    def _outwait(self, timeout_s: float) -> None:
        """Wait for the rest of `timeout_s` after a tick in vain, an empty buffer given back."""
        borrowed = self.start == self.end
        if borrowed:
            self._give_back()
        if not self._is_readable(timeout_s - self._tick_s):
            raise self._silence(timeout_s)
        if borrowed:
            self._lend()

    def _lend(self) -> None:
        self.buffer = self._pool.take()
        self.view = memoryview(self.buffer)
        self.start = self.end = 0

    def _give_back(self) -> None:
        if isinstance(self.buffer, mmap.mmap):
            self.view.release()
            self._pool.give(self.buffer)
            self.buffer = b""
            self.view = memoryview(b"")
            self.start = self.end = 0

    def _discard_input(self, deadline: float) -> None:
        discarded = 0
        while discarded < _LINGER_BYTES and self._is_readable(deadline - time.monotonic()):
            count = len(self._receive(_READ_BYTES))
            if count == 0:
                return
            discarded += count


def _after(buffers: Sequence[Bytes], sent: int) -> list[Bytes]:
    """Return what is left of the buffers after `sent` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []


def _set_kernel_timeout(connected: socket.socket, option: int, seconds: float) -> None:
    whole, fraction = divmod(max(seconds, 0.001), 1)
    values = (int(whole), int(fraction * 1_000_000))
    try:
        connected.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", *values))
    except OSError:
        # 32-bit systems with 64-bit time.
        connected.setsockopt(socket.SOL_SOCKET, option, struct.pack("@qq", *values))
