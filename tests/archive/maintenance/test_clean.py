"""Making space: who goes first, who is spared, when it stops."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.clean import Victim
from dgate.errors import StoreError
from tests.archive.maintenance.ward import Disk, Ward, open_ward

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def disk() -> Disk:
    return Disk({"mag0": 100_000, "mag1": 100_000})


@pytest.fixture
def ward(tmp_path: Path, disk: Disk) -> Iterator[Ward]:
    ward = open_ward(tmp_path, disk=disk)
    yield ward
    ward.close()


def fill(ward: Ward, *patients: str, **elements: Any) -> None:
    """Store an object of each patient, a day apart, the last one two hours ago."""
    for patient in patients:
        ward.add(1, patient=patient, **elements)
        ward.clock.seconds += DAY
    ward.clock.seconds += 2 * HOUR - DAY


def make_room(ward: Ward, missing: int, device: str | None = "MAG0") -> list[Victim]:
    """Clean until so much more than now is free."""
    wanted = ward.caretaker.cleaner.free(device) + missing
    return list(ward.caretaker.cleaner.make_room(wanted, who="t", why="t", device=device))


def left(ward: Ward) -> list[str]:
    return sorted({ref.patient_id for ref in ward.refs()})


def gone(victims: list[Victim]) -> list[str]:
    return [victim.patient_id for victim in victims if not victim.spared]


def test_the_least_recent_patients_go_first_and_no_more_than_needed(ward: Ward) -> None:
    fill(ward, "P3", "P1", "P4", "P2")

    victims = make_room(ward, 1000)

    assert gone(victims) == ["P3", "P1"]
    assert left(ward) == ["P2", "P4"]
    assert len(ward.below("mag0")) == 2


def test_nothing_goes_where_enough_is_free(ward: Ward) -> None:
    fill(ward, "P1")

    assert make_room(ward, 0) == []
    assert left(ward) == ["P1"]


def test_dry_run_names_the_same_patients_and_deletes_nobody(ward: Ward) -> None:
    fill(ward, "P3", "P1", "P4", "P2")
    ward.owe("1.2.801.1.1.1")
    wanted = ward.caretaker.cleaner.free("MAG0") + 1000

    planned = list(ward.caretaker.cleaner.would_go(wanted, "MAG0"))

    assert left(ward) == ["P1", "P2", "P3", "P4"]
    assert planned == make_room(ward, 1000)
    assert left(ward) == ["P1", "P2"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", ["P1", "P2", "P3"]),
        ("AccessTime", ["P1", "P2", "P3"]),
        ("StudyDate", ["P3", "P1", "P2"]),
        ("studydate", ["P3", "P1", "P2"]),
        ("DICOMStudies.StudyDate", ["P3", "P1", "P2"]),
        ("PatientBir", ["P2", "P3", "P1"]),
        ("PatientBirthDate", ["P2", "P3", "P1"]),
    ],
)
def test_lru_sort_names_the_column_that_decides(
    tmp_path: Path, sort: str, order: list[str]
) -> None:
    ward = open_ward(tmp_path, lru_sort=sort)
    dates = {
        "P1": ("20200101", "19900101"),
        "P2": ("20210101", "19500101"),
        "P3": ("20190101", "19700101"),
    }
    for patient, (study, birth) in dates.items():
        fill(ward, patient, StudyDate=study, PatientBirthDate=birth)
        ward.clock.seconds += DAY

    assert ward.caretaker.lru.problem == ""
    assert list(ward.caretaker.lru.patients()) == order
    ward.close()


def test_a_patient_counts_by_their_latest_study(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, lru_sort="StudyDate")
    ward.add(1, StudyDate="20100101")
    ward.add(1, study=2, StudyDate="20230101")
    ward.add(1, patient="P2", StudyDate="20200101")

    assert list(ward.caretaker.lru.patients()) == ["P2", "P1"]
    ward.close()


def test_a_patient_without_a_value_goes_last(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, lru_sort="StudyDate")
    ward.add(1, StudyDate=None)
    ward.add(1, patient="P2", StudyDate="20200101")

    assert list(ward.caretaker.lru.patients()) == ["P2", "P1"]
    ward.close()


@pytest.mark.parametrize(
    "sort",
    [
        "NoSuch",
        "StudyDate; DROP TABLE DICOMPatients",
        "1",
        "StudyDate, PatientID",
        "DICOMImages.",
        "(SELECT 1)",
    ],
)
def test_lru_sort_that_names_no_column_is_said_and_never_reaches_the_database(
    tmp_path: Path, sort: str
) -> None:
    ward = open_ward(tmp_path, lru_sort=sort)
    fill(ward, "P1", "P2")

    assert sort in ward.caretaker.lru.problem
    assert list(ward.caretaker.lru.patients()) == ["P1", "P2"]
    ward.close()


def test_patients_with_open_deliveries_are_spared(ward: Ward) -> None:
    fill(ward, "P1", "P2")
    ward.owe("1.2.801.1.1.1")

    victims = make_room(ward, 500)

    assert [victim.spared for victim in victims] == ["1 deliveries are still open", ""]
    assert left(ward) == ["P1"]


def test_finished_deliveries_protect_nobody(ward: Ward) -> None:
    fill(ward, "P1")
    ward.owe("1.2.801.1.1.1")
    ward.writer.transact(lambda tx: tx.execute("UPDATE dgate_debts SET state = 'done'"))

    assert gone(make_room(ward, 500)) == ["P1"]


def test_a_patient_of_whom_an_object_has_just_arrived_is_spared(tmp_path: Path) -> None:
    """Also where the order is not that of arrival."""
    ward = open_ward(tmp_path, lru_sort="StudyDate", disk=Disk({"mag0": 100_000}))
    fill(ward, "P1", StudyDate="20200101")
    ward.add(1, patient="P2", StudyDate="19990101")

    victims = make_room(ward, 500)

    assert gone(victims) == ["P1"]
    assert "within the last hour" in victims[0].spared
    ward.close()


def test_patients_whose_files_are_away_are_spared(ward: Ward) -> None:
    """A disk that is not mounted must not cost the rows of all patients on it."""
    fill(ward, "P1", "P2")
    shutil.rmtree(ward.settings.mag_devices[0] / "P1")

    victims = make_room(ward, 500)

    assert "files of 1 objects are not there" in victims[0].spared
    assert left(ward) == ["P1"]


def test_a_device_whose_folder_is_away_costs_nobody(ward: Ward) -> None:
    fill(ward, "P1")
    (ward.settings.mag_devices[0]).rename(ward.settings.base_folder / "elsewhere")

    with pytest.raises(StoreError, match="folder of MAG0 is not there"):
        list(ward.caretaker.cleaner.make_room(1 << 40, who="t", why="t", device="MAG0"))

    assert left(ward) == ["P1"]


def test_an_unknown_device_costs_nobody(ward: Ward) -> None:
    fill(ward, "P1")

    with pytest.raises(StoreError, match="no storage device MAG9"):
        list(ward.caretaker.cleaner.make_room(1 << 40, who="t", why="t", device="MAG9"))

    assert left(ward) == ["P1"]


def test_only_patients_on_the_device_go(ward: Ward) -> None:
    fill(ward, "P1", "P2", "P3")
    list(ward.caretaker.mover.move("MAG0", "MAG1", (Level.PATIENT, "P1")))

    victims = make_room(ward, 500, "MAG0")

    assert gone(victims) == ["P2"]
    assert left(ward) == ["P1", "P3"]


def test_without_a_device_the_emptiest_one_counts(ward: Ward, disk: Disk) -> None:
    disk.free["mag1"] = 200_000
    fill(ward, "P1")

    assert ward.caretaker.cleaner.free() == 200_000
    assert list(ward.caretaker.cleaner.make_room(150_000, who="t", why="t")) == []


def test_cleaning_stops_when_deleting_frees_nothing(
    ward: Ward, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """As where snapshots keep what is deleted."""
    fill(ward, "P1", "P2", "P3", "P4", "P5", "P6")
    disk.stuck = True
    size = ward.path("1.2.801.1.1.1").stat().st_size

    victims = make_room(ward, size + 1)

    assert gone(victims) == ["P1", "P2", "P3"]
    assert "frees no space" in caplog.text


def test_worklist_rows_of_a_cleaned_patient_stay(ward: Ward) -> None:
    """Who is expected tomorrow may have been here long ago."""
    fill(ward, "P1")
    ward.writer.transact(
        lambda tx: tx.execute(
            "INSERT INTO DICOMWorkList (AccessionN, PatientID) VALUES ('A1', 'P1')"
        )
    )

    assert gone(make_room(ward, 500)) == ["P1"]

    assert ward.rows("SELECT AccessionN FROM DICOMWorkList") == [("A1",)]


def test_an_object_that_arrives_while_its_patient_is_judged_is_not_lost(ward: Ward) -> None:
    """It was acknowledged: the transaction that deletes looks once more."""
    fill(ward, "P1")
    arrived: list[str] = []
    real = ward.caretaker.deleter.find

    class Slow:
        """Finds a patient's objects, and lets another one arrive right after."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ward.caretaker.deleter, name)

        def delete(self, level: Level, key: str, **named: Any) -> Any:
            arrived.append(ward.add(2))
            return ward.caretaker.deleter.delete(level, key, **named)

    cleaner = ward.caretaker.cleaner
    cleaner._deleter = Slow()  # type: ignore[assignment]
    victims = make_room(ward, 500)

    assert [victim.spared for victim in victims] == ["an object has just been stored"]
    assert {ref.sop_instance for ref in real(Level.PATIENT, "P1")} == {"1.2.801.1.1.1", *arrived}
    assert len(ward.below("mag0")) == 2
