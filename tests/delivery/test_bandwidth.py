"""Who may send how much, when."""

from __future__ import annotations

import threading

from dgate.clock import SystemClock
from dgate.config.node_settings import Rate
from dgate.delivery.bandwidth import LARGEST_PIECE, SMALLEST_PIECE, Bucket
from tests.delivery.kit import StillClock


class Waits:
    """A clock that moves by what is waited for."""

    def __init__(self, bucket: Bucket, clock: StillClock) -> None:
        self.waits: list[float] = []
        self._clock = clock
        bucket._signal.wait = self.wait  # type: ignore[method-assign,assignment]

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self._clock.time += timeout
        return False


def go_on() -> bool:
    return False


def test_rate_is_kept_over_many_pieces() -> None:
    clock = StillClock()
    bucket = Bucket(clock, (Rate(80.0),))  # 10,000 bytes in a second
    Waits(bucket, clock)
    begun = clock.time

    for _ in range(100):
        bucket.take(1000, go_on)

    # The first piece goes at once, and a little of what was not used is made up for.
    assert 9.8 <= clock.time - begun <= 10.0


def test_no_limit_means_no_waiting() -> None:
    clock = StillClock()
    bucket = Bucket(clock, (Rate(0.0),))
    waits = Waits(bucket, clock)

    bucket.take(10**9, go_on)

    assert bucket.piece_bytes() == 0
    assert waits.waits == []
    assert not Bucket(clock).is_limited


def test_chunks_are_cut_into_pieces_and_nothing_is_lost() -> None:
    clock = StillClock()
    bucket = Bucket(clock, (Rate(80.0),))
    Waits(bucket, clock)
    chunks = [bytes(range(256)) * 10, b"", b"x", memoryview(b"yz" * 3000)]

    pieces = list(bucket.paced(chunks, go_on))

    assert b"".join(pieces) == b"".join(bytes(chunk) for chunk in chunks)
    assert max(len(piece) for piece in pieces) <= SMALLEST_PIECE


def test_pieces_are_neither_tiny_nor_huge() -> None:
    clock = StillClock()

    assert Bucket(clock, (Rate(0.001),)).piece_bytes() == SMALLEST_PIECE
    assert Bucket(clock, (Rate(10**7),)).piece_bytes() == LARGEST_PIECE


def test_who_is_stopped_waits_no_longer() -> None:
    bucket = Bucket(StillClock(), (Rate(0.001),))
    stopped = threading.Event()
    sent: list[bytes] = []

    def send() -> None:
        sent.extend(bytes(piece) for piece in bucket.paced([bytes(5000)], stopped.is_set))

    thread = threading.Thread(target=send)
    thread.start()
    stopped.set()
    bucket.wake()
    thread.join(60.0)

    assert not thread.is_alive()
    assert sum(map(len, sent)) == 5000


def test_higher_rate_ends_a_wait_for_a_low_one() -> None:
    bucket = Bucket(SystemClock(), (Rate(0.001),))
    bucket.take(1000, go_on)
    thread = threading.Thread(target=bucket.take, args=(1000, go_on))
    thread.start()
    bucket.change((Rate(0.0),))
    thread.join(60.0)

    assert not thread.is_alive()
