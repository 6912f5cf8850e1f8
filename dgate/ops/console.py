"""Copies of the log lines by UDP, for a console that listens elsewhere (`OperatorConsole`).

One datagram per line, as the original's Windows program shows them (spec dimse.md section 11).
Sending has a thread of its own, because looking up the host's name may take long; a line that
finds its queue full is dropped, since a console must not slow down the server.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import socket
import threading
import time

log = logging.getLogger(__name__)

DEFAULT_PORT = 1111
LONGEST_LINE_BYTES = 1400
"""What fits into one packet of an ordinary network."""
MOST_WAITING = 1000
RESOLVE_EVERY_S = 60.0
_STOP_S = 2.0
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]\s]+)\]|(?P<host>[^\s:/\\]+))(?::(?P<port>\d{1,5}))?\Z")

_BARE_V6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?")


def console_address(text: str) -> tuple[str, int] | None:
    """Return host and port of an `OperatorConsole`; None for none, and for a pipe of Windows.

    Raises:
        ValueError: it is no address; the text says what is expected.
    """
    text = text.strip()
    if not text or text[0] in "/\\":
        return None
    if _BARE_V6.fullmatch(text):
        return text, DEFAULT_PORT
    match = _ADDRESS.match(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError("write a host, or host:port")
    return match["v6"] or match["host"], port


class UdpConsole(logging.Handler):
    """Sends each record, formatted, to one address. `close` ends its thread."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self.address = (host, port)
        self._lines: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._send_all, name="console", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record's lines into the queue; never waits."""
        for line in self.format(record).splitlines():
            data = line.encode("utf-8", "backslashreplace")[:LONGEST_LINE_BYTES] + b"\n"
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(data)

    def close(self) -> None:
        """Send what is waiting, for a moment, and end the thread."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_STOP_S)
        self._thread.join(_STOP_S)
        super().close()

    def _send_all(self) -> None:
        """Send until told to stop. Belongs to the console's own thread."""
        found: tuple[socket.socket, tuple[object, ...]] | None = None
        look_at = 0.0
        warned = False
        try:
            while (line := self._lines.get()) is not None:
                if found is None and time.monotonic() >= look_at:
                    look_at = time.monotonic() + RESOLVE_EVERY_S
                    found = self._resolve(warn=not warned)
                    warned = True
                if found is not None:
                    # Nobody listens, or no route: a console that is off is nothing to report.
                    with contextlib.suppress(OSError):
                        found[0].sendto(line, found[1])
        finally:
            if found is not None:
                found[0].close()

    def _resolve(self, *, warn: bool) -> tuple[socket.socket, tuple[object, ...]] | None:
        host, port = self.address
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM
            )[0]
            return socket.socket(family, kind, protocol), address
        except (OSError, UnicodeError) as exc:
            if warn:
                log.warning(
                    "OperatorConsole: the host %s is not known (%s); it gets no log lines until "
                    "it is.",
                    host,
                    exc,
                )
            return None
