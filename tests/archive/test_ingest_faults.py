"""Disks that fill up or break while objects arrive: nothing half-written stays."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.incoming import reencoded
from dgate.archive.records import Arrival
from dgate.archive.watermark import Limits
from dgate.config.settings import DuplicateContent, Durability, Engine, V2Content
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import DatabaseAway, NotSynced, OutOfSpace, StoreError
from dgate.rules.effects import ExportPlan, Forward, ImportForward
from dgate.rules.effects import Outcome as RuleOutcome
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
    made = open_station(tmp_path, hooks=Hooks(plans=[ExportPlan(0, deferred=True)]))
    yield made
    made.close()


def failing(code: int = errno.ENOSPC) -> Callable[..., Any]:
    """Return a function that fails like a system call."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["open", "makedirs", "writev", "fdatasync"])
def test_small_object_is_refused_as_out_of_space(
    station: Station, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    station.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")
    before = station.files()
    arrival = station.arrival(
        data_set(PatientID="P2", StudyInstanceUID="1.3", SeriesInstanceUID="1.4")
    )

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code))
        with pytest.raises(OutOfSpace):
            station.ingest.store(arrival)

    assert station.files() == before
    assert station.find() is None
    assert len(station.debts()) == 1
    station.send(data_set())


@pytest.mark.parametrize("call", ["open", "writev", "write"])
def test_disk_that_fills_up_while_a_large_object_arrives(
    station: Station, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing())
        arrival = station.arrival(large_data_set())
    assert arrival.payload.error is not None

    with pytest.raises(OutOfSpace):
        station.ingest.store(arrival)

    assert station.files() == []
    assert station.send(large_data_set()).name


@pytest.mark.parametrize("call", ["rename", "fsync", "makedirs"])
def test_large_object_that_cannot_be_synced_is_refused(
    station: Station, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    arrival = station.arrival(large_data_set())

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(errno.EIO))
        with pytest.raises(OutOfSpace):
            station.ingest.store(arrival)

    assert station.files() == []
    assert station.find() is None


def test_object_that_a_rule_changed_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = Hooks(on_import=lambda table, verdict: table.set_text(0x00081030, "Changed"))
    station = open_station(tmp_path, hooks=hooks)
    arrival = station.arrival(large_data_set())

    with monkeypatch.context() as patch:
        patch.setattr(os, "copy_file_range", failing())
        with pytest.raises(OutOfSpace):
            station.ingest.store(arrival)

    assert station.files() == []
    station.close()


def test_spill_file_that_cannot_be_read_back_is_refused(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival = station.arrival(large_data_set())

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing(errno.EIO))
        with pytest.raises(OutOfSpace):
            station.ingest.store(arrival)

    assert station.files() == []


def test_full_spool_refuses_what_it_cannot_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward_and_destroy(table: Any, verdict: Any) -> None:
        verdict.forwards.append(ImportForward(Forward("DEST", "R"), table.snapshot()))
        verdict.outcome = RuleOutcome.DESTROY

    station = open_station(tmp_path, hooks=Hooks(on_import=forward_and_destroy))
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", failing())
        with pytest.raises(OutOfSpace):
            station.send(data_set())

    assert (station.files(), station.debts()) == ([], [])
    station.close()


def test_all_devices_full_refuses_small_and_large(tmp_path: Path) -> None:
    station = open_station(
        tmp_path, ignore_mag_device_threshold=False, mag_device_full_threshold_mb=1 << 40
    )

    for data in (data_set(), large_data_set()):
        with pytest.raises(OutOfSpace, match="full"):
            station.send(data)

    assert station.files() == []
    station.close()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_locked_database_refuses_and_leaves_nothing(
    station: Station, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    monkeypatch.setattr("dgate.archive.database.BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(station.settings.sql_server)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseAway):
            station.send(make())
        other.rollback()

    assert station.files() == []
    assert station.send(make()).name


def test_copy_in_the_spool_goes_when_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward_then_change(table: Any, verdict: Any) -> None:
        verdict.forwards.append(ImportForward(Forward("DEST", "R"), table.snapshot()))
        table.set_text(0x00081030, "Changed")

    monkeypatch.setattr("dgate.archive.database.BUSY_TIMEOUT_S", 0.05)
    station = open_station(tmp_path, hooks=Hooks(on_import=forward_then_change))
    with closing(sqlite3.connect(station.settings.sql_server)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseAway):
            station.send(data_set())
        other.rollback()

    assert station.files() == []
    assert station.ingest is not None
    station.close()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_rename_that_fails_after_the_commit_is_finished_by_recovery(
    station: Station, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    arrival = station.arrival(make())
    real_rename = os.rename

    def fail(source: Any, target: Any) -> None:
        if "incoming" not in str(target):
            raise OSError(errno.EIO, "broken")
        real_rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OutOfSpace):
            station.ingest.store(arrival)

        # The rows are there, the bytes too, and readers find them.
        assert station.content() == make()
        assert not station.path().exists()
    assert station.recover().finished == 1
    assert station.content() == make()
    assert station.files() == [station.ref().name]
    assert station.hooks.wakes == 1


def test_object_can_be_sent_again_after_its_rename_failed(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing(errno.EIO))
        with pytest.raises(OutOfSpace):
            station.send(data_set())

    station.send(data_set(StudyDescription="Second"))

    assert station.content() == data_set(StudyDescription="Second")
    station.recover()
    assert station.files() == [station.ref().name]
    assert station.content() == data_set(StudyDescription="Second")


def test_folder_that_cannot_be_synced_gives_no_success(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StoreError, match="synced"):
            station.send(data_set())

    assert station.send(data_set()).sop_instance == SOP
    assert station.content() == data_set()


def test_large_object_whose_folder_cannot_be_synced_is_no_success_but_stays_whole(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival = station.arrival(large_data_set())
    failures: list[Path] = []

    def fail_once(folder: Path) -> None:
        if not failures:
            failures.append(folder)
            raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr("dgate.archive.writer.sync_folder", fail_once)
        with pytest.raises(StoreError, match="synced"):
            station.ingest.store(arrival)

    assert failures
    # The commit stands, so whoever asks gets every byte; and the sender may come again.
    assert station.content() == large_data_set()
    again = station.send(large_data_set(StudyDescription="Second"))
    assert station.content() == large_data_set(StudyDescription="Second")
    assert station.files() == [again.name]


def test_endless_data_set_is_stopped_while_the_disk_has_room_for_others(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.dicom.payload.GROWTH_BYTES", 1 << 21)
    monkeypatch.setattr(station.devices.watermark, "limits", Limits(30 << 20))
    [device] = station.devices
    monkeypatch.setattr(device, "_probe", lambda _: 100 << 20)
    payload = station.ingest.payload(EXPLICIT_LE, CT, SOP, "MODALITY")
    payload.append(bytes(1 << 21))
    assert payload.spilled is not None

    monkeypatch.setattr(device, "_probe", lambda _: 31 << 20)
    for _ in range(5):
        payload.append(bytes(1 << 20))

    assert payload.error is not None
    assert station.files() == []
    with pytest.raises(OutOfSpace, match="too little free space"):
        station.ingest.store(Arrival(payload, EXPLICIT_LE, "MODALITY", "DGATE", CT, SOP))
    assert station.find() is None


def test_relayed_data_set_looks_at_the_space_of_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.dicom.payload.GROWTH_BYTES", 1 << 21)
    monkeypatch.setattr("dgate.archive.spool.free_bytes", lambda _: 31 << 20)
    station = open_station(tmp_path, engine=Engine.NONE, ignore_mag_device_threshold=False)

    with pytest.raises(OutOfSpace, match="too little free space"):
        station.send(bytes(5 << 20))

    assert station.files() == []
    station.close()


def test_recompression_that_fills_the_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = open_station(tmp_path)
    table = ElementTable(large_data_set(), EXPLICIT_LE)
    table.set_text(0x00081030, "Changed")
    source = station.arrival(large_data_set())
    made: list[Payload] = []

    def fresh() -> Payload:
        made.append(station.ingest.payload(IMPLICIT_LE, CT, SOP, "MODALITY"))
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing())
        with pytest.raises(OutOfSpace):
            reencoded(table, source.payload, IMPLICIT_LE, fresh)

    assert made
    assert all(payload.spilled is None for payload in made)
    source.payload.close()
    assert station.files() == []
    station.close()


def test_nothing_is_synced_without_durability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = open_station(tmp_path, durability=Durability.NONE)
    monkeypatch.setattr(os, "fsync", None)
    monkeypatch.setattr(os, "fdatasync", None)

    station.send(data_set())
    station.send(data_set())

    assert station.content() == data_set()
    station.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["writev", "fdatasync", "makedirs", "open"])
@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_object_goes_to_the_next_device_when_the_first_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, call: str, code: int
) -> None:
    station = open_station(tmp_path, mag_devices=(tmp_path / "mag0", tmp_path / "mag1"))
    real = getattr(os, call)
    places: dict[int, str] = {}
    real_open = os.open

    def remembering(path: Any, *rest: Any, **more: Any) -> int:
        descriptor: int = real_open(path, *rest, **more)
        places[descriptor] = str(path)
        return descriptor

    def on_the_first_only(what: Any, *rest: Any, **more: Any) -> Any:
        path = places.get(what, "") if isinstance(what, int) else str(what)
        if "/mag0/" in path:
            raise OSError(code, os.strerror(code))
        return (remembering if call == "open" else real)(what, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", remembering)
        patch.setattr(os, call, on_the_first_only)
        receipt = station.send(make())

    # A large object that was never in need of the call stays where it arrived.
    assert receipt.device == ("MAG1" if call != "fdatasync" or make is data_set else "MAG0")
    assert station.content() == make()
    assert station.files() == [receipt.name]
    assert station.send(make(SOPInstanceUID="1.2.9"), sop_instance="1.2.9").device == receipt.device
    station.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_too_many_open_files_blame_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, code: int
) -> None:
    station = open_station(tmp_path, mag_devices=(tmp_path / "mag0", tmp_path / "mag1"))
    station.send(make())

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(code))
        with pytest.raises(OutOfSpace) as refused:
            station.send(make(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")

    assert "open files" in refused.value.remedy or "file-max" in refused.value.remedy
    assert station.send(make(SOPInstanceUID="1.2.9"), sop_instance="1.2.9").device == "MAG0"
    station.close()


def test_large_object_that_cannot_be_synced_where_it_arrived_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = open_station(tmp_path, mag_devices=(tmp_path / "mag0", tmp_path / "mag1"))
    arrival = station.arrival(large_data_set())
    assert arrival.payload.spilled is not None
    broken, real = arrival.payload.spilled.descriptor, os.fsync

    def fsync(descriptor: int) -> None:
        if descriptor == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        # What the kernel still shows of the file need not be what was written.
        with pytest.raises(OutOfSpace):
            station.ingest.store(arrival)

    assert station.files() == []
    assert station.find() is None
    receipt = station.send(large_data_set())
    assert receipt.device == "MAG1"
    assert station.content() == large_data_set()
    assert station.files() == [receipt.name]
    station.close()


def test_devices_that_all_fail_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = tuple(tmp_path / f"mag{number}" for number in range(8))
    station = open_station(tmp_path, mag_devices=devices)

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", failing(errno.EIO))
        with pytest.raises(OutOfSpace, match="cannot be written"):
            station.send(data_set())

    assert station.files() == []
    station.close()


def change(table: Any, verdict: Any) -> None:
    """Stand for a rule that makes another object of what arrived."""
    table.set_text(0x00081030, "Changed")


def forward_a_changed_copy(table: Any, verdict: Any) -> None:
    """Stand for a rule that passes on what is not stored."""
    change(table, verdict)
    verdict.forwards.append(ImportForward(Forward("DEST", "R"), table.snapshot()))
    verdict.outcome = RuleOutcome.DESTROY


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (change, {}),
        (forward_a_changed_copy, {}),
        (None, {"incoming_compression": "ul"}),
        (None, {"file_name_syntax": "%sopuid.v2", "v2_content": V2Content.RAW}),
        (None, {"duplicate_content": DuplicateContent.ASIDE}),
    ],
    ids=["changed", "copied to the spool", "decoded", "without header", "put aside"],
)
def test_object_is_not_made_of_a_file_of_which_the_disk_has_lost_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Any, settings: dict[str, Any]
) -> None:
    station = open_station(tmp_path, hooks=Hooks(on_import=rule), **settings)
    if "duplicate_content" in settings:
        station.send(large_data_set())
    before = station.files()
    arrival = station.arrival(
        large_data_set(IMPLICIT_LE, StudyDescription="Second"), syntax=IMPLICIT_LE
    )
    assert arrival.payload.spilled is not None

    with monkeypatch.context() as patch:
        patch.setattr("dgate.archive.incoming.check_written", failing(errno.EIO))
        with pytest.raises(NotSynced):
            station.ingest.store(arrival)

    assert (station.files(), station.debts()) == (before, [])
    assert [*station.ingest.aside.reports()] == []
    assert list(station.ingest.aside.folder.glob("*")) == []
    station.close()


def test_without_durability_nobody_waits_for_what_the_disk_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = open_station(tmp_path, hooks=Hooks(on_import=change), durability=Durability.NONE)
    monkeypatch.setattr("dgate.archive.incoming.check_written", None)

    station.send(large_data_set())

    assert station.content() == large_data_set(StudyDescription="Changed")
    station.close()


def test_object_does_not_move_from_a_disk_that_has_lost_a_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = open_station(tmp_path, mag_devices=(tmp_path / "mag0", tmp_path / "mag1"))
    payload = station.ingest.payload(EXPLICIT_LE, CT, SOP, "MODALITY")
    payload.append(bytes(2 << 20))
    assert payload.spilled is not None
    first, real = payload.spilled.descriptor, os.write

    def write(descriptor: int, data: Any) -> int:
        if descriptor == first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr("dgate.dicom.payload.check_written", failing(errno.EIO))
        payload.append(bytes(1 << 20))

    assert payload.error is not None
    assert payload.error.errno == errno.EIO
    assert station.files() == []
    with pytest.raises(OutOfSpace):
        station.ingest.store(Arrival(payload, EXPLICIT_LE, "MODALITY", "DGATE", CT, SOP))
    station.close()
