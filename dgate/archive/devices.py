"""Storage devices: where files of objects are written, moved into place and read.

A `Device` takes bytes and hands out readers; nobody else in the archive assumes that a file has a
local path. Not for names (`dgate.archive.naming`) nor for the order of steps
(`dgate.archive.ingest`). Devices may be used by any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePath
from typing import Protocol

from dgate.archive.alarm import SpaceAlarm
from dgate.archive.files import Part, free_bytes
from dgate.archive.folder import PREVIOUS, FolderDevice, ReadOnlyFolder, StagedFile
from dgate.archive.spool import Spool
from dgate.archive.volumes import Volumes
from dgate.clock import Clock
from dgate.config.settings import Durability, Settings
from dgate.dicom.payload import SpillFile
from dgate.errors import OutOfSpace

__all__ = [
    "MEGABYTE",
    "PREVIOUS",
    "Device",
    "Devices",
    "FolderDevice",
    "ReadOnlyFolder",
    "Reader",
    "StagedFile",
]

log = logging.getLogger(__name__)

MEGABYTE = 1 << 20
FREE_SPACE_AGE_S = 1.0


class Reader(Protocol):
    """An open stored file."""

    @property
    def size(self) -> int:
        """Return the file's length in bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the file."""
        ...

    def view(self) -> memoryview:
        """Return the whole file as a buffer; raises OSError when it cannot be read."""
        ...

    def close(self) -> None:
        """Give the file back; views of it stay valid. Safe to call twice."""
        ...


class Device(Protocol):
    """One storage area. What writes raises OutOfSpace when the area cannot take it."""

    @property
    def name(self) -> str:
        """Return the name that the index keeps, `MAGn`."""
        ...

    def free_bytes(self) -> int:
        """Return how much more fits."""
        ...

    def spill(self, sop_instance: str, header: bytes) -> SpillFile:
        """Open a file for an object that is still arriving; raises OSError."""
        ...

    def stage(self, sop_instance: str, name: str, parts: Sequence[Part], *, rewrites: bool) -> str:
        """Write a complete, synced file that will get `name`; return its temporary name."""
        ...

    def adopt(
        self, sop_instance: str, name: str, spill: SpillFile, *, rewrites: bool
    ) -> str | None:
        """Do the same with a spill file, without copying; None when it lies elsewhere."""
        ...

    def publish(self, staged: str, name: str, *, keep_previous: bool) -> Set[Path]:
        """Move a staged file to its name; return the folders to be synced."""
        ...

    def settle(self, name: str) -> None:
        """Note that the folders of the name have been synced."""
        ...

    def exists(self, name: str) -> bool:
        """Tell whether a file has this name."""
        ...

    def size(self, name: str) -> int | None:
        """Return the bytes of the file of this name; None when there is none."""
        ...

    def remove(self, name: str) -> Set[Path]:
        """Remove the file of this name if there is one; return the folders to be synced."""
        ...

    def tidy(self, name: str) -> None:
        """Remove the folders of the name that are empty; never raises."""
        ...

    def discard(self, staged: str) -> None:
        """Remove a staged file; never raises."""
        ...

    def open(self, name: str, sop_instance: str) -> Reader:
        """Open a file, or its staged form when it has no name yet; raises FileNotFoundError."""
        ...

    def path(self, name: str) -> PurePath:
        """Return what rules and logs show as the place of a file."""
        ...


class Devices:
    """The devices MAG0..MAGn and the spool, and the choice among them."""

    def __init__(
        self,
        devices: Sequence[Device],
        spool: Spool,
        clock: Clock,
        *,
        full_threshold_bytes: int,
        ignore_threshold: bool = False,
        low_water_bytes: int = 0,
        mirrors: Mapping[str, FolderDevice] | None = None,
        volumes: Volumes | None = None,
        alarm: SpaceAlarm | None = None,
    ) -> None:
        self.spool = spool
        self._devices = {device.name: device for device in devices}
        self._ordered = tuple(devices)
        self._clock = clock
        self._threshold = full_threshold_bytes
        self._ignore_threshold = ignore_threshold
        self._low_water = 0 if ignore_threshold else low_water_bytes
        self.mirrors: Mapping[str, FolderDevice] = mirrors or {}
        """By the name of the device that each is a copy of."""
        self._volumes = volumes
        self.alarm = alarm or SpaceAlarm()
        """Rung when the device chosen for a new file has less free than MAGDeviceThreshold."""
        # Device to (time until which the number counts, free bytes). Two threads may refresh it at
        # once; both write the truth.
        self._free: dict[str, tuple[float, int]] = {}

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        clock: Clock,
        former: Devices | None = None,
        probe: Callable[[str], int] = free_bytes,
        *,
        prepare: bool = True,
    ) -> Devices:
        """Create the configured devices and prepare their folders; raises OutOfSpace.

        Without `prepare` nothing is created, for those who only read.

        What `former`, the devices by earlier settings, has already is taken over and not prepared
        again; its spool always is. `probe` returns the free bytes of a folder's file system, or
        raises OSError.
        """
        durable = settings.durability is Durability.FULL
        known = {
            (device.name, device.root): device
            for device in former or ()
            if isinstance(device, FolderDevice)
        }
        folders = []
        for number, path in enumerate(settings.mag_devices):
            device = known.get((f"MAG{number}", path))
            if device is None:
                device = FolderDevice(f"MAG{number}", path, durable=durable, probe=probe)
                if prepare:
                    device.prepare()
            folders.append(device)
        if former is not None:
            spool = former.spool
        else:
            root = folders[0].root if folders else settings.base_folder
            spool = Spool(root / "dgate" / "spool", durable=durable)
            if prepare:
                spool.prepare()
        return cls(
            folders,
            spool,
            clock,
            full_threshold_bytes=settings.mag_device_full_threshold_mb * MEGABYTE,
            ignore_threshold=settings.ignore_mag_device_threshold,
            low_water_bytes=settings.mag_device_threshold_mb * MEGABYTE,
            # Not prepared: a mirror that is away must not keep the server from starting.
            mirrors={
                f"MAG{number}": FolderDevice(f"MIRROR{number}", path, durable=durable, probe=probe)
                for number, path in enumerate(settings.mirror_devices)
            },
            volumes=Volumes(dict(settings.jukebox_devices), dict(settings.cache_devices)),
            alarm=None if former is None else former.alarm,
        )

    def __iter__(self) -> Iterator[Device]:
        """Yield the devices, MAG0 first."""
        return iter(self._ordered)

    def get(self, name: str) -> Device | None:
        """Return the device of this name, or None when it is not configured.

        A read-only volume counts as configured where its folder exists.
        """
        device = self._devices.get(name)
        if device is not None or self._volumes is None:
            return device
        folder = self._volumes.folder(name)
        return ReadOnlyFolder(name, folder) if folder is not None and folder.is_dir() else None

    def to_read(self, name: str) -> Iterator[Device]:
        """Yield where the file of an object on this device may be: there, on another device, on
        the mirror (spec dimse.md 9)."""
        own = self.get(name)
        if own is not None:
            yield own
        yield from (device for device in self._ordered if device is not own)
        if name in self.mirrors:
            yield self.mirrors[name]

    def choose(self, preferred: str | None = None) -> Device:
        """Return the device for a new file: the preferred one, else the first, that has room.

        Raises:
            OutOfSpace: no device has more free space than MAGDeviceFullThreshold.
        """
        if preferred is not None:
            device = self._devices.get(preferred.upper())
            if device is not None and self._has_room(device):
                return self._chosen(device)
            log.debug("The device %s asked for by a rule has no room or is unknown.", preferred)
        for device in self._ordered:
            if self._has_room(device):
                return self._chosen(device)
        if self._low_water:
            for device in self._ordered:
                self.alarm.ring(device.name)
        raise OutOfSpace(
            "all storage devices are full" if self._ordered else "no storage device is configured",
            where=", ".join(self._devices),
            remedy="free space or add a MAGDevice",
        )

    def has_room_for(self, area: Device | Spool, more_bytes: int) -> bool:
        """Tell whether an area may take so many more bytes without falling below
        MAGDeviceFullThreshold, by a fresh look."""
        return self._ignore_threshold or area.free_bytes() - more_bytes > self._threshold

    def _chosen(self, device: Device) -> Device:
        if self._low_water and self._free_bytes(device) < self._low_water:
            self.alarm.ring(device.name)
        return device

    def _has_room(self, device: Device) -> bool:
        return self._ignore_threshold or self._free_bytes(device) > self._threshold

    def _free_bytes(self, device: Device) -> int:
        until, free = self._free.get(device.name, (0.0, 0))
        now = self._clock.monotonic()
        if now >= until:
            free = device.free_bytes()
            self._free[device.name] = (now + FREE_SPACE_AGE_S, free)
        return free
