"""Objects that are taken in: checks, files, rows."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from dgate.archive.records import Arrival, Outcome, Receipt
from dgate.config.settings import Durability, MissingUids, V2Content
from dgate.dicom.part10 import read_meta
from dgate.dicom.payload import Payload
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, JPEG_BASELINE
from dgate.errors import DataSetMismatch, DgateError, NotDicom, Refused, StoreError
from tests.archive.intake_kit import (
    CT,
    SOP,
    Hooks,
    Station,
    data_set,
    large_data_set,
    open_station,
)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path)
    yield made
    made.close()


def test_object_is_stored_under_its_name_and_indexed(station: Station) -> None:
    data = data_set()

    receipt = station.send(data)

    name = "P1/1.2.3.1.1_0002_000003_17000000000000.dcm"
    assert receipt == Receipt(Outcome.STORED, SOP, "MAG0", name)
    assert station.files() == [name]
    ref = station.ref()
    assert (ref.device, ref.name, ref.sop_class) == ("MAG0", name, CT)
    assert station.content() == data


def test_file_has_a_part_10_header_and_the_bytes_received(station: Station) -> None:
    data = data_set()
    station.send(data, calling="CT1")

    content = station.path().read_bytes()

    meta = read_meta(content)
    assert (meta.sop_class, meta.sop_instance, meta.syntax) == (CT, SOP, EXPLICIT_LE)
    assert content[meta.data_offset :] == data
    assert b"CT1" in content[: meta.data_offset]


def test_large_object_goes_to_disk_once_and_keeps_its_bytes(station: Station) -> None:
    data = large_data_set()
    arrival = station.arrival(data)
    assert arrival.payload.spilled is not None
    inode = os.fstat(arrival.payload.spilled.descriptor).st_ino

    station.ingest.store(arrival)

    assert station.path().stat().st_ino == inode
    assert station.content() == data
    assert len(station.files()) == 1


def test_object_that_came_as_a_file_needs_no_command(station: Station) -> None:
    station.send(large_data_set(), sop_class="", sop_instance="")

    meta = read_meta(station.path().read_bytes())
    assert (meta.sop_class, meta.sop_instance) == (CT, SOP)


@pytest.mark.parametrize("elements", [{}, {"PixelData": bytes(1 << 21)}], ids=["small", "large"])
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"sop_instance": "1.2.3.9"}, DataSetMismatch),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.4"}, DataSetMismatch),
        ({"sop_instance": "../../../tmp/x"}, DataSetMismatch),
    ],
)
def test_data_set_that_differs_from_the_command_is_refused(
    station: Station, elements: dict[str, Any], changes: dict[str, str], error: type[DgateError]
) -> None:
    with pytest.raises(error):
        station.send(data_set(**elements), **changes)

    assert station.files() == []
    assert station.find() is None


@pytest.mark.parametrize(
    "elements",
    [
        {"SOPInstanceUID": None},
        {"SOPInstanceUID": ""},
        {"SOPClassUID": None},
        {"SOPInstanceUID": "../../x"},
        {"SOPInstanceUID": "1.2/../../x"},
        {"SOPInstanceUID": "1.2.3.1.1.1" + "1" * 60},
        {"SOPClassUID": "CT"},
        {"SeriesInstanceUID": "../../x"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_uids_that_are_missing_or_none_are_refused(
    station: Station, elements: dict[str, Any]
) -> None:
    with pytest.raises(NotDicom):
        station.send(data_set(**elements), sop_class="", sop_instance="")

    assert station.files() == []


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n" * 10, b"\xff" * 100, data_set()[:100]],
    ids=["empty", "one byte", "http", "ff", "cut off"],
)
def test_what_is_not_dicom_is_refused(station: Station, data: bytes) -> None:
    with pytest.raises(NotDicom):
        station.send(data)

    assert station.files() == []


def test_no_bytes_get_past_the_checks_with_anything_but_a_store_error(tmp_path: Path) -> None:
    station = open_station(tmp_path, durability=Durability.NONE)
    places = st.dictionaries(st.integers(0, len(data_set()) - 1), st.integers(0, 255), max_size=8)

    @example_settings(max_examples=100)
    @given(places)
    def store(changes: dict[int, int]) -> None:
        data = bytearray(data_set())
        for place, value in changes.items():
            data[place] = value
        try:
            receipt = station.send(bytes(data), sop_class="", sop_instance="")
        except StoreError:
            return
        assert station.content(receipt.sop_instance) == bytes(data)

    store()
    assert not list((tmp_path / "mag0" / "dgate" / "incoming").iterdir())
    station.close()


def test_payload_without_a_spill_file_is_refused_when_too_large(station: Station) -> None:
    payload = Payload()
    payload.append(bytes(2 << 20))

    with pytest.raises(StoreError, match="too large"):
        station.ingest.store(Arrival(payload, EXPLICIT_LE, "A", "B"))


def test_missing_study_and_series_uids_are_generated_into_the_object(tmp_path: Path) -> None:
    station = open_station(tmp_path, missing_uids=MissingUids.GENERATE)

    station.send(data_set(StudyInstanceUID=None, SeriesInstanceUID=None))

    ref = station.ref()
    with station.exporter.table(ref) as table:
        assert table.text(0x0020000D) == ref.study
        assert table.text(0x0020000E) == ref.series
    assert ref.study.startswith(station.settings.uid_prefix)
    station.close()


def test_repairs_of_ids_leave_the_object_as_it_came(station: Station) -> None:
    data = data_set(PatientID=None, PatientName=None)

    receipt = station.send(data)

    assert station.content() == data
    assert station.ref().patient_id == "00000000"
    assert receipt.name.startswith("00000000/")


def test_another_instance_of_the_same_name_gets_a_number(tmp_path: Path) -> None:
    station = open_station(tmp_path, file_name_syntax="%id/image.dcm")
    for number in range(3):
        sop = f"1.2.3.{number}"
        station.send(data_set(SOPInstanceUID=sop), sop_instance=sop)

    assert station.files() == ["P1/image.dcm", "P1/image_1.dcm", "P1/image_2.dcm"]
    for number in range(3):
        assert read_meta(station.path(f"1.2.3.{number}").read_bytes()).sop_instance == (
            f"1.2.3.{number}"
        )
    station.close()


def test_second_device_takes_over_when_a_rule_or_a_full_disk_says_so(tmp_path: Path) -> None:
    hooks = Hooks(on_import=lambda table, verdict: setattr(verdict, "device", "MAG1"))
    devices = (tmp_path / "mag0", tmp_path / "mag1")
    station = open_station(tmp_path, hooks=hooks, mag_devices=devices)
    data = large_data_set()

    receipt = station.send(data)

    assert receipt.device == "MAG1"
    assert station.path().is_relative_to(tmp_path / "mag1")
    assert station.content() == data
    assert len(station.files()) == 1
    station.close()


def test_threads_store_side_by_side(station: Station) -> None:
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(10):
                sop = f"1.2.{worker}.{number}"
                station.send(data_set(SOPInstanceUID=sop), sop_instance=sop)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert len(station.files()) == 40
    assert station.index.counts().instances == 40


def test_copies_of_one_instance_that_arrive_at_once_end_as_one_object(station: Station) -> None:
    data = [data_set(StudyDescription=f"version {number}") for number in range(6)]
    outcomes: list[Outcome] = []
    start = threading.Barrier(6)

    def work(number: int) -> None:
        start.wait(60)
        outcomes.append(station.send(data[number]).outcome)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes, key=str) == [Outcome.REWRITTEN] * 5 + [Outcome.STORED]
    assert len(station.files()) == 1
    assert station.content() in data
    with closing(sqlite3.connect(station.settings.sql_server)) as database:
        (text,) = database.execute("SELECT StudyDescr FROM DICOMStudies").fetchone()
    assert str(text).encode() in station.content()


def watch(monkeypatch: pytest.MonkeyPatch, call: str, note: Callable[[str, str], None]) -> None:
    """Tell `note` of each call of a function of `os`: its name, and the path that it concerns."""
    real = getattr(os, call)

    def watched(target: Any, *rest: Any, **named: Any) -> Any:
        place = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target
        note(call, str(place))
        return real(target, *rest, **named)

    monkeypatch.setattr(os, call, watched)


def test_rename_follows_the_commit_and_folders_are_synced_before_success(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str, int]] = []
    root = station.settings.mag_devices[0]

    def note(call: str, path: str) -> None:
        with closing(sqlite3.connect(station.settings.sql_server)) as database:
            (rows,) = database.execute("SELECT count(*) FROM DICOMImages").fetchone()
        where = Path(path).relative_to(root)
        steps.append((call, str(where.parent if where.name.startswith(SOP) else where), rows))

    for call in ("writev", "fdatasync", "rename", "fsync"):
        watch(monkeypatch, call, note)
    station.send(data_set())

    assert steps[:3] == [
        ("writev", "dgate/incoming", 0),
        ("fdatasync", "dgate/incoming", 0),
        ("rename", "dgate/incoming", 1),
    ]
    assert set(steps[3:]) == {("fsync", ".", 1), ("fsync", "P1", 1)}


def test_known_folder_is_the_only_one_synced(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.send(data_set())
    synced: list[str] = []

    watch(monkeypatch, "fsync", lambda call, path: synced.append(path))
    station.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")

    assert synced == [str(station.path().parent)]


def test_v2_file_holds_a_bare_implicit_data_set_when_asked(tmp_path: Path) -> None:
    station = open_station(tmp_path, file_name_syntax="3", v2_content=V2Content.RAW)

    station.send(data_set())

    assert station.path().read_bytes() == data_set(IMPLICIT_LE)
    assert station.exporter.peek(station.ref()).syntax == IMPLICIT_LE
    station.close()


def test_large_v2_file_is_converted_on_disk(tmp_path: Path) -> None:
    hooks = Hooks(on_import=lambda table, verdict: table.set_text(0x00081030, "Changed"))
    station = open_station(tmp_path, hooks=hooks, file_name_syntax="3", v2_content=V2Content.RAW)

    station.send(large_data_set())

    expected = large_data_set(IMPLICIT_LE, StudyDescription="Changed")
    assert station.path().read_bytes() == expected
    assert len(station.files()) == 1
    station.close()


def test_v2_file_holds_part_10_by_default(tmp_path: Path) -> None:
    station = open_station(tmp_path, file_name_syntax="3")

    station.send(data_set())

    assert station.path().suffix == ".v2"
    assert station.content() == data_set()
    station.close()


def test_v2_file_holds_part_10_when_there_is_no_implicit_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    station = open_station(tmp_path, file_name_syntax="3", v2_content=V2Content.RAW)
    jpip_referenced = "1.2.840.10008.1.2.4.94"

    station.send(data_set(PixelData=None), syntax=jpip_referenced)

    assert station.path().suffix == ".v2"
    assert station.exporter.peek(station.ref()).syntax == jpip_referenced
    assert station.content() == data_set(PixelData=None)
    assert "written as Part 10" in caplog.text
    station.close()


def test_compressed_object_gets_a_dcm_file(tmp_path: Path) -> None:
    station = open_station(tmp_path, file_name_syntax="3", v2_content=V2Content.RAW)
    frame = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00\xff\xd8\xff\xd9"
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + frame + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data = data_set(PixelData=None) + pixels

    station.send(data, syntax=JPEG_BASELINE)

    assert station.path().suffix == ".dcm"
    assert station.content() == data
    station.close()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
@pytest.mark.parametrize(
    ("settings", "called"),
    [({"incoming_compression": "ui"}, "DGATE"), ({"incoming_compression": "as"}, "DGATE~ui")],
    ids=["setting", "suffix"],
)
def test_objects_are_recompressed_on_arrival_when_asked(
    tmp_path: Path, make: Any, settings: dict[str, str], called: str
) -> None:
    hooks = Hooks()
    station = open_station(tmp_path, hooks=hooks, **settings)

    station.send(make(), called=called)

    assert station.content() == make(syntax=IMPLICIT_LE)
    assert station.exporter.peek(station.ref()).syntax == IMPLICIT_LE
    assert hooks.imported[0].called == "DGATE"
    assert len(station.files()) == 1
    station.close()


def test_files_are_recompressed_by_their_own_setting(tmp_path: Path) -> None:
    station = open_station(tmp_path, dropped_file_compression="ui", incoming_compression="ub")

    station.send(data_set(), sop_class="", sop_instance="")

    assert station.content() == data_set(IMPLICIT_LE)
    station.close()


def test_object_that_cannot_be_recompressed_is_kept_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    station = open_station(tmp_path, incoming_compression="j2")

    for _ in range(3):
        station.send(data_set())

    assert station.content() == data_set()
    assert caplog.text.count("kept in the transfer syntax received") == 1
    station.close()


def test_identity_conflict_is_refused_and_leaves_nothing(station: Station) -> None:
    station.send(data_set())
    before = station.files()

    with pytest.raises(Refused):
        station.send(data_set(PatientID="P2"))
    with pytest.raises(Refused):
        station.send(data_set(PatientID="P2", SOPInstanceUID="1.2.9"), sop_instance="1.2.9")

    assert station.files() == before
    assert station.content() == data_set()


def test_object_deleted_while_it_arrives_again_is_stored_anew(station: Station) -> None:
    station.send(data_set())
    meddle = [lambda tx: station.index.delete_instance(tx, SOP)]

    def now() -> float:
        if meddle:
            station.writer.transact(meddle.pop())
        return 1_700_000_000.0

    station.clock.now = now  # type: ignore[method-assign]
    receipt = station.send(data_set(StudyDescription="Second"))

    assert receipt.outcome is Outcome.STORED
    assert station.content() == data_set(StudyDescription="Second")


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_object_that_somebody_else_enters_meanwhile_takes_its_place(
    station: Station, make: Any
) -> None:
    """Another gateway may share the database."""
    station.send(make())
    rows = _row(station)
    station.writer.transact(lambda tx: station.index.delete_instance(tx, SOP))
    meddle = [rows]

    def now() -> float:
        if meddle:
            with closing(sqlite3.connect(station.settings.sql_server)) as database:
                for table, row in meddle.pop().items():
                    marks = ", ".join("?" * len(row))
                    database.execute(f"INSERT INTO {table} VALUES ({marks})", row)
                database.commit()
        return 1_700_000_000.0

    station.clock.now = now  # type: ignore[method-assign]
    receipt = station.send(make(StudyDescription="Second"))

    assert receipt.outcome is Outcome.REWRITTEN
    assert station.content() == make(StudyDescription="Second")
    assert station.files() == [receipt.name]


def _row(station: Station) -> dict[str, tuple[Any, ...]]:
    """Return the only row of each table."""
    tables = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")
    with closing(sqlite3.connect(station.settings.sql_server)) as database:
        return {table: database.execute(f"SELECT * FROM {table}").fetchone() for table in tables}


def test_index_that_never_stands_still_is_given_up(station: Station) -> None:
    station.send(data_set())
    names = iter(range(1000))

    def now() -> float:
        sql = "UPDATE DICOMImages SET ObjectFile = ?"
        station.writer.transact(lambda tx: tx.execute(sql, (f"{next(names)}.dcm",)) and None)
        return 1_700_000_000.0

    station.clock.now = now  # type: ignore[method-assign]
    before = station.files()
    with pytest.raises(StoreError, match="changes while"):
        station.send(data_set())

    assert station.files() == before


def test_copy_of_an_object_that_takes_for_ever_is_not_waited_for_for_ever(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.reservations.WAIT_S", 0.01)
    station.ingest._turns.enter(SOP)

    with pytest.raises(StoreError, match="still being stored"):
        station.send(data_set())

    station.ingest._turns.leave(SOP)
    station.send(data_set())


def test_name_that_an_object_would_get_is_shown_to_rules(station: Station) -> None:
    from dgate.dicom.table import ElementTable

    path = station.ingest.file_name(ElementTable(data_set(), EXPLICIT_LE), "CT1", "DGATE")

    assert str(path.parent) == str(station.settings.mag_devices[0] / "P1")


def test_payload_is_closed_whatever_happens(station: Station) -> None:
    arrival = station.arrival(large_data_set(), sop_instance="1.9")
    assert arrival.payload.spilled is not None
    descriptor = arrival.payload.spilled.descriptor

    with pytest.raises(DataSetMismatch):
        station.ingest.store(arrival)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
