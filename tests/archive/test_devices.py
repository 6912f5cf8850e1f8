"""Storage devices: choice, staging, publishing, reading."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dgate.archive.devices import (
    MEGABYTE,
    Device,
    Devices,
    FolderDevice,
    StagedFile,
)
from dgate.archive.files import Part
from dgate.archive.spool import Spool
from dgate.archive.watermark import LOOK_AGE_S, Limits, Room, Watermark
from dgate.config.settings import default_settings
from dgate.errors import OutOfSpace, StoreError
from tests.archive.intake_kit import SOP, FixedClock


class SizedDevice(FolderDevice):
    """A device that says how full it is."""

    def __init__(self, name: str, free_mb: int) -> None:
        super().__init__(name, Path("/nowhere"))
        self.free = free_mb * MEGABYTE
        self.asked = 0

    def room(self) -> Room:
        """Return the set number and count the question."""
        self.asked += 1
        return Room(self.free)


def chosen_among(*devices: SizedDevice, ignore: bool = False) -> tuple[Devices, FixedClock]:
    clock = FixedClock()
    made = Devices(
        devices,
        Spool(Path("/nowhere")),
        Watermark(Limits(30 * MEGABYTE, ignored=ignore), clock),
    )
    return made, clock


@pytest.fixture
def device(tmp_path: Path) -> FolderDevice:
    made = FolderDevice("MAG0", tmp_path / "mag0")
    made.prepare()
    return made


def stage(device: Device, name: str = "P1/a.dcm", *parts: Part, rewrites: bool = False) -> str:
    return device.stage(SOP, name, parts or (b"bytes",), rewrites=rewrites)


def test_first_device_with_room_is_chosen() -> None:
    devices, _ = chosen_among(SizedDevice("MAG0", 30), SizedDevice("MAG1", 31))

    assert devices.choose().name == "MAG1"


def test_device_asked_for_by_a_rule_is_preferred_while_it_has_room() -> None:
    second = SizedDevice("MAG1", 100)
    devices, clock = chosen_among(SizedDevice("MAG0", 100), second)

    assert devices.choose("mag1").name == "MAG1"
    second.free = 0
    clock.seconds += LOOK_AGE_S
    assert devices.choose("MAG1").name == "MAG0"
    assert devices.choose("MAG7").name == "MAG0"


def test_all_devices_full_is_out_of_space() -> None:
    devices, _ = chosen_among(SizedDevice("MAG0", 30), SizedDevice("MAG1", 0))

    with pytest.raises(OutOfSpace, match="all storage devices are full"):
        devices.choose()


def test_no_device_at_all_is_said_so() -> None:
    devices, _ = chosen_among()

    with pytest.raises(OutOfSpace, match="no storage device is configured"):
        devices.choose()


def test_threshold_can_be_ignored() -> None:
    full = SizedDevice("MAG0", 0)
    devices, _ = chosen_among(full, ignore=True)

    assert devices.choose() is full
    assert full.asked == 0


def test_free_space_is_asked_for_once_a_second() -> None:
    device = SizedDevice("MAG0", 100)
    devices, clock = chosen_among(device)
    for _ in range(5):
        devices.choose()
    assert device.asked == 1

    clock.seconds += LOOK_AGE_S
    devices.choose()

    assert device.asked == 2


def test_devices_of_the_settings_get_their_folders(tmp_path: Path) -> None:
    settings = default_settings(
        tmp_path, mag_devices=(tmp_path / "a" / "b", tmp_path / "c"), mag_device_full_threshold_mb=0
    )

    devices = Devices.from_settings(settings, FixedClock())

    assert [device.name for device in devices] == ["MAG0", "MAG1"]
    assert (tmp_path / "a" / "b" / "dgate" / "incoming").is_dir()
    assert devices.spool.folder == tmp_path / "a" / "b" / "dgate" / "spool"
    assert devices.choose().name == "MAG0"


def test_spool_is_in_the_base_folder_when_there_is_no_device(tmp_path: Path) -> None:
    devices = Devices.from_settings(default_settings(tmp_path, mag_devices=()), FixedClock())

    assert devices.spool.folder == tmp_path / "dgate" / "spool"
    assert devices.spool.folder.is_dir()


def test_device_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OutOfSpace, match=r"file/mag0"):
        FolderDevice("MAG0", tmp_path / "file" / "mag0").prepare()


def test_device_that_vanished_counts_as_full(tmp_path: Path) -> None:
    assert FolderDevice("MAG0", tmp_path / "gone").free_bytes() == 0


def test_published_file_has_its_name_and_all_its_bytes(device: FolderDevice) -> None:
    staged = stage(device, "P1/a.dcm", b"head", memoryview(b"body"), bytearray(b"tail"))
    assert not device.exists("P1/a.dcm")

    device.publish(staged, "P1/a.dcm", keep_previous=False)

    assert device.path("P1/a.dcm").read_bytes() == b"headbodytail"
    assert list(device.staged()) == []


def test_new_folders_are_synced_with_their_parents_until_settled(device: FolderDevice) -> None:
    root = device.root
    folders = [
        device.publish(stage(device, name), name, keep_previous=False)
        for name in ("P1/S1/a.dcm", "P1/S1/b.dcm")
    ]
    device.settle("P1/S1/b.dcm")
    last = device.publish(stage(device, "P1/S1/c.dcm"), "P1/S1/c.dcm", keep_previous=False)

    assert folders == [{root, root / "P1", root / "P1" / "S1"}] * 2
    assert last == {root / "P1" / "S1"}


def test_file_directly_in_the_device_needs_only_its_root_synced(device: FolderDevice) -> None:
    folders = device.publish(stage(device, "a.dcm"), "a.dcm", keep_previous=False)

    assert folders == {device.root}


def test_known_folder_costs_no_look_at_it(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.publish(stage(device), "P1/a.dcm", keep_previous=False)
    device.settle("P1/a.dcm")
    monkeypatch.setattr(os, "makedirs", None)

    device.publish(stage(device, "P1/b.dcm"), "P1/b.dcm", keep_previous=False)

    assert device.exists("P1/b.dcm")


def test_known_folder_that_was_removed_is_made_again(device: FolderDevice) -> None:
    name = "P1/a.dcm"
    device.publish(stage(device), name, keep_previous=False)
    device.settle(name)
    device.remove(name)
    device.path("P1").rmdir()

    folders = device.publish(stage(device), name, keep_previous=False)

    assert device.exists(name)
    assert folders == {device.root, device.root / "P1"}


def test_memory_of_folders_is_bounded(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.folder._MOST_FOLDERS", 2)
    for number in range(5):
        name = f"P{number}/a.dcm"
        device.publish(stage(device, name), name, keep_previous=False)
        device.settle(name)

    assert len(device._known_folders) <= 2


def test_replaced_file_is_kept_as_previous(device: FolderDevice) -> None:
    device.publish(stage(device, "a.dcm", b"old"), "a.dcm", keep_previous=False)
    staged = stage(device, "a.dcm", b"new", rewrites=True)

    device.publish(staged, "a.dcm", keep_previous=True)

    assert device.path("a.dcm").read_bytes() == b"new"
    assert device.path("a.dcm.prev").read_bytes() == b"old"
    assert device.remove("a.dcm.prev") == {device.root}
    assert device.remove("a.dcm.prev") == set()


def test_replacing_works_where_links_do_not(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    device.publish(stage(device, "a.dcm", b"old"), "a.dcm", keep_previous=False)
    monkeypatch.setattr(os, "link", refuse)

    device.publish(stage(device, "a.dcm", b"new"), "a.dcm", keep_previous=True)

    assert device.path("a.dcm").read_bytes() == b"new"


def test_discarded_file_leaves_nothing(device: FolderDevice) -> None:
    staged = stage(device)

    device.discard(staged)
    device.discard(staged)

    assert [path for path in device.root.rglob("*") if path.is_file()] == []


def test_spill_file_is_adopted_without_copying(device: FolderDevice) -> None:
    spill = device.spill(SOP, b"head")
    os.write(spill.descriptor, b"body")
    inode = os.fstat(spill.descriptor).st_ino

    staged = device.adopt(SOP, "P1/a.dcm", spill, rewrites=False)
    assert staged is not None
    device.publish(staged, "P1/a.dcm", keep_previous=False)

    assert device.path("P1/a.dcm").read_bytes() == b"headbody"
    assert device.path("P1/a.dcm").stat().st_ino == inode
    os.close(spill.descriptor)


def test_spill_file_of_another_device_is_not_adopted(device: FolderDevice, tmp_path: Path) -> None:
    other = FolderDevice("MAG1", tmp_path / "mag1")
    other.prepare()
    spill = other.spill(SOP, b"head")

    assert device.adopt(SOP, "a.dcm", spill, rewrites=False) is None
    os.close(spill.descriptor)


def test_incoming_folder_tells_complete_files_from_others(device: FolderDevice) -> None:
    new, again = stage(device), stage(device, rewrites=True)
    spill = device.spill(SOP, b"")
    os.close(spill.descriptor)

    found = {file.name: file for file in device.staged()}

    assert set(found) == {new, again}
    assert (found[new].sop_instance, found[new].rewrites) == (SOP, False)
    assert found[again].rewrites
    staged, others = device.leftovers()
    assert {file.name for file in staged} == {new, again}
    assert others == [spill.path.name]


def test_file_between_commit_and_rename_can_be_read(device: FolderDevice) -> None:
    stage(device, "P1/a.dcm", b"not yet renamed")

    reader = device.open("P1/a.dcm", SOP)

    assert reader.read_at(4, 3) == b"yet"
    data = reader.data()
    assert isinstance(data, memoryview)
    assert bytes(data) == b"not yet renamed"
    reader.close()
    reader.close()
    with pytest.raises(FileNotFoundError):
        device.open("P1/a.dcm", "1.2.3.1.1")


def test_file_that_gets_its_name_while_it_is_looked_for_is_read(tmp_path: Path) -> None:
    class Renaming(FolderDevice):
        def staged(self) -> Iterator[StagedFile]:
            found = list(super().staged())
            self.publish(found[0].name, "P1/a.dcm", keep_previous=False)
            return iter(found)

    device = Renaming("MAG0", tmp_path / "mag0")
    device.prepare()
    stage(device, "P1/a.dcm", b"just renamed")

    reader = device.open("P1/a.dcm", SOP)

    assert reader.read_at(0, 100) == b"just renamed"
    reader.close()


def test_replacement_that_may_not_be_committed_is_not_read(device: FolderDevice) -> None:
    stage(device, "P1/a.dcm", b"perhaps", rewrites=True)

    with pytest.raises(FileNotFoundError):
        device.open("P1/a.dcm", SOP)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["open", "writev", "fdatasync", "makedirs"])
def test_failing_write_is_out_of_space_and_leaves_nothing(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutOfSpace):
            stage(device)

    assert [path for path in device.root.rglob("*") if path.is_file()] == []


def test_disk_that_fills_up_within_a_write_leaves_nothing(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_writev = os.writev

    def half(descriptor: int, buffers: Sequence[bytes]) -> int:
        return real_writev(descriptor, [bytes(buffers[0])[:2]])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", half)
        patch.setattr(os, "write", full)
        with pytest.raises(OutOfSpace):
            stage(device)

    assert [path for path in device.root.rglob("*") if path.is_file()] == []


def test_write_that_takes_only_a_part_is_continued(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_writev = os.writev

    def half(descriptor: int, buffers: Sequence[bytes]) -> int:
        return real_writev(descriptor, [b"".join(buffers)[:7]])

    monkeypatch.setattr(os, "writev", half)
    staged = stage(device, "a.dcm", b"abcd", b"efgh", b"ijkl")

    assert device.staged_path(staged).read_bytes() == b"abcdefghijkl"


def test_rename_that_fails_is_out_of_space(
    device: FolderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    staged = stage(device)
    monkeypatch.setattr(os, "rename", fail)

    with pytest.raises(OutOfSpace):
        device.publish(staged, "P1/a.dcm", keep_previous=False)


def test_name_that_the_file_system_does_not_take_is_no_disk_fault(device: FolderDevice) -> None:
    with pytest.raises(StoreError, match="too long") as caught:
        stage(device, f"{'x' * 300}/a.dcm")

    assert not isinstance(caught.value, OutOfSpace)


def test_nothing_is_synced_without_durability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FolderDevice("MAG0", tmp_path / "mag0", durable=False)
    device.prepare()
    spill = device.spill(SOP, b"head")
    monkeypatch.setattr(os, "fdatasync", None)
    monkeypatch.setattr(os, "fsync", None)

    stage(device)
    assert device.adopt(SOP, "b.dcm", spill, rewrites=False) is not None
    os.close(spill.descriptor)
