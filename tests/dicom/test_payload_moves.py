"""Data sets that move to another disk while they arrive, since the first cannot take them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dgate.dicom.payload import NoRoom, Payload, SpillFile

HEADER = b"header"
MEGABYTE = 1 << 20


@dataclass
class Disks:
    """Folders that stand for disks, of which the first ones fill up."""

    folder: Path
    room: list[int]
    """Bytes that each takes."""
    causes: list[OSError] = field(default_factory=list)
    files: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By descriptor: which disk, and how many bytes it has got."""

    def open(self, number: int) -> SpillFile | None:
        """Open a file on a disk; None when there is no such disk."""
        if number >= len(self.room):
            return None
        path = self.folder / str(number)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.pwrite(descriptor, HEADER, 0)
        os.lseek(descriptor, len(HEADER), os.SEEK_SET)
        self.files[descriptor] = (number, 0)

        def elsewhere(exc: OSError, size: int) -> SpillFile | None:
            self.causes.append(exc)
            return self.open(max(each for each, _ in self.files.values()) + 1)

        return SpillFile(descriptor, path, len(HEADER), elsewhere=elsewhere)

    def payload(self) -> Payload:
        """Return a payload that begins on the first disk."""

        def first() -> SpillFile:
            spill = self.open(0)
            assert spill is not None
            return spill

        return Payload(first)

    def write(self, real: Callable[..., int]) -> Callable[..., int]:
        """Return a write that fails in the middle when the disk is full."""

        def write(descriptor: int, data: memoryview) -> int:
            if descriptor not in self.files:
                return real(descriptor, data)
            number, written = self.files[descriptor]
            left = self.room[number] - written
            if left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = real(descriptor, data[:left])
            self.files[descriptor] = (number, written + count)
            return count

        return write

    def names(self) -> list[str]:
        """Return the files that are there."""
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Disks]:
    def disks(*room: int) -> Disks:
        made = Disks(tmp_path, [*room])
        monkeypatch.setattr("dgate.dicom.payload.os.write", made.write(os.write))
        return made

    return disks


def filled(payload: Payload, data: bytes, step: int = 300_000) -> Payload:
    for start in range(0, len(data), step):
        payload.append(data[start : start + step])
    return payload


@pytest.mark.parametrize(
    "room",
    [(5 * MEGABYTE + 77,), (1,), (0,), (2 * MEGABYTE, 3 * MEGABYTE), (0, 0)],
    ids=["in the middle", "at once", "before anything", "twice", "twice at once"],
)
def test_every_byte_arrives_on_the_disk_that_takes_them(
    make: Callable[..., Disks], room: tuple[int, ...]
) -> None:
    disks = make(*room, 100 * MEGABYTE)
    data = os.urandom(8 * MEGABYTE)

    payload = filled(disks.payload(), data)

    assert payload.error is None
    assert payload.view() == data
    assert payload.size == len(data)
    assert disks.names() == [str(len(room))]
    spill = payload.spilled
    assert spill is not None
    assert os.pread(spill.descriptor, len(HEADER), 0) == HEADER
    payload.close()
    assert disks.names() == []


def test_what_no_disk_takes_is_given_up_and_leaves_nothing(make: Callable[..., Disks]) -> None:
    disks = make(2 * MEGABYTE, MEGABYTE, 3 * MEGABYTE)

    payload = filled(disks.payload(), os.urandom(8 * MEGABYTE))

    assert payload.error is not None
    assert payload.error.errno == errno.ENOSPC
    assert disks.names() == []
    assert payload.size == 8 * MEGABYTE


def test_no_more_than_four_disks_are_tried(make: Callable[..., Disks]) -> None:
    disks = make(*[MEGABYTE] * 10)

    payload = filled(disks.payload(), os.urandom(8 * MEGABYTE))

    assert payload.error is not None
    assert max(number for number, _ in disks.files.values()) == 3
    assert disks.names() == []


def test_disk_without_room_is_told_from_one_that_fails(
    make: Callable[..., Disks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.dicom.payload.GROWTH_BYTES", 2 * MEGABYTE)
    disks = make(100 * MEGABYTE, 100 * MEGABYTE)
    data = os.urandom(70 * MEGABYTE)
    payload = disks.payload()
    filled(payload, data[: 2 * MEGABYTE])
    assert payload.spilled is not None
    payload.spilled.has_room = lambda more: False

    filled(payload, data[2 * MEGABYTE :], MEGABYTE)

    assert payload.view() == data
    assert [type(cause) for cause in disks.causes] == [NoRoom]
    payload.close()
