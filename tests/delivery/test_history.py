"""What the ledger keeps of the life of a debt, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind, Provenance
from dgate.delivery.records import Debt, Selection, Settlement, State, Try
from tests.archive.database_kit import ALL_ENGINES
from tests.delivery.kit import Books, done, draft, open_on, ref

FIRST = Provenance("CT1", "10.0.0.5", 900.0, "ab" * 32, 524_288, "A100")


@pytest.fixture(params=ALL_ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


def failed(debt: Debt, error: str = "no", **changes: Any) -> Settlement:
    return Settlement(debt, State.QUEUED, 0xA700, error, seconds=0.25)._replace(**changes)


def tries(books: Books, columns: str = "debt, outcome") -> list[tuple[Any, ...]]:
    return books.archive.rows(f"SELECT {columns} FROM dgate_tries ORDER BY id")


def test_each_try_is_kept_with_its_result(books: Books) -> None:
    books.owe()
    books.settle(failed(books.claim()[0]))
    books.clock.time += 10
    books.settle(done(books.claim()[0])._replace(seconds=0.5))

    [life] = books.desk.find(Selection())

    assert life.tries == (
        Try(1000.0, "SINK", "queued", 0xA700, "no", 0.25),
        Try(1010.0, "SINK", "done", 0, "", 0.5),
    )
    assert (life.entry.accepted, life.entry.committed) == (1010.0, None)


def test_only_real_tries_are_kept(books: Books) -> None:
    books.owe()
    books.settle(Settlement(books.claim()[0], State.QUEUED, tried=False))
    books.settle(Settlement(books.claim()[0], State.QUEUED, error="later", counted=False))

    assert tries(books) == []


def test_a_settlement_that_is_written_twice_is_one_try(books: Books) -> None:
    books.owe()
    settled = done(books.claim()[0])

    books.settle(settled)
    books.settle(settled)

    assert tries(books) == [(1, "done")]


def test_what_waits_for_its_commitment_is_accepted_and_open(books: Books) -> None:
    books.owe()
    books.settle(Settlement(books.claim()[0], State.COMMITTING, 0))

    [entry] = books.desk.entries(Selection(destination="SINK"))

    assert (entry.state, entry.accepted, entry.finished) == ("committing", 1000.0, None)


def test_what_an_export_becomes_is_as_urgent_and_comes_from_the_same_object(books: Books) -> None:
    export = draft("ExportConverter0", kind=DebtKind.EXPORT, priority=0, provenance=FIRST)
    books.owe(export)
    [debt] = books.claim("ExportConverter0")
    assert (debt.priority, debt.provenance) == (0, FIRST)

    books.settle(Settlement(debt, None, drafts=(draft("A"), draft("B"))))

    for destination in ("A", "B"):
        [claimed] = books.claim(destination)
        assert (claimed.priority, claimed.provenance) == (0, FIRST)


def test_tries_of_what_was_replaced_are_forgotten(books: Books) -> None:
    books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT))
    books.settle(failed(books.claim("ExportConverter0")[0]))
    [debt] = books.claim("ExportConverter0")

    books.settle(Settlement(debt, None, drafts=(draft("A"),)))

    assert tries(books) == []


def request(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "kind": DebtKind.REQUEST,
        "identity": "request-1",
        "context": "{}",
        "priority": 2,
        "provenance": FIRST,
    }
    return draft("delayed forward", **(values | changes))


def test_what_a_request_becomes_has_for_each_object_where_it_came_from(books: Books) -> None:
    second = replace(FIRST, source="CT2", digest="cd" * 32, received=950.0)
    books.owe(request(), to=ref(1))
    books.owe(request(provenance=second), to=ref(2))
    [debt] = books.claim("delayed forward")

    owed = tuple(draft("A", ref=ref(number)) for number in (1, 2, 3))
    books.settle(Settlement(debt, None, drafts=owed))

    claimed = books.claim("A")
    assert [one.ref for one in claimed] == [ref(1), ref(2), ref(3)]
    assert [one.priority for one in claimed] == [2, 2, 2]
    # Of the third, which nobody owed anything for when it came, nothing is known.
    assert [one.provenance for one in claimed] == [FIRST, second, Provenance()]


def test_history_is_forgotten_by_age_and_open_debts_never(books: Books) -> None:
    for number in range(4):
        books.owe(to=ref(number))
    one, two, three, four = books.claim()
    books.settle(done(one), failed(two), Settlement(three, State.STUCK, 0xA900, "no"))
    books.desk.cancel(Selection(ids=(2,)))
    books.clock.time += 100
    books.settle(done(four))

    assert books.ledger.prune(50.0) == 2

    assert books.rows() == [(3, "stuck"), (4, "done")]
    assert tries(books) == [(3, "stuck"), (4, "done")]
    assert books.archive.rows("SELECT count(*) FROM dgate_decisions") == [(0,)]


def test_failed_tries_of_an_open_debt_do_not_grow_without_end(books: Books) -> None:
    books.owe()
    for _ in range(3):
        books.settle(failed(books.claim()[0]))
        books.clock.time += 100

    books.ledger.prune(150.0)

    assert books.states() == ["queued"]
    assert tries(books, "at") == [(1200.0,)]


def test_receipts_are_kept_as_long_as_a_request_waits(books: Books) -> None:
    books.owe(request(delay_s=5000.0))
    books.clock.time += 1000
    books.ledger.prune(50.0)
    assert books.archive.rows("SELECT count(*) FROM dgate_received") == [(1,)]

    books.desk.cancel(Selection())
    books.ledger.prune(50.0)

    assert books.archive.rows("SELECT count(*) FROM dgate_received") == [(0,)]


def test_long_history_is_forgotten_page_by_page(books: Books) -> None:
    books.owe(*[draft()] * 501)
    books.settle(*map(done, books.claim(limit=501)))
    books.clock.time += 100

    assert books.ledger.prune(50.0) == 501
    assert tries(books) == []
