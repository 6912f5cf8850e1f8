"""What is owed already, where the database's clock is not that of the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.delivery.reconcile.gaps import Gaps
from tests.archive.database_kit import ALL_ENGINES
from tests.delivery.kit import Books, StillClock, done, draft, open_on, ref

pytestmark = pytest.mark.integration


@pytest.fixture(params=ALL_ENGINES)
def books(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Books]:
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


@pytest.mark.parametrize("ahead_s", [-500.0, 500.0], ids=["behind", "ahead"])
def test_what_ended_is_told_from_what_ended_before_by_the_databases_clock(
    books: Books, ahead_s: float
) -> None:
    """The gateway's clock is wrong, by more than lies between any two of these events."""
    archive = books.archive
    is_shared = archive.database.clock_sql is not None
    clock = StillClock(books.clock.time + ahead_s) if is_shared else books.clock
    gaps = Gaps(archive.database, archive.writer, archive.index, clock, lambda: None)
    books.owe(draft("PEER"), to=ref(1))
    books.settle(*map(done, books.claim("PEER")))
    books.clock.time += 10

    asked = gaps.now()

    assert asked == books.clock.time
    books.owe(draft("PEER"), to=ref(2))
    books.settle(*map(done, books.claim("PEER")))
    found = gaps.sort("PEER", [ref(1), ref(2)], (), asked)
    # The first was delivered before the node was asked, and the node does not have it.
    assert found.missing == [ref(1)]
    assert found.waiting == [ref(2)]
    assert gaps.owe("PEER", [ref(1), ref(2)], (), asked).missing == [ref(1)]
    assert books.rows("sop_instance, state, rule")[2:] == [("1.2.3.1", "queued", "reconcile")]
