"""Searching the ledger by what an operator knows of an object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import Provenance
from dgate.delivery.records import Selection, Settlement, State
from dgate.delivery.search import PAGE
from dgate.errors import DgateError
from tests.archive.database_kit import ALL_ENGINES
from tests.delivery.kit import Books, done, draft, open_on, ref


@pytest.fixture(params=ALL_ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


def owe(books: Books, number: int, accession: str = "", **changes: Any) -> None:
    destination = changes.pop("destination", "SINK")
    rule = changes.pop("rule", "ExportConverter0.1")
    origin = Provenance("CT1", accession=accession)
    books.owe(draft(destination, rule=rule, provenance=origin), to=ref(number, **changes))


def found(books: Books, **conditions: Any) -> list[int]:
    return [life.entry.id for life in books.desk.find(Selection(**conditions))]


def test_each_condition_narrows_the_search(books: Books) -> None:
    owe(books, 1, "A1", study="1.2.5", series="1.2.5.1")
    books.clock.time += 100
    owe(books, 2, "A1", destination="OTHER", rule="ExportConverter1.0")
    books.clock.time += 100
    owe(books, 3, patient_id="P2", rule="ExportConverter10.1")
    books.settle(done(books.claim()[0]))

    assert found(books) == [1, 2, 3]
    assert found(books, accession="A1") == [1, 2]
    assert found(books, accession="a1") == []
    assert found(books, patient="P2") == [3]
    assert found(books, study="1.2.5") == [1]
    assert found(books, series="1.2.5.1") == [1]
    assert found(books, sop="1.2.3.2") == [2]
    assert found(books, destination="OTHER") == [2]
    assert found(books, rule="ExportConverter1") == [2]
    assert found(books, rule="ExportConverter10.1") == [3]
    assert found(books, states=(State.DONE,)) == [1]
    assert found(books, states=(State.QUEUED, State.STUCK)) == [2]
    assert found(books, since=1100.0) == [2, 3]
    assert found(books, until=1100.0) == [1, 2]
    assert found(books, since=1050.0, until=1150.0, accession="A1") == [2]
    assert found(books, accession="A1", destination="SINK", states=(State.DONE,)) == [1]


def test_values_are_never_taken_for_sql(books: Books) -> None:
    owe(books, 1, "A1")

    for text in ("' OR '1' = '1", "%", "_1", "A1'; DROP TABLE dgate_debts; --", "?"):
        for name in ("accession", "patient", "study", "series", "sop", "destination", "rule"):
            assert found(books, **{name: text}) == []
    assert books.states() == ["queued"]


def test_long_results_come_page_by_page_in_either_order(books: Books) -> None:
    total = PAGE * 2 + 7
    books.owe(*[draft()] * total)

    lives = [life.entry.id for life in books.desk.find(Selection())]
    back = [life.entry.id for life in books.desk.find(Selection(), newest_first=True)]
    some = [life.entry.id for life in books.desk.find(Selection(), PAGE + 3, newest_first=True)]

    assert lives == list(range(1, total + 1))
    assert back == lives[::-1]
    assert some == back[: PAGE + 3]


def test_a_limit_goes_with_every_condition(embedded: Books) -> None:
    books = embedded
    for number in range(5):
        owe(books, number, "A1")

    for conditions in ({"accession": "A1"}, {"states": (State.QUEUED,)}, {"study": "1.2.3"}):
        selection = Selection(**conditions)  # type: ignore[arg-type]
        lives = books.desk.find(selection, 2, newest_first=True)
        assert [life.entry.id for life in lives] == [5, 4]


def test_an_object_is_found_by_its_uid_and_a_debt_by_its_number(books: Books) -> None:
    owe(books, 1)
    owe(books, 1, destination="OTHER")
    owe(books, 2)

    assert [life.entry.destination for life in books.desk.lives("1.2.3.1")] == ["SINK", "OTHER"]
    assert [life.entry.sop_instance for life in books.desk.lives(" 3 ")] == ["1.2.3.2"]


@pytest.mark.parametrize(
    ("key", "option"),
    [("1.2.3", "study"), ("1.2.3.0", "series"), ("A1", "accession"), ("P1", "patient")],
)
def test_another_kind_of_number_is_recognised(embedded: Books, key: str, option: str) -> None:
    owe(embedded, 1, "A1")

    with pytest.raises(DgateError) as caught:
        embedded.desk.lives(key)

    assert f"--{option} {key}" in caught.value.remedy


@pytest.mark.parametrize("key", ["4711", "1.9.9", "x\x1b[31m", "9" * 40, "²"])
def test_an_unknown_object_is_named_with_what_to_try(embedded: Books, key: str) -> None:
    with pytest.raises(DgateError) as caught:
        embedded.desk.lives(key)

    assert "dgate ledger find" in caught.value.remedy
    assert "\x1b" not in str(caught.value)


def test_open_debts_are_found_by_their_index(embedded: Books) -> None:
    """A history of millions must not slow down what is asked most."""
    for number in range(3):
        owe(embedded, number)
    [first, *_] = embedded.claim()
    embedded.settle(Settlement(first, State.STUCK, 0xA900, "no"))
    seen: list[str] = []
    with embedded.archive.database.reader() as connection:
        connection.raw.set_trace_callback(seen.append)

    assert found(embedded, states=(State.STUCK,)) == [1]
    assert [e.id for e in embedded.desk.entries(Selection(states=(State.STUCK,)))] == [1]
    embedded.desk.counts()

    with embedded.archive.database.reader() as connection:
        connection.raw.set_trace_callback(None)
    # The first is a stream of everything; it reads along the key.
    for statement in [text for text in seen if "FROM dgate_debts" in text][1:]:
        rows = embedded.archive.rows(f"EXPLAIN QUERY PLAN {statement}")
        assert "SCAN dgate_debts" not in " ".join(row[3] for row in rows), statement
