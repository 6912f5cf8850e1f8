"""Claiming debts, writing down what became of them, and taking up what a crash left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.records import DebtKind
from dgate.archive.requests import LANE_PREFIX
from dgate.archive.writer import Transaction
from dgate.delivery.commitment.messages import ASKING_LANE
from dgate.delivery.leases import MOST_CRASHES
from dgate.delivery.ledger import LEASE_S, PRIORITIES, SUSPECT_CRASHES
from dgate.delivery.records import Selection, Settlement, State
from dgate.errors import DatabaseAway, StoreError
from tests.archive.database_kit import ENGINES
from tests.delivery.kit import Books, done, draft, open_on, ref


@pytest.fixture(params=ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


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


def lanes(books: Books) -> list[tuple[str, float]]:
    return [lane[:2] for lane in books.ledger.lanes()]


def test_lanes_are_the_destinations_with_waiting_debts_and_their_first_due_time(
    books: Books,
) -> None:
    books.owe(draft("B"), draft("A"))
    books.clock.time = 1500.0
    books.owe(draft("B"), draft("C"))
    [debt] = books.ledger.exchange([], "C", 1)

    assert lanes(books) == [("A", 1000.0), ("B", 1000.0)]
    books.settle(Settlement(debt, State.QUEUED, error="refused", pause_s=60.0))
    assert lanes(books)[-1] == ("C", 1560.0)


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


def test_reason_loses_what_databases_refuse(books: Books) -> None:
    books.owe()
    [debt] = books.claim()

    books.settle(Settlement(debt, State.STUCK, None, "no\0\r\nway\x1b\ud800"))

    assert books.rows("last_error") == [("no  way??",)]


def test_names_that_a_rule_makes_are_cut_to_what_their_columns_hold(books: Books) -> None:
    books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT))
    [debt] = books.claim("ExportConverter0")
    long = "x\0" * 500

    books.settle(Settlement(debt, None, drafts=(draft(long, calling=long, called=long),)))

    assert books.rows("length(destination), length(calling), length(called)") == [(255, 64, 64)]


def test_outcome_that_the_database_refuses_does_not_keep_others_from_being_written(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT), to=ref(1))
    books.owe(draft(), to=ref(2))
    books.owe(draft(), to=ref(3))
    [export] = books.claim("ExportConverter0")
    [delivery] = books.claim(limit=1)
    # Neither SQLite nor a server takes a lone surrogate.
    refused = draft("A", script='set PatientName to "\ud800"')

    claimed = books.ledger.exchange(
        [Settlement(export, None, drafts=(refused,)), done(delivery)], "SINK", 10
    )

    assert [debt.ref for debt in claimed] == [ref(3)]
    assert books.states() == ["stuck", "done", "leased"]
    assert "refused to write down its deliveries" in books.rows("last_error")[0][0]
    assert f"debt {export.id}" in caplog.text


@pytest.mark.parametrize(
    ("state", "expected"), [(State.DONE, "done"), (State.QUEUED, "stuck"), (State.STUCK, "stuck")]
)
def test_object_that_arrived_stays_delivered_when_its_text_is_refused(
    books: Books, state: State, expected: str
) -> None:
    books.owe()
    [debt] = books.claim()
    _refuse(books, "evil")

    books.settle(Settlement(debt, state, 0xB000, "evil"))

    [row] = books.rows("state, last_status, last_error")
    assert row[:2] == (expected, 0xB000)
    assert "written" in row[2] or "write" in row[2]


def test_database_that_refuses_everything_is_reported(books: Books) -> None:
    books.owe()
    [debt] = books.claim()
    _refuse(books, "%")

    with pytest.raises(StoreError, match="refuses to write down"):
        books.settle(done(debt))
    assert books.states() == ["leased"]


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
    other.recover(starting=True)
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

    assert next_start.recover(starting=True) == 1

    assert books.rows("state, repeats, owner") == [
        ("done", 0, None),
        ("queued", 1, None),
        ("queued", 0, None),
    ]
    assert second in next_start.exchange([], "SINK", 10)
    assert next_start.recover(starting=True) == 0


def test_shared_ledger_takes_up_only_leases_that_have_run_out(books: Books) -> None:
    books.owe()
    books.claim()
    books.archive.database.home = "another machine/0"
    other = books.reopen()
    other.shared = True

    assert other.recover() == 0
    books.clock.time += LEASE_S + 1
    assert other.recover() == 1


def test_shared_ledger_takes_up_at_once_what_this_folders_server_left(books: Books) -> None:
    books.owe()
    books.claim()
    other = books.reopen()
    other.shared = True

    assert other.recover(starting=True) == 1
    assert books.rows("state, repeats") == [("queued", 1)]


def test_gateway_does_not_take_back_what_its_own_workers_have(books: Books) -> None:
    for number in (1, 2, 3):
        books.owe(to=ref(number))
    claimed = [books.ledger.exchange([], "SINK", 1, slot=slot)[0] for slot in (0, 1, 12)]
    # As for a debt that servers died of.
    crashed = f"UPDATE dgate_debts SET last_status = {1 - MOST_CRASHES} WHERE id = {claimed[2].id}"
    books.archive.writer.transact(lambda transaction: transaction.execute(crashed))

    assert books.ledger.recover() == 0

    assert books.rows("state, repeats") == [("leased", 0)] * 3
    for slot, debt in zip((0, 1, 12), claimed, strict=True):
        books.ledger.exchange([done(debt)], "SINK", 0, slot=slot)
    assert set(books.states()) == {"done"}


def test_start_takes_back_what_all_workers_of_a_dead_server_had(books: Books) -> None:
    for number in (1, 2):
        books.owe(to=ref(number))
    for slot in (0, 1):
        books.ledger.exchange([], "SINK", 1, slot=slot)

    assert books.reopen().recover(starting=True) == 2


def test_leases_of_all_workers_are_renewed(books: Books) -> None:
    books.archive.database.home = "odd_%\\name/0"
    books.ledger = books.reopen()
    for number in (1, 2):
        books.owe(to=ref(number))
    for slot in (0, 1):
        books.ledger.exchange([], "SINK", 1, slot=slot)
    books.clock.time += LEASE_S / 2

    books.ledger.renew()

    assert books.rows("lease_until") == [(books.clock.time + LEASE_S,)] * 2
    assert books.ledger.recover() == 0


@pytest.mark.parametrize("lane", [f"{LANE_PREFIX}forward", f"{ASKING_LANE}SINK"])
def test_lane_of_requests_is_not_searched_for_due_times_that_no_pause_explains(
    embedded: Books, lane: str
) -> None:
    books = embedded
    books.ledger.longest_pause_s = 60.0
    statements = list[str]()

    def work(transaction: Transaction) -> None:
        raw = transaction._connection.raw
        raw.set_trace_callback(statements.append)
        try:
            for destination in (lane, "SINK"):
                books.ledger._claim(transaction, destination, 1000.0, 5, "me", PRIORITIES)
        finally:
            raw.set_trace_callback(None)

    books.archive.writer.transact(work)
    beyond = [statement for statement in statements if "due > " in statement]
    assert len(beyond) == 1
    assert "'SINK'" in beyond[0]


def crash(books: Books, limit: int = 100) -> None:
    """Claim as a start of the gateway does that ends before any outcome."""
    start = books.reopen()
    start.recover(starting=True)
    start.exchange([], "SINK", limit)


def test_debt_that_servers_die_of_becomes_stuck(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    books.owe()
    for _ in range(MOST_CRASHES):
        crash(books)
        assert books.states() == ["leased"]

    assert books.reopen().recover(starting=True) == 0

    [row] = books.rows("state, repeats, attempts, last_error")
    assert row[:3] == ("stuck", MOST_CRASHES, 0)
    assert row[3].startswith(f"the server ended {MOST_CRASHES} times in a row")
    assert "1 deliveries are stuck" in caplog.text


def test_debts_behind_the_one_that_servers_die_of_do_not_become_stuck(books: Books) -> None:
    for number in range(3):
        books.owe(to=ref(number))
    for _ in range(MOST_CRASHES):
        crash(books)

    books.reopen().recover(starting=True)

    assert books.rows("state, repeats") == [
        ("stuck", MOST_CRASHES),
        ("queued", SUSPECT_CRASHES),
        ("queued", SUSPECT_CRASHES),
    ]


def test_suspect_is_claimed_alone(books: Books) -> None:
    books.owe(to=ref(1))
    for _ in range(SUSPECT_CRASHES):
        crash(books, limit=1)
    books.reopen().recover(starting=True)
    books.clock.time -= 10
    books.owe(to=ref(2))
    books.clock.time += 10

    claims = [books.claim(), books.claim()]

    assert [[debt.ref for debt in claim] for claim in claims] == [[ref(2)], [ref(1)]]


def test_crashes_are_counted_in_a_row_only(books: Books) -> None:
    books.owe()
    for _ in range(MOST_CRASHES - 1):
        crash(books)
    start = books.reopen()
    start.recover(starting=True)
    [debt] = start.exchange([], "SINK", 1)
    start.exchange([Settlement(debt, State.QUEUED, error="refused")], "SINK", 0)
    crash(books)

    assert books.reopen().recover(starting=True) == 1


def test_retry_counts_crashes_afresh(books: Books) -> None:
    books.owe()
    for _ in range(MOST_CRASHES):
        crash(books)
    books.reopen().recover(starting=True)

    books.desk.retry(Selection())
    crash(books)

    assert books.reopen().recover(starting=True) == 1
    assert books.rows("last_status") == [(-1,)]


def test_due_time_that_no_pause_explains_counts_as_due(books: Books) -> None:
    books.owe(to=ref(1))
    books.clock.time -= 86400
    books.owe(to=ref(2))
    books.ledger.longest_pause_s = 600.0

    assert [debt.ref for debt in books.claim()] == [ref(2), ref(1)]


def test_lane_whose_due_time_no_pause_explains_is_due(books: Books) -> None:
    books.owe()
    books.ledger.longest_pause_s = 600.0
    books.clock.time -= 600
    assert lanes(books) == [("SINK", 1000.0)]
    assert books.claim() == []

    books.clock.time -= 86400

    assert lanes(books) == [("SINK", 0.0)]


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


def test_nothing_to_write_costs_no_transaction(embedded: Books) -> None:
    embedded.archive.writer.close()
    embedded.archive.database.close()
    before = embedded.archive.database.path
    assert before is not None
    before.rename(before.with_suffix(".away"))

    assert embedded.ledger.exchange([], "SINK", 0) == []


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


def test_time_is_the_clocks_in_an_embedded_database(embedded: Books) -> None:
    assert embedded.ledger.now() == 1000.0
    assert not embedded.ledger.shared


def test_time_is_the_servers_where_the_database_has_one(books: Books) -> None:
    books.owe()
    books.archive.database.clock_sql = "7000.5"

    [debt] = books.claim()

    assert books.ledger.now() == 7000.5
    books.settle(done(debt))
    assert books.rows("finished") == [(7000.5,)]


def test_claim_on_a_missing_database_says_that_it_is_away(embedded: Books) -> None:
    path = embedded.archive.database.path
    assert path is not None
    path.unlink()

    with pytest.raises(DatabaseAway):
        embedded.claim()


def _refuse(books: Books, text: str) -> None:
    """Make the database refuse reasons that contain a text."""
    refuses = f"NEW.last_error LIKE '%{text}%'"
    if books.archive.database.embedded:
        raised = "SELECT RAISE(ABORT, 'a row like this'); "
        statements = [
            f"CREATE TRIGGER refusal BEFORE UPDATE ON dgate_debts WHEN {refuses} BEGIN {raised}END"
        ]
    else:
        statements = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE check_violation USING MESSAGE = 'a row like this'; END$$",
            "CREATE TRIGGER refusal BEFORE UPDATE ON dgate_debts FOR EACH ROW "
            f"WHEN ({refuses}) EXECUTE FUNCTION refuse()",
        ]
    for statement in statements:
        books.archive.writer.transact(
            lambda transaction, statement=statement: transaction.execute(statement)
        )
