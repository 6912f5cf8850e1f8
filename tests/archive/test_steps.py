"""Procedure steps that modalities tell of, on every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dgate.archive import stepcommands
from dgate.archive import steps as steps_module
from dgate.archive.database import Database
from dgate.archive.stepcommands import list_steps, step_commands, wanted_of
from dgate.archive.steps import (
    Outcome,
    PerformedSeries,
    Step,
    StepChange,
    Steps,
    StepState,
    Wanted,
    prune_steps,
)
from dgate.archive.writer import Transaction, database_time
from dgate.clock import Clock
from dgate.config.settings import Engine
from dgate.errors import DgateError, StoreError
from tests.archive.database_kit import (
    ALL_ENGINES,
    Archive,
    Place,
    image,
    open_archive,
    place_of,
    setup,
)
from tests.archive.intake_kit import FixedClock

STUDY = "1.2.3.1"
BEGUN = Step("1.2.77.1", StepState.IN_PROGRESS, (STUDY,), "CT1", station="ROOM1", patient="P1")
SERIES = (PerformedSeries("1.2.3.1.1", ("1.2.3.1.1.1", "1.2.3.1.1.2")),)
COMPLETED = StepChange(StepState.COMPLETED, ended="20260314103000", series=SERIES)


class Ward:
    """An archive with steps, and its clock."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.clock = FixedClock()
        self.steps = Steps(archive.database, archive.schema, archive.writer, self.clock)

    def changed(self) -> float:
        """Return when something was heard of the only step."""
        return float(self.archive.value("SELECT changed FROM dgate_steps"))


@pytest.fixture(params=ALL_ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return where a database is, on each engine in turn."""
    return place_of(request, tmp_path)


@pytest.fixture
def ward(place: Place) -> Iterator[Ward]:
    archive = open_archive(place())
    yield Ward(archive)
    archive.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Ward]:
    """Return an archive in an SQLite file."""
    archive = open_archive(setup(tmp_path))
    yield Ward(archive)
    archive.close()


def test_step_is_kept_from_its_begin_to_its_end(place: Place) -> None:
    archive = open_archive(place())
    steps = Ward(archive).steps
    assert steps.create(BEGUN, 100) is Outcome.DONE
    assert steps.create(replace(BEGUN, station="OTHER"), 100) is Outcome.EXISTS
    assert not steps.ends(STUDY)
    assert steps.change(BEGUN.uid, StepChange(ended="20260314"))[0] is Outcome.DONE
    assert steps.change(BEGUN.uid, COMPLETED)[0] is Outcome.DONE
    archive.close()

    # What another start finds, on tables that are there already.
    archive = open_archive(place())
    steps = Ward(archive).steps
    found = steps.find(BEGUN.uid)
    assert found is not None
    assert found.closed is not None
    assert found.received <= found.closed
    assert found == replace(
        BEGUN,
        state=StepState.COMPLETED,
        ended="20260314103000",
        series=SERIES,
        received=found.received,
        closed=found.closed,
    )
    ends = steps.ends(STUDY)
    assert (ends.steps, ends.last) == (((BEGUN.uid, found.closed),), found.closed)
    archive.close()


@pytest.mark.parametrize("final", [StepState.COMPLETED, StepState.DISCONTINUED])
def test_step_that_has_ended_is_not_changed(ward: Ward, final: StepState) -> None:
    ward.steps.create(BEGUN, 100)
    ward.steps.change(BEGUN.uid, StepChange(final, series=SERIES))
    before = ward.steps.find(BEGUN.uid)

    outcome, _ = ward.steps.change(BEGUN.uid, StepChange(StepState.COMPLETED, series=()))

    assert outcome is Outcome.ENDED
    assert ward.steps.find(BEGUN.uid) == before


def test_unknown_step_is_not_changed(ward: Ward) -> None:
    assert ward.steps.change("1.2.99", COMPLETED) == (Outcome.UNKNOWN, None)
    assert ward.steps.find("1.2.99") is None
    assert not ward.steps.ends(STUDY)


def test_sequence_that_is_sent_again_takes_the_place_of_the_old_one(ward: Ward) -> None:
    ward.steps.create(replace(BEGUN, series=SERIES), 100)
    more = (*SERIES, PerformedSeries("1.2.3.1.2", ("1.2.3.1.2.1", "1.2.3.1.1.1")))
    ward.steps.change(BEGUN.uid, StepChange(series=more))
    ward.steps.change(BEGUN.uid, StepChange(ended="20260314"))

    found = ward.steps.find(BEGUN.uid)

    assert found is not None
    assert (found.ended, found.series) == ("20260314", more)
    assert found.objects() == ["1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.1.2.1"]
    assert found.objects("1.2.3.1.2") == ["1.2.3.1.2.1", "1.2.3.1.1.1"]


def test_study_has_ended_when_all_its_steps_have(ward: Ward) -> None:
    both = replace(BEGUN, uid="1.2.77.2", studies=(STUDY, "1.2.3.9", STUDY))
    ward.steps.create(BEGUN, 100)
    ward.steps.create(both, 100)
    ward.steps.change(BEGUN.uid, COMPLETED)
    assert not ward.steps.ends(STUDY)
    assert not ward.steps.ends("1.2.3.9")

    ward.steps.change(both.uid, StepChange(StepState.DISCONTINUED))

    assert [uid for uid, _ in ward.steps.ends(STUDY).steps] == [BEGUN.uid, both.uid]
    assert [uid for uid, _ in ward.steps.ends("1.2.3.9").steps] == [both.uid]


def test_steps_in_progress_of_one_title_are_limited(ward: Ward) -> None:
    for number in range(3):
        assert ward.steps.create(replace(BEGUN, uid=f"1.2.77.{number}"), 3) is Outcome.DONE
    fourth = replace(BEGUN, uid="1.2.78")

    assert ward.steps.create(fourth, 3) is Outcome.TOO_MANY
    assert ward.steps.create(replace(fourth, uid="1.2.79", peer="MR1"), 3) is Outcome.DONE
    ward.steps.change("1.2.77.0", COMPLETED)
    assert ward.steps.create(fourth, 3) is Outcome.DONE


def test_odd_texts_and_long_lists_are_kept_as_far_as_they_fit(ward: Ward) -> None:
    odd = "x\0'; DROP TABLE dgate_steps; -- \u6f22\U0001f600\udc80" * 10
    texts = dict.fromkeys(("station", "step_id", "modality", "patient", "accession"), odd)
    objects = tuple(f"1.2.826.0.1.3680043.8.498.{'9' * 30}.{number}" for number in range(20_000))
    step = replace(BEGUN, begun=odd, ended=odd, series=(PerformedSeries("", objects),), **texts)

    assert ward.steps.create(step, 100) is Outcome.DONE

    found = ward.steps.find(BEGUN.uid)
    assert found is not None
    assert found.series == step.series
    assert (len(found.station), len(found.patient), len(found.begun)) == (16, 64, 32)
    assert found.patient.startswith("x'; DROP TABLE")


def test_listing_is_by_study_and_state_and_last_heard_of_first(local: Ward) -> None:
    for number in range(4):
        local.clock.seconds += 10
        studies = (STUDY,) if number % 2 else ("1.2.3.2",)
        step = replace(BEGUN, uid=f"1.2.77.{number}", studies=studies)
        assert local.steps.create(step, 100) is Outcome.DONE
    local.clock.seconds += 10
    local.steps.change("1.2.77.1", COMPLETED)

    def listed(wanted: Wanted) -> list[str]:
        return [uid[-1] for uid in local.steps.select(wanted)]

    assert listed(Wanted()) == ["1", "3", "2", "0"]
    assert listed(Wanted(study=STUDY)) == ["1", "3"]
    assert listed(Wanted(state="IN PROGRESS", limit=2)) == ["3", "2"]
    assert listed(Wanted(study="1' OR '1' = '1")) == []


def test_what_is_stored_is_told_by_uid(ward: Ward) -> None:
    ward.archive.store(image(SOPInstanceUID="1.2.3.1.1.1"))
    ward.archive.store(image(SOPInstanceUID="1.2.3.1.1.9"))
    many = [f"1.2.3.1.1.{number}" for number in range(1, 1000)]

    assert ward.steps.stored(["1.2.3.1.1.1", "1.2.3.1.1.2"]) == {"1.2.3.1.1.1"}
    assert ward.steps.stored(many) == {"1.2.3.1.1.1", "1.2.3.1.1.9"}
    assert ward.steps.stored([]) == set()


def test_without_an_index_nothing_is_stored_and_steps_are_kept(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path, engine=Engine.NONE))
    steps = Ward(archive).steps

    assert steps.create(BEGUN, 100) is Outcome.DONE

    assert steps.stored(["1.2.3"]) == set()
    archive.close()


def test_old_steps_are_forgotten_ended_or_not(ward: Ward) -> None:
    ward.steps.create(BEGUN, 100)
    ward.steps.create(replace(BEGUN, uid="1.2.77.2"), 100)
    ward.steps.change("1.2.77.2", COMPLETED)
    database, writer = ward.archive.database, ward.archive.writer
    first = float(ward.archive.value("SELECT min(changed) FROM dgate_steps"))

    assert prune_steps(database, writer, first) == 0
    assert prune_steps(database, writer, first + 1e6, lambda: True) == 0
    assert prune_steps(database, writer, first + 1e6) == 2
    assert ward.archive.rows("SELECT * FROM dgate_step_studies") == []
    assert ward.steps.create(BEGUN, 100) is Outcome.DONE


def test_many_old_steps_are_forgotten_in_pages(local: Ward) -> None:
    for number in range(1100):
        step = replace(BEGUN, uid=f"1.2.77.{number}", studies=(f"1.2.4.{number}",))
        assert local.steps.create(step, 10_000) is Outcome.DONE
    database, writer = local.archive.database, local.archive.writer

    assert prune_steps(database, writer, local.clock.now() + 1) == 1100


@pytest.mark.parametrize("is_heard_of", [True, False])
def test_step_that_is_heard_of_while_others_are_forgotten_stays(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, is_heard_of: bool
) -> None:
    ward.steps.create(BEGUN, 100)
    ward.steps.create(replace(BEGUN, uid="1.2.77.2"), 100)
    database, writer = ward.archive.database, ward.archive.writer
    writer.transact(lambda transaction: transaction.execute("UPDATE dgate_steps SET changed = 1"))
    transact = writer.transact

    def change_first(work: Callable[[Transaction], Any]) -> Any:
        # Those to be forgotten have been chosen by now.
        monkeypatch.undo()
        if is_heard_of:
            assert ward.steps.change(BEGUN.uid, StepChange(ended="20260314"))[0] is Outcome.DONE
        return transact(work)

    monkeypatch.setattr(writer, "transact", change_first)

    assert prune_steps(database, writer, 2.0) == (1 if is_heard_of else 2)

    kept = ward.steps.find(BEGUN.uid)
    assert (kept is not None and kept.studies == (STUDY,)) is is_heard_of
    assert ward.archive.value("SELECT count(*) FROM dgate_step_studies") == int(is_heard_of)


@pytest.mark.parametrize("place", ["postgres", "mariadb"], indirect=True)
def test_changes_by_two_gateways_at_once_are_both_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Ward(open_archive(place())), Ward(open_archive(place()))
    one.steps.create(BEGUN, 100)

    def let_other_be_first(change: StepChange) -> None:
        """Have the other gateway change it when this one has read it."""

        def other_first(database: Database, clock: Clock, transaction: Transaction) -> float:
            monkeypatch.undo()
            assert other.steps.change(BEGUN.uid, change)[0] is Outcome.DONE
            return database_time(database, clock, transaction)

        monkeypatch.setattr(steps_module, "database_time", other_first)

    let_other_be_first(StepChange(series=SERIES))
    outcome, after = one.steps.change(BEGUN.uid, StepChange(ended="20260314"))

    assert outcome is Outcome.DONE
    found = one.steps.find(BEGUN.uid)
    assert found is not None
    assert found == after
    assert (found.ended, found.series) == ("20260314", SERIES)

    let_other_be_first(StepChange(StepState.COMPLETED))
    assert one.steps.change(BEGUN.uid, StepChange(series=()))[0] is Outcome.ENDED
    found = one.steps.find(BEGUN.uid)
    assert found is not None
    assert (found.state, found.series) == (StepState.COMPLETED, SERIES)
    one.archive.close()
    other.archive.close()


def test_row_that_is_not_ours_is_an_error(local: Ward) -> None:
    local.steps.create(BEGUN, 100)
    local.archive.writer.transact(
        lambda transaction: transaction.execute("UPDATE dgate_steps SET content = '[7]'")
    )

    with pytest.raises(StoreError, match=r"1\.2\.77\.1 cannot be read"):
        local.steps.find(BEGUN.uid)


def test_commands_tell_what_is_named_and_stored(local: Ward) -> None:
    local.archive.store(image(SOPInstanceUID="1.2.3.1.1.2"))
    local.steps.create(BEGUN, 100)
    local.steps.change(BEGUN.uid, COMPLETED)

    [answer] = list_steps(local.steps, wanted_of({"study": STUDY, "who": "somebody"}))

    told = answer["step"]
    assert (told["state"], told["named"], told["stored"]) == ("COMPLETED", 2, 1)
    assert (told["studies"], told["station"], told["ended"]) == ([STUDY], "ROOM1", "20260314103000")
    assert told["lacking"] == ["1.2.3.1.1.1"]
    assert list(step_commands(local.steps)) == ["steps.list"]


def test_what_lacks_is_listed_for_a_study_and_not_without_end(
    local: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepcommands, "MOST_LACKING", 1)
    local.steps.create(replace(BEGUN, series=SERIES), 100)

    [of_study] = list_steps(local.steps, Wanted(study=STUDY))
    [of_all] = list_steps(local.steps, Wanted())

    assert (of_study["step"]["lacking"], of_study["step"]["stored"]) == (["1.2.3.1.1.1"], 0)
    assert "lacking" not in of_all["step"]


def test_steps_are_read_one_at_a_time_as_they_are_listed(
    local: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        local.clock.seconds += 10
        local.steps.create(replace(BEGUN, uid=f"1.2.77.{number}"), 100)
    read: list[str] = []
    find = local.steps.find

    def noted(uid: str) -> Step | None:
        read.append(uid)
        return find(uid)

    monkeypatch.setattr(local.steps, "find", noted)
    listing = list_steps(local.steps, Wanted())

    assert next(listing)["step"]["uid"] == "1.2.77.2"
    assert read == ["1.2.77.2"]
    prune_steps(local.archive.database, local.archive.writer, local.clock.now() - 15)
    # One was forgotten meanwhile.
    assert [answer["step"]["uid"] for answer in listing] == ["1.2.77.1"]


@pytest.mark.parametrize(
    "arguments",
    [{"limit": 0}, {"limit": "many"}, {"limit": None}, {"state": "x"}, {"limit": 10**6}],
)
def test_commands_that_cannot_be_understood(arguments: dict[str, object]) -> None:
    with pytest.raises(DgateError):
        wanted_of(arguments)
