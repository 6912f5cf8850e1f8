"""Connections beyond the limit of connections: what each of them hears."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dgate.config.soplist import SopList
from dgate.net import Policy
from dgate.net import surplus as module
from dgate.net.associate import encode_request
from dgate.net.surplus import Surplus
from tests.net.kit import Raw, request, serving

CONGESTION = (3, (2, 3, 1))


@pytest.fixture
def surplus() -> Iterator[Surplus]:
    running = Surplus("test-surplus")
    yield running
    running.stop()


def pair(surplus: Surplus) -> tuple[Raw, bool]:
    """Return the peer's end of a connection that is turned away, and whether it was held."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        raw = Raw.to(listening.getsockname()[1])
        connected, _ = listening.accept()
    return raw, surplus.turn_away(connected)


def answer(raw: Raw) -> tuple[int, tuple[int, ...]]:
    raw.send(encode_request(request()))
    kind, body = raw.read_pdu()
    return kind, tuple(body[1:])


def test_each_request_is_answered_with_congestion(surplus: Surplus) -> None:
    with ExitStack() as stack:
        raws = [stack.enter_context(pair(surplus)[0]) for _ in range(50)]
        assert [answer(raw) for raw in raws] == [CONGESTION] * 50
        assert all(raw.is_ended() for raw in raws)


def test_a_request_in_pieces_is_answered(surplus: Surplus) -> None:
    raw, _ = pair(surplus)
    encoded = encode_request(request())
    with raw:
        raw.send(encoded[:3])
        kind, body = raw.read_pdu()
        raw.send(encoded[3:])
        assert (kind, tuple(body[1:])) == CONGESTION


def test_what_is_no_request_is_dropped(surplus: Surplus) -> None:
    raw, _ = pair(surplus)
    with raw:
        raw.send(b"GET / HTTP/1.0\r\n\r\n")
        assert raw.is_ended()


def test_who_says_nothing_is_dropped_in_the_end(
    surplus: Surplus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    raw, _ = pair(surplus)
    with raw:
        assert raw.is_ended()


def test_far_too_many_are_closed_at_once(surplus: Surplus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 1)
    first, held = pair(surplus)
    second, also_held = pair(surplus)
    with first, second:
        assert (held, also_held) == (True, False)
        assert second.is_ended()
        assert answer(first) == CONGESTION


def test_stop_ends_those_that_wait() -> None:
    running = Surplus("test-surplus")
    raw, _ = pair(running)
    running.stop()
    with raw:
        assert raw.is_ended()


def test_a_listener_that_is_flooded_answers_the_next_one() -> None:
    with serving(max_associations=1) as server, ExitStack() as stack:
        for _ in range(33):
            stack.enter_context(server.connect())
        late = stack.enter_context(server.connect())
        assert answer(late) == CONGESTION


def test_who_is_refused_for_good_is_not_told_to_come_back() -> None:
    policy = Policy(SopList(remote_ae=frozenset({"FRIEND"})))
    with (
        serving(policy, max_associations=1) as server,
        server.associate(request(calling="FRIEND")) as friend,
        server.connect() as stranger,
    ):
        stranger.send(encode_request(request(calling="STRANGER")))
        kind, body = stranger.read_pdu()
        assert (kind, tuple(body[1:])) == (3, (1, 1, 3))
        friend.release()
