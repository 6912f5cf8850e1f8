"""One file: Part 10 or a bare data set, small or large, whole or damaged."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from dgate.archive.maintenance.scanner import RepairOptions, Scanned, Scanner
from dgate.archive.repair import repair
from dgate.config.settings import MissingUids
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import RuleError
from tests.archive.intake_kit import CT, SOP, Station, data_set, large_data_set, open_station
from tests.archive.maintenance.regen_kit import schema_of

OPTIONS = RepairOptions(False, False, False, MissingUids.GENERATE, "1.2.3")


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    return open_station(tmp_path_factory.mktemp("station"))


def scan(station: Station, folder: Path, content: bytes, name: str = "x.dcm") -> Scanned:
    """Write a file and scan it."""
    (folder / name).write_bytes(content)
    return Scanner(schema_of(station), OPTIONS).scan(str(folder), name)


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "part10"])
@pytest.mark.parametrize("large", [True, False], ids=["large", "small"])
def test_object_gets_the_entry_that_ingest_gives_it(
    station: Station, tmp_path: Path, syntax: str, bare: bool, large: bool
) -> None:
    data = (large_data_set if large else data_set)(syntax)
    content = data if bare else file_meta(CT, SOP, syntax) + data

    found = scan(station, tmp_path, content, "x.v2")

    table = ElementTable(data, syntax)
    assert found.error == ""
    assert found.entry == station.index.entry(table, repair(table, station.settings))
    assert found.stamp.size == len(content)


@pytest.mark.parametrize(
    ("content", "foreign"),
    [
        (b"", False),
        (file_meta(CT, SOP, EXPLICIT_LE) + data_set()[:50], False),
        (file_meta(CT, SOP, EXPLICIT_LE)[:140], False),
        (b"\x08\x00\x05\x00CS\xff\xff" * 9000, False),
        (data_set(SOPInstanceUID=None), False),
    ],
    ids=["empty", "cut", "cut-meta", "nonsense", "without-uid"],
)
def test_damaged_image_is_an_error_not_an_exception(
    station: Station, tmp_path: Path, content: bytes, foreign: bool
) -> None:
    found = scan(station, tmp_path, content)

    assert found.entry is None
    assert found.error
    assert found.foreign is foreign


def test_text_without_ending_is_foreign(station: Station, tmp_path: Path) -> None:
    assert scan(station, tmp_path, b"Dear reader,\n", "README").foreign


def test_missing_names_are_repaired_as_on_receipt(station: Station, tmp_path: Path) -> None:
    content = data_set(PatientName=None, PatientID="1", StudyInstanceUID=None)

    found = scan(station, tmp_path, content)

    assert found.entry is not None
    assert found.entry.patient_id == "00000000"
    assert found.entry.patient_row[1] == "NO NAME"
    assert found.entry.study.startswith("1.2.3.7.")
    assert [tag for tag, _ in found.generated] == [0x0020000D]


def test_header_longer_than_the_first_look_is_read(station: Station, tmp_path: Path) -> None:
    content = data_set(ImageComments="x" * 10_000, LUTExplanation="y" * 60)
    long = data_set(RedPaletteColorLookupTableData=b"z" * 60_000, PatientComments="c" * 10_000)

    assert scan(station, tmp_path, content).error == ""
    assert scan(station, tmp_path, long).error == ""


def test_converter_may_skip_change_or_fail(station: Station, tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(data_set())
    seen = []

    def keep(table: ElementTable, path: str) -> bool:
        seen.append(path)
        table.set_text(0x00081030, "Renamed")
        return len(seen) == 1

    def fail(table: ElementTable, path: str) -> bool:
        raise RuleError("the rule is faulty")

    scanner = Scanner(schema_of(station), OPTIONS, keep)
    first = scanner.scan(str(tmp_path), "x.dcm")
    second = scanner.scan(str(tmp_path), "x.dcm")
    third = Scanner(schema_of(station), OPTIONS, fail).scan(str(tmp_path), "x.dcm")

    assert first.entry is not None
    assert "Renamed" in first.entry.study_row
    assert (second.entry, second.error) == (None, "")
    assert (third.refused, third.error) == (True, "the rule is faulty")
    assert seen == [str(tmp_path / "x.dcm")] * 2


def test_fault_of_our_own_is_told_and_ends_nothing(station: Station, tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(data_set())

    def fault(table: ElementTable, path: str) -> bool:
        raise ZeroDivisionError("oops")

    assert "oops" in Scanner(schema_of(station), OPTIONS, fault).scan(str(tmp_path), "x.dcm").error


def test_scanner_and_results_travel_between_processes(station: Station, tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(data_set())
    scanner = pickle.loads(pickle.dumps(Scanner(schema_of(station), OPTIONS)))

    results = scanner((str(tmp_path), ["x.dcm", "gone.dcm"]))

    assert pickle.loads(pickle.dumps(results)) == results
    assert results[0].entry.sop_instance == SOP
    assert results[1].error == "No such file or directory"


def test_object_kept_without_check_is_entered_by_its_head(station: Station, tmp_path: Path) -> None:
    """NoDicomCheck = 1: what ingest kept must not be lost to the index by a rebuild."""
    content = file_meta(CT, SOP, EXPLICIT_LE) + data_set(PixelData=None)[:-6]
    (tmp_path / "x.dcm").write_bytes(content)
    lenient = RepairOptions(False, False, False, MissingUids.GENERATE, "1.2.3", True)

    strict = Scanner(schema_of(station), OPTIONS).scan(str(tmp_path), "x.dcm")
    kept = Scanner(schema_of(station), lenient).scan(str(tmp_path), "x.dcm")

    assert strict.entry is None
    assert kept.entry is not None
    assert (kept.entry.sop_instance, kept.entry.patient_id) == (SOP, "P1")
