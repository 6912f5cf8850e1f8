"""`dgate delete`: what goes, what stays, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.delete import StillOwed
from dgate.config.settings import Durability
from dgate.errors import DgateError
from tests.archive.maintenance.ward import Ward, open_ward


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path)
    yield ward
    ward.close()


def delete(ward: Ward, level: Level, key: str, *, even_owed: bool = False) -> None:
    for _ in ward.caretaker.deleter.delete(
        level, key, who="tester", why="test", even_owed=even_owed
    ):
        pass


def test_deleting_an_image_removes_its_row_and_file_only(ward: Ward) -> None:
    gone, kept = ward.add(1), ward.add(2)

    delete(ward, Level.IMAGE, gone)

    assert ward.find(gone) is None
    assert ward.counts() == (1, 1, 1, 1)
    assert ward.below("mag0") == [ward.ref(kept).name]


def test_deleting_the_last_image_removes_series_study_and_patient(ward: Ward) -> None:
    gone = ward.add(1)

    delete(ward, Level.IMAGE, gone)

    assert ward.counts() == (0, 0, 0, 0)
    assert not (ward.settings.base_folder / "mag0" / "P1").exists()


def test_deleting_a_series_leaves_the_other_one(ward: Ward) -> None:
    gone = ward.add(1)
    kept = ward.add(2, SeriesInstanceUID="1.2.801.1.2", SOPInstanceUID="1.2.801.1.2.1")

    delete(ward, Level.SERIES, ward.ref(gone).series)

    assert [ref.sop_instance for ref in ward.refs()] == [kept]
    assert ward.counts() == (1, 1, 1, 1)


def test_deleting_a_study_leaves_the_patients_other_study(ward: Ward) -> None:
    gone, kept = ward.add(1), ward.add(1, study=2)

    delete(ward, Level.STUDY, ward.ref(gone).study)

    assert [ref.sop_instance for ref in ward.refs()] == [kept]


def test_deleting_a_patient_removes_everything_of_theirs_on_all_devices(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, mirror_devices=(tmp_path / "mirror0",))
    gone, kept = ward.add(1), ward.add(1, patient="P2")
    other = ward.add(1, study=2)
    list(ward.caretaker.mover.move("MAG0", "MAG1", (Level.STUDY, ward.ref(other).study)))
    for sop_instance in (gone, other, kept):
        ward.mirrors.pay(sop_instance)

    delete(ward, Level.PATIENT, "P1")

    assert [ref.sop_instance for ref in ward.refs()] == [kept]
    assert ward.below("mag0") == ward.below("mirror0") == [ward.ref(kept).name]
    assert ward.below("mag1") == []
    ward.close()


def test_a_deleted_patients_worklist_rows_go_too(ward: Ward) -> None:
    ward.add(1)
    ward.writer.transact(
        lambda tx: tx.executemany(
            "INSERT INTO DICOMWorkList (AccessionN, PatientID) VALUES (?, ?)",
            [("A1", "P1"), ("A2", "P2")],
        )
    )

    delete(ward, Level.PATIENT, "P1")

    assert ward.rows("SELECT AccessionN FROM DICOMWorkList") == [("A2",)]


def test_search_forms_of_a_deleted_patient_are_forgotten(ward: Ward) -> None:
    ward.add(1, PatientName="MÜLLER^JÖRG", SpecificCharacterSet="ISO_IR 100")
    assert ward.rows("SELECT * FROM dgate_folded")

    delete(ward, Level.PATIENT, "P1")

    assert ward.rows("SELECT * FROM dgate_folded") == []


def test_what_is_still_owed_is_not_deleted(ward: Ward) -> None:
    owed, _ = ward.add(1), ward.add(1, study=2)
    ward.owe(owed)

    with pytest.raises(StillOwed, match="1 deliveries"):
        delete(ward, Level.PATIENT, "P1")

    assert ward.counts() == (1, 2, 2, 2)
    assert len(ward.below("mag0")) == 2


def test_even_owed_cancels_the_deliveries_and_says_why(ward: Ward) -> None:
    ward.owe(ward.add(1))

    delete(ward, Level.PATIENT, "P1", even_owed=True)

    assert ward.counts() == (0, 0, 0, 0)
    rows = ward.rows("SELECT state, last_error FROM dgate_debts")
    assert rows == [("cancelled", "the object was deleted")]


def test_extent_counts_everything_before_anything_is_deleted(ward: Ward) -> None:
    first = ward.add(1)
    ward.add(2)
    ward.add(1, study=2)
    ward.owe(first)
    deleter = ward.caretaker.deleter

    extent = deleter.extent(Level.PATIENT, "P1", deleter.find(Level.PATIENT, "P1"))

    size = sum(path.stat().st_size for path in (ward.path(ref.sop_instance) for ref in ward.refs()))
    assert (extent.patients, extent.studies, extent.series, extent.images) == (1, 2, 2, 3)
    assert (extent.size, extent.owed, extent.missing, extent.unreachable) == (size, 1, 0, 0)


@pytest.mark.parametrize(
    ("level", "key", "words"),
    [
        (Level.STUDY, "1.2.*", "not a UID"),
        (Level.STUDY, "1.2.3'; DROP TABLE DICOMImages --", "not a UID"),
        (Level.IMAGE, "1..2", "not a UID"),
        (Level.SERIES, "", "not a UID"),
        (Level.SERIES, "1." * 40 + "1", "not a UID"),
        (Level.PATIENT, "P*", "wildcard"),
        (Level.PATIENT, "P?", "wildcard"),
        (Level.PATIENT, "P1\\P2", "wildcard"),
        (Level.PATIENT, "P\n1", "patient ID is needed"),
        (Level.PATIENT, " ", "patient ID is needed"),
        (Level.PATIENT, "p1", "there is no patient"),
        (Level.PATIENT, "NOBODY", "there is no patient"),
        (Level.STUDY, "1.2.3.4.5.6", "there is no study"),
    ],
)
def test_a_key_that_nothing_has_is_refused(ward: Ward, level: Level, key: str, words: str) -> None:
    ward.add(1)

    with pytest.raises(DgateError, match=words):
        delete(ward, level, key)

    assert ward.counts() == (1, 1, 1, 1)


def test_an_object_whose_file_is_lost_can_be_deleted(ward: Ward) -> None:
    gone = ward.add(1)
    ward.path(gone).unlink()

    delete(ward, Level.IMAGE, gone)

    assert ward.counts() == (0, 0, 0, 0)
    assert ward.rows("SELECT * FROM dgate_removals") == []


def test_a_file_that_holds_another_object_is_left_alone(ward: Ward) -> None:
    gone, other = ward.add(1), ward.add(2)
    foreign = ward.path(other).read_bytes()
    ward.path(gone).write_bytes(foreign)
    place = ward.path(gone)

    delete(ward, Level.IMAGE, gone)

    assert place.read_bytes() == foreign


def test_an_object_can_be_stored_again_after_it_was_deleted(ward: Ward) -> None:
    gone = ward.add(1)
    place = ward.path(gone)

    delete(ward, Level.PATIENT, "P1")
    ward.add(1)

    assert ward.path(gone) == place
    ward.start_over()
    assert place.exists()
    assert ward.content(gone)


def test_objects_on_a_device_that_is_gone_lose_their_rows_and_the_note_stays(ward: Ward) -> None:
    gone = ward.add(1)
    ward.writer.transact(lambda tx: tx.execute("UPDATE DICOMImages SET DeviceName = 'MAG7'"))

    delete(ward, Level.IMAGE, gone)

    assert ward.counts() == (0, 0, 0, 0)
    assert ward.rows("SELECT device FROM dgate_removals") == [("MAG7",)]


def test_each_deletion_is_written_down(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sop_instance = ward.add(1)
    ref = ward.ref(sop_instance)

    delete(ward, Level.PATIENT, "P1")

    [record] = ward.recorded()
    assert (record["who"], record["why"], record["action"]) == ("tester", "test", "delete")
    assert (record["patient"], record["study"], record["images"]) == ("P1", ref.study, 1)
    assert any(f"study {ref.study}" in line for line in caplog.messages)
    assert not any("P1" in line for line in caplog.messages)
    assert ward.caretaker.journal.path.stat().st_mode & 0o077 == 0


def test_with_full_durability_all_of_it_works_too(tmp_path: Path) -> None:
    """Folders that became empty are synced by way of those above them."""
    ward = open_ward(tmp_path, durability=Durability.FULL, mirror_devices=(tmp_path / "mirror0",))
    gone, kept = ward.add(1), ward.add(1, patient="P2")
    for sop_instance in (gone, kept):
        ward.mirrors.pay(sop_instance)

    delete(ward, Level.PATIENT, "P1")
    list(ward.caretaker.mover.move("MAG0", "MAG1"))

    assert ward.below("mag0") == ward.below("mirror0") == []
    assert ward.below("mag1") == [ward.ref(kept).name]
    assert ward.rows("SELECT * FROM dgate_removals") == []
    ward.close()
