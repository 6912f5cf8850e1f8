"""The listening port: a thread per association, a limit on their number, and an orderly end.

On what terms is asked for each connection, so that they can change while associations run. Idle
threads sleep in the kernel. `start` and `stop` belong to the owner's thread; everything shared with
association threads sits behind `_lock`.
"""

from __future__ import annotations

import errno
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dgate.errors import DgateError, PeerError
from dgate.net import handshake
from dgate.net.association import Association
from dgate.net.negotiation import Policy
from dgate.net.stream import BufferPool, Stream, Timeouts
from dgate.net.surplus import Surplus

log = logging.getLogger(__name__)

_BACKLOG = 128
_STACK_BYTES = 4 << 20
"""Lua code may nest deep; what is not used is never backed by memory."""
# Connections that have not asked for an association yet, or are being told that there are too many.
_SPARE_CONNECTIONS = 32
_CUT_GRACE_S = 2.0
_EXHAUSTED_PAUSE_S = 0.2
_REMEDIES = {
    errno.EMFILE: "raise the limit of open files, or lower MaxAssociations",
    errno.ENFILE: "raise fs.file-max of this machine",
    errno.ENOBUFS: "the machine is short of memory",
    errno.ENOMEM: "the machine is short of memory",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything that decides about an association and serves it, from its begin to its end."""

    policy: Policy
    serve: Callable[[Association], None]
    """Runs in the association's thread."""
    max_associations: int = 100
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(slots=True, eq=False)
class _Connection:
    """One accepted connection and the thread that serves it."""

    terms: Terms
    stream: Stream
    peer: tuple[str, int]
    label: str
    admitted: bool = False
    association: Association | None = None


class Listener:
    """Accepts associations on one TCP port. Owned by one thread, that starts and stops it."""

    def __init__(
        self,
        bind: str,
        port: int,
        terms: Callable[[], Terms],
        *,
        on_error: Callable[[PeerError, str], None] | None = None,
        name: str = "dicom",
    ) -> None:
        """`bind` "" = all IPv6 and IPv4 addresses.

        `terms` is called for each accepted connection, which keeps what it returned until its end.
        `on_error(error, peer)` is told what ended an association badly, after it has been logged;
        called by association threads.
        """
        self._terms = terms
        self._bind = bind
        self._wanted_port = port
        self._on_error = on_error
        self._name = name
        self._pool = BufferPool()
        self._numbers = itertools.count(1)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._connections: dict[_Connection, threading.Thread] = {}
        self._admitted = 0
        self._stopping = threading.Event()
        self._surplus: Surplus | None = None

    @property
    def port(self) -> int:
        """The port that is listened on (the real one when 0 was asked for)."""
        if self._socket is None:
            return self._wanted_port
        return int(self._socket.getsockname()[1])

    @property
    def active(self) -> int:
        """The number of established associations."""
        with self._lock:
            return self._admitted

    def start(self) -> None:
        """Open the port and start accepting; raises DgateError when the port cannot be had."""
        self._socket = _open(self._bind, self._wanted_port)
        self._stopping.clear()
        self._surplus = Surplus(f"{self._name}-surplus")
        self._thread = threading.Thread(
            target=self._accept_connections, args=(self._socket,), name=f"{self._name}-listener"
        )
        self._thread.start()

    def stop(self, drain_s: float = 5.0) -> bool:
        """Stop accepting and end all associations; return whether every thread has ended.

        Idle ones end at once, busy ones get `drain_s` to finish their operation and are cut then.
        Safe to call twice.
        """
        listening, thread = self._socket, self._thread
        if listening is None or thread is None:
            return True
        self._stopping.set()
        # Closing alone would leave the thread in accept(); a shut down listening socket wakes it.
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()
        if self._surplus is not None:
            self._surplus.stop()
        self._socket = self._thread = None
        with self._lock:
            for connection in self._connections:
                if connection.association is not None:
                    connection.association.stop_when_idle()
                elif not connection.admitted:
                    connection.stream.cut()
        if self._await_end(drain_s):
            return True
        with self._lock:
            for connection in self._connections:
                log.warning("%s did not end in time and was cut", connection.label)
                connection.stream.cut()
        return self._await_end(_CUT_GRACE_S)

    def _await_end(self, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        with self._lock:
            while self._connections and (left := deadline - time.monotonic()) > 0:
                self._ended.wait(left)
            return not self._connections

    def _accept_connections(self, listening: socket.socket) -> None:
        exhausted = 0
        while not self._stopping.is_set():
            try:
                connected, address = listening.accept()
            except OSError as exc:
                if self._stopping.is_set():
                    return
                if exc.errno != errno.ECONNABORTED:
                    # Once, not five times a second as long as it lasts.
                    level = logging.DEBUG if exhausted else logging.ERROR
                    advice = _REMEDIES.get(exc.errno or 0, "look into the system's log")
                    log.log(level, "No connection can be accepted for now: %s (%s)", exc, advice)
                    exhausted += 1
                    self._stopping.wait(_EXHAUSTED_PAUSE_S)
                continue
            if exhausted:
                log.warning("Connections are accepted again")
                exhausted = 0
            self._begin(connected, _plain(address))

    def _begin(self, connected: socket.socket, peer: tuple[str, int]) -> None:
        """Start a thread for a new connection, unless there are far too many of them."""
        label = f"assoc-{next(self._numbers)}"
        where = f"{peer[0]}:{peer[1]}"
        terms = self._terms()
        with self._lock:
            full = len(self._connections) >= terms.max_associations + _SPARE_CONNECTIONS
        if full:
            # Only this thread adds connections, so there cannot be more of them by now.
            self._turn_away(connected, where)
            return
        try:
            stream = Stream(connected, terms.timeouts, self._pool, where)
        except OSError as exc:
            log.debug("%s was gone before it was served: %s", where, exc)
            connected.close()
            return
        connection = _Connection(terms, stream, peer, label)
        # A thread stuck in a handler must not keep the process from ending: `stop` reports it
        # instead.
        thread = threading.Thread(
            target=self._run, args=(connection,), name=f"{self._name}-{label}", daemon=True
        )
        with self._lock:
            self._connections[connection] = thread
        if not _start_small(thread):
            log.error("The connection of %s was closed: the system has no thread left", where)
            self._end(connection)

    def _turn_away(self, connected: socket.socket, where: str) -> None:
        assert self._surplus is not None, "nothing is accepted before the start"
        if self._surplus.turn_away(connected):
            log.warning("The connection of %s is told that too many are open", where)
        else:
            log.warning("The connection of %s was closed: far too many are open", where)

    def _run(self, connection: _Connection) -> None:
        """Serve one connection; the outermost function of its thread."""
        stream = connection.stream
        try:
            association = handshake.accept(
                stream,
                connection.peer,
                connection.label,
                connection.terms.policy,
                lambda: self._admit(connection),
            )
            if association is not None:
                self._announce(connection, association)
                with association:
                    connection.terms.serve(association)
        except PeerError as exc:
            log.warning(
                "An association ended badly: %s",
                exc,
                extra={"assoc": connection.label, "peer": stream.where},
            )
            if self._on_error is not None:
                self._on_error(exc, stream.where)
        except Exception:
            # The thread boundary: this association is aborted, objects not acknowledged stay with
            # the sender.
            log.exception(
                "An association was aborted by an error of dgate itself",
                extra={"assoc": connection.label, "peer": stream.where},
            )
        finally:
            self._end(connection)

    def _admit(self, connection: _Connection) -> bool:
        with self._lock:
            connection.admitted = self._admitted < connection.terms.max_associations
            self._admitted += connection.admitted
            return connection.admitted

    def _announce(self, connection: _Connection, association: Association) -> None:
        """Let `stop` know of the association, or the association of a stop that came before."""
        with self._lock:
            connection.association = association
        if self._stopping.is_set():
            association.stop_when_idle()

    def _end(self, connection: _Connection) -> None:
        connection.stream.close()
        with self._lock:
            self._admitted -= connection.admitted
            del self._connections[connection]
            self._ended.notify_all()


def _open(bind: str, port: int) -> socket.socket:
    try:
        if not 0 <= port <= 0xFFFF:
            raise OverflowError("port numbers end at 65535")
        if not bind and socket.has_dualstack_ipv6():
            try:
                return socket.create_server(
                    ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
                )
            except OSError as exc:
                if exc.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
        found = socket.getaddrinfo(bind or "0.0.0.0", port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as exc:
        raise DgateError(
            f"port {port} cannot be opened{_reason(exc)}",
            where=f"listening on {bind or 'all addresses'}",
            remedy="stop the program that holds the port, or set another TCPPort in dicom.ini",
        ) from exc


def _reason(exc: Exception) -> str:
    code = exc.errno if isinstance(exc, OSError) else None
    if code == errno.EADDRINUSE:
        return ": it is in use by another program"
    if code in (errno.EACCES, errno.EPERM):
        return ": ports below 1024 need a privileged user"
    return f": {exc}"


def _plain(address: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    """Return address and port, an IPv4 address without its IPv6 clothes."""
    return address[0].removeprefix("::ffff:"), address[1]


def _start_small(thread: threading.Thread) -> bool:
    """Start the thread with a small stack; False when the system refuses."""
    before = threading.stack_size(_STACK_BYTES)
    try:
        thread.start()
    except RuntimeError:
        return False
    finally:
        threading.stack_size(before)
    return True
