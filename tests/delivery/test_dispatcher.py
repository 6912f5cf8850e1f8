"""Destinations side by side: who is worked on when, what wakes whom, and how all of it ends."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.clock import SystemClock
from dgate.delivery import dispatcher as module
from dgate.delivery.dispatcher import Dispatcher
from dgate.delivery.records import Selection
from dgate.delivery.sender import SendResult
from dgate.delivery.worker import Lane, Worker
from dgate.errors import Aborted, DatabaseAway, Unreachable
from dgate.rules.effects import Forward
from tests.acceptance.processes import wait_until
from tests.delivery.kit import Books, draft, open_books, ref
from tests.delivery.twins import OK, Answer, TwinSender, Workshop

PATIENCE_S = 60.0


class Floor:
    """A running dispatcher with its workshop, and ways to wait for what it does."""

    def __init__(self, books: Books, folder: Path, **settings: Any) -> None:
        self.shop = Workshop(books, folder, **settings)
        self.books = books
        self.dispatcher = Dispatcher(lambda: self.shop.tools)
        self._changed = threading.Condition()
        self.sent: list[tuple[str, str]] = []
        self.hang: dict[str, threading.Event] = {}
        self.answers: dict[str, Callable[[], SendResult]] = {}

        def make_sender(destination: Any) -> TwinSender:
            sender = self.shop.make_sender(destination)
            sender.script = lambda which: self._send(destination.called, which.sop_instance, sender)
            return sender

        self.rebuild(make_sender=make_sender)

    def rebuild(self, **changes: Any) -> None:
        """Use another toolbox."""
        self.shop.tools = dataclasses.replace(self.shop.tools, **changes)
        self.dispatcher = Dispatcher(lambda: self.shop.tools)

    def _send(self, called: str, sop_instance: str, sender: TwinSender) -> Answer:
        with self._changed:
            self.sent.append((called, sop_instance))
            self._changed.notify_all()
        if called in self.hang:
            assert self.hang[called].wait(PATIENCE_S)
            if sender.was_cut:
                return Aborted("cut")
        return self.answers[called]() if called in self.answers else OK

    def await_sent(self, *expected: tuple[str, str]) -> None:
        """Wait until all of these were sent."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(expected) <= set(self.sent), PATIENCE_S), (
                self.sent
            )

    def owe(self, *destinations: str, number: int = 1) -> None:
        """Commit debts and wake the dispatcher as intake does."""
        self.books.owe(*(draft(name) for name in destinations), to=ref(number))
        self.dispatcher.wake()


@pytest.fixture
def floor(tmp_path: Path) -> Iterator[Floor]:
    books = open_books(tmp_path, SystemClock())
    # Pauses that no test lives to see the end of, however slow the machine is.
    opened = Floor(books, tmp_path, retry_first_s=3600.0, retry_max_s=3600.0)
    yield opened
    for event in opened.hang.values():
        event.set()
    opened.dispatcher.stop()
    books.archive.close()
    # A worker that had nothing left to do may be at the very end of its thread.
    _await(lambda: not [thread for thread in threading.enumerate() if _is_ours(thread)])


def test_debts_found_at_start_are_delivered(floor: Floor) -> None:
    floor.owe("SINK", "OTHER")

    floor.dispatcher.start()

    floor.await_sent(("SINK", "1.2.3.1"), ("OTHER", "1.2.3.1"))


def test_new_debt_is_delivered_when_intake_wakes_the_dispatcher(floor: Floor) -> None:
    floor.dispatcher.start()

    for number in range(5):
        floor.owe("SINK", number=number)
        floor.await_sent(("SINK", f"1.2.3.{number}"))


def test_hanging_destination_delays_no_other(floor: Floor) -> None:
    floor.hang["SINK"] = threading.Event()
    floor.dispatcher.start()
    floor.owe("SINK")
    floor.await_sent(("SINK", "1.2.3.1"))

    floor.owe("OTHER", number=2)

    floor.await_sent(("OTHER", "1.2.3.2"))


def test_deliveries_of_an_expanded_export_debt_follow(floor: Floor) -> None:
    floor.shop.expansions = lambda debt: [Forward("OTHER", "ExportConverter0.1")]
    floor.books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT), to=ref(4))

    floor.dispatcher.start()

    floor.await_sent(("OTHER", "1.2.3.4"))


def test_failed_destination_is_tried_again_without_being_woken(tmp_path: Path) -> None:
    books = open_books(tmp_path, SystemClock())
    floor = Floor(books, tmp_path, retry_first_s=0.01, retry_max_s=0.02)
    answers = iter([SendResult(0xA700), SendResult(0xA700), OK])
    floor.answers["SINK"] = lambda: next(answers)
    done = threading.Event()
    real = books.ledger.exchange

    def watch(settlements: Any, *arguments: Any, **options: Any) -> Any:
        paid = any(settled.state == "done" for settled in settlements)
        result = real(settlements, *arguments, **options)
        if paid:
            done.set()
        return result

    books.ledger.exchange = watch  # type: ignore[method-assign]
    floor.owe("SINK")
    floor.dispatcher.start()

    assert done.wait(PATIENCE_S)
    floor.dispatcher.stop()
    assert books.rows("state, attempts") == [("done", 3)]
    books.archive.close()


def test_paused_destination_is_tried_at_once_when_the_operator_says_so(floor: Floor) -> None:
    answers = iter([SendResult(0xA700), OK])
    floor.answers["SINK"] = lambda: next(answers)
    floor.owe("SINK")
    floor.dispatcher.start()
    floor.await_sent(("SINK", "1.2.3.1"))
    _await(lambda: floor.dispatcher.status() and not floor.dispatcher.status()[0].working)
    [status] = floor.dispatcher.status()
    assert status.failures == 1
    assert status.pause_s > 1.0
    assert "A700" in status.last_error
    floor.sent.clear()

    floor.books.desk.retry(_everything())
    floor.dispatcher.retry_now("SINK")

    floor.await_sent(("SINK", "1.2.3.1"))


def test_sleeping_dispatcher_does_not_look_at_the_ledger(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = floor.books.ledger.lanes
    slept = threading.Event()

    def count() -> Any:
        nonlocal looks
        looks += 1
        return real()

    monkeypatch.setattr(floor.books.ledger, "lanes", count)
    floor.dispatcher.start()
    _await(lambda: looks == 1)

    assert not slept.wait(0.3)
    assert looks == 1


def test_stop_finishes_the_object_in_hand_and_gives_the_rest_back(floor: Floor) -> None:
    floor.hang["SINK"] = threading.Event()
    for number in range(3):
        floor.books.owe(draft("SINK"), to=ref(number))
    floor.dispatcher.start()
    floor.await_sent(("SINK", "1.2.3.0"))
    stopping = threading.Thread(target=floor.dispatcher.stop)
    stopping.start()
    _await(lambda: any(worker._stopping for worker in _workers(floor)))

    floor.hang["SINK"].set()
    stopping.join(PATIENCE_S)

    assert floor.books.rows("state, attempts, repeats") == [
        ("done", 1, 0),
        ("queued", 0, 0),
        ("queued", 0, 0),
    ]


def test_stop_cuts_a_destination_that_hangs_and_counts_the_doubtful_outcome(floor: Floor) -> None:
    floor.hang["SINK"] = threading.Event()
    floor.owe("SINK")
    floor.dispatcher.start()
    floor.await_sent(("SINK", "1.2.3.1"))
    floor.shop.senders[0].on_cut = floor.hang["SINK"].set

    floor.dispatcher.stop(drain_s=0.05)

    assert floor.books.rows("state, attempts, repeats") == [("queued", 0, 1)]


def test_deliveries_of_a_dead_server_are_taken_up_at_start_and_counted(
    floor: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    floor.books.owe(draft("SINK"))
    floor.books.reopen().exchange([], "SINK", 10)

    assert floor.dispatcher.start() == 1

    floor.await_sent(("SINK", "1.2.3.1"))
    floor.dispatcher.stop()
    assert floor.books.rows("state, repeats") == [("done", 1)]
    assert "1 deliveries were under way" in caplog.text


def test_unreachable_ledger_is_looked_at_again(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TROUBLE_PAUSE_S", 0.01)
    errors: Iterator[Exception] = iter([DatabaseAway("locked"), ZeroDivisionError("fault")])
    real = floor.books.ledger.lanes

    def flaky() -> Any:
        error = next(errors, None)
        if error is not None:
            raise error
        return real()

    monkeypatch.setattr(floor.books.ledger, "lanes", flaky)
    floor.owe("SINK")
    floor.dispatcher.start()

    floor.await_sent(("SINK", "1.2.3.1"))


def test_more_destinations_than_workers_take_turns(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WORKERS", 2)
    names = [f"10.0.0.{number}" for number in range(1, 8)]
    floor.owe(*names)

    floor.dispatcher.start()

    floor.await_sent(*((name, "1.2.3.1") for name in names))


def test_unreachable_destinations_are_forgotten_once_nothing_is_owed(tmp_path: Path) -> None:
    books = open_books(tmp_path, SystemClock())
    floor = Floor(books, tmp_path, retry_first_s=0.01)
    floor.shop.refuses_connection = Unreachable("refused")
    floor.owe("SINK")
    floor.dispatcher.start()
    _await(lambda: [status.failures for status in floor.dispatcher.status()] != [])
    _await(lambda: floor.dispatcher.status()[0].failures > 0)

    floor.shop.refuses_connection = None
    floor.await_sent(("SINK", "1.2.3.1"))
    _await(lambda: (floor.dispatcher.wake() or floor.dispatcher.status()) == [])
    floor.dispatcher.stop()
    books.archive.close()


def test_worker_that_does_not_end_is_named_and_left(
    floor: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    floor.hang["SINK"] = threading.Event()
    floor.owe("SINK")
    floor.dispatcher.start()
    floor.await_sent(("SINK", "1.2.3.1"))
    workers = _workers(floor)

    floor.dispatcher.stop(drain_s=0.05)

    assert "Deliveries to SINK did not end" in caplog.text
    floor.hang["SINK"].set()
    for worker in workers:
        worker.join(PATIENCE_S)


def test_other_destinations_stay_paused_when_one_is_retried(floor: Floor) -> None:
    floor.shop.refuses_connection = Unreachable("refused")
    floor.owe("SINK", "OTHER")
    floor.dispatcher.start()
    _await(lambda: [status.failures for status in floor.dispatcher.status()] == [1, 1])
    _await(lambda: not any(status.working for status in floor.dispatcher.status()))

    floor.dispatcher.retry_now("SINK")

    pauses = {status.destination: status.pause_s for status in floor.dispatcher.status()}
    assert pauses["OTHER"] > 1.0


def test_waiting_worker_asks_the_peer_afresh_when_the_operator_says_so(tmp_path: Path) -> None:
    books = open_books(tmp_path, SystemClock())
    floor = Floor(books, tmp_path, forward_association_close_delay_s=PATIENCE_S)
    floor.owe("SINK", "OTHER")
    floor.dispatcher.start()
    floor.await_sent(("SINK", "1.2.3.1"), ("OTHER", "1.2.3.1"))

    floor.dispatcher.retry_now("SINK")

    _await(lambda: ("release",) in floor.shop.journal)
    assert floor.shop.journal.count(("release",)) == 1
    floor.dispatcher.stop()
    books.archive.close()


def test_leases_are_renewed_while_a_worker_is_busy(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.03)
    floor.hang["SINK"] = threading.Event()
    floor.owe("SINK")
    floor.dispatcher.start()
    floor.await_sent(("SINK", "1.2.3.1"))
    [(first,)] = floor.books.rows("lease_until")

    _await(lambda: floor.books.rows("lease_until")[0][0] > first)


def test_shared_ledger_is_looked_at_without_being_woken(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAFETY_POLL_S", 0.01)
    floor.books.ledger.shared = True
    floor.dispatcher.start()

    floor.books.owe(draft("SINK"))

    floor.await_sent(("SINK", "1.2.3.1"))


def test_debts_of_another_gateway_that_is_gone_are_taken_up(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.03)
    floor.books.ledger.shared = True
    floor.books.owe(draft("SINK"))
    other = floor.books.reopen()
    other.owner = "another machine/1"
    other.exchange([], "SINK", 10)
    floor.dispatcher.start()
    assert floor.books.states() == ["leased"]

    floor.books.archive.writer.transact(
        lambda transaction: transaction.execute("UPDATE dgate_debts SET lease_until = 0")
    )

    floor.await_sent(("SINK", "1.2.3.1"))
    assert "gateway that is gone" in caplog.text


def test_old_history_is_forgotten_at_start(floor: Floor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    floor.books.owe(draft("SINK"))
    floor.books.archive.writer.transact(
        lambda transaction: transaction.execute(
            "UPDATE dgate_debts SET state = 'done', finished = 1"
        )
    )

    floor.dispatcher.start()

    _await(lambda: floor.books.rows() == [])
    _await(lambda: "left the history" in caplog.text)


def test_deliveries_do_not_wait_for_old_history_to_be_forgotten(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = threading.Event()
    ended = threading.Event()

    def slow(age_s: float, is_stopping: Callable[[], bool]) -> int:
        at_work.set()
        wait_until(is_stopping, "the end")
        ended.set()
        return 0

    monkeypatch.setattr(floor.books.ledger, "prune", slow)
    floor.dispatcher.start()
    assert at_work.wait(PATIENCE_S)

    floor.owe("SINK")
    floor.await_sent(("SINK", "1.2.3.1"))

    assert not ended.is_set()
    floor.dispatcher.stop()
    assert ended.is_set()


def test_destination_without_a_thread_is_tried_again_and_the_others_go_on(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = Worker.start
    refused = threading.Event()
    has_room = threading.Event()

    def scarce(worker: Worker) -> None:
        if worker.lane.destination == "OTHER" and not has_room.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(worker)

    monkeypatch.setattr(Worker, "start", scarce)
    monkeypatch.setattr(module, "TROUBLE_PAUSE_S", 0.01)
    floor.owe("OTHER", "SINK")
    floor.dispatcher.start()

    floor.await_sent(("SINK", "1.2.3.1"))
    assert refused.wait(PATIENCE_S)
    _await(lambda: "deliveries to OTHER wait" in caplog.text)
    assert "failed unexpectedly" not in caplog.text
    # Nothing wakes the dispatcher.
    has_room.set()
    floor.await_sent(("OTHER", "1.2.3.1"))


def test_pause_that_counts_as_no_failure_is_not_forgotten(floor: Floor) -> None:
    site = floor.dispatcher._site("SINK")
    floor.dispatcher._lane(("SINK", 0))
    site.breaker.fail(
        site.breaker.begin(), floor.dispatcher._clock.monotonic(), 3600.0, "no", counts=False
    )

    floor.dispatcher._forget_idle(())
    assert floor.dispatcher._site("SINK") is site

    site.breaker.reset()
    floor.dispatcher._forget_idle(())
    assert floor.dispatcher.sites() == []


def test_claims_of_a_worker_that_died_are_taken_up_by_another(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.delivery.outcomes.fate_of_status", lambda *status: 1 // 0)
    floor.owe("SINK")
    floor.dispatcher.start()
    _await(lambda: [lane.working for lane in floor.dispatcher.status()] == [False])
    assert floor.books.states() == ["leased"]
    monkeypatch.undo()

    floor.dispatcher.retry_now()

    _await(lambda: floor.books.rows("state, repeats") == [("done", 1)])


def test_worker_that_was_told_of_debts_does_not_end(floor: Floor) -> None:
    worker = Worker(Lane("SINK"), lambda: floor.shop.tools, floor.dispatcher._may_end, lambda: None)
    worker.nudge()

    assert not floor.dispatcher._may_end(worker, False)
    assert floor.dispatcher._may_end(worker, True)


def test_debt_from_the_future_is_delivered_after_a_clock_was_set_back(floor: Floor) -> None:
    now = floor.books.clock.now()
    floor.books.archive.writer.transact(
        lambda transaction: floor.books.archive.index.add_debts(
            transaction, ref(), [draft()], now + 30 * 86400.0
        )
    )

    floor.dispatcher.start()

    _await(lambda: floor.books.states() == ["done"])


def test_stopped_dispatcher_may_be_stopped_again(floor: Floor) -> None:
    floor.dispatcher.start()

    floor.dispatcher.stop()
    floor.dispatcher.stop()


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith(("deliver", "dispatch"))


def _workers(floor: Floor) -> list[Any]:
    return list(floor.dispatcher._workers.values())


def _everything() -> Selection:
    return Selection()


def _await(condition: Callable[[], Any]) -> None:
    """Wait for something that other threads bring about."""
    wait_until(condition, "what other threads do")


@pytest.fixture
def wide_floor(tmp_path: Path) -> Iterator[Floor]:
    books = open_books(tmp_path, SystemClock())
    opened = Floor(books, tmp_path, delayed_forwarder_threads=3)
    yield opened
    for event in opened.hang.values():
        event.set()
    opened.dispatcher.stop()
    books.archive.close()


def test_several_workers_deliver_to_one_destination_at_once(wide_floor: Floor) -> None:
    floor = wide_floor
    at_work = threading.Barrier(3)
    floor.answers["SINK"] = lambda: (at_work.wait(PATIENCE_S), OK)[1]
    for number in range(30):
        floor.books.owe(draft("SINK"), to=ref(number))
    floor.dispatcher.start()

    # No answer comes before three workers have sent: with fewer this would never end.
    floor.await_sent(*(("SINK", f"1.2.3.{number}") for number in range(24)))
    at_work.abort()


@pytest.mark.parametrize("most", [module.MOST_WORKERS, 1])
def test_worker_that_pauses_alone_keeps_no_other_from_starting(
    wide_floor: Floor, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Also where there is room for the first worker of a destination only."""
    monkeypatch.setattr(module, "MOST_WORKERS", most)
    floor = wide_floor
    floor.owe("SINK")
    for slot in (0, 1):
        paused_until = floor.dispatcher._clock.monotonic() + 3600.0
        floor.dispatcher._lane(("SINK", slot)).paused_alone_until = paused_until

    floor.dispatcher.start()

    floor.await_sent(("SINK", "1.2.3.1"))


def test_no_debt_is_delivered_twice_by_several_workers(wide_floor: Floor) -> None:
    floor = wide_floor
    for number in range(100):
        floor.books.owe(draft("SINK"), to=ref(number))
    floor.dispatcher.start()

    floor.await_sent(*(("SINK", f"1.2.3.{number}") for number in range(100)))
    floor.dispatcher.stop()
    assert len(floor.sent) == 100
    assert set(floor.books.states()) == {"done"}


def test_idle_association_is_closed_after_its_delay(tmp_path: Path) -> None:
    books = open_books(tmp_path, SystemClock())
    floor = Floor(books, tmp_path, forward_association_close_delay_s=0.2)
    sent: list[float] = []
    floor.answers["SINK"] = lambda: (sent.append(time.monotonic()), OK)[1]
    floor.dispatcher.start()
    floor.owe("SINK")
    _await(lambda: ("release",) in floor.shop.journal)
    took = time.monotonic() - sent[0]
    floor.dispatcher.stop()
    books.archive.close()

    assert len(sent) == 1
    assert took >= 0.2
