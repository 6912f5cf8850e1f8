"""Equal delayed operations: one at a time, whoever claims them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.records import DebtDraft, DebtKind
from dgate.archive.requests import request_draft
from dgate.archive.writer import Transaction, Writer
from dgate.config.settings import Durability
from dgate.delivery.equals import PUT_OFF_S
from dgate.delivery.ledger import PRIORITIES, Ledger
from dgate.delivery.records import Debt, Selection, Settlement, State
from dgate.rules.effects import ObjectScope, Request
from tests.archive.database_kit import ALL_ENGINES
from tests.delivery.kit import Books, draft, open_books, open_on

LANE = "delayed forward"
PATIENCE_S = 60.0
LATER_S = 2 * PUT_OFF_S
"""What was put off is due by then."""


@pytest.fixture(params=ALL_ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


@pytest.fixture(params=ALL_ENGINES[1:])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return the same, on each database server."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


def asked(study: str = "1.2.3") -> DebtDraft:
    """Return that a rule wants a study forwarded, now."""
    scope = ObjectScope(patient_id="P1", study=study)
    return request_draft(Request("forward", "study", scope, "ExportConverter0.0", peer="SINK"), 0.0)


def owe_twice(books: Books, *studies: str) -> None:
    """Enter two equal requests for each study, both due."""
    for _ in range(2):
        books.owe(*(asked(study) for study in studies or ("1.2.3",)))
        books.desk.hold(Selection())
    books.desk.release(Selection())
    assert books.states() == ["queued"] * 2 * max(1, len(studies))


def performed(debt: Debt) -> Settlement:
    """Return that a request was replaced by a delivery."""
    return Settlement(debt, None, drafts=(draft(context=f"request:{debt.ref.name}"),))


def test_only_the_first_of_equal_requests_is_claimed(books: Books) -> None:
    owe_twice(books)

    [first] = books.claim(LANE)

    assert first.id == 1
    assert books.states() == ["leased", "queued"]
    for _ in range(3):
        books.clock.time += LATER_S
        assert books.claim(LANE) == []


def test_the_next_one_follows_when_what_the_first_owes_is_written_down(books: Books) -> None:
    owe_twice(books)
    [first] = books.claim(LANE)
    books.clock.time += LATER_S

    [second] = books.ledger.exchange([performed(first)], LANE, 100)

    assert second.id == 2
    assert books.rows("id, kind, state") == [(2, "request", "leased"), (3, "deliver", "queued")]


def test_one_that_failed_lets_the_other_go_first(books: Books) -> None:
    owe_twice(books)
    [first] = books.claim(LANE)

    books.settle(Settlement(first, State.STUCK, error="no"))
    books.clock.time += LATER_S

    assert [debt.id for debt in books.claim(LANE)] == [2]


def test_other_workers_and_gateways_leave_it_too(books: Books) -> None:
    owe_twice(books)
    assert len(books.ledger.exchange([], LANE, 100)) == 1
    books.clock.time += LATER_S

    assert books.ledger.exchange([], LANE, 100, slot=1) == []
    books.clock.time += LATER_S
    assert books.reopen().exchange([], LANE, 100) == []


def test_what_a_crash_leaves_is_taken_up_one_by_one(books: Books) -> None:
    owe_twice(books)
    assert len(books.claim(LANE)) == 1
    books.clock.time += LATER_S
    start = books.reopen()
    start.recover(starting=True)

    [taken] = start.exchange([], LANE, 100)
    books.clock.time += LATER_S
    assert start.exchange([], LANE, 100) == []
    start.exchange([performed(taken)], LANE, 0)
    books.clock.time += LATER_S

    assert len(start.exchange([], LANE, 100)) == 1


def test_requests_for_different_studies_are_claimed_together(books: Books) -> None:
    owe_twice(books, "1.2.3", "1.2.4", "1.2.5")

    assert len({debt.ref.name for debt in books.claim(LANE)}) == 3
    books.clock.time += LATER_S
    assert books.claim(LANE) == []


def test_one_that_waits_behind_its_equal_does_not_keep_others_from_being_claimed(
    books: Books,
) -> None:
    owe_twice(books)
    books.owe(asked("1.2.4"))
    books.claim(LANE, 1)

    # It is due first, and there is room for one only.
    assert books.claim(LANE, 1) == []
    [other] = books.claim(LANE, 1)

    assert other.id == 3


def test_claims_of_deliveries_do_not_look_at_requests(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    books.owe()
    statements = list[str]()

    def work(transaction: Transaction) -> None:
        raw = transaction._connection.raw
        raw.set_trace_callback(statements.append)
        try:
            books.ledger._claim(transaction, "SINK", 1000.0, 5, "me", PRIORITIES)
        finally:
            raw.set_trace_callback(None)

    books.archive.writer.transact(work)
    books.archive.close()
    assert "leased" in "".join(statements)
    assert "REQUEST" not in "".join(statements)


def test_what_another_gateway_has_in_hand_uncommitted_is_left(shared: Books) -> None:
    owe_twice(shared)
    locked, committed = threading.Event(), threading.Event()
    other = Writer(shared.archive.database, Durability.NONE)

    def hold_the_second(transaction: Transaction) -> None:
        transaction.execute("SELECT id FROM dgate_debts WHERE id = 2 FOR UPDATE").fetchall()
        locked.set()
        committed.wait(PATIENCE_S)

    thread = threading.Thread(target=other.transact, args=(hold_the_second,))
    thread.start()
    try:
        assert locked.wait(PATIENCE_S)

        assert shared.claim(LANE) == []
    finally:
        committed.set()
        thread.join()
        other.close()
    shared.clock.time += LATER_S
    assert len(shared.claim(LANE)) == 1


def test_gateways_that_claim_at_the_same_time_never_have_equal_ones(shared: Books) -> None:
    owe_twice(shared, *(f"1.2.{number}" for number in range(10)))
    writers = [Writer(shared.archive.database, Durability.NONE) for _ in range(2)]
    ledgers = [
        Ledger(
            shared.archive.database,
            writer,
            shared.clock,
            shared.archive.index.add_debts,
            shared.released.append,
        )
        for writer in writers
    ]
    start = threading.Barrier(2)
    failures: list[BaseException] = []
    claimed: list[Debt] = []

    def work(ledger: Ledger) -> None:
        try:
            start.wait(PATIENCE_S)
            # A few at a time, so that both get some.
            for _ in range(10):
                claimed.extend(ledger.exchange([], LANE, 3))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()

    assert not failures
    names = [debt.ref.name for debt in claimed]
    assert len(names) == len(set(names))
    leased = shared.rows("name, state, kind")
    taken = [name for name, state, kind in leased if state == "leased"]
    assert sorted(taken) == sorted(names)
    assert {DebtKind(kind) for _, _, kind in leased} == {DebtKind.REQUEST}
