"""Reports that come when the deliveries are stuck already, on each engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from dgate.archive.writer import Transaction, Writer
from dgate.delivery.commitment.ledger import Commitments
from dgate.delivery.commitment.messages import ASKING_LANE, Reference, Report
from dgate.delivery.records import Selection, Settlement, State
from tests.archive.plan_kit import Explained
from tests.delivery.commitment.test_ledger import (
    LANE,
    WAIT_S,
    ask,
    ask_in_vain,
    deliver,
    named,
    states,
    wait,
)
from tests.delivery.kit import Books, draft, open_books, ref


@pytest.mark.parametrize("which", [0, -1], ids=["the first", "the last"])
@pytest.mark.parametrize("is_forgotten", [False, True], ids=["", "the debt is forgotten"])
def test_a_report_that_comes_after_giving_up_closes_what_it_commits_to(
    books: Books, commitments: Commitments, tmp_path: Path, which: int, is_forgotten: bool
) -> None:
    deliver(books, 1, 2, 3, spool=tmp_path / "copy.dcm")
    books.clock.time += WAIT_S
    asked = ask_in_vain(books, commitments)
    assert states(books) == ["stuck"] * 3
    commitments.adopt()
    if is_forgotten:
        # By LedgerDays.
        sql = "DELETE FROM dgate_debts WHERE kind = 'commit'"
        books.archive.writer.transact(lambda transaction: transaction.execute(sql))
    books.clock.time += 6 * 3600.0

    # What the node does not have after all that time stays stuck.
    late = Report(asked[which].uid, named(1, 2), dict.fromkeys(named(3), 0x0112))
    assert commitments.take(late, apart=True, pause_s=1.0) == 0

    assert states(books) == ["done", "done", "stuck"]
    rows = [row for row in books.rows("kind, committed, last_error") if row[0] == "deliver"]
    now = books.clock.time
    assert [row[1:] for row in rows] == [(now, None)] * 2 + [(None, "no report has come")]
    assert books.released == []
    # Twice, and for the rest.
    assert commitments.take(late, apart=True, pause_s=1.0) == 0
    assert commitments.take(Report(late.uid, named(3), {}), apart=True, pause_s=1.0) == 0
    assert states(books) == ["done"] * 3
    assert books.released == ["copy.dcm"]


def test_a_late_report_names_objects_as_they_were_sent(
    books: Books, commitments: Commitments
) -> None:
    books.owe(draft(), to=ref(1))
    [debt] = books.claim()
    books.settle(Settlement(debt, State.COMMITTING, sent=("1.2.4", "1.2.5")))
    [asked] = ask_in_vain(books, commitments, rounds=1)
    # Which forgets what nobody needs.
    commitments.adopt()

    commitments.take(Report(asked.uid, asked.references, {}), apart=True, pause_s=1.0)

    assert asked.references == (Reference("1.2.4", "1.2.5"),)
    assert states(books) == ["done"]


def test_after_a_retry_the_new_request_alone_counts(books: Books, commitments: Commitments) -> None:
    deliver(books, 1)
    books.clock.time += WAIT_S
    [asked] = ask_in_vain(books, commitments, rounds=1)
    books.desk.retry(Selection(destination="SINK"))
    [debt] = books.claim(LANE)
    again = commitments.begin(debt)
    assert again is not None

    commitments.take(Report(asked.uid, named(1), {}), apart=True, pause_s=1.0)
    assert states(books) == ["committing"]

    commitments.take(Report(again.uid, named(1), {}), apart=True, pause_s=1.0)
    assert states(books) == ["done"]


def test_what_goes_elsewhere_is_not_closed_by_a_late_report(
    books: Books, commitments: Commitments
) -> None:
    deliver(books, 1)
    books.clock.time += WAIT_S
    [asked] = ask_in_vain(books, commitments, rounds=1)
    books.desk.reroute(Selection(destination="SINK"), "OTHER")
    [debt] = books.claim("OTHER")
    books.settle(Settlement(debt, State.COMMITTING, 0))

    commitments.take(Report(asked.uid, named(1), {}), apart=True, pause_s=1.0)

    assert states(books) == ["committing"]
    # The other one is asked under a transaction of its own.
    [errand] = books.claim(f"{ASKING_LANE}OTHER")
    other = commitments.begin(errand)
    assert other is not None
    assert other.references == named(1)


def test_what_the_node_did_not_have_is_not_closed_by_a_late_report(
    books: Books, commitments: Commitments
) -> None:
    books.owe(draft(), to=ref(1))
    for _ in range(3):
        [delivery] = books.claim()
        books.settle(Settlement(delivery, State.COMMITTING, 0))
        debt, asked = ask(books, commitments)
        wait(books, debt)
        report = Report(asked.uid, (), dict.fromkeys(asked.references, 0x0112))
        commitments.take(report, apart=True, pause_s=0.0)
    assert states(books) == ["stuck"]

    commitments.take(Report(asked.uid, named(1), {}), apart=True, pause_s=0.0)

    assert states(books) == ["stuck"]


class Watched:
    """A writer that shows how its transactions find their rows."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.seen: list[Explained] = []

    def transact(self, work: Callable[[Any], Any]) -> Any:
        def job(transaction: Transaction) -> Any:
            self.seen.append(Explained(transaction))
            return work(self.seen[-1])

        return self._writer.transact(job)


def test_late_reports_and_giving_up_find_their_rows_by_an_index(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    archive = books.archive
    try:
        watched = Watched(archive.writer)
        commitments = Commitments(
            archive.database,
            cast(Writer, watched),
            books.clock,
            books.released.append,
            lambda: None,
        )
        deliver(books, 1)
        books.clock.time += WAIT_S
        [asked] = ask_in_vain(books, commitments, rounds=1)
        commitments.take(Report(asked.uid, named(1), {}), apart=True, pause_s=1.0)
        assert states(books) == ["done"]
    finally:
        archive.close()

    plans = [plan for explained in watched.seen for plan in explained.plans]
    assert any("dgate_debts_given_up" in plan for plan in plans)
    for explained in watched.seen:
        if explained.plans:
            explained.check()
