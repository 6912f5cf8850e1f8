"""What operators see of the ledger and what their commands do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery import desk
from dgate.delivery.records import Changed, Count, Order, Selection, Settlement, State
from dgate.errors import DgateError
from tests.archive.database_kit import ENGINES
from tests.delivery.kit import Books, done, draft, open_on, ref


@pytest.fixture(params=ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


EVERYTHING = Selection()


def numbers(*ids: int) -> Selection:
    return Selection(ids=ids)


@pytest.fixture
def mixed(books: Books) -> Books:
    """Debts 1 to 5: done, stuck, held, leased, queued."""
    for number in range(1, 6):
        books.owe(to=ref(number))
    first, second, third, _ = books.claim(limit=4)
    books.settle(
        done(first),
        Settlement(second, State.STUCK, 0xA900, "does not match"),
        Settlement(third, State.QUEUED, tried=False),
    )
    books.desk.hold(numbers(3))
    return books


def test_listing_shows_what_is_still_owed(mixed: Books) -> None:
    entries = mixed.desk.entries(EVERYTHING)

    assert [(entry.id, entry.state) for entry in entries] == [
        (2, "stuck"),
        (3, "held"),
        (4, "leased"),
        (5, "queued"),
    ]
    assert entries[0].last_error == "does not match"
    assert entries[0].owner == ""


def test_listing_can_be_limited_and_continued(mixed: Books) -> None:
    assert [entry.id for entry in mixed.desk.entries(EVERYTHING, limit=2)] == [2, 3]
    assert [entry.id for entry in mixed.desk.entries(EVERYTHING, limit=2, offset=2)] == [4, 5]


def test_listing_by_state_shows_the_history_too(mixed: Books) -> None:
    selection = Selection(states=(State.DONE, State.STUCK))

    assert [entry.id for entry in mixed.desk.entries(selection)] == [1, 2]


def test_listing_by_destination(books: Books) -> None:
    books.owe(draft("A"), draft("B"))

    assert [e.destination for e in books.desk.entries(Selection(destination="B"))] == ["B"]


def test_one_debt_is_shown_with_everything_known(mixed: Books) -> None:
    entry = mixed.desk.show(2)

    assert (entry.state, entry.sop_instance, entry.attempts) == ("stuck", "1.2.3.2", 1)
    assert entry.as_dict()["last_status"] == 0xA900


def test_unknown_debt_is_an_error_with_advice(books: Books) -> None:
    with pytest.raises(DgateError, match="no debt 99"):
        books.desk.show(99)


def test_counts_are_by_destination_and_state(mixed: Books) -> None:
    mixed.owe(draft("A"))

    assert mixed.desk.counts() == [
        Count("A", "queued", 1, 1000.0, 0),
        Count("SINK", "held", 1, 1000.0, 0),
        Count("SINK", "leased", 1, 1000.0, 0),
        Count("SINK", "queued", 1, 1000.0, 0),
        Count("SINK", "stuck", 1, 1000.0, 0),
    ]
    assert Count("SINK", "done", 1, 1000.0, 0) in mixed.desk.counts(closed=True)


def test_counts_show_possible_repeats(books: Books) -> None:
    books.owe()
    books.claim()
    books.reopen().recover(starting=True)

    assert [count.repeats for count in books.desk.counts()] == [1]


def test_stuck_debt_is_due_at_once_after_retry(mixed: Books) -> None:
    mixed.clock.time = 2000.0

    assert mixed.desk.retry(numbers(2)) == Changed(1)

    entry = mixed.desk.show(2)
    assert (entry.state, entry.due, entry.attempts) == ("queued", 0.0, 0)
    assert entry.last_error == "does not match"


def test_retry_of_everything_means_what_is_stuck_or_waits(mixed: Books) -> None:
    assert mixed.desk.retry(EVERYTHING) == Changed(2)
    assert mixed.states() == ["done", "queued", "held", "leased", "queued"]


def test_retry_by_destination_leaves_others_alone(books: Books) -> None:
    books.owe(draft("A"), draft("B"))
    for destination in "AB":
        [debt] = books.claim(destination)
        books.settle(Settlement(debt, State.STUCK, None, "x"))

    assert books.desk.retry(Selection(destination="A")) == Changed(1)
    assert books.states() == ["queued", "stuck"]


def test_debts_that_cannot_be_changed_are_named_with_the_reason(mixed: Books) -> None:
    assert mixed.desk.retry(numbers(1, 2, 4, 99)) == Changed(
        1, ((1, "it is done"), (4, "it is leased"), (99, "there is no such debt"))
    )


def test_many_numbers_at_once(books: Books) -> None:
    for number in range(3):
        books.owe(to=ref(number))

    changed = books.desk.hold(Selection(ids=tuple(range(1, 1300))))

    assert changed.count == 3
    assert len(changed.skipped) == 1296


def test_held_debt_is_not_claimed_until_released(books: Books) -> None:
    books.owe()
    books.desk.hold(numbers(1))
    assert books.claim() == []

    assert books.desk.release(numbers(1)) == Changed(1)

    assert len(books.claim()) == 1


def test_release_changes_nothing_that_is_not_held(mixed: Books) -> None:
    assert mixed.desk.release(EVERYTHING) == Changed(1)
    assert mixed.states() == ["done", "stuck", "queued", "leased", "queued"]


def test_cancelled_debt_stays_in_the_history(mixed: Books) -> None:
    mixed.clock.time = 3000.0

    assert mixed.desk.cancel(numbers(2, 3, 5)) == Changed(3)

    assert mixed.states() == ["done", "cancelled", "cancelled", "leased", "cancelled"]
    assert mixed.desk.show(2).finished == 3000.0


def test_rerouted_deliveries_go_to_the_new_destination(mixed: Books) -> None:
    assert mixed.desk.reroute(Selection(destination="SINK"), "OTHER") == Changed(3, busy=1)

    assert mixed.rows("state, destination") == [
        ("done", "SINK"),
        ("queued", "OTHER"),
        ("held", "OTHER"),
        ("leased", "SINK"),
        ("queued", "OTHER"),
    ]


def test_what_is_being_worked_on_is_counted_where_it_is_meant(mixed: Books) -> None:
    """Only by orders that would have changed it, and only what the selection names."""
    assert mixed.desk.hold(Selection(study="1.2.3")).busy == 1
    assert mixed.desk.hold(Selection(study="9.9.9")) == Changed(0)
    assert mixed.desk.cancel(Selection(states=(State.HELD,))).busy == 0
    assert mixed.desk.release(EVERYTHING).busy == 0
    assert mixed.desk.cancel(EVERYTHING).busy == 1
    assert mixed.desk.cancel(numbers(4)) == Changed(0, ((4, "it is leased"),))


def test_export_debt_cannot_be_rerouted(books: Books) -> None:
    books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT))

    assert books.desk.reroute(numbers(1), "OTHER") == Changed(
        0, ((1, "it is not a delivery (export)"),)
    )


def test_reroute_needs_a_destination(books: Books) -> None:
    with pytest.raises(DgateError, match="destination"):
        books.desk.reroute(EVERYTHING, "")


def test_selection_and_result_survive_json() -> None:
    selection = Selection((1, 2), "SINK", (State.HELD,))
    changed = Changed(3, ((7, "it is done"),), 2)

    assert Selection.of(selection.as_dict()) == selection
    assert Selection.of(EVERYTHING.as_dict()) == EVERYTHING
    assert Changed.of(changed.as_dict()) == changed


def decisions(books: Books) -> list[tuple[object, ...]]:
    columns = "debt, at, decision, who, why, destination"
    return books.archive.rows(f"SELECT {columns} FROM dgate_decisions ORDER BY id")


def test_what_operators_do_is_written_down(mixed: Books) -> None:
    order = Order("anna", "moved to the new archive")

    mixed.desk.reroute(numbers(2), "OTHER", order)
    mixed.desk.cancel(numbers(2), Order("root"))

    assert decisions(mixed)[1:] == [
        (2, 1000.0, "reroute", "anna", "moved to the new archive", "SINK"),
        (2, 1000.0, "cancel", "root", "", "OTHER"),
    ]
    entry = mixed.desk.show(2)
    assert (entry.why, entry.origin, entry.destination) == (order.why, "SINK", "OTHER")


def test_a_reroute_keeps_where_the_rule_wanted_it(mixed: Books) -> None:
    mixed.desk.reroute(numbers(5), "SECOND")
    mixed.desk.reroute(numbers(5), "THIRD")

    entry = mixed.desk.show(5)
    assert (entry.destination, entry.origin) == ("THIRD", "SINK")


def test_nothing_is_written_down_of_what_was_left_alone(mixed: Books) -> None:
    mixed.desk.retry(numbers(1, 4, 99))

    assert [row[2] for row in decisions(mixed)] == ["hold"]


def test_reasons_of_operators_are_kept_on_one_line(mixed: Books) -> None:
    mixed.desk.cancel(numbers(2), Order("x" * 100, "two\nlines\0" + "y" * 5000))

    [life] = mixed.desk.lives("2")
    assert life.decisions[-1].who == "x" * 64
    assert life.entry.why.startswith("two linesyyy")
    assert len(life.entry.why) == 1000


def test_filters_choose_what_is_changed(books: Books) -> None:
    for number, study in enumerate(("1.5", "1.6", "1.5"), start=1):
        books.owe(to=ref(number, study=study))
        books.clock.time += 100

    assert books.desk.hold(Selection(study="1.5", since=1100.0)) == Changed(1)
    assert books.states() == ["queued", "queued", "held"]
    assert books.desk.cancel(Selection(study="1.5")) == Changed(2)
    assert books.desk.retry(Selection(study="1.7")) == Changed(0)


def test_a_filter_by_state_changes_no_other_state(mixed: Books) -> None:
    assert mixed.desk.cancel(Selection(states=(State.STUCK, State.DONE))) == Changed(1)
    assert mixed.states() == ["done", "cancelled", "held", "leased", "queued"]


@pytest.mark.parametrize("few", [500, desk.FEW])
def test_many_debts_are_changed_in_small_transactions(
    books: Books, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(desk, "FEW", few)
    books.owe(*[draft()] * 1201)
    sizes: list[int] = []
    real = books.archive.writer.transact

    def counting(work: Any) -> Any:
        def run(transaction: Any) -> Any:
            result = work(transaction)
            sizes.append(len(result[0]))
            return result

        return real(run)

    monkeypatch.setattr(books.archive.writer, "transact", counting)

    assert books.desk.retry(Selection()) == Changed(1201)

    assert sizes == [500, 500, 201]
    assert books.desk.hold(Selection(destination="SINK")) == Changed(1201)


def test_what_waits_for_a_commitment_can_be_given_up(books: Books) -> None:
    books.owe()
    [debt] = books.claim()
    books.settle(Settlement(debt, State.COMMITTING, 0))

    assert books.desk.retry(numbers(1)).skipped == ((1, "it is committing"),)
    assert books.desk.cancel(numbers(1)) == Changed(1)
    assert books.desk.show(1).state == "cancelled"
