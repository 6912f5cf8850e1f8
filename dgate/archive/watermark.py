"""When a disk takes no more objects: free space and inodes of each area against the reserve.

The reserve keeps database, log and spool able to go on when no object is taken any more. Not for
the choice among devices (`dgate.archive.devices`), nor for making space (`housekeeping`). Any
thread may ask; an answer is at most a second old, and fresher where space is short.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from dgate.clock import Clock
from dgate.config.reserve import Reserve

log = logging.getLogger(__name__)

MEGABYTE = 1 << 20
LOOK_AGE_S = 1.0
NEAR_AGE_S = 0.05
"""The same where little more than the reserve is free, since a second may fill that."""
NEAR_BYTES = 1 << 30
NEAR_FILES = 10_000
FAILING_S = 30.0
"""So long a device on which writing failed is the last choice."""
_MORE_TO_OPEN = 10
"""A disk that was full is used again when a tenth more than the limit is free, so that it is not
opened and closed with every file."""


class Room(NamedTuple):
    """What a file system still takes from an ordinary user."""

    free_bytes: int
    total_bytes: int = 0
    free_files: int = 0
    total_files: int = 0
    """Inodes; 0 = the file system has no such limit."""
    read_only: bool = False
    problem: str = ""
    """Why it cannot be asked, in the system's words; empty when it can."""


def room_of(folder: str) -> Room:
    """Ask a folder's file system; never raises."""
    try:
        state = os.statvfs(folder)
    except OSError as exc:
        return Room(0, problem=exc.strerror or str(exc))
    return Room(
        state.f_bavail * state.f_frsize,
        state.f_blocks * state.f_frsize,
        state.f_favail,
        state.f_files,
        bool(state.f_flag & os.ST_RDONLY),
    )


class Area(Protocol):
    """A storage device, or another place that has to go on."""

    @property
    def name(self) -> str:
        """Return what the log and `dgate status` call it."""
        ...

    def room(self) -> Room:
        """Return what it still takes; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that is no storage device, such as that of the database."""

    name: str
    folder: Path

    def room(self) -> Room:
        """Return what its file system still takes."""
        return room_of(str(self.folder))


@dataclass(frozen=True, slots=True)
class Limits:
    """What has to stay free."""

    full_bytes: int = 0
    """MAGDeviceFullThreshold."""
    reserve: Reserve | None = None
    """DiskReserve, megabytes or a share; None = the threshold counts for all."""
    inodes: Reserve = field(default_factory=Reserve)
    ignored: bool = False
    """Free space is not looked at."""

    def least_bytes(self, room: Room, *, is_device: bool) -> int:
        """Return the free bytes at which an area is full.

        Database, log and spool may use the upper half of the reserve while objects still go to a
        device with room elsewhere.
        """
        reserve = self.full_bytes
        if self.reserve is not None:
            reserve = self.reserve.of(room.total_bytes, MEGABYTE)
        return max(self.full_bytes, reserve) if is_device else reserve // 2

    def least_files(self, room: Room, *, is_device: bool) -> int:
        """Return the free inodes at which an area is full."""
        least = self.inodes.of(room.total_files)
        return least if is_device else least // 2


@dataclass(frozen=True, slots=True)
class View:
    """What was seen of an area at a moment."""

    room: Room
    least_bytes: int
    reason: str = ""
    """Why it takes no objects, as what follows its name; empty when it does."""
    remedy: str = ""
    is_full: bool = False
    """Space or inodes are what it lacks."""


@dataclass(slots=True)
class Memory:
    """What is known of the areas whatever the settings are; shared by those that follow."""

    shut: dict[str, str] = field(default_factory=dict)
    """Area to why it takes nothing."""
    failing: dict[str, float] = field(default_factory=dict)
    """Device to the time until which it is the last choice."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards both against two that log the same change."""


class Watermark:
    """Tells which areas take objects, and logs when that changes."""

    def __init__(self, limits: Limits, clock: Clock, memory: Memory | None = None) -> None:
        self.limits = limits
        self._clock = clock
        self.memory = memory or Memory()
        # Name to (time until which the view counts, view). Two threads may refresh it at once;
        # both write the truth.
        self._views: dict[str, tuple[float, View]] = {}

    def admits(self, area: Area, *, is_device: bool = True) -> bool:
        """Tell whether an area takes another object."""
        return self.limits.ignored or not self.view(area, is_device=is_device).reason

    def view(self, area: Area, *, is_device: bool = True) -> View:
        """Return what is known of an area, at most LOOK_AGE_S old."""
        until, view = self._views.get(area.name, (0.0, None))
        now = self._clock.monotonic()
        if view is None or now >= until:
            view = self._look(area, is_device)
            self._views[area.name] = (now + self._age_s(view, is_device), view)
        return view

    def has_room_for(self, free_bytes: int, room: Room, more_bytes: int) -> bool:
        """Tell whether a device keeps its reserve when so much more is written."""
        if self.limits.ignored:
            return True
        return free_bytes - more_bytes > self.limits.least_bytes(room, is_device=True)

    # devices on which writing failed

    def fail(self, device: str, why: str) -> None:
        """Make a device the last choice for a while."""
        with self.memory.lock:
            is_new = device not in self.memory.failing
            self.memory.failing[device] = self._clock.monotonic() + FAILING_S
        if is_new:
            log.warning(
                "Writing to the storage device %s failed: %s. Where there is another device, it is "
                "used first; this one is tried again every %.0f seconds.",
                device,
                why,
                FAILING_S,
            )

    def is_failing(self, device: str) -> bool:
        """Tell whether writing to a device has just failed."""
        if not self.memory.failing:
            return False
        return self._clock.monotonic() < self.memory.failing.get(device, 0.0)

    def work(self, device: str) -> None:
        """Note that a device has taken an object; costs one look at a dictionary."""
        if device in self.memory.failing:
            with self.memory.lock:
                failed = self.memory.failing.pop(device, None)
            if failed is not None:
                log.warning("The storage device %s can be written again.", device)

    # one look

    def _age_s(self, view: View, is_device: bool) -> float:
        """Return how long a view counts: not at all where nothing is taken, so that objects are
        stored as soon as that is over."""
        room = view.room
        if view.reason:
            return 0.0
        near = room.free_bytes - view.least_bytes < NEAR_BYTES
        if room.total_files:
            least = self.limits.least_files(room, is_device=is_device)
            near = near or room.free_files - least < NEAR_FILES
        return NEAR_AGE_S if near else LOOK_AGE_S

    def _look(self, area: Area, is_device: bool) -> View:
        view = self.judged(area.room(), is_shut=area.name in self.memory.shut, is_device=is_device)
        if self.limits.ignored:
            return view
        with self.memory.lock:
            before = self.memory.shut.get(area.name)
            if view.reason:
                self.memory.shut[area.name] = view.reason
            else:
                self.memory.shut.pop(area.name, None)
        what = "storage device" if is_device else "disk of"
        if view.reason and before is None:
            log.warning(
                "The %s %s takes no new objects: it %s. Remedy: %s.",
                what,
                area.name,
                view.reason,
                view.remedy,
            )
        elif not view.reason and before is not None:
            log.warning(
                "The %s %s takes objects again: %d MB are free.",
                what,
                area.name,
                view.room.free_bytes // MEGABYTE,
            )
        return view

    def judged(self, room: Room, *, is_shut: bool, is_device: bool) -> View:
        """Return what follows from the room that an area has."""
        least = self.limits.least_bytes(room, is_device=is_device)
        if room.problem:
            remedy = "mount it, or correct its folder or the permissions"
            return View(room, least, f"cannot be used: {room.problem}", remedy)
        if room.read_only:
            remedy = "look for disk errors in the system's log, then mount it for writing"
            return View(room, least, "is mounted read-only", remedy)
        if room.free_bytes <= _raised(least, is_shut):
            reason = (
                f"has {room.free_bytes / MEGABYTE:.0f} MB free, "
                f"and {least / MEGABYTE:.0f} MB are kept in reserve"
            )
            remedy = "free space (dgate clean), or add a MAGDevice"
            return View(room, least, reason, remedy, is_full=True)
        files = self.limits.least_files(room, is_device=is_device)
        if room.total_files and room.free_files <= _raised(files, is_shut):
            reason = f"has {room.free_files} inodes free, and {files} are kept in reserve"
            remedy = "remove files, or make the file system anew with more inodes"
            return View(room, least, reason, remedy, is_full=True)
        return View(room, least)


def _raised(least: int, is_shut: bool) -> int:
    """Return the limit, and a little more for an area that is to open again."""
    return least + least // _MORE_TO_OPEN if is_shut else least
