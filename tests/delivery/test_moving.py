"""Waiting deliveries move to another destination, on each engine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.archive.writer import database_time
from dgate.delivery import moving as module
from dgate.delivery.moving import Mover
from dgate.delivery.records import Selection
from dgate.delivery.refusals import Refusals
from dgate.errors import DatabaseAway
from tests.delivery.kit import Books, draft, open_on, ref
from tests.delivery.test_ledger import ENGINES


@pytest.fixture(params=ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


def mover(books: Books) -> Mover:
    archive = books.archive
    return Mover(
        archive.database, archive.writer, partial(database_time, archive.database, books.clock)
    )


def where(books: Books) -> list[tuple[object, ...]]:
    return books.rows("destination, origin, state, attempts")


def test_group_is_shared_out_batch_after_batch(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    for number in range(5):
        books.owe(draft("GROUP"), to=ref(number, study=f"9.{number % 2}"))
    books.owe(draft("OTHER"), to=ref(9))

    moved = mover(books).share("GROUP", lambda study: "ONE" if study == "9.0" else "TWO")

    assert moved == (5, False)
    assert where(books) == [
        ("ONE", "GROUP", "queued", 0),
        ("TWO", "GROUP", "queued", 0),
        ("ONE", "GROUP", "queued", 0),
        ("TWO", "GROUP", "queued", 0),
        ("ONE", "GROUP", "queued", 0),
        ("OTHER", None, "queued", 0),
    ]


def test_what_is_claimed_held_stuck_or_no_delivery_stays(books: Books) -> None:
    books.owe(draft("GROUP"), to=ref(1))
    books.claim("GROUP")
    books.owe(draft("GROUP"), to=ref(2))
    books.desk.hold(Selection(ids=(2,)))
    books.owe(draft("GROUP", kind=DebtKind.EXPORT), to=ref(3))

    assert mover(books).share("GROUP", lambda study: "ONE").number == 0
    assert {row[0] for row in where(books)} == {"GROUP"}


def test_deliveries_of_a_group_pass_on_and_those_for_the_member_itself_stay(
    books: Books,
) -> None:
    books.owe(draft("Readers"), to=ref(1))
    books.owe(draft("ONE"), to=ref(2))
    moving = mover(books)
    moving.share("Readers", lambda study: "ONE")

    assert moving.pass_on("ONE", "READERS", lambda study: "TWO", "ONE is down").number == 1

    assert where(books) == [("TWO", "Readers", "queued", 0), ("ONE", None, "queued", 0)]
    decided = books.archive.rows(
        "SELECT debt, decision, who, why, destination FROM dgate_decisions"
    )
    assert decided == [(1, "passed on", "dgate", "ONE is down", "ONE")]


def test_only_what_has_waited_long_enough_falls_back(books: Books) -> None:
    books.owe(draft("SINK"), to=ref(1))
    books.owe(draft("SINK", priority=2), to=ref(2))
    books.clock.time += 50.0
    books.owe(draft("SINK"), to=ref(3))
    books.clock.time += 50.0
    moving = mover(books)

    assert moving.fall_back("SINK", "SPARE", "", 1, 101.0, "late").number == 0
    assert moving.fall_back("SINK", "SPARE", "", 1, 60.0, "late").number == 1

    assert [row[0] for row in where(books)] == ["SPARE", "SINK", "SINK"]
    assert books.rows("due")[0][0] == books.clock.time
    # The time at the next one counts from then on.
    assert moving.fall_back("SPARE", "THIRD", "", 1, 60.0, "late").number == 0
    books.clock.time += 60.0
    assert moving.fall_back("SPARE", "THIRD", "", 1, 60.0, "late").number == 1
    assert where(books)[0] == ("THIRD", "SINK", "queued", 0)


def test_operators_decision_gives_a_delivery_its_time_anew(books: Books) -> None:
    books.owe(draft("OLD"), to=ref(1))
    books.clock.time += 500.0
    books.desk.reroute(Selection(ids=(1,)), "SINK")

    assert mover(books).fall_back("SINK", "SPARE", "", 1, 60.0, "late").number == 0


def test_call_moves_so_much_and_says_whether_there_is_more(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    monkeypatch.setattr(module, "PAGE", 3)
    for number in range(5):
        books.owe(draft("GROUP", priority=number % 3), to=ref(number))
    moving = mover(books)

    assert moving.share("GROUP", lambda study: "ONE") == (3, True)
    # The urgent ones first.
    assert [row[0] for row in where(books)] == ["ONE", "ONE", "GROUP", "ONE", "GROUP"]
    assert moving.share("GROUP", lambda study: "ONE", lambda: False) == (1, True)
    assert moving.share("GROUP", lambda study: "ONE") == (1, False)


def test_what_changes_while_it_is_moved_is_left_alone(books: Books) -> None:
    for number in range(3):
        books.owe(draft("SINK"), to=ref(number))
    books.clock.time += 100.0
    moving = mover(books)
    rows = moving._rows

    def busy(*arguments: Any) -> Any:
        found = rows(*arguments)
        books.desk.hold(Selection(ids=(1,)))
        books.desk.reroute(Selection(ids=(2,)), "OTHER")
        return found

    moving._rows = busy  # type: ignore[method-assign]

    assert moving.fall_back("SINK", "SPARE", "", 1, 60.0, "late").number == 1
    assert where(books) == [
        ("SINK", None, "held", 0),
        ("OTHER", "SINK", "queued", 0),
        ("SPARE", "SINK", "queued", 0),
    ]


def test_title_that_stood_for_the_old_destination_is_not_called_at_the_new_one(
    books: Books,
) -> None:
    books.owe(draft("ONE", called="one"), to=ref(1))
    books.owe(draft("ONE", called="VIEWER"), to=ref(2))
    # This is how the rule names a title that is not to change.
    books.owe(draft("ONE", called="ONE"), to=ref(3))
    host = "archive.site.org:11112"
    books.owe(draft(host, called="Archive.Site.org"), to=ref(4))
    books.owe(draft(host, called="archive.site.org"), to=ref(5))
    books.clock.time += 100.0
    moving = mover(books)

    moving.fall_back("ONE", "TWO", "", 1, 60.0, "dead")
    moving.fall_back(host, "TWO", "", 1, 60.0, "dead")
    called = ["", "VIEWER", "ONE", "", "archive.site.org"]
    assert books.rows("destination, called") == [("TWO", title) for title in called]


def test_new_destination_is_called_as_it_is_written(books: Books) -> None:
    for number, title in enumerate(("", "one", "VIEWER")):
        books.owe(draft("ONE", called=title), to=ref(number))
    books.clock.time += 100.0

    mover(books).fall_back("ONE", "TWO", "two", 1, 60.0, "dead")
    assert books.rows("called") == [("two",), ("two",), ("VIEWER",)]

    books.desk.reroute(Selection(), "THREE", called="Three")
    assert books.rows("called") == [("Three",), ("Three",), ("VIEWER",)]

    mover(books).share("THREE", lambda study: "FOUR")
    assert books.rows("destination, called") == [("FOUR", ""), ("FOUR", ""), ("FOUR", "VIEWER")]


def test_what_came_to_a_group_from_elsewhere_passes_on_as_well(books: Books) -> None:
    books.owe(draft("OLD"), to=ref(1))
    books.owe(draft("SINK"), to=ref(2))
    books.desk.reroute(Selection(ids=(1,)), "READERS")
    books.clock.time += 100.0
    moving = mover(books)
    moving.fall_back("SINK", "READERS", "", 1, 60.0, "late")
    moving.share("READERS", lambda study: "ONE")

    assert moving.pass_on("ONE", "READERS", lambda study: "TWO", "ONE is down").number == 2

    assert where(books) == [("TWO", "READERS", "queued", 0)] * 2
    decided = books.archive.rows(
        "SELECT debt, decision, destination FROM dgate_decisions ORDER BY id"
    )
    assert (1, "reroute", "OLD") in decided
    assert (2, "fallback", "SINK") in decided


def refusals(books: Books) -> Refusals:
    archive = books.archive
    return Refusals(
        archive.database, archive.writer, partial(database_time, archive.database, books.clock)
    )


def test_refusals_are_kept_changed_and_forgotten(books: Books) -> None:
    first = refusals(books)

    first.note("SINK", [("1.2", "A")], [("1.2", "B", 4), ("1.3", "A", 3)])
    books.clock.time += 10.0
    first.note("SINK", [], [("1.2", "B", 4), ("1.3", "A", 1)])
    first.note("OTHER", [("1.2", "B")], [])

    again = refusals(books)
    found = [(one.node, one.sop_class, one.syntax, one.result, one.at) for one in again.all()]
    assert found == [("SINK", "1.2", "B", 4, 1000.0), ("SINK", "1.3", "A", 1, 1010.0)]
    assert again.all("sink")[0].reason.startswith("none of the transfer syntaxes")
    again.note("SINK", [("1.2", "B"), ("1.3", "A")], [])
    assert first.all() == []


def test_refusals_that_cannot_be_written_stop_nothing(
    books: Books, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(work: object) -> object:
        raise DatabaseAway("gone")

    found = refusals(books)
    monkeypatch.setattr(books.archive.writer, "transact", away)

    found.note("SINK", [], [("1.2", "B", 4)])

    assert "could not be written down" in caplog.text


def test_number_of_refusals_is_bounded(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgate.delivery.refusals.MOST", 3)
    found = refusals(books)

    found.note("SINK", [], [("1.2", str(number), 4) for number in range(3)])
    found.note("SINK", [], [("1.2", "X", 4)])

    assert len(found.all()) == 3
