"""Under which UIDs the node is asked to commit to what it has accepted."""

from __future__ import annotations

from pathlib import Path

from dgate.delivery.commitment.ledger import Commitments
from dgate.delivery.commitment.messages import Reference, Report
from dgate.delivery.records import Settlement, State
from tests.delivery.commitment.test_ledger import LANE
from tests.delivery.kit import draft, open_books, ref


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
