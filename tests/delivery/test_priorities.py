"""What is urgent goes first: claims by priority, and what the dispatcher sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery.records import Due, Settlement, State
from tests.archive.database_kit import ALL_ENGINES
from tests.delivery.kit import Books, draft, open_on, ref

STAT, NORMAL, BULK = 0, 1, 2


@pytest.fixture(params=ALL_ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


def owe(books: Books, *priorities: int) -> None:
    for priority in priorities:
        books.owe(draft(priority=priority), to=ref(priority))
        books.clock.time += 1


def test_the_urgent_are_claimed_first_and_the_oldest_of_each(books: Books) -> None:
    owe(books, BULK, NORMAL, STAT, NORMAL, STAT)

    assert [debt.id for debt in books.claim(limit=4)] == [3, 5, 2, 4]
    assert [debt.id for debt in books.claim()] == [1]


def test_only_the_priorities_that_are_wanted_are_claimed(books: Books) -> None:
    owe(books, BULK, NORMAL, STAT)

    urgent = books.ledger.exchange([], "SINK", 10, priorities=(STAT, NORMAL))
    assert [debt.priority for debt in urgent] == [STAT, NORMAL]
    assert books.ledger.exchange([], "SINK", 10, priorities=(STAT,)) == []
    assert books.ledger.exchange([], "SINK", 10, priorities=()) == []


def test_what_a_wrong_clock_wrote_is_claimed_with_its_priority_only(books: Books) -> None:
    books.ledger.longest_pause_s = 600.0
    owe(books, BULK)
    books.clock.time -= 86_400

    assert books.ledger.exchange([], "SINK", 10, priorities=(STAT, NORMAL)) == []
    assert [debt.priority for debt in books.claim()] == [BULK]


def test_an_urgent_one_that_waits_for_its_next_try_holds_up_no_other(books: Books) -> None:
    owe(books, STAT, BULK)
    [first, second] = books.claim()
    back = Settlement(second, State.QUEUED, tried=False)
    books.settle(Settlement(first, State.QUEUED, 0x0110, "no", 600.0), back)

    assert [debt.priority for debt in books.claim()] == [BULK]


def test_lanes_tell_what_is_due_of_each_priority(books: Books) -> None:
    owe(books, BULK, NORMAL, NORMAL)
    books.owe(draft("OTHER", priority=STAT))

    assert books.ledger.lanes() == [
        Due("OTHER", 1003.0, STAT, (1003.0, None, None)),
        Due("SINK", 1000.0, NORMAL, (None, 1001.0, 1000.0)),
    ]


def test_a_lane_is_as_urgent_as_what_is_due_by_now(books: Books) -> None:
    owe(books, STAT, BULK)
    [urgent, bulk] = books.claim()
    pause = Settlement(urgent, State.QUEUED, 0x0110, "no", 600.0)
    books.settle(pause, Settlement(bulk, State.QUEUED, tried=False))

    [lane] = books.ledger.lanes()
    assert (lane.due, lane.priority, lane.dues) == (1001.0, BULK, (1602.0, None, 1001.0))

    books.clock.time += 700
    assert books.ledger.lanes()[0].priority == STAT


def test_a_lane_with_nothing_due_is_as_urgent_as_what_is_due_first(books: Books) -> None:
    owe(books, BULK, STAT)
    [urgent, bulk] = books.claim()
    books.settle(
        Settlement(urgent, State.QUEUED, 0x0110, "no", 600.0),
        Settlement(bulk, State.QUEUED, 0x0110, "no", 500.0),
    )

    [lane] = books.ledger.lanes()
    assert (lane.due, lane.priority) == (1502.0, BULK)


def test_an_impossible_priority_is_brought_into_range(books: Books) -> None:
    books.owe(draft(priority=-5), draft(priority=7))

    assert [debt.priority for debt in books.claim()] == [STAT, BULK]
    assert books.ledger.lanes() == []


def test_requests_keep_their_time_whatever_their_priority(embedded: Books) -> None:
    embedded.ledger.longest_pause_s = 600.0
    request = draft(
        "delayed forward", kind=DebtKind.REQUEST, identity="r", delay_s=86_400.0, priority=BULK
    )
    embedded.owe(request)

    assert embedded.claim("delayed forward") == []
    [lane] = embedded.ledger.lanes()
    assert (lane.due, lane.priority) == (87_400.0, BULK)
