"""One connection: buffers, sends in parts, waits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dgate.errors import Aborted, TimedOut
from dgate.net.stream import BUFFER_BYTES, BufferPool, Stream, Timeouts
from tests.net.kit import FAST, PATIENCE_S, Raw

pytestmark = pytest.mark.integration


class Pair:
    """A stream and the raw other end of its connection."""

    def __init__(self, timeouts: Timeouts = FAST) -> None:
        self.pool = BufferPool()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.raw = Raw.to(listening.getsockname()[1])
            self.stream = Stream(listening.accept()[0], timeouts, self.pool, "the peer")

    def close(self) -> None:
        self.stream.close()
        self.raw.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def hasty() -> Iterator[Pair]:
    made = Pair(Timeouts(idle_s=0.05, read_s=0.05, write_s=0.05, response_s=0.05, artim_s=0.05))
    yield made
    made.close()


def take(stream: Stream, size: int) -> bytes:
    """Consume buffered input."""
    if stream.end - stream.start < size:
        stream.fill(size, PATIENCE_S)
    data = bytes(stream.view[stream.start : stream.start + size])
    stream.start += size
    return data


@pytest.mark.parametrize(("setting", "seconds"), [(300, 300.0), (5, 5.0), (0, 300.0), (-1, 300.0)])
def test_every_wait_on_an_association_follows_tcpiptimeout(setting: int, seconds: float) -> None:
    timeouts = Timeouts.of(setting)

    assert timeouts.idle_s == timeouts.response_s == seconds
    assert timeouts.read_s == timeouts.write_s == seconds
    assert (timeouts.connect_s, timeouts.artim_s) == (10.0, 30.0)


def test_input_is_read_in_pieces_of_any_size(pair: Pair) -> None:
    data = bytes(index % 251 for index in range(3 * BUFFER_BYTES))
    sender = threading.Thread(target=pair.raw.send, args=(data,))
    sender.start()

    received = b""
    size = 1
    while len(received) < len(data):
        received += take(pair.stream, min(size, len(data) - len(received)))
        size = size * 3 % 70_000 + 1
    sender.join()

    assert received == data


def test_as_much_as_the_buffer_holds_can_be_asked_for_at_any_position(pair: Pair) -> None:
    data = bytes(index % 251 for index in range(BUFFER_BYTES + 100))
    sender = threading.Thread(target=pair.raw.send, args=(data,))
    sender.start()

    assert take(pair.stream, 100) == data[:100]
    assert take(pair.stream, BUFFER_BYTES) == data[100:]
    sender.join()


def test_everything_is_sent_even_if_the_kernel_takes_only_parts(pair: Pair) -> None:
    buffers = [bytes((index,)) * 10_000 for index in range(100)]
    received = []
    reader = threading.Thread(target=lambda: received.append(pair.raw.read(1_000_000)))
    pair.stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pair.stream._socket.settimeout(PATIENCE_S)  # Makes every send return after what fits at once.
    reader.start()

    pair.stream.send(buffers)
    pair.stream.send([b"last"])
    pair.stream.send([b""])
    reader.join()

    assert received == [b"".join(buffers)]
    assert pair.raw.read(4) == b"last"


def test_a_peer_that_takes_nothing_is_given_up(hasty: Pair) -> None:
    with pytest.raises(TimedOut, match=r"the peer: the peer took no data for 0\.05 s"):
        hasty.stream.send([bytes(100_000_000)])


def test_silence_is_given_up_after_its_time(hasty: Pair) -> None:
    before = time.monotonic()
    with pytest.raises(TimedOut, match=r"the peer: nothing came from the peer within 0\.2 s"):
        hasty.stream.fill(1, 0.2)
    assert time.monotonic() - before >= 0.19

    hasty.raw.send(b"x")
    hasty.stream.fill(1, 0.2)
    with pytest.raises(TimedOut, match=r"nothing came from the peer within 0\.2 s"):
        hasty.stream.fill(2, 0.2)


def test_the_deadline_of_set_up_is_for_all_bytes_together(pair: Pair) -> None:
    pair.raw.send(b"abc")

    with pytest.raises(TimedOut):
        pair.stream.read_exactly(4, time.monotonic() + 0.05)


def test_the_end_of_input_is_told(pair: Pair) -> None:
    pair.raw.send(b"abc")
    pair.raw.socket.shutdown(socket.SHUT_WR)

    pair.stream.fill(3, PATIENCE_S)
    with pytest.raises(Aborted, match="the peer closed the connection"):
        pair.stream.fill(4, PATIENCE_S)
    with pytest.raises(Aborted):
        pair.stream.poll_input()
    with pytest.raises(Aborted):
        pair.stream.read_exactly(1, time.monotonic() + PATIENCE_S)


def test_polling_never_waits(pair: Pair) -> None:
    assert not pair.stream.poll_input()
    pair.raw.send(b"abc")
    assert pair.stream._is_readable(PATIENCE_S)
    assert pair.stream.poll_input()
    assert not pair.stream.poll_input()
    assert take(pair.stream, 3) == b"abc"


def test_polling_a_full_buffer_leaves_the_rest_where_it_is(pair: Pair) -> None:
    sender = threading.Thread(target=pair.raw.send, args=(bytes(BUFFER_BYTES + 10),))
    sender.start()
    pair.stream.fill(BUFFER_BYTES, PATIENCE_S)

    assert not pair.stream.poll_input()
    assert take(pair.stream, BUFFER_BYTES) == bytes(BUFFER_BYTES)
    assert take(pair.stream, 10) == bytes(10)
    sender.join()


def test_polling_sees_what_comes_after_a_buffer_was_used_up(pair: Pair) -> None:
    sender = threading.Thread(target=pair.raw.send, args=(bytes(BUFFER_BYTES),))
    sender.start()
    pair.stream.fill(BUFFER_BYTES, PATIENCE_S)
    sender.join()
    assert take(pair.stream, BUFFER_BYTES) == bytes(BUFFER_BYTES)

    pair.raw.send(b"more")
    assert pair.stream._is_readable(PATIENCE_S)
    assert pair.stream.poll_input()
    assert take(pair.stream, 4) == b"more"


def test_a_buffer_is_borrowed_when_input_comes_and_given_back_at_the_end(pair: Pair) -> None:
    assert not pair.stream.buffer
    pair.raw.send(b"x")
    pair.stream.fill(1, PATIENCE_S)
    borrowed = pair.stream.buffer
    assert len(borrowed) == BUFFER_BYTES

    pair.stream.close()
    pair.stream.close()

    assert pair.pool.take() is borrowed


def test_the_pool_keeps_a_few_buffers_only() -> None:
    pool = BufferPool()
    buffers = [pool.take() for _ in range(50)]
    for buffer in buffers:
        pool.give(buffer)

    assert len(pool._free) < 10


@pytest.mark.parametrize("how", ["cut", "cut_input"])
def test_another_thread_can_wake_the_owner(pair: Pair, how: str) -> None:
    waker = threading.Timer(0.02, getattr(pair.stream, how))
    waker.start()

    with pytest.raises(Aborted):
        pair.stream.fill(1, PATIENCE_S)
    waker.join()
    if how == "cut_input":
        pair.stream.send([b"still"])
        assert pair.raw.read(5) == b"still"


def test_a_closed_stream_can_be_cut_closed_and_finished(pair: Pair) -> None:
    pair.stream.close()

    pair.stream.cut()
    pair.stream.cut_input()
    pair.stream.finish(b"bye")
    with pytest.raises(Aborted):
        pair.stream.send([b"x"])
    with pytest.raises(Aborted):
        pair.stream.fill(1, PATIENCE_S)
    with pytest.raises(Aborted):
        pair.stream.send([b"x", b"y"])
    assert pair.stream.is_closed


def test_the_farewell_arrives_although_the_peer_is_still_sending(pair: Pair) -> None:
    pair.raw.send(bytes(100_000))
    finisher = threading.Thread(target=pair.stream.finish, args=(b"farewell",))
    finisher.start()
    pair.raw.send(bytes(100_000))

    assert pair.raw.read(8) == b"farewell"
    assert pair.raw.is_ended()
    pair.raw.close()
    finisher.join(PATIENCE_S)
    assert not finisher.is_alive()


def test_a_peer_that_never_closes_is_not_waited_for_long(hasty: Pair) -> None:
    before = time.monotonic()
    hasty.stream.finish(b"farewell")

    assert time.monotonic() - before < PATIENCE_S
    assert hasty.stream.is_closed
