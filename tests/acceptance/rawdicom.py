"""A minimal DICOM client that sends exactly the bytes a test asks for, and can misbehave.

Written against PS3.7 and PS3.8 and not against dgate's own engine, so that a fault in that engine
does not cancel itself out here. One thread owns an association.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from pydicom.datadict import dictionary_VR

from tests.acceptance.processes import WAIT_DEADLINE_S

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

Elements = Mapping[int, bytes | int | str]

_PDU_HEADER = struct.Struct(">BxI")
_PENDING = (0xFF00, 0xFF01)


class Closed(Exception):
    """The peer closed the connection or aborted the association."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One presentation context to propose; scp_role asks for the role that C-GET needs."""

    abstract: str
    syntaxes: tuple[str, ...] = (EXPLICIT_LE, IMPLICIT_LE)
    scp_role: bool = False


@dataclass(frozen=True, slots=True)
class Pdu:
    """One protocol data unit as it was read."""

    kind: int
    body: bytes


@dataclass(slots=True)
class Reply:
    """A DIMSE message that was received: command elements by tag, and the data set's bytes."""

    context: int
    command: dict[int, bytes]
    data: bytes = b""

    def number(self, tag: int) -> int:
        """Return a US or UL element's value, 0 when it is absent."""
        return int.from_bytes(self.command.get(tag, b""), "little")

    def text(self, tag: int) -> str:
        """Return a text element's value without its padding."""
        return self.command.get(tag, b"").decode("latin-1").rstrip("\0 ")

    @property
    def status(self) -> int:
        """Return (0000,0900)."""
        return self.number(0x0900)

    @property
    def comment(self) -> str:
        """Return (0000,0902), the error comment."""
        return self.text(0x0902)


@dataclass(frozen=True, slots=True)
class Received:
    """An object that arrived in a C-GET."""

    sop_class: str
    sop_instance: str
    syntax: str
    data: bytes


def command_set(elements: Elements) -> bytes:
    """Encode group 0000 in implicit little endian; int is US, str is padded with NUL."""
    body = bytearray()
    for tag, value in sorted(elements.items()):
        if isinstance(value, int):
            value = value.to_bytes(2, "little")
        elif isinstance(value, str):
            value = value.encode("latin-1")
            value += b"\0" * (len(value) % 2)
        body += struct.pack("<HHI", 0, tag, len(value)) + value
    return struct.pack("<HHII", 0, 0, 4, len(body)) + bytes(body)


def associate_rq(
    offers: Mapping[int, Offer],
    *,
    called: str = "DGATE",
    calling: str = "RAW",
    max_pdu: int = 1 << 17,
) -> bytes:
    """Encode an A-ASSOCIATE-RQ PDU."""
    items = _item(0x10, APPLICATION_CONTEXT.encode())
    for context_id, offer in offers.items():
        syntaxes = b"".join(_item(0x40, syntax.encode()) for syntax in offer.syntaxes)
        content = bytes([context_id, 0, 0, 0]) + _item(0x30, offer.abstract.encode()) + syntaxes
        items += _item(0x20, content)
    user = _item(0x51, struct.pack(">I", max_pdu)) + _item(0x52, b"1.2.826.0.1.3680043.8.498.7")
    for offer in offers.values():
        if offer.scp_role:
            uid = offer.abstract.encode()
            user += _item(0x54, struct.pack(">H", len(uid)) + uid + b"\1\1")
    items += _item(0x50, user)
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    return pdu(ASSOCIATE_RQ, b"\0\1\0\0" + titles + bytes(32) + items)


def pdu(kind: int, body: bytes) -> bytes:
    """Frame one protocol data unit."""
    return _PDU_HEADER.pack(kind, len(body)) + body


def pdata(context_id: int, fragment: bytes, *, command: bool, last: bool) -> bytes:
    """Frame one P-DATA-TF with one presentation data value."""
    flags = int(command) | int(last) << 1
    return pdu(P_DATA, struct.pack(">IBB", len(fragment) + 2, context_id, flags) + fragment)


def identifier(elements: Mapping[int, str]) -> bytes:
    """Encode a query identifier of text elements in explicit little endian."""
    body = bytearray()
    for tag, text in sorted(elements.items()):
        vr = dictionary_VR(tag).encode()
        value = text.encode()
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        body += struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
    return bytes(body)


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


@dataclass(slots=True)
class RawAssociation:
    """One association as requestor. Use as a context manager: leaving it releases or closes."""

    connection: socket.socket
    offers: dict[int, Offer]
    accepted: dict[int, str] = field(default_factory=dict)
    results: dict[int, int] = field(default_factory=dict)
    peer_max_pdu: int = 0
    on_data: Callable[[bytes], object] | None = None
    """Takes received data sets piece by piece instead of Reply.data."""
    _message_id: int = 0

    @classmethod
    def open(
        cls,
        port: int,
        offers: Iterable[Offer] = (Offer(VERIFICATION),),
        *,
        called: str = "DGATE",
        calling: str = "RAW",
        timeout_s: float = 120.0,
    ) -> RawAssociation:
        """Connect and negotiate; raises Closed when the peer rejects or aborts."""
        numbered = {2 * place + 1: offer for place, offer in enumerate(offers)}
        connection = socket.create_connection(("127.0.0.1", port), timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association = cls(connection, numbered)
        try:
            connection.sendall(associate_rq(numbered, called=called, calling=calling))
            answer = association.read_pdu()
            if answer.kind != ASSOCIATE_AC:
                raise Closed(f"PDU type {answer.kind} in answer to A-ASSOCIATE-RQ: {answer.body!r}")
            association._take_accept(answer.body)
        except BaseException:
            connection.close()
            raise
        return association

    def __enter__(self) -> RawAssociation:
        """Return the association itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release after success, drop the connection after a failure."""
        try:
            if kind is None:
                self.release()
        finally:
            self.connection.close()

    def context_for(self, abstract: str, syntax: str | None = None) -> int:
        """Return an accepted context; raises Closed when the peer refused them all."""
        for context_id, offer in self.offers.items():
            accepted = self.accepted.get(context_id)
            if offer.abstract == abstract and accepted and syntax in (None, accepted):
                return context_id
        raise Closed(f"no accepted context for {abstract} in {syntax}; results {self.results}")

    def echo(self) -> Reply:
        """Send a C-ECHO-RQ."""
        context = self.context_for(VERIFICATION)
        self.send(context, {0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: self.next_id()})
        return self.receive()

    def store(
        self,
        sop_class: str,
        sop_instance: str,
        data: bytes | Iterable[bytes],
        *,
        syntax: str | None = None,
        context: int | None = None,
    ) -> Reply:
        """Send a C-STORE-RQ and wait for its response."""
        context = self.context_for(sop_class, syntax) if context is None else context
        command: Elements = {
            0x0002: sop_class,
            0x0100: 0x0001,
            0x0110: self.next_id(),
            0x0700: 0,
            0x1000: sop_instance,
        }
        self.send(context, command, data)
        return self.receive()

    def find(self, keys: Mapping[int, str], *, model: str = STUDY_ROOT_FIND) -> list[Reply]:
        """Send a C-FIND-RQ and return every response, the final one last."""
        self._request(model, 0x0020, identifier(keys))
        replies = [self.receive()]
        while replies[-1].status in _PENDING:
            replies.append(self.receive())
        return replies

    def get(self, keys: Mapping[int, str]) -> tuple[list[Received], Reply]:
        """Send a C-GET-RQ; accept every object and return them with the final response."""
        objects = list[Received]()
        final = None
        for reply in self._get_messages(keys):
            if reply.number(0x0100) == 0x0001:
                objects.append(
                    Received(
                        reply.text(0x0002),
                        reply.text(0x1000),
                        self.accepted[reply.context],
                        reply.data,
                    )
                )
            final = reply
        assert final is not None
        return objects, final

    def _get_messages(self, keys: Mapping[int, str]) -> Iterator[Reply]:
        self._request(STUDY_ROOT_GET, 0x0010, identifier(keys))
        while True:
            reply = self.receive()
            yield reply
            if reply.number(0x0100) == 0x0001:
                self._confirm_store(reply)
            elif reply.status not in _PENDING:
                return

    def _confirm_store(self, request: Reply) -> None:
        answer: Elements = {
            0x0002: request.text(0x0002),
            0x0100: 0x8001,
            0x0120: request.number(0x0110),
            0x0900: 0,
            0x1000: request.text(0x1000),
        }
        self.send(request.context, answer)

    def _request(self, model: str, command_field: int, keys: bytes) -> None:
        context = self.context_for(model, EXPLICIT_LE)
        command: Elements = {
            0x0002: model,
            0x0100: command_field,
            0x0110: self.next_id(),
            0x0700: 0,
        }
        self.send(context, command, keys)

    def next_id(self) -> int:
        """Return a fresh message ID."""
        self._message_id = self._message_id % 65535 + 1
        return self._message_id

    def send(
        self,
        context: int,
        command: Elements,
        data: bytes | Iterable[bytes] | None = None,
    ) -> None:
        """Send one message; (0000,0800) is filled in from whether there is a data set."""
        elements = {**command, 0x0800: 0x0101 if data is None else 0x0001}
        self.connection.sendall(pdata(context, command_set(elements), command=True, last=True))
        if data is None:
            return
        pending = b""
        for chunk in [data] if isinstance(data, bytes) else data:
            for fragment in self._fragments(chunk):
                if pending:
                    self.connection.sendall(pdata(context, pending, command=False, last=False))
                pending = fragment
        self.connection.sendall(pdata(context, pending, command=False, last=True))

    def _fragments(self, data: bytes) -> Iterator[bytes]:
        size = (self.peer_max_pdu or 1 << 17) - 6
        for offset in range(0, len(data), size):
            yield data[offset : offset + size]

    def receive(self) -> Reply:
        """Read one whole message; raises Closed on abort, release or a closed connection."""
        command = bytearray()
        reply = None
        data = list[bytes]()
        while True:
            for context, flags, fragment in _values(self._expect_data()):
                if flags & 1:
                    command += fragment
                    if flags & 2:
                        reply = Reply(context, _decode_command(bytes(command)))
                        if reply.number(0x0800) == 0x0101:
                            return reply
                else:
                    (self.on_data or data.append)(fragment)
                    if flags & 2:
                        assert reply is not None, "a data set came before its command"
                        reply.data = b"".join(data)
                        return reply

    def read_pdu(self) -> Pdu:
        """Read one protocol data unit; raises Closed at the end of the stream."""
        kind, length = _PDU_HEADER.unpack(self._read(6))
        return Pdu(kind, self._read(length))

    def release(self) -> None:
        """Release the association and wait for the answer."""
        self.connection.sendall(pdu(RELEASE_RQ, bytes(4)))
        answer = self.read_pdu()
        if answer.kind != RELEASE_RP:
            raise Closed(f"PDU type {answer.kind} in answer to A-RELEASE-RQ")

    def _expect_data(self) -> bytes:
        answer = self.read_pdu()
        if answer.kind != P_DATA:
            raise Closed(f"PDU type {answer.kind} instead of data: {answer.body!r}")
        return answer.body

    def _read(self, count: int) -> bytes:
        content = bytearray(count)
        view = memoryview(content)
        while view:
            got = self.connection.recv_into(view)
            if not got:
                raise Closed("the peer closed the connection")
            view = view[got:]
        return bytes(content)

    def _take_accept(self, body: bytes) -> None:
        for kind, content in _items(body[68:]):
            if kind == 0x21:
                context_id, result = content[0], content[2]
                self.results[context_id] = result
                if result == 0:
                    syntax = dict(_items(content[4:]))[0x40]
                    self.accepted[context_id] = syntax.decode().rstrip("\0 ")
            elif kind == 0x50:
                maximum = dict(_items(content)).get(0x51, bytes(4))
                self.peer_max_pdu = int.from_bytes(maximum, "big")


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        kind, length = struct.unpack_from(">BxH", content)
        yield kind, content[4 : 4 + length]
        content = content[4 + length :]


def _values(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset < len(body):
        length, context, flags = struct.unpack_from(">IBB", body, offset)
        yield context, flags, body[offset + 6 : offset + 4 + length]
        offset += 4 + length


def _decode_command(content: bytes) -> dict[int, bytes]:
    elements = {}
    offset = 0
    while offset < len(content):
        _, tag, length = struct.unpack_from("<HHI", content, offset)
        elements[tag] = content[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return elements


@dataclass(frozen=True)
class Request:
    """What an association request says about its sender."""

    called: bytes
    calling: bytes
    max_pdu: int


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """Listen on a port of our own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_DEADLINE_S)
        yield server


def next_request(server: socket.socket) -> Request:
    """Read an association request, byte by byte as it came, and hang up."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(WAIT_DEADLINE_S)
        data = b""
        while len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
            piece = connection.recv(65536)
            assert piece, f"the connection ended after {data!r}"
            data += piece
    # Maximum length sub-item (PS3.8 D.1.1).
    at = data.index(b"\x51\x00\x00\x04")
    return Request(data[10:26], data[26:42], int.from_bytes(data[at + 4 : at + 8], "big"))
