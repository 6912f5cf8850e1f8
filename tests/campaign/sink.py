"""A destination of our own: takes objects, writes down which, and refuses when told to.

Run as a program: `python -m tests.campaign.sink PORT JOURNAL`. Each object that is accepted becomes
a line of the journal before its success is answered, so that nothing accepted is missing there when
the process is killed: title called, SOP instance, SHA-256 of the data set, and its length. Orders
come as lines on standard input: `take`, `refuse STATUS...` (hexadecimal, in turn), or `reject` (the
associations). Written against PS3.7 and PS3.8, not against dgate's engine.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

# Nothing else is imported: it starts in the midst of a round, and that should be quick.
_ASSOCIATE_RQ, _ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_MAX_PDU = 1 << 17


class _Ended(Exception):
    """The connection is over."""


class Destination:
    """What all connections share."""

    def __init__(self, journal: Path) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self.rejects = False
        self._statuses: Iterator[int] | None = None
        self._lock = threading.Lock()

    def order(self, line: str) -> None:
        """Follow one order."""
        word, *rest = line.split()
        with self._lock:
            self.rejects = word == "reject"
            self._statuses = (
                itertools.cycle([int(each, 16) for each in rest]) if word == "refuse" else None
            )

    def judge(self, title: str, sop_instance: str, digest: str, length: int) -> int:
        """Return the status for an object, which is written down when that is success."""
        with self._lock:
            if self._statuses is not None:
                return next(self._statuses)
        os.write(self._journal, f"{title} {sop_instance} {digest} {length}\n".encode())
        return 0


class Peer:
    """One connection, in a thread of its own."""

    def __init__(self, connection: socket.socket, destination: Destination) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb", 1 << 18)
        self._destination = destination
        self._title = ""

    def serve(self) -> None:
        """Serve until the association ends."""
        try:
            with self._connection, self._stream:
                if self._negotiate():
                    while self._message():
                        pass
        except (OSError, _Ended, struct.error):
            # Whoever called is gone, which is what these tests are about.
            return

    def _read(self, count: int) -> bytes:
        content = self._stream.read(count)
        if len(content) < count:
            raise _Ended
        return content

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._read(6))
        return kind, self._read(length)

    def _negotiate(self) -> bool:
        kind, body = self._pdu()
        if kind != _ASSOCIATE_RQ:
            self._connection.sendall(_framed(_ABORT, b"\0\0\2\2"))
            return False
        if self._destination.rejects:
            # Transient, by the provider, temporary congestion (PS3.8 9.3.4).
            self._connection.sendall(_framed(_ASSOCIATE_RJ, b"\0\2\3\1"))
            return False
        self._title = body[4:20].decode("latin-1").strip()
        items = _item(0x10, _APPLICATION_CONTEXT)
        for code, content in _items(body[68:]):
            if code == 0x20:
                syntax = next(value for each, value in _items(content[4:]) if each == 0x40)
                items += _item(0x21, bytes([content[0], 0, 0, 0]) + _item(0x40, syntax))
        items += _item(0x50, _item(0x51, struct.pack(">I", _MAX_PDU)) + _item(0x52, b"1.2.3.4"))
        accept = b"\0\1\0\0" + body[4:36] + bytes(32) + items
        self._connection.sendall(_framed(_ASSOCIATE_AC, accept))
        return True

    def _message(self) -> bool:
        command = b""
        digest, length = hashlib.sha256(), 0
        while True:
            kind, body = self._pdu()
            if kind == _RELEASE_RQ:
                self._connection.sendall(_framed(_RELEASE_RP, bytes(4)))
            if kind != _P_DATA:
                return False
            place = 0
            while place < len(body):
                size, context, flags = struct.unpack_from(">IBB", body, place)
                fragment = body[place + 6 : place + 4 + size]
                place += 4 + size
                if flags & 1:
                    command += fragment
                else:
                    digest.update(fragment)
                    length += len(fragment)
                elements = _elements(command) if flags & 2 else {}
                has_data = elements and elements[0x0800] != b"\x01\x01"
                if flags & 2 and not (flags & 1 and has_data):
                    self._reply(context, elements, digest.hexdigest(), length)
                    return True

    def _reply(self, context: int, request: dict[int, bytes], digest: str, length: int) -> None:
        field = int.from_bytes(request[0x0100], "little")
        sop_instance = request.get(0x1000, b"").decode("latin-1").rstrip("\0 ")
        status = 0
        if field == 0x0001:
            status = self._destination.judge(self._title, sop_instance, digest, length)
        answer = _element(0x0002, request[0x0002]) + _element(0x0100, _us(field | 0x8000))
        answer += _element(0x0120, request[0x0110]) + _element(0x0800, _us(0x0101))
        answer += _element(0x0900, _us(status))
        if 0x1000 in request:
            answer += _element(0x1000, request[0x1000])
        command = _element(0x0000, struct.pack("<I", len(answer))) + answer
        value = struct.pack(">IBB", len(command) + 2, context, 3) + command
        self._connection.sendall(_framed(_P_DATA, value))


def _framed(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, tag, len(value)) + value


def _us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        kind, length = struct.unpack_from(">BxH", content)
        yield kind, content[4 : 4 + length]
        content = content[4 + length :]


def _elements(content: bytes) -> dict[int, bytes]:
    found, place = {}, 0
    while place < len(content):
        _, tag, length = struct.unpack_from("<HHI", content, place)
        found[tag] = content[place + 8 : place + 8 + length]
        place += 8 + length
    return found


def _serve(server: socket.socket, destination: Destination) -> None:
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(connection, destination)
        threading.Thread(target=peer.serve, daemon=True).start()


def main() -> None:
    """Serve until standard input ends."""
    port, journal = sys.argv[1:]
    destination = Destination(Path(journal))
    with socket.create_server(("127.0.0.1", int(port)), backlog=64) as server:
        threading.Thread(target=_serve, args=(server, destination), daemon=True).start()
        for line in sys.stdin:
            destination.order(line)


if __name__ == "__main__":
    main()
