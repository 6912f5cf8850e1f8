"""`dgate move-device`: objects change their device, byte for byte, and nothing else."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.devices import Device, FolderDevice
from dgate.archive.levels import Level
from dgate.archive.maintenance.commands import maintenance_commands
from dgate.archive.reservations import Names
from dgate.archive.writer import Writer
from dgate.dicom.part10 import read_meta
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import DgateError, OutcomeUnknown, OutOfSpace
from tests.archive.intake_kit import data_set, large_data_set
from tests.archive.maintenance.ward import Disk, Ward, open_ward


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path)
    yield ward
    ward.close()


def test_all_objects_move_byte_for_byte(ward: Ward) -> None:
    objects = [ward.add(number, patient=patient) for patient in ("P1", "P2") for number in (1, 2)]
    before = {sop: ward.path(sop).read_bytes() for sop in objects}

    *_, moved = ward.caretaker.mover.move("MAG0", "MAG1")

    assert (moved.objects, moved.skipped) == (4, 0)
    assert moved.size == sum(map(len, before.values()))
    assert {sop: ward.path(sop).read_bytes() for sop in objects} == before
    assert {ref.device for ref in ward.refs()} == {"MAG1"}
    assert ward.below("mag0") == []
    assert ward.rows("SELECT * FROM dgate_removals") == []


@pytest.mark.parametrize(
    ("level", "key", "moved"),
    [
        (Level.PATIENT, "P1", ["1.2.801.1.1.1", "1.2.801.1.1.2", "1.2.801.2.1.1"]),
        (Level.STUDY, "1.2.801.1", ["1.2.801.1.1.1", "1.2.801.1.1.2"]),
        (Level.SERIES, "1.2.801.2.1", ["1.2.801.2.1.1"]),
    ],
)
def test_only_what_was_named_moves(ward: Ward, level: Level, key: str, moved: list[str]) -> None:
    for number, study in ((1, 1), (2, 1), (1, 2)):
        ward.add(number, study=study)
    ward.add(1, patient="P2")

    list(ward.caretaker.mover.move("MAG0", "MAG1", (level, key)))

    assert [ref.sop_instance for ref in ward.refs() if ref.device == "MAG1"] == moved


def test_a_moved_object_stays_where_it_is_when_it_arrives_again(ward: Ward) -> None:
    sop_instance = ward.add(1)
    list(ward.caretaker.mover.move("MAG0", "MAG1"))

    ward.add(1, StudyDescription="again")

    assert ward.ref(sop_instance).device == "MAG1"
    assert b"again" in ward.content(sop_instance)


def test_a_name_that_is_taken_on_the_target_gets_a_number(ward: Ward) -> None:
    sop_instance = ward.add(1)
    taken = ward.settings.mag_devices[1] / ward.ref(sop_instance).name
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"somebody's")

    list(ward.caretaker.mover.move("MAG0", "MAG1"))

    assert ward.ref(sop_instance).name.endswith("_1.dcm")
    assert taken.read_bytes() == b"somebody's"


def test_what_an_object_owes_is_delivered_from_the_new_place(ward: Ward) -> None:
    sop_instance = ward.add(1)
    ward.owe(sop_instance)
    stale = ward.ref(sop_instance)

    list(ward.caretaker.mover.move("MAG0", "MAG1"))

    assert ward.sent(stale) == data_set(
        PatientID="P1",
        StudyInstanceUID="1.2.801.1",
        SeriesInstanceUID="1.2.801.1.1",
        SOPInstanceUID=sop_instance,
        InstanceNumber="1",
    )


def test_a_lost_file_is_skipped_and_the_rest_moves(ward: Ward) -> None:
    lost, there = ward.add(1), ward.add(2)
    ward.path(lost).unlink()

    *_, moved = ward.caretaker.mover.move("MAG0", "MAG1")

    assert (moved.objects, moved.skipped) == (1, 1)
    assert (ward.ref(lost).device, ward.ref(there).device) == ("MAG0", "MAG1")


@pytest.mark.parametrize("where", ["open", "read", "copy"])
def test_a_file_that_the_disk_cannot_read_stays_is_named_and_the_rest_moves(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    broken, *others = [ward.add(number) for number in range(1, 5)]
    path = str(ward.path(broken))
    numbers: set[int] = set()
    real_open, real_pread = os.open, os.pread

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error", path)

    def opened(name: Any, *arguments: Any, **named: Any) -> int:
        if str(name) == path and where == "open":
            fail()
        descriptor = real_open(name, *arguments, **named)
        if str(name) == path:
            numbers.add(descriptor)
        else:
            numbers.discard(descriptor)
        return descriptor

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if descriptor in numbers:
            fail()
        return real_pread(descriptor, size, offset)

    def copied(source: int, *_: Any, **named: Any) -> int:
        if where == "copy":
            fail()
        raise OSError(errno.EXDEV, "not here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        patch.setattr(os, "pread", pread)
        patch.setattr(os, "copy_file_range", copied)
        *_, moved = ward.caretaker.mover.move("MAG0", "MAG1")

    assert (moved.objects, moved.skipped) == (3, 1)
    [problem] = moved.problems
    assert broken in problem
    assert "Input/output error" in problem
    assert {ref.sop_instance for ref in ward.refs() if ref.device == "MAG1"} == set(others)
    assert [name for name in ward.below("mag1") if "incoming" in name] == []


def test_what_cannot_be_read_is_counted_by_the_command_too(ward: Ward) -> None:
    lost = ward.add(1)
    ward.add(2)
    ward.path(lost).unlink()
    office = maintenance_commands(lambda: ward.caretaker)
    arguments = {"source": "MAG0", "target": "MAG1", "apply": True, "who": "ann"}

    answers = list(office["maintenance.move-device"](arguments))

    assert [lost in answer["problem"] for answer in answers if "problem" in answer] == [True]
    assert answers[-1]["report"]["skipped"] == 1
    [record] = ward.recorded()
    assert (record["objects"], record["skipped"], record["total"]) == (1, 1, 2)


def test_a_target_that_fails_while_it_is_written_ends_the_move_and_is_named(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.add(1)

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "copy_file_range", fail)
        patch.setattr(os, "write", fail)
        with pytest.raises(OutOfSpace) as full:
            list(ward.caretaker.mover.move("MAG0", "MAG1"))

    assert str(ward.settings.mag_devices[1]) in full.value.where
    assert {ref.device for ref in ward.refs()} == {"MAG0"}


def test_a_full_target_stops_the_move_and_the_same_command_goes_on(tmp_path: Path) -> None:
    disk = Disk({"mag1": 2500})
    ward = open_ward(tmp_path, disk=disk)
    objects = [ward.add(number) for number in range(1, 9)]
    before = {sop: ward.path(sop).read_bytes() for sop in objects}

    with pytest.raises(OutOfSpace, match="MAG1 has no room"):
        list(ward.caretaker.mover.move("MAG0", "MAG1"))

    on = [ref.device for ref in ward.refs()]
    assert set(on) == {"MAG0", "MAG1"}
    assert {sop: ward.path(sop).read_bytes() for sop in objects} == before
    assert [name for name in ward.below("mag1") if "incoming" in name] == []

    disk.free["mag1"] = 1 << 30
    list(ward.caretaker.mover.move("MAG0", "MAG1"))
    assert {ref.device for ref in ward.refs()} == {"MAG1"}
    assert {sop: ward.path(sop).read_bytes() for sop in objects} == before
    ward.close()


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("MAG0", "MAG0", "both ends"),
        ("MAG0", "MAG9", "no storage device 'MAG9'"),
        ("MAG9", "MAG0", "no storage device 'MAG9'"),
        ("MAG0", "../mag1", "no storage device"),
    ],
)
def test_devices_that_are_none_are_refused(
    ward: Ward, source: str, target: str, words: str
) -> None:
    with pytest.raises(DgateError, match=words):
        list(ward.caretaker.mover.move(source, target))


def test_archive_compression_reencodes_what_moves(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, archive_compression="ul")
    made = {"1.2.8": data_set, "1.2.9": large_data_set}
    for sop, make in made.items():
        ward.send(make(IMPLICIT_LE, SOPInstanceUID=sop), syntax=IMPLICIT_LE, sop_instance=sop)

    list(ward.caretaker.mover.move("MAG0", "MAG1"))

    for sop, make in made.items():
        assert read_meta(ward.path(sop).read_bytes()).syntax == EXPLICIT_LE
        assert ward.content(sop) == make(EXPLICIT_LE, SOPInstanceUID=sop)
    assert [name for name in ward.below("mag1") if "incoming" in name] == []
    ward.close()


@pytest.mark.parametrize("code", ["", "as", "is"])
def test_without_archive_compression_nothing_is_reencoded(tmp_path: Path, code: str) -> None:
    ward = open_ward(tmp_path, archive_compression=code)
    ward.send(
        data_set(IMPLICIT_LE, SOPInstanceUID="1.2.9"), syntax=IMPLICIT_LE, sop_instance="1.2.9"
    )
    before = ward.path("1.2.9").read_bytes()

    list(ward.caretaker.mover.move("MAG0", "MAG1"))

    assert ward.path("1.2.9").read_bytes() == before
    ward.close()


def test_renaming_a_device_enters_what_is_in_its_folder_already(ward: Ward) -> None:
    there, missing = ward.add(1), ward.add(2)
    name = ward.ref(there).name
    target = ward.settings.mag_devices[1] / name
    target.parent.mkdir(parents=True)
    ward.path(there).rename(target)

    *_, renamed = ward.caretaker.mover.rename("MAG0", "MAG1")

    assert (renamed.objects, renamed.skipped) == (1, 1)
    assert (ward.ref(there).device, ward.ref(there).name) == ("MAG1", name)
    assert ward.ref(missing).device == "MAG0"


def test_a_device_that_dicom_ini_names_no_more_can_be_renamed(ward: Ward) -> None:
    sop_instance = ward.add(1)
    ward.writer.transact(lambda tx: tx.execute("UPDATE DICOMImages SET DeviceName = 'MAG5'"))

    list(ward.caretaker.mover.rename("MAG5", "MAG0"))

    assert ward.ref(sop_instance).device == "MAG0"
    with pytest.raises(DgateError, match="no object is on 'MAG5'"):
        list(ward.caretaker.mover.rename("MAG5", "MAG0"))


def test_an_object_that_arrives_again_during_its_move_waits_and_wins(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy must not bring back the bytes that it was made of."""
    sop_instance = ward.add(1)
    arrivals: list[threading.Thread] = []
    real = FolderDevice.stage

    def stage(device: FolderDevice, *arguments: object, **named: object) -> str:
        staged = real(device, *arguments, **named)  # type: ignore[arg-type]
        if not arrivals:
            thread = threading.Thread(target=ward.add, args=(1,), kwargs={"StudyID": "NEWER"})
            arrivals.append(thread)
            thread.start()
        return staged

    monkeypatch.setattr(FolderDevice, "stage", stage)
    list(ward.caretaker.mover.move("MAG0", "MAG1"))
    arrivals[0].join(120)

    assert b"NEWER" in ward.content(sop_instance)
    assert len(ward.below("mag0")) + len(ward.below("mag1")) == 1


@pytest.mark.parametrize("committed", [True, False])
def test_nothing_is_thrown_away_while_nobody_knows_of_the_commit(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    sop_instance = ward.add(1)
    before = ward.content(sop_instance)
    real = Writer.run

    def lost_answer(self: Writer, job: Any) -> Any:
        """Commit the rows or not; the answer to it does not arrive in either case."""
        if committed:
            real(self, RowsOnly(job))
        raise OutcomeUnknown("the server went away", where="index")

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "run", lost_answer)
        with pytest.raises(OutcomeUnknown):
            list(ward.caretaker.mover.move("MAG0", "MAG1"))
    ward.start_over()

    assert ward.ref(sop_instance).device == ("MAG1" if committed else "MAG0")
    assert ward.content(sop_instance) == before
    assert len(ward.below("mag0") + ward.below("mag1")) == 1


def test_object_that_another_gateway_is_storing_stays_and_the_others_move(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    contested, free = ward.add(1), ward.add(2)
    real, name = Names.keep, ward.ref(contested).name

    def keep(self: Names, device: Device, wanted: str) -> bool:
        return wanted != name and real(self, device, wanted)

    monkeypatch.setattr(Names, "keep", keep)

    *_, moved = ward.caretaker.mover.move("MAG0", "MAG1")

    assert (moved.objects, moved.skipped) == (1, 1)
    assert "another gateway" in moved.problems[0]
    assert ward.ref(contested).device == "MAG0"
    assert ward.ref(free).device == "MAG1"


class RowsOnly:
    """A job whose rows are committed and whose files keep their temporary names."""

    def __init__(self, job: Any) -> None:
        self.work = job.work

    def publish(self) -> frozenset[Path]:
        """Nothing: the process does not get so far."""
        return frozenset()
