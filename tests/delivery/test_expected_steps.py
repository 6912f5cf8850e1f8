"""Whether a study is complete, by what its procedure steps name, and what follows for what
waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dgate.archive.schema import prepare
from dgate.archive.steps import Outcome, PerformedSeries, Step, StepChange, Steps, StepState
from dgate.config.node_settings import Expect, NodeSettings, NodeTable
from dgate.delivery import expected, expected_steps
from dgate.delivery.expected_sources import Waiting
from dgate.delivery.expected_steps import Lacking, PerformedSteps
from dgate.delivery.history import prune
from dgate.errors import StoreError
from dgate.rules.effects import ObjectScope
from tests.archive.database_kit import Archive, image, open_archive, setup
from tests.archive.intake_kit import FixedClock
from tests.archive.maintenance.ward import open_ward
from tests.delivery.test_expected import Room as Hall

STUDY, SERIES = "1.2.3.1", "1.2.3.1.1"
PEERS = NodeTable(
    {
        "ct1": NodeSettings(expect_counts=Expect.STEPS),
        "mr1": NodeSettings(expect_counts=Expect.QUERY),
    }
)


class Room:
    """An archive whose steps and objects a test adds."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.clock = FixedClock()
        self.steps = Steps(archive.database, archive.schema, archive.writer, self.clock)
        self.witness = PerformedSteps(PEERS, self.steps, Lacking())

    def begin(self, uid: str) -> None:
        """Begin a step."""
        step = Step(uid, StepState.IN_PROGRESS, (STUDY,), "CT1")
        assert self.steps.create(step, 100) is Outcome.DONE

    def end(
        self, uid: str, *numbers: int, series: str = SERIES, state: StepState = StepState.COMPLETED
    ) -> None:
        """End a step that has made these objects, a minute later."""
        self.clock.seconds += 60
        named = (PerformedSeries(series, tuple(f"{series}.{number}" for number in numbers)),)
        assert self.steps.change(uid, StepChange(state, series=named))[0] is Outcome.DONE

    def store(self, *numbers: int, series: str = SERIES) -> None:
        """Store objects."""
        for number in numbers:
            uid = f"{series}.{number}"
            self.archive.store(image(SOPInstanceUID=uid, SeriesInstanceUID=series))

    def is_complete(
        self, first: str = f"{SERIES}.1", *, after_s: float = -3600.0, series: str = ""
    ) -> bool | None:
        """Ask the witness about a request that its first object made, so long from now."""
        scope = ObjectScope(patient_id="P1", study=STUDY, series=series)
        created = self.clock.now() + after_s
        return self.witness.is_complete(Waiting(1, "CT1", scope, first, created))


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    archive = open_archive(setup(tmp_path))
    yield Room(archive)
    archive.close()


def test_study_is_complete_when_what_its_step_names_is_there(room: Room) -> None:
    room.store(1)
    assert room.is_complete() is None
    room.begin("1.2.77")
    assert room.is_complete() is None
    room.end("1.2.77", 1, 2, 3)
    assert room.is_complete() is False
    room.store(2)
    assert room.is_complete() is False
    room.store(3)
    assert room.is_complete() is True
    assert room.is_complete() is True


def test_as_many_others_are_not_what_is_named(room: Room) -> None:
    room.begin("1.2.77")
    room.end("1.2.77", 1, 2)
    room.store(1, 8, 9)
    assert room.is_complete() is False
    room.store(2)
    assert room.is_complete() is True


def test_every_step_counts(room: Room) -> None:
    for uid in ("1.2.77", "1.2.78"):
        room.begin(uid)
    room.end("1.2.77", 1)
    room.store(1)
    assert room.is_complete() is None
    room.end("1.2.78", 2, state=StepState.DISCONTINUED)
    assert room.is_complete() is False
    room.store(2)
    assert room.is_complete() is True
    room.begin("1.2.79")
    assert room.is_complete() is None


def test_steps_that_name_nothing_say_nothing(room: Room) -> None:
    room.begin("1.2.77")
    room.end("1.2.77", state=StepState.DISCONTINUED)
    room.store(1)
    assert room.is_complete() is None


def test_series_is_complete_by_its_own_objects(room: Room) -> None:
    room.begin("1.2.77")
    room.begin("1.2.78")
    room.end("1.2.77", 1, 2)
    room.end("1.2.78", 1, series="1.2.3.1.7")
    room.store(1, 2)
    assert room.is_complete(series=SERIES) is True
    assert room.is_complete(series="1.2.3.1.7") is False
    assert room.is_complete(series="1.2.3.1.9") is None
    assert room.is_complete() is False


def test_what_comes_later_and_nobody_has_named_waits_for_quiet(room: Room) -> None:
    room.begin("1.2.77")
    room.end("1.2.77", 1)
    room.store(1, 50)
    assert room.is_complete("1.2.3.1.1.50", after_s=60) is None
    assert room.is_complete("1.2.3.1.1.50", after_s=-1) is True
    assert room.is_complete("1.2.3.1.1.1", after_s=60) is True


def test_one_object_that_lacks_is_looked_for_before_all(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    stored = room.steps.stored

    def count(objects: list[str]) -> set[str]:
        asked.append(len(objects))
        return stored(objects)

    monkeypatch.setattr(room.steps, "stored", count)
    room.begin("1.2.77")
    room.end("1.2.77", *range(1, 1001))
    room.store(*range(1, 11))
    assert room.is_complete() is False
    first = len(asked)
    assert first == 1
    assert room.is_complete() is False
    assert asked[first:] == [1]
    # Another step may name more: then all is looked at anew.
    room.begin("1.2.78")
    room.end("1.2.78", 1)
    asked.clear()
    assert room.is_complete() is False
    assert sum(asked) > 1


def test_only_so_many_are_remembered(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_steps, "_MOST_REMEMBERED", 2)
    lacking = Lacking()
    room.begin("1.2.77")
    room.end("1.2.77", 1)
    ends = room.steps.ends(STUDY)
    scopes = [ObjectScope(study=f"1.2.{number}") for number in range(3)]
    waiting = [Waiting(1, "CT1", scope, "1.2.9", 0.0) for scope in scopes]
    for each in waiting:
        lacking.note(each, ends, "1.2.3")
    assert [lacking.of(each, ends) for each in waiting] == [None, "1.2.3", "1.2.3"]
    lacking.note(waiting[2], ends, "")
    assert lacking.of(waiting[2], ends) == ""
    lacking.forget(waiting[2])
    assert lacking.of(waiting[2], ends) is None


@pytest.mark.parametrize("named", [(), (1,)])
def test_what_the_steps_do_not_tell_is_not_looked_for_again(
    room: Room, monkeypatch: pytest.MonkeyPatch, named: tuple[int, ...]
) -> None:
    room.begin("1.2.77")
    room.end("1.2.77", *named)
    room.store(1, 50)
    late = ObjectScope(study=STUDY), f"{SERIES}.50", room.clock.now() + 60
    waiting = Waiting(1, "CT1", *late)
    read: list[str] = []
    find = room.steps.find

    def noted(uid: str) -> Step | None:
        read.append(uid)
        return find(uid)

    monkeypatch.setattr(room.steps, "find", noted)
    assert [room.witness.is_complete(waiting) for _ in range(3)] == [None] * 3
    assert read == ["1.2.77"]
    # Another request is another question, and another step another answer.
    room.witness.is_complete(Waiting(2, "CT1", *late))
    assert read == ["1.2.77"] * 2
    room.begin("1.2.78")
    room.end("1.2.78", 50)
    assert room.witness.is_complete(waiting) is True


def test_steps_are_looked_at_one_by_one_until_one_object_lacks(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        room.begin(f"1.2.77.{number}")
        room.end(f"1.2.77.{number}", number)
    room.store(0, 2, 3, 4)
    read: list[str] = []
    find = room.steps.find

    def noted(uid: str) -> Step | None:
        read.append(uid)
        return find(uid)

    monkeypatch.setattr(room.steps, "find", noted)
    assert room.is_complete() is False
    assert read == ["1.2.77.0", "1.2.77.1"]
    room.store(1)
    assert room.is_complete() is True


def test_only_studies_of_nodes_with_the_setting_concern_it(room: Room) -> None:
    study, patient = ObjectScope(study=STUDY), ObjectScope(patient_id="P1")
    assert room.witness.concerns("CT1", study)
    assert room.witness.concerns("ct1 ", ObjectScope(study=STUDY, series=SERIES))
    assert not room.witness.concerns("CT1", patient)
    assert not room.witness.concerns("MR1", study)
    assert not room.witness.concerns("CT9", study)


def test_steps_leave_with_the_history_of_deliveries(room: Room) -> None:
    room.begin("1.2.77")
    room.clock.seconds += 60
    room.begin("1.2.78")
    prune(room.archive.database, room.archive.writer, room.clock.now())
    assert room.steps.find("1.2.77") is None
    assert room.steps.find("1.2.78") is not None


# What waits.


class Told:
    """A witness that a test instructs."""

    def __init__(self, answer: Callable[[Waiting], bool | None]) -> None:
        self.answer = answer
        self.asked: list[Waiting] = []

    def concerns(self, source: str, scope: ObjectScope) -> bool:
        return source == "CT1"

    def is_complete(self, waiting: Waiting) -> bool | None:
        self.asked.append(waiting)
        return self.answer(waiting)


@pytest.fixture
def hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    monkeypatch.setattr(expected, "GATHER_S", 0.01)
    monkeypatch.setattr(expected, "LOOK_EVERY_S", 0.05)
    ward = open_ward(tmp_path)
    made = Hall(ward)
    yield made
    made.part.stop()
    ward.close()


def _due(hall: Hall) -> list[bool]:
    rows = hall.ward.rows("SELECT due FROM dgate_debts WHERE kind = 'request' ORDER BY id")
    return [due <= hall.ward.clock.now() for (due,) in rows]


def test_what_a_witness_calls_complete_is_due_and_nobody_else_is_asked(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = hall.add(1, study=1)
    entered = hall.ward.clock.now()
    hall.add(1, study=2)
    witness = Told(lambda waiting: True if waiting.scope.study == complete else None)
    monkeypatch.setattr(hall.part, "_witness", lambda: witness)
    hall.part.start()
    hall.wait(lambda: _due(hall) == [True, False], "the end of the first quiet time")
    hall.part.stop()
    assert hall.knowing.asked == []
    first = next(each for each in witness.asked if each.scope.study == complete)
    assert (first.sop_instance, first.created) == (f"{complete}.1.1", entered)


def test_step_that_cannot_be_read_keeps_nothing_else_waiting(
    hall: Hall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    bad = hall.add(1, study=1)
    hall.add(1, study=2)

    def answer(waiting: Waiting) -> bool | None:
        if waiting.scope.study == bad:
            raise StoreError("the step cannot be read")
        return len(witness.asked) > 5

    witness = Told(answer)
    monkeypatch.setattr(hall.part, "_witness", lambda: witness)
    hall.part.start()
    hall.wait(lambda: _due(hall) == [False, True], "the other operation")
    hall.part.stop()
    assert caplog.text.count("the step cannot be read") == 1


def test_end_of_a_step_ends_the_quiet_time(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    ward = hall.ward
    schema = prepare(ward.database, ward.configuration.layout, ward.configuration.settings)
    steps = Steps(ward.database, schema, ward.writer, ward.clock)
    real = PerformedSteps(PEERS, steps, Lacking())
    answers: list[bool | None] = []

    def answer(waiting: Waiting) -> bool | None:
        told = real.is_complete(waiting)
        answers.append(told)
        return told

    monkeypatch.setattr(hall.part, "_witness", lambda: Told(answer))
    study = hall.add(1)
    steps.create(Step("1.2.77", StepState.IN_PROGRESS, (study,), "CT1"), 100)
    hall.part.start()
    hall.wait(lambda: hall.bell.is_heard, "who listens")
    series = PerformedSeries(f"{study}.1", (f"{study}.1.1", f"{study}.1.2"))
    steps.change("1.2.77", StepChange(StepState.COMPLETED, series=(series,)))
    hall.bell.ring()
    hall.wait(lambda: False in answers, "a look at what the step names")
    hall.add(3)
    looks = len(answers)
    # The first may have begun before.
    hall.wait(lambda: len(answers) > looks + 1, "looks after another object has come")
    assert set(answers[looks:]) == {False}
    assert _due(hall) == [False]
    hall.add(2)
    hall.wait(hall.is_due, "the end of the quiet time")
