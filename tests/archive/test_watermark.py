"""The reserve of a disk: when areas take objects, and what is said when that changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dgate.archive.devices import Devices, FolderDevice
from dgate.archive.files import storage_failure
from dgate.archive.spool import Spool
from dgate.archive.watermark import (
    FAILING_S,
    LOOK_AGE_S,
    MEGABYTE,
    NEAR_AGE_S,
    Limits,
    Memory,
    Place,
    Room,
    Watermark,
    room_of,
)
from dgate.config.reserve import Reserve
from dgate.dicom.payload import NoRoom
from dgate.errors import OutOfSpace, TooManyFiles
from tests.archive.intake_kit import FixedClock


@dataclass
class Disk:
    """An area whose room a test sets."""

    name: str = "MAG0"
    now: Room = field(default_factory=lambda: Room(100 * MEGABYTE, 1000 * MEGABYTE))

    def room(self) -> Room:
        """Return what was set."""
        return self.now


def of_mb(free: int, total: int = 1000) -> Room:
    return Room(free * MEGABYTE, total * MEGABYTE)


@pytest.mark.parametrize(
    ("limits", "free_mb", "admitted"),
    [
        (Limits(30 * MEGABYTE), 31, True),
        (Limits(30 * MEGABYTE), 30, False),
        (Limits(30 * MEGABYTE, Reserve(50)), 50, False),
        (Limits(30 * MEGABYTE, Reserve(50)), 51, True),
        (Limits(30 * MEGABYTE, Reserve(10)), 30, False),
        (Limits(0, Reserve(percent=5)), 50, False),
        (Limits(0, Reserve(percent=5)), 51, True),
        (Limits(30 * MEGABYTE, Reserve(50), ignored=True), 0, True),
    ],
    ids=[
        "above the threshold",
        "at the threshold",
        "at the reserve",
        "above the reserve",
        "the larger of both counts",
        "at the share",
        "above the share",
        "ignored",
    ],
)
def test_device_takes_objects_down_to_its_reserve(
    limits: Limits, free_mb: int, admitted: bool
) -> None:
    watermark = Watermark(limits, FixedClock())

    assert watermark.admits(Disk(now=of_mb(free_mb))) is admitted


def test_database_and_log_may_use_half_of_the_reserve() -> None:
    watermark = Watermark(Limits(30 * MEGABYTE, Reserve(50)), FixedClock())

    assert watermark.admits(Disk("one", of_mb(26)), is_device=False)
    assert not watermark.admits(Disk("two", of_mb(25)), is_device=False)


@pytest.mark.parametrize(
    ("files", "total", "admitted"),
    [(1000, 5000, False), (1001, 5000, True), (0, 0, True)],
    ids=["at the reserve", "above it", "a file system without a limit"],
)
def test_inodes_have_a_reserve_too(files: int, total: int, admitted: bool) -> None:
    watermark = Watermark(Limits(0, inodes=Reserve(1000)), FixedClock())
    room = of_mb(100)._replace(free_files=files, total_files=total)

    assert watermark.admits(Disk(now=room)) is admitted


def test_full_device_opens_only_when_a_tenth_more_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, disk = FixedClock(), Disk(now=of_mb(100))
    watermark = Watermark(Limits(100 * MEGABYTE), clock)
    seen = []
    with caplog.at_level(logging.WARNING):
        for free in (101, 100, 101, 110, 111, 105):
            disk.now = of_mb(free)
            clock.seconds += LOOK_AGE_S
            seen.append(watermark.admits(disk))

    assert seen == [True, False, False, False, True, True]
    assert [record.getMessage() for record in caplog.records] == [
        "The storage device MAG0 takes no new objects: it has 100 MB free, and 100 MB are kept in "
        "reserve. Remedy: free space (dgate clean), or add a MAGDevice.",
        "The storage device MAG0 takes objects again: 111 MB are free.",
    ]


def test_what_is_known_survives_a_changed_configuration() -> None:
    clock, disk = FixedClock(), Disk(now=of_mb(30))
    first = Watermark(Limits(30 * MEGABYTE), clock)
    assert not first.admits(disk)
    first.fail("MAG1", "Input/output error")

    disk.now = of_mb(31)
    second = Watermark(Limits(30 * MEGABYTE), clock, first.memory)

    assert not second.admits(disk)
    assert second.is_failing("MAG1")


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (of_mb(500)._replace(read_only=True), "is mounted read-only"),
        (Room(0, problem="Transport endpoint is not connected"), "cannot be used: Transport"),
    ],
    ids=["read-only", "away"],
)
def test_disk_that_cannot_be_written_says_why(room: Room, words: str) -> None:
    watermark = Watermark(Limits(MEGABYTE), FixedClock())
    disk = Disk(now=room)

    assert not watermark.admits(disk)
    assert words in watermark.view(disk).reason
    assert watermark.view(disk).remedy


def test_failing_device_is_the_last_choice_until_it_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FixedClock()
    watermark = Watermark(Limits(), clock)
    with caplog.at_level(logging.WARNING):
        watermark.fail("MAG0", "Input/output error")
        watermark.fail("MAG0", "Input/output error")
        assert watermark.is_failing("MAG0")
        clock.seconds += FAILING_S
        assert not watermark.is_failing("MAG0")
        watermark.work("MAG0")
        watermark.work("MAG0")

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "Input/output error" in told[0]
    assert told[1] == "The storage device MAG0 can be written again."


def test_folder_that_is_gone_has_no_room(tmp_path: Path) -> None:
    assert room_of(str(tmp_path)).free_bytes > 0
    assert room_of(str(tmp_path)).total_bytes > 0
    assert room_of(str(tmp_path / "gone")).problem == "No such file or directory"


@pytest.mark.parametrize(
    ("room", "looks"),
    [
        (of_mb(5000, 10_000), 1),
        (of_mb(500), 3),
        (of_mb(5000, 10_000)._replace(free_files=500, total_files=10_000), 3),
    ],
    ids=["plenty", "short of space", "short of inodes"],
)
def test_disk_is_looked_at_more_often_where_it_is_nearly_full(room: Room, looks: int) -> None:
    clock, asked = FixedClock(), []

    class Counting(Disk):
        def room(self) -> Room:
            asked.append(1)
            return room

    watermark = Watermark(Limits(30 * MEGABYTE), clock)
    for _ in range(3):
        watermark.admits(Counting())
        watermark.admits(Counting())
        clock.seconds += NEAR_AGE_S

    assert len(asked) == looks


# Among several devices.


@dataclass
class Farm:
    """Devices on disks that a test sets."""

    devices: Devices
    disks: list[SetDevice]
    clock: FixedClock


class SetDevice(FolderDevice):
    """A device whose room a test sets."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Path("/nowhere"))
        self.now = of_mb(100)

    def room(self) -> Room:
        """Return what was set."""
        return self.now


@pytest.fixture
def two() -> Farm:
    clock = FixedClock()
    disks = [SetDevice("MAG0"), SetDevice("MAG1")]
    watermark = Watermark(Limits(30 * MEGABYTE), clock, Memory())
    return Farm(Devices(disks, Spool(Path("/nowhere")), watermark), disks, clock)


def failure(code: int) -> OutOfSpace:
    cause = OSError(code, "words")
    error = storage_failure(cause, "/x")
    error.__cause__ = cause
    assert isinstance(error, OutOfSpace)
    return error


def test_device_that_failed_comes_after_one_that_works(two: Farm) -> None:
    assert two.devices.goes_on_after(two.disks[0], failure(5))
    assert two.devices.choose().name == "MAG1"
    assert not two.devices.goes_on_after(two.disks[1], failure(5))
    # Both failed: none is better, and a refusal by guess would be wrong.
    assert two.devices.choose().name == "MAG0"
    two.clock.seconds += FAILING_S
    assert two.devices.choose("MAG1").name == "MAG1"


@pytest.mark.parametrize("code", [23, 24, 36], ids=["ENFILE", "EMFILE", "ENAMETOOLONG"])
def test_device_is_not_to_blame_for_what_it_cannot_help(two: Farm, code: int) -> None:
    two.devices.failed(two.disks[0], OSError(code, "words"))

    assert two.devices.choose().name == "MAG0"


def test_device_without_room_for_one_object_still_takes_others(two: Farm) -> None:
    two.devices.failed(two.disks[0], NoRoom(28, "too little"))

    assert two.devices.choose().name == "MAG0"
    two.disks[1].now = of_mb(40)
    assert two.devices.other_than(two.disks[0], 9 * MEGABYTE) is two.disks[1]
    assert two.devices.other_than(two.disks[0], 10 * MEGABYTE) is None


def test_too_many_open_files_go_on_nowhere(two: Farm) -> None:
    error = failure(24)

    assert isinstance(error, TooManyFiles)
    assert "LimitNOFILE" in error.remedy
    assert not two.devices.goes_on_after(two.disks[0], error)


def test_refusal_names_the_device_that_is_not_just_full(two: Farm) -> None:
    two.disks[0].now = of_mb(10)
    two.disks[1].now = of_mb(500)._replace(read_only=True)

    with pytest.raises(
        OutOfSpace, match="no storage device takes objects: MAG1 is mounted"
    ) as told:
        two.devices.choose()

    assert "mount it for writing" in told.value.remedy


def test_objects_are_refused_when_the_database_has_used_half_of_the_reserve() -> None:
    disk = SetDevice("MAG0")
    place = Place("database", Path("/nowhere"))
    watermark = Watermark(Limits(30 * MEGABYTE), FixedClock())
    devices = Devices([disk], Spool(Path("/nowhere")), watermark, places=[place])

    with pytest.raises(OutOfSpace, match="the disk of the database cannot be used"):
        devices.choose()
