"""The listening port: set-up of associations, limits, and an orderly end."""

from __future__ import annotations

import dataclasses
import logging
import resource
import socket
import struct
import threading

import pytest

from dgate.config.soplist import SopList
from dgate.dicom.uids import EXPLICIT_LE, VERIFICATION
from dgate.errors import Aborted, DgateError, ProtocolError, TimedOut
from dgate.net import (
    STORAGE,
    Association,
    CommandField,
    Listener,
    Message,
    Policy,
    Terms,
    Timeouts,
)
from dgate.net.associate import Proposal, decode_accept, encode_request
from tests.acceptance.processes import wait_until
from tests.net.kit import (
    ABORT_BY_USER,
    CT,
    EVERYTHING,
    PATIENCE_S,
    Raw,
    Server,
    p_data,
    pdu,
    proposals,
    request,
    serving,
    store_command,
)

pytestmark = pytest.mark.integration

IDLE = Terms(EVERYTHING, lambda association: None)


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * resource.getpagesize()


# Before there is an association


@pytest.mark.parametrize(
    "stream",
    [
        pdu(1, b"", 300_000_000),
        pdu(1, bytes(10)),
        pdu(1, bytes(200)),
        pdu(2, bytes(100)),
        pdu(3, bytes(4)),
        pdu(4, p_data(1, 3, b"x")),
        pdu(5, bytes(4)),
        pdu(6, bytes(4)),
        pdu(0x55, bytes(4)),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=[
        "huge request",
        "short request",
        "empty request",
        "accept",
        "reject",
        "data",
        "release",
        "release reply",
        "unknown type",
        "HTTP",
        "TLS",
    ],
)
def test_what_is_no_request_is_aborted_before_there_is_an_association(
    server: Server, stream: bytes
) -> None:
    with server.connect() as raw:
        raw.send(stream)
        assert raw.abort_reason() == ABORT_BY_USER

    assert isinstance(server.error(), ProtocolError)
    assert server.served == []
    assert server.still_serves()


def test_300_megabytes_in_a_request_are_refused_at_its_header(server: Server) -> None:
    before = resident_bytes()

    with server.connect() as raw:
        raw.send(pdu(1, bytes(20_000_000), 300_000_000))
        raw.send(bytes(1))
        kind, _ = raw.read_pdu()
        assert kind in (7, 0)

    assert isinstance(server.error(), ProtocolError)
    # The 20 MB are also in this test's own process while they are sent.
    assert resident_bytes() - before < 40_000_000


def test_the_largest_possible_request_is_accepted(server: Server) -> None:
    contexts = [
        Proposal(2 * index + 1, f"1.2.{index}", tuple(f"1.3.{index}.{n}" for n in range(60)))
        for index in range(128)
    ]

    with server.connect() as raw:
        reply = raw.associate(request(*contexts))
        raw.release()

    assert [answer.result for answer in reply.answers] == [0] * 128


@pytest.mark.parametrize("sent", [0, 3, 6, 50])
def test_a_peer_that_does_not_ask_in_time_is_closed(sent: int) -> None:
    with serving(timeouts=Timeouts(artim_s=0.05)) as server, server.connect() as raw:
        raw.send(encode_request(request())[:sent])
        assert raw.is_ended()
        assert isinstance(server.error(), TimedOut)


def test_a_request_that_drips_is_not_given_more_time_for_each_byte() -> None:
    encoded = encode_request(request())
    never = threading.Event()
    with serving(timeouts=Timeouts(artim_s=0.3)) as server, server.connect() as raw:
        raw.socket.settimeout(0)
        ended = False
        for position in range(len(encoded)):
            raw.send(encoded[position : position + 1])
            never.wait(0.02)
            try:
                ended = raw.socket.recv(1) == b""
            except BlockingIOError:
                continue
            except ConnectionResetError:
                # A byte of ours came between its last look and the end.
                ended = True
            break
        assert ended
        assert position < len(encoded) - 1
        assert isinstance(server.error(), TimedOut)


@pytest.mark.parametrize("sent", [0, 3, 50])
def test_a_peer_that_leaves_before_it_has_asked_is_forgotten(server: Server, sent: int) -> None:
    with server.connect() as raw:
        raw.send(encode_request(request())[:sent])

    assert isinstance(server.error(), Aborted)


def test_a_rejection_names_the_peer_in_the_log_without_its_control_characters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = Policy(SopList(remote_ae=frozenset({"CT1"})))
    with serving(policy) as server, server.connect() as raw:
        raw.send(encode_request(request(calling="EVIL\nERROR x")))
        kind, body = raw.read_pdu()
        raw.close()

    assert (kind, tuple(body[1:])) == (3, (1, 1, 3))
    assert "EVIL?ERROR x at 127.0.0.1" in caplog.text


def test_nothing_acceptable_is_answered_and_the_connection_closed() -> None:
    policy = Policy(SopList(transfer=frozenset({EXPLICIT_LE})))
    with serving(policy) as server, server.connect() as raw:
        raw.send(encode_request(request(Proposal(1, CT, ("1.2.3",)))))
        kind, body = raw.read_pdu()
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.is_ended()

    assert kind == 2
    assert [answer.result for answer in decode_accept(body).answers] == [4]
    assert server.served == []


def test_an_unknown_caller_cannot_store_through_its_verification_context() -> None:
    policy = Policy(SopList(), allow_unknown=False)
    with serving(policy) as server, server.associate() as raw:
        assert raw.echo().status == 0
        raw.send(p_data(1, 3, store_command(sop_class=VERIFICATION)) + p_data(1, 2, b"data"))
        assert raw.read_command().status == 0x0122
        raw.send(p_data(1, 3, store_command(sop_class=CT)) + p_data(1, 2, b"data"))
        assert raw.read_command().status == 0x0122
        raw.release()

    assert server.objects == []


def test_terms_can_be_replaced_while_running(server: Server) -> None:
    with server.associate() as before:
        policy = Policy(SopList(abstract=frozenset({VERIFICATION})))
        server.terms = dataclasses.replace(server.terms, policy=policy)
        with server.connect() as after:
            reply = after.associate()
            after.release()
        before.send(p_data(3, 3, store_command()) + p_data(3, 2, b"data"))
        assert before.read_command().status == 0
        before.release()

    assert [answer.result for answer in reply.answers] == [0, 3]


# Many


def test_an_association_beyond_the_limit_is_told_to_come_back() -> None:
    with serving(max_associations=2) as server:
        first, second = server.associate(), server.associate()
        assert server.listener.active == 2
        with server.connect() as third:
            third.send(encode_request(request()))
            kind, body = third.read_pdu()
            assert (kind, tuple(body[1:])) == (3, (2, 3, 1))
        first.release()
        wait_until(lambda: server.listener.active < 2, "a place for another")
        assert server.still_serves()
        second.release()


def test_connections_without_a_request_do_not_take_the_place_of_associations() -> None:
    with serving(max_associations=2) as server:
        silent = [server.connect() for _ in range(20)]
        assert server.still_serves()
        for raw in silent:
            raw.close()


def test_a_flood_of_silent_connections_is_cut_off() -> None:
    with serving(max_associations=1) as server:
        silent = [server.connect() for _ in range(40)]
        # It is waited for a while for its request, which could still be answered.
        assert silent[-1].is_ended()
        for raw in silent:
            raw.close()


def test_100_idle_associations_cost_no_time_and_little_memory() -> None:
    with serving(max_associations=100) as server:
        before = resident_bytes()
        raws = [server.associate() for _ in range(100)]
        for raw in raws:
            assert raw.echo().status == 0
        growth = resident_bytes() - before
        # Each wakes up once more, to give its buffer back.
        wait_until(
            lambda: not any(association._stream.buffer for association in server.served),
            "associations at rest",
        )
        # Not processor time, which a busy machine makes more of. A single look of each would
        # be a hundred.
        woken = -resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        threading.Event().wait(0.5)
        woken += resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        for raw in raws:
            raw.release()

    assert growth < 20_000_000
    assert woken < 50


# Addresses


def test_both_ip_versions_are_served_when_no_address_is_given() -> None:
    with serving(bind="") as server:
        for host in ("127.0.0.1", "::1"):
            with Raw.to(server.port, host) as raw:
                raw.associate()
                assert raw.echo().status == 0
                raw.release()

    assert [association.peer[0] for association in server.served] == ["127.0.0.1", "::1"]


def test_an_ipv6_address_can_be_given() -> None:
    with serving(bind="::1") as server, Raw.to(server.port, "::1") as raw:
        raw.associate()
        raw.release()


def test_a_port_in_use_is_named_in_the_error(server: Server) -> None:
    second = Listener("127.0.0.1", server.port, lambda: IDLE)

    with pytest.raises(DgateError, match=f"port {server.port} cannot be opened: it is in use"):
        second.start()


def test_an_address_that_is_not_ours_is_named_in_the_error() -> None:
    listener = Listener("192.0.2.1", 0, lambda: IDLE)

    with pytest.raises(DgateError, match=r"listening on 192\.0\.2\.1"):
        listener.start()


def test_an_impossible_port_is_an_error_of_dgate() -> None:
    with pytest.raises(DgateError, match="port 70000"):
        Listener("", 70000, lambda: IDLE).start()


def test_a_port_comes_back_at_once_after_a_restart(server: Server) -> None:
    port = server.port
    raw = server.associate()
    assert server.listener.stop(PATIENCE_S)
    assert raw.read_pdu()[0] == 7

    with serving(port=port) as restarted:
        assert restarted.still_serves()
    with serving(port=port) as again:
        assert again.still_serves()
    raw.close()


# The end


def test_stop_ends_idle_associations_at_once_with_an_abort(server: Server) -> None:
    raws = [server.associate() for _ in range(3)]

    assert server.listener.stop(PATIENCE_S)

    for raw in raws:
        assert raw.read_pdu()[0] == 7
        raw.close()
    assert server.errors == []


def test_stop_ends_connections_that_have_not_asked_yet(server: Server) -> None:
    with server.connect() as raw, server.associate() as other:
        assert other.echo().status == 0
        assert server.listener.stop(PATIENCE_S)
        assert raw.is_ended()


def test_stop_lets_an_operation_finish() -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(association: Association, message: Message) -> None:
        started.set()
        assert go_on.wait(PATIENCE_S)
        association.respond(message)

    with (
        serving(handlers={(CommandField.C_STORE_RQ, STORAGE): slow}) as server,
        server.associate() as raw,
    ):
        raw.send(p_data(3, 3, store_command()) + p_data(3, 2, b"data"))
        assert started.wait(PATIENCE_S)
        stopper = threading.Thread(target=server.listener.stop, args=(PATIENCE_S,))
        stopper.start()
        go_on.set()
        assert raw.read_command().status == 0
        assert raw.read_pdu()[0] == 7
        raw.close()
        stopper.join(PATIENCE_S)
        assert not stopper.is_alive()


def test_stop_lets_an_object_arrive_whole_and_answers_it(server: Server) -> None:
    with server.associate() as raw:
        raw.send(p_data(3, 3, store_command()) + p_data(3, 0, b"da"))
        stopped = []
        stopper = threading.Thread(target=lambda: stopped.append(server.listener.stop(PATIENCE_S)))
        while not server.served or server.served[0]._waiting:
            threading.Event().wait(0.001)
        stopper.start()
        while server.listener._socket is not None:
            threading.Event().wait(0.001)
        raw.send(p_data(3, 2, b"ta"))
        assert raw.read_command().status == 0
        assert raw.read_pdu()[0] == 7
        raw.close()
        stopper.join(PATIENCE_S)

    assert stopped == [True]
    assert server.objects == [b"data"]


def test_stop_cuts_what_does_not_end_in_time(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server, server.associate() as raw:
        raw.send(p_data(3, 3, store_command()) + p_data(3, 0, b"da"))
        while not server.served or server.served[0]._waiting:
            threading.Event().wait(0.001)
        assert server.listener.stop(0.01) or server.listener._await_end(PATIENCE_S)
        raw.read(100)

    assert "did not end in time and was cut" in caplog.text


def test_stop_tells_when_a_handler_hangs() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hang(association: Association, message: Message) -> None:
        entered.set()
        go_on.wait(PATIENCE_S)

    handlers = {(CommandField.C_STORE_RQ, STORAGE): hang}
    with serving(handlers=handlers) as server, server.associate() as raw:
        raw.send(p_data(3, 3, store_command()) + p_data(3, 2, b"data"))
        assert entered.wait(PATIENCE_S)
        assert not server.listener.stop(0.0)
        go_on.set()
        for thread in threading.enumerate():
            if "-assoc-" in thread.name:
                thread.join(PATIENCE_S)


def test_stop_is_safe_to_call_twice_and_before_start(server: Server) -> None:
    assert server.listener.stop(0.0)
    assert server.listener.stop(0.0)
    assert Listener("", 0, lambda: IDLE).stop(0.0)


def test_no_thread_is_left_after_stop(server: Server) -> None:
    assert server.still_serves()
    raw = server.associate()
    names = [thread.name for thread in threading.enumerate()]
    assert "dicom-listener" in names
    assert any(name.startswith("dicom-assoc-") for name in names)

    assert server.listener.stop(PATIENCE_S)

    def is_left() -> bool:
        return any(thread.name.startswith("dicom-") for thread in threading.enumerate())

    # A thread is told to be at its end a moment before it is.
    wait_until(lambda: not is_left(), "the end of the threads")
    raw.close()


def test_an_error_of_a_service_aborts_only_its_association(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(association: Association) -> None:
        raise ValueError("a bug")

    listener = Listener("127.0.0.1", 0, lambda: Terms(EVERYTHING, broken))
    listener.start()
    try:
        for _ in range(2):
            with Raw.to(listener.port) as raw:
                raw.associate(request(*proposals(VERIFICATION)))
                assert raw.abort_reason() == ABORT_BY_USER
    finally:
        assert listener.stop(PATIENCE_S)

    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert errors[0].exc_info is not None


def test_a_connection_that_was_reset_at_once_harms_nothing(server: Server) -> None:
    for _ in range(20):
        raw = server.connect()
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()

    assert server.still_serves()
