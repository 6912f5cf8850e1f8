"""The acceptor's half of association set-up on one connection; the requestor's: test_requestor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.soplist import SopList
from dgate.dicom.uids import VERIFICATION
from dgate.errors import Aborted, DgateError, ProtocolError, TimedOut
from dgate.net import Association, Policy, Timeouts
from dgate.net.associate import AssociateRequest, decode_accept, encode_request
from dgate.net.handshake import accept
from dgate.net.stream import BufferPool, Stream
from tests.net.kit import (
    ABORT_BY_USER,
    CT,
    EVERYTHING,
    PATIENCE_S,
    PATIENT,
    Raw,
    pdu,
    proposals,
    request,
)

pytestmark = pytest.mark.integration

REQUESTED = encode_request(request())
TOO_LARGE = 1 << 31


@contextmanager
def accepting(
    policy: Policy = EVERYTHING,
    *,
    admit: Callable[[], bool] = lambda: True,
    timeouts: Timeouts = PATIENT,
) -> Iterator[tuple[Raw, Future[Association | None]]]:
    """Answer one connection in a thread; yields the other end of it, and what came of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        raw = Raw.to(listening.getsockname()[1])
        stream = Stream(listening.accept()[0], timeouts, BufferPool(), "somebody")
        try:
            yield raw, pool.submit(accept, stream, ("127.0.0.1", 1), "a1", policy, admit)
        finally:
            raw.close()
            stream.close()


def test_accepted_association_knows_its_parties() -> None:
    wanted = request(calling="CT1", called="GATE", max_pdu=30000)
    with accepting(replace(EVERYTHING, max_pdu=20000)) as (raw, outcome):
        raw.send(encode_request(wanted))
        kind, body = raw.read_pdu()
        association = outcome.result(PATIENCE_S)

    assert kind == 2
    assert decode_accept(body).user.max_pdu == 20000
    assert association is not None
    assert (association.calling, association.called) == ("CT1", "GATE")
    assert {each.abstract_syntax for each in association.contexts.values()} == {VERIFICATION, CT}


def test_whoever_is_refused_for_good_is_not_told_to_come_again() -> None:
    asked: list[int] = []
    policy = Policy(SopList(local_ae=frozenset({"OTHER"})))

    def admit() -> bool:
        asked.append(1)
        return False

    with accepting(policy, admit=admit) as (raw, outcome):
        raw.send(REQUESTED)
        kind, body = raw.read_pdu()
        raw.close()
        assert outcome.result(PATIENCE_S) is None

    assert kind == 3
    assert body[1] == 1
    assert asked == []


def test_whom_there_is_no_place_for_is_told_to_come_again() -> None:
    with accepting(admit=lambda: False) as (raw, outcome):
        raw.send(REQUESTED)
        kind, body = raw.read_pdu()
        raw.close()
        assert outcome.result(PATIENCE_S) is None

    assert (kind, tuple(body[1:4])) == (3, (2, 3, 1))


def test_requestor_of_nothing_that_is_taken_gets_its_answer_and_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with accepting(Policy(SopList(abstract=frozenset({"1.2.3"})))) as (raw, outcome):
        raw.send(encode_request(request(*proposals(CT))))
        kind, body = raw.read_pdu()
        raw.close()
        ended = outcome.result(PATIENCE_S)

    assert kind == 2
    assert [answer.result for answer in decode_accept(body).answers] != [0]
    # A known class in no known syntax ends the connection, an unknown class is a matter of the
    # list: either way nothing can be done on it.
    assert ended is None or not ended.contexts
    assert "got none of its 1 presentation contexts" in caplog.text


def test_title_of_a_stranger_writes_no_line_of_its_own_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = encode_request(request(calling="EVILTITLE")).replace(b"EVILTITLE", b"EVIL\nFAKE")
    policy = Policy(SopList(local_ae=frozenset({"OTHER"})))
    with accepting(policy) as (raw, outcome):
        raw.send(wanted)
        raw.read_pdu()
        raw.close()
        outcome.result(PATIENCE_S)

    assert "EVIL?FAKE" in caplog.text
    assert "EVIL\nFAKE" not in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        pdu(4, bytes(6)),
        pdu(2, bytes(80)),
        pdu(0x42, b""),
        pdu(1, b"", TOO_LARGE),
        pdu(1, bytes(20)),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["p-data", "accept", "unknown", "huge", "short", "http"],
)
def test_what_is_no_request_is_aborted(sent: bytes) -> None:
    with accepting() as (raw, outcome):
        raw.send(sent)
        raw.socket.shutdown(socket.SHUT_WR)
        kind, body = raw.read_pdu()
        raw.close()
        with pytest.raises(DgateError) as caught:
            outcome.result(PATIENCE_S)

    assert (kind, (body[2], body[3])) == (7, ABORT_BY_USER)
    assert isinstance(caught.value, ProtocolError)


def test_request_that_ends_before_its_length_is_the_peers_end() -> None:
    with accepting() as (raw, outcome):
        raw.send(REQUESTED[:-1])
        raw.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(Aborted):
            outcome.result(PATIENCE_S)


def test_abort_before_the_request_is_no_fault_of_the_protocol() -> None:
    with accepting() as (raw, outcome):
        raw.send(pdu(7, bytes(4)))
        with pytest.raises(Aborted, match="aborted before it asked"):
            outcome.result(PATIENCE_S)


def test_peer_that_says_nothing_is_given_up_after_the_artim_time() -> None:
    with accepting(timeouts=Timeouts(artim_s=0.05)) as (_, outcome), pytest.raises(TimedOut):
        outcome.result(PATIENCE_S)


def test_peer_that_dribbles_is_given_up_all_the_same() -> None:
    with accepting(timeouts=Timeouts(artim_s=0.2)) as (raw, outcome):
        raw.send(REQUESTED[:10])
        with pytest.raises(TimedOut):
            outcome.result(PATIENCE_S)


@given(st.data())
def test_damaged_request_is_answered_or_ends_but_never_crashes(data: st.DataObject) -> None:
    damaged = bytearray(REQUESTED)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(6, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with accepting() as (raw, outcome):
        raw.send(bytes(damaged))
        raw.socket.shutdown(socket.SHUT_WR)
        kind, _ = raw.read_pdu()
        raw.close()
        try:
            association = outcome.result(PATIENCE_S)
        except (ProtocolError, Aborted):
            assert kind in (0, 7)
        else:
            assert kind in (2, 3)
            assert association is None or kind == 2


def test_request_without_contexts_is_not_an_association() -> None:
    empty = replace(request(), proposals=())
    assert isinstance(empty, AssociateRequest)
    with accepting() as (raw, outcome):
        raw.send(encode_request(empty))
        kind, _ = raw.read_pdu()
        raw.close()
        try:
            found = outcome.result(PATIENCE_S)
        except ProtocolError:
            assert kind == 7
        else:
            assert found is None or not found.contexts
