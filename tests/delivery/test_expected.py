"""Quiet times that end when as many objects are there as are expected."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive.records import Provenance
from dgate.archive.requests import request_draft
from dgate.delivery import expected as expected_module
from dgate.delivery.expected import Bell, ExpectedCounts
from dgate.delivery.ledger import Ledger
from dgate.errors import Aborted, PeerError, StoreError, Unreachable
from dgate.rules.effects import ObjectScope, Request
from tests.archive.maintenance.ward import Ward, open_ward

WAIT_S = 60.0


class Knowing:
    """A source of counts that a test fills."""

    def __init__(self) -> None:
        self.counts: dict[str, int | None] = {}
        """By the UID of the study."""
        self.error: Exception | None = None
        self.refused: Exception | None = None
        """What comes for studies without a count."""
        self.asked: list[ObjectScope] = []
        self.of: Callable[[str], bool] = lambda source: True
        self.was_cut = threading.Event()
        self.hangs = False

    def concerns(self, source: str, scope: ObjectScope) -> bool:
        return self.of(source)

    def expected(self, source: str, scope: ObjectScope) -> int | None:
        self.asked.append(scope)
        if self.hangs:
            assert self.was_cut.wait(WAIT_S)
            raise Unreachable("it was cut")
        if self.error is not None:
            raise self.error
        if self.refused is not None and scope.study not in self.counts:
            raise self.refused
        return self.counts.get(scope.study)

    def close(self) -> None:
        """Nothing is open."""

    def cut(self) -> None:
        self.was_cut.set()


class Room:
    """An archive in which whole studies wait."""

    def __init__(self, ward: Ward) -> None:
        self.ward = ward
        self.knowing = Knowing()
        self.bell = Bell()
        self.woken = threading.Event()
        ledger = Ledger(
            ward.database, ward.writer, ward.clock, ward.index.add_debts, lambda name: None
        )
        self.part = ExpectedCounts(
            ward.database,
            ward.writer,
            ledger,
            ward.clock,
            self.bell,
            lambda: [self.knowing],
            self.count,
            self.woken.set,
        )

    def count(self, scope: ObjectScope) -> int:
        return len([ref for ref in self.ward.refs() if ref.study == scope.study])

    def add(self, number: int, *, study: int = 1, operation: str = "forward", **more: str) -> str:
        """Store an object that has its study waited for."""
        sop_instance = self.ward.add(number, study=study)
        # It puts off what waits, as time goes by.
        self.ward.clock.seconds += 0.001
        ref = self.ward.ref(sop_instance)
        scope = ObjectScope(patient_id="P1", study=ref.study, **more)
        request = Request(operation, "study", scope, "ExportConverter0.0", peer="SINK")
        draft = replace(
            request_draft(request, 600.0), provenance=Provenance(source="CT1", arriving=True)
        )
        now = self.ward.clock.now()
        self.ward.writer.transact(lambda tx: self.ward.index.add_debts(tx, ref, [draft], now))
        self.bell.ring()
        return ref.study

    def is_due(self) -> bool:
        """Tell whether all that waits is due."""
        rows = self.ward.rows("SELECT due FROM dgate_debts WHERE kind = 'request'")
        return all(due <= self.ward.clock.now() for (due,) in rows)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for what the part's threads do."""
        for _ in range(int(WAIT_S * 20)):
            if condition():
                return
            self.woken.wait(0.05)
            self.woken.clear()
        pytest.fail(f"waited in vain for {what}")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    monkeypatch.setattr(expected_module, "GATHER_S", 0.01)
    monkeypatch.setattr(expected_module, "LOOK_EVERY_S", 0.05)
    ward = open_ward(tmp_path)
    made = Room(ward)
    yield made
    made.part.stop()
    made.part.stop()
    ward.close()


def test_what_is_complete_is_due_at_once(room: Room) -> None:
    study = room.add(1)
    room.knowing.counts[study] = 2
    room.part.start()
    room.wait(lambda: len(room.knowing.asked) == 1, "the question")
    assert not room.is_due()
    room.add(2)
    room.wait(room.is_due, "the end of the quiet time")
    assert len(room.knowing.asked) == 1


def test_old_answer_is_asked_for_again(room: Room) -> None:
    study = room.add(1)
    room.knowing.counts[study] = 2
    room.part.start()
    room.wait(lambda: len(room.knowing.asked) == 1, "the question")
    room.knowing.counts[study] = 3
    room.ward.clock.seconds += 60
    room.add(2)
    room.wait(lambda: len(room.knowing.asked) == 2, "the second question")
    room.add(3)
    room.wait(room.is_due, "the end of the quiet time")


@pytest.mark.parametrize(
    ("operation", "more"),
    [("delete", {}), ("prefetch", {}), ("forward", {"modality": "CT"}),
     ("forward", {"sop_instance": "1.2.3"})],
)  # fmt: skip
def test_what_cannot_be_complete_is_not_asked_about(
    room: Room, operation: str, more: dict[str, str]
) -> None:
    other = room.add(1, study=2)
    room.knowing.counts[other] = 1
    study = room.add(1, operation=operation, **more)
    room.knowing.counts[study] = 1
    room.part.start()
    room.wait(lambda: bool(room.knowing.asked), "the other question")
    due = "SELECT due FROM dgate_debts WHERE kind = 'request' ORDER BY id"
    room.wait(lambda: room.ward.rows(due)[0][0] <= room.ward.clock.now(), "the other operation")
    assert room.ward.rows(due)[1][0] > room.ward.clock.now()
    assert {scope.study for scope in room.knowing.asked} == {other}


def test_answer_of_nothing_is_asked_for_once_in_a_quiet_time(room: Room) -> None:
    study = room.add(1)
    room.part.start()
    room.wait(lambda: len(room.knowing.asked) == 1, "the question")
    other = room.add(1, study=2)
    room.wait(lambda: len(room.knowing.asked) == 2, "the question about another")
    room.knowing.counts[study] = 1
    room.ward.writer.transact(lambda tx: tx.execute("DELETE FROM dgate_debts"))
    room.add(2)
    room.wait(lambda: len(room.knowing.asked) == 3, "the question in the next quiet time")
    assert [scope.study for scope in room.knowing.asked] == [study, other, study]
    room.wait(room.is_due, "the end of the quiet time")


def test_node_that_fails_is_named_once_and_asked_later(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = room.add(1)
    room.knowing.error = Unreachable("nobody is there")
    room.part.start()
    room.wait(lambda: "does not say how many" in caplog.text, "the complaint")
    room.ward.clock.seconds += expected_module.FIRST_SILENCE_S + 1
    room.part.apply(None)
    room.wait(lambda: len(room.knowing.asked) == 2, "the second question")
    room.knowing.error = None
    room.knowing.counts[study] = 1
    room.ward.clock.seconds += 2 * expected_module.FIRST_SILENCE_S + 1
    room.part.apply(None)
    room.wait(room.is_due, "the end of the quiet time")
    assert caplog.text.count("does not say how many") == 1
    assert "CT1 says again how many objects there are" in caplog.text


def test_node_for_which_there_is_no_thread_is_asked_later(
    room: Room, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    refused: list[str] = []

    def refuse_first(thread: threading.Thread) -> None:
        if thread.name == "expect-CT1" and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_first)
    study = room.add(1)
    room.knowing.counts[study] = 1
    room.part.start()

    room.wait(lambda: bool(refused), "the first try")
    room.wait(lambda: "the system has no thread to ask it" in caplog.text, "the warning")
    assert room.part._askers["CT1"].thread is None
    # The clock stands still but for the test.
    room.ward.clock.seconds += 31
    room.part.apply(None)
    room.wait(lambda: bool(room.knowing.asked), "a question")


def test_node_that_hangs_is_cut_at_the_end(room: Room) -> None:
    room.add(1)
    room.knowing.hangs = True
    room.part.start()
    room.wait(lambda: bool(room.knowing.asked), "the question")
    room.part.stop()
    assert room.knowing.was_cut.is_set()
    assert not room.is_due()


def test_other_nodes_are_not_asked(room: Room) -> None:
    looked = threading.Event()

    def of(source: str) -> bool:
        assert source == "CT1"
        looked.set()
        return False

    room.add(1)
    room.knowing.of = of
    room.part.start()
    assert looked.wait(WAIT_S)
    room.part.stop()
    assert room.knowing.asked == []


def test_bell_costs_nothing_while_nobody_listens() -> None:
    bell = Bell()
    bell.ring()
    bell.is_heard = True
    assert not bell.rung.is_set()
    bell.ring()
    assert bell.rung.is_set()


def test_question_that_is_refused_does_not_keep_others_from_being_asked(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    room.add(1, study=1)
    good = room.add(1, study=2)
    room.knowing.counts[good] = 1
    room.knowing.refused = PeerError("the query was answered A900")
    room.part.start()
    due = "SELECT due FROM dgate_debts WHERE kind = 'request' ORDER BY id"
    room.wait(lambda: room.ward.rows(due)[1][0] <= room.ward.clock.now(), "the other operation")
    assert room.ward.rows(due)[0][0] > room.ward.clock.now()
    assert "waits as long as the rule says" not in caplog.text
    third = room.add(1, study=3)
    room.knowing.counts[third] = 1
    room.wait(lambda: room.ward.rows(due)[2][0] <= room.ward.clock.now(), "the third operation")
    assert len(room.knowing.asked) == 3


def test_question_at_which_a_node_goes_away_is_put_last(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.add(1, study=1)
    good = room.add(1, study=2)
    room.knowing.counts[good] = 1
    room.knowing.refused = Aborted("the connection was lost")
    room.part.start()
    room.wait(lambda: "waits as long as the rule says" in caplog.text, "the silence")
    room.ward.clock.seconds += expected_module.FIRST_SILENCE_S + 1
    room.part.apply(None)
    due = "SELECT due FROM dgate_debts WHERE kind = 'request' ORDER BY id"
    room.wait(lambda: room.ward.rows(due)[1][0] <= room.ward.clock.now(), "the other operation")
    assert room.ward.rows(due)[0][0] > room.ward.clock.now()


def test_objects_that_cannot_be_counted_keep_nothing_else_waiting(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = room.add(1, study=1), room.add(1, study=2)
    room.knowing.counts |= {bad: 1, good: 1}
    count = room.count

    def counted(scope: ObjectScope) -> int:
        if scope.study == bad:
            raise StoreError("the index is damaged")
        return count(scope)

    monkeypatch.setattr(room.part, "_count", counted)
    room.part.start()
    due = "SELECT due FROM dgate_debts WHERE kind = 'request' ORDER BY id"
    room.wait(lambda: room.ward.rows(due)[1][0] <= room.ward.clock.now(), "the other operation")
    assert room.ward.rows(due)[0][0] > room.ward.clock.now()
    room.wait(lambda: "the index is damaged" in caplog.text, "the complaint")
    room.part.stop()
    assert caplog.text.count("the index is damaged") == 1


def test_requests_that_are_known_are_not_read_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.knowing.of = lambda source: False
    rows, read = room.ward.database.rows, list[tuple[object, ...]]()

    def seen(sql: str, values: tuple[object, ...] = ()) -> object:
        if "context" in sql:
            read.append(values)
        return rows(sql, values)

    monkeypatch.setattr(room.ward.database, "rows", seen)
    room.add(1, study=1)
    room.part._look()
    room.add(1, study=2)
    room.part._look()
    room.part._look()
    assert read == [(1,), (2,)]

    other = ObjectScope(patient_id="P9", study="1.2.9")
    draft = request_draft(Request("forward", "study", other, "r", peer="SINK"), 600.0)
    room.ward.writer.transact(
        lambda tx: tx.execute("UPDATE dgate_debts SET context = ? WHERE id = 1", (draft.context,))
    )
    room.ward.clock.seconds += expected_module.READ_AGAIN_S
    assert next(each.scope for each, _ in room.part._read()) == other


def counted_by(room: Room, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the study is added whenever objects are counted."""
    counted: list[str] = []
    count = room.count

    def counting(scope: ObjectScope) -> int:
        counted.append(scope.study)
        return count(scope)

    monkeypatch.setattr(room.part, "_count", counting)
    return counted


def test_only_what_has_got_objects_is_counted_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_module, "LOOK_EVERY_S", 5.0)
    first, second = room.add(1, study=1), room.add(1, study=2)
    room.knowing.counts |= {first: 2, second: 2}
    counted = counted_by(room, monkeypatch)
    room.part._look()
    room.wait(lambda: len(room.part._known) == 2, "the answers")
    room.part._look()
    assert counted == [first, second]

    room.part._look()
    assert counted == [first, second]

    room.add(2, study=2)
    room.part._look()
    assert counted == [first, second, second]
    due = "SELECT due FROM dgate_debts WHERE kind = 'request' ORDER BY id"
    [(one,), (other,)] = room.ward.rows(due)
    assert (one > room.ward.clock.now(), other <= room.ward.clock.now()) == (True, True)


def test_what_rings_no_bell_is_counted_every_few_seconds(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_module, "LOOK_EVERY_S", 5.0)
    study = room.add(1)
    room.knowing.counts[study] = 2
    counted = counted_by(room, monkeypatch)
    room.part._look()
    room.wait(lambda: len(room.part._known) == 1, "the answer")
    room.part._look()
    # By a rule that does not ask for the study.
    room.ward.add(2, study=1)
    room.part._look()
    assert (counted, room.is_due()) == ([study], False)

    room.ward.clock.seconds += 5.0
    assert room.part._look() == 5.0

    assert (counted, room.is_due()) == ([study] * 2, True)


def test_another_answer_is_compared_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_module, "LOOK_EVERY_S", 5.0)
    study = room.add(1)
    room.knowing.counts[study] = 3
    room.part._look()
    room.wait(lambda: len(room.part._known) == 1, "the answer")
    room.part._look()
    assert not room.is_due()

    room.part._known["CT1", ObjectScope(patient_id="P1", study=study)].count = 1
    room.part._look()

    assert room.is_due()


@pytest.mark.parametrize(("seconds", "rest"), [(0.0, 0.0), (0.5, 5.0), (100.0, 60.0)])
def test_a_long_look_is_followed_by_a_long_rest(
    room: Room, monkeypatch: pytest.MonkeyPatch, seconds: float, rest: float
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(room.part._rounds, "rest", rests.append)

    def look() -> float | None:
        room.ward.clock.seconds += seconds
        return None

    monkeypatch.setattr(room.part, "_look", look)

    room.part._step()

    assert rests == [rest]
