"""What a peer may send, and what happens when it sends anything else, or nothing."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgate.errors import Aborted, ProtocolError, TimedOut
from dgate.net import (
    Association,
    Command,
    CommandField,
    Message,
    Status,
    Timeouts,
)
from dgate.net.dimse import encode_command
from tests.net.kit import (
    INVALID_PARAMETER,
    PATIENCE_S,
    STUDY_FIND,
    UNEXPECTED_PARAMETER,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
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


# What is wrong


def lies(length: int) -> bytes:
    return struct.pack(">IBB", length, 1, 3) + echo_command()


GARBAGE: list[tuple[str, bytes, tuple[int, int]]] = [
    ("unknown PDU type", pdu(0x42, b"abc"), UNRECOGNIZED_PDU),
    ("PDU type 0", pdu(0, b""), UNRECOGNIZED_PDU),
    ("HTTP", b"GET / HTTP/1.1\r\n\r\n", UNRECOGNIZED_PDU),
    ("second A-ASSOCIATE-RQ", pdu(1, bytes(100)), UNEXPECTED_PDU),
    ("A-ASSOCIATE-AC", pdu(2, bytes(100)), UNEXPECTED_PDU),
    ("A-ASSOCIATE-RJ", pdu(3, bytes(4)), UNEXPECTED_PDU),
    ("A-RELEASE-RP", pdu(6, bytes(4)), UNEXPECTED_PDU),
    ("huge P-DATA", pdu(4, b"", 300_000_000), INVALID_PARAMETER),
    ("P-DATA just too large", pdu(4, b"", 131072 + 7), INVALID_PARAMETER),
    ("P-DATA of a few bytes", pdu(4, b"\0\0\0"), INVALID_PARAMETER),
    ("huge A-ASSOCIATE-RQ", pdu(1, b"", 300_000_000), INVALID_PARAMETER),
    ("A-RELEASE-RQ of wrong length", pdu(5, bytes(9)), INVALID_PARAMETER),
    ("A-ABORT of wrong length", pdu(7, bytes(9)), INVALID_PARAMETER),
    ("PDV longer than its PDU", pdu(4, lies(500)), INVALID_PARAMETER),
    ("PDV of negative length", pdu(4, lies(0xFFFFFFFF)), INVALID_PARAMETER),
    ("PDV of length 0", pdu(4, lies(0)), INVALID_PARAMETER),
    ("PDV of length 1", pdu(4, lies(1)), INVALID_PARAMETER),
    ("PDV shorter than its PDU", pdu(4, pdv(1, 1, b"ab") + b"xyz"), INVALID_PARAMETER),
    ("unknown context", p_data(99, 3, echo_command()), INVALID_PARAMETER),
    ("even context", p_data(2, 3, echo_command()), INVALID_PARAMETER),
    ("data set without command", p_data(3, 2, DATA), UNEXPECTED_PARAMETER),
    ("garbage command", p_data(1, 3, b"garbage" * 10), INVALID_PARAMETER),
    ("empty command", p_data(1, 3, b""), INVALID_PARAMETER),
    (
        "endless command",
        b"".join(p_data(1, 1, bytes(60_000)) for _ in range(2)),
        INVALID_PARAMETER,
    ),
    (
        "command of empty fragments",
        p_data(1, 1, b"") * 9,
        INVALID_PARAMETER,
    ),
    (
        "data set of empty fragments",
        p_data(3, 3, store_command()) + p_data(3, 0, b"") * 9,
        INVALID_PARAMETER,
    ),
    (
        "command in two contexts",
        p_data(1, 1, echo_command()[:9]) + p_data(3, 3, echo_command()[9:]),
        UNEXPECTED_PARAMETER,
    ),
    (
        "data set within a command",
        p_data(3, 1, store_command()[:9]) + p_data(3, 2, DATA),
        UNEXPECTED_PARAMETER,
    ),
    (
        "command within a data set",
        p_data(3, 3, store_command()) + p_data(3, 0, DATA) + p_data(1, 3, echo_command()),
        UNEXPECTED_PARAMETER,
    ),
    (
        "command instead of a data set",
        p_data(3, 3, store_command()) + p_data(1, 3, echo_command()),
        UNEXPECTED_PARAMETER,
    ),
    (
        "data set in another context",
        p_data(3, 3, store_command()) + p_data(1, 2, DATA),
        UNEXPECTED_PARAMETER,
    ),
    (
        "data set that was not announced",
        p_data(1, 3, echo_command()) + p_data(1, 2, DATA),
        UNEXPECTED_PARAMETER,
    ),
    (
        "release within a data set",
        p_data(3, 3, store_command()) + p_data(3, 0, DATA) + pdu(5, bytes(4)),
        UNEXPECTED_PDU,
    ),
    (
        "huge P-DATA within a data set",
        p_data(3, 3, store_command()) + p_data(3, 0, DATA) + pdu(4, b"", 1 << 31),
        INVALID_PARAMETER,
    ),
]


@pytest.mark.parametrize(
    ("stream", "expected"), [case[1:] for case in GARBAGE], ids=[case[0] for case in GARBAGE]
)
def test_what_the_protocol_forbids_is_answered_with_an_abort(
    server: Server, stream: bytes, expected: tuple[int, int]
) -> None:
    with server.associate() as raw:
        raw.send(stream)
        kind, body = raw.read_pdu()
        while kind == 4:
            kind, body = raw.read_pdu()
        assert (kind, body[2], body[3]) == (7, *expected)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.is_ended()

    assert isinstance(server.error(), ProtocolError)
    assert server.objects == []
    assert server.still_serves()


def test_an_abort_reaches_a_peer_that_is_still_sending(server: Server) -> None:
    with server.associate() as raw:
        raw.send(pdu(4, bytes(4_000_000), 300_000_000))
        assert raw.abort_reason() == INVALID_PARAMETER

    assert isinstance(server.error(), ProtocolError)


@settings(max_examples=60)
@given(stream=st.binary(min_size=1, max_size=60))
def test_random_bytes_never_harm_the_server(stream: bytes) -> None:
    with serving() as server:
        with server.associate() as raw:
            raw.send(stream)
            raw.socket.shutdown(socket.SHUT_WR)
            raw.read(10_000)
        assert server.still_serves()


VALID = p_data(1, 3, echo_command()) + p_data(3, 3, store_command()) + p_data(3, 2, DATA[:60])


@settings(max_examples=100)
@given(position=st.integers(0, len(VALID) - 1), value=st.integers(0, 255))
def test_one_wrong_byte_in_a_valid_stream_never_harms_the_server(position: int, value: int) -> None:
    stream = bytearray(VALID)
    stream[position] = value
    with serving() as server:
        with server.associate() as raw:
            raw.send(bytes(stream))
            raw.socket.shutdown(socket.SHUT_WR)
            raw.read(10_000)
        assert server.still_serves()


@pytest.mark.parametrize(
    "stream",
    [b"", p_data(1, 3, echo_command())[:9], p_data(3, 3, store_command()) + p_data(3, 0, DATA)],
    ids=["between messages", "within a command", "within a data set"],
)
def test_a_peer_that_vanishes_ends_its_association(server: Server, stream: bytes) -> None:
    with server.associate() as raw:
        raw.send(stream)

    assert isinstance(server.error(), Aborted)
    assert server.objects == []


def test_a_reset_connection_ends_its_association(server: Server) -> None:
    raw = server.associate()
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()

    assert isinstance(server.error(), Aborted)


@pytest.mark.parametrize(
    "before",
    [b"", p_data(3, 3, store_command()), p_data(3, 3, store_command()) + p_data(3, 0, DATA)],
    ids=["between messages", "after a command", "within a data set"],
)
def test_an_abort_of_the_peer_ends_its_association(server: Server, before: bytes) -> None:
    with server.associate() as raw:
        raw.send(before + pdu(7, b"\0\0\2\6"))
        assert raw.is_ended()

    error = server.error()
    assert isinstance(error, Aborted)
    assert "aborted by the peer's upper layer: invalid parameter" in str(error)
    assert "RAW at 127.0.0.1" in str(error)


def test_a_few_empty_fragments_do_no_harm(server: Server) -> None:
    with server.associate() as raw:
        raw.send(p_data(3, 1, b"") * 8 + p_data(3, 3, store_command()))
        raw.send(p_data(3, 0, b"") * 7 + p_data(3, 0, DATA) + p_data(3, 2, b""))
        assert raw.read_command().status == 0
        raw.release()
    assert server.objects == [DATA]


# Time-outs


QUICK = 0.05


@pytest.mark.parametrize(
    ("timeouts", "stream"),
    [
        (Timeouts(idle_s=QUICK), b""),
        (Timeouts(idle_s=QUICK), p_data(1, 3, echo_command())[:3]),
        (Timeouts(read_s=QUICK), p_data(1, 3, echo_command())[:20]),
        (Timeouts(read_s=QUICK), p_data(3, 3, store_command())),
        (Timeouts(read_s=QUICK), p_data(3, 3, store_command()) + p_data(3, 0, DATA)),
        (Timeouts(read_s=QUICK), p_data(3, 3, store_command()) + p_data(3, 2, DATA)[:-1]),
    ],
    ids=["idle", "in a header", "in a command", "before data", "between fragments", "in data"],
)
def test_silence_is_answered_with_an_abort_after_its_time(
    timeouts: Timeouts, stream: bytes
) -> None:
    with serving(timeouts=timeouts) as server:
        with server.associate() as raw:
            raw.send(stream)
            assert raw.abort_reason() == (0, 0)
        assert isinstance(server.error(), TimedOut)


def test_a_slow_peer_that_keeps_sending_is_not_cut_off() -> None:
    timeouts = Timeouts(read_s=2.0)
    stream = p_data(3, 3, store_command()) + p_data(3, 2, DATA[:40])
    silence = threading.Event()
    with serving(timeouts=timeouts) as server, server.associate() as raw:
        began = time.monotonic()
        for start in range(0, len(stream), 4):
            raw.send(stream[start : start + 4])
            silence.wait(0.05)
        assert time.monotonic() - began > timeouts.read_s, "it took too little to show anything"
        assert raw.read_command().status == 0
        raw.release()


def test_a_peer_that_takes_no_data_is_given_up() -> None:
    def flood(association: Association, message: Message) -> None:
        while True:
            association.respond(message, Status.PENDING, data=[bytes(1 << 20)])

    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): flood}
    command = encode_command(Command(command_field=0x20, message_id=1, sop_class=STUDY_FIND))
    with (
        serving(timeouts=Timeouts(write_s=QUICK), handlers=handlers) as server,
        server.associate(request(*proposals(STUDY_FIND))) as raw,
    ):
        raw.send(p_data(1, 3, command))
        assert isinstance(server.error(), TimedOut)


# C-CANCEL


def cancel(message_id: int) -> bytes:
    return p_data(
        1,
        3,
        encode_command(
            Command(command_field=CommandField.C_CANCEL_RQ, message_id_responded=message_id)
        ),
    )


def find_until(
    seen: list[object], looked: threading.Event, go_on: threading.Event
) -> Callable[[Association, Message], None]:
    """Return a C-FIND handler that notes what `cancelled` says before and after `go_on`."""

    def handle(association: Association, message: Message) -> None:
        seen.append(association.cancelled(message.command.message_id))
        looked.set()
        assert go_on.wait(PATIENCE_S)
        try:
            seen.append(association.cancelled(message.command.message_id))
        except Aborted as exc:
            seen.append(type(exc))
            raise
        association.respond(message, Status.CANCEL if seen[-1] else Status.SUCCESS)

    return handle


@pytest.mark.parametrize(
    ("stream", "expected", "follows"),
    [
        (cancel(9), True, 0xFE00),
        (cancel(8) + cancel(9), True, 0xFE00),
        (cancel(8), False, 0),
        (cancel(9)[:-1], False, 0),
        (p_data(1, 3, echo_command()), False, 0),
        (p_data(1, 3, b"garbage"), False, 0),
        (p_data(1, 1, b"part"), False, 0),
        (pdu(5, bytes(4)), False, 0),
        (pdu(7, bytes(4)), Aborted, None),
        (None, Aborted, None),
    ],
    ids=[
        "cancel",
        "cancel after a stale one",
        "of another message",
        "incomplete",
        "next command",
        "garbage",
        "part of a command",
        "release",
        "abort",
        "connection closed",
    ],
)
def test_a_cancel_is_seen_without_waiting(
    stream: bytes | None, expected: object, follows: int | None
) -> None:
    seen: list[object] = []
    looked, go_on = threading.Event(), threading.Event()
    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): find_until(seen, looked, go_on)}
    command = encode_command(Command(command_field=0x20, message_id=9, sop_class=STUDY_FIND))
    with (
        serving(handlers=handlers) as server,
        server.associate(request(*proposals(STUDY_FIND))) as raw,
    ):
        raw.send(p_data(1, 3, command))
        assert looked.wait(PATIENCE_S)
        if stream is None:
            raw.close()
        else:
            raw.send(stream)
        # The kernel may take its time even on one machine.
        assert server.served[0]._stream._is_readable(PATIENCE_S)
        go_on.set()
        if follows is not None:
            assert raw.read_command().status == follows
        else:
            assert isinstance(server.error(), Aborted)

    assert seen == [False, expected]


def test_a_cancel_that_crosses_the_final_response_is_ignored(server: Server) -> None:
    with server.associate() as raw:
        raw.send(cancel(1))
        assert raw.echo().status == 0
        raw.send(cancel(1) + cancel(2))
        assert raw.echo().status == 0
        raw.release()
