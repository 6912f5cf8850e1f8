"""Maintenance on PostgreSQL and MariaDB: the same statements, the same results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.levels import Level
from dgate.config.layout import PATIENT_ID
from tests.archive.maintenance.test_clean import fill, gone
from tests.archive.maintenance.ward import Disk, Ward, open_ward
from tests.servers import DatabaseServer

pytestmark = pytest.mark.integration


@pytest.fixture(params=["postgres", "mariadb"])
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ward]:
    server: DatabaseServer = request.getfixturevalue(request.param)
    ward = open_ward(
        tmp_path,
        disk=Disk({"mag0": 100_000}),
        mirror_devices=(tmp_path / "mirror0",),
        **server.settings(),
    )
    yield ward
    ward.close()


def test_a_patient_is_deleted_with_files_worklist_and_search_forms(ward: Ward) -> None:
    ward.add(1, PatientName="MÜLLER^JÖRG", SpecificCharacterSet="ISO_IR 100")
    ward.add(1, study=2)
    kept = ward.add(1, patient="P2")
    ward.writer.transact(
        lambda tx: tx.execute(
            "INSERT INTO DICOMWorkList (AccessionN, PatientID) VALUES ('A1', 'P1')"
            if ward.database.engine.value != "postgres"
            else "INSERT INTO dicomworklist (accessionn, patientid) VALUES ('A1', 'P1')"
        )
    )

    list(ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="t", why="t"))

    assert ward.counts() == (1, 1, 1, 1)
    assert ward.below("mag0") == [ward.ref(kept).name]
    assert ward.finder.instance("1.2.801.1.1.1") is None
    assert ward.rows("SELECT * FROM dgate_removals") == []


def test_letter_case_counts_in_a_deletion(ward: Ward) -> None:
    ward.add(1)

    with pytest.raises(Exception, match="there is no patient 'p1'"):
        list(ward.caretaker.deleter.delete(Level.PATIENT, "p1", who="t", why="t"))

    assert ward.counts() == (1, 1, 1, 1)


def test_the_oldest_patients_are_cleaned(ward: Ward) -> None:
    fill(ward, "P3", "P1", "P4", "P2")
    wanted = ward.caretaker.cleaner.free("MAG0") + 1000

    victims = list(ward.caretaker.cleaner.make_room(wanted, who="t", why="t", device="MAG0"))

    assert gone(victims) == ["P3", "P1"]


def test_objects_move_and_owe_the_copy_on_their_mirror(ward: Ward) -> None:
    objects = [ward.add(number) for number in (1, 2, 3)]
    before = {sop: ward.path(sop).read_bytes() for sop in objects}

    *_, moved = ward.caretaker.mover.move("MAG0", "MAG1")

    assert moved.objects == 3
    assert {sop: ward.path(sop).read_bytes() for sop in objects} == before
    assert ward.below("mag0") == []


@pytest.mark.parametrize("new_uids", [False, True], ids=["same UIDs", "new UIDs"])
def test_a_patient_is_corrected(ward: Ward, new_uids: bool) -> None:
    ward.owe(ward.add(1))
    ward.add(1, study=2)
    plan = ward.caretaker.planner.correct(
        Level.PATIENT, "P1", {PATIENT_ID: "P9"}, new_uids=new_uids
    )

    for correction in plan.corrections:
        list(ward.caretaker.corrector.correct(correction, who="t", why="t", even_owed=True))

    assert ward.counts() == (1, 2, 2, 2)
    refs = ward.caretaker.deleter.find(Level.PATIENT, "P9")
    assert len(refs) == 2
    assert len(ward.below("mag0")) == 2
    for ref in refs:
        assert b"P9" in ward.content(ref.sop_instance)
    owed = {debt["sop_instance"] for debt in ward.debts() if debt["kind"] == "deliver"}
    assert owed <= {ref.sop_instance for ref in refs}
