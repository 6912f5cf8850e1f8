"""Under which UIDs the node is asked to commit to what it has accepted, and how much at once."""

from __future__ import annotations

from pathlib import Path

from dgate.archive.records import DebtKind
from dgate.delivery.commitment.gathering import MOST_AT_ONCE
from dgate.delivery.commitment.ledger import Commitments
from dgate.delivery.commitment.messages import Reference, Report
from dgate.delivery.records import Settlement, State
from tests.delivery.commitment.test_ledger import FEW, LANE, WAIT_S, deliver, states
from tests.delivery.kit import Books, draft, open_books, ref

MANY = 2 * MOST_AT_ONCE + FEW


def test_what_was_sent_under_other_uids_before_is_forgotten(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    archive = books.archive
    commitments = Commitments(
        archive.database, archive.writer, books.clock, books.released.append, lambda: None
    )
    own = (ref(1).sop_class, ref(1).sop_instance)
    asked = []
    try:
        books.owe(draft(), to=ref(1))
        # A rule gave it other UIDs the first time, and none since it was corrected.
        for sent in (("1.2.4", "1.2.5"), own):
            [debt] = books.claim()
            books.settle(Settlement(debt, State.COMMITTING, 0, sent=sent))
            [errand] = books.claim(LANE)
            request = commitments.begin(errand)
            assert request is not None
            asked.append(request.references)
            report = Report(request.uid, (), dict.fromkeys(request.references, 0x0112))
            commitments.take(report, apart=True, pause_s=0.0)
    finally:
        archive.close()

    assert asked == [(Reference("1.2.4", "1.2.5"),), (Reference(*own),)]


def open_asking(books: Books) -> int:
    """Return how many debts ask, or mean to."""
    return len([state for state in states(books, DebtKind.COMMIT) if state != "done"])


def test_all_that_was_gathered_gets_stuck_in_parts(books: Books, commitments: Commitments) -> None:
    deliver(books, *range(1, MANY + 1))
    books.clock.time += WAIT_S
    left = [MANY - MOST_AT_ONCE, MANY - 2 * MOST_AT_ONCE, 0]
    for count in left:
        # As where the node is in acrnema.map no more.
        [debt] = books.claim(LANE)
        books.settle(Settlement(debt, State.STUCK, None, "no such node"))
        assert states(books).count("committing") == count
        # A crash here leaves the rest with a debt of its own.
        assert open_asking(books) == (1 if count else 0)

    assert books.claim(LANE) == []
    assert states(books) == ["stuck"] * MANY
    assert commitments.adopt() == 0


def test_the_rest_is_claimed_with_the_outcome_of_the_first_part(books: Books) -> None:
    deliver(books, *range(1, MOST_AT_ONCE + FEW))
    books.clock.time += WAIT_S
    [debt] = books.claim(LANE)

    found = books.ledger.exchange([Settlement(debt, State.STUCK, None, "gone")], LANE, 10)

    assert [each.kind for each in found] == [DebtKind.COMMIT]
    assert found[0].id != debt.id


def test_all_that_was_gathered_counts_in_parts(books: Books, commitments: Commitments) -> None:
    deliver(books, *range(1, MOST_AT_ONCE + FEW + 1))
    books.clock.time += WAIT_S
    for count in (MOST_AT_ONCE, FEW):
        [debt] = books.claim(LANE)
        assert commitments.do_without(debt, "no more") == count
        books.settle(Settlement(debt, State.DONE))

    assert books.claim(LANE) == []
    assert states(books) == ["done"] * (MOST_AT_ONCE + FEW)
    assert commitments.adopt() == 0


def test_stuck_debts_leave_it_to_the_deliveries_in_parts(books: Books) -> None:
    woken: list[bool] = []
    archive = books.archive
    commitments = Commitments(
        archive.database,
        archive.writer,
        books.clock,
        books.released.append,
        lambda: woken.append(True),
    )
    deliver(books, *range(1, MOST_AT_ONCE + FEW + 1))
    sql = "UPDATE dgate_debts SET state = 'stuck', last_error = 'x' WHERE kind = 'commit'"
    books.archive.writer.transact(lambda transaction: transaction.execute(sql))

    assert commitments.stop_stuck() == MOST_AT_ONCE

    assert woken == [True]
    assert states(books).count("committing") == FEW
    assert states(books, DebtKind.COMMIT) == ["done", "queued"]
    [rest] = books.claim(LANE)
    assert commitments.give_up(rest, "x") == FEW
