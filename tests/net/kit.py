"""Peers for the tests of the upper layer: raw bytes on a socket, a server made of real parts."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence

from dgate.config.soplist import SopList
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, VERIFICATION
from dgate.net import (
    STORAGE,
    Association,
    Command,
    CommandField,
    Handler,
    Listener,
    Message,
    Policy,
    Router,
    Terms,
    Timeouts,
)
from dgate.net.associate import (
    AssociateAccept,
    AssociateRequest,
    Proposal,
    Role,
    UserInformation,
    decode_accept,
    encode_request,
)
from dgate.net.dimse import RESPONSE_BIT, decode_command, encode_command

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"

ABORT_BY_USER = (0, 0)
UNRECOGNIZED_PDU = (2, 1)
UNEXPECTED_PDU = (2, 2)
UNEXPECTED_PARAMETER = (2, 5)
INVALID_PARAMETER = (2, 6)

PATIENCE_S = 60.0
"""Longer than anything that is waited for; only a failing test takes that long."""

PATIENT = Timeouts(
    connect_s=PATIENCE_S,
    artim_s=PATIENCE_S,
    idle_s=PATIENCE_S,
    read_s=PATIENCE_S,
    write_s=PATIENCE_S,
    response_s=PATIENCE_S,
)
"""Times that no test waits for."""
FAST = PATIENT
EVERYTHING = Policy(SopList.accept_all())


def proposals(*abstract: str) -> tuple[Proposal, ...]:
    """Return presentation contexts 1, 3, 5... for abstract syntaxes."""
    return tuple(
        Proposal(2 * index + 1, uid, (EXPLICIT_LE, IMPLICIT_LE))
        for index, uid in enumerate(abstract)
    )


def request(
    *contexts: Proposal,
    calling: str = "RAW",
    called: str = "DGATE",
    max_pdu: int = 16384,
    roles: dict[str, Role] | None = None,
) -> AssociateRequest:
    """Return an A-ASSOCIATE-RQ; without contexts it proposes Verification and CT storage."""
    return AssociateRequest(
        called,
        calling,
        contexts or proposals(VERIFICATION, CT),
        UserInformation(max_pdu=max_pdu, roles=roles or {}),
    )


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    """Return a P-DATA-TF with one fragment (control: 1 = command, 2 = last)."""
    return pdu(4, pdv(context_id, control, fragment))


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    """Return a presentation data value."""
    return struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """Return a PDU, on request with a length that lies."""
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def echo_command(message_id: int = 1) -> bytes:
    """Return an encoded C-ECHO-RQ."""
    return encode_command(
        Command(command_field=CommandField.C_ECHO_RQ, message_id=message_id, sop_class=VERIFICATION)
    )


def store_command(message_id: int = 1, sop_class: str = CT, instance: str = "1.2.3") -> bytes:
    """Return an encoded C-STORE-RQ."""
    return encode_command(
        Command(
            command_field=CommandField.C_STORE_RQ,
            message_id=message_id,
            has_data_set=True,
            sop_class=sop_class,
            sop_instance=instance,
            priority=0,
        )
    )


class Raw:
    """The other end of a connection, as bytes."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(PATIENCE_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected

    @classmethod
    def to(cls, port: int, host: str = "127.0.0.1") -> Raw:
        """Connect."""
        return cls(socket.create_connection((host, port), PATIENCE_S))

    def send(self, data: bytes) -> None:
        """Send everything, as far as the other side still listens."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer when the connection ends before."""
        data = b""
        while len(data) < size:
            try:
                chunk = self.socket.recv(size - len(data))
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                break
            data += chunk
        return data

    def read_pdu(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU, (0, b"") at the end of the connection."""
        header = self.read(6)
        if len(header) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", header)
        return kind, self.read(length)

    def read_command(self) -> Command:
        """Return the command in the next PDU."""
        kind, body = self.read_pdu()
        assert kind == 4, f"PDU type {kind} instead of P-DATA-TF"
        assert body[5] == 3
        return decode_command(body[6:])

    def associate(self, wanted: AssociateRequest | None = None) -> AssociateAccept:
        """Set up an association."""
        self.send(encode_request(wanted or request()))
        kind, body = self.read_pdu()
        assert kind == 2, f"PDU type {kind} instead of A-ASSOCIATE-AC"
        return decode_accept(body)

    def echo(self) -> Command:
        """C-ECHO on context 1."""
        self.send(p_data(1, 3, echo_command()))
        return self.read_command()

    def release(self) -> None:
        """Release in good order."""
        self.send(pdu(5, bytes(4)))
        kind, _ = self.read_pdu()
        assert kind == 6, f"PDU type {kind} instead of A-RELEASE-RP"
        self.close()

    def abort_reason(self) -> tuple[int, int]:
        """Return source and reason of the A-ABORT that must come, and see the connection end."""
        kind, body = self.read_pdu()
        assert kind == 7, f"PDU type {kind} instead of A-ABORT"
        self.socket.shutdown(socket.SHUT_WR)
        assert self.read(1) == b""
        return body[2], body[3]

    def is_ended(self) -> bool:
        """Whether the other side closes without another byte."""
        return self.read(1) == b""

    def close(self) -> None:
        """Close."""
        self.socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Server:
    """A listener with handlers for C-ECHO and C-STORE that remember what came."""

    def __init__(
        self,
        policy: Policy = EVERYTHING,
        timeouts: Timeouts = FAST,
        handlers: dict[tuple[CommandField, str], Handler] | None = None,
        bind: str = "127.0.0.1",
        port: int = 0,
        max_associations: int = 10,
    ) -> None:
        self.objects: list[bytes] = []
        self.served: list[Association] = []
        self.errors: list[Exception] = []
        self.failed = threading.Semaphore(0)
        standard: dict[tuple[CommandField, str], Handler] = {
            (CommandField.C_ECHO_RQ, VERIFICATION): _succeed,
            (CommandField.C_STORE_RQ, STORAGE): self._store,
        }
        self.router = Router(standard | (handlers or {}))
        self.terms = Terms(policy, self._serve, max_associations, timeouts)
        self.listener = Listener(
            bind,
            port,
            lambda: self.terms,
            on_error=self._note,
        )
        self.listener.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listener.port

    def connect(self) -> Raw:
        """Return a connection to it."""
        return Raw.to(self.port)

    def associate(self, wanted: AssociateRequest | None = None) -> Raw:
        """Return a connection with an association on it."""
        raw = self.connect()
        try:
            raw.associate(wanted)
        except BaseException:
            raw.close()
            raise
        return raw

    def error(self) -> Exception:
        """Wait for the next association that ends badly and return why."""
        assert self.failed.acquire(timeout=PATIENCE_S)
        return self.errors.pop(0)

    def still_serves(self) -> bool:
        """Whether a fresh association can be set up, used and released."""
        with self.associate() as raw:
            answer = raw.echo()
            raw.release()
        return answer.status == 0

    def _serve(self, association: Association) -> None:
        self.served.append(association)
        self.router.run(association)

    def _store(self, association: Association, message: Message) -> None:
        assert message.payload is not None
        self.objects.append(bytes(message.payload.view()))
        association.respond(message)

    def _note(self, error: Exception, peer: str) -> None:
        self.errors.append(error)
        self.failed.release()


def _succeed(association: Association, message: Message) -> None:
    association.respond(message)


def answer_without_status(association: Association, message: Message) -> None:
    """Answer any request as some peers do, without Status (0000,0900)."""
    request = message.command
    response = Command(
        command_field=request.command_field | RESPONSE_BIT,
        message_id_responded=request.message_id,
        sop_class=message.context.abstract_syntax,
    )
    if request.command_field in (CommandField.C_MOVE_RQ, CommandField.C_GET_RQ):
        response.completed, response.failed = 2, 0
    association.send(message.context.id, response)


@contextlib.contextmanager
def serving(
    policy: Policy = EVERYTHING,
    timeouts: Timeouts = FAST,
    handlers: dict[tuple[CommandField, str], Handler] | None = None,
    bind: str = "127.0.0.1",
    port: int = 0,
    max_associations: int = 10,
) -> Iterator[Server]:
    """Run a server for the length of a `with` block."""
    server = Server(policy, timeouts, handlers, bind, port, max_associations)
    try:
        yield server
    finally:
        # What was cut ends at once, or when the machine gets round to it.
        assert server.listener.stop(0.0) or server.listener._await_end(PATIENCE_S)


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """Keep a port where nobody listens, and nobody else can meanwhile."""
    with socket.socket() as keeper:
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


@contextlib.contextmanager
def scripted_peer(script: Callable[[Raw], None]) -> Iterator[int]:
    """Accept one connection on a port and play `script` on it; failures in it fail the test."""
    failures: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_S)

        def play() -> None:
            try:
                with Raw(listening.accept()[0]) as raw:
                    script(raw)
            except BaseException as exc:
                failures.append(exc)

        thread = threading.Thread(target=play, name="scripted-peer")
        thread.start()
        yield listening.getsockname()[1]
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def pieces(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut data into pieces of the given sizes, the last one again and again."""
    start = 0
    position = 0
    while start < len(data):
        size = sizes[min(position, len(sizes) - 1)]
        yield data[start : start + size]
        start += size
        position += 1
