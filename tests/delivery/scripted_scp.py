"""A store provider on a loopback port that misbehaves as it is told, PDU by PDU."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dgate.net import pdu
from dgate.net.associate import (
    Answer,
    AssociateAccept,
    AssociateRequest,
    UserInformation,
    decode_request,
    encode_accept,
)
from dgate.net.dimse import Command, decode_command, store_response
from tests.net.kit import Raw, p_data

PATIENCE_S = 60.0

Reply = Callable[["Guest", Command], None]
"""Answers a C-STORE, or does not."""


class Guest:
    """One connection of the provider."""

    def __init__(self, raw: Raw, peer: ScriptedScp) -> None:
        self.raw = raw
        self.peer = peer
        self.context = 1

    def answer(self, command: Command, status: int = 0) -> None:
        """Answer a C-STORE."""
        self.raw.send(p_data(self.context, 3, store_response(command, status)))

    def slowly(self, data: bytes, pause_s: float) -> None:
        """Send a byte now and then until all are sent or the test is over."""
        for place in range(len(data)):
            self.raw.send(data[place : place + 1])
            if self.peer.over.wait(pause_s):
                return


def status(code: int) -> Reply:
    """Answer every object with a status."""
    return lambda guest, command: guest.answer(command, code)


def abort(guest: Guest, command: Command) -> None:
    """Answer with A-ABORT."""
    guest.raw.send(pdu.abort(0, 0))
    guest.raw.close()


def hang_up(guest: Guest, command: Command) -> None:
    """Close the connection instead of answering."""
    guest.raw.close()


def hang(guest: Guest, command: Command) -> None:
    """Never answer."""
    guest.peer.over.wait(PATIENCE_S)


def trickle(guest: Guest, command: Command) -> None:
    """Answer a byte every 50 ms, padded so that it never comes to an end."""
    guest.slowly(p_data(guest.context, 3, store_response(command, 0)) + bytes(4000), 0.05)


def garbage(guest: Guest, command: Command) -> None:
    """Answer with what is no PDU."""
    guest.raw.send(b"HTTP/1.1 200 OK\r\n\r\n")


def release(guest: Guest, command: Command) -> None:
    """Ask for a release instead of answering."""
    guest.raw.send(pdu.RELEASE_RQ)


def late(pause_s: float) -> Reply:
    """Answer, but only after a while."""

    def reply(guest: Guest, command: Command) -> None:
        guest.peer.over.wait(pause_s)
        guest.answer(command)

    return reply


Welcome = Callable[[Guest, AssociateRequest], bool]
"""Answers an A-ASSOCIATE-RQ; True when the association goes on."""


def accept(guest: Guest, wanted: AssociateRequest) -> bool:
    """Accept every context in its first transfer syntax."""
    answers = tuple(Answer(p.id, 0, p.transfer_syntaxes[0]) for p in wanted.proposals)
    user = UserInformation(max_pdu=guest.peer.max_pdu)
    guest.raw.send(encode_accept(AssociateAccept(wanted.called, wanted.calling, answers, user)))
    return True


def accept_only(decide: Callable[[str, str], int]) -> Welcome:
    """Return a welcome that lets `decide` give the result for SOP class and syntax."""

    def welcome(guest: Guest, wanted: AssociateRequest) -> bool:
        answers = []
        for one in wanted.proposals:
            results = [(decide(one.abstract_syntax, uid), uid) for uid in one.transfer_syntaxes]
            result, uid = next((pair for pair in results if pair[0] == 0), results[0])
            answers.append(Answer(one.id, result, uid))
        user = UserInformation(max_pdu=guest.peer.max_pdu)
        accepted = AssociateAccept(wanted.called, wanted.calling, tuple(answers), user)
        guest.raw.send(encode_accept(accepted))
        return True

    return welcome


def reject(result: int, source: int, reason: int) -> Welcome:
    """Reject the association."""

    def welcome(guest: Guest, wanted: AssociateRequest) -> bool:
        guest.raw.send(pdu.reject(result, source, reason))
        return False

    return welcome


def hang_before_accept(guest: Guest, wanted: AssociateRequest) -> bool:
    """Never answer the A-ASSOCIATE-RQ."""
    guest.peer.over.wait(PATIENCE_S)
    return False


def abort_at_once(guest: Guest, wanted: AssociateRequest) -> bool:
    """Answer the A-ASSOCIATE-RQ with A-ABORT."""
    guest.raw.send(pdu.abort(2, 0))
    return False


def close_at_once(guest: Guest, wanted: AssociateRequest) -> bool:
    """Close the connection."""
    return False


@dataclass
class ScriptedScp:
    """What the provider is to do, and what it got. Change `welcome` and `reply` at any time."""

    welcome: Welcome = accept
    reply: Reply = field(default_factory=lambda: status(0))
    max_pdu: int = 16384
    reads: bool = True
    """Whether it reads what is sent to it."""
    port: int = 0
    arrived: list[str] = field(default_factory=list)
    """SOP instances of the C-STOREs that came, in order."""
    syntaxes: list[str] = field(default_factory=list)
    """Transfer syntaxes in which they came."""
    proposed: list[list[tuple[str, tuple[str, ...]]]] = field(default_factory=list)
    """SOP class and syntaxes of the contexts of each association."""
    at_once: int = 0
    """Associations that are open."""
    most_at_once: int = 0
    calls: int = 0
    """Connections that were made."""
    received_bytes: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, connected: socket.socket) -> None:
        """Play one connection."""
        with Raw(connected) as raw:
            guest = Guest(raw, self)
            with self.guard:
                self.calls += 1
            kind, body = raw.read_pdu()
            if kind != 1:
                return
            wanted = decode_request(body)
            names = [(one.abstract_syntax, one.transfer_syntaxes) for one in wanted.proposals]
            with self.guard:
                self.proposed.append(names)
            if not self.welcome(guest, wanted):
                return
            with self.guard:
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                self._objects(guest, wanted)
            finally:
                with self.guard:
                    self.at_once -= 1

    def _objects(self, guest: Guest, wanted: AssociateRequest) -> None:
        syntaxes = {one.id: one.transfer_syntaxes[0] for one in wanted.proposals}
        command: Command | None = None
        pieces = b""
        while True:
            if not self.reads:
                self.over.wait(PATIENCE_S)
                return
            kind, body = guest.raw.read_pdu()
            if kind == 5:
                guest.raw.send(pdu.RELEASE_RP)
                return
            if kind != 4:
                return
            with self.guard:
                self.received_bytes += len(body)
            place = 0
            while place < len(body):
                length = int.from_bytes(body[place : place + 4])
                guest.context, control = body[place + 4], body[place + 5]
                part = body[place + 6 : place + 4 + length]
                place += 4 + length
                if control & 1:
                    pieces += part
                    if control & 2:
                        command, pieces = decode_command(pieces), b""
                elif control & 2 and command is not None:
                    with self.guard:
                        self.arrived.append(command.sop_instance)
                        self.syntaxes.append(syntaxes[guest.context])
                    self.reply(guest, command)
                    command = None


@contextlib.contextmanager
def scripted_scp(**changes: object) -> Iterator[ScriptedScp]:
    """Run a provider; failures of its threads fail the test."""
    peer = ScriptedScp(**changes)  # type: ignore[arg-type]
    failures: list[BaseException] = []
    threads: list[threading.Thread] = []
    open_now: list[socket.socket] = []

    def play(connected: socket.socket) -> None:
        try:
            peer.serve(connected)
        except OSError:
            # The other side is gone, or the test is over.
            return
        except BaseException as exc:
            failures.append(exc)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer.port = listening.getsockname()[1]

        def listen() -> None:
            while True:
                try:
                    connected = listening.accept()[0]
                except OSError:
                    return
                open_now.append(connected)
                thread = threading.Thread(target=play, args=(connected,), name="scripted-scp")
                threads.append(thread)
                thread.start()

        listener = threading.Thread(target=listen, name="scripted-scp-listener")
        listener.start()
        try:
            yield peer
        finally:
            peer.over.set()
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            listener.join(PATIENCE_S)
            for connected in open_now:
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(PATIENCE_S)
            for connected in open_now:
                connected.close()
    if failures:
        raise failures[0]
