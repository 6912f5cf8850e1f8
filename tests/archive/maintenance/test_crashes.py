"""Every point at which a crash can hit maintenance, and what the next start makes of it.

A child process deletes, moves or corrects and is ended, without any clean-up, before its first,
second, third... call of the system that touches files. The parent recovers the folder as a start
does, and looks: each object is whole or gone, under one identity, with nothing left over; what is
owed is still there; and the same command given again finishes the work.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.levels import Level
from dgate.config.layout import PATIENT_ID
from dgate.errors import DgateError
from dgate.rules.events import Event
from tests.archive.maintenance.ward import Ward, open_ward
from tests.archive.test_recovery_crashes import CRASHED, FAILED, Crasher

DONE = 78
HOUR = 3600.0


def delete(ward: Ward) -> None:
    for _ in ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="t", why="t"):
        pass


def clean(ward: Ward) -> None:
    ward.clock.seconds += 2 * HOUR
    for _ in ward.caretaker.cleaner.make_room(1 << 60, who="t", why="t"):
        pass


def move(ward: Ward) -> None:
    for _ in ward.caretaker.mover.move("MAG0", "MAG1"):
        pass


def correct(ward: Ward, *, new_uids: bool = False) -> None:
    plan = ward.caretaker.planner.correct(
        Level.PATIENT, "P1", {PATIENT_ID: "P9"}, new_uids=new_uids
    )
    for correction in plan.corrections:
        for _ in ward.caretaker.corrector.correct(correction, who="t", why="t"):
            pass


def correct_with_new_uids(ward: Ward) -> None:
    correct(ward, new_uids=True)


def merge_studies(ward: Ward) -> None:
    plan = ward.caretaker.planner.merge_study("1.2.801.1", "1.2.801.2")
    for _ in ward.caretaker.corrector.correct(plan.corrections[0], who="t", why="t"):
        pass


@dataclass(frozen=True)
class Scenario:
    """One kind of maintenance."""

    act: Callable[[Ward], None]
    gone: bool = False
    """The patient is deleted in the end."""
    done: Callable[[Ward], bool] = lambda ward: True
    """Tells whether all of it has happened."""
    settings: dict[str, Any] = field(default_factory=dict)


SCENARIOS = {
    "delete": Scenario(delete, gone=True, done=lambda ward: not of(ward, "P1")),
    "clean": Scenario(clean, gone=True, done=lambda ward: not of(ward, "P1")),
    "move": Scenario(move, done=lambda ward: {ref.device for ref in ward.refs()} == {"MAG1"}),
    "move, by a name that stays": Scenario(
        move,
        done=lambda ward: {ref.device for ref in ward.refs()} == {"MAG1"},
        settings={"file_name_syntax": "10"},
    ),
    "move, with a rule that changes the patient": Scenario(
        move,
        done=lambda ward: {ref.device for ref in ward.refs()} == {"MAG1"} and not of(ward, "P1"),
        settings={"rules": {Event.MOVE_DEVICE: 'ifequal "%i", "P1"; set PatientID to "P9"'}},
    ),
    "correct": Scenario(correct, done=lambda ward: not of(ward, "P1")),
    "correct, by a name that stays": Scenario(
        correct, done=lambda ward: not of(ward, "P1"), settings={"file_name_syntax": "9"}
    ),
    "correct with new UIDs": Scenario(correct_with_new_uids, done=lambda ward: not of(ward, "P1")),
    "merge studies": Scenario(
        merge_studies, done=lambda ward: "1.2.801.1" not in {ref.study for ref in ward.refs()}
    ),
}


def of(ward: Ward, patient: str) -> list[str]:
    return [ref.sop_instance for ref in ward.refs() if ref.patient_id == patient]


def prepared(base: Path, scenario: Scenario) -> Path:
    """Make two studies of two objects, and one object of another patient that is owed."""
    ward = open_ward(base, **scenario.settings)
    for study in (1, 2):
        for number in (1, 2):
            ward.add(number, study=study)
    ward.owe(ward.add(1, patient="P2"))
    ward.close()
    return base


def act_in_child(base: Path, scenario: Scenario, point: int, torn: bool) -> int:
    """Act in a child that crashes at `point`; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = FAILED
    try:
        ward = open_ward(base, **scenario.settings)
        Crasher(point, torn=torn).arm()
        scenario.act(ward)
        ended = DONE
    finally:
        # Without any clean-up, whatever happened.
        os._exit(ended)


def crashes(folder: Path, scenario: Scenario) -> Iterator[tuple[str, int, Path]]:
    template = prepared(folder / "template", scenario)
    for torn in (False, True):
        for point in range(1, 300):
            base = folder / f"{point}{torn}"
            shutil.copytree(template, base)
            ended = act_in_child(base, scenario, point, torn)
            assert ended in (CRASHED, DONE)
            yield f"point {point} torn {torn}", ended, base
            shutil.rmtree(base)
            if ended == DONE:
                break


def check(ward: Ward) -> None:
    """Assert what must hold after any crash and recovery."""
    refs = ward.refs()
    on_disk = {("MAG0", name) for name in ward.below("mag0")}
    on_disk |= {("MAG1", name) for name in ward.below("mag1")}
    assert {(ref.device, ref.name) for ref in refs} == on_disk
    assert ward.rows("SELECT * FROM dgate_removals") == []
    for ref in refs:
        content = ward.content(ref.sop_instance)
        for value in (ref.sop_instance, ref.study, ref.series, ref.patient_id):
            assert value.encode() in content
        assert content.endswith(bytes(range(32)))
    studies: dict[str, set[str]] = {}
    for ref in refs:
        studies.setdefault(ref.study, set()).add(ref.patient_id)
    assert all(len(patients) == 1 for patients in studies.values())
    # A study is there as a whole or not at all, merged or not.
    sizes = sorted(sum(other.study == study for other in refs) for study in studies)
    assert sizes in ([1, 2, 2], [1, 4], [1, 2], [1])
    assert of(ward, "P2") == ["1.2.802.1.1.1"]
    assert ward.rows("SELECT state, sop_instance FROM dgate_debts") == [("queued", "1.2.802.1.1.1")]
    counts = (
        len({ref.patient_id for ref in refs}),
        len(studies),
        len({ref.series for ref in refs}),
        len(refs),
    )
    assert ward.counts() == counts


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_crash_anywhere_leaves_nothing_half_and_can_be_finished(
    tmp_path: Path, scenario: Scenario
) -> None:
    points = 0
    for where, ended, base in crashes(tmp_path, scenario):
        points += ended == CRASHED
        ward = open_ward(base, **scenario.settings)
        try:
            ward.start_over()
            check(ward)
            assert scenario.gone or len(ward.refs()) == 5
            if ended == DONE:
                assert scenario.done(ward)
            if not scenario.done(ward):
                scenario.act(ward)
                check(ward)
                assert scenario.done(ward)
        except (AssertionError, DgateError) as error:
            error.add_note(f"{where}: {ward.below('mag0')}, {ward.below('mag1')}, {ward.refs()}")
            raise
        finally:
            ward.close()
    assert points > 8
