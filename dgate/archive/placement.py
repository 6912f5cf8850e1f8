"""Where an object goes: its device, its name, and what it takes the place of.

Not for writing it (`dgate.archive.ingest`). Any thread may ask; names stay reserved until they are
released.
"""

from __future__ import annotations

from dgate.archive.devices import PREVIOUS, Device, Devices
from dgate.archive.incoming import Incoming
from dgate.archive.jobs import Placing
from dgate.archive.naming import Naming, extension
from dgate.archive.oldfile import OldFile, old_file
from dgate.archive.records import InstanceRef
from dgate.archive.reservations import Names
from dgate.config.settings import Settings
from dgate.dicom.uids import transfer_syntax


class Placement:
    """Places objects."""

    def __init__(self, settings: Settings, devices: Devices, naming: Naming, names: Names) -> None:
        self._settings = settings
        self._devices = devices
        self._naming = naming
        self._names = names

    def place(self, item: Incoming, known: InstanceRef | None) -> Placing:
        """Choose device and name; nothing is on disk yet, the name is only reserved.

        Raises:
            OutOfSpace: no device takes it.
        """
        encapsulated = transfer_syntax(item.table.syntax).encapsulated
        name = self._naming.name(
            item.table,
            item.entry,
            item.calling,
            item.called,
            encapsulated=encapsulated,
            session=item.session,
        )
        spill = item.payload.spilled
        # A large object stays where it is already: the first device may have no room for it.
        preferred = item.verdict.device or (spill.area if spill is not None else "") or None
        if known is None:
            device = self._devices.choose(preferred)
            name = self._names.reserve(device, name)
            return Placing(device, name, None, replaces=False, by_hash=False)
        old = self._devices.get(known.device)
        state = OldFile.UNREACHABLE if old is None else old_file(old, known)
        same_kind = extension(known.name).lower() == extension(name).lower()
        is_contested = False
        may_stay = same_kind and not self._settings.rename_on_rewrite
        may_stay = may_stay and state in (OldFile.OURS, OldFile.LOST)
        if old is not None and may_stay and self._takes(old, item):
            self._devices.admit_places()
            if self._names.keep(old, known.name):
                return _in_place(old, known)
            # The old name waits for another gateway, which may be gone: another one will do.
            may_stay, is_contested = False, True
        device = self._devices.choose(preferred)
        if may_stay and device is old:
            if self._names.keep(device, known.name):
                return _in_place(device, known)
            is_contested = True
        name = self._names.reserve(device, name)
        if (known.device, known.name) == (device.name, name):
            return _in_place(device, known)
        # While the old file is there, its row protects it, and a new name is enough to tell
        # afterwards whether the commit happened.
        placing = Placing(device, name, known, replaces=False, by_hash=state is OldFile.LOST)
        if old is not None and (state is OldFile.OURS or is_contested):
            placing.leftover = (old, known.name)
        return placing

    def _takes(self, device: Device, item: Incoming) -> bool:
        """Tell whether a device takes the object in the place of the one that it has."""
        spill = item.payload.spilled
        is_there = spill is None or spill.area == device.name
        return self._devices.takes(device) and (
            is_there or self._devices.has_room_for(device, item.payload.size)
        )


def _in_place(device: Device, known: InstanceRef) -> Placing:
    """Return the placing of an object that takes the known one's name."""
    leftover = (device, known.name + PREVIOUS)
    return Placing(device, known.name, known, replaces=True, by_hash=True, leftover=leftover)
