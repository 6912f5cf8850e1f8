"""Copies of stored objects on mirrors: paying what is owed to them (dicom-ini.md section 6).

A copy is a debt of kind `mirror`, committed with the object's rows (`dgate.archive.obligations`),
so that none is forgotten in a crash or while the mirror is away. Pays in the thread of the mirror's
delivery worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from dgate.archive.devices import Devices, FolderDevice
from dgate.archive.files import sync_folder
from dgate.archive.maintenance.relocate import whole_file
from dgate.archive.naming import is_confined
from dgate.archive.records import InstanceRef
from dgate.errors import Missing, OutOfSpace

log = logging.getLogger(__name__)

_PLACE_CHANGES = 5


class Mirrors:
    """Brings mirrors up to date, object by object."""

    def __init__(
        self, devices: Devices, find: Callable[[str], InstanceRef | None], *, durable: bool = True
    ) -> None:
        self._devices = devices
        self._find = find
        self._durable = durable

    def pay(self, sop_instance: str) -> None:
        """Copy an object to the mirror of the device that it is on now; may be done again.

        The copy gets its name when it is complete and synced, and goes again when the object has
        been deleted or moved meanwhile. A crash leaves an unfinished copy, which the next start
        removes.

        Raises:
            OutOfSpace: the mirror is full or away; the debt waits.
            Missing: the object's own file is not there.
        """
        for _ in range(_PLACE_CHANGES):
            ref = self._find(sop_instance)
            mirror = None if ref is None else self._devices.mirrors.get(ref.device)
            if ref is None or mirror is None or not is_confined(ref.name):
                return
            self._copy(ref, mirror)
            now = self._find(sop_instance)
            if now is not None and (now.device, now.name) == (ref.device, ref.name):
                return
            mirror.remove(ref.name)
            mirror.tidy(ref.name)

    def _copy(self, ref: InstanceRef, mirror: FolderDevice) -> None:
        device = self._devices.get(ref.device)
        assert device is not None, "only configured devices have mirrors"
        # Every time: its disk may have been changed while the server ran.
        mirror.prepare()
        try:
            reader = device.open(ref.name, ref.sop_instance)
        except FileNotFoundError as exc:
            raise Missing(
                f"the file of object {ref.sop_instance} cannot be found",
                where=f"{ref.device} {ref.name}",
                remedy="put the file back, or remove the object with `dgate delete image`",
            ) from exc
        try:
            if not self._devices.has_room_for(mirror, reader.size):
                raise OutOfSpace(
                    f"the mirror {mirror.name} is full",
                    where=str(mirror.root),
                    remedy="free space there",
                )
            staged = mirror.stage(ref.sop_instance, ref.name, whole_file(reader), rewrites=False)
        finally:
            reader.close()
        try:
            folders = mirror.publish(staged, ref.name, keep_previous=False)
        except BaseException:
            mirror.discard(staged)
            raise
        if self._durable:
            for folder in folders:
                try:
                    sync_folder(folder)
                except OSError as exc:
                    raise OutOfSpace(
                        f"the mirror cannot be synced: {exc.strerror}", where=str(folder)
                    ) from exc
        mirror.settle(ref.name)
