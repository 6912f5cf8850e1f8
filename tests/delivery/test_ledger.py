"""Claiming debts, writing down what became of them, and taking up what a crash left."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery.ledger import LEASE_S
from dgate.delivery.records import Lane, Selection, Settlement, State
from dgate.errors import DatabaseAway
from tests.delivery.kit import Books, done, draft, ref


def test_claimed_debt_carries_everything_that_its_rule_said(books: Books) -> None:
    owed = draft(
        calling="ROUTER",
        called="OTHER",
        compression="j2",
        script="set 0010,0010 to X",
        context="{}",
    )
    books.owe(owed, to=ref(7))

    [debt] = books.claim()

    assert debt.kind is DebtKind.DELIVER
    assert debt.ref == ref(7)
    assert (debt.destination, debt.rule) == ("SINK", "ExportConverter0.1")
    assert (debt.calling, debt.called, debt.compression) == ("ROUTER", "OTHER", "j2")
    assert (debt.script, debt.context, debt.attempts) == ("set 0010,0010 to X", "{}", 0)


def test_claimed_debt_is_not_claimed_again(books: Books) -> None:
    books.owe()
    books.claim()

    assert books.claim() == []
    assert books.rows("state, owner, lease_until") == [
        ("leased", books.ledger.owner, books.clock.time + LEASE_S)
    ]


def test_debts_are_claimed_oldest_first_and_no_more_than_asked_for(books: Books) -> None:
    for number in range(5):
        books.owe(to=ref(number))

    first, second = books.claim(limit=3), books.claim(limit=3)

    assert [debt.ref.sop_instance for debt in first] == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert [debt.ref.sop_instance for debt in second] == ["1.2.3.3", "1.2.3.4"]


def test_only_due_debts_of_the_destination_are_claimed(books: Books) -> None:
    books.owe(draft("OTHER"), draft("SINK"))
    books.clock.time -= 1
    assert books.claim() == []
    books.clock.time += 1

    assert [debt.destination for debt in books.claim()] == ["SINK"]


def test_several_debts_of_one_object_are_separate(books: Books) -> None:
    books.owe(draft(rule="ExportConverter0.1"), draft(rule="ExportConverter1.1"))

    assert [debt.rule for debt in books.claim()] == ["ExportConverter0.1", "ExportConverter1.1"]


def test_lanes_are_the_destinations_with_waiting_debts_and_their_first_due_time(
    books: Books,
) -> None:
    books.owe(draft("B"), draft("A"))
    books.clock.time = 1500.0
    books.owe(draft("B"), draft("C"))
    [debt] = books.ledger.exchange([], "C", 1)

    assert books.ledger.lanes() == [Lane("A", 1000.0), Lane("B", 1000.0)]
    books.settle(Settlement(debt, State.QUEUED, error="refused", pause_s=60.0))
    assert books.ledger.lanes()[-1] == Lane("C", 1560.0)


def test_paid_debt_stays_in_the_history_with_its_outcome(books: Books) -> None:
    books.owe()
    [debt] = books.claim()
    books.clock.time = 1007.0

    books.settle(done(debt, 0xB000, "B000 (coerced)"))

    assert books.rows("state, finished, attempts, repeats, last_status, last_error, owner") == [
        ("done", 1007.0, 1, 0, 0xB000, "B000 (coerced)", None)
    ]


def test_failed_debt_waits_for_its_time_and_counts_the_try(books: Books) -> None:
    books.owe()
    [debt] = books.claim()

    books.settle(Settlement(debt, State.QUEUED, 0x0110, "busy", pause_s=5.0))

    assert books.claim() == []
    books.clock.time += 5.0
    [again] = books.claim()
    assert again.attempts == 1
    assert books.rows("repeats, last_status, last_error") == [(0, 0x0110, "busy")]


def test_retry_after_an_unknown_outcome_is_counted_as_a_possible_repeat(books: Books) -> None:
    books.owe()
    [debt] = books.claim()

    books.settle(Settlement(debt, State.QUEUED, error="aborted", doubtful=True))

    assert books.rows("state, attempts, repeats") == [("queued", 1, 1)]


def test_stuck_debt_keeps_its_reason_and_is_not_claimed(books: Books) -> None:
    books.owe()
    [debt] = books.claim()

    books.settle(Settlement(debt, State.STUCK, 0xA900, "does not match"))

    assert books.claim() == []
    assert books.rows("state, finished, attempts, last_status, last_error") == [
        ("stuck", None, 1, 0xA900, "does not match")
    ]


def test_debt_that_was_not_tried_goes_back_untouched(books: Books) -> None:
    books.owe()
    [debt] = books.claim()

    books.settle(Settlement(debt, State.QUEUED, tried=False))

    assert books.rows("state, due, attempts, repeats, owner") == [("queued", 1000.0, 0, 0, None)]


def test_marks_and_the_next_claim_are_one_commit(books: Books) -> None:
    books.owe(to=ref(1))
    books.owe(to=ref(2))
    [first] = books.claim(limit=1)

    [second] = books.ledger.exchange([done(first)], "SINK", 1)

    assert second.ref == ref(2)
    assert books.states() == ["done", "leased"]


def test_long_reason_is_cut(books: Books) -> None:
    books.owe()
    [debt] = books.claim()

    books.settle(Settlement(debt, State.STUCK, None, "x" * 5000))

    assert books.rows("length(last_error)") == [(1000,)]


def test_export_debt_is_replaced_by_its_deliveries(books: Books) -> None:
    export = draft("ExportConverter0", kind=DebtKind.EXPORT, context='{"modality": "CT"}')
    books.owe(export, to=ref(3))
    [debt] = books.claim("ExportConverter0")
    assert (debt.kind, debt.context) == (DebtKind.EXPORT, '{"modality": "CT"}')

    books.settle(Settlement(debt, None, drafts=(draft("A"), draft("B"))))

    assert books.rows("kind, state, destination, sop_instance") == [
        ("deliver", "queued", "A", "1.2.3.3"),
        ("deliver", "queued", "B", "1.2.3.3"),
    ]


def test_export_debt_whose_filter_does_not_match_just_ends(books: Books) -> None:
    books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT))
    [debt] = books.claim("ExportConverter0")

    books.settle(Settlement(debt, None))

    assert books.rows() == []


def test_settlement_may_be_repeated_after_an_error(books: Books) -> None:
    books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT), draft())
    [export] = books.claim("ExportConverter0")
    [delivery] = books.claim()
    settlements = [Settlement(export, None, drafts=(draft("A"),)), done(delivery)]

    books.settle(*settlements)
    books.settle(*settlements)

    assert books.rows("state, destination, attempts") == [("done", "SINK", 1), ("queued", "A", 0)]


def test_debt_that_another_gateway_took_over_is_not_touched(books: Books) -> None:
    books.owe()
    [debt] = books.claim()
    other = books.reopen()
    other.recover()
    other.exchange([], "SINK", 1)

    books.settle(done(debt))

    assert books.rows("state, owner, repeats") == [("leased", other.owner, 1)]


def test_start_takes_up_what_a_dead_server_had_claimed_and_counts_it(books: Books) -> None:
    books.owe(to=ref(1))
    books.owe(to=ref(2))
    books.owe(to=ref(3))
    first, second = books.claim(limit=2)
    books.settle(done(first))
    next_start = books.reopen()

    assert next_start.recover() == 1

    assert books.rows("state, repeats, owner") == [
        ("done", 0, None),
        ("queued", 1, None),
        ("queued", 0, None),
    ]
    assert second in next_start.exchange([], "SINK", 10)
    assert next_start.recover() == 0


def test_shared_ledger_takes_up_only_leases_that_have_run_out(books: Books) -> None:
    books.owe()
    books.claim()
    other = books.reopen()
    other.shared = True

    assert other.recover() == 0
    books.clock.time += LEASE_S + 1
    assert other.recover() == 1


def test_debt_without_a_destination_is_found_too(books: Books) -> None:
    books.owe(draft(""), draft("A"))

    assert [lane.destination for lane in books.ledger.lanes()] == ["", "A"]


def test_renewed_lease_lasts_from_now(books: Books) -> None:
    books.owe()
    books.claim()
    books.clock.time += 200

    books.ledger.renew()

    assert books.rows("lease_until") == [(1200.0 + LEASE_S,)]


def test_rows_that_a_failed_claim_left_behind_come_back(books: Books) -> None:
    books.owe(draft("SINK"), draft("OTHER"))
    books.claim("SINK")
    books.claim("OTHER")

    [debt] = books.ledger.exchange([], "SINK", 10, orphans=True)

    assert debt.destination == "SINK"
    assert books.claim("OTHER") == []


def test_nothing_to_write_costs_no_transaction(books: Books) -> None:
    books.archive.writer.close()
    books.archive.database.close()
    before = books.archive.database.path
    assert before is not None
    before.rename(before.with_suffix(".away"))

    assert books.ledger.exchange([], "SINK", 0) == []


def test_spool_copy_goes_with_its_last_debt(books: Books) -> None:
    copy = Path("/spool/copy.dcm")
    books.owe(draft("A", spool=copy), draft("B", spool=copy))
    [to_a] = books.claim("A")
    [to_b] = books.claim("B")
    assert (to_a.ref.device, to_a.ref.name) == ("SPOOL", "copy.dcm")

    books.settle(done(to_a))
    assert books.released == []
    books.settle(Settlement(to_b, State.STUCK, 0xA900, "does not match"))
    assert books.released == []

    books.desk.cancel(Selection(ids=(to_b.id,)))
    assert books.released == ["copy.dcm"]


def test_spool_copy_stays_when_its_export_debt_becomes_deliveries(books: Books) -> None:
    copy = Path("/spool/copy.dcm")
    books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT, spool=copy))
    [debt] = books.claim("ExportConverter0")

    books.settle(Settlement(debt, None, drafts=(draft("A"),)))
    assert books.released == []

    [delivery] = books.claim("A")
    assert delivery.ref.name == "copy.dcm"
    books.settle(done(delivery))
    assert books.released == ["copy.dcm"]


def test_history_is_forgotten_by_age_and_open_debts_never(books: Books) -> None:
    for number in range(4):
        books.owe(to=ref(number))
    first, second, third, _ = books.claim()
    books.settle(done(first), Settlement(third, State.STUCK, None, "x"))
    books.clock.time += 100
    books.settle(done(second))

    assert books.ledger.prune(50.0) == 1

    assert books.states() == ["done", "stuck", "leased"]


def test_time_is_the_clocks_in_an_embedded_database(books: Books) -> None:
    assert books.ledger.now() == 1000.0
    assert not books.ledger.shared


def test_time_is_the_servers_where_the_database_has_one(books: Books) -> None:
    books.owe()
    books.archive.database.clock_sql = "7000.5"

    [debt] = books.claim()

    assert books.ledger.now() == 7000.5
    books.settle(done(debt))
    assert books.rows("finished") == [(7000.5,)]


def test_claim_on_a_missing_database_says_that_it_is_away(books: Books) -> None:
    path = books.archive.database.path
    assert path is not None
    path.unlink()

    with pytest.raises(DatabaseAway):
        books.claim()
