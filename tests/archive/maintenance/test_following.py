"""Delayed operations and corrections: what waits goes on for the objects under their new IDs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.levels import PATIENT_NAME, Level
from dgate.archive.requests import is_of, request_draft, request_of
from dgate.config.layout import PATIENT_ID
from dgate.delivery.performing import Performer
from dgate.rules.effects import ObjectScope, Request
from tests.archive.maintenance.ward import Ward, carry_out, open_ward
from tests.servers import DatabaseServer

FIELDS = ("patient_id", "study", "series", "sop_instance")
DELAY_S = 60.0


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path)
    yield ward
    ward.close()


def request(
    ward: Ward, sop_instance: str, level: str = "study", operation: str = "forward", **more: Any
) -> None:
    """Have a rule ask for something to be done with what an object belongs to."""
    ref = ward.ref(sop_instance)
    depth = ("patient", "study", "series", "image").index(level)
    own = FIELDS[: depth + 1]
    scope = ObjectScope(**{name: getattr(ref, name) for name in own}, **more)
    wanted = Request(operation, level, scope, "ExportConverter0.0", peer="SINK", own=own)
    drafts = [request_draft(wanted, DELAY_S, ref)]
    ward.writer.transact(lambda tx: ward.index.add_debts(tx, ref, drafts, ward.clock.now()))


def waiting(ward: Ward, states: str = "'queued'") -> list[ObjectScope]:
    """Return what is waited for."""
    rows = ward.rows(
        f"SELECT context, rule, name FROM dgate_debts WHERE kind = 'request' "
        f"AND state IN ({states}) ORDER BY id"
    )
    for context, rule, name in rows:
        assert request_draft(request_of(context, rule), 0).identity == name
    return [request_of(context, rule).scope for context, rule, _ in rows]


def selected(ward: Ward, scope: ObjectScope) -> set[str]:
    """Return the objects that a request means now."""
    performer = Performer(ward.database, ward.finder, ward.exporter, ward.settings)
    return {ref.sop_instance for ref in performer.select(scope)}


@pytest.mark.parametrize("level", ["patient", "study", "series", "image"])
def test_correcting_a_patient(ward: Ward, level: str) -> None:
    sop_instance = ward.add(1)
    request(ward, sop_instance, level)
    plan = ward.caretaker.planner.correct(
        Level.PATIENT, "P1", {PATIENT_ID: "P9", PATIENT_NAME: "NEW^N"}
    )
    carry_out(ward, plan)
    [scope] = waiting(ward)
    assert scope.patient_id == "P9"
    assert selected(ward, scope) == {sop_instance}
    columns = ward.rows("SELECT patient_id, study FROM dgate_debts WHERE kind = 'request'")
    assert columns == [("P9", ward.ref(sop_instance).study)]


def test_the_quiet_time_goes_on(ward: Ward) -> None:
    sop_instance = ward.add(1)
    request(ward, sop_instance)
    before = ward.rows("SELECT id, due, rule, destination FROM dgate_debts")
    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))
    assert ward.rows("SELECT id, due, rule, destination FROM dgate_debts") == before


def test_correcting_one_study_leaves_what_waits_for_the_patient(ward: Ward) -> None:
    first, second = ward.add(1), ward.add(1, study=2)
    request(ward, first, "patient")
    study = ward.ref(second).study
    carry_out(ward, ward.caretaker.planner.correct(Level.STUDY, study, {PATIENT_ID: "P9"}))
    scopes = waiting(ward)
    assert [scope.patient_id for scope in scopes] == ["P1", "P9"]
    assert [selected(ward, scope) for scope in scopes] == [{first}, {second}]


def test_merging_studies(ward: Ward) -> None:
    first, second = ward.add(1), ward.add(1, study=2)
    request(ward, first)
    source, target = ward.ref(first).study, ward.ref(second).study
    carry_out(ward, ward.caretaker.planner.merge_study(source, target))
    [scope] = waiting(ward)
    assert scope.study == target
    assert selected(ward, scope) == {first, second}


def test_merged_with_what_is_waited_for_already_it_is_done_once_and_late(ward: Ward) -> None:
    first, second = ward.add(1), ward.add(1, study=2)
    request(ward, first)
    [(early,)] = ward.rows("SELECT due FROM dgate_debts")
    ward.clock.seconds += 20
    request(ward, second)
    source, target = ward.ref(first).study, ward.ref(second).study
    carry_out(ward, ward.caretaker.planner.merge_study(source, target))
    [scope] = waiting(ward)
    assert scope.study == target
    assert ward.rows("SELECT due FROM dgate_debts WHERE kind = 'request'") == [(early + 20,)]


def prioritize(ward: Ward, *priorities: int) -> None:
    """Give the requests priorities, in the order of their numbers."""
    for number, priority in enumerate(priorities, 1):
        change = f"UPDATE dgate_debts SET priority = {priority} WHERE id = {number}"
        ward.writer.transact(lambda tx, change=change: tx.execute(change))


@pytest.mark.parametrize(("first_priority", "second_priority"), [(0, 2), (2, 0)])
def test_merged_requests_are_as_urgent_as_the_more_urgent(
    ward: Ward, first_priority: int, second_priority: int
) -> None:
    first, second = ward.add(1), ward.add(1, study=2)
    request(ward, first)
    request(ward, second)
    prioritize(ward, first_priority, second_priority)
    source, target = ward.ref(first).study, ward.ref(second).study
    carry_out(ward, ward.caretaker.planner.merge_study(source, target))
    assert ward.rows("SELECT priority FROM dgate_debts WHERE kind = 'request'") == [(0,)]


@pytest.mark.parametrize("state", ["queued", "held", "stuck"])
@pytest.mark.parametrize("is_later", [False, True])
def test_split_that_meets_an_equal_request_leaves_it_its_time_and_state(
    ward: Ward, state: str, is_later: bool
) -> None:
    # Both studies belong to P1; the second becomes P9's, for whom something waits already.
    ward.add(1)
    second = ward.add(1, study=2)
    other = ward.add(1, patient="P9", study=3)
    request(ward, second, "patient")
    if not is_later:
        ward.clock.seconds += 20
    request(ward, other, "patient")
    if is_later:
        ward.writer.transact(
            lambda tx: tx.execute("UPDATE dgate_debts SET due = due + 30 WHERE id = 1")
        )
    ward.writer.transact(
        lambda tx: tx.execute("UPDATE dgate_debts SET state = ? WHERE id = 1", (state,))
    )
    prioritize(ward, 0, 2)
    columns = "SELECT id, state, due, priority FROM dgate_debts WHERE kind = 'request' ORDER BY id"
    (_, _, due_1, _), (_, _, due_2, _) = ward.rows(columns)
    study = ward.ref(second).study
    carry_out(ward, ward.caretaker.planner.correct(Level.STUDY, study, {PATIENT_ID: "P9"}))
    assert ward.rows(columns) == [(1, state, due_1, 0), (2, "queued", max(due_1, due_2), 0)]


def test_splitting_a_study(ward: Ward) -> None:
    first = ward.add(1)
    second = ward.add(2, SeriesInstanceUID="1.2.999")
    request(ward, first)
    study = ward.ref(first).study
    carry_out(ward, ward.caretaker.planner.split_study(study, ["1.2.999"]))
    scopes = waiting(ward)
    assert [selected(ward, scope) for scope in scopes] == [{first}, {second}]
    dues = ward.rows("SELECT due FROM dgate_debts WHERE kind = 'request'")
    assert dues[0] == dues[1]


def test_merging_series_with_new_uids(ward: Ward) -> None:
    first = ward.add(1)
    ward.add(2, SeriesInstanceUID="1.2.999")
    request(ward, first, "image")
    series = ward.ref(first).series
    plan = ward.caretaker.planner.merge_series(series, "1.2.999", new_uids=True)
    carry_out(ward, plan, even_owed=True)
    [scope] = waiting(ward)
    [found] = selected(ward, scope)
    assert found != first
    assert ward.ref(found).series == "1.2.999"


def test_what_is_held_or_stuck_stays_so(ward: Ward) -> None:
    first = ward.add(1)
    second = ward.add(2, SeriesInstanceUID="1.2.999")
    request(ward, first)
    ward.writer.transact(lambda tx: tx.execute("UPDATE dgate_debts SET state = 'held'"))
    study = ward.ref(first).study
    carry_out(ward, ward.caretaker.planner.split_study(study, ["1.2.999"]))
    assert waiting(ward) == []
    held = waiting(ward, "'held'")
    assert [selected(ward, scope) for scope in held] == [{first}, {second}]


def test_others_and_what_names_things_to_other_nodes_are_left_alone(ward: Ward) -> None:
    first, other = ward.add(1), ward.add(1, patient="P2")
    request(ward, other)
    request(ward, first, operation="get")
    before = ward.rows("SELECT * FROM dgate_debts")
    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))
    assert ward.rows("SELECT * FROM dgate_debts") == before


def test_filters_stay(ward: Ward) -> None:
    first = ward.add(1)
    request(ward, first, "patient", modality="CT")
    carry_out(ward, ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}))
    assert waiting(ward) == [ObjectScope(patient_id="P9", modality="CT")]


def test_a_scope_without_ids_is_nobodys(ward: Ward) -> None:
    ref = ward.ref(ward.add(1))
    assert not is_of(ObjectScope(modality="CT"), ref)
    assert is_of(ObjectScope(patient_id="P1", modality="CT"), ref)


@pytest.fixture(params=["postgres", "mariadb"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ward]:
    server: DatabaseServer = request.getfixturevalue(request.param)
    ward = open_ward(tmp_path, **server.settings())
    yield ward
    ward.close()


@pytest.mark.integration
def test_splitting_and_merging_on_servers(served: Ward) -> None:
    ward = served
    first = ward.add(1)
    second = ward.add(2, SeriesInstanceUID="1.2.999")
    request(ward, first)
    study = ward.ref(first).study
    carry_out(ward, ward.caretaker.planner.split_study(study, ["1.2.999"]))
    scopes = waiting(ward)
    assert [selected(ward, scope) for scope in scopes] == [{first}, {second}]
    (one,), (other,) = ward.rows("SELECT due FROM dgate_debts WHERE kind = 'request'")
    assert abs(one - other) < DELAY_S / 2

    carry_out(ward, ward.caretaker.planner.merge_study(ward.ref(second).study, study))
    [scope] = waiting(ward)
    assert selected(ward, scope) == {first, second}
