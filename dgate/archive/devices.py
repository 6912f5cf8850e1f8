"""Storage devices: where files of objects are written, moved into place and read.

A `Device` takes bytes and hands out readers; nobody else in the archive assumes that a file has a
local path. Not for names (`dgate.archive.naming`) nor for the order of steps
(`dgate.archive.ingest`). Devices may be used by any thread.
"""

# Paths are text here: this runs for every object, and a Path costs microseconds.
# ruff: noqa: PTH103, PTH104, PTH108, PTH208
from __future__ import annotations

import itertools
import logging
import os
import secrets
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from dgate.archive.files import (
    FileReader,
    Part,
    create_folders,
    free_bytes,
    open_spill,
    storage_failure,
    unlink_quietly,
    write_file,
)
from dgate.archive.spool import Spool
from dgate.clock import Clock
from dgate.config.settings import Durability, Settings
from dgate.dicom.payload import SpillFile
from dgate.errors import OutOfSpace

log = logging.getLogger(__name__)

PREVIOUS = ".prev"
"""Ending of the name under which a replaced file is kept until the new one is durable."""
MEGABYTE = 1 << 20
FREE_SPACE_AGE_S = 1.0
_MOST_FOLDERS = 4096


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
        """Return the whole file as a buffer that loads only what is looked at."""
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

    def remove(self, name: str) -> Set[Path]:
        """Remove the file of this name if there is one; return the folders to be synced."""
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


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file in an incoming folder: `<SOP instance>.<n or r><unique>`."""

    name: str
    sop_instance: str
    rewrites: bool
    """It replaces a known object, so only its hash tells whether it was committed."""


class FolderDevice:
    """A device that is a folder of the local file system.

    `<root>/dgate/incoming` holds what has no final name yet. Folders that were created and synced
    are remembered, so that an object in a known folder costs no look at it.
    """

    def __init__(self, name: str, root: Path, *, durable: bool = True) -> None:
        self._name = name
        self.root = root
        self._prefix = f"{root}/"
        self._incoming = f"{root}/dgate/incoming/"
        self._durable = durable
        # Losing an entry costs one more mkdir and sync, so no lock guards it.
        self._known_folders: dict[str, Set[Path]] = {}
        self._session = secrets.token_hex(4)
        self._counter = itertools.count()

    @property
    def name(self) -> str:
        """Return `MAGn`."""
        return self._name

    def prepare(self) -> None:
        """Create the device's own folder and make it durable; called once, before anything else."""
        try:
            create_folders(Path(self._incoming))
        except OSError as exc:
            raise storage_failure(exc, self._incoming) from exc

    def free_bytes(self) -> int:
        """Return what the file system lets an ordinary user write; 0 when it cannot be asked."""
        try:
            return free_bytes(self._prefix)
        except OSError as exc:
            log.error(
                "The storage device %s (%s) cannot be used: %s.", self.name, self.root, exc.strerror
            )
            return 0

    def spill(self, sop_instance: str, header: bytes) -> SpillFile:
        """Open `<SOP instance>.<unique>.part`; a crash leaves it for recovery to remove."""
        path = f"{self._incoming}{sop_instance}.{self._unique('s')}.part"
        return open_spill(path, header)

    def stage(self, sop_instance: str, name: str, parts: Sequence[Part], *, rewrites: bool) -> str:
        """Write into the incoming folder; a crash leaves a file that recovery judges."""
        self._create_folder(name)
        staged = f"{sop_instance}.{self._unique('r' if rewrites else 'n')}"
        write_file(self._incoming + staged, parts, durable=self._durable)
        return staged

    def adopt(
        self, sop_instance: str, name: str, spill: SpillFile, *, rewrites: bool
    ) -> str | None:
        """Rename the spill file within the incoming folder, then sync it.

        In this order the file's own sync covers its new name too, on journaling file systems. A
        crash before the rename leaves an incomplete file, after it one that recovery judges.
        """
        if f"{spill.path.parent}/" != self._incoming:
            return None
        self._create_folder(name)
        staged = f"{sop_instance}.{self._unique('r' if rewrites else 'n')}"
        path = self._incoming + staged
        try:
            os.rename(spill.path, path)
            spill.path = Path(path)
            if self._durable:
                os.fsync(spill.descriptor)
        except OSError as exc:
            raise storage_failure(exc, path) from exc
        return staged

    def publish(self, staged: str, name: str, *, keep_previous: bool) -> Set[Path]:
        """Rename; until the returned folders are synced, a power cut may undo it.

        A crash leaves the old file, under its name or as PREVIOUS, until the new one has the name.
        """
        source, target = self._incoming + staged, self._prefix + name
        folder = name.rpartition("/")[0]
        known = self._known_folders.get(folder)
        try:
            if keep_previous:
                _link_previous(target)
            try:
                os.rename(source, target)
            except FileNotFoundError:
                # Somebody removed the folder meanwhile; if the file is gone too, this raises.
                os.makedirs(self._prefix + folder, exist_ok=True)
                known = None
                os.rename(source, target)
        except OSError as exc:
            raise storage_failure(exc, target) from exc
        return known if known is not None else self._lineage(folder)

    def settle(self, name: str) -> None:
        """Remember the folder as one that exists and whose parents are synced."""
        folder = name.rpartition("/")[0]
        if folder in self._known_folders:
            return
        if len(self._known_folders) >= _MOST_FOLDERS:
            self._known_folders.clear()
        self._known_folders[folder] = frozenset((Path(self._prefix + folder),))

    def exists(self, name: str) -> bool:
        """Tell whether the name is taken."""
        return os.access(self._prefix + name, os.F_OK)

    def remove(self, name: str) -> Set[Path]:
        """Unlink the file; a missing one is as good."""
        path = self._prefix + name
        try:
            os.unlink(path)
        except FileNotFoundError:
            return frozenset()
        except OSError as exc:
            raise storage_failure(exc, path) from exc
        return frozenset((Path(path).parent,))

    def discard(self, staged: str) -> None:
        """Unlink the staged file; what cannot be removed now, recovery removes."""
        unlink_quietly(self._incoming + staged)

    def open(self, name: str, sop_instance: str) -> FileReader:
        """Open the file; one between commit and rename is found in the incoming folder."""
        try:
            return FileReader.of(self._prefix + name)
        except FileNotFoundError:
            pass  # It may be on its way to its name.
        for staged in self.staged():
            if staged.sop_instance == sop_instance and not staged.rewrites:
                try:
                    return FileReader.of(self._incoming + staged.name)
                except FileNotFoundError:
                    break  # It has just been renamed.
        return FileReader.of(self._prefix + name)

    def staged(self) -> Iterator[StagedFile]:
        """Yield the complete files of the incoming folder."""
        for name in sorted(os.listdir(self._incoming)):
            sop_instance, _, unique = name.rpartition(".")
            if sop_instance and unique[:1] in ("n", "r"):
                yield StagedFile(name, sop_instance, rewrites=unique[0] == "r")

    def strays(self) -> Iterator[str]:
        """Yield the names in the incoming folder that are no complete files of objects."""
        complete = {staged.name for staged in self.staged()}
        yield from (name for name in os.listdir(self._incoming) if name not in complete)

    def staged_path(self, staged: str) -> Path:
        """Return where a file of the incoming folder lies."""
        return Path(self._incoming + staged)

    def path(self, name: str) -> Path:
        """Return where the file of this name lies."""
        return Path(self._prefix + name)

    def _create_folder(self, name: str) -> None:
        """Create the folders of the name unless they are known; a crash leaves them empty."""
        folder = name.rpartition("/")[0]
        if folder in self._known_folders:
            return
        try:
            os.makedirs(self._prefix + folder, exist_ok=True)
        except OSError as exc:
            raise storage_failure(exc, self._prefix + folder) from exc

    def _unique(self, kind: str) -> str:
        return f"{kind}{self._session}{next(self._counter):x}"

    def _lineage(self, folder: str) -> Set[Path]:
        """Return the folder and everything above it up to the device's root."""
        path = self.path(folder)
        between = itertools.takewhile(lambda parent: parent != self.root, (path, *path.parents))
        return frozenset((*between, self.root))


def _link_previous(path: str) -> None:
    """Give a file a second name; where that is impossible, the atomic rename alone must do."""
    unlink_quietly(path + PREVIOUS)
    try:
        os.link(path, path + PREVIOUS)
    except OSError as exc:
        log.debug("The file %s could not be kept as %s: %s.", path, PREVIOUS, exc.strerror)


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
    ) -> None:
        self.spool = spool
        self._devices = {device.name: device for device in devices}
        self._ordered = tuple(devices)
        self._clock = clock
        self._threshold = full_threshold_bytes
        self._ignore_threshold = ignore_threshold
        # Device to (time until which the number counts, free bytes). Two threads may refresh it at
        # once; both write the truth.
        self._free: dict[str, tuple[float, int]] = {}

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> Devices:
        """Create the configured devices and prepare their folders; raises OutOfSpace."""
        durable = settings.durability is Durability.FULL
        folders = [
            FolderDevice(f"MAG{number}", path, durable=durable)
            for number, path in enumerate(settings.mag_devices)
        ]
        for device in folders:
            device.prepare()
        root = folders[0].root if folders else settings.base_folder
        spool = Spool(root / "dgate" / "spool", durable=durable)
        spool.prepare()
        return cls(
            folders,
            spool,
            clock,
            full_threshold_bytes=settings.mag_device_full_threshold_mb * MEGABYTE,
            ignore_threshold=settings.ignore_mag_device_threshold,
        )

    def __iter__(self) -> Iterator[Device]:
        """Yield the devices, MAG0 first."""
        return iter(self._ordered)

    def get(self, name: str) -> Device | None:
        """Return the device of this name, or None when it is not configured."""
        return self._devices.get(name)

    def choose(self, preferred: str | None = None) -> Device:
        """Return the device for a new file: the preferred one, else the first, that has room.

        Raises:
            OutOfSpace: no device has more free space than MAGDeviceFullThreshold.
        """
        if preferred is not None:
            device = self._devices.get(preferred.upper())
            if device is not None and self._has_room(device):
                return device
            log.debug("The device %s asked for by a rule has no room or is unknown.", preferred)
        for device in self._ordered:
            if self._has_room(device):
                return device
        raise OutOfSpace(
            "all storage devices are full" if self._ordered else "no storage device is configured",
            where=", ".join(self._devices),
            remedy="free space or add a MAGDevice",
        )

    def has_room_for(self, area: Device | Spool, more_bytes: int) -> bool:
        """Tell whether an area may take so many more bytes without falling below
        MAGDeviceFullThreshold, by a fresh look."""
        return self._ignore_threshold or area.free_bytes() - more_bytes > self._threshold

    def _has_room(self, device: Device) -> bool:
        return self._ignore_threshold or self._free_bytes(device) > self._threshold

    def _free_bytes(self, device: Device) -> int:
        until, free = self._free.get(device.name, (0.0, 0))
        now = self._clock.monotonic()
        if now >= until:
            free = device.free_bytes()
            self._free[device.name] = (now + FREE_SPACE_AGE_S, free)
        return free
