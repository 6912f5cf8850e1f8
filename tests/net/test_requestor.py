"""Opening associations to peers that answer, refuse, lie or stay silent."""

from __future__ import annotations

import socket
import struct

import pytest

from dgate.config.soplist import SopList
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, JPEG_BASELINE, VERIFICATION
from dgate.errors import (
    Aborted,
    ConfigError,
    PeerError,
    ProtocolError,
    Rejected,
    TimedOut,
    Unreachable,
)
from dgate.net import Association, ContextProposal, Policy, Timeouts, connect, echo
from dgate.net.associate import (
    Answer,
    AssociateAccept,
    AssociateRequest,
    UserInformation,
    decode_request,
    encode_accept,
)
from tests.net.kit import (
    CT,
    FAST,
    INVALID_PARAMETER,
    PATIENCE_S,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    Raw,
    Server,
    dead_port,
    p_data,
    pdu,
    scripted_peer,
    serving,
)

pytestmark = pytest.mark.integration

ECHO = ContextProposal(VERIFICATION, (IMPLICIT_LE,))


def open_to(port: int, *contexts: ContextProposal, timeouts: Timeouts = FAST) -> Association:
    return connect("127.0.0.1", port, "US", "THEM", contexts or (ECHO,), timeouts=timeouts)


def read_request(raw: Raw) -> AssociateRequest:
    kind, body = raw.read_pdu()
    assert kind == 1
    return decode_request(body)


def accept(raw: Raw, max_pdu: int = 0) -> None:
    """Play an acceptor that takes the first syntax of every context."""
    wanted = read_request(raw)
    answers = tuple(Answer(item.id, 0, item.transfer_syntaxes[0]) for item in wanted.proposals)
    user = UserInformation(max_pdu=max_pdu)
    raw.send(encode_accept(AssociateAccept(wanted.called, wanted.calling, answers, user)))


def test_an_association_knows_its_parties_and_contexts(server: Server) -> None:
    with open_to(server.port, ECHO, ContextProposal(CT, (EXPLICIT_LE, IMPLICIT_LE))) as association:
        assert (association.calling, association.called) == ("US", "THEM")
        assert association.peer == ("127.0.0.1", server.port)
        assert not association.is_acceptor
        assert association.peer_max_pdu == 131072
        assert association.peer_implementation.startswith("2.25.")
        (context,) = association.contexts_for(CT)
        assert (context.id, context.transfer_syntax) == (3, EXPLICIT_LE)
        assert (context.scu_role, context.scp_role) == (True, False)
        assert echo(association).status == 0
    assert not association.is_open

    served = server.served[0]
    assert (served.calling, served.called, served.is_acceptor) == ("US", "THEM", True)


def test_refused_contexts_are_told_with_their_result() -> None:
    policy = Policy(SopList(abstract=frozenset({VERIFICATION}), transfer=frozenset({IMPLICIT_LE})))
    with serving(policy) as server:
        contexts = (
            ECHO,
            ContextProposal(CT, (IMPLICIT_LE,)),
            ContextProposal(VERIFICATION, (JPEG_BASELINE,)),
        )
        with open_to(server.port, *contexts) as association:
            assert list(association.contexts) == [1]
            assert association.refused == {3: 3, 5: 4}


def test_the_scp_role_is_proposed_where_asked(server: Server) -> None:
    contexts = (ECHO, ContextProposal(CT, (IMPLICIT_LE,), scp_role=True))
    with open_to(server.port, *contexts) as association:
        assert association.contexts[3].scp_role
        assert not association.contexts[1].scp_role


def test_titles_can_be_padded_with_nul() -> None:
    def script(raw: Raw) -> None:
        kind, body = raw.read_pdu()
        assert (kind, body[4:20], body[20:36]) == (1, b"THEM".ljust(16, b"\0"), b"US" + bytes(14))

    with scripted_peer(script) as port, pytest.raises(Aborted):
        connect("127.0.0.1", port, "US", "THEM", (ECHO,), pad_with_zeros=True)


# Nobody there


def test_a_closed_port_is_unreachable() -> None:
    with dead_port() as port, pytest.raises(Unreachable, match=f"THEM at 127.0.0.1:{port}"):
        open_to(port)


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        connect("no-such-host.invalid", 104, "US", "THEM", (ECHO,))


@pytest.mark.parametrize("host", ["", "x" * 300, "a..b"])
def test_a_host_name_that_cannot_be_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable):
        connect(host, 1, "US", "THEM", (ECHO,), timeouts=FAST)


def test_an_impossible_port_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        open_to(70000)


def test_a_full_backlog_is_unreachable_after_the_connect_time() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = []
        try:
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
            with pytest.raises(Unreachable, match=r"no connection within 0\.05 s"):
                open_to(port, timeouts=Timeouts(connect_s=0.05))
        finally:
            for filler in fillers:
                filler.close()


# Answers that are none


@pytest.mark.parametrize(
    ("result", "source", "reason", "words"),
    [(1, 1, 7, "called AE title not recognised"), (2, 3, 1, "temporary congestion")],
)
def test_a_rejection_is_told_with_its_reason(
    result: int, source: int, reason: int, words: str
) -> None:
    def script(raw: Raw) -> None:
        read_request(raw)
        raw.send(pdu(3, bytes((0, result, source, reason))))
        assert raw.is_ended()

    with scripted_peer(script) as port, pytest.raises(Rejected, match=words) as caught:
        open_to(port)
    assert (caught.value.result, caught.value.source, caught.value.reason) == (
        result,
        source,
        reason,
    )


def test_a_peer_that_does_not_answer_times_out() -> None:
    def script(raw: Raw) -> None:
        read_request(raw)
        assert raw.is_ended()

    with scripted_peer(script) as port, pytest.raises(TimedOut):
        open_to(port, timeouts=Timeouts(artim_s=0.05))


@pytest.mark.parametrize("answer", [b"", b"\2\0\0\0", pdu(7, b"\0\0\2\0")])
def test_a_peer_that_leaves_or_aborts_is_told(answer: bytes) -> None:
    def script(raw: Raw) -> None:
        read_request(raw)
        raw.send(answer)

    with scripted_peer(script) as port, pytest.raises(Aborted):
        open_to(port)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (pdu(2, b"", 300_000_000), INVALID_PARAMETER),
        (pdu(2, bytes(100)), INVALID_PARAMETER),
        (pdu(3, bytes(5)), INVALID_PARAMETER),
        (pdu(1, bytes(100)), UNEXPECTED_PDU),
        (p_data(1, 3, b"abc"), UNEXPECTED_PDU),
        (pdu(6, bytes(4)), UNEXPECTED_PDU),
        (pdu(0x88, bytes(4)), UNRECOGNIZED_PDU),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", UNRECOGNIZED_PDU),
    ],
    ids=["huge", "garbage", "long reject", "request", "data", "release", "unknown", "HTTP"],
)
def test_an_answer_that_is_none_is_aborted(answer: bytes, expected: tuple[int, int]) -> None:
    def script(raw: Raw) -> None:
        read_request(raw)
        raw.send(answer)
        assert raw.abort_reason() == expected

    with scripted_peer(script) as port, pytest.raises(ProtocolError):
        open_to(port)


def test_an_acceptor_whose_maximum_pdu_leaves_no_room_is_aborted() -> None:
    def script(raw: Raw) -> None:
        accept(raw, max_pdu=20)
        assert raw.abort_reason() == INVALID_PARAMETER

    with scripted_peer(script) as port, pytest.raises(ProtocolError, match="length of 20"):
        open_to(port)


# What cannot be asked


@pytest.mark.parametrize("title", ["", " ", "x" * 17, "MÜLLER", "A\nB"])
def test_a_title_that_dicom_cannot_carry_is_refused(title: str) -> None:
    with pytest.raises(ConfigError, match="AE title"):
        connect("127.0.0.1", 1, "US", title, (ECHO,))


@pytest.mark.parametrize("count", [0, 129])
def test_a_number_of_contexts_that_dicom_cannot_carry_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"{count} presentation contexts"):
        connect("127.0.0.1", 1, "US", "THEM", (ECHO,) * count)


# Ends


def test_a_release_is_waited_for() -> None:
    def script(raw: Raw) -> None:
        accept(raw)
        assert raw.read_pdu() == (5, bytes(4))
        raw.send(p_data(1, 3, b"what was still to be said") + pdu(6, bytes(4)))
        assert raw.is_ended()

    with scripted_peer(script) as port:
        association = open_to(port)
        association.release()
        association.release()
    assert not association.is_open


def test_both_sides_may_release_at_once() -> None:
    def script(raw: Raw) -> None:
        accept(raw)
        raw.send(pdu(5, bytes(4)))
        assert raw.read_pdu()[0] == 5
        assert raw.read_pdu()[0] == 6
        raw.send(pdu(6, bytes(4)))
        assert raw.is_ended()

    with scripted_peer(script) as port:
        open_to(port).release()


@pytest.mark.parametrize(
    "answer", [b"", pdu(7, bytes(4)), pdu(1, bytes(4)), pdu(4, b"", 1 << 31), b"\0\0\0\0\0\0"]
)
def test_a_release_that_is_not_answered_properly_is_an_end_all_the_same(answer: bytes) -> None:
    def script(raw: Raw) -> None:
        accept(raw)
        assert raw.read_pdu()[0] == 5
        raw.send(answer)

    with scripted_peer(script) as port:
        association = open_to(port)
        association.release()
    assert not association.is_open


def test_a_release_that_is_not_answered_is_given_up_in_time() -> None:
    def script(raw: Raw) -> None:
        accept(raw)
        assert raw.read_pdu()[0] == 5
        assert raw.is_ended()

    with scripted_peer(script) as port:
        association = open_to(port)
        association._stream.timeouts = Timeouts(artim_s=0.05, response_s=0.05)
        association.release()


def leave_with_an_error(port: int) -> None:
    with open_to(port):
        raise ValueError("a bug")


def test_leaving_with_an_error_aborts() -> None:
    def script(raw: Raw) -> None:
        accept(raw)
        assert raw.abort_reason() == (0, 0)

    with scripted_peer(script) as port, pytest.raises(ValueError, match="a bug"):
        leave_with_an_error(port)


def test_closing_says_nothing() -> None:
    def script(raw: Raw) -> None:
        accept(raw)
        assert raw.is_ended()

    with scripted_peer(script) as port:
        association = open_to(port)
        association.close()
        association.abort()
    with pytest.raises(PeerError):
        echo(association)


@pytest.mark.parametrize(
    "sent", [pdu(7, bytes(4)), pdu(5, bytes(4)), p_data(1, 3, b"x"), None], ids=repr
)
def test_an_idle_association_whose_peer_stirred_is_not_alive(sent: bytes | None) -> None:
    def script(raw: Raw) -> None:
        accept(raw)
        raw.read(1)
        if sent is None:
            raw.close()
        else:
            raw.send(sent)
            raw.read(1)

    with scripted_peer(script) as port:
        association = open_to(port)
        assert association.is_alive()
        association._stream.send([b"!"])
        assert association._stream._is_readable(PATIENCE_S)
        assert not association.is_alive()
        assert not association.is_open
        assert not association.is_alive()


def test_the_requestor_turns_nagle_off(server: Server) -> None:
    with open_to(server.port) as association:
        connected = association._stream._socket
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_peer_that_resets_at_once_is_told() -> None:
    def script(raw: Raw) -> None:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with scripted_peer(script) as port, pytest.raises((Aborted, Unreachable)):
        open_to(port)
