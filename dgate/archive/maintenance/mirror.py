"""Copies of stored objects on mirrors: paying what is owed to them (dicom-ini.md section 6).

A copy is a debt of kind `mirror`, committed with the object's rows (`dgate.archive.obligations`),
so that none is forgotten in a crash or while the mirror is away. Pays in the thread of the mirror's
delivery worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Set
from pathlib import Path

from dgate.archive.devices import Device, Devices, FolderDevice, Reader
from dgate.archive.files import FileReader
from dgate.archive.maintenance.changed_file import unreadable
from dgate.archive.maintenance.relocate import whole_file
from dgate.archive.naming import is_confined
from dgate.archive.records import InstanceRef
from dgate.archive.reservations import Turns
from dgate.disk import sync_folder
from dgate.errors import Missing, OutOfSpace

_PLACE_CHANGES = 5


class Mirrors:
    """Brings mirrors up to date, object by object."""

    def __init__(
        self,
        devices: Devices,
        find: Callable[[str], InstanceRef | None],
        turns: Turns,
        *,
        durable: bool = True,
    ) -> None:
        self._devices = devices
        self._find = find
        self._turns = turns
        self._durable = durable

    def pay(self, sop_instance: str) -> None:
        """Copy an object to the mirror of the device that it is on now; may be done again.

        The copy gets its name when it is complete and synced, and only if the object is still what
        was copied: whoever removes, moves or replaces it meanwhile waits for that moment. A crash
        leaves an unfinished copy, which the next start removes.

        Raises:
            OutOfSpace: the mirror is full or away; the debt waits.
            Missing: the object's own file is not there.
            StoreError: it cannot be read.
        """
        for _ in range(_PLACE_CHANGES):
            ref = self._find(sop_instance)
            mirror = None if ref is None else self._devices.mirrors.get(ref.device)
            if ref is None or mirror is None or not is_confined(ref.name):
                return
            if not self._copy(ref, mirror):
                continue
            now = self._find(sop_instance)
            if now is not None and (now.device, now.name) == (ref.device, ref.name):
                return
            # Another gateway of the same index has removed or moved it.
            mirror.remove(ref.name)
            mirror.tidy(ref.name)

    def _copy(self, ref: InstanceRef, mirror: FolderDevice) -> bool:
        """Copy an object; False when it was removed, moved or replaced meanwhile."""
        device = self._devices.get(ref.device)
        assert device is not None, "only configured devices have mirrors"
        # Every time: its disk may have been changed while the server ran.
        mirror.prepare()
        reader = _opened(device, ref)
        try:
            if not self._devices.has_room_for(mirror, reader.size):
                raise OutOfSpace(
                    f"the mirror {mirror.name} is full",
                    where=str(mirror.root),
                    remedy="free space there",
                )
            try:
                parts = whole_file(reader)
            except OSError as exc:
                raise unreadable(ref, exc) from exc
            # Without the object's turn: a slow mirror keeps nobody from storing it again.
            staged = mirror.stage(ref.sop_instance, ref.name, parts, rewrites=False)
            try:
                folders = self._publish(ref, mirror, device, reader, staged)
            except BaseException:
                mirror.discard(staged)
                raise
        finally:
            reader.close()
        if folders is None:
            mirror.discard(staged)
            mirror.tidy(ref.name)
            return False
        if self._durable:
            for folder in folders:
                try:
                    sync_folder(folder)
                except FileNotFoundError:
                    # The object was deleted meanwhile, its copy and the empty folder with it.
                    continue
                except OSError as exc:
                    raise OutOfSpace(
                        f"the mirror cannot be synced: {exc.strerror}", where=str(folder)
                    ) from exc
        mirror.settle(ref.name)
        return True

    def _publish(
        self, ref: InstanceRef, mirror: FolderDevice, device: Device, reader: Reader, staged: str
    ) -> Set[Path] | None:
        """Give the copy its name, unless it is not the object's any more; return the folders to be
        synced."""
        self._turns.enter(ref.sop_instance)
        try:
            now = self._find(ref.sop_instance)
            if now is None or (now.device, now.name) != (ref.device, ref.name):
                return None
            if not _is_same_file(device, ref, reader):
                return None
            return mirror.publish(staged, ref.name, keep_previous=False)
        finally:
            self._turns.leave(ref.sop_instance)


def _opened(device: Device, ref: InstanceRef) -> Reader:
    try:
        return device.open(ref.name, ref.sop_instance)
    except FileNotFoundError as exc:
        raise Missing(
            f"the file of object {ref.sop_instance} cannot be found",
            where=f"{ref.device} {ref.name}",
            remedy="put the file back, or remove the object with `dgate delete image`",
        ) from exc
    except OSError as exc:
        raise unreadable(ref, exc) from exc


def _is_same_file(device: Device, ref: InstanceRef, reader: Reader) -> bool:
    """Tell whether the object's file is still the one that is open: a replacement is another."""
    if not isinstance(reader, FileReader):
        return True
    now = _opened(device, ref)
    try:
        return isinstance(now, FileReader) and os.path.sameopenfile(
            now.descriptor, reader.descriptor
        )
    finally:
        now.close()
