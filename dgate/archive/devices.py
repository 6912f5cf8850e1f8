"""Storage devices: where files of objects are written, moved into place and read.

A `Device` takes bytes and hands out readers; nobody else in the archive assumes that a file has a
local path. Not for names (`dgate.archive.naming`) nor for the order of steps
(`dgate.archive.ingest`). Devices may be used by any thread.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePath
from typing import Protocol

from dgate.archive.alarm import SpaceAlarm
from dgate.archive.files import TOO_MANY_FILES, Part
from dgate.archive.folder import PREVIOUS, FolderDevice, ReadOnlyFolder, StagedFile
from dgate.archive.ownership import Owner
from dgate.archive.spool import Spool
from dgate.archive.volumes import Volumes
from dgate.archive.watermark import MEGABYTE, Limits, Place, Room, View, Watermark
from dgate.clock import Clock
from dgate.config.settings import Durability, Engine, Settings
from dgate.dicom.filedata import FileData
from dgate.dicom.payload import NoRoom, SpillFile
from dgate.errors import OutOfSpace, StoreError, TooManyFiles

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

_NOT_THE_DEVICE = frozenset((*TOO_MANY_FILES, errno.ENAMETOOLONG, errno.ENOMEM))
"""Failures that say nothing about the device."""


class Reader(Protocol):
    """An open stored file."""

    @property
    def size(self) -> int:
        """Return the file's length in bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the file."""
        ...

    def data(self, start: int = 0, folder: Path | None = None) -> memoryview | FileData:
        """Return what stands from `start` on, readable also when the reader is closed.

        `folder` is for a temporary file. Raises OSError when it cannot be read.
        """
        ...

    def close(self) -> None:
        """Give the file back. Safe to call twice."""
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

    def room(self) -> Room:
        """Return what the file system still takes; never raises."""
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

    def hold(self, name: str, *, existing: bool = False) -> bool:
        """Keep other gateways from giving a name, or replacing its `existing` file; False when one
        of them has it in hand or a file has it."""
        ...

    def let_go(self, name: str) -> None:
        """Let other gateways have the name; never raises."""
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

    def folders(self, name: str) -> Set[Path]:
        """Return the folders that have to be synced for a name to last."""
        ...


class Devices:
    """The devices MAG0..MAGn and the spool, and the choice among them; `watermark` says which of
    them take objects."""

    def __init__(
        self,
        devices: Sequence[Device],
        spool: Spool,
        watermark: Watermark,
        *,
        low_water_bytes: int = 0,
        mirrors: Mapping[str, FolderDevice] | None = None,
        volumes: Volumes | None = None,
        alarm: SpaceAlarm | None = None,
        places: Sequence[Place] = (),
        owner: Owner | None = None,
    ) -> None:
        """`places` have to have room whatever device is chosen. `owner` is the gateway; None = one
        that shares nothing with others."""
        self.spool = spool
        self.owner = owner or Owner()
        self._devices = {device.name: device for device in devices}
        self._ordered = tuple(devices)
        self.watermark = watermark
        self.places = tuple(places)
        self._low_water = 0 if watermark.limits.ignored else low_water_bytes
        self.mirrors: Mapping[str, FolderDevice] = mirrors or {}
        """By the name of the device that each is a copy of."""
        self._volumes = volumes
        self.alarm = alarm or SpaceAlarm()
        """Rung when the device chosen for a new file has less free than MAGDeviceThreshold."""

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        clock: Clock,
        former: Devices | None = None,
        probe: Callable[[str], int] | None = None,
        *,
        prepare: bool = True,
        owner: Owner | None = None,
    ) -> Devices:
        """Create the configured devices and prepare their folders; raises OutOfSpace.

        Without `prepare` nothing is created, for those who only read.

        What `former`, the devices by earlier settings, has already is taken over and not prepared
        again; its spool and owner always are. `probe` returns the free bytes of a folder's file
        system, or raises OSError; None = the file system is asked. `owner` is the gateway that
        writes there; None = one that is alone.
        """
        durable = settings.durability is Durability.FULL
        owner = owner if former is None else former.owner
        known = {
            (device.name, device.root): device
            for device in former or ()
            if isinstance(device, FolderDevice)
        }
        folders = []
        for number, path in enumerate(settings.mag_devices):
            device = known.get((f"MAG{number}", path))
            if device is None:
                device = FolderDevice(
                    f"MAG{number}", path, durable=durable, probe=probe, owner=owner
                )
                if prepare:
                    device.prepare()
            folders.append(device)
        if former is not None:
            spool = former.spool
        else:
            root = folders[0].root if folders else settings.base_folder
            spool = Spool(root / "dgate" / "spool", durable=durable, owner=owner)
            if prepare:
                spool.prepare()
        return cls(
            folders,
            spool,
            Watermark(
                limits_of(settings), clock, None if former is None else former.watermark.memory
            ),
            low_water_bytes=settings.mag_device_threshold_mb * MEGABYTE,
            # Not prepared: a mirror that is away must not keep the server from starting.
            mirrors={
                f"MAG{number}": FolderDevice(
                    f"MIRROR{number}", path, durable=durable, probe=probe, owner=owner
                )
                for number, path in enumerate(settings.mirror_devices)
            },
            volumes=Volumes(dict(settings.jukebox_devices), dict(settings.cache_devices)),
            alarm=None if former is None else former.alarm,
            places=places_of(settings),
            owner=owner,
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

        One on which writing has just failed is the last choice.

        Raises:
            OutOfSpace: no device has more free space than its reserve, or the disk of the database
            or of the base folder has not even half of it.
        """
        self.admit_places()
        if preferred is not None:
            device = self._devices.get(preferred.upper())
            if device is not None and self.takes(device):
                return self._chosen(device)
            log.debug("The device %s asked for by a rule has no room or is unknown.", preferred)
        last = None
        for device in self._ordered:
            if self.watermark.admits(device):
                if not self.watermark.is_failing(device.name):
                    return self._chosen(device)
                last = last or device
        if last is not None:
            return self._chosen(last)
        if self._low_water:
            for device in self._ordered:
                self.alarm.ring(device.name)
        raise self._full()

    def takes(self, device: Device) -> bool:
        """Tell whether a device has room and can be written, as far as is known."""
        return self.watermark.admits(device) and not self.watermark.is_failing(device.name)

    def failed(self, device: Device, exc: OSError | StoreError) -> None:
        """Note that writing to a device failed: others go before it for a while.

        Not for one that only has less room than one object needs.
        """
        cause = exc if isinstance(exc, OSError) else exc.__cause__
        if isinstance(cause, NoRoom) or not isinstance(cause, OSError):
            return
        if cause.errno not in _NOT_THE_DEVICE and len(self._ordered) > 1:
            self.watermark.fail(device.name, cause.strerror or str(cause))

    def goes_on_after(self, device: Device, exc: StoreError) -> bool:
        """Note that a device could not take a file; tell whether another one may."""
        self.failed(device, exc)
        return not isinstance(exc, TooManyFiles) and self.other_than(device) is not None

    def other_than(self, area: Device | Spool, more_bytes: int = 0) -> Device | None:
        """Return another device that takes so many bytes more; None when there is none."""
        for device in self._ordered:
            if device is not area and self.takes(device) and self.has_room_for(device, more_bytes):
                return device
        return None

    def has_room_for(self, area: Device | Spool, more_bytes: int) -> bool:
        """Tell whether an area may take so many more bytes and keeps its reserve, by a fresh
        look."""
        if self.watermark.limits.ignored:
            return True
        free, room = area.free_bytes(), area.room()
        return self.watermark.has_room_for(free, room, more_bytes)

    def admit_places(self) -> None:
        """Raise OutOfSpace where the database or the log could not go on for long."""
        for place in self.places:
            if not self.watermark.admits(place, is_device=False):
                view = self.watermark.view(place, is_device=False)
                raise OutOfSpace(
                    f"the disk of the {place.name} {view.reason}",
                    where=str(place.folder),
                    remedy=view.remedy,
                )

    def admit_spool(self) -> None:
        """Raise OutOfSpace where the spool may take no copy of an object that is not stored."""
        self.admit_places()
        if not self.has_room_for(self.spool, 0):
            raise OutOfSpace(
                "the disk of the spool is full",
                where=str(self.spool.folder),
                remedy="free space there, or see to the destinations that do not answer",
            )

    def views(self) -> Iterator[tuple[str, View, bool]]:
        """Yield name and state of each device and place, and whether it is a device."""
        for device in self._ordered:
            yield device.name, self.watermark.view(device), True
        for place in self.places:
            yield place.name, self.watermark.view(place, is_device=False), False

    def _chosen(self, device: Device) -> Device:
        if self._low_water and self.watermark.view(device).room.free_bytes < self._low_water:
            self.alarm.ring(device.name)
        return device

    def _full(self) -> OutOfSpace:
        """Return why no device can be chosen."""
        views = {device.name: self.watermark.view(device) for device in self._ordered}
        where = ", ".join(self._devices)
        if not views:
            what, remedy = "no storage device is configured", "add a MAGDevice"
        elif all(view.is_full for view in views.values()):
            what, remedy = "all storage devices are full", "free space or add a MAGDevice"
        else:
            name, view = next((name, view) for name, view in views.items() if not view.is_full)
            what, remedy = f"no storage device takes objects: {name} {view.reason}", view.remedy
        return OutOfSpace(what, where=where, remedy=remedy)


def limits_of(settings: Settings) -> Limits:
    """Return what the settings keep free."""
    return Limits(
        settings.mag_device_full_threshold_mb * MEGABYTE,
        settings.disk_reserve,
        settings.inode_reserve,
        settings.ignore_mag_device_threshold,
    )


def places_of(settings: Settings) -> list[Place]:
    """Return what has to go on beside the devices: the base folder, with logs and `dgate/aside`,
    and the embedded database's folder."""
    places = [Place("base folder", settings.base_folder)]
    if settings.engine is Engine.SQLITE:
        folder = Path(settings.sql_server).parent
        if folder != settings.base_folder:
            places.append(Place("database", folder))
    return places
