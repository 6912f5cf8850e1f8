"""Files against index: what counts as a problem, and what only happened meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.devices import FolderDevice
from dgate.archive.maintenance.readonly import open_read_only
from dgate.archive.maintenance.verify import FileChecker, Verification
from tests.archive.intake_kit import SOP, Station, data_set, open_station
from tests.archive.maintenance.regen_kit import put, schema_of


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = open_station(tmp_path)
    for number in range(3):
        station.send(data_set(SOPInstanceUID=f"{SOP}.{number}"), sop_instance=f"{SOP}.{number}")
    yield station
    station.close()


def verification(station: Station, connection: Any, **changes: Any) -> Verification:
    """Return a look at a station."""
    devices = [FolderDevice("MAG0", station.settings.mag_devices[0])]
    schema = schema_of(station)
    return Verification(station.database, connection, schema, devices, **{"workers": 0, **changes})


def look(station: Station, **changes: Any) -> list[dict[str, Any]]:
    """Look at everything."""
    with open_read_only(station.settings, in_use=True) as opened:
        return list(verification(station, opened.connection, **changes).run())


def change(station: Station, sql: str) -> None:
    """Change the database as another program would."""
    station.writer.transact(lambda transaction: transaction.execute(sql))


def problems(answers: list[dict[str, Any]]) -> list[str]:
    """Return the kinds of the problems."""
    return sorted(one["what"] for one in answers if one["kind"] == "problem")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("deep", [False, True])
def test_archive_in_order_is_clean(station: Station, workers: int, deep: bool) -> None:
    answers = look(station, workers=workers, deep=deep)

    assert problems(answers) == []
    assert answers[-1]["clean"]
    assert (answers[-1]["files"], answers[-1]["rows"], answers[-1]["sound"]) == (3, 3, 3)
    assert answers[-1]["bytes"] > 1000


def test_rows_that_lead_nowhere_are_unreachable(station: Station) -> None:
    change(station, f"UPDATE DICOMImages SET DeviceName = 'MAG7' WHERE SOPInstanc = '{SOP}.0'")
    change(station, f"UPDATE DICOMImages SET ObjectFile = '..\\..\\x' WHERE SOPInstanc = '{SOP}.1'")
    change(station, f"UPDATE DICOMImages SET DeviceName = NULL WHERE SOPInstanc = '{SOP}.2'")

    answers = look(station)

    # Their files hold objects that the index has elsewhere.
    assert problems(answers) == ["copies"] * 3 + ["unreachable"] * 3
    assert not answers[-1]["clean"]


def test_backslashes_in_names_are_no_problem(station: Station) -> None:
    change(station, "UPDATE DICOMImages SET ObjectFile = replace(ObjectFile, '/', '\\')")

    assert look(station)[-1]["clean"]


def test_object_that_arrives_between_the_two_looks_is_no_problem(station: Station) -> None:
    with open_read_only(station.settings, in_use=True) as opened:
        answers = verification(station, opened.connection).run()
        first = next(answers)
        station.send(data_set(SOPInstanceUID=f"{SOP}.9"), sop_instance=f"{SOP}.9")
        rest = list(answers)

    assert problems([first, *rest]) == []
    assert (rest[-1]["files"], rest[-1]["rows"], rest[-1]["clean"]) == (3, 4, True)


def test_object_between_commit_and_rename_is_no_problem(station: Station) -> None:
    path = station.path(f"{SOP}.1")
    path.rename(station.settings.mag_devices[0] / "dgate" / "incoming" / f"{SOP}.1.n1")

    assert look(station)[-1]["clean"]


def test_object_removed_after_its_page_was_read_is_no_problem(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.path(f"{SOP}.1").unlink()
    with open_read_only(station.settings, in_use=True) as opened:
        work = verification(station, opened.connection)
        real = work.database.sql

        def remove_meanwhile(text: str) -> str:
            if "IN (" in text and work.verdict.rows:
                change(station, f"DELETE FROM DICOMImages WHERE SOPInstanc = '{SOP}.1'")
            return real(text)

        monkeypatch.setattr(work.database, "sql", remove_meanwhile)
        answers = list(work.run())

    assert problems(answers) == []


def test_row_of_a_file_that_the_walk_passes_over_is_read_too(station: Station) -> None:
    path = station.path(f"{SOP}.1")
    path.rename(path.with_suffix(".txt"))
    change(station, "UPDATE DICOMImages SET ObjectFile = replace(ObjectFile, '.dcm', '.txt') "
        f"WHERE SOPInstanc = '{SOP}.1'")  # fmt: skip

    assert look(station)[-1]["clean"]
    path.with_suffix(".txt").write_bytes(b"nonsense")
    assert problems(look(station)) == ["unreadable"]


def test_device_without_folder_is_told(station: Station) -> None:
    station.settings.mag_devices[0].rename(station.settings.base_folder / "away")

    found = problems(look(station))

    assert found == ["unreadable", "without_file", "without_file", "without_file"]


def test_other_files_are_counted_and_no_problem(station: Station) -> None:
    (station.settings.mag_devices[0] / "README").write_text("Dear reader")

    answers = look(station)

    assert (answers[-1]["foreign"], answers[-1]["clean"]) == (1, True)


def test_fault_of_our_own_is_told_and_ends_nothing(
    tmp_path: Path, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*arguments: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("dgate.archive.maintenance.verify.read_header", fault)
    put(station, "x.dcm")

    checked = FileChecker(deep=False).check(str(station.settings.mag_devices[0]), "x.dcm")

    assert "oops" in checked.error
