"""An acceptor's association: messages in any cut, answers, and its ends."""

from __future__ import annotations

import socket
import threading

import pytest

from dgate.dicom.payload import Payload
from dgate.errors import Aborted
from dgate.net import (
    STORAGE,
    Association,
    Command,
    CommandField,
    Message,
    Policy,
    PresentationContext,
    Router,
    Status,
    Timeouts,
)
from dgate.net.dimse import encode_command
from tests.net.kit import (
    CT,
    EVERYTHING,
    INVALID_PARAMETER,
    PATIENCE_S,
    STUDY_FIND,
    Raw,
    Server,
    echo_command,
    p_data,
    pdu,
    pdv,
    proposals,
    request,
    serving,
    store_command,
)

pytestmark = pytest.mark.integration

DATA = bytes(range(256)) * 20


# What is right


def test_a_command_and_its_data_set_arrive_in_any_cut(server: Server) -> None:
    command = store_command()
    with server.associate() as raw:
        for cut in (1, 7, 100):
            raw.send(p_data(3, 1, command[:cut]) + p_data(3, 3, command[cut:]))
            raw.send(p_data(3, 0, DATA[:cut]) + p_data(3, 0, b"") + p_data(3, 2, DATA[cut:]))
            assert raw.read_command().status == 0
        raw.release()

    assert server.objects == [DATA] * 3


def test_a_message_is_read_byte_by_byte(server: Server) -> None:
    stream = p_data(3, 3, store_command()) + p_data(3, 2, DATA[:100])
    with server.associate() as raw:
        for position in range(len(stream)):
            raw.send(stream[position : position + 1])
        assert raw.read_command().status == 0
        raw.release()

    assert server.objects == [DATA[:100]]


def test_several_fragments_and_messages_may_share_pdus(server: Server) -> None:
    command = store_command()
    with server.associate() as raw:
        message = (
            pdv(3, 1, command[:9]) + pdv(3, 3, command[9:]) + pdv(3, 0, DATA[:50]) + pdv(3, 2, b"z")
        )
        raw.send(pdu(4, message + message))
        assert raw.read_command().status == 0
        assert raw.read_command().status == 0
        raw.release()

    assert server.objects == [DATA[:50] + b"z"] * 2


def test_a_data_set_larger_than_all_buffers_arrives_whole(server: Server) -> None:
    data = DATA * 200
    fragment = 131072 - 6
    with server.associate() as raw:
        raw.send(p_data(3, 3, store_command()))
        for start in range(0, len(data), fragment):
            last = 2 if start + fragment >= len(data) else 0
            raw.send(p_data(3, last, data[start : start + fragment]))
        assert raw.read_command().status == 0
        raw.release()

    assert server.objects == [data[: 1 << 20]] or server.objects == [data]


def test_reserved_control_bits_are_ignored(server: Server) -> None:
    with server.associate() as raw:
        raw.send(p_data(1, 0xFF, echo_command()))
        assert raw.read_command().status == 0
        raw.release()


def test_the_response_has_the_ids_and_uids_of_the_request(server: Server) -> None:
    with server.associate() as raw:
        raw.send(p_data(3, 3, store_command(message_id=4711, instance="1.2.99")))
        raw.send(p_data(3, 2, DATA))
        answer = raw.read_command()
        raw.release()

    assert answer.command_field == CommandField.C_STORE_RSP
    assert answer.message_id_responded == 4711
    assert (answer.sop_class, answer.sop_instance) == (CT, "1.2.99")
    assert not answer.has_data_set


@pytest.mark.parametrize("max_pdu", [0, 64, 128, 4096, 16384, 0xFFFFFFFF])
def test_no_pdu_is_longer_than_the_peer_allows(max_pdu: int) -> None:
    identifier = DATA[:3000]

    def answer(association: Association, message: Message) -> None:
        association.respond(message, Status.PENDING, data=[identifier])
        association.respond(message)

    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): answer}
    command = encode_command(
        Command(command_field=0x20, message_id=1, has_data_set=True, sop_class=STUDY_FIND)
    )
    received = {0: b"", 1: b""}
    with (
        serving(handlers=handlers) as server,
        server.associate(request(*proposals(STUDY_FIND), max_pdu=max_pdu)) as raw,
    ):
        raw.send(p_data(1, 3, command) + p_data(1, 2, b"key"))
        while received[1].count(b"\x00\x09\x02\x00\x00\x00") < 2 or not received[0]:
            kind, body = raw.read_pdu()
            assert kind == 4
            assert max_pdu == 0 or len(body) <= max_pdu
            received[body[5] & 1] += body[6:]
        raw.release()

    assert received[0] == identifier


def test_a_payload_gets_every_byte_and_is_closed_whatever_happens() -> None:
    closed = []

    class Watched(Payload):
        __slots__ = ()

        def close(self) -> None:
            closed.append(self.size)
            super().close()

    def factory(
        association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        assert (context.abstract_syntax, command.sop_instance) == (CT, "1.2.3")
        return Watched()

    def keep(association: Association, message: Message) -> None:
        association.respond(message)

    with serving() as server:
        server.router = Router({(CommandField.C_STORE_RQ, STORAGE): keep}, factory)
        with server.associate() as raw:
            raw.send(p_data(3, 3, store_command()) + p_data(3, 2, DATA))
            assert raw.read_command().status == 0
            raw.send(p_data(3, 3, store_command()) + p_data(3, 0, DATA[:7]))
        assert isinstance(server.error(), Aborted)

    assert closed == [len(DATA), 7]


# Sending


def test_an_association_is_aborted_when_a_data_set_breaks_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def breaking() -> object:
        yield bytes(3 << 20)
        raise OSError("the disk is gone")

    def answer(association: Association, message: Message) -> None:
        association.respond(message, Status.PENDING, data=breaking())  # type: ignore[arg-type]

    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): answer}
    command = encode_command(Command(command_field=0x20, message_id=1, sop_class=STUDY_FIND))
    with (
        serving(handlers=handlers) as server,
        server.associate(request(*proposals(STUDY_FIND))) as raw,
    ):
        raw.send(p_data(1, 3, command))
        kind, _ = raw.read_pdu()
        while kind == 4:
            kind, _ = raw.read_pdu()
        assert kind == 7

    assert "the disk is gone" in caplog.text


def test_an_association_lives_on_when_a_data_set_fails_before_its_first_byte() -> None:
    def failing() -> object:
        raise OSError("the disk is gone")
        yield b""

    def answer(association: Association, message: Message) -> None:
        association.respond(message, Status.PENDING, data=failing())  # type: ignore[arg-type]

    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): answer}
    command = encode_command(Command(command_field=0x20, message_id=1, sop_class=STUDY_FIND))
    with (
        serving(handlers=handlers) as server,
        server.associate(request(*proposals(STUDY_FIND))) as raw,
    ):
        raw.send(p_data(1, 3, command))
        answer_received = raw.read_command()
        raw.release()

    assert answer_received.status == Status.PROCESSING_FAILURE
    assert answer_received.error_comment == "internal error, see the log"


# Ends


def test_a_release_is_answered_and_the_connection_closed(server: Server) -> None:
    with server.associate() as raw:
        raw.send(pdu(5, bytes(4)))
        assert raw.read_pdu() == (6, bytes(4))
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.is_ended()

    assert server.errors == []


def test_an_idle_association_holds_no_buffer() -> None:
    with (
        serving(EVERYTHING, Timeouts(idle_s=PATIENCE_S, read_s=0.05)) as quick,
        quick.associate() as raw,
    ):
        assert raw.echo().status == 0
        stream = quick.served[0]._stream
        waited = threading.Event()
        for _ in range(100):
            if not stream.buffer or waited.wait(0.05):
                break
        assert not stream.buffer
        assert raw.echo().status == 0
        raw.release()


def test_a_policy_limits_what_is_read() -> None:
    with serving(Policy(EVERYTHING.lists, max_pdu=4096)) as small, small.connect() as raw:
        assert raw.associate().user.max_pdu == 4096
        raw.send(p_data(3, 3, store_command()) + p_data(3, 2, bytes(4090)))
        assert raw.read_command().status == 0
        raw.send(p_data(3, 3, store_command()) + p_data(3, 2, bytes(4098)))
        assert raw.abort_reason() == INVALID_PARAMETER


def test_a_half_closed_peer_still_gets_its_answer(server: Server) -> None:
    with server.associate() as raw:
        raw.send(p_data(1, 3, echo_command()))
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.read_command().status == 0

    assert isinstance(server.error(), Aborted)


def test_nagle_is_off_and_keepalive_on_for_every_connection(server: Server) -> None:
    with Raw.to(server.port) as raw:
        raw.associate()
        connected = server.served[0]._stream._socket if server.served else None
        raw.echo()
        connected = connected or server.served[0]._stream._socket
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        raw.release()
