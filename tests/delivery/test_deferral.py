"""Export lines that a rule defers: run again later, for as long as it takes, without a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery import outcomes as outcomes_module
from dgate.errors import Deferred
from dgate.rules.effects import Forward
from tests.delivery.kit import Books, draft, ref
from tests.delivery.twins import Workshop

LANE = "ExportConverter0"


def defer(debt: Any) -> list[Forward]:
    raise Deferred("deferred by ExportConverter0.1")


def owe(shop: Workshop, count: int = 1) -> None:
    for number in range(1, count + 1):
        shop.books.owe(draft(LANE, kind=DebtKind.EXPORT), to=ref(number))


def test_a_deferred_debt_waits_longer_each_time_and_never_gets_stuck(
    books: Books, tmp_path: Path
) -> None:
    shop = Workshop(
        books, tmp_path, retry_first_s=100.0, retry_max_s=1000.0, maximum_export_retries=1
    )
    owe(shop)
    shop.expansions = defer
    lane = None
    pauses = []
    for _ in range(8):
        lane = shop.work(LANE, lane)
        [(state, due, attempts, text)] = books.rows("state, due, attempts, last_error")
        assert (state, attempts, text) == ("queued", 0, "deferred by ExportConverter0.1")
        pauses.append(due - books.clock.time)
        books.clock.time = due + 1

    assert 80 <= pauses[0] <= 120
    assert 160 <= pauses[1] <= 240
    assert 320 <= pauses[2] <= 480
    assert 800 <= pauses[-1] <= 1000
    assert lane is not None
    assert (lane.failures, lane.paused_until) == (0, 0.0)


def test_a_fixed_retry_delay_counts(books: Books, tmp_path: Path) -> None:
    shop = Workshop(books, tmp_path, retry_delay_s=100.0)
    owe(shop)
    shop.expansions = defer

    shop.work(LANE)

    assert books.rows("due") == [(books.clock.time + 100.0,)]


def test_a_deferred_debt_is_paid_when_its_line_no_longer_defers(
    books: Books, tmp_path: Path
) -> None:
    shop = Workshop(books, tmp_path, retry_first_s=0.0, retry_max_s=0.0)
    owe(shop)
    runs = []

    def expand(debt: Any) -> list[Forward]:
        runs.append(debt.attempts)
        return defer(debt) if len(runs) < 4 else [Forward("SINK", "ExportConverter0.2")]

    shop.expansions = expand
    lane = shop.work(LANE)

    assert runs == [0, 0, 0, 0]
    assert books.rows("kind, state, destination") == [("deliver", "queued", "SINK")]
    assert lane.deferrals == {}


def test_other_debts_of_the_lane_go_on(books: Books, tmp_path: Path) -> None:
    shop = Workshop(books, tmp_path)
    owe(shop, 3)
    shop.expansions = lambda debt: defer(debt) if debt.ref == ref(1) else []

    shop.work(LANE)

    assert books.rows("sop_instance, state") == [("1.2.3.1", "queued")]


def test_what_a_lane_remembers_is_bounded(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes_module, "MOST_DEFERRALS", 2)
    shop = Workshop(books, tmp_path)
    owe(shop, 5)
    shop.expansions = defer

    lane = shop.work(LANE)

    assert len(lane.deferrals) <= 2
    assert books.rows("state") == [("queued",)] * 5
