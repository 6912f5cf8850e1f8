"""A disk that loses what was written to it before, which Linux tells only to those who have had the
file open: what is made of such a file is not acknowledged."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.records import Arrival
from dgate.disk import check_written
from dgate.errors import NotSynced
from tests.archive.intake_kit import Hooks, Station, large_data_set, open_station
from tests.campaign.disk import Disk, why_not_possible
from tests.campaign.volatile import Ordering


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a mounted disk that gets what is written to it some time later."""
    reason = why_not_possible(tmp_path)
    if reason:
        pytest.skip(f"no disk can be mounted: {reason}")
    with Disk(
        tmp_path / "disk", tmp_path / "disk.log", 3, Ordering.JOURNAL, writes_late=True
    ) as disk:
        yield disk


@pytest.fixture
def station(tmp_path: Path, disk: Disk) -> Iterator[Station]:
    """Return an archive on it whose rules change what they see."""
    hooks = Hooks(on_import=lambda table, verdict: table.set_text(0x00081030, "Changed"))
    opened = open_station(tmp_path, hooks=hooks, mag_devices=(disk.folder,))
    yield opened
    opened.close()


def lose(disk: Disk, path: Path) -> None:
    """Have the disk fail while the kernel writes out a file; nobody else hears of it."""
    disk.fail(["write"], 1.0)
    descriptor = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
        disk.heal()


def test_a_lost_write_is_told_to_who_had_the_file_open(disk: Disk) -> None:
    path = disk.folder / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.write(descriptor, b"x" * 100_000)
        check_written(descriptor)
        lose(disk, path)

        later = os.open(path, os.O_RDONLY)
        check_written(later)
        os.close(later)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            check_written(descriptor)
    finally:
        os.close(descriptor)


def arriving(station: Station) -> Arrival:
    """Return a large object whose file is open."""
    arrival = station.arrival(large_data_set())
    assert arrival.payload.spilled is not None
    return arrival


def test_an_object_is_not_made_of_a_file_that_was_lost(station: Station, disk: Disk) -> None:
    arrival = arriving(station)
    assert arrival.payload.spilled is not None
    lose(disk, arrival.payload.spilled.path)

    with pytest.raises(NotSynced):
        station.ingest.store(arrival)

    assert station.files() == []
    assert station.find() is None
    station.send(large_data_set())
    assert station.content() == large_data_set(StudyDescription="Changed")


def test_an_object_that_reaches_the_disk_is_stored(station: Station) -> None:
    station.ingest.store(arriving(station))

    assert station.content() == large_data_set(StudyDescription="Changed")
