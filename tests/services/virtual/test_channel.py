"""A queue between threads that either side can end."""

from __future__ import annotations

import threading

from dgate.services.virtual.channel import Channel

PATIENCE_S = 60.0


def in_thread(channel: Channel[int], *items: int) -> tuple[threading.Thread, list[bool]]:
    """Put items from another thread and say what became of each."""
    results: list[bool] = []

    def run() -> None:
        results.extend(channel.put(item) for item in items)
        channel.finish()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_items_come_out_in_order_and_then_it_is_finished() -> None:
    channel: Channel[int] = Channel(1, 2)
    thread, results = in_thread(channel, 1, 2, 3, 4)

    assert [channel.take(PATIENCE_S) for _ in range(5)] == [1, 2, 3, 4, None]
    thread.join(PATIENCE_S)
    assert channel.is_finished
    assert results == [True] * 4


def test_no_more_wait_than_there_is_room_for() -> None:
    channel: Channel[int] = Channel(1, 1)
    assert channel.put(1)
    thread, results = in_thread(channel, 2)
    thread.join(0.05)
    assert thread.is_alive()

    assert channel.take(PATIENCE_S) == 1
    thread.join(PATIENCE_S)
    assert results == [True]


def test_who_waits_for_room_is_told_when_nobody_takes_any_more() -> None:
    channel: Channel[int] = Channel(1, 1)
    channel.put(1)
    thread, results = in_thread(channel, 2)

    assert channel.close() == [1]
    thread.join(PATIENCE_S)
    assert results == [False]
    assert not channel.wait_until_empty()


def test_nothing_in_time_is_none() -> None:
    channel: Channel[int] = Channel(1)

    assert channel.take(0.01) is None
    assert not channel.is_finished


def test_a_producer_can_wait_until_all_is_taken() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    empty: list[bool] = []
    thread = threading.Thread(target=lambda: empty.append(channel.wait_until_empty()))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()

    channel.take(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert empty == [True]
