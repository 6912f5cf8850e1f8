"""The index rebuilt from the files: same rows, conflicts, going on, removing, beside a server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.maintenance import regen as module
from dgate.archive.maintenance.regen import RegenOptions, in_words, regen_commands
from dgate.archive.writer import Transaction
from dgate.dicom.table import ElementTable
from dgate.errors import DatabaseAway, DgateError
from tests.archive.intake_kit import SOP, Station, data_set, open_station
from tests.archive.maintenance.regen_kit import put, rebuild, regen_of

TABLES = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = open_station(tmp_path, mag_devices=(tmp_path / "mag0", tmp_path / "mag1"))
    yield station
    station.close()


def rows(station: Station, columns: str = "*") -> dict[str, list[tuple[Any, ...]]]:
    """Return what the tables hold."""
    with station.database.reader() as connection:
        return {
            table: sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)
            for table in TABLES
        }


def value(station: Station, sql: str) -> Any:
    """Return one value of the database."""
    with station.database.reader() as connection:
        return connection.execute(sql).fetchone()[0]


def filled(station: Station, count: int = 6) -> None:
    """Store objects of two patients."""
    for number in range(count):
        patient = number % 2
        station.send(
            data_set(
                SOPInstanceUID=f"1.2.3.{patient}.1.{number}",
                SeriesInstanceUID=f"1.2.3.{patient}.1",
                StudyInstanceUID=f"1.2.3.{patient}",
                PatientID=f"P{patient}",
                PatientName="Müller^Jürgen" if patient else "SMITH^JOHN",
                SpecificCharacterSet="ISO_IR 192",
            ),
            sop_instance=f"1.2.3.{patient}.1.{number}",
        )


def without_times(found: dict[str, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Return the rows without AccessTime, which is not in the file."""
    return [
        tuple(cell for cell in row if not isinstance(cell, int))
        for table in TABLES
        for row in found[table]
    ]


def test_rows_are_the_same_as_those_of_ingest(station: Station) -> None:
    filled(station)
    before = rows(station)
    folded = value(station, "SELECT count(*) FROM dgate_folded")

    summary = rebuild(station, from_empty=True)

    assert (summary["seen"], summary["entered"]) == (6, 6)
    assert without_times(rows(station)) == without_times(before)
    assert value(station, "SELECT count(*) FROM dgate_folded") == folded > 0


@pytest.mark.parametrize("part", [{"device": "MAG0"}, {"folder": "P1"}])
def test_part_of_the_archive_is_not_rebuilt_from_an_empty_index(
    station: Station, part: dict[str, str]
) -> None:
    """The rows of the rest would be gone."""
    filled(station)
    before = rows(station)

    with pytest.raises(DgateError, match="cannot be limited"):
        rebuild(station, from_empty=True, **part)

    assert rows(station) == before


def test_index_of_a_device_that_is_not_mounted_is_not_cleared(station: Station) -> None:
    filled(station)
    before = rows(station)
    root = station.settings.mag_devices[0]
    root.rename(root.with_name("elsewhere"))
    root.mkdir()

    with pytest.raises(DgateError, match="is it mounted"):
        rebuild(station, from_empty=True)

    assert rows(station) == before


def test_index_is_not_cleared_of_objects_on_devices_that_no_rebuild_reads(station: Station) -> None:
    filled(station)
    station.writer.transact(
        lambda transaction: transaction.execute(
            "UPDATE DICOMImages SET DeviceName = 'JUKEBOX0.1' WHERE ImagePat = 'P1'"
        )
    )
    before = rows(station)

    with pytest.raises(DgateError, match=r"JUKEBOX0\.1"):
        rebuild(station, from_empty=True)

    assert rows(station) == before


def test_objects_and_patients_are_as_old_as_their_files(station: Station) -> None:
    """Otherwise the nightly clean-up would take the wrong patients after a rebuild."""
    old, new = put(station, "a.dcm"), put(station, "b.dcm", "1.2.3.1.1.2")
    os.utime(old, (1_500_000_000, 1_500_000_000))
    os.utime(new, (1_600_000_000, 1_600_000_000))

    rebuild(station)

    def access(table: str) -> int:
        return int(value(station, f"SELECT max(AccessTime) FROM {table}"))

    assert [access(table) for table in TABLES] == [1_600_000_000 & ~31] * 4
    assert value(station, "SELECT min(AccessTime) FROM DICOMImages") == 1_500_000_000 & ~31


def test_refreshing_makes_nothing_less_recently_used(station: Station) -> None:
    filled(station)
    before = rows(station, "AccessTime")
    for path in station.settings.mag_devices[0].rglob("*.dcm"):
        os.utime(path, (1_000_000_000, 1_000_000_000))

    assert rebuild(station)["known"] == 6

    assert rows(station, "AccessTime") == before


def test_second_copy_stays_out_while_the_first_is_there(station: Station) -> None:
    filled(station, 1)
    named = station.ref("1.2.3.0.1.0").name
    content = (station.settings.mag_devices[0] / named).read_bytes()
    (station.settings.mag_devices[1] / "copy.dcm").write_bytes(content)

    assert rebuild(station)["copies"] == 1
    assert station.ref("1.2.3.0.1.0").name == named
    (station.settings.mag_devices[0] / named).unlink()
    assert rebuild(station)["moved"] == 1
    assert station.ref("1.2.3.0.1.0").name == "copy.dcm"
    assert station.ref("1.2.3.0.1.0").device == "MAG1"


def test_name_that_holds_another_object_is_given_up(station: Station) -> None:
    """Older servers let two objects have one name: the first one's row names a foreign file."""
    put(station, "shared.dcm", "1.2.3.1.1.1")
    rebuild(station)
    put(station, "shared.dcm", "1.2.3.1.1.2")
    put(station, "saved.dcm", "1.2.3.1.1.1")

    summary = rebuild(station)

    assert (summary["moved"], summary["entered"]) == (1, 1)
    assert station.ref("1.2.3.1.1.1").name == "saved.dcm"
    assert station.ref("1.2.3.1.1.2").name == "shared.dcm"


def test_conflict_undoes_its_own_rows_only(station: Station) -> None:
    put(station, "a.dcm", "1.2.3.1.1.1")
    put(station, "b.dcm", "1.2.3.9.1.1", PatientID="P2", PatientName="OTHER")
    put(station, "c.dcm", "1.2.3.1.1.3")

    summary = rebuild(station)

    assert (summary["entered"], summary["refused"]) == (2, 1)
    assert value(station, "SELECT count(*) FROM DICOMPatients") == 1
    assert station.find("1.2.3.1.1.3") is not None


def test_missing_uid_gets_the_same_one_as_on_receipt(station: Station) -> None:
    station.send(data_set(StudyInstanceUID=None))
    study = station.ref().study
    put(station, "other.dcm", "1.2.3.4", StudyInstanceUID=None, SeriesInstanceUID="1.2.3.5")

    first = rebuild(station)
    again = station.ref("1.2.3.4").study
    rebuild(station, from_empty=True)

    assert first["generated"] == 1
    assert station.ref().study == study
    assert station.ref("1.2.3.4").study == again


def test_rebuild_goes_on_behind_the_last_file_entered(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.maintenance.walk.BATCH_FILES", 2)
    monkeypatch.setattr(module, "PROGRESS_S", 0.0)
    for number in range(7):
        put(station, f"{number}/x.dcm", f"1.2.3.1.1.{number + 1}")
    answers = regen_of(station).run(RegenOptions(workers=0))
    while next(answers).get("seen", 0) < 4:
        pass
    answers.close()  # type: ignore[attr-defined]

    kept = value(station, "SELECT count(*) FROM DICOMImages")
    resumed = list(regen_of(station).run(RegenOptions(workers=0)))

    assert kept == 4
    assert resumed[0]["resumed"] == "'3/x.dcm'"
    assert (resumed[-1]["seen"], resumed[-1]["entered"], resumed[-1]["known"]) == (7, 7, 0)
    assert value(station, "SELECT count(*) FROM dgate_regen") == 0
    # Complete: the next one begins at the beginning.
    assert rebuild(station)["known"] == 7


def test_unfinished_rebuild_can_be_begun_anew(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.maintenance.walk.BATCH_FILES", 1)
    for number in range(3):
        put(station, f"{number}.dcm", f"1.2.3.1.1.{number + 1}")
    monkeypatch.setattr(module, "PROGRESS_S", 0.0)
    answers = regen_of(station).run(RegenOptions(workers=0))
    while next(answers).get("seen", 0) < 2:
        pass
    answers.close()  # type: ignore[attr-defined]

    assert rebuild(station, restart=True)["seen"] == 3


def test_batch_that_the_database_refuses_is_read_again(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(station, "a.dcm")
    regen = regen_of(station)
    real = station.index.enter

    def away(*arguments: Any, **more: Any) -> None:
        raise DatabaseAway("the disk is gone")

    monkeypatch.setattr(station.index, "enter", away)
    with pytest.raises(DatabaseAway):
        rebuild(station, regen)
    monkeypatch.setattr(station.index, "enter", real)

    assert rebuild(station, regen)["entered"] == 1


def test_two_rebuilds_do_not_run_at_once(station: Station) -> None:
    filled(station)
    turn = threading.Lock()
    first = regen_of(station, turn=turn).run(RegenOptions(workers=0))
    next(first)

    with pytest.raises(DgateError, match="at work already"):
        next(regen_of(station, turn=turn).run(RegenOptions(workers=0)))
    first.close()  # type: ignore[attr-defined]

    assert rebuild(station, regen_of(station, turn=turn))["known"] == 6


def test_row_without_file_goes_only_on_request_and_takes_its_parents(station: Station) -> None:
    filled(station, 2)
    (station.settings.mag_devices[0] / station.ref("1.2.3.0.1.0").name).unlink()

    assert rebuild(station)["missing"] == 1
    assert station.find("1.2.3.0.1.0") is not None
    assert rebuild(station, prune=True)["pruned"] == 1
    assert station.find("1.2.3.0.1.0") is None
    assert value(station, "SELECT count(*) FROM DICOMPatients") == 1


def test_object_between_commit_and_rename_is_not_pruned(station: Station) -> None:
    filled(station, 3)
    ref = station.ref("1.2.3.0.1.2")
    path = station.settings.mag_devices[0] / ref.name
    staged = station.settings.mag_devices[0] / "dgate" / "incoming" / "1.2.3.0.1.2.n1"
    path.rename(staged)

    summary = rebuild(station, prune=True)

    assert (summary["missing"], summary["pruned"]) == (0, 0)


def test_nothing_is_pruned_where_a_whole_device_is_empty(station: Station) -> None:
    filled(station)
    for path in station.settings.mag_devices[0].rglob("*.dcm"):
        path.unlink()

    summary = rebuild(station, prune=True)

    assert (summary["missing"], summary["pruned"]) == (6, 0)
    assert value(station, "SELECT count(*) FROM DICOMImages") == 6


def test_file_that_is_to_be_removed_is_not_entered_again(station: Station) -> None:
    put(station, "a.dcm")

    def give_up(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO dgate_removals VALUES ('t', 'MAG0', 'a.dcm', '1')")

    station.writer.transact(give_up)

    assert rebuild(station)["skipped"] == 1
    assert station.find() is None


def test_object_that_is_just_being_replaced_keeps_its_newer_row(station: Station) -> None:
    filled(station, 1)

    def replace(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO dgate_rewrites VALUES ('1.2.3.0.1.0', 'x', 'MAG0', 'y')")

    station.writer.transact(replace)

    assert rebuild(station)["skipped"] == 1


def test_file_changed_between_reading_and_entering_is_left_to_ingest(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(station, "a.dcm")
    regen = regen_of(station)
    real = station.writer.run

    def change_first(job: Any) -> Any:
        path.write_bytes(path.read_bytes() + b"more")
        return real(job)

    monkeypatch.setattr(station.writer, "run", change_first)
    monkeypatch.setattr(station.writer, "transact", lambda work: real(_Plain(work)))

    assert rebuild(station, regen)["skipped"] == 1
    assert station.index.counts().instances == 0


class _Plain:
    def __init__(self, work: Any) -> None:
        self.work = work

    def publish(self) -> frozenset[Path]:
        return frozenset()


def test_converter_says_what_is_skipped_and_failures_are_told(station: Station) -> None:
    put(station, "a.dcm")
    put(station, "b.dcm", "1.2.3.1.1.2")
    (station.settings.mag_devices[0] / "bad.dcm").write_bytes(b"nonsense")
    failed: list[tuple[str, str]] = []

    def keep(table: ElementTable, path: str) -> bool:
        return table.text(0x00080018) != SOP

    regen = regen_of(station, keep=keep, failed=lambda path, text: failed.append((path.name, text)))
    summary = rebuild(station, regen)

    assert (summary["entered"], summary["skipped"], summary["unreadable"]) == (1, 1, 1)
    assert [name for name, _ in failed] == ["bad.dcm"]


@pytest.mark.parametrize(
    ("folder", "seen"),
    [("A", 1), ("a*", 2), ("AB/sub", 1), ("?", 2), ("AB\\sub", 1), ("A/", 1)],
)
def test_folder_may_be_named_or_described(station: Station, folder: str, seen: int) -> None:
    for number, name in enumerate(("A/x.dcm", "AB/sub/x.dcm", "C/x.dcm")):
        put(station, name, f"1.2.3.1.1.{number + 1}")

    assert rebuild(station, folder=folder, device="mag0")["seen"] == seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "MAG7"}, "there is no device MAG7"),
        ({"folder": "none"}, "no device has a folder"),
        ({"folder": "../mag1"}, "no device has a folder"),
        ({"folder": "/etc"}, "no device has a folder"),
    ],
)
def test_place_that_does_not_exist_is_an_error(
    station: Station, options: dict[str, str], message: str
) -> None:
    with pytest.raises(DgateError, match=message):
        rebuild(station, **options)


def test_name_in_latin_1_bytes_is_entered_and_found(station: Station) -> None:
    path = put(station, "x.dcm")
    raw = os.fsencode(station.settings.mag_devices[0]) + b"/M\xfcller.dcm"
    os.rename(os.fsencode(path), raw)  # noqa: PTH104 - the name is no text

    assert rebuild(station)["entered"] == 1
    assert station.ref().name == "Müller.dcm"
    assert rebuild(station)["known"] == 1
    assert rebuild(station)["missing"] == 0
    assert station.content() == data_set()


def test_memory_of_a_rebuild_does_not_grow_with_the_archive(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits between reading and entering is bounded, whatever there is to read."""
    for number in range(600):
        put(station, f"{number % 7}/{number}.dcm", f"1.2.3.1.1.{number + 1}")
    regen = regen_of(station)
    most = 0
    real = module.EnterJob

    def counted(shared: Any, device: Any, files: Any, scope: Any, mark: Any) -> Any:
        nonlocal most
        most = max(most, len(files))
        return real(shared, device, files, scope, mark)

    monkeypatch.setattr(module, "EnterJob", counted)

    assert rebuild(station, regen)["entered"] == 600
    assert most <= 128


def test_workers_give_the_same_result(station: Station) -> None:
    filled(station)
    before = without_times(rows(station))

    summary = rebuild(station, from_empty=True, workers=2)

    assert summary["entered"] == 6
    assert without_times(rows(station)) == before


def test_command_of_the_socket_refuses_what_it_does_not_know(station: Station) -> None:
    command = regen_commands(lambda turn: regen_of(station, turn=turn))["regen"]

    answers = list(command({"device": "MAG0", "workers": 0}))

    assert answers[-1]["kind"] == "summary"  # type: ignore[index]
    with pytest.raises(DgateError, match="does not know the option colour"):
        command({"colour": "red"})


def test_summary_in_words_leaves_out_what_did_not_happen() -> None:
    assert in_words({"seen": 3, "entered": 2, "refused": 1, "known": 0}) == (
        "3 files seen, 2 entered, 1 refused"
    )
    assert in_words({"seen": 0}) == "no files"
