"""Warnings days before a disk is full, and what `dgate status` says of the disks."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from dgate.archive.devices import MEGABYTE, Devices
from dgate.archive.diskwatch import DiskWatch, disk_report
from dgate.archive.growth import DAY_S
from dgate.config.settings import Engine, Settings, default_settings
from tests.archive.intake_kit import FixedClock

GB = 1 << 30


class Site:
    """Devices on a disk whose free space a test sets."""

    def __init__(self, base: Path, **changes: object) -> None:
        self.free = 500 * GB
        self.clock = FixedClock()
        self.settings: Settings = default_settings(
            base, mag_devices=(base / "mag0",), sql_server=str(base / "index.db3"), **changes
        )
        self.devices = Devices.from_settings(self.settings, self.clock, probe=lambda _: self.free)
        (base / "dgate").mkdir(exist_ok=True)
        self.watch = DiskWatch(lambda: self.settings, lambda: self.devices, self.clock)

    def let_pass(self, days: float, taken: int) -> None:
        """Let time pass, and look."""
        self.clock.seconds += days * DAY_S
        self.free -= taken
        self.watch.look()

    def problems(self) -> list[str]:
        """Return what status says is wrong."""
        return disk_report(self.settings, self.devices, self.clock.now()).problems


def test_disk_that_is_soon_full_is_told_once_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    site.let_pass(0, 0)
    with caplog.at_level(logging.WARNING):
        site.let_pass(1, 50 * GB)
        assert caplog.messages == []
        site.let_pass(1, 200 * GB)
        site.let_pass(0.5, 0)
        first = list(caplog.messages)
        site.let_pass(0.5, 50 * GB)

    assert len(first) == 1
    assert first[0].startswith("MAG0 will be full in about 2 day(s)")
    assert len(caplog.messages) == 2
    assert site.problems() == [
        "MAG0 will be full in about 2 day(s) if it goes on filling up as lately; 204800 MB are free"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"disk_warning_days": 0},
        {"disk_warning_days": 1},
        {"mag_device_threshold_mb": 1000},
        {"nightly_clean_threshold_mb": 1000},
        {"ignore_mag_device_threshold": True},
    ],
    ids=["switched off", "fewer days", "cleaned at once", "cleaned by night", "not looked at"],
)
def test_nothing_is_told_where_nobody_wants_to_know(
    tmp_path: Path, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, **changes)
    site.let_pass(0, 0)

    site.let_pass(1, 200 * GB)

    assert caplog.messages == []
    assert site.problems() == []


def test_restart_knows_the_growth(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.let_pass(0, 0)
    site.let_pass(1, 250 * GB)

    [device] = disk_report(site.settings, site.devices, site.clock.now()).devices

    assert device["days_left"] == 1.0
    assert device["free_mb"] == 250 * 1024
    assert device["reserve_mb"] == 30
    assert device["state"] == "ok"


def test_states_of_devices_and_places(tmp_path: Path) -> None:
    site = Site(tmp_path)
    report = disk_report(site.settings, site.devices, site.clock.now())
    assert [place["name"] for place in report.places] == ["base folder"]
    assert report.places[0]["total_mb"] > 0
    assert report.problems == []

    site.free = 10 * MEGABYTE
    site.clock.seconds += 2
    [device] = disk_report(site.settings, site.devices, site.clock.now()).devices

    assert device["state"] == "full"
    assert "10 MB free" in device["why"]
    assert site.problems() == []


def test_device_that_failed_a_moment_ago_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.devices.watermark.fail("MAG0", "Input/output error")

    report = disk_report(site.settings, site.devices, site.clock.now())

    assert report.devices[0]["state"] == "failing"
    assert report.problems == ["MAG0 takes no new objects: it could not be written a moment ago"]


def test_database_elsewhere_is_a_place_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    site = Site(tmp_path)
    index = str(tmp_path / "db" / "index.db3")
    settings = default_settings(tmp_path, engine=Engine.SQLITE, sql_server=index)
    devices = Devices.from_settings(settings, site.clock, prepare=False)

    report = disk_report(settings, devices, 0.0)

    assert [place["name"] for place in report.places] == ["base folder", "database"]


def test_thread_looks_at_once_and_ends(tmp_path: Path) -> None:
    site = Site(tmp_path)
    looked = threading.Event()
    look = site.watch.look

    def note() -> None:
        look()
        looked.set()

    site.watch.look = note  # type: ignore[method-assign]
    site.watch.start()
    assert looked.wait(60)
    site.watch.apply(None)
    site.watch.stop()
    site.watch.stop()

    assert (tmp_path / "dgate" / "growth.json").exists()
    assert "disk-watch" not in {thread.name for thread in threading.enumerate()}
