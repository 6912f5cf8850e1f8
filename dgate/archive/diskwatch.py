"""Watches how full the disks are: warns days before, and tells `dgate status`.

One thread that looks once an hour. What keeps objects from a full disk does not depend on it
(`dgate.archive.watermark`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from dgate.archive.aside import Aside
from dgate.archive.devices import MEGABYTE, Devices
from dgate.archive.growth import DAY_S, STEP_S, Growth
from dgate.archive.watermark import View
from dgate.clock import Clock
from dgate.config.settings import Settings
from dgate.ops.rounds import Rounds

log = logging.getLogger(__name__)

GROWTH_NAME = "growth.json"


class DiskWatch:
    """Looks at the disks in the background."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        devices: Callable[[], Devices],
        clock: Clock,
    ) -> None:
        """`settings` and `devices` return those that count now."""
        self._settings = settings
        self._devices = devices
        self._clock = clock
        self._growth: Growth | None = None
        self._rounds = Rounds(
            "disk-watch", self._step, "Looking at the disks failed unexpectedly.", trouble_s=STEP_S
        )
        # Of the thread: area to the time at which it was warned of last.
        self._warned: dict[str, float] = {}

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def apply(self, generation: object) -> None:
        """The next look is by the changed configuration."""

    def stop(self) -> None:
        """End; safe to call twice."""
        self._rounds.stop()

    @property
    def growth(self) -> Growth:
        """What has been seen so far."""
        if self._growth is None:
            self._growth = growth_of(self._settings())
        return self._growth

    def look(self) -> None:
        """Take a sample of each disk, and warn of those that will soon be full."""
        settings, now, growth = self._settings(), self._clock.now(), self.growth
        for name, view, is_device in self._devices().views():
            if view.room.problem:
                continue
            free = view.room.free_bytes
            growth.note(name, now, free)
            left = growth.days_left(name, now, free, view.least_bytes)
            if not _is_short(settings, left, is_device=is_device):
                self._warned.pop(name, None)
            elif now - self._warned.get(name, 0.0) >= DAY_S:
                self._warned[name] = now
                log.warning("%s: free space, or add a MAGDevice.", _prediction(name, free, left))
        growth.save()

    def _step(self) -> float:
        self.look()
        return STEP_S


def growth_of(settings: Settings) -> Growth:
    """Return what has been seen of the disks of an archive."""
    return Growth(settings.base_folder / "dgate" / GROWTH_NAME)


class DiskReport(NamedTuple):
    """What `dgate status` tells of the disks."""

    devices: list[dict[str, Any]]
    places: list[dict[str, Any]]
    """The base folder, and that of the database."""
    problems: list[str]
    """What is wrong, for people."""


def disk_report(settings: Settings, devices: Devices, now: float) -> DiskReport:
    """Return how full the disks are; a device that is full is no problem while another has room."""
    growth = growth_of(settings)
    shown: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    problems: list[str] = []
    for name, view, is_device in devices.views():
        free = view.room.free_bytes
        left = growth.days_left(name, now, free, view.least_bytes)
        state, why = _state(devices, name, view)
        entry = {
            "name": name,
            "free_mb": free // MEGABYTE,
            "total_mb": view.room.total_bytes // MEGABYTE,
            "reserve_mb": view.least_bytes // MEGABYTE,
            "free_inodes": view.room.free_files if view.room.total_files else None,
            "days_left": None if left is None else round(left, 1),
            "state": state,
            "why": why,
        }
        (shown if is_device else places).append(entry)
        if state != "ok" and not (is_device and view.is_full):
            problems.append(f"{name} takes no new objects: it {why}")
        elif _is_short(settings, left, is_device=is_device):
            problems.append(_prediction(name, free, left))
    waiting = Aside.below(settings.base_folder).count()
    if waiting:
        problems.append(f"{waiting} object(s) put aside wait for a person: dgate aside list")
    return DiskReport(shown, places, problems)


def _state(devices: Devices, name: str, view: View) -> tuple[str, str]:
    if devices.watermark.limits.ignored and not (view.room.problem or view.room.read_only):
        return "ok", ""
    if view.is_full:
        return "full", view.reason
    if view.reason:
        return "away" if view.room.problem else "read-only", view.reason
    if devices.watermark.is_failing(name):
        return "failing", "could not be written a moment ago"
    return "ok", ""


def _is_short(settings: Settings, left: float | None, *, is_device: bool) -> bool:
    """Tell whether a disk has too few days left; where the server makes space by itself, a device
    is meant to be full."""
    cleans = settings.mag_device_threshold_mb or settings.nightly_clean_threshold_mb
    if left is None or settings.ignore_mag_device_threshold or (is_device and cleans):
        return False
    return left < settings.disk_warning_days


def _prediction(name: str, free_bytes: int, left: float | None) -> str:
    return (
        f"{name} will be full in about {left or 0:.0f} day(s) if it goes on filling up as lately; "
        f"{free_bytes // MEGABYTE} MB are free"
    )
