"""Exchanges with the ledger beside deliveries: what is claimed ahead is sent, or goes back."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import InstanceRef
from dgate.config.node_settings import Priority
from dgate.delivery.ledger import SUSPECT_CRASHES, Ledger
from dgate.delivery.sender import SendResult
from dgate.delivery.worker import BATCH, Lane, Worker
from dgate.errors import DatabaseAway, TimedOut
from tests.acceptance.processes import wait_until
from tests.delivery.kit import Books, draft, ref
from tests.delivery.twins import OK, Workshop, await_exchange

COUNT = 3 * BATCH


@pytest.fixture
def shop(books: Books, tmp_path: Path) -> Workshop:
    shop = Workshop(books, tmp_path)
    for number in range(COUNT):
        books.owe(draft(), to=ref(number))
    return shop


def patient(shop: Workshop) -> None:
    """Let the peer answer when no exchange is under way, so that each is taken at the next step."""

    def answer(_: InstanceRef) -> SendResult:
        await_exchange("SINK")
        return OK

    shop.script = answer


def counts(shop: Workshop) -> dict[tuple[Any, ...], int]:
    found: dict[tuple[Any, ...], int] = {}
    for row in shop.books.rows("state, attempts, repeats"):
        found[row] = found.get(row, 0) + 1
    return found


def spoil(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, error: Exception, *, after: bool
) -> None:
    """Have the first exchange beside deliveries fail, before its commit or `after` it."""
    real: Any = Ledger.exchange
    spoilt = threading.Event()

    def exchange(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name != "book-SINK" or spoilt.is_set():
            return real(shop.books.ledger, *arguments, **options)
        spoilt.set()
        if after:
            real(shop.books.ledger, *arguments, **options)
        raise error

    monkeypatch.setattr(shop.books.ledger, "exchange", exchange)


def test_a_backlog_is_claimed_beside_the_deliveries(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = shop.books.ledger.exchange
    by: list[str] = []

    def exchange(*arguments: Any, **options: Any) -> Any:
        by.append(threading.current_thread().name)
        return real(*arguments, **options)

    monkeypatch.setattr(shop.books.ledger, "exchange", exchange)
    patient(shop)
    shop.work()

    # The first claim, and the one that finds nothing more: what lies between was beside.
    assert by.count("book-SINK") >= 2
    assert shop.sent() == [f"1.2.3.{number}" for number in range(COUNT)]
    assert counts(shop) == {("done", 1, 0): COUNT}
    assert shop.steps().count("open") == 1


def test_the_first_of_the_next_batch_is_announced_to_the_last_of_this(shop: Workshop) -> None:
    patient(shop)
    shop.work()

    upcoming = [entry[3] for entry in shop.journal if entry[0] == "send"]
    assert upcoming == [f"1.2.3.{number}" for number in range(1, COUNT)] + [""]


@pytest.mark.parametrize("number", [BATCH // 2, BATCH // 2 + 1, BATCH - 1, BATCH])
def test_what_was_claimed_ahead_goes_back_at_a_stop(shop: Workshop, number: int) -> None:
    workers: list[Worker] = []

    def answer(which: InstanceRef) -> SendResult:
        await_exchange("SINK")
        if which.sop_instance == f"1.2.3.{number}":
            workers[0].stop_soon()
        return OK

    shop.script = answer
    worker = Worker(Lane("SINK"), lambda: shop.tools, lambda _worker, _must: True, shop.wake)
    workers.append(worker)
    worker.run()

    done = number + 1
    assert counts(shop) == {("done", 1, 0): done, ("queued", 0, 0): COUNT - done}


@pytest.mark.parametrize("number", [BATCH // 2, BATCH // 2 + 1, BATCH - 1])
def test_what_was_claimed_ahead_goes_back_when_the_peer_fails(shop: Workshop, number: int) -> None:
    def answer(which: InstanceRef) -> SendResult | Exception:
        await_exchange("SINK")
        failed = which.sop_instance == f"1.2.3.{number}"
        return TimedOut("silent") if failed else OK

    shop.script = answer
    shop.work()

    assert counts(shop) == {
        ("done", 1, 0): number,
        ("queued", 1, 1): 1,
        ("queued", 0, 0): COUNT - number - 1,
    }


@pytest.mark.parametrize("after", [False, True], ids=["undone", "outcome unknown"])
def test_a_commit_that_fails_beside_the_deliveries_loses_nothing(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    spoil(shop, monkeypatch, DatabaseAway("locked"), after=after)
    patient(shop)
    shop.work()

    assert sorted(shop.sent()) == sorted(f"1.2.3.{number}" for number in range(COUNT))
    assert sum(number for row, number in counts(shop).items() if row[0] == "done") == COUNT


def test_an_unexpected_error_of_the_ledger_leaves_everything_to_the_next_worker(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(shop, monkeypatch, ZeroDivisionError("a fault"), after=True)
    patient(shop)
    lane = shop.work()
    assert lane.abandoned
    lane.site.breaker.reset()

    shop.work(lane=lane)

    assert sorted(set(shop.sent())) == sorted(f"1.2.3.{number}" for number in range(COUNT))
    assert len(shop.sent()) == COUNT
    assert sum(number for row, number in counts(shop).items() if row[0] == "done") == COUNT


def test_without_a_further_thread_the_deliveries_wait_for_the_ledger(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    shop.work()

    assert counts(shop) == {("done", 1, 0): COUNT}


def test_debts_that_come_while_a_backlog_is_worked_off_are_delivered(shop: Workshop) -> None:
    def answer(which: InstanceRef) -> SendResult:
        await_exchange("SINK")
        if which.sop_instance == f"1.2.3.{COUNT - BATCH}":
            shop.books.owe(draft(), to=ref(COUNT))
        return OK

    shop.script = answer
    shop.work()

    assert counts(shop) == {("done", 1, 0): COUNT + 1}


def hold(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Have exchanges beside deliveries wait, after they were begun, for what is returned."""
    real: Any = shop.books.ledger.exchange
    goes_on = threading.Event()

    def exchange(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        if threading.current_thread().name == "book-SINK":
            goes_on.wait()
        return found

    monkeypatch.setattr(shop.books.ledger, "exchange", exchange)
    return goes_on


@pytest.mark.parametrize("during", [10, BATCH // 2 + 5, BATCH - 2, BATCH - 1])
@pytest.mark.parametrize("in_flight", [False, True], ids=["claimed", "claim in flight"])
def test_what_is_more_urgent_goes_before_what_was_claimed_ahead(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: int, in_flight: bool
) -> None:
    shop = Workshop(books, tmp_path)
    for number in range(COUNT):
        books.owe(draft(priority=Priority.BULK), to=ref(number))
    goes_on = hold(shop, monkeypatch)
    workers: list[Worker] = []

    def answer(which: InstanceRef) -> SendResult:
        if not in_flight:
            goes_on.set()
            await_exchange("SINK")
        if which.sop_instance == f"1.2.3.{during}":
            books.owe(draft(priority=Priority.STAT), to=ref(COUNT))
            workers[0].nudge(Priority.STAT)
            goes_on.set()
        return OK

    shop.script = answer
    worker = Worker(Lane("SINK"), lambda: shop.tools, lambda _worker, _must: True, shop.wake)
    workers.append(worker)
    worker.run()

    assert shop.sent()[during + 1] == f"1.2.3.{COUNT}"
    assert counts(shop) == {("done", 1, 0): COUNT + 1}


def test_a_debt_that_servers_died_of_is_the_only_one_leased(shop: Workshop) -> None:
    suspect = BATCH
    shop.books.archive.writer.transact(
        lambda transaction: transaction.execute(
            f"UPDATE dgate_debts SET last_status = {-SUSPECT_CRASHES} WHERE id = {suspect + 1}"
        )
    )
    leased: list[int] = []

    def answer(which: InstanceRef) -> SendResult:
        await_exchange("SINK")
        if which.sop_instance == f"1.2.3.{suspect}":
            leased.append(shop.books.states().count("leased"))
        return OK

    shop.script = answer
    shop.work()

    assert leased == [1]
    assert counts(shop) == {("done", 1, 0): COUNT}


def test_a_worker_that_dies_waits_for_the_exchange_that_it_began(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = hold(shop, monkeypatch)
    dies_at = BATCH // 2 + 3

    def answer(which: InstanceRef) -> SendResult:
        if which.sop_instance == f"1.2.3.{dies_at}":
            raise SystemExit
        return OK

    shop.script = answer
    lane = Lane("SINK")
    ended = threading.Event()

    def work() -> None:
        with contextlib.suppress(SystemExit):
            shop.work(lane=lane)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: len(shop.sent()) > dies_at, "the end of the worker")
    assert not ended.wait(0.2)
    goes_on.set()
    thread.join()

    shop.script = lambda _: OK
    shop.work(lane=lane)
    # The one at which it died had no answer.
    assert len(shop.sent()) == COUNT + 1
    assert shop.books.states() == ["done"] * COUNT


def test_workers_that_share_a_destination_claim_nothing_ahead(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(books, tmp_path, delayed_forwarder_threads=2)
    for number in range(COUNT):
        books.owe(draft(), to=ref(number))
    real: Any = books.ledger.exchange
    limits: list[int] = []

    def exchange(marks: Any, destination: str, limit: int, **options: Any) -> Any:
        if threading.current_thread().name == "book-SINK":
            limits.append(limit)
        return real(marks, destination, limit, **options)

    monkeypatch.setattr(books.ledger, "exchange", exchange)

    def answer(_: InstanceRef) -> SendResult:
        books.clock.time += 0.2
        await_exchange("SINK")
        return OK

    shop.script = answer
    shop.work()

    assert set(limits) == {0}
    assert counts(shop) == {("done", 1, 0): COUNT}
